// SPDX-License-Identifier: Apache-2.0
//! A pod as its attach has made it has no difference; without any one of its objects it has.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::plan::VethAlias;
use crate::plan::ids::Place;
use crate::plan::pods::objects;

const HOST: u32 = 101;
const INSIDE: u32 = 2;
const TABLE: RouteTable = RouteTable(3);
const OWNER: &str = "aws-cni/c1/eth0";

/// A pod and both its namespaces.
#[derive(Clone)]
struct Bench {
    wanted: PodCheck,
    node: NodeState,
    inside: PodState,
}

/// What the node and its ENIs have for all pods.
fn add_steering(node: &mut NodeState, pod: &LivePod, group: u32) {
    for family in Family::ALL {
        let everything = Route {
            destination: family.everything(),
            via: None,
            link: LinkRef::Index(5),
            scope: pod::on_link(family),
            table: TABLE,
            protocol: ids::PROTOCOL,
        };
        node.routes.push(everything);
        if pod.layout != PodLayout::Classic && pod.addresses.iter().any(|address| Family::of(address) == family) {
            node.rules.push((HostSetup::pod_rule(family), ids::PROTOCOL));
        }
    }
    if group != ids::DEFAULT_GROUP {
        let mark = marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 2).unwrap());
        let rule = Rule {
            family: Family::V4,
            priority: ids::PRIORITY_FROM_POD,
            from: None,
            to: None,
            mark,
            table: Some(TABLE),
        };
        node.rules.push((rule, ids::PROTOCOL));
    }
}

impl Bench {
    /// As attached; on the primary ENI, or on the one with [`TABLE`].
    fn new(addresses: PodAddresses, layout: PodLayout, eni_table: Option<RouteTable>) -> Self {
        let name = LinkName::new("eni0a1b2c3d4e5").unwrap();
        let eth0 = LinkName::new("eth0").unwrap();
        let pod = LivePod { owner: OWNER.into(), host_veth: Some(name.clone()), addresses, eni_table, layout };
        let group = match layout {
            PodLayout::Classic => ids::DEFAULT_GROUP,
            PodLayout::Flat { group, .. } => group,
        };
        let link = NodeLink {
            index: HOST,
            name,
            mac: Some(MacAddr::of_host_end(OWNER)),
            up: true,
            group,
            mtu: 9001,
            alias: Some(VethAlias { owner: OWNER.into(), addresses }),
            is_bare_veth: false,
        };
        let mut node = NodeState::default();
        for op in objects(&pod, &link) {
            match op {
                Op::RouteAdd(route) => node.routes.push(route),
                Op::RuleAdd(rule) => node.rules.push((rule, ids::PROTOCOL)),
                Op::NeighbourSet(neighbour) => node.neighbours.push(neighbour),
                _ => {}
            }
        }
        add_steering(&mut node, &pod, group);
        let mut state = Self { wanted: wanted(addresses), node, inside: PodState::default() };
        let (mac, peer) = (Some(MacAddr::of_pod_end(OWNER)), Some(HOST));
        state.inside.link = Some(PodLink { index: INSIDE, mac, mtu: 9001, up: true, peer });
        let attachment = pod::PodAttachment { pod_link: eth0, ..attachment(&pod, &link) };
        for mut op in pod::attach(&attachment).pod {
            if let Some(link) = op.link_mut() {
                *link = LinkRef::Index(INSIDE);
            }
            match op {
                Op::AddressAdd(added) => state.inside.addresses.push(added.address.addr()),
                Op::RouteAdd(route) if route.table != RouteTable::LOCAL => state.inside.routes.push(route),
                Op::NeighbourSet(neighbour) => state.inside.neighbours.push(neighbour),
                _ => {}
            }
        }
        state.node.links.push(link);
        state
    }

    fn differences(&self) -> Vec<String> {
        check(&self.wanted, &self.node, &self.inside).iter().map(ToString::to_string).collect()
    }

