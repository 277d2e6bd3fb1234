// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::plan::golden;
use crate::plan::ids::Place;

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f13, 0, 1, 0, 0, 0, 7);

fn pod(eni_table: Option<RouteTable>) -> PodAttachment {
    let owner = "aws-cni/0a1b2c3d/eth0";
    PodAttachment {
        host_veth: LinkName::host_veth("eni", "default", "sample-pod", owner).unwrap(),
        pod_link: LinkName::new("eth0").unwrap(),
        addresses: V4.into(),
        mtu: 9001,
        eni_table,
        layout: PodLayout::Classic,
        owner: owner.to_owned(),
        host_mac: MacAddr::derived("aws-cni/0a1b2c3d/eth0 host"),
        pod_mac: MacAddr::derived("aws-cni/0a1b2c3d/eth0 pod"),
    }
}

#[test]
fn attaching_a_pod_on_a_secondary_eni_prints_as_reviewed() {
    golden::check("attach-secondary.sh", &attach(&pod(Some(RouteTable(2)))).to_string());
}

#[test]
fn attaching_a_pod_on_the_primary_eni_prints_as_reviewed() {
    golden::check("attach-primary.sh", &attach(&pod(None)).to_string());
    assert_eq!(attach(&pod(None)), attach(&pod(Some(RouteTable::MAIN))));
}

fn flat(eni_table: Option<RouteTable>, group: u32) -> PodAttachment {
    PodAttachment { layout: PodLayout::Flat { table: ids::POD_TABLE, group }, ..pod(eni_table) }
}

#[test]
fn attaching_a_flat_pod_on_a_secondary_eni_prints_as_reviewed() {
    let pod = flat(Some(RouteTable(2)), Place::new(0, 1).unwrap().group().unwrap());
    golden::check("attach-secondary-flat.sh", &attach(&pod).to_string());
}

#[test]
fn a_flat_pod_inside_a_prefix_is_plumbed_as_one_on_the_primary_eni_and_prints_as_reviewed() {
    let in_prefix = flat(Some(RouteTable(2)), ids::DEFAULT_GROUP);
    golden::check("attach-prefix-flat.sh", &attach(&in_prefix).to_string());
    assert_eq!(attach(&in_prefix), attach(&flat(None, ids::DEFAULT_GROUP)));
}

/// One v6 and one dual pod in each layout.
#[test]
fn attaching_pods_with_ipv6_prints_as_reviewed() {
    for (name, addresses) in [("v6", PodAddresses::V6(V6)), ("dual", PodAddresses::Both(V4, V6))] {
        let classic = PodAttachment { addresses, ..pod(Some(RouteTable(2))) };
        golden::check(&format!("attach-{name}.sh"), &attach(&classic).to_string());
        let flat = PodAttachment { addresses, ..flat(Some(RouteTable(2)), Place::new(0, 1).unwrap().group().unwrap()) };
        golden::check(&format!("attach-{name}-flat.sh"), &attach(&flat).to_string());
    }
}

#[test]
fn detaching_a_dual_stack_pod_prints_as_reviewed() {
    let PodAttachment { host_veth, owner, .. } = pod(None);
    let addresses = PodAddresses::Both(V4, V6).iter().collect();
    golden::check("detach-dual.sh", &detach(&PodDetachment { host_veth, owner, addresses }).to_string());
}

#[test]
fn detaching_a_pod_prints_as_reviewed() {
    let PodAttachment { host_veth, owner, addresses, .. } = pod(None);
    golden::check(
        "detach.sh",
        &detach(&PodDetachment { host_veth, owner, addresses: addresses.iter().collect() }).to_string(),
    );
}

proptest! {
    /// What an attach makes outside of the veth, the detach of the same pod takes away.
    #[test]
    fn every_rule_and_route_of_an_attach_is_removed_by_its_detach(v4 in any::<Option<u32>>(), v6 in any::<u128>(), table in 1u32..400, is_flat in any::<bool>()) {
        let mut pod = if is_flat { flat(Some(RouteTable(table)), 0) } else { pod(Some(RouteTable(table))) };
        let v6 = Some(Ipv6Addr::from(v6)).filter(|_| v4.is_none() || table % 2 == 0);
        pod.addresses = PodAddresses::new(v4.map(Ipv4Addr::from), v6).unwrap();
        let plan = attach(&pod);
        let PodAttachment { host_veth, owner, .. } = pod.clone();
        let removed = detach(&PodDetachment { host_veth, owner, addresses: pod.addresses.iter().collect() }).ops;
        for op in plan.node.iter().chain(&plan.rules) {
            let is_removed = match op {
                Op::RouteAdd(route) => removed.contains(&Op::RouteDelete(Route { protocol: 0, ..route.clone() })),
                Op::RuleAdd(rule) => removed.iter().any(|op| {
                    matches!(op, Op::RuleDelete(found) if *found == Rule { table: found.table, ..rule.clone() }
                        && found.table.is_none_or(|table| Some(table) == rule.table))
                }),
                Op::NeighbourSet(neighbour) => removed.iter().any(|op| {
                    matches!(op, Op::NeighbourDelete(found) if found.address == neighbour.address && found.link == neighbour.link)
                }),
                Op::LinkSet(_) | Op::RuleDelete(_) | Op::RouteDelete(_) => true,
                other => panic!("{other} is not undone by a detach"),
            };
            prop_assert!(is_removed, "{}", op);
        }
    }

    /// The `from` rule exists exactly when the pod's ENI has a table of its own.
    #[test]
    fn only_pods_on_secondary_enis_have_a_from_rule(table in proptest::option::of(250u32..260)) {
        let rules = attach(&pod(table.map(RouteTable))).rules;
        let has_from = rules.iter().any(|op| matches!(op, Op::RuleAdd(rule) if rule.from.is_some()));
        prop_assert_eq!(has_from, table.is_some_and(|table| table != 254));
    }

    /// The one thing layout flat is for.
    #[test]
    fn a_flat_pod_has_no_rule_whatever_its_eni(table in proptest::option::of(0u32..300), group in any::<u32>()) {
        let pod = flat(table.map(RouteTable), group);
        prop_assert!(attach(&pod).rules.iter().all(|op| matches!(op, Op::RuleDelete(_))));
        prop_assert_eq!(attach(&pod).veth.group, ids::MAKING_GROUP);
        let is_named = |op: &Op| matches!(op, Op::LinkSet(set) if set.alias.is_some() && set.group == Some(group));
        prop_assert!(attach(&pod).node.iter().any(is_named), "alias and group come by one message");
    }
}
