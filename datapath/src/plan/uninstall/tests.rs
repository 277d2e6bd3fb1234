// SPDX-License-Identifier: Apache-2.0
//! What goes and what stays, for a node with two secondary ENIs and pods of every kind.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::plan::host::HostSetup;
use crate::plan::ids::Place;
use crate::plan::model::{Family, Mark, RouteScope};
use crate::plan::{MacAddr, Neighbour, VethAlias, answers};

/// How a pod is plumbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Classic,
    Mark,
    Prefix,
    Reference,
}

const KINDS: [Kind; 4] = [Kind::Classic, Kind::Mark, Kind::Prefix, Kind::Reference];

/// `10.0.<eni>.<number>`; the ENI at a device index has table index + 1 and link 10 + index.
fn address(eni: u32, number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + (eni << 8) + number).into()
}

fn table(eni: u32) -> RouteTable {
    RouteTable(if eni == 0 { 254 } else { eni + 1 })
}

fn rule(priority: u32, from: Option<ipnet::IpNet>, mark: Option<Mark>, table: RouteTable) -> (Rule, u8) {
    (Rule { family: Family::V4, priority, from, to: None, mark, table: Some(table) }, ids::PROTOCOL)
}

fn route(destination: ipnet::IpNet, link: u32, table: RouteTable, protocol: u8) -> Route {
    Route { destination, via: None, link: LinkRef::Index(link), scope: RouteScope::Link, table, protocol }
}

/// A node with ENIs 1 and 2 set up for every layout, and something of others.
fn node() -> (NodeState, Vec<(Address, u8)>) {
    let mut state = NodeState::default();
    let mut addresses = vec![(own_address(0), 0)];
    state.rules = vec![
        (HostSetup::pod_rule(Family::V4), ids::PROTOCOL),
        rule(ids::PRIORITY_MARK, None, Some(ids::DEFAULT_CONNMARK), RouteTable::MAIN),
        (rule(ids::PRIORITY_FROM_POD, Some("10.9.0.0/28".parse().unwrap()), None, RouteTable(9)).0, 0),
    ];
    state.routes = vec![route("10.0.0.0/24".parse().unwrap(), 10, RouteTable::MAIN, 2)];
    for eni in 1..=2 {
        let prefix = format!("10.0.{eni}.0/28").parse().unwrap();
        state.rules.push(rule(ids::PRIORITY_FROM_ENI, Some(address(eni, 250).into()), None, table(eni)));
        let link = |index, group| NodeLink {
            index,
            name: LinkName::new(&format!("eth{eni}")).unwrap(),
            mac: None,
            up: true,
            group,
            mtu: 9001,
            alias: None,
            is_bare_veth: false,
        };
        let place = Place::new(0, eni).unwrap();
        state.links.push(link(10 + eni, place.link_group().unwrap()));
        let mark = answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, place);
        state.rules.push(rule(ids::PRIORITY_ANSWER, None, mark, table(eni)));
        let mark = marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, place);
        state.rules.push(rule(ids::PRIORITY_FROM_POD, None, mark, table(eni)));
        state.rules.push(rule(ids::PRIORITY_FROM_POD, Some(prefix), None, table(eni)));
        let router = address(eni, 1);
        state.routes.push(route(router.into(), 10 + eni, table(eni), ids::PROTOCOL));
        let default = route(Family::V4.everything(), 10 + eni, table(eni), ids::PROTOCOL);
        state.routes.push(Route { via: Some(router), scope: RouteScope::Universe, ..default });
        addresses.push((own_address(eni), ids::PROTOCOL));
    }
    (state, addresses)
}

fn own_address(eni: u32) -> Address {
    let link = LinkRef::Index(10 + eni);
    Address { address: address(eni, 250).into(), link, without_prefix_route: true }
}

/// Adds a pod on an ENI; `group`: of its host veth.
fn add_pod(state: &mut NodeState, kind: Kind, eni: u32, number: u32, is_dead: bool) {
    let address = address(eni, number);
    let IpAddr::V4(v4) = address else { unreachable!("an IPv4 address") };
    let index = 100 * (eni + 1) + number;
    let is_flat = matches!(kind, Kind::Mark | Kind::Prefix);
    let group = if kind == Kind::Mark { Place::new(0, eni).unwrap().group().unwrap_or(0) } else { 0 };
    let alias = VethAlias { owner: format!("aws-cni/pod-{index}/eth0"), addresses: v4.into() };
    state.links.push(NodeLink {
        index,
        name: LinkName::new(&format!("eni{index}")).unwrap(),
        mac: None,
        up: true,
        group: if is_dead { ids::DEAD_GROUP } else { group },
        mtu: 9001,
        alias: (kind != Kind::Reference).then_some(alias),
        is_bare_veth: kind == Kind::Reference,
    });
    let host_table = if is_flat { ids::POD_TABLE } else { RouteTable::MAIN };
    let protocol = if kind == Kind::Reference { 0 } else { ids::PROTOCOL };
    state.routes.push(route(address.into(), index, host_table, protocol));
    if !is_flat {
        state.rules.push((Rule::to_pod(address), protocol));
        // Of the reference's rules repair has put this one back.
        state.rules.extend((eni > 0).then(|| (Rule::from_pod(address, Some(table(eni))), ids::PROTOCOL)));
    }
    if kind != Kind::Reference {
        state.neighbours.push(Neighbour { address, mac: MacAddr([2; 6]), link: LinkRef::Index(index) });
    }
}

