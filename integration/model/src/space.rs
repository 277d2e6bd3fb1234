// SPDX-License-Identifier: Apache-2.0
//! The addresses of one subnet: which are reserved, taken, free, and which /28s can still be handed out whole.
//!
//! Decides what is free and picks; to whom it goes is the machine's business.
//!
//! Invariant: `free() == block - 5 - taken addresses - 16 * taken prefixes`, and nothing reserved is ever taken. Single
//! addresses are picked outside every CIDR reservation, prefixes in `prefix` reservations first and then outside every one;
//! what a request names may lie anywhere.
//!
//! Worked example: a /24 has 251 free addresses, but at most 14 prefixes: its first /28 holds the four reserved ones and
//! its last the broadcast address. One single address in the middle of a /28 keeps that /28 from being handed out. With
//! 10.0.1.128/25 reserved for prefixes, seven come from there and no single address does until the reservation is deleted.
//!
//! A subnet is a bitmap (8 KiB for a /16), because it is copied for every call that takes something and thrown away when
//! the call is refused.
//!
//! Source: VPC user guide, "Subnet CIDR blocks" (the first four addresses and the last are reserved) and "Subnet CIDR
//! reservations"; EC2 user guide, "Prefix delegation" (a prefix is a /28 inside the subnet and overlaps nothing assigned).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::IdSource;
use crate::settings::AddressChoice;
use crate::state::{CidrReservation, ReservationType};

mod bits;
use bits::Bits;

/// Addresses in a prefix.
pub(crate) const PREFIX_ADDRESSES: u32 = 16;
/// Length of a prefix.
pub(crate) const PREFIX_LENGTH: u8 = 28;
/// Addresses of a subnet that nobody can have: network, router, DNS, future use, broadcast.
pub(crate) const RESERVED: u32 = 5;

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    block: Ipv4Net,
    /// Single addresses that are taken, by their offset in the block.
    addresses: Bits,
    /// Prefixes that are taken, by their number in the block.
    prefixes: Bits,
    reservations: Vec<CidrReservation>,
}

impl Space {
    pub(crate) fn new(block: Ipv4Net) -> Self {
        let block = block.trunc();
        let size = u32::from(block.broadcast()) - u32::from(block.network()) + 1;
        Self {
            block,
            addresses: Bits::new(size),
            prefixes: Bits::new(size.div_ceil(PREFIX_ADDRESSES)),
            reservations: Vec::new(),
        }
    }

    pub(crate) fn block(&self) -> Ipv4Net {
        self.block
    }

    /// The CIDR reservations, oldest first.
    pub(crate) fn reservations(&self) -> &[CidrReservation] {
        &self.reservations
    }

    pub(crate) fn reservations_mut(&mut self) -> &mut Vec<CidrReservation> {
        &mut self.reservations
    }

    fn first(&self) -> u32 {
        u32::from(self.block.network())
    }

    fn last(&self) -> u32 {
        u32::from(self.block.broadcast())
    }

    /// How many addresses nobody has (EC2's `availableIpAddressCount`).
    pub(crate) fn free(&self) -> u32 {
        let size = self.last() - self.first() + 1;
        size - RESERVED - self.addresses.count() - PREFIX_ADDRESSES * self.prefixes.count()
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.block.contains(&address)
    }

    pub(crate) fn is_reserved(&self, address: Ipv4Addr) -> bool {
        let bits = u32::from(address);
        self.contains(address) && (bits < self.first() + RESERVED - 1 || bits == self.last())
    }

