// SPDX-License-Identifier: Apache-2.0
//! The node's own set-up: the nft table as `nft` sees it, nothing written twice, atomic changes, removal.

use std::net::Ipv4Addr;

use crate::apply::netlink::Socket;
use crate::apply::testbed::{Space, wait_for_carrier};
use crate::apply::{ApplyError, host, nftables, uninstall};
use crate::plan::host::{Families, HostSetup, Layout, PortChoice, PortRange};
use crate::plan::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, NftTable, Statement, Transport, Within};
use crate::plan::{Family, Mark, ids, snat};

const MAC: &str = "02:00:0a:00:00:0a";

pub(super) fn setup() -> HostSetup {
    HostSetup {
        primary_mac: MAC.parse().unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 0, 10),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "100.64.0.0/10".parse().unwrap()],
        exclude_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "10.0.128.0/17".parse().unwrap()],
        include_cidrs: Vec::new(),
        external_service_cidrs: Vec::new(),
        external_snat: false,
        serves_node_ports: true,
        port_choice: PortChoice::Prng,
        port_range: None,
        connmark: ids::DEFAULT_CONNMARK,
        veth_prefix: "eni".to_owned(),
        mtu: 9001,
        layout: Layout::Classic,
        eni_mark_mask: ids::DEFAULT_ENI_MARK_MASK,
        external_mtu: None,
        families: Families::V4,
        disables_early_demux: false,
        notrack: false,
    }
}

pub(super) fn node() -> Space {
    let node = Space::enter_new();
    node.ip(&format!("link add eth0 address {MAC} type veth peer name far mtu 9001"));
    node.ip("link set far up");
    node
}

/// Counters and handles set aside.
fn listing(node: &Space) -> String {
    let text = node.nft("list table ip enid");
    let mut words = text.split(' ').collect::<Vec<_>>();
    while let Some(at) = words.iter().position(|word| *word == "packets") {
        words.drain(at..at + 4);
    }
    words.join(" ")
}

#[test]
fn the_table_is_what_the_plan_prints() {
    let node = node();
    let choices = [PortChoice::Prng, PortChoice::HashRandom, PortChoice::None];
    let ranges =
        [None, Some((1024, 65535)), Some((7, 7))].map(|range| range.map(|(first, last)| PortRange { first, last }));
    for (port_choice, port_range) in choices.into_iter().flat_map(|choice| ranges.map(|range| (choice, range))) {
        let include_cidrs = if port_range.is_some() { vec!["198.51.100.0/24".parse().unwrap()] } else { Vec::new() };
        let notrack = port_range.is_some();
        let setup = HostSetup { port_choice, port_range, include_cidrs, notrack, ..setup() };
        host::setup(&setup).unwrap();
        let ours = listing(&node);
        // The text that the plan prints, loaded by nft itself, gives the same listing.
        node.nft_text(&snat::table(&setup).transaction());
        assert_eq!(ours, listing(&node));
        node.nft("delete table ip enid");
    }
}

#[test]
fn a_table_of_ipv6_is_what_the_plan_prints_and_is_read_back() {
    let node = node();
    let blocks = ["fd00::/8", "2001:db8::/32", "ffff:ffff::/32"].map(|block| block.parse().unwrap());
    let table = NftTable {
        family: Family::V6,
        name: "enid6",
        sets: vec![NftSet::new("near", Family::V6, blocks), NftSet::new("none", Family::V6, [])],
        memories: Vec::new(),
        branches: Vec::new(),
        chains: vec![NftChain {
            name: "out",
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: 110,
            rules: vec![NftRule {
                purpose: "p",
                matches: vec![
                    Match::Transport(Transport::Tcp),
                    Match::Destination(Family::V6, Within::Outside("near")),
                    Match::Destination(Family::V6, Within::Inside("none")),
                ],
                statements: vec![Statement::Snat {
                    to: "2001:db8::1".parse().unwrap(),
                    range: Some(PortRange { first: 1024, last: 2047 }),
                    ports: PortChoice::Prng,
                }],
            }],
        }],
    };
    let mut socket = Socket::netfilter().unwrap();
    nftables::replace(&mut socket, &table).unwrap();
    let ours = node.nft("list table ip6 enid6");
    node.nft_text(&table.transaction());
    assert_eq!(node.nft("list table ip6 enid6"), ours);
    let found = nftables::observe(&mut socket, Family::V6, "enid6").unwrap().unwrap();
    let wanted = table.sets.iter().map(|set| (set.name.to_owned(), Some(set.blocks.clone()))).collect::<Vec<_>>();
    assert_eq!(found.sets, wanted);
    nftables::remove(&mut socket, Family::V6, "enid6").unwrap();
    assert_eq!(node.nft("list ruleset"), "");
}