fn kept(state: &NodeState, addresses: &[(Address, u8)]) -> Vec<String> {
    let mut kept: Vec<_> = plan(state, addresses, Counted::Dependent).kept.iter().map(ToString::to_string).collect();
    kept.sort();
    kept
}

#[test]
fn of_each_kind_of_pod_on_a_secondary_eni_exactly_its_own_the_node_s_and_its_eni_s_stays() {
    let eni_1 = [
        "ip addr add 10.0.1.250/32 dev if11 noprefixroute",
        "ip link set dev if11 group 58001",
        "ip route add 10.0.1.1/32 dev if11 scope link table 2 proto 158",
        "ip route add default via 10.0.1.1 dev if11 table 2 proto 158",
        "ip rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158",
        "ip rule add priority 1025 from all fwmark 0x18/0x7f lookup 2 protocol 158",
        "ip rule add priority 32765 from 10.0.1.250 lookup 2 protocol 158",
    ];
    let neighbour = "ip neigh replace 10.0.1.7 lladdr 02:02:02:02:02:02 dev if207 nud permanent protocol 158";
    let flat = [
        "ip route add 10.0.1.7/32 dev if207 scope link table 158000 proto 158",
        "ip rule add priority 512 from all lookup 158000 protocol 158",
        neighbour,
    ];
    let from = "ip rule add priority 1536 from 10.0.1.7 lookup 2 protocol 158";
    let classic = [
        "ip route add 10.0.1.7/32 dev if207 scope link table main proto 158",
        "ip rule add priority 512 from all to 10.0.1.7 lookup main protocol 158",
        from,
        neighbour,
    ];
    let by_mark = "ip rule add priority 1536 from all fwmark 0x1/0x7f lookup 2 protocol 158";
    let by_prefix = "ip rule add priority 1536 from 10.0.1.0/28 lookup 2 protocol 158";
    for (kind, own) in [
        (Kind::Classic, classic.to_vec()),
        (Kind::Mark, [&flat[..], &[by_mark]].concat()),
        (Kind::Prefix, [&flat[..], &[by_prefix]].concat()),
        (Kind::Reference, vec![from]),
    ] {
        let (mut state, addresses) = node();
        add_pod(&mut state, kind, 1, 7, false);
        let mut wanted: Vec<_> = eni_1.iter().chain(&own).map(|line| (*line).to_owned()).collect();
        wanted.sort();
        assert_eq!(kept(&state, &addresses), wanted, "{kind:?}");
        assert_eq!(plan(&state, &addresses, Counted::Dependent).pods[0].owner.is_none(), kind == Kind::Reference);
    }
}

#[test]
fn for_a_pod_on_the_primary_eni_no_secondary_one_stays() {
    let (mut state, addresses) = node();
    add_pod(&mut state, Kind::Classic, 0, 7, false);
    let kept = kept(&state, &addresses).join("\n");
    assert!(!kept.contains("10.0.1.") && !kept.contains("10.0.2.") && kept.contains("fwmark 0x80/0x80"), "{kept}");
}