    /// The same without one thing, each in turn, with the thing's text.
    fn damaged(&self) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        let mut without = |what: String, damage: &dyn Fn(&mut Self)| {
            let mut damaged = self.clone();
            damage(&mut damaged);
            all.push((what, damaged));
        };
        for (place, route) in self.node.routes.iter().enumerate() {
            let leads_here = |rule: &Rule| (rule.family, rule.table) == (route.family(), Some(TABLE));
            if route.table == TABLE && !self.node.rules.iter().any(|(rule, _)| leads_here(rule)) {
                continue;
            }
            without(format!("node's route {route}"), &|bench| {
                bench.node.routes.remove(place);
            });
        }
        // A `from` rule is not missed: the pod may be on the primary ENI.
        for (place, (rule, _)) in self.node.rules.iter().enumerate().filter(|(_, (rule, _))| rule.from.is_none()) {
            without(format!("node's rule {rule}"), &|bench| {
                bench.node.rules.remove(place);
            });
        }
        for (place, found) in self.node.neighbours.iter().enumerate() {
            without(format!("node's neighbour {found}"), &|bench| {
                bench.node.neighbours.remove(place);
            });
        }
        for (place, route) in self.inside.routes.iter().enumerate() {
            without(format!("pod's route {route}"), &|bench| {
                bench.inside.routes.remove(place);
            });
        }
        for (place, found) in self.inside.neighbours.iter().enumerate() {
            without(format!("pod's neighbour {found}"), &|bench| {
                bench.inside.neighbours.remove(place);
            });
        }
        for (place, address) in self.inside.addresses.iter().enumerate() {
            let damage = |bench: &mut Self| {
                bench.inside.addresses.remove(place);
            };
            without(format!("pod's address {address}"), &damage);
        }
        without("host veth".into(), &|bench| bench.node.links.clear());
        without("pod's link".into(), &|bench| bench.inside.link = None);
        all
    }
}

fn wanted(addresses: PodAddresses) -> PodCheck {
    PodCheck {
        owner: OWNER.into(),
        host_veths: Vec::new(),
        pod_link: LinkName::new("eth0").unwrap(),
        addresses: addresses.of_vpc(),
        others: Vec::new(),
    }
}

fn benches() -> Vec<(&'static str, Bench)> {
    let v4 = Ipv4Addr::new(10, 0, 1, 7);
    let v6: Ipv6Addr = "2600:1f13::7".parse().unwrap();
    let egress: Ipv6Addr = "fd00::ac:7".parse().unwrap();
    let flat = |group| PodLayout::Flat { table: ids::POD_TABLE, group };
    let mut benches = Vec::new();
    for addresses in
        [PodAddresses::V4(v4), PodAddresses::V6(v6), PodAddresses::Both(v4, v6), PodAddresses::Both(v4, egress)]
    {
        benches.push(("classic", Bench::new(addresses, PodLayout::Classic, None)));
        benches.push(("classic, secondary", Bench::new(addresses, PodLayout::Classic, Some(TABLE))));
        benches.push(("flat", Bench::new(addresses, flat(ids::DEFAULT_GROUP), None)));
        benches.push((
            "flat, secondary",
            Bench::new(addresses, flat(Place::new(0, 2).unwrap().group().unwrap()), Some(TABLE)),
        ));
    }
    benches
}

#[test]
fn a_pod_as_attached_has_no_difference_in_either_layout_and_any_family() {
    for (name, bench) in benches() {
        assert_eq!(bench.differences(), Vec::<String>::new(), "{name}: {}", bench.wanted.addresses);
    }
}

#[test]
fn whatever_is_taken_away_is_a_difference() {
    for (name, bench) in benches() {
        for (what, damaged) in bench.damaged() {
            assert_ne!(damaged.differences(), Vec::<String>::new(), "{name}: {}: {what}", bench.wanted.addresses);
        }
    }
}

#[test]
fn a_route_to_another_living_pod_with_this_address_is_named() {
    let mut bench = Bench::new(Ipv4Addr::new(10, 0, 1, 7).into(), PodLayout::Classic, None);
    let other = NodeLink {
        index: 102,
        name: LinkName::new("eniother").unwrap(),
        alias: Some(VethAlias { owner: "aws-cni/c2/eth0".into(), addresses: bench.wanted.addresses }),
        ..bench.node.links[0].clone()
    };
    bench.node.links.push(other);
    for route in bench.node.routes.iter_mut().filter(|route| route.table == RouteTable::MAIN) {
        route.link = LinkRef::Index(102);
    }
    assert_eq!(bench.differences(), ["on the node, 10.0.1.7 leads to the pod of host veth eniother"]);
}

#[test]
fn an_alias_that_names_another_address_than_the_result_is_named() {
    let mut bench = Bench::new(Ipv4Addr::new(10, 0, 1, 7).into(), PodLayout::Classic, None);
    bench.wanted.addresses = Ipv4Addr::new(10, 0, 1, 8).into();
    let differences = bench.differences();
    assert!(differences[0].contains("names 10.0.1.7, the result of the ADD 10.0.1.8"), "{differences:?}");
}
