// SPDX-License-Identifier: Apache-2.0
//! The address store: every pool address we hold, what state it is in, and who has it.
//!
//! Decides which address the next pod gets, and when a released one may be given out again. It does not decide how many
//! addresses there are (the planner) nor talk to EC2 or the kernel (the core).
//!
//! ```text
//!            allocate              release                 until          flushed, or given up
//!   Free ──────────────► Allocated ────────► Cooling{until} ────► Flushing ────► Free
//!    │                                          │ ▲                  │
//!    │          the kernel lets go ─────── Held ┼─┘                  │
//!    │                                      ▲ ▲ └ the kernel still   │
//!    ├─────────── the kernel has it ────────┘ └── has it ────────────┘
//!    └── picked for EC2 ──► Leaving ──► unassigned and forgotten, or back to Free
//! ```
//!
//! Invariants: an address has at most one owner; a key at most one address; an address leaves the store only from Leaving,
//! or from Free when EC2 no longer lists it. Primary addresses of ENIs are a field of the ENI, not an entry here, so one
//! cannot be pooled.
//!
//! An address is assigned to its ENI by itself or inside a /28 prefix; each address of a prefix is an entry of its own. A
//! pod gets one of the fullest prefix, so that others come free as a whole, for only a whole prefix can be given back.
//! Counts by ENI and prefix are kept up with every change (`book`): no decision walks over all addresses.
//!
//! An address that EC2 has given us is flushed before its first use, too: it may have been another node's, or have been tried while it
//! was nobody's. It is Free meanwhile, and counts as such, but is not given out (`fresh`).
//!
//! Order of reuse: never-used addresses first (lowest first), then the one that has been free the longest. Worked example:
//! 10.0.0.7 released at 5 s, 10.0.0.6 at 9 s, 10.0.0.9 never used: given out are .9, .7, .6.

mod address;
mod book;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::prefix_addresses;
use crate::ids::{AllocationKey, BootTime, EniId};

pub(crate) use address::{Address, AddressState, Allocation, Rest, Slot, Testimony, prefix_of};
pub(crate) use book::{Book, Tally};

/// Every pool address of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    addresses: BTreeMap<Ipv4Addr, Address>,
    by_key: BTreeMap<AllocationKey, Ipv4Addr>,
    books: BTreeMap<EniId, Book>,
    /// Addresses whose ENI is not known.
    homeless: Book,
    /// Cooling addresses by the time they come free.
    cooling: BTreeSet<(BootTime, Ipv4Addr)>,
    /// Addresses that wait for their flush.
    flushing: BTreeSet<Ipv4Addr>,
    /// Addresses that began to cool and were not flushed since.
    released: BTreeSet<Ipv4Addr>,
    /// Free or leaving ones that were not flushed since they came from EC2, or since this process has known them, and since when
    /// their flush is waited for; `None`: their ENI is not in service.
    fresh: BTreeMap<Ipv4Addr, Option<BootTime>>,
    /// Whether something changed that the journal must show.
    changed: bool,
    unwritten: Unwritten,
}

/// Where the journal's text is behind the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unwritten {
    /// Addresses that may have another record than before.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// Addresses came or went, or have another ENI or prefix.
    pub(crate) places: bool,
}

/// A list that addresses of some states are on.
#[derive(Clone, Copy, Debug)]
enum List {
    /// `cooling` under this time, and `released`.
    Cooling(BootTime),
    /// `flushing`.
    Flushing,
}

