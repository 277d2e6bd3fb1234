// SPDX-License-Identifier: Apache-2.0
//! Damage done to a model of the node's namespace, and what the difference makes of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::plan::ids::Place;
use crate::plan::repair::Object;
use crate::plan::{Family, RouteScope};

const PRIMARY: u32 = 2;

fn pod(number: u8, table: Option<u32>) -> LivePod {
    LivePod {
        owner: format!("aws-cni/pod-{number}/eth0"),
        host_veth: Some(veth(number)),
        addresses: Ipv4Addr::new(10, 0, 1, number).into(),
        eni_table: table.map(RouteTable),
        layout: PodLayout::Classic,
    }
}

/// The same pod in layout flat, by its ENI's mark where it is on a secondary one.
fn flat(pod: LivePod) -> LivePod {
    let group = pod.eni_table.map_or(ids::DEFAULT_GROUP, |table| 158_000 + table.0 - 1);
    LivePod { layout: PodLayout::Flat { table: ids::POD_TABLE, group }, ..pod }
}

/// What a node in layout flat has besides its pods: the rule to their table, and one for the mark of each ENI.
fn steering() -> Vec<(Rule, u8)> {
    let by_mark = |table: u32| Rule {
        family: Family::V4,
        priority: ids::PRIORITY_FROM_POD,
        from: None,
        to: None,
        mark: crate::plan::marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, table - 1).unwrap()),
        table: Some(RouteTable(table)),
    };
    let rules = (2..6).map(by_mark).chain([crate::plan::host::HostSetup::pod_rule(Family::V4)]);
    rules.map(|rule| (rule, 200)).collect()
}

fn veth(number: u8) -> LinkName {
    LinkName::new(&format!("eni{number:011x}")).unwrap()
}

/// The block of one address.
fn host(addresses: impl Into<PodAddresses>) -> IpNet {
    addresses.into().iter().next().unwrap().into()
}

fn index(number: u8) -> u32 {
    100 + u32::from(number)
}

fn link(number: u8, pod: &LivePod) -> NodeLink {
    NodeLink {
        index: index(number),
        name: veth(number),
        mac: Some(MacAddr::of_host_end(&pod.owner)),
        up: true,
        group: 0,
        mtu: 9001,
        alias: Some(VethAlias { owner: pod.owner.clone(), addresses: pod.addresses }),
        is_bare_veth: false,
    }
}

