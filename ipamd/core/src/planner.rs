// SPDX-License-Identifier: Apache-2.0
//! The pool planner: pure functions from what there is to what should be asked for.
//!
//! [`adaptive`] says how much to keep free when no target is set, [`target`] says how much is missing or too much, [`grow`] how a shortfall is spread over ENIs that have room and new
//! ones, [`shrink`] which ENI or addresses a surplus is taken from, [`place`] in which subnet an ENI is made. None of them keeps state: asked twice about the same
//! situation they answer the same, and once what they ask for is counted as coming they ask for nothing more. When to act
//! (hold-off, witnesses, hysteresis) is the core's business.

pub(crate) mod adaptive;
pub(crate) mod grow;
pub(crate) mod guess;
pub(crate) mod place;
pub(crate) mod shrink;
pub(crate) mod target;

use std::ops::{Add, AddAssign};

use crate::store::Slot;

/// A count of addresses that pods can get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Addresses(pub(crate) u32);

/// A count of slots: places of an ENI that hold one address or one /28 prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slots(pub(crate) u32);

/// A count of ENIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EniCount(pub(crate) u32);

impl Addresses {
    pub(crate) const ZERO: Self = Self(0);

    /// `self - other`, zero when that is negative.
    pub(crate) fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Slots {
    pub(crate) const ZERO: Self = Self(0);

    /// The addresses that so many slots of a kind hold.
    pub(crate) fn of(self, slot: Slot) -> Addresses {
        Addresses(self.0.saturating_mul(slot.addresses()))
    }

    /// The slots of a kind that it takes to hold so many addresses.
    pub(crate) fn to_hold(addresses: Addresses, slot: Slot) -> Self {
        Self(addresses.0.div_ceil(slot.addresses()))
    }

    /// The slots of a kind that so many addresses fill.
    pub(crate) fn filled_by(addresses: Addresses, slot: Slot) -> Self {
        Self(addresses.0 / slot.addresses())
    }

    /// `self - other`, zero when that is negative.
    pub(crate) fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Addresses {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for Addresses {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

#[cfg(test)]
mod tests;
