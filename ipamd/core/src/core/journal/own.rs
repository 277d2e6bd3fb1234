// SPDX-License-Identifier: Apache-2.0
//! `enid.json`: a part for everything that is no ENI's, one for each ENI, and for each of its single addresses and prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::checkpoint::{Draft, Sheet, encode};
use crate::core::Core;
use crate::core::record::{record_address, record_prefix};
use crate::ids::EniId;
use crate::store::{Address, AddressState, Book, Slot, Testimony, Unwritten, prefix_of};

use super::{around, follows, separated};

/// Room of one address with every field; the times of a node that has been up for a hundred days.
const ADDRESS_ROOM: usize = 128;
/// Of a prefix whose addresses have all been used.
const PREFIX_ROOM: usize = 2_048;
/// What an ENI's own fields may grow by.
const ENI_SPARE: usize = 128;

#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    sheet: Sheet,
    /// Numbers of their parts; all else is the first one.
    enis: BTreeMap<EniId, usize>,
    singles: BTreeMap<Ipv4Addr, usize>,
    prefixes: BTreeMap<(EniId, Ipv4Net), usize>,
    /// Addresses whose keys are told in the first part.
    unwitnessed: BTreeSet<Ipv4Addr>,
    is_laid: bool,
}

impl Own {
    pub(super) fn draft(&mut self) -> Draft<'_> {
        self.sheet.draft()
    }

    /// Brings the text up to date where it may be behind; how many records it has rendered.
    pub(super) fn refresh(&mut self, core: &Core, unwritten: &Unwritten, rest: bool) -> u64 {
        if !self.is_laid || unwritten.places {
            return self.lay(core);
        }
        let mut rendered = 0;
        let mut rest = rest;
        let mut prefixes = BTreeSet::new();
        for address in &unwritten.addresses {
            let Some(entry) = core.store.get(*address) else { continue };
            rest |= self.witness(*address, entry);
            match (&entry.eni, entry.slot) {
                (None, _) => rest = true,
                (Some(_), Slot::Single) => {
                    rendered += 1;
                    let part = self.singles.get(address).copied();
                    if !self.put(part, &record_address(*address, entry)) {
                        return rendered + self.lay(core);
                    }
                }
                (Some(eni), Slot::Prefix) => {
                    prefixes.insert((eni.clone(), prefix_of(*address)));
                }
            }
        }
        for home in prefixes {
            let part = self.prefixes.get(&home).copied();
            let record = record_prefix(&core.store, &home.0, home.1);
            rendered += 1 + record.addresses.len() as u64;
            if !self.put(part, &record) {
                return rendered + self.lay(core);
            }
        }
        if rest {
            let fits = self.enis.keys().eq(core.enis.keys()) && self.put_rest(core);
            rendered += if fits { 1 + core.enis.len() as u64 } else { self.lay(core) };
        }
        rendered
    }

    /// Without a part it is of an ENI that is not recorded.
    fn put(&mut self, part: Option<usize>, record: &impl serde::Serialize) -> bool {
        part.is_none_or(|part| self.sheet.put(part, &separated(!follows(&self.sheet, part), record)))
    }

    fn put_rest(&mut self, core: &Core) -> bool {
        let mut fits = self.sheet.put(0, around(&self.rest(core)).0);
        for (id, part) in &self.enis {
            let Some(eni) = core.enis.get(id) else { return false };
            let text = separated(!follows(&self.sheet, *part), &core.record_eni_alone(eni));
            fits &= self.sheet.put(*part, around(&text).0);
        }
        fits
    }

    fn rest(&self, core: &Core) -> Vec<u8> {
        let keys = self.unwitnessed.iter().filter_map(|address| core.store.allocation(*address));
        encode(&core.record_rest(keys.map(|allocation| allocation.key.clone()).collect()))
    }

    /// Notes whether no kernel object can testify for what an address is; whether that is another answer, or one that is told of somebody
    /// else.
    fn witness(&mut self, address: Ipv4Addr, entry: &Address) -> bool {
        let is_told = match &entry.state {
            AddressState::Allocated(allocation) => allocation.testimony == Testimony::Impossible,
            AddressState::Free { .. }
            | AddressState::Cooling { .. }
            | AddressState::Flushing { .. }
            | AddressState::Held { .. }
            | AddressState::Leaving { .. } => false,
        };
        let was_told = if is_told { !self.unwitnessed.insert(address) } else { self.unwitnessed.remove(&address) };
        is_told || was_told
    }

    fn lay(&mut self, core: &Core) -> u64 {
        let told = core.store.allocations().filter(|(_, _, allocation)| allocation.testimony == Testimony::Impossible);
        *self = Self { unwitnessed: told.map(|(address, _, _)| address).collect(), ..Self::default() };
        let mut rendered = 1;
        let rest = self.rest(core);
        let (head, tail) = around(&rest);
        self.sheet.append(head, head.len() + head.len() / 4 + ENI_SPARE);
        for (index, eni) in core.enis.values().enumerate() {
            let alone = separated(index == 0, &core.record_eni_alone(eni));
            let (head, tail) = around(&alone);
            let part = self.sheet.append(head, head.len() + ENI_SPARE);
            self.enis.insert(eni.eni_id.clone(), part);
            rendered += 1 + self.lay_addresses(core, &eni.eni_id);
            self.sheet.append(tail, 0);
        }
        self.sheet.append(tail, 0);
        self.is_laid = true;
        rendered
    }

    fn lay_addresses(&mut self, core: &Core, id: &EniId) -> u64 {
        let mut rendered = 0;
        let singles = core.store.of_eni(id).filter(|(_, entry)| entry.slot == Slot::Single);
        for (index, (address, entry)) in singles.enumerate() {
            let part = self.sheet.append(&separated(index == 0, &record_address(address, entry)), ADDRESS_ROOM);
            self.singles.insert(address, part);
            rendered += 1;
        }
        self.sheet.append(b"],\"prefixes\":[", 0);
        for (index, (prefix, _)) in core.store.book(id).into_iter().flat_map(Book::prefixes).enumerate() {
            let record = record_prefix(&core.store, id, prefix);
            let part = self.sheet.append(&separated(index == 0, &record), PREFIX_ROOM);
            self.prefixes.insert((id.clone(), prefix), part);
            rendered += 1 + record.addresses.len() as u64;
        }
        rendered
    }
}
