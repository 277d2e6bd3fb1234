// SPDX-License-Identifier: Apache-2.0
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
        .map(|ports| rule(Statement::Snat { to: Ipv4Addr::LOCALHOST, ports }).comment());
    assert!(comments[0] != comments[1] && comments[1] != comments[2] && comments[0] != comments[2], "{comments:?}");
}

proptest! {
    #[test]
    fn a_set_holds_exactly_the_addresses_of_its_blocks(
        blocks in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..8),
        address in any::<u32>(),
    ) {
        let blocks: Vec<_> =
            blocks.into_iter().map(|(address, length)| Ipv4Net::new(address.into(), length).unwrap()).collect();
        let set = NftSet::new("s", &blocks);
        let address = Ipv4Addr::from(address);
        let is_in = |blocks: &[Ipv4Net]| blocks.iter().any(|block| block.contains(&address));
        prop_assert_eq!(is_in(&set.blocks), is_in(&blocks));
        for pair in set.blocks.windows(2) {
            prop_assert!(pair[0].broadcast() < pair[1].network());
        }
    }
}
