// SPDX-License-Identifier: Apache-2.0
//! The address store: every pool address we hold, what state it is in, and who has it.
//!
//! Decides which address the next pod gets, and when a released one may be given out again. It does not decide how many
//! addresses there are (the planner) nor talk to EC2 or the kernel (the core).
//!
//! ```text
//!            allocate              release                 until
//!   Free ──────────────► Allocated ────────► Cooling{until} ────► Free
//!    │ ▲                                        │
//!    │ └──────── the kernel lets go ── Held ◄───┴── the kernel still has it
//!    ├─────────── the kernel has it ─────▲
//!    └── picked for EC2 ──► Leaving ──► unassigned and forgotten, or back to Free
//! ```
//!
//! Invariants: an address has at most one owner; a key at most one address; an address leaves the store only from Leaving,
//! or from Free when EC2 no longer lists it. Primary addresses of ENIs are a field of the ENI, not an entry here, so one
//! cannot be pooled.
//!
//! Order of reuse: never-used addresses first (lowest first), then the one that has been free the longest. Worked example:
//! 10.0.0.7 released at 5 s, 10.0.0.6 at 9 s, 10.0.0.9 never used: given out are .9, .7, .6.

mod address;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::ids::{AllocationKey, BootTime, EniId};

pub(crate) use address::{Address, AddressState, Allocation, Rest, Testimony};

/// Every pool address of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    addresses: BTreeMap<Ipv4Addr, Address>,
    by_key: BTreeMap<AllocationKey, Ipv4Addr>,
    /// Whether something changed that the journal must show.
    changed: bool,
}

/// Counts of one ENI's addresses, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) free: u32,
    pub(crate) allocated: u32,
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

    fn count(&mut self, state: &AddressState) {
        match state {
            AddressState::Free { .. } => self.free += 1,
            AddressState::Allocated(_) => self.allocated += 1,
            AddressState::Cooling { .. } => self.cooling += 1,
            AddressState::Held { .. } => self.held += 1,
            AddressState::Leaving { .. } => self.leaving += 1,
        }
    }
}

impl Store {
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Address> {
        self.addresses.get(&address)
    }