impl List {
    fn of(state: &AddressState) -> Option<Self> {
        match state {
            AddressState::Cooling { rest } => Some(Self::Cooling(rest.until)),
            AddressState::Flushing { .. } => Some(Self::Flushing),
            AddressState::Free { .. }
            | AddressState::Allocated(_)
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
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
            | AddressState::Flushing { .. }
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
            | AddressState::Flushing { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        }
    }

    pub(crate) fn allocation_mut(&mut self, address: Ipv4Addr) -> Option<&mut Allocation> {
        match &mut self.addresses.get_mut(&address)?.state {
            AddressState::Allocated(allocation) => Some(allocation),
            AddressState::Free { .. }
            | AddressState::Cooling { .. }
            | AddressState::Flushing { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        }
    }

    /// Counts of one ENI's addresses.
    pub(crate) fn book(&self, eni: &EniId) -> Option<&Book> {
        self.books.get(eni)
    }

    /// Counts of one ENI's addresses of both kinds.
    pub(crate) fn tally(&self, eni: &EniId) -> Tally {
        self.book(eni).map(Book::all).unwrap_or_default()
    }

    /// Counts of all addresses.
    pub(crate) fn all(&self) -> Tally {
        self.books.values().fold(self.homeless.all(), |sum, book| sum + book.all())
    }

    /// One ENI's addresses, sorted.
    pub(crate) fn of_eni<'a>(&'a self, eni: &EniId) -> impl Iterator<Item = (Ipv4Addr, &'a Address)> {
        self.in_book(self.book(eni))
    }

    /// Addresses whose ENI is not known, sorted.
    pub(crate) fn homeless(&self) -> impl Iterator<Item = (Ipv4Addr, &Address)> {
        self.in_book(Some(&self.homeless))
    }

    fn in_book<'a>(&'a self, book: Option<&'a Book>) -> impl Iterator<Item = (Ipv4Addr, &'a Address)> {
        let members = book.into_iter().flat_map(Book::members);
        members.filter_map(|address| Some((address, self.addresses.get(&address)?)))
    }

    /// Addresses that come free by themselves and when, the first first: a flush takes no time worth counting.
    pub(crate) fn cooling(&self) -> impl Iterator<Item = (BootTime, &Address)> {
        let flushing = self.flushing().map(|(address, since)| (since, address));
        let cooling = self.cooling.iter().copied();
        flushing.chain(cooling).filter_map(|(until, address)| Some((until, self.addresses.get(&address)?)))
    }

    /// Addresses that wait for their flush, and since when; sorted.
    pub(crate) fn flushing(&self) -> impl Iterator<Item = (Ipv4Addr, BootTime)> {
        self.flushing.iter().filter_map(|address| match self.addresses.get(address)?.state {
            AddressState::Flushing { since, .. } => Some((*address, since)),
            AddressState::Free { .. }
            | AddressState::Allocated(_)
            | AddressState::Cooling { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        })
    }

    /// Whether an address has cooled and waits for its flush.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.flushing.is_empty()
    }

    /// Whether there are addresses that cool and were not flushed since their release.
    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Takes the addresses that cool and were not flushed since their release, sorted.
    pub(crate) fn take_released(&mut self) -> Vec<Ipv4Addr> {
        std::mem::take(&mut self.released).into_iter().collect()
    }