#[test]
fn a_listing_of_the_table_can_be_loaded_again() {
    let node = node();
    for notrack in [false, true] {
        let setup = HostSetup { notrack, ..setup() };
        host::setup(&setup).unwrap();
        let text = node.nft("-s list table ip enid");
        node.nft("delete table ip enid");
        node.nft_text(&text);
        assert_eq!(node.nft("-s list table ip enid"), text);
        // And is recognised: nothing to write, no counter reset.
        let handles = node.nft("-a list table ip enid");
        assert_eq!(host::setup(&setup).unwrap().ops, []);
        assert_eq!(node.nft("-a list table ip enid"), handles);
    }
}

#[test]
fn rule_forwarding_mtu_and_rp_filter_are_set_and_proven() {
    let node = node();
    node.sysctl("ipv4/ip_forward", "0");
    node.sysctl("ipv4/conf/all/rp_filter", "1");
    host::setup(&setup()).unwrap();
    assert_eq!(node.sysctl_value("ipv4/ip_forward"), "1");
    assert_eq!(node.sysctl_value("ipv4/conf/eth0/rp_filter"), "2");
    assert!(node.ip("link show dev eth0").contains("mtu 9001"));
    assert!(node.ip("rule").contains("1024:\tfrom all fwmark 0x80/0x80 lookup main proto 158"));
}

#[test]
fn what_is_right_already_is_left_alone() {
    let node = node();
    host::setup(&setup()).unwrap();
    wait_for_carrier(&node, "eth0");
    let before = (node.nft("-a list table ip enid"), node.dump());
    host::setup(&setup()).unwrap();
    assert_eq!((node.nft("-a list table ip enid"), node.dump()), before);
}

#[test]
fn a_new_vpc_block_changes_the_set_and_no_rule() {
    let node = node();
    host::setup(&setup()).unwrap();
    let handles =
        |text: &str| text.lines().filter(|line| line.contains("comment")).map(str::to_owned).collect::<Vec<_>>();
    let before = handles(&node.nft("-a list table ip enid"));
    let mut more = setup();
    more.vpc_cidrs.push("172.20.0.0/16".parse().unwrap());
    host::setup(&more).unwrap();
    let after = node.nft("-a list table ip enid");
    assert_eq!(handles(&after), before);
    assert!(after.contains("172.20.0.0/16"), "{after}");
    host::setup(&setup()).unwrap();
    assert!(!node.nft("list table ip enid").contains("172.20.0.0/16"));
}

#[test]
fn everything_as_a_block_is_taken() {
    let node = node();
    let all = HostSetup { exclude_cidrs: vec!["0.0.0.0/0".parse().unwrap()], ..setup() };
    host::setup(&all).unwrap();
    assert!(node.nft("list set ip enid not_translated").contains("0.0.0.0/0"));
    let high = HostSetup { exclude_cidrs: vec!["240.0.0.0/4".parse().unwrap()], ..setup() };
    host::setup(&high).unwrap();
    let before = node.nft("-a list table ip enid");
    host::setup(&high).unwrap();
    assert_eq!(node.nft("-a list table ip enid"), before);
}

#[test]
fn what_others_do_to_our_table_is_put_right() {
    let node = node();
    host::setup(&setup()).unwrap();
    let whole = listing(&node);
    for damage in [
        "flush chain ip enid source_address",
        "add chain ip enid stranger",
        "add rule ip enid connection_marks counter",
        "delete element ip enid not_translated { 100.64.0.0/10 }",
        "flush table ip enid",
        "delete table ip enid",
    ] {
        node.nft(damage);
        host::setup(&setup()).unwrap();
        assert_eq!(listing(&node), whole, "{damage}");
    }
    node.ip("rule del priority 1024");
    node.sysctl("ipv4/conf/eth0/rp_filter", "1");
    host::setup(&setup()).unwrap();
    assert!(node.ip("rule").contains("1024:"));
    assert_eq!(node.sysctl_value("ipv4/conf/eth0/rp_filter"), "2");
}