    /// Whether the address is taken, by itself or in a prefix.
    pub(crate) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.contains(address) && self.is_offset_taken(u32::from(address) - self.first())
    }

    fn is_offset_taken(&self, offset: u32) -> bool {
        self.addresses.has(offset) || self.prefixes.has(offset / PREFIX_ADDRESSES)
    }

    /// Whether the prefix lies in the subnet, aligned, of the right length, without a reserved address.
    pub(crate) fn is_usable_prefix(&self, prefix: Ipv4Net) -> bool {
        let base = u32::from(prefix.addr());
        prefix.prefix_len() == PREFIX_LENGTH
            && prefix.trunc() == prefix
            && self.block.contains(&prefix)
            && base >= self.first() + RESERVED - 1
            && base + (PREFIX_ADDRESSES - 1) < self.last()
    }

    /// Whether any address of the prefix is taken.
    pub(crate) fn is_prefix_taken(&self, prefix: Ipv4Net) -> bool {
        self.block.contains(&prefix) && self.is_number_taken(self.number(prefix))
    }

    fn is_number_taken(&self, number: u32) -> bool {
        self.prefixes.has(number) || self.addresses.any_of_sixteen(number * PREFIX_ADDRESSES)
    }

    fn number(&self, prefix: Ipv4Net) -> u32 {
        (u32::from(prefix.network()) - self.first()) / PREFIX_ADDRESSES
    }

    pub(crate) fn take_address(&mut self, address: Ipv4Addr) {
        self.addresses.set(u32::from(address) - self.first(), true);
    }

    pub(crate) fn free_address(&mut self, address: Ipv4Addr) {
        self.addresses.set(u32::from(address) - self.first(), false);
    }

    pub(crate) fn take_prefix(&mut self, prefix: Ipv4Net) {
        self.prefixes.set(self.number(prefix), true);
    }

    pub(crate) fn free_prefix(&mut self, prefix: Ipv4Net) {
        self.prefixes.set(self.number(prefix), false);
    }

    /// This many free addresses outside every reservation, or `None` when there are fewer. Takes nothing.
    pub(crate) fn pick_addresses(
        &self,
        wanted: u32,
        choice: AddressChoice,
        ids: &mut IdSource,
    ) -> Option<Vec<Ipv4Addr>> {
        let (first, usable) = (self.first() + RESERVED - 1, self.last() - self.first() + 1 - RESERVED);
        let free = |place: u32| {
            let address = Ipv4Addr::from(first + place);
            let is_free = !self.is_offset_taken(place + RESERVED - 1)
                && !self.reservations.iter().any(|reservation| reservation.cidr.contains(&address));
            is_free.then_some(address)
        };
        let picked = pick(wanted, usable, choice, ids, free);
        (count(picked.len()) == wanted).then_some(picked)
    }

    /// This many free prefixes, or `None` when there are fewer. Takes nothing.
    pub(crate) fn pick_prefixes(&self, wanted: u32, choice: AddressChoice, ids: &mut IdSource) -> Option<Vec<Ipv4Net>> {
        let slots = (self.last() - self.first() + 1) / PREFIX_ADDRESSES;
        let free = |slot: u32| {
            let base = self.first() + slot * PREFIX_ADDRESSES;
            let prefix = Ipv4Net::new(Ipv4Addr::from(base), PREFIX_LENGTH).ok()?;
            (self.is_usable_prefix(prefix) && !self.is_number_taken(slot)).then_some(prefix)
        };
        let mut picked = Vec::new();
        if self.reservations.iter().any(|reservation| reservation.kind == ReservationType::Prefix) {
            picked = pick(wanted, slots, choice, ids, |slot| free(slot).filter(|prefix| self.is_set_aside(*prefix)));
        }
        let missing = wanted - count(picked.len());
        if missing > 0 {
            let outside = |prefix: &Ipv4Net| !self.reservations.iter().any(|r| overlap(r.cidr, *prefix));
            picked.extend(pick(missing, slots, choice, ids, |slot| free(slot).filter(outside)));
        }
        (count(picked.len()) == wanted).then_some(picked)
    }

    /// Whether a `prefix` reservation holds this prefix whole.
    fn is_set_aside(&self, prefix: Ipv4Net) -> bool {
        let holds = |r: &CidrReservation| r.kind == ReservationType::Prefix && r.cidr.contains(&prefix);
        self.reservations.iter().any(holds)
    }
}

/// Whether two blocks share an address.
pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Picks `wanted` of the `size` places for which `free` has something, or as many as there are.
///
/// At random it tries places blindly first, which is quick while most are free, and looks at all of them when that did not
/// suffice; either way every free place is as likely as any other.
fn pick<T: PartialEq>(
    wanted: u32,
    size: u32,
    choice: AddressChoice,
    ids: &mut IdSource,
    free: impl Fn(u32) -> Option<T>,
) -> Vec<T> {
    let number = usize::try_from(wanted).unwrap_or(usize::MAX);
    if choice == AddressChoice::Lowest {
        return (0..size).filter_map(free).take(number).collect();
    }
    let mut picked = Vec::new();
    for _ in 0..wanted.saturating_mul(4).min(size) {
        if picked.len() == number {
            return picked;
        }
        match free(ids.below(size)) {
            Some(place) if !picked.contains(&place) => picked.push(place),
            _ => {}
        }
    }
    if picked.len() == number {
        return picked;
    }
    let mut places: Vec<u32> = (0..size).filter(|&place| free(place).is_some()).collect();
    let number = number.min(places.len());
    for at in 0..number {
        let other = at + usize::try_from(ids.below(count(places.len() - at))).unwrap_or(0);
        places.swap(at, other);
    }
    places.into_iter().take(number).filter_map(free).collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