/// A node without anything of ours: its primary link, the kernel's rules, somebody's rule and route.
fn bare_node() -> NodeState {
    let eth0 = NodeLink {
        index: PRIMARY,
        name: LinkName::new("eth0").unwrap(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        up: true,
        group: 0,
        mtu: 9001,
        alias: None,
        is_bare_veth: false,
    };
    let main =
        Rule { family: Family::V4, priority: 32766, from: None, to: None, mark: None, table: Some(RouteTable::MAIN) };
    let foreign = Rule { priority: 600, ..Rule::to_pod(Ipv4Addr::new(10, 0, 9, 9)) };
    let route = Route {
        protocol: 4,
        ..pod::host_route(Ipv4Addr::new(10, 0, 9, 9).into(), LinkRef::Index(PRIMARY), RouteTable::MAIN)
    };
    NodeState { links: vec![eth0], routes: vec![route], rules: vec![(main, 2), (foreign, 0)], ..NodeState::default() }
}

/// The kernel's part: carries out what the difference says.
fn run(state: &mut NodeState, op: &Op) {
    match op {
        Op::LinkSet(set) => {
            let LinkRef::Index(index) = set.link else { panic!("{op}") };
            let link = state.links.iter_mut().find(|link| link.index == index).expect("a link that is there");
            if set.mac.is_some() {
                link.mac = set.mac;
                state.neighbours.retain(|neighbour| neighbour.link != set.link);
            }
            link.up |= set.up;
            link.group = set.group.unwrap_or(link.group);
        }
        Op::RouteAdd(route) => {
            let taken =
                state.routes.iter().any(|found| (found.table, found.destination) == (route.table, route.destination));
            assert!(!taken, "EEXIST: {op}");
            state.routes.push(route.clone());
        }
        Op::RouteReplace(route) => {
            state.routes.retain(|found| (found.table, found.destination) != (route.table, route.destination));
            state.routes.push(route.clone());
        }
        Op::NeighbourSet(neighbour) => {
            state.neighbours.retain(|found| (&found.link, found.address) != (&neighbour.link, neighbour.address));
            state.neighbours.push(neighbour.clone());
        }
        Op::RuleAdd(rule) => state.rules.push((rule.clone(), ids::PROTOCOL)),
        Op::RuleDelete(rule) => {
            let at = state.rules.iter().position(|(found, _)| found == rule).expect("a rule that is there");
            state.rules.remove(at);
        }
        Op::OwnRuleDelete(rule) => state.rules.retain(|found| *found != (rule.clone(), ids::PROTOCOL)),
        Op::RouteDelete(route) => state.routes.retain(|found| found != route),
        Op::NeighbourDelete(neighbour) => state.neighbours.retain(|found| found != neighbour),
        other => panic!("{other} is no write of a pod's repair"),
    }
}

fn repair(pods: &[LivePod], state: &mut NodeState) -> Vec<Repair> {
    let repairs = diff(pods, state);
    repairs.iter().for_each(|repair| run(state, &repair.op));
    repairs
}

/// A node with these pods plumbed.
fn node(pods: &[(u8, LivePod)]) -> NodeState {
    let mut state = bare_node();
    for (number, pod) in pods {
        state.links.push(link(*number, pod));
    }
    let all: Vec<_> = pods.iter().map(|(_, pod)| pod.clone()).collect();
    repair(&all, &mut state);
    state
}

fn kinds(repairs: &[Repair]) -> Vec<(Object, Fault)> {
    repairs.iter().map(|repair| (repair.object, repair.fault)).collect()
}

#[test]
fn a_pod_that_is_as_attached_needs_nothing() {
    let pods = [(1, pod(1, Some(2))), (2, pod(2, None))];
    let state = node(&pods);
    assert_eq!(diff(&[pods[0].1.clone(), pods[1].1.clone()], &state), []);
    assert_eq!(state.rules.len(), 2 + 3, "to and from of the first, to of the second");
}

#[test]
fn a_flushed_table_of_rules_comes_back_rule_by_rule() {
    let pods = [(1, pod(1, Some(2))), (2, pod(2, None))];
    let mut state = node(&pods);
    let whole = state.clone();
    state.rules.clear();
    let repairs = repair(&[pods[0].1.clone(), pods[1].1.clone()], &mut state);
    assert_eq!(kinds(&repairs), [(Object::Rule, Fault::Missing); 3]);
    assert_eq!(state.rules, whole.rules[2..]);
}

#[test]
fn another_mac_is_put_back_and_the_neighbour_after_it() {
    let pods = [(1, pod(1, None))];
    let mut state = node(&pods);
    state.links[1].mac = Some(MacAddr([2, 9, 9, 9, 9, 9]));
    let repairs = repair(&[pods[0].1.clone()], &mut state);
    assert_eq!(kinds(&repairs), [(Object::Link, Fault::Changed), (Object::Neighbour, Fault::Missing)]);
    assert_eq!(diff(&[pods[0].1.clone()], &state), []);
}

#[test]
fn a_route_that_somebody_bent_leads_to_the_pod_again() {
    let pods = [(1, pod(1, None))];
    let mut state = node(&pods);
    let at = state.routes.iter().position(|route| route.destination == host(pods[0].1.addresses)).unwrap();
    state.routes[at].link = LinkRef::Index(PRIMARY);
    state.routes[at].protocol = 3;
    let repairs = repair(&[pods[0].1.clone()], &mut state);
    assert_eq!(kinds(&repairs), [(Object::Route, Fault::Changed)]);
    assert_eq!(state.routes[at].link, LinkRef::Index(index(1)));
}

#[test]
fn a_route_to_another_live_pod_with_the_same_address_is_not_taken_from_it() {
    let twin = LivePod { owner: "aws-cni/twin/eth0".to_owned(), ..pod(1, None) };
    let pods = [(1, pod(1, None)), (2, twin)];
    let mut state = node(&pods[..1]);
    state.links.push(link(2, &pods[1].1));
    repair(&[pods[1].1.clone()], &mut state);
    let at = state.routes.iter().position(|route| route.destination == host(pods[0].1.addresses)).unwrap();
    state.routes[at].link = LinkRef::Index(index(2));
    assert_eq!(diff(&[pods[0].1.clone(), pods[1].1.clone()], &state), []);
}

#[test]
fn nothing_is_put_back_for_a_pod_that_is_dead_or_whose_alias_names_another_address() {
    let dead = [(1, pod(1, Some(2)))];
    let mut state = node(&dead);
    (state.rules, state.routes, state.neighbours) = (vec![], vec![], vec![]);
    state.links[1].group = ids::DEAD_GROUP;
    assert_eq!(diff(&[dead[0].1.clone()], &state), []);
    state.links[1].group = 0;
    state.links[1].alias.as_mut().unwrap().addresses = Ipv4Addr::new(10, 0, 1, 77).into();
    assert_eq!(diff(&[dead[0].1.clone()], &state), []);
}

#[test]
fn a_pod_of_the_reference_gets_route_and_rules_back_and_keeps_its_mac() {
    let pods = [(1, pod(1, Some(2)))];
    let mut state = bare_node();
    let bare = NodeLink { alias: None, is_bare_veth: true, mac: Some(MacAddr([6; 6])), ..link(1, &pods[0].1) };
    state.links.push(bare);
    let repairs = repair(&[pods[0].1.clone()], &mut state);
    let rule = (Object::Rule, Fault::Missing);
    assert_eq!(kinds(&repairs), [(Object::Route, Fault::Missing), rule, rule]);
    // Rules that the reference made are as good as ours.
    state.rules.iter_mut().for_each(|(_, protocol)| *protocol = 0);
    assert_eq!(diff(&[pods[0].1.clone()], &state), []);
}

#[test]
fn a_rule_to_the_table_of_another_eni_gives_way() {
    let pods = [(1, pod(1, Some(2)))];
    let mut state = node(&pods);
    let moved = LivePod { eni_table: Some(RouteTable(5)), ..pods[0].1.clone() };
    let repairs = repair(std::slice::from_ref(&moved), &mut state);
    assert_eq!(kinds(&repairs), [(Object::Rule, Fault::Missing), (Object::Rule, Fault::Stale)]);
    assert_eq!(diff(&[moved], &state), []);
}

/// A packet to the pod finds its link, and one from it its ENI's table, by the rules and routes there are.
fn carries(state: &NodeState, pod: &LivePod) -> bool {
    let Some(link) = state.links.iter().find(|link| link.alias.as_ref().is_some_and(|alias| alias.owner == pod.owner))
    else {
        return false;
    };
    let block = host(pod.addresses);
    let routed = |table| {
        state
            .routes
            .iter()
            .any(|route| (route.table, route.destination, &route.link) == (table, block, &LinkRef::Index(link.index)))
    };
    let looks_up = |found: &dyn Fn(&Rule) -> bool| state.rules.iter().map(|(rule, _)| rule).any(found);
    let to_pod = looks_up(&|rule| rule.to == Some(block)) && routed(RouteTable::MAIN);
    let to_pods =
        looks_up(&|rule| *rule == crate::plan::host::HostSetup::pod_rule(Family::V4)) && routed(ids::POD_TABLE);
    let mark = Place::new(0, link.group.saturating_sub(158_000))
        .ok()
        .and_then(|place| crate::plan::marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, place));
    let leaves = pod.eni_table.is_none_or(|table| {
        looks_up(&|rule| {
            rule.table == Some(table) && (rule.from == Some(block) || (mark.is_some() && rule.mark == mark))
        })
    });
    (to_pod || to_pods) && leaves
}

