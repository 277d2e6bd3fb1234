// SPDX-License-Identifier: Apache-2.0
//! The pool planner: pure functions from what there is to what should be asked for.
//!
//! [`target`] says how much is missing or too much, [`grow`] how a shortfall is spread over ENIs that have room and new
//! ones, [`shrink`] which ENI or addresses a surplus is taken from, [`place`] in which subnet an ENI is made. None of them keeps state: asked twice about the same
//! situation they answer the same, and once what they ask for is counted as coming they ask for nothing more. When to act
//! (hold-off, witnesses, hysteresis) is the core's business.

pub(crate) mod grow;
pub(crate) mod place;
pub(crate) mod shrink;
pub(crate) mod target;

use std::ops::{Add, AddAssign};

/// A count of secondary addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Addresses(pub(crate) u32);

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
