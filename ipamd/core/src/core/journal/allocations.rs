// SPDX-License-Identifier: Apache-2.0
//! `ipam.json`: a list of allocations in slots of one size, the first ones taken, the last ones nobody's yet. A new one goes into the first
//! empty slot; into the slot of one that ends goes the last one. The order means nothing to who reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::checkpoint::{Draft, REFERENCE_VERSION, ReferenceJournal, Sheet, encode};
use crate::core::record::record_allocation;
use crate::store::{Allocation, Store};

use super::{around, separated};

/// Room of a slot at least: a record with names of ordinary length.
const ROOM: usize = 320;
/// Room comes in steps of so many bytes.
const STEP: usize = 64;
/// Slots without an owner when the text is laid out, and one more for every four owners.
const SPARE: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Allocations {
    sheet: Sheet,
    /// Whose record is in a slot; its part of the sheet is one further on.
    holders: Vec<Ipv4Addr>,
    slots: BTreeMap<Ipv4Addr, usize>,
    /// Slots there are, taken or not.
    count: usize,
}

impl Allocations {
    /// Brings the text up to date where it may be behind; how many records it has rendered.
    pub(super) fn refresh(&mut self, store: &Store, addresses: &BTreeSet<Ipv4Addr>) -> u64 {
        if self.count == 0 {
            return self.lay(store);
        }
        let mut rendered = 0;
        for address in addresses {
            if !self.set(*address, store.allocation(*address)) {
                return rendered + self.lay(store);
            }
            rendered += 1;
        }
        rendered
    }

    pub(super) fn draft(&mut self) -> Draft<'_> {
        self.sheet.draft()
    }

    /// `false`: there is no room.
    fn set(&mut self, address: Ipv4Addr, allocation: Option<&Allocation>) -> bool {
        match (self.slots.get(&address).copied(), allocation) {
            (Some(slot), Some(allocation)) => self.fill(slot, &text(slot, address, allocation)),
            (None, Some(allocation)) => {
                let slot = self.holders.len();
                let fits = slot < self.count && self.fill(slot, &text(slot, address, allocation));
                if fits {
                    self.holders.push(address);
                    self.slots.insert(address, slot);
                }
                fits
            }
            (Some(slot), None) => self.empty(slot),
            (None, None) => true,
        }
    }

    fn fill(&mut self, slot: usize, text: &[u8]) -> bool {
        self.sheet.put(slot + 1, text)
    }

    /// Its owner has it no more: the last one comes in its place.
    fn empty(&mut self, slot: usize) -> bool {
        let last = self.holders.len() - 1;
        let moved = self.holders[last];
        let address = self.holders.swap_remove(slot);
        self.slots.remove(&address);
        if slot != last {
            self.slots.insert(moved, slot);
            // Never the first one.
            let text = self.sheet.part(last + 1)[usize::from(slot == 0)..].to_owned();
            return self.fill(slot, &text) && self.fill(last, b"");
        }
        self.fill(last, b"")
    }

    fn lay(&mut self, store: &Store) -> u64 {
        let texts: Vec<(Ipv4Addr, Vec<u8>)> = store
            .allocations()
            .enumerate()
            .map(|(slot, (address, _, allocation))| (address, text(slot, address, allocation)))
            .collect();
        let room = texts.iter().map(|(_, text)| text.len()).max().unwrap_or(0).max(ROOM).next_multiple_of(STEP);
        self.count = texts.len() + texts.len() / 4 + SPARE;
        let empty = encode(&ReferenceJournal { version: REFERENCE_VERSION.to_owned(), allocations: Vec::new() });
        let (head, tail) = around(&empty);
        self.sheet.clear();
        self.sheet.append(head, 0);
        for slot in 0..self.count {
            self.sheet.append(texts.get(slot).map_or(&[], |(_, text)| text), room);
        }
        self.sheet.append(tail, 0);
        self.holders = texts.iter().map(|(address, _)| *address).collect();
        self.slots = self.holders.iter().enumerate().map(|(slot, address)| (*address, slot)).collect();
        texts.len() as u64
    }
}

fn text(slot: usize, address: Ipv4Addr, allocation: &Allocation) -> Vec<u8> {
    separated(slot == 0, &record_allocation(address, allocation))
}
