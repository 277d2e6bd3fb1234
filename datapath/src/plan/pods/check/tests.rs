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
    // An egress address leaves behind the node's.
    let of_vpc = pod.addresses.of_vpc().iter().map(Family::of).filter(|_| group != ids::DEFAULT_GROUP);
    for family in of_vpc {
        let mark = marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 2).unwrap());
        let rule = Rule { family, priority: ids::PRIORITY_FROM_POD, from: None, to: None, mark, table: Some(TABLE) };
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
        addresses: addresses.of_vpc().iter().collect(),
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
        assert_eq!(bench.differences(), Vec::<String>::new(), "{name}: {:?}", bench.wanted.addresses);
    }
}

#[test]
fn whatever_is_taken_away_is_a_difference() {
    for (name, bench) in benches() {
        for (what, damaged) in bench.damaged() {
            assert_ne!(damaged.differences(), Vec::<String>::new(), "{name}: {:?}: {what}", bench.wanted.addresses);
        }
    }
}

#[test]
fn a_route_to_another_living_pod_with_this_address_is_named() {
    let mut bench = Bench::new(Ipv4Addr::new(10, 0, 1, 7).into(), PodLayout::Classic, None);
    let other = NodeLink {
        index: 102,
        name: LinkName::new("eniother").unwrap(),
        alias: Some(VethAlias { owner: "aws-cni/c2/eth0".into(), addresses: Ipv4Addr::new(10, 0, 1, 7).into() }),
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
    bench.wanted.addresses = vec![Ipv4Addr::new(10, 0, 1, 8).into()];
    let differences = bench.differences();
    assert!(differences[0].contains("names 10.0.1.7, the result of the ADD 10.0.1.8"), "{differences:?}");
}

#[test]
fn a_route_too_many_is_no_difference() {
    for (name, mut bench) in benches() {
        let is_pods = |route: &&Route| pod::is_host_route(route) && route.table == ids::POD_TABLE;
        let there = bench.node.routes.iter().filter(is_pods);
        let more: Vec<Route> = there.map(|route| Route { table: RouteTable::MAIN, ..route.clone() }).collect();
        assert_eq!(more.is_empty(), name.starts_with("classic"), "{name}");
        bench.node.routes.extend(more);
        assert_eq!(bench.differences(), Vec::<String>::new(), "{name}: {:?}", bench.wanted.addresses);
    }
}

#[test]
fn a_rule_too_many_is_a_difference_only_when_it_leads_the_pod_s_packets_elsewhere() {
    let address = Ipv4Addr::new(10, 0, 1, 7);
    let bench = Bench::new(address.into(), PodLayout::Classic, None);
    let with = |place: usize, table: RouteTable| {
        let mut bench = bench.clone();
        let stale = Rule { table: Some(table), ..Rule::to_pod(address) };
        bench.node.rules.insert(place, (stale, ids::PROTOCOL));
        bench.differences()
    };
    let last = bench.node.rules.len();
    assert_eq!(with(last, TABLE), Vec::<String>::new(), "after the pod's");
    assert_eq!(with(0, RouteTable(77)), Vec::<String>::new(), "to a table without a route");
    let differences = with(0, TABLE);
    assert!(differences.len() == 1 && differences[0].contains("rule stale"), "{differences:?}");
}

#[test]
fn addresses_that_later_plugins_have_given_the_link_are_theirs() {
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 0, 1, 7), "fd12::5".parse().unwrap());
    let mut bench = Bench::new(v4.into(), PodLayout::Classic, None);
    bench.wanted.addresses.push(v6.into());
    assert_eq!(bench.differences(), ["in the pod, link eth0 has not the address fd12::5 of the result"]);
    bench.inside.addresses.push(v6.into());
    assert_eq!(bench.differences(), Vec::<String>::new(), "vouched for by its alias");

    // A pod of the reference: its link has no alias, and its MAC is the kernel's.
    let mut link = bench.node.links[0].clone();
    (link.alias, link.is_bare_veth) = (None, true);
    bench.wanted.host_veths = vec![link.name.clone()];
    bench.node.links = vec![link];
    assert_eq!(bench.differences(), Vec::<String>::new(), "without an alias");
    let route = bench.node.routes.iter().find(|route| pod::is_host_route(route)).unwrap().clone();
    bench.node.routes.push(Route { destination: IpAddr::from(v6).into(), ..route });
    let differences = bench.differences().join("; ");
    assert!(differences.contains("to fd12::5"), "routed to it on the node, so it is the pod's own: {differences}");
}

#[test]
fn a_secondary_eni_s_mark_needs_its_rule_in_every_family_of_the_pod() {
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 0, 1, 7), "2600:1f13::7".parse().unwrap());
    let layout = PodLayout::Flat { table: ids::POD_TABLE, group: Place::new(0, 2).unwrap().group().unwrap() };
    let mut bench = Bench::new(PodAddresses::Both(v4, v6), layout, Some(TABLE));
    bench.node.rules.retain(|(rule, _)| rule.family == Family::V4 || rule.mark.is_none());
    let differences = bench.differences();
    assert!(differences.len() == 1 && differences[0].contains("IPv6 rule"), "{differences:?}");
}