fn is_ours(state: &NodeState, addresses: &[(Address, u8)], op: &Op) -> bool {
    match op {
        Op::OwnRuleDelete(rule) => state.rules.contains(&(rule.clone(), ids::PROTOCOL)),
        Op::RouteDelete(route) => route.protocol == ids::PROTOCOL && state.routes.contains(route),
        Op::NeighbourDelete(neighbour) => state.neighbours.contains(neighbour),
        Op::LinkSet(set) => state.links.iter().any(|link| {
            LinkRef::Index(link.index) == set.link && ids::is_eni_link_group(link.group) && set.group == Some(0)
        }),
        Op::AddressDelete(address) => addresses.contains(&(address.clone(), ids::PROTOCOL)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn all_of_ours_goes_or_stays_and_without_a_living_pod_all_goes(
        pods in prop::collection::vec((0_usize..4, 0_u32..3, 2_u32..14, any::<bool>()), 0..12),
    ) {
        let (mut state, addresses) = node();
        let mut seen = BTreeSet::new();
        let pods: Vec<_> = pods.into_iter().filter(|(_, eni, number, _)| seen.insert((*eni, *number))).collect();
        for (kind, eni, number, is_dead) in &pods {
            add_pod(&mut state, KINDS[*kind], *eni, *number, *is_dead);
        }
        let uninstall = plan(&state, &addresses, Counted::Dependent);
        let routes = state.routes.iter().filter(|route| route.protocol == ids::PROTOCOL).count();
        let rules = state.rules.iter().filter(|(_, protocol)| *protocol == ids::PROTOCOL).count();
        // Addresses and link groups of two ENIs.
        let ours = routes + rules + state.neighbours.len() + 2 + 2;
        prop_assert_eq!(uninstall.removals.len() + uninstall.kept.len(), ours);
        prop_assert!(uninstall.removals.iter().all(|op| is_ours(&state, &addresses, op)));
        prop_assert_eq!(uninstall.pods.is_empty(), uninstall.kept.is_empty());
        // What is left is left again: nothing that stayed depends on what went.
        let left = NodeState {
            rules: state.rules.iter().filter(|(rule, protocol)| {
                *protocol != ids::PROTOCOL || uninstall.kept.contains(&Op::RuleAdd(rule.clone()))
            }).cloned().collect(),
            routes: state.routes.iter().filter(|route| {
                route.protocol != ids::PROTOCOL || uninstall.kept.contains(&Op::RouteAdd((*route).clone()))
            }).cloned().collect(),
            ..state.clone()
        };
        let again: Vec<_> = plan(&left, &addresses, Counted::Dependent).kept;
        prop_assert_eq!(again, uninstall.kept);
    }
}

#[test]
fn another_cni_of_the_kind_is_known_by_its_rules_and_nothing_else_is() {
    let mark = Some(ids::DEFAULT_CONNMARK);
    let marked =
        Rule { priority: ids::PRIORITY_MARK, mark, table: Some(RouteTable::MAIN), ..HostSetup::pod_rule(Family::V4) };
    let of_pod = Rule::from_pod(std::net::Ipv4Addr::new(10, 0, 1, 7), Some(RouteTable(2)));
    let elsewhere = Rule { table: Some(RouteTable(99)), ..marked.clone() };
    for (rule, protocol, is_others) in [
        (&marked, 0, true),
        (&of_pod, 0, true),
        (&marked, ids::PROTOCOL, false),
        (&of_pod, ids::PROTOCOL, false),
        (&elsewhere, 0, false),
    ] {
        let state = NodeState { rules: vec![(rule.clone(), protocol)], ..NodeState::default() };
        assert_eq!(plan(&state, &[], Counted::Dependent).has_others, is_others, "{rule} {protocol}");
    }
}

/// A pod that was taken over: rules, route and link are the reference's, the table that its rule leads to has our routes.
fn add_adopted(state: &mut NodeState, eni: u32, number: u32) {
    add_pod(state, Kind::Reference, eni, number, false);
    let of_pod = address(eni, number);
    for (rule, protocol) in &mut state.rules {
        if rule.priority == ids::PRIORITY_FROM_POD && rule.from == Some(of_pod.into()) {
            *protocol = 0;
        }
    }
}

#[test]
fn a_pod_that_was_taken_over_keeps_its_eni_s_table_though_nothing_of_ours_names_it() {
    let (mut state, addresses) = node();
    add_adopted(&mut state, 1, 7);
    for counted in [Counted::Dependent, Counted::All] {
        let plan = plan(&state, &addresses, counted);
        assert_eq!(plan.pods.iter().map(|pod| pod.address).collect::<Vec<_>>(), [address(1, 7)], "{counted:?}");
        let kept: Vec<_> = plan.kept.iter().map(ToString::to_string).collect();
        assert!(kept.contains(&"ip route add default via 10.0.1.1 dev if11 table 2 proto 158".to_owned()), "{kept:?}");
        assert!(!kept.iter().any(|line| line.contains("10.0.2.")), "{kept:?}");
    }
}

#[test]
fn one_on_the_primary_eni_counts_where_the_node_goes_back() {
    let (mut state, addresses) = node();
    add_adopted(&mut state, 0, 7);
    let kept = |counted| plan(&state, &addresses, counted).kept.len();
    assert_eq!(kept(Counted::Dependent), 0, "its daemon is there, or nobody is");
    assert!(kept(Counted::All) > 0, "its SNAT is ours until aws-node has set the node up");
}
