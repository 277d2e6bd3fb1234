// SPDX-License-Identifier: Apache-2.0
//! What is forgotten of an address, and what is not: connections in each of their four places, neighbours.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::apply::conntrack::message::tests::{Flow, insert, listed};
use crate::apply::conntrack::{self, Way};
use crate::apply::neighbours;
use crate::apply::netlink::Socket;
use crate::apply::testbed::{Space, kernel_is_at_least};

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn flow(original: (&str, &str), reply: (&str, &str), port: u16) -> Flow {
    let parse = |(source, destination): (&str, &str)| (source.parse().unwrap(), destination.parse().unwrap());
    Flow { original: parse(original), reply: parse(reply), port }
}

/// The address in each place of a connection, alone.
fn everywhere() -> Vec<Flow> {
    vec![
        // Opened by the pod, with SNAT.
        flow(("10.0.0.7", "198.51.100.9"), ("198.51.100.9", "10.0.0.10"), 1),
        // Opened to it through a Service.
        flow(("10.0.0.8", "172.20.0.1"), ("10.0.0.7", "10.0.0.8"), 2),
        // Opened to it, led elsewhere.
        flow(("10.0.0.8", "10.0.0.7"), ("10.0.0.9", "10.0.0.8"), 3),
        // It answers for another.
        flow(("10.0.0.8", "10.0.0.9"), ("10.0.0.9", "10.0.0.7"), 4),
    ]
}

fn others() -> Vec<Flow> {
    vec![
        flow(("10.0.0.70", "10.0.0.8"), ("10.0.0.8", "10.0.0.70"), 5),
        flow(("10.0.0.8", "172.20.0.1"), ("10.0.0.17", "10.0.0.8"), 6),
        flow(("fd00::7", "fd00::8"), ("fd00::8", "fd00::7"), 7),
    ]
}

fn ports() -> Vec<u16> {
    let mut ports: Vec<u16> = listed().into_iter().map(|flow| flow.port).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn an_address_is_forgotten_in_each_of_four_places_and_no_other_is() {
    let _node = Space::enter_new();
    insert(&[everywhere(), others()].concat());
    assert_eq!(ports(), [1, 2, 3, 4, 5, 6, 7]);
    let way = if kernel_is_at_least(6, 11) { Way::Flush } else { Way::List(4) };
    assert_eq!(conntrack::forget(&set(&["10.0.0.7"]), &|| true).unwrap(), way);
    assert_eq!(ports(), [5, 6, 7]);
}

#[test]
fn by_a_list_the_same_is_forgotten() {
    let _node = Space::enter_new();
    insert(&[everywhere(), others()].concat());
    let found = conntrack::list(&mut Socket::netfilter().unwrap(), &set(&["10.0.0.7"]), &|| true).unwrap();
    assert_eq!((found, ports()), (4, vec![5, 6, 7]));
}

#[test]
fn by_both_ways_an_ipv6_address_is_forgotten() {
    let _node = Space::enter_new();
    for by_list in [false, true] {
        insert(&[everywhere(), others()].concat());
        let (mut socket, addresses) = (Socket::netfilter().unwrap(), set(&["fd00::7"]));
        if by_list {
            assert_eq!(conntrack::list(&mut socket, &addresses, &|| true).unwrap(), 1);
        } else {
            let flushed = conntrack::flush(&mut socket, &addresses, &|| true).unwrap();
            assert_eq!(flushed, kernel_is_at_least(6, 11));
            if !flushed {
                // Nothing was done, not half of it.
                assert_eq!(ports(), [1, 2, 3, 4, 5, 6, 7]);
                conntrack::list(&mut socket, &addresses, &|| true).unwrap();
            }
        }
        assert_eq!(ports(), [1, 2, 3, 4, 5, 6]);
        conntrack::list(&mut socket, &set(&["10.0.0.8", "10.0.0.7"]), &|| true).unwrap();
        assert!(ports().iter().all(|port| *port == 7), "left for the next round: {:?}", ports());
    }
}

#[test]
fn many_addresses_at_once_take_one_walk() {
    let _node = Space::enter_new();
    let many: Vec<Flow> = (0..20_000_u32)
        .map(|number| {
            let pod: IpAddr = Ipv4Addr::from(0x0a00_0100 + number % 250).into();
            let far: IpAddr = Ipv4Addr::from(0xc633_0000 + number / 250).into();
            Flow { original: (pod, far), reply: (far, pod), port: 9 }
        })
        .collect();
    insert(&many);
    insert(&others());
    let gone: BTreeSet<IpAddr> = (0..232).map(|number| Ipv4Addr::from(0x0a00_0100 + number).into()).collect();
    // A walk each would be a thousand walks.
    assert_eq!(conntrack::forget(&gone, &|| true).unwrap(), Way::List(232 * 80));
    assert_eq!(listed().len(), 18 * 80 + 3);
}

#[test]
fn learned_neighbours_go_and_others_permanent_ones_stay() {
    let node = Space::enter_new();
    node.ip("link add eth0 type veth peer name far");
    node.ip("link set eth0 up");
    node.ip("link set far up");
    let mac = "lladdr 02:00:00:00:00:07 dev eth0";
    for entry in [
        format!("10.0.0.7 {mac} nud reachable"),
        format!("10.0.0.8 {mac} nud permanent"),
        format!("10.0.0.9 {mac} nud permanent protocol 158"),
        format!("10.0.0.17 {mac} nud stale"),
        format!("fd00::7 {mac} nud stale"),
    ] {
        node.ip(&format!("neigh add {entry}"));
    }
    let found = neighbours::forget(&set(&["10.0.0.7", "10.0.0.8", "10.0.0.9", "fd00::7"])).unwrap();
    assert_eq!(found, 3);
    let left = node.ip("neigh show dev eth0 nud all");
    let left: Vec<&str> = left.lines().filter_map(|line| line.split(' ').next()).collect();
    let is_ours = |address: &&&str| {
        ["10.", "fd00"].iter().any(|start| address.starts_with(start)) && address.parse::<IpAddr>().is_ok()
    };
    let left: BTreeSet<&str> = left.iter().filter(is_ours).copied().collect();
    assert_eq!(left, BTreeSet::from(["10.0.0.17", "10.0.0.8"]));
    assert_eq!(neighbours::forget(&BTreeSet::from([IpAddr::from(Ipv6Addr::LOCALHOST)])).unwrap(), 0);
}
