// SPDX-License-Identifier: Apache-2.0
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;

fn rule(statement: Statement) -> NftRule {
    NftRule { purpose: "p", matches: vec![Match::InputPrefix("eni".to_owned())], statements: vec![statement] }
}

#[test]
fn only_our_bits_of_a_mark_are_written() {
    let mark = Mark { value: 0x80, mask: 0x80 };
    assert_eq!(Statement::SetPacketMark(mark).to_string(), "meta mark set meta mark & 0xffffff7f ^ 0x00000080");
    let stray = Mark { value: 0xffff_ffff, mask: 0x80 };
    assert_eq!(Statement::SetConnectionMark(stray).to_string(), "ct mark set ct mark & 0xffffff7f ^ 0x00000080");
}

#[test]
fn two_rules_with_one_purpose_have_different_comments() {
    let comments = [PortChoice::Prng, PortChoice::HashRandom, PortChoice::None]
        .map(|ports| rule(Statement::Snat { to: Ipv4Addr::LOCALHOST.into(), range: None, ports }).comment());
    assert!(comments[0] != comments[1] && comments[1] != comments[2] && comments[0] != comments[2], "{comments:?}");
}

#[test]
fn a_range_of_ports_is_written_behind_either_kind_of_address() {
    let text = |to: &str, first, last| {
        let range = Some(PortRange { first, last });
        Statement::Snat { to: to.parse().unwrap(), range, ports: PortChoice::Prng }.to_string()
    };
    assert_eq!(text("10.0.0.1", 1024, 2047), "snat to 10.0.0.1:1024-2047 fully-random");
    assert_eq!(text("2001:db8::1", 7, 7), "snat to [2001:db8::1]:7 fully-random");
}

#[test]
fn a_set_takes_blocks_of_its_table_s_family_only() {
    let blocks = ["10.0.0.0/16", "fd00::1/64", "10.1.0.0/16"].map(|block| block.parse::<IpNet>().unwrap());
    assert_eq!(NftSet::new("s", Family::V4, blocks).blocks, ["10.0.0.0/15".parse().unwrap()]);
    assert_eq!(NftSet::new("s", Family::V6, blocks).blocks, ["fd00::/64".parse().unwrap()]);
}

proptest! {
    #[test]
    fn a_set_holds_exactly_the_addresses_of_its_blocks(
        blocks in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..8),
        address in any::<u32>(),
    ) {
        let blocks: Vec<_> =
            blocks.into_iter().map(|(address, length)| Ipv4Net::new(address.into(), length).unwrap()).collect();
        let blocks: Vec<IpNet> = blocks.into_iter().map(IpNet::V4).collect();
        let set = NftSet::new("s", Family::V4, blocks.clone());
        let address = IpAddr::V4(address.into());
        let is_in = |blocks: &[IpNet]| blocks.iter().any(|block| block.contains(&address));
        prop_assert_eq!(is_in(&set.blocks), is_in(&blocks));
        for pair in set.blocks.windows(2) {
            prop_assert!(pair[0].broadcast() < pair[1].network());
        }
    }
}