    /// Addresses that nobody has had from us and that wait for their flush, and since when; sorted. `None`: not yet, for their ENI
    /// is not in service.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (Ipv4Addr, Option<BootTime>, &Address)> {
        let free =
            self.fresh.iter().filter_map(|(address, since)| Some((*address, *since, self.addresses.get(address)?)));
        free.filter(|(_, _, entry)| matches!(entry.state, AddressState::Free { .. }))
    }

    /// From now on the flush of a fresh address is waited for.
    pub(crate) fn await_flush(&mut self, address: Ipv4Addr, now: BootTime) {
        if let Some(since) = self.fresh.get_mut(&address) {
            since.get_or_insert(now);
        }
    }

    /// A first flush failed: it is due again, if the address still cools.
    pub(crate) fn put_back_released(&mut self, address: Ipv4Addr) {
        if self.addresses.get(&address).is_some_and(|entry| matches!(entry.state, AddressState::Cooling { .. })) {
            self.released.insert(address);
        }
    }

    /// What waits for its flush has not begun to: nothing could be flushed so far.
    pub(crate) fn wait_anew(&mut self, now: BootTime) {
        for address in &self.flushing {
            if let Some(AddressState::Flushing { since, .. }) =
                self.addresses.get_mut(address).map(|entry| &mut entry.state)
            {
                *since = now;
            }
        }
        for since in self.fresh.values_mut().flatten() {
            *since = now;
        }
    }

    /// The kernel has forgotten the last owner of an address that waited for that: it is free, or without an ENI forgotten. One that
    /// was fresh can be given out.
    pub(crate) fn flushed(&mut self, address: Ipv4Addr) {
        self.fresh.remove(&address);
        let Some(entry) = self.addresses.get(&address) else { return };
        let AddressState::Flushing { rest, .. } = entry.state else { return };
        let is_homeless = entry.eni.is_none();
        self.set_state(address, AddressState::Free { rest: Some(rest) });
        self.changed = true;
        if is_homeless {
            self.forget(address);
        }
    }

    /// Takes a new address in, or gives a known one its ENI and kind. A known address keeps its state; but one that was leaving has
    /// left when it turns up elsewhere, and is free there.
    pub(crate) fn learn(&mut self, address: Ipv4Addr, home: (&EniId, Slot), rest: Option<Rest>, now: BootTime) {
        let (eni, slot) = home;
        let state = match self.addresses.get(&address) {
            Some(entry) if entry.eni.as_ref() == Some(eni) && entry.slot == slot => return,
            Some(Address { state: AddressState::Leaving { rest }, .. }) => AddressState::Free { rest: *rest },
            Some(entry) => entry.state.clone(),
            None => AddressState::resting(rest, now),
        };
        // One that was another ENI's has been away: EC2 has deleted that one, and we have not heard of it yet.
        let since = match self.addresses.get(&address) {
            Some(entry) if entry.eni.as_ref().is_none_or(|home| home == eni) => self.fresh.get(&address).copied(),
            Some(_) | None => Some(None),
        };
        self.put(address, Address { eni: Some(eni.clone()), slot, state });
        self.freshen(address, since);
    }

    /// Only what is free, or on its way to EC2, has a flush to wait for before its first use.
    fn freshen(&mut self, address: Ipv4Addr, since: Option<Option<BootTime>>) {
        let state = self.addresses.get(&address).map(|entry| &entry.state);
        if let (Some(since), Some(AddressState::Free { .. } | AddressState::Leaving { .. })) = (since, state) {
            self.fresh.insert(address, since);
        }
    }

    /// Puts an entry in as it is; used when the journal is read. An allocation's key must be new.
    pub(crate) fn restore(&mut self, address: Ipv4Addr, entry: Address) {
        if let AddressState::Allocated(allocation) = &entry.state {
            self.by_key.insert(allocation.key.clone(), address);
        }
        let never_used = entry.state.rest().is_none();
        self.put(address, entry);
        self.freshen(address, never_used.then_some(None));
    }

    /// The address that the next pod gets, of the first ENI and kind that has one: most preferred first. Of prefixes only those
    /// that are `usable`.
    pub(crate) fn choose<'a>(
        &self,
        homes: impl IntoIterator<Item = (&'a EniId, Slot)>,
        usable: impl Fn(&EniId, Ipv4Net) -> bool,
    ) -> Option<Ipv4Addr> {
        homes.into_iter().find_map(|(eni, slot)| {
            let book = self.books.get(eni)?;
            match slot {
                Slot::Single if book.of(slot).free == 0 => None,
                Slot::Single => self.longest_free(
                    book.members()
                        .filter(|address| self.addresses.get(address).is_some_and(|entry| entry.slot == Slot::Single)),
                ),
                Slot::Prefix => {
                    let can_give =
                        |prefix| self.fresh.is_empty() || self.longest_free(prefix_addresses(prefix)).is_some();
                    let open = book
                        .prefixes()
                        .filter(|(prefix, tally)| tally.free > 0 && usable(eni, *prefix) && can_give(*prefix));
                    let (prefix, _) = open.max_by_key(|(prefix, tally)| (tally.busy(), std::cmp::Reverse(*prefix)))?;
                    self.longest_free(prefix_addresses(prefix))
                }
            }
        })
    }

    /// Never used before used, and of those the one that has been free the longest. None that waits for its flush.
    fn longest_free(&self, addresses: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        let flushed = addresses.filter(|address| !self.fresh.contains_key(address));
        let free = flushed.filter_map(|address| match self.addresses.get(&address)?.state {
            AddressState::Free { rest } => Some((rest.map(|rest| rest.released), address)),
            AddressState::Allocated(_)
            | AddressState::Cooling { .. }
            | AddressState::Flushing { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => None,
        });
        free.min().map(|(_, address)| address)
    }

    /// Free single addresses of an ENI in the order in which they would be given back: never used ones first, then those
    /// free the longest.
    pub(crate) fn free_singles(&self, eni: &EniId) -> Vec<Ipv4Addr> {
        let mut free: Vec<(Option<BootTime>, Ipv4Addr)> = self
            .of_eni(eni)
            .filter_map(|(address, entry)| match (entry.slot, &entry.state) {
                (Slot::Single, AddressState::Free { rest }) => Some((rest.map(|rest| rest.released), address)),
                (Slot::Single | Slot::Prefix, _) => None,
            })
            .collect();
        free.sort_unstable();
        free.into_iter().map(|(_, address)| address).collect()
    }

    /// Prefixes of an ENI with all addresses free, sorted.
    pub(crate) fn free_prefixes(&self, eni: &EniId) -> Vec<Ipv4Net> {
        let prefixes = self.book(eni).into_iter().flat_map(Book::prefixes);
        let free = prefixes.filter(|(_, tally)| tally.free == crate::action::PREFIX_ADDRESSES);
        free.map(|(prefix, _)| prefix).collect()
    }

    /// Binds a free address. Does nothing, and says so, when it is not free or the key has one already.
    pub(crate) fn allocate(&mut self, address: Ipv4Addr, mut allocation: Allocation) -> bool {
        if self.by_key.contains_key(&allocation.key) {
            return false;
        }
        let Some(entry) = self.addresses.get(&address) else { return false };
        let AddressState::Free { rest } = entry.state else { return false };
        allocation.before = rest;
        self.by_key.insert(allocation.key.clone(), address);
        self.set_state(address, AddressState::Allocated(allocation));
        self.changed = true;
        true
    }

    /// Releases an allocation into its cooldown. `None`: it is not allocated.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: BootTime, cooldown: Duration) -> Option<Allocation> {
        self.take_back(address, |_| AddressState::resting(Some(Rest { released: now, until: now + cooldown }), now))
    }

    /// Undoes an allocation that nobody heard of: no cooldown, no flush. `None`: it is not allocated.
    pub(crate) fn undo(&mut self, address: Ipv4Addr) -> Option<Allocation> {
        self.take_back(address, |allocation| AddressState::Free { rest: allocation.before })
    }

    fn take_back(&mut self, address: Ipv4Addr, next: impl FnOnce(&Allocation) -> AddressState) -> Option<Allocation> {
        let AddressState::Allocated(allocation) = &self.addresses.get(&address)?.state else { return None };
        let next = next(allocation);
        let Some(AddressState::Allocated(allocation)) = self.set_state(address, next) else { return None };
        self.by_key.remove(&allocation.key);
        self.changed = true;
        Some(allocation)
    }

    /// Ends every cooldown that is over: the flush comes next; `held`: whether the kernel was seen with that address since its release.
    /// Returns when the next one ends. Not a change for the journal: it records both ends of a cooldown.
    pub(crate) fn expire(
        &mut self,
        now: BootTime,
        held: impl Fn(Ipv4Addr, BootTime) -> Option<String>,
    ) -> Option<BootTime> {
        loop {
            let (until, address) = *self.cooling.first()?;
            if now < until {
                return Some(until);
            }
            self.cooling.pop_first();
            let Some(entry) = self.addresses.get(&address) else { continue };
            let AddressState::Cooling { rest } = entry.state else { continue };
            match held(address, rest.released) {
                Some(link) => {
                    self.set_state(address, AddressState::Held { rest: Some(rest), link });
                }
                None => {
                    self.set_state(address, AddressState::Flushing { rest, since: now });
                }
            }
        }
    }

    /// The kernel has a free address: it is not given out.
    pub(crate) fn hold(&mut self, address: Ipv4Addr, link: &str) -> bool {
        let Some(entry) = self.addresses.get(&address) else { return false };
        match entry.state {
            AddressState::Free { rest } | AddressState::Leaving { rest } => {
                self.changed = true;
                self.set_state(address, AddressState::Held { rest, link: link.to_owned() });
                true
            }
            AddressState::Flushing { rest, .. } => {
                self.set_state(address, AddressState::Held { rest: Some(rest), link: link.to_owned() });
                true
            }
            AddressState::Allocated(_) | AddressState::Cooling { .. } | AddressState::Held { .. } => false,
        }
    }

    /// The kernel let a held address go: it rests like a released one, for its last user was a pod.
    pub(crate) fn let_go(&mut self, address: Ipv4Addr, now: BootTime, cooldown: Duration) {
        let Some(entry) = self.addresses.get(&address) else { return };
        if matches!(entry.state, AddressState::Held { .. }) {
            self.set_state(address, AddressState::resting(Some(Rest { released: now, until: now + cooldown }), now));
            self.changed = true;
        }
    }

    /// Picks a free address for EC2. In the journal before the call is made: a crash must not give it out again.
    pub(crate) fn set_leaving(&mut self, address: Ipv4Addr) -> bool {
        let Some(entry) = self.addresses.get(&address) else { return false };
        let AddressState::Free { rest } = entry.state else { return false };
        self.set_state(address, AddressState::Leaving { rest });
        self.changed = true;
        true
    }

    /// A picked address stays after all.
    pub(crate) fn stay(&mut self, address: Ipv4Addr) {
        let Some(entry) = self.addresses.get(&address) else { return };
        if let AddressState::Leaving { rest } = entry.state {
            self.set_state(address, AddressState::Free { rest });
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
            self.take_out(address);
            self.changed = true;
        }
        forgettable
    }

    /// Puts an entry in, in place of the one before, with all counts.
    fn put(&mut self, address: Ipv4Addr, entry: Address) {
        self.take_out(address);
        let book = match &entry.eni {
            Some(eni) => self.books.entry(eni.clone()).or_default(),
            None => &mut self.homeless,
        };
        book.enter(address, entry.slot, &entry.state);
        self.enlist(address, List::of(&entry.state));
        self.addresses.insert(address, entry);
        self.changed = true;
        self.unwritten.places = true;
    }

    fn take_out(&mut self, address: Ipv4Addr) {
        self.fresh.remove(&address);
        let Some(entry) = self.addresses.remove(&address) else { return };
        self.unwritten.places = true;
        self.strike(address, List::of(&entry.state));
        match &entry.eni {
            None => self.homeless.leave(address, entry.slot, &entry.state),
            Some(eni) => {
                if let Some(book) = self.books.get_mut(eni) {
                    book.leave(address, entry.slot, &entry.state);
                    if book.is_empty() {
                        self.books.remove(eni);
                    }
                }
            }
        }
    }

    fn enlist(&mut self, address: Ipv4Addr, list: Option<List>) {
        match list {
            Some(List::Cooling(until)) => {
                self.cooling.insert((until, address));
                self.released.insert(address);
            }
            Some(List::Flushing) => {
                self.flushing.insert(address);
            }
            None => {}
        }
    }

    fn strike(&mut self, address: Ipv4Addr, list: Option<List>) {
        match list {
            Some(List::Cooling(until)) => {
                self.cooling.remove(&(until, address));
                self.released.remove(&address);
            }
            Some(List::Flushing) => {
                self.flushing.remove(&address);
            }
            None => {}
        }
    }

    /// Changes an entry's state, with all counts; returns the state before.
    fn set_state(&mut self, address: Ipv4Addr, next: AddressState) -> Option<AddressState> {
        let entry = self.addresses.get_mut(&address)?;
        let before = std::mem::replace(&mut entry.state, next);
        let lists = (List::of(&before), List::of(&entry.state));
        let may_be_fresh = matches!(entry.state, AddressState::Free { .. } | AddressState::Leaving { .. });
        let book = match &entry.eni {
            Some(eni) => self.books.get_mut(eni),
            None => Some(&mut self.homeless),
        };
        if let Some(book) = book {
            book.turn(address, entry.slot, (&before, &entry.state));
        }
        self.unwritten.addresses.insert(address);
        self.strike(address, lists.0);
        self.enlist(address, lists.1);
        if !may_be_fresh {
            self.fresh.remove(&address);
        }
        Some(before)
    }

    /// Whether the counts are those of the entries.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn audit(&self) {
        let mut afresh = Self::default();
        for (address, entry) in &self.addresses {
            afresh.put(*address, entry.clone());
        }
        assert_eq!(self.books, afresh.books);
        assert_eq!(self.homeless, afresh.homeless);
        assert_eq!((&self.cooling, &self.flushing), (&afresh.cooling, &afresh.flushing));
        assert!(self.released.is_subset(&afresh.released));
        let may_be_fresh = |address| {
            let state = self.addresses.get(address).map(|entry| &entry.state);
            matches!(state, Some(AddressState::Free { .. } | AddressState::Leaving { .. }))
        };
        assert!(self.fresh.keys().all(may_be_fresh));
    }

    /// Takes the mark that the journal is behind.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// An allocation was changed in a way the journal shows.
    pub(crate) fn mark_changed(&mut self, address: Ipv4Addr) {
        self.changed = true;
        self.unwritten.addresses.insert(address);
    }

    /// Takes note of where the journal's text is behind.
    pub(crate) fn take_unwritten(&mut self) -> Unwritten {
        std::mem::take(&mut self.unwritten)
    }
}
