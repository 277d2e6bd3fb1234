// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use super::*;

fn space(block: &str) -> Space {
    Space::new(block.parse().unwrap())
}

fn reserve(space: &mut Space, cidr: &str, kind: ReservationType) {
    space.reservations_mut().push(CidrReservation {
        id: format!("scr-{cidr}"),
        cidr: cidr.parse().unwrap(),
        kind,
        description: String::new(),
        tags: crate::state::Tags::new(),
    });
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
    assert_eq!(space("10.0.0.0/24").pick_prefixes(14, AddressChoice::Random, &mut ids).unwrap().len(), 14);
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

#[test]
fn every_free_address_is_picked_about_as_often_as_any_other() {
    let mut space = space("10.0.0.0/27");
    for taken in 4..12 {
        space.take_address(Ipv4Addr::new(10, 0, 0, taken));
    }
    let mut ids = IdSource::new(11);
    let mut often = std::collections::BTreeMap::<Ipv4Addr, u32>::new();
    for _ in 0..19_000 {
        let picked = space.pick_addresses(1, AddressChoice::Random, &mut ids).unwrap();
        *often.entry(picked[0]).or_default() += 1;
    }
    assert_eq!(often.len(), 19, "27 usable less 8");
    assert!(often.values().all(|times| (800..1_200).contains(times)), "{often:?}");
}

#[test]
fn a_full_subnet_is_found_full_and_its_last_address_is_found() {
    let (mut space, mut ids) = (space("10.0.0.0/22"), IdSource::new(5));
    let last: Ipv4Addr = "10.0.2.77".parse().unwrap();
    for bits in space.first()..=space.last() {
        let address = Ipv4Addr::from(bits);
        if !space.is_reserved(address) && address != last {
            space.take_address(address);
        }
    }
    assert_eq!(space.pick_addresses(1, AddressChoice::Random, &mut ids), Some(vec![last]));
    space.take_address(last);
    assert_eq!((space.free(), space.pick_addresses(1, AddressChoice::Random, &mut ids)), (0, None));
}

/// VPC user guide, "Subnet CIDR reservations".
#[test]
fn single_addresses_come_from_outside_both_kinds_of_reservation() {
    for choice in [AddressChoice::Random, AddressChoice::Lowest] {
        let (mut space, mut ids) = (space("10.0.0.0/26"), IdSource::new(2));
        reserve(&mut space, "10.0.0.0/28", ReservationType::Explicit);
        reserve(&mut space, "10.0.0.16/28", ReservationType::Prefix);
        let picked = space.pick_addresses(31, choice, &mut ids).unwrap();
        assert!(picked.iter().all(|address| address.octets()[3] >= 32), "{picked:?}");
        assert_eq!(space.pick_addresses(32, choice, &mut ids), None, "59 are free, 31 of them unreserved");
        assert_eq!(space.free(), 59);
    }
}

#[test]
fn prefixes_come_from_their_reservation_first_and_never_from_an_explicit_one() {
    for choice in [AddressChoice::Random, AddressChoice::Lowest] {
        let (mut space, mut ids) = (space("10.0.0.0/24"), IdSource::new(2));
        reserve(&mut space, "10.0.0.128/26", ReservationType::Prefix);
        reserve(&mut space, "10.0.0.64/26", ReservationType::Explicit);
        let picked = space.pick_prefixes(4, choice, &mut ids).unwrap();
        assert!(picked.iter().all(|prefix| (128..192).contains(&prefix.addr().octets()[3])), "{picked:?}");
        // 14 in all, 4 set aside for explicit requests.
        let all = space.pick_prefixes(10, choice, &mut ids).unwrap();
        assert!(all.iter().all(|prefix| !(64..128).contains(&prefix.addr().octets()[3])), "{all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 10);
        assert_eq!(space.pick_prefixes(11, choice, &mut ids), None);
    }
}
