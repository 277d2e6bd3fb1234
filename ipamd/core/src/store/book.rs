// SPDX-License-Identifier: Apache-2.0
//! Counts of one ENI's addresses, kept up with every change so that no decision walks over all addresses.
//!
//! Counts only; what the states mean is in `address`, what follows from the counts in the planner. Invariant: the counts
//! are those that a walk over the addresses would find (`Store::audit`, held by tests after every step of a node's life).
//!
//! Worked example: an ENI with one single address in use and one prefix of which three addresses are in use has
//! `singles.allocated` 1, `in_prefixes.allocated` 3 and `in_prefixes.free` 13, holds two slots, and no prefix of it could go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::address::{AddressState, Slot, prefix_of};
use crate::action::PREFIX_ADDRESSES;

/// Counts of addresses by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) free: u32,
    pub(crate) allocated: u32,
    /// Cooling, or waiting for its flush after that.
    pub(crate) cooling: u32,
    pub(crate) held: u32,
    pub(crate) leaving: u32,
}

impl Tally {
    /// Addresses in every state.
    pub(crate) fn total(self) -> u32 {
        self.free + self.allocated + self.cooling + self.held + self.leaving
    }

    /// Addresses that someone uses, used a moment ago, or may be using.
    pub(crate) fn busy(self) -> u32 {
        self.allocated + self.cooling + self.held
    }

    fn place(&mut self, state: &AddressState) -> &mut u32 {
        match state {
            AddressState::Free { .. } => &mut self.free,
            AddressState::Allocated(_) => &mut self.allocated,
            AddressState::Cooling { .. } | AddressState::Flushing { .. } => &mut self.cooling,
            AddressState::Held { .. } => &mut self.held,
            AddressState::Leaving { .. } => &mut self.leaving,
        }
    }

    fn add(&mut self, state: &AddressState) {
        *self.place(state) += 1;
    }

    fn take(&mut self, state: &AddressState) {
        let place = self.place(state);
        *place = place.saturating_sub(1);
    }
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self {
            free: self.free + rhs.free,
            allocated: self.allocated + rhs.allocated,
            cooling: self.cooling + rhs.cooling,
            held: self.held + rhs.held,
            leaving: self.leaving + rhs.leaving,
        }
    }
}

/// Counts and members of one ENI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    singles: Tally,
    in_prefixes: Tally,
    prefixes: BTreeMap<Ipv4Net, Tally>,
    /// Prefixes with all 16 addresses free.
    free_prefixes: u32,
    /// Prefixes picked to go.
    leaving_prefixes: u32,
    members: BTreeSet<Ipv4Addr>,
}

impl Book {
    /// Every address of the ENI.
    pub(crate) fn all(&self) -> Tally {
        self.singles + self.in_prefixes
    }

    /// Its addresses of one kind.
    pub(crate) fn of(&self, slot: Slot) -> Tally {
        match slot {
            Slot::Single => self.singles,
            Slot::Prefix => self.in_prefixes,
        }
    }

    /// Slots that could be given back: free single addresses, or prefixes that are free as a whole.
    pub(crate) fn free_slots(&self, slot: Slot) -> u32 {
        match slot {
            Slot::Single => self.singles.free,
            Slot::Prefix => self.free_prefixes,
        }
    }

    /// Slots that are taken, those about to leave not counted.
    pub(crate) fn slots(&self) -> u32 {
        (self.singles.total() - self.singles.leaving) + (count(self.prefixes.len()) - self.leaving_prefixes)
    }

    /// Prefixes, sorted, with their counts.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (Ipv4Net, Tally)> {
        self.prefixes.iter().map(|(prefix, tally)| (*prefix, *tally))
    }

    /// Sorted.
    pub(crate) fn members(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.members.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn enter(&mut self, address: Ipv4Addr, slot: Slot, state: &AddressState) {
        self.members.insert(address);
        self.count(address, slot, |tally| tally.add(state));
    }

    pub(super) fn leave(&mut self, address: Ipv4Addr, slot: Slot, state: &AddressState) {
        self.members.remove(&address);
        self.count(address, slot, |tally| tally.take(state));
    }

    pub(super) fn turn(&mut self, address: Ipv4Addr, slot: Slot, states: (&AddressState, &AddressState)) {
        let (before, after) = states;
        self.count(address, slot, |tally| {
            tally.take(before);
            tally.add(after);
        });
    }

    fn count(&mut self, address: Ipv4Addr, slot: Slot, change: impl Fn(&mut Tally)) {
        match slot {
            Slot::Single => change(&mut self.singles),
            Slot::Prefix => {
                change(&mut self.in_prefixes);
                let prefix = prefix_of(address);
                let tally = self.prefixes.entry(prefix).or_default();
                let before = *tally;
                change(tally);
                let after = *tally;
                if after.total() == 0 {
                    self.prefixes.remove(&prefix);
                }
                let step = |number: &mut u32, is: fn(Tally) -> bool| {
                    *number = *number + u32::from(is(after)) - u32::from(is(before));
                };
                step(&mut self.free_prefixes, |tally| tally.free == PREFIX_ADDRESSES);
                step(&mut self.leaving_prefixes, |tally| tally.leaving > 0);
            }
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
