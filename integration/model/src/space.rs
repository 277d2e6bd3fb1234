// SPDX-License-Identifier: Apache-2.0
//! The addresses of one subnet: which are reserved, taken, free, and which /28s can still be handed out whole.
//!
//! Decides what is free and picks; to whom it goes is the machine's business.
//!
//! Invariant: `free() == block - 5 - taken addresses - 16 * taken prefixes`, and nothing reserved is ever taken.
//!
//! Worked example: a /24 has 251 free addresses, but at most 14 prefixes: its first /28 holds the four reserved ones and
//! its last the broadcast address. One single address in the middle of a /28 keeps that /28 from being handed out.
//!
//! Source: VPC user guide, "Subnet CIDR blocks" (the first four addresses and the last are reserved); EC2 user guide,
//! "Prefix delegation" (a prefix is a /28 inside the subnet and overlaps nothing assigned).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::IdSource;
use crate::settings::AddressChoice;

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
    /// Single addresses that are taken.
    addresses: BTreeSet<u32>,
    /// First addresses of the prefixes that are taken.
    prefixes: BTreeSet<u32>,
}

impl Space {
    pub(crate) fn new(block: Ipv4Net) -> Self {
        Self { block: block.trunc(), addresses: BTreeSet::new(), prefixes: BTreeSet::new() }
    }

    pub(crate) fn block(&self) -> Ipv4Net {
        self.block
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
        size - RESERVED - count(&self.addresses) - PREFIX_ADDRESSES * count(&self.prefixes)
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
        let bits = u32::from(address);
        self.addresses.contains(&bits) || self.prefixes.contains(&(bits & !(PREFIX_ADDRESSES - 1)))
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
        self.is_base_taken(u32::from(prefix.network()))
    }

    fn is_base_taken(&self, base: u32) -> bool {
        self.prefixes.contains(&base) || self.addresses.range(base..=base + (PREFIX_ADDRESSES - 1)).next().is_some()
    }

    pub(crate) fn take_address(&mut self, address: Ipv4Addr) {
        self.addresses.insert(u32::from(address));
    }

    pub(crate) fn free_address(&mut self, address: Ipv4Addr) {
        self.addresses.remove(&u32::from(address));
    }

    pub(crate) fn take_prefix(&mut self, prefix: Ipv4Net) {
        self.prefixes.insert(u32::from(prefix.network()));
    }

    pub(crate) fn free_prefix(&mut self, prefix: Ipv4Net) {
        self.prefixes.remove(&u32::from(prefix.network()));
    }

    /// This many free addresses, or `None` when there are fewer. Takes nothing.
    pub(crate) fn pick_addresses(
        &self,
        wanted: u32,
        choice: AddressChoice,
        ids: &mut IdSource,
    ) -> Option<Vec<Ipv4Addr>> {
        let (first, usable) = (self.first() + RESERVED - 1, self.last() - self.first() + 1 - RESERVED);
        let free = |bits: u32| {
            let address = Ipv4Addr::from(bits);
            (!self.is_taken(address)).then_some(address)
        };
        pick(wanted, usable, choice, ids, |offset| free(first + offset))
    }

    /// This many free prefixes, or `None` when there are fewer. Takes nothing.
    pub(crate) fn pick_prefixes(&self, wanted: u32, choice: AddressChoice, ids: &mut IdSource) -> Option<Vec<Ipv4Net>> {
        let slots = (self.last() - self.first() + 1) / PREFIX_ADDRESSES;
        pick(wanted, slots, choice, ids, |slot| {
            let base = self.first() + slot * PREFIX_ADDRESSES;
            let prefix = Ipv4Net::new(Ipv4Addr::from(base), PREFIX_LENGTH).ok()?;
            (self.is_usable_prefix(prefix) && !self.is_base_taken(base)).then_some(prefix)
        })
    }
}

/// Picks `wanted` of the `size` places for which `free` has something.
fn pick<T>(
    wanted: u32,
    size: u32,
    choice: AddressChoice,
    ids: &mut IdSource,
    free: impl Fn(u32) -> Option<T>,
) -> Option<Vec<T>> {
    let mut places: Vec<u32> = (0..size).filter(|&place| free(place).is_some()).collect();
    let wanted = usize::try_from(wanted).ok()?;
    if places.len() < wanted {
        return None;
    }
    if choice == AddressChoice::Random {
        for at in 0..wanted {
            let rest = u32::try_from(places.len() - at).ok()?;
            let other = at + usize::try_from(ids.below(rest)).ok()?;
            places.swap(at, other);
        }
    }
    places.into_iter().take(wanted).map(free).collect()
}

fn count(set: &BTreeSet<u32>) -> u32 {
    u32::try_from(set.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(block: &str) -> Space {
        Space::new(block.parse().unwrap())
    }

    /// VPC user guide, "Subnet sizing": the first four addresses and the last one of each block are not available.
    #[test]
    fn five_addresses_of_a_subnet_are_reserved() {
        for (block, free) in [("10.0.0.0/24", 251), ("10.0.0.0/28", 11), ("10.0.0.0/16", 65_531)] {
            assert_eq!(space(block).free(), free, "{block}");
        }
        let space = space("10.0.0.0/24");
        for (address, reserved) in
            [("10.0.0.0", true), ("10.0.0.3", true), ("10.0.0.4", false), ("10.0.0.254", false), ("10.0.0.255", true)]
        {
            assert_eq!(space.is_reserved(address.parse().unwrap()), reserved, "{address}");
        }
    }

    #[test]
    fn a_slash_24_yields_fourteen_prefixes_and_a_slash_28_none() {
        let mut ids = IdSource::new(1);
        assert!(space("10.0.0.0/24").pick_prefixes(15, AddressChoice::Random, &mut ids).is_none());
        let prefixes = space("10.0.0.0/24").pick_prefixes(14, AddressChoice::Lowest, &mut ids).unwrap();
        assert_eq!(prefixes[0].to_string(), "10.0.0.16/28");
        assert_eq!(prefixes[13].to_string(), "10.0.0.224/28");
        assert!(space("10.0.0.0/28").pick_prefixes(1, AddressChoice::Lowest, &mut ids).is_none());
    }

    #[test]
    fn one_address_keeps_a_prefix_from_being_handed_out() {
        let (mut space, mut ids) = (space("10.0.0.0/26"), IdSource::new(1));
        space.take_address("10.0.0.20".parse().unwrap());
        space.take_address("10.0.0.40".parse().unwrap());
        assert!(space.pick_prefixes(1, AddressChoice::Random, &mut ids).is_none());
        assert_eq!(space.free(), 59 - 2);
    }

    #[test]
    fn picked_addresses_are_distinct_and_free() {
        let (mut space, mut ids) = (space("10.0.0.0/28"), IdSource::new(3));
        space.take_address("10.0.0.5".parse().unwrap());
        let picked = space.pick_addresses(10, AddressChoice::Random, &mut ids).unwrap();
        assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), 10);
        assert!(!picked.iter().any(|address| space.is_reserved(*address) || space.is_taken(*address)));
        assert!(space.pick_addresses(11, AddressChoice::Random, &mut ids).is_none());
    }
}