#[test]
fn a_changed_mark_takes_our_old_rule_away_and_nobody_else_s() {
    let node = node();
    node.ip("rule add priority 1024 fwmark 0x1 lookup 99");
    host::setup(&setup()).unwrap();
    host::setup(&HostSetup { connmark: Mark { value: 0x100, mask: 0x100 }, ..setup() }).unwrap();
    let rules = node.ip("rule list priority 1024");
    assert!(rules.contains("fwmark 0x100/0x100 lookup main") && rules.contains("fwmark 0x1 lookup 99"), "{rules}");
    assert!(!rules.contains("0x80"), "{rules}");
}

#[test]
fn rules_of_external_services_come_and_go_with_the_list() {
    let node = node();
    // As the reference writes them, without a protocol, and somebody else's.
    node.ip("rule add priority 1535 to 10.8.0.0/16 lookup main");
    node.ip("rule add priority 1535 to 10.7.0.0/16 lookup main protocol static");
    let with = |blocks: &[&str]| HostSetup {
        external_service_cidrs: blocks.iter().map(|block| block.parse().unwrap()).collect(),
        ..setup()
    };
    let rules = || node.ip("rule list priority 1535").replace(" \n", "\n");
    host::setup(&with(&["172.20.0.0/16", "172.21.0.7/32"])).unwrap();
    assert_eq!(
        rules(),
        "1535:\tfrom all to 10.7.0.0/16 lookup main proto static\n\
         1535:\tfrom all to 172.20.0.0/16 lookup main proto 158\n\
         1535:\tfrom all to 172.21.0.7 lookup main proto 158\n"
    );
    host::setup(&with(&["172.21.0.7/32"])).unwrap();
    assert!(!rules().contains("172.20.0.0") && rules().contains("172.21.0.7"), "{}", rules());
    uninstall::remove(uninstall::Counted::Dependent).unwrap();
    assert_eq!(rules(), "1535:\tfrom all to 10.7.0.0/16 lookup main proto static\n");
}

#[test]
fn other_tables_are_not_touched() {
    let node = node();
    node.nft("add table ip other");
    node.nft("add chain ip other source_address");
    node.nft("add rule ip other source_address counter drop");
    node.nft("add table inet enid");
    let before = (node.nft("list table ip other"), node.nft("list table inet enid"));
    host::setup(&setup()).unwrap();
    uninstall::remove(uninstall::Counted::Dependent).unwrap();
    assert_eq!((node.nft("list table ip other"), node.nft("list table inet enid")), before);
}

#[test]
fn without_snat_and_node_ports_only_dead_pods_are_handled() {
    let node = node();
    host::setup(&setup()).unwrap();
    let external = HostSetup { external_snat: true, serves_node_ports: false, vpc_cidrs: Vec::new(), ..setup() };
    host::setup(&external).unwrap();
    let text = node.nft("list table ip enid");
    assert!(text.contains("chain dead_pods") && !text.contains("nat") && !text.contains("set "), "{text}");
    let before = node.nft("-a list table ip enid");
    host::setup(&external).unwrap();
    assert_eq!(node.nft("-a list table ip enid"), before);
}

#[test]
fn snat_without_a_vpc_block_is_refused() {
    let node = node();
    let error = host::setup(&HostSetup { vpc_cidrs: Vec::new(), ..setup() }).unwrap_err();
    assert!(matches!(error, ApplyError::Invalid { .. }), "{error}");
    assert_eq!(node.nft("list ruleset"), "");
}

#[test]
fn a_refused_transaction_changes_nothing_and_says_which_operation() {
    let node = node();
    host::setup(&setup()).unwrap();
    let before = node.nft("-a list table ip enid");
    let mut table = snat::table(&setup());
    // Nat chains cannot run before conntrack (-200).
    let chain = table.chains.iter_mut().find(|chain| chain.name == "source_address").unwrap();
    chain.priority = -300;
    let error = nftables::replace(&mut Socket::netfilter().unwrap(), &table).unwrap_err();
    assert!(error.to_string().starts_with("nft add chain ip enid source_address"), "{error}");
    assert_eq!(node.nft("-a list table ip enid"), before);
}

#[test]
fn the_plan_s_own_text_does_the_same_when_a_shell_runs_it() {
    let node = node();
    node.sysctl("ipv4/ip_forward", "0");
    node.shell(&crate::plan::host::setup(&setup()).to_string());
    wait_for_carrier(&node, "eth0");
    let before = (node.nft("-a list table ip enid"), node.dump());
    host::setup(&setup()).unwrap();
    assert_eq!((node.nft("-a list table ip enid"), node.dump()), before);
}