#[test]
fn a_pod_that_changes_layout_can_be_reached_and_leaves_by_its_eni_after_every_single_write() {
    for table in [None, Some(2)] {
        for (first, then) in [(pod(1, table), flat(pod(1, table))), (flat(pod(1, table)), pod(1, table))] {
            let mut state = bare_node();
            state.rules.extend(steering());
            state.links.push(link(1, &first));
            repair(std::slice::from_ref(&first), &mut state);
            let repairs = diff(std::slice::from_ref(&then), &state);
            assert!(repairs.len() >= 3, "{repairs:?}");
            for Repair { op, .. } in &repairs {
                assert!(carries(&state, &then), "before {op}");
                run(&mut state, op);
            }
            assert!(carries(&state, &then));
            assert_eq!(diff(std::slice::from_ref(&then), &state), []);
            let own = |rule: &Rule| rule.to == Some(host(then.addresses)) || rule.from == Some(host(then.addresses));
            let rules = state.rules.iter().filter(|(rule, _)| own(rule)).count();
            let wanted = attachment(&then, &state.links[1]).objects();
            assert_eq!((rules, state.links[1].group), (wanted.rules.len(), wanted.group));
        }
    }
}

#[test]
fn a_pod_waits_with_its_new_layout_for_the_rules_of_its_eni() {
    let (classic, flat) = (pod(1, Some(2)), flat(pod(1, Some(2))));
    let mut state = node(&[(1, classic)]);
    assert_eq!(diff(std::slice::from_ref(&flat), &state), []);
    state.rules.extend(steering().into_iter().filter(|(rule, _)| rule.mark.is_none()));
    assert_eq!(diff(std::slice::from_ref(&flat), &state), [], "its ENI's rule is missing still");
    state.rules.extend(steering().into_iter().filter(|(rule, _)| rule.mark.is_some()));
    assert_eq!(diff(std::slice::from_ref(&flat), &NodeState { keeps_layouts: true, ..state.clone() }), []);
    assert!(!diff(std::slice::from_ref(&flat), &state).is_empty());
}

