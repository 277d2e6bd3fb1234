// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::plan::golden;
use crate::plan::nft::NftSet;

fn host() -> HostSetup {
    HostSetup {
        primary_mac: MacAddr([2, 0, 10, 0, 0, 10]),
        primary_address: Ipv4Addr::new(10, 0, 0, 10),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "100.64.0.0/10".parse().unwrap()],
        exclude_cidrs: vec!["192.168.0.0/16".parse().unwrap()],
        external_snat: false,
        port_choice: PortChoice::Prng,
        connmark: ids::DEFAULT_CONNMARK,
        veth_prefix: "eni".to_owned(),
        mtu: 9001,
    }
}

/// A node that is as wanted.
fn settled(host: &HostSetup) -> HostState {
    let table = snat::table(host);
    HostState {
        primary: EniState { up: true, mtu: host.mtu, rp_filter: 2, ..EniState::default() },
        ip_forward: true,
        mark_rules: vec![(host.mark_rule(), true)],
        nft: Some(NftState {
            sets: table.set.iter().map(|set| (set.name.to_owned(), Some(set.blocks.clone()))).collect(),
            chains: table.chains.iter().rev().map(NftChainState::of).collect(),
        }),
    }
}

#[test]
fn the_whole_set_up_prints_as_reviewed() {
    golden::check("host.sh", &setup(&host()).to_string());
}

#[test]
fn the_set_up_with_external_snat_prints_as_reviewed() {
    golden::check("host-external-snat.sh", &setup(&HostSetup { external_snat: true, ..host() }).to_string());
}

#[test]
fn nothing_is_written_when_all_is_as_wanted() {
    for host in [host(), HostSetup { external_snat: true, ..host() }] {
        assert_eq!(diff(&host, &settled(&host)), Plan::default());
    }
}

#[test]
fn a_changed_block_replaces_the_set_only() {
    let mut changed = host();
    changed.vpc_cidrs.push("172.31.0.0/16".parse().unwrap());
    assert_eq!(diff(&changed, &settled(&host())).ops, [Op::NftSetReplace(snat::table(&changed))]);
}

#[test]
fn a_changed_rule_replaces_the_table() {
    let cases: [fn(&mut HostSetup); 5] = [
        |host| host.port_choice = PortChoice::None,
        |host| host.primary_address = Ipv4Addr::new(10, 0, 0, 11),
        |host| host.veth_prefix = "pod".to_owned(),
        |host| host.connmark = Mark { value: 0x100, mask: 0x100 },
        |host| host.external_snat = true,
    ];
    for change in cases {
        let mut changed = host();
        change(&mut changed);
        let ops = diff(&changed, &settled(&host())).ops;
        assert!(ops.contains(&Op::NftReplace(snat::table(&changed))), "{changed:?}: {ops:?}");
    }
}

#[test]
fn a_damaged_table_is_replaced() {
    let damages: [fn(&mut NftState); 5] = [
        |nft| nft.chains[0].comments.clear(),
        |nft| nft.chains[0].comments.push(String::new()),
        |nft| nft.chains[1].hook = "filter hook 0 priority -150 policy 0".to_owned(),
        |nft| drop(nft.chains.pop()),
        |nft| nft.sets.push(("another".to_owned(), None)),
    ];
    for damage in damages {
        let mut state = settled(&host());
        damage(state.nft.as_mut().unwrap());
        assert_eq!(diff(&host(), &state).ops, [Op::NftReplace(snat::table(&host()))]);
    }
}

#[test]
fn overlapping_and_unaligned_blocks_become_disjoint_ones() {
    let blocks = ["10.0.1.7/16", "10.0.128.0/17", "10.1.0.0/16", "192.168.1.0/24"].map(|block| block.parse().unwrap());
    let wanted = ["10.0.0.0/15", "192.168.1.0/24"].map(|block| block.parse().unwrap());
    assert_eq!(NftSet::new("s", &blocks).blocks, wanted);
}

#[test]
fn the_mark_rule_holds_our_bits_only() {
    let host = HostSetup { connmark: Mark { value: 0xff, mask: 0x80 }, ..host() };
    assert_eq!(host.mark_rule().to_string(), "priority 1024 from all fwmark 0x80/0x80 lookup main");
}