    /// Sorted by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Address)> {
        self.addresses.iter().map(|(address, entry)| (*address, entry))
    }

    /// Sorted by address.
    pub(crate) fn allocations(&self) -> impl Iterator<Item = (Ipv4Addr, Option<&EniId>, &Allocation)> {
        self.iter().filter_map(|(address, entry)| match &entry.state {
            AddressState::Allocated(allocation) => Some((address, entry.eni.as_ref(), allocation)),
            AddressState::Free { .. }
            | AddressState::Cooling { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        })
    }

    pub(crate) fn address_of(&self, key: &AllocationKey) -> Option<Ipv4Addr> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn allocation(&self, address: Ipv4Addr) -> Option<&Allocation> {
        match &self.addresses.get(&address)?.state {
            AddressState::Allocated(allocation) => Some(allocation),
            AddressState::Free { .. }
            | AddressState::Cooling { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        }
    }

    pub(crate) fn allocation_mut(&mut self, address: Ipv4Addr) -> Option<&mut Allocation> {
        match &mut self.addresses.get_mut(&address)?.state {
            AddressState::Allocated(allocation) => Some(allocation),
            AddressState::Free { .. }
            | AddressState::Cooling { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        }
    }

    /// Counts by ENI; `None` is the addresses whose ENI is not known.
    pub(crate) fn tallies(&self) -> BTreeMap<Option<&EniId>, Tally> {
        let mut tallies: BTreeMap<Option<&EniId>, Tally> = BTreeMap::new();
        for entry in self.addresses.values() {
            tallies.entry(entry.eni.as_ref()).or_default().count(&entry.state);
        }
        tallies
    }

    /// Counts of one ENI's addresses.
    pub(crate) fn tally(&self, eni: &EniId) -> Tally {
        let mut tally = Tally::default();
        for entry in self.addresses.values().filter(|entry| entry.eni.as_ref() == Some(eni)) {
            tally.count(&entry.state);
        }
        tally
    }

    /// One ENI's addresses, sorted.
    pub(crate) fn of_eni<'a>(&'a self, eni: &'a EniId) -> impl Iterator<Item = (Ipv4Addr, &'a Address)> {
        self.iter().filter(move |(_, entry)| entry.eni.as_ref() == Some(eni))
    }

    /// Takes a new address in, or gives a known one its ENI. A known address keeps its state.
    pub(crate) fn learn(&mut self, address: Ipv4Addr, eni: &EniId, rest: Option<Rest>, now: BootTime) {
        if let Some(entry) = self.addresses.get_mut(&address) {
            if entry.eni.as_ref() != Some(eni) {
                entry.eni = Some(eni.clone());
                self.changed = true;
            }
            return;
        }
        let state = AddressState::resting(rest, now);
        self.addresses.insert(address, Address { eni: Some(eni.clone()), state });
        self.changed = true;
    }

    /// Puts an entry in as it is; used when the journal is read. An allocation's key must be new.
    pub(crate) fn restore(&mut self, address: Ipv4Addr, entry: Address) {
        if let AddressState::Allocated(allocation) = &entry.state {
            self.by_key.insert(allocation.key.clone(), address);
        }
        self.addresses.insert(address, entry);
        self.changed = true;
    }

    /// The address that the next pod gets among `enis`, given from most to least preferred.
    pub(crate) fn choose<'a>(&self, enis: impl IntoIterator<Item = &'a EniId>) -> Option<Ipv4Addr> {
        enis.into_iter().find_map(|eni| {
            self.of_eni(eni)
                .filter_map(|(address, entry)| match entry.state {
                    AddressState::Free { rest } => Some((rest.map(|rest| rest.released), address)),
                    AddressState::Allocated(_)
                    | AddressState::Cooling { .. }
                    | AddressState::Held { .. }
                    | AddressState::Leaving { .. } => None,
                })
                .min()
                .map(|(_, address)| address)
        })
    }

    /// Binds a free address. Does nothing, and says so, when it is not free or the key has one already.
    pub(crate) fn allocate(&mut self, address: Ipv4Addr, mut allocation: Allocation) -> bool {
        if self.by_key.contains_key(&allocation.key) {
            return false;
        }
        let Some(entry) = self.addresses.get_mut(&address) else { return false };
        let AddressState::Free { rest } = entry.state else { return false };
        allocation.before = rest;
        self.by_key.insert(allocation.key.clone(), address);
        entry.state = AddressState::Allocated(allocation);
        self.changed = true;
        true
    }

    /// Releases an allocation into its cooldown. `None`: it is not allocated.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: BootTime, cooldown: Duration) -> Option<Allocation> {
        self.take_back(address, |_| Some(Rest { released: now, until: now + cooldown }), now)
    }

    /// Undoes an allocation that nobody heard of: no cooldown. `None`: it is not allocated.
    pub(crate) fn undo(&mut self, address: Ipv4Addr, now: BootTime) -> Option<Allocation> {
        self.take_back(address, |allocation| allocation.before, now)
    }

    fn take_back(
        &mut self,
        address: Ipv4Addr,
        rest: impl FnOnce(&Allocation) -> Option<Rest>,
        now: BootTime,
    ) -> Option<Allocation> {
        let entry = self.addresses.get_mut(&address)?;
        let AddressState::Allocated(allocation) = &entry.state else { return None };
        let next = AddressState::resting(rest(allocation), now);
        let AddressState::Allocated(allocation) = std::mem::replace(&mut entry.state, next) else { return None };
        self.by_key.remove(&allocation.key);
        self.changed = true;
        Some(allocation)
    }

    /// Ends every cooldown that is over; `held`: whether the kernel was seen with that address since its release.
    /// Returns when the next one ends. Not a change for the journal: it records both ends of a cooldown.
    pub(crate) fn expire(
        &mut self,
        now: BootTime,
        held: impl Fn(Ipv4Addr, BootTime) -> Option<String>,
    ) -> Option<BootTime> {
        let mut next: Option<BootTime> = None;
        let mut gone = Vec::new();
        for (address, entry) in &mut self.addresses {
            let AddressState::Cooling { rest } = entry.state else { continue };
            if now < rest.until {
                next = Some(next.map_or(rest.until, |next| next.min(rest.until)));
                continue;
            }
            entry.state = match held(*address, rest.released) {
                Some(link) => AddressState::Held { rest: Some(rest), link },
                None => AddressState::Free { rest: Some(rest) },
            };
            if entry.eni.is_none() && matches!(entry.state, AddressState::Free { .. }) {
                gone.push(*address);
            }
        }
        for address in gone {
            self.forget(address);
        }
        next
    }

    /// The kernel has a free address: it is not given out.
    pub(crate) fn hold(&mut self, address: Ipv4Addr, link: &str) -> bool {
        let Some(entry) = self.addresses.get_mut(&address) else { return false };
        match entry.state {
            AddressState::Free { rest } | AddressState::Leaving { rest } => {
                self.changed |= matches!(entry.state, AddressState::Leaving { .. });
                entry.state = AddressState::Held { rest, link: link.to_owned() };
                true
            }
            AddressState::Allocated(_) | AddressState::Cooling { .. } | AddressState::Held { .. } => false,
        }
    }

    /// The kernel let a held address go: it rests like a released one, for its last user was a pod.
    pub(crate) fn let_go(&mut self, address: Ipv4Addr, now: BootTime, cooldown: Duration) {
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if matches!(entry.state, AddressState::Held { .. }) {
            entry.state = AddressState::resting(Some(Rest { released: now, until: now + cooldown }), now);
            self.changed = true;
        }
    }

    /// Picks a free address for EC2. In the journal before the call is made: a crash must not give it out again.
    pub(crate) fn set_leaving(&mut self, address: Ipv4Addr) -> bool {
        let Some(entry) = self.addresses.get_mut(&address) else { return false };
        let AddressState::Free { rest } = entry.state else { return false };
        entry.state = AddressState::Leaving { rest };
        self.changed = true;
        true
    }

    /// A picked address stays after all.
    pub(crate) fn stay(&mut self, address: Ipv4Addr) {
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        if let AddressState::Leaving { rest } = entry.state {
            entry.state = AddressState::Free { rest };
            self.changed = true;
        }
    }

    /// Forgets an address that is not ours any more. Refused, and says so, while someone has or may have it.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) -> bool {
        let forgettable = self
            .addresses
            .get(&address)
            .is_some_and(|entry| matches!(entry.state, AddressState::Free { .. } | AddressState::Leaving { .. }));
        if forgettable {
            self.addresses.remove(&address);
            self.changed = true;
        }
        forgettable
    }

    /// Takes the mark that the journal is behind.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// An allocation was changed in a way the journal shows.
    pub(crate) fn mark_changed(&mut self) {
        self.changed = true;
    }
}