#[test]
fn a_pod_of_the_reference_keeps_its_layout() {
    let wanted = flat(pod(1, Some(2)));
    let mut state = bare_node();
    state.rules.extend(steering());
    state.links.push(NodeLink { alias: None, is_bare_veth: true, ..link(1, &wanted) });
    repair(std::slice::from_ref(&wanted), &mut state);
    let rules = state.rules.iter().filter(|(_, protocol)| *protocol == ids::PROTOCOL).count();
    assert_eq!((rules, state.links[1].group), (2, 0));
}

#[test]
fn flat_pods_have_no_rules_and_get_table_group_and_neighbour_back() {
    let pods: Vec<_> = (1..60).map(|number| (number, flat(pod(number, Some(2 + u32::from(number) % 4))))).collect();
    let all: Vec<_> = pods.iter().map(|(_, pod)| pod.clone()).collect();
    let mut state = bare_node();
    state.rules.extend(steering());
    for (number, pod) in &pods {
        state.links.push(link(*number, pod));
    }
    repair(&all, &mut state);
    let whole = state.clone();
    assert_eq!(state.rules.len(), bare_node().rules.len() + steering().len(), "whatever the number of pods");
    state.routes.retain(|route| route.table != ids::POD_TABLE);
    state.links.iter_mut().for_each(|link| link.group = 0);
    repair(&all, &mut state);
    assert_eq!((state.links, state.rules), (whole.links, whole.rules));
    assert_eq!(state.routes.len(), whole.routes.len());
}

#[test]
fn orphans_are_what_neither_a_live_link_nor_a_spared_address_needs() {
    let pods = [(1, pod(1, Some(2))), (2, pod(2, Some(2))), (3, pod(3, Some(2)))];
    let mut state = node(&pods);
    let eni =
        Rule { priority: ids::PRIORITY_FROM_ENI, ..Rule::from_pod(Ipv4Addr::new(10, 0, 1, 200), Some(RouteTable(2))) };
    state.rules.push((eni.clone(), ids::PROTOCOL));
    // 1 lives, 2 is gone and spared, 3 is dead.
    state.links.retain(|link| link.index != index(2));
    state.links.iter_mut().filter(|link| link.index == index(3)).for_each(|link| link.group = ids::DEAD_GROUP);
    let spared = BTreeSet::from([host(pods[1].1.addresses).addr()]);
    let found = orphans(&state, &spared);
    let (dead, eni) = (host(pods[2].1.addresses).addr(), IpAddr::from(Ipv4Addr::new(10, 0, 1, 200)));
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [dead, eni]);
    assert_eq!(found[&dead].len(), 4, "two rules, a route, a neighbour");
    assert_eq!(found[&eni].len(), 1);
}

/// What somebody does to the node.
#[derive(Clone, Debug)]
enum Blow {
    Rules,
    Routes,
    Neighbours,
    Down(u8),
    Mac(u8),
    Kill(u8),
    Bend(u8),
    WrongTable(u8, u32),
    ForeignRule(u8),
}

fn blow() -> impl Strategy<Value = Blow> {
    let number = || 1_u8..8;
    prop_oneof![
        Just(Blow::Rules),
        Just(Blow::Routes),
        Just(Blow::Neighbours),
        number().prop_map(Blow::Down),
        number().prop_map(Blow::Mac),
        number().prop_map(Blow::Kill),
        number().prop_map(Blow::Bend),
        (number(), 2_u32..6).prop_map(|(number, table)| Blow::WrongTable(number, table)),
        number().prop_map(Blow::ForeignRule),
    ]
}

