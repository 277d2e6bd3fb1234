// SPDX-License-Identifier: Apache-2.0
//! Every object in either family: what is written is read back as it was meant, is what the printed commands make, and is
//! gone after its removal.

use crate::apply::execute;
use crate::apply::netlink::Socket;
use crate::apply::netlink::read::{self, RouteFilter};
use crate::apply::testbed::Space;
use crate::plan::{
    Address, Family, LinkName, LinkRef, MacAddr, Mark, Neighbour, Op, Plan, Route, RouteScope, RouteTable, Rule, ids,
};

/// One of each, of a family.
struct Objects {
    address: Address,
    routes: Vec<Route>,
    rules: Vec<Rule>,
    neighbour: Neighbour,
}

fn link() -> LinkRef {
    LinkRef::from(LinkName::new("eth1").unwrap())
}

fn objects(family: Family) -> Objects {
    let (own, block, router, pod) = match family {
        Family::V4 => ("10.0.1.20/24", "10.0.7.16/28", "10.0.1.1", "10.0.1.7"),
        Family::V6 => ("2600:1f13::20/64", "2600:1f13:0:7::/80", "fe80::1", "2600:1f13::7"),
    };
    // IPv6 routes have no scope.
    let on_link = if family == Family::V4 { RouteScope::Link } else { RouteScope::Universe };
    let route = |destination, via, scope| Route {
        destination,
        via,
        link: link(),
        scope,
        table: RouteTable(10_101),
        protocol: ids::PROTOCOL,
    };
    let router: std::net::IpAddr = router.parse().unwrap();
    let pod: std::net::IpAddr = pod.parse().unwrap();
    let marked = Rule {
        family,
        priority: ids::PRIORITY_MARK,
        from: None,
        to: None,
        mark: Some(Mark { value: 0x80, mask: 0x80 }),
        table: Some(RouteTable::MAIN),
    };
    let block = Rule { from: Some(block.parse().unwrap()), ..Rule::from_pod(pod, Some(RouteTable(10_101))) };
    Objects {
        address: Address { address: own.parse().unwrap(), link: link(), without_prefix_route: true },
        routes: vec![
            route(router.into(), None, on_link),
            route(family.everything(), Some(router), RouteScope::Universe),
            route(pod.into(), None, on_link),
        ],
        rules: vec![Rule::to_pod(pod), marked, Rule::from_pod(pod, Some(RouteTable(2))), block],
        neighbour: Neighbour { address: pod, mac: MacAddr([2, 0, 0, 0, 0, 7]), link: link() },
    }
}

impl Objects {
    fn plan(&self) -> Plan {
        let mut ops = vec![Op::AddressAdd(self.address.clone())];
        ops.extend(self.routes.iter().cloned().map(Op::RouteAdd));
        ops.extend(self.rules.iter().cloned().map(Op::RuleAdd));
        ops.push(Op::NeighbourSet(self.neighbour.clone()));
        Plan { ops }
    }

    fn removal(&self) -> Plan {
        let mut ops = vec![Op::NeighbourDelete(self.neighbour.clone())];
        ops.extend(self.rules.iter().cloned().map(Op::OwnRuleDelete));
        ops.extend(self.routes.iter().rev().cloned().map(Op::RouteDelete));
        ops.push(Op::AddressDelete(self.address.clone()));
        Plan { ops }
    }
}

fn node() -> (Space, u32) {
    let node = Space::enter_new();
    node.ip("link add eth1 type veth peer name far");
    node.ip("link set far up");
    node.ip("link set eth1 up");
    let link = read::link_by_name(&mut Socket::route().unwrap(), &LinkName::new("eth1").unwrap()).unwrap();
    (node, link.unwrap().index)
}

fn apply(plan: &Plan, index: u32) {
    execute::all(&mut Socket::route().unwrap(), &plan.ops, |_| Ok(index)).unwrap();
}

/// Everything of a family that carries our protocol, as the plan's operations would print it, sorted.
fn found(family: Family) -> Vec<String> {
    let mut socket = Socket::route().unwrap();
    let filter = RouteFilter { family, protocol: Some(ids::PROTOCOL), ..RouteFilter::default() };
    let mut ops = Vec::new();
    let addresses =
        read::addresses(&mut socket, family, None).unwrap().into_iter().filter(|found| found.2 == ids::PROTOCOL);
    ops.extend(addresses.map(|(_, address, _)| Op::AddressAdd(Address { link: link(), ..address })));
    let routes = read::routes(&mut socket, filter).unwrap().into_iter();
    ops.extend(routes.map(|route| Op::RouteAdd(Route { link: link(), ..route })));
    let rules = read::rules(&mut socket, family).unwrap().into_iter().filter(|found| found.1 == ids::PROTOCOL);
    ops.extend(rules.map(|(rule, _)| Op::RuleAdd(rule)));
    let neighbours = read::neighbours(&mut socket, family, ids::PROTOCOL).unwrap().into_iter();
    ops.extend(neighbours.map(|neighbour| Op::NeighbourSet(Neighbour { link: link(), ..neighbour })));
    sorted(&ops)
}

fn sorted(ops: &[Op]) -> Vec<String> {
    let mut texts: Vec<_> = ops.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

#[test]
fn what_is_written_of_either_family_is_read_back_and_removed_and_touches_nothing_of_the_other() {
    let (_node, index) = node();
    for family in Family::ALL {
        let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
        let objects = objects(family);
        apply(&objects.plan(), index);
        assert_eq!(found(family), sorted(&objects.plan().ops));
        assert_eq!(found(other), Vec::<String>::new());
        apply(&objects.removal(), index);
        assert_eq!(found(family), Vec::<String>::new());
    }
}

#[test]
fn the_printed_commands_make_the_same_objects() {
    let (node, _) = node();
    for family in Family::ALL {
        let plan = objects(family).plan();
        // `ip` (6.1) has no word for an address's protocol.
        let wanted: Vec<_> = plan.ops.iter().filter(|op| !matches!(op, Op::AddressAdd(_))).cloned().collect();
        node.shell(&plan.to_string());
        assert_eq!(found(family), sorted(&wanted));
        let own = objects(family).address;
        let addresses = read::addresses(&mut Socket::route().unwrap(), family, None).unwrap();
        let is_own = |(_, address, _): &(u32, Address, u8)| Address { link: link(), ..address.clone() } == own;
        assert!(addresses.iter().any(is_own), "{addresses:?}");
    }
}

/// Duplicate address detection would take over a second, during which the address cannot be used.
#[test]
fn an_ipv6_address_can_be_used_at_once() {
    let (node, index) = node();
    apply(&Plan { ops: vec![Op::AddressAdd(objects(Family::V6).address)] }, index);
    let text = node.ip("-6 addr show dev eth1");
    let line = text.lines().find(|line| line.contains("2600:1f13::20")).unwrap();
    assert!(line.contains("nodad") && !line.contains("tentative"), "{line}");
}