/// Whether it is the blow's to hit: what is somebody else's stays, so that it can be looked for afterwards.
fn strike(state: &mut NodeState, blow: &Blow) {
    let pod_address = |number: &u8| Ipv4Addr::new(10, 0, 1, *number);
    match blow {
        Blow::Rules => state.rules.retain(|(_, protocol)| *protocol != ids::PROTOCOL),
        Blow::Routes => state.routes.retain(|route| route.protocol != ids::PROTOCOL),
        Blow::Neighbours => state.neighbours.clear(),
        Blow::Down(number) => {
            state.links.iter_mut().filter(|link| link.index == index(*number)).for_each(|link| link.up = false);
            state.routes.retain(|route| route.link != LinkRef::Index(index(*number)));
            state.neighbours.retain(|neighbour| neighbour.link != LinkRef::Index(index(*number)));
        }
        Blow::Mac(number) => state
            .links
            .iter_mut()
            .filter(|link| link.index == index(*number))
            .for_each(|link| link.mac = Some(MacAddr([2, 7, 7, 7, 7, 7]))),
        Blow::Kill(number) => state
            .links
            .iter_mut()
            .filter(|link| link.index == index(*number))
            .for_each(|link| link.group = ids::DEAD_GROUP),
        Blow::Bend(number) => state
            .routes
            .iter_mut()
            .filter(|route| route.destination == host(pod_address(number)) && route.scope == RouteScope::Link)
            .for_each(|route| route.link = LinkRef::Index(PRIMARY)),
        Blow::WrongTable(number, table) => {
            state.rules.insert(0, (Rule::from_pod(pod_address(number), Some(RouteTable(*table))), ids::PROTOCOL));
        }
        Blow::ForeignRule(number) => {
            let foreign = Rule { priority: 700, ..Rule::to_pod(Ipv4Addr::new(10, 0, 8, *number)) };
            state.rules.push((foreign, 0));
        }
    }
}

proptest! {
    #[test]
    fn whatever_happened_one_repair_leaves_nothing_to_repair_and_nothing_foreign_changed(
        tables in prop::collection::vec(prop::option::of(2_u32..6), 1..8),
        blows in prop::collection::vec(blow(), 0..12),
    ) {
        let pods: Vec<(u8, LivePod)> = (1..).zip(tables).map(|(number, table)| (number, pod(number, table))).collect();
        let mut state = node(&pods);
        let all: Vec<_> = pods.iter().map(|(_, pod)| pod.clone()).collect();
        blows.iter().for_each(|blow| strike(&mut state, blow));
        let foreign = |state: &NodeState| -> (Vec<_>, Vec<_>) {
            let rules = state.rules.iter().filter(|(_, protocol)| *protocol != ids::PROTOCOL).cloned();
            let routes = state.routes.iter().filter(|route| route.destination == host(Ipv4Addr::new(10, 0, 9, 9)));
            (rules.collect(), routes.cloned().collect())
        };
        let before = foreign(&state);
        repair(&all, &mut state);
        prop_assert_eq!(diff(&all, &state), []);
        prop_assert_eq!(foreign(&state), before);
        // Every live pod can be reached and leaves by its ENI.
        for (number, pod) in &pods {
            let link = state.links.iter().find(|link| link.index == index(*number)).unwrap();
            if !link.is_live() {
                continue;
            }
            prop_assert!(link.up);
            prop_assert!(state.routes.contains(&pod::host_route(host(pod.addresses).addr(), LinkRef::Index(link.index), RouteTable::MAIN)));
            let from = state.rules.iter().filter(|(rule, _)| rule.from == Some(host(pod.addresses)));
            let tables: BTreeSet<_> = from.map(|(rule, _)| rule.table).collect();
            prop_assert_eq!(tables, pod.eni_table.into_iter().map(Some).collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn a_sweep_leaves_everything_that_a_live_or_spared_pod_needs(
        count in 1_u8..8,
        gone in prop::collection::btree_set(1_u8..8, 0..8),
        held in prop::collection::btree_set(1_u8..8, 0..8),
    ) {
        let pods: Vec<(u8, LivePod)> = (1..=count).map(|number| (number, pod(number, Some(2)))).collect();
        let mut state = node(&pods);
        state.links.retain(|link| !gone.iter().any(|number| link.index == index(*number)));
        let spared: BTreeSet<IpAddr> = held.iter().map(|number| Ipv4Addr::new(10, 0, 1, *number).into()).collect();
        for op in orphans(&state, &spared).into_values().flatten() {
            run(&mut state, &op);
        }
        let foreign = bare_node();
        prop_assert!(foreign.rules.iter().all(|rule| state.rules.contains(rule)));
        prop_assert!(foreign.routes.iter().all(|route| state.routes.contains(route)));
        for (number, pod) in &pods {
            let rules = state.rules.iter().filter(|(rule, _)| {
                rule.from == Some(host(pod.addresses)) || rule.to == Some(host(pod.addresses))
            });
            let stays = !gone.contains(number) || held.contains(number);
            prop_assert_eq!(rules.count(), if stays { 2 } else { 0 });
        }
    }
}
