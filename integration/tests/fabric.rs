// SPDX-License-Identifier: Apache-2.0
//! The fabric alone, with ENIs plugged in by hand: packets pass and die as the VPC says (VPC user guide and EC2 user guide;
//! the rule is named at each test).
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use integration::eventually::eventually;
use integration::fabric::{DropReason, EniPort, Fabric, INTERNET_HOST, VpcBlocks, router_of};
use integration::netns::Namespace;
use integration::probe::{EchoServer, ProbeError, Protocol, ask, ping, reach_both};
use integration::world::World;
use ipnet::Ipv4Net;

const A1: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const A2: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 20);
const B1: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
const SPARE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 30);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// Three instances of one ENI each: `a1` and `a2` in 10.0.1.0/24, `b1` in 10.0.2.0/24; `a1` has a public address.
struct Vpc {
    world: World,
    fabric: Fabric,
    a1: Namespace,
    a2: Namespace,
    b1: Namespace,
}

fn port(eni: &str, mac: &str, primary: Ipv4Addr) -> EniPort {
    let subnet = Ipv4Net::new(primary, 24).unwrap().trunc();
    EniPort { eni: eni.into(), mac: mac.into(), subnet, primary, blocks: Vec::new(), source_dest_check: true }
}

fn instance(world: &World, fabric: &Fabric, name: &str, port: &EniPort) -> Namespace {
    let namespace = Namespace::create(name).unwrap();
    fabric.attach(port, &namespace, "eth0").unwrap();
    let (address, router) = (port.primary, router_of(port.subnet));
    let lines = format!(
        "link set lo up\nlink set eth0 mtu 9001 up\naddress add {address}/24 dev eth0\nroute add default via {router}\n"
    );
    world.tools.ip(&namespace, &lines).unwrap();
    // The kernel drops what is sent in the moment before it has noticed the carrier.
    let first = || ping(&namespace, router, 56).map_err(|error| error.to_string());
    eventually("the first ping", Duration::from_secs(5), first).unwrap();
    namespace
}

fn vpc() -> Vpc {
    let world = World::enter().unwrap();
    let fabric = Fabric::build(&world.tools, &VpcBlocks { blocks: vec!["10.0.0.0/16".parse().unwrap()] }).unwrap();
    let a1 = instance(&world, &fabric, "a1", &port("eni-0aaaaaaaaaaaaaaa1", "0a:00:00:00:01:0a", A1));
    let a2 = instance(&world, &fabric, "a2", &port("eni-0aaaaaaaaaaaaaaa2", "0a:00:00:00:01:14", A2));
    let b1 = instance(&world, &fabric, "b1", &port("eni-0bbbbbbbbbbbbbbb1", "0a:00:00:00:02:0a", B1));
    fabric.associate_public(A1, PUBLIC).unwrap();
    Vpc { world, fabric, a1, a2, b1 }
}

fn at(address: Ipv4Addr, server: &EchoServer) -> SocketAddrV4 {
    SocketAddrV4::new(address, server.port())
}

#[track_caller]
fn silent<T: std::fmt::Debug>(answer: Result<T, ProbeError>) {
    assert!(matches!(answer, Err(ProbeError::Silence { .. })), "{answer:?}");
}

#[test]
fn packets_pass_inside_a_subnet_and_between_subnets_with_their_source_untouched() {
    let vpc = vpc();
    let near = EchoServer::start(&vpc.a2).unwrap();
    let far = EchoServer::start(&vpc.b1).unwrap();
    assert_eq!(reach_both(&vpc.a1, at(A2, &near)).unwrap(), A1);
    assert_eq!(reach_both(&vpc.a1, at(B1, &far)).unwrap(), A1);
    assert_eq!(vpc.fabric.drops().unwrap().0.len(), 0);
}

/// VPC user guide, "Subnet sizing": the second address of a subnet is its router.
#[test]
fn the_router_answers_at_the_second_address_of_its_own_subnet_only() {
    let vpc = vpc();
    ping(&vpc.a1, "10.0.1.1".parse().unwrap(), 56).unwrap();
    ping(&vpc.b1, "10.0.2.1".parse().unwrap(), 56).unwrap();
    let neighbours = vpc.world.tools.ip_json(&vpc.a1, &["neighbour", "show", "10.0.2.1"]).unwrap();
    assert_eq!(neighbours.as_array().map(Vec::len), Some(0), "the other subnet's router is not on this link");
}

/// A hop inside the VPC is invisible: the reply arrives with the TTL that Linux sends, 64 (ip(7), ip_default_ttl).
#[test]
fn the_time_to_live_is_untouched_inside_the_vpc() {
    let vpc = vpc();
    assert_eq!(ping(&vpc.a1, A2, 56).unwrap(), 64);
    assert_eq!(ping(&vpc.a1, B1, 56).unwrap(), 64);
}

/// EC2 user guide, "Network MTU": 9001 inside the VPC, 1500 through an internet gateway. 28 bytes are headers.
#[test]
fn jumbo_frames_pass_inside_the_vpc_and_not_to_the_internet() {
    let vpc = vpc();
    ping(&vpc.a1, B1, 9001 - 28).unwrap();
    ping(&vpc.a1, INTERNET_HOST, 1500 - 28).unwrap();
    assert!(ping(&vpc.a1, INTERNET_HOST, 1501 - 28).is_err());
}

/// EC2 user guide, "Elastic network interfaces", source/destination checking.
#[test]
fn a_packet_whose_source_is_not_assigned_to_its_eni_dies_and_is_counted() {
    let vpc = vpc();
    let server = EchoServer::start(&vpc.b1).unwrap();
    let spare = Ipv4Net::from(SPARE);
    vpc.world
        .tools
        .ip(&vpc.a1, &format!("address add {SPARE}/32 dev lo\nroute change default via 10.0.1.1 src {SPARE}\n"))
        .unwrap();
    let before = vpc.fabric.drops().unwrap();
    silent(ask(&vpc.a1, Protocol::Udp, at(B1, &server)));
    assert_eq!(vpc.fabric.drops().unwrap().since(&before).of(DropReason::WrongSource, SPARE), 1);

    vpc.fabric.assign("eni-0aaaaaaaaaaaaaaa1", &[spare]).unwrap();
    assert_eq!(reach_both(&vpc.a1, at(B1, &server)).unwrap(), SPARE);

    vpc.fabric.assign("eni-0aaaaaaaaaaaaaaa2", &[spare]).unwrap();
    assert_eq!(vpc.fabric.owner(SPARE).as_deref(), Some("eni-0aaaaaaaaaaaaaaa2"));
    silent(ask(&vpc.a1, Protocol::Udp, at(B1, &server)));
    let drops = vpc.fabric.drops().unwrap().since(&before);
    let died: Vec<_> = drops.0.keys().map(|drop| (drop.eni.as_str(), drop.address)).collect();
    assert_eq!(died, [("eni-0aaaaaaaaaaaaaaa1", SPARE)]);

    vpc.fabric.set_source_dest_check("eni-0aaaaaaaaaaaaaaa1", false).unwrap();
    let before = vpc.fabric.drops().unwrap();
    silent(ask(&vpc.a1, Protocol::Udp, at(B1, &server)));
    assert_eq!(
        vpc.fabric.drops().unwrap().since(&before).of(DropReason::WrongSource, SPARE),
        0,
        "it went, the answer went to a2"
    );
}

#[test]
fn an_address_reaches_the_eni_that_the_api_gave_it_to_whoever_shouts_for_it() {
    let vpc = vpc();
    // Both guests have the address; only one was assigned it, and gratuitous ARP from the other moves nothing.
    for guest in [&vpc.a1, &vpc.a2] {
        vpc.world.tools.ip(guest, &format!("address add {SPARE}/32 dev eth0\n")).unwrap();
    }
    let here = EchoServer::start_at(&vpc.a1, SPARE).unwrap();
    vpc.fabric.assign("eni-0aaaaaaaaaaaaaaa1", &[Ipv4Net::from(SPARE)]).unwrap();
    assert_eq!(reach_both(&vpc.b1, at(SPARE, &here)).unwrap(), B1);
    vpc.fabric.unassign("eni-0aaaaaaaaaaaaaaa1", &[Ipv4Net::from(SPARE)]).unwrap();
    let before = vpc.fabric.drops().unwrap();
    silent(ask(&vpc.b1, Protocol::Udp, at(SPARE, &here)));
    assert_eq!(vpc.fabric.drops().unwrap().since(&before).of(DropReason::NoDestination, SPARE), 1);
}

/// EC2 user guide, "Prefix delegation": all sixteen addresses of a /28 belong to the ENI.
#[test]
fn a_prefix_is_sixteen_addresses() {
    let vpc = vpc();
    vpc.fabric.assign("eni-0aaaaaaaaaaaaaaa1", &["10.0.1.64/28".parse().unwrap()]).unwrap();
    let probe = |address: &str| {
        let address = address.parse().unwrap();
        vpc.world.tools.ip(&vpc.a1, &format!("address add {address}/32 dev lo\n")).unwrap();
        let server = EchoServer::start_at(&vpc.a1, address).unwrap();
        ask(&vpc.b1, Protocol::Udp, at(address, &server))
    };
    assert_eq!(*probe("10.0.1.64").unwrap().ip(), B1);
    assert_eq!(*probe("10.0.1.79").unwrap().ip(), B1);
    silent(probe("10.0.1.80"));
}

/// VPC user guide, "Internet gateways": 1:1 NAT for an address that has a public one, nothing for others.
#[test]
fn the_internet_is_reached_with_a_public_address_only_and_sees_that() {
    let vpc = vpc();
    let server = EchoServer::start(vpc.fabric.internet()).unwrap();
    assert_eq!(reach_both(&vpc.a1, at(INTERNET_HOST, &server)).unwrap(), PUBLIC);
    let before = vpc.fabric.drops().unwrap();
    silent(ask(&vpc.a2, Protocol::Udp, at(INTERNET_HOST, &server)));
    assert_eq!(vpc.fabric.drops().unwrap().since(&before).of(DropReason::NoPublicAddress, A2), 1);
    let inside = EchoServer::start(&vpc.a1).unwrap();
    assert_eq!(reach_both(vpc.fabric.internet(), at(PUBLIC, &inside)).unwrap(), INTERNET_HOST);
}

#[test]
fn a_detached_eni_leaves_no_link_and_no_address() {
    let vpc = vpc();
    let server = EchoServer::start(&vpc.a2).unwrap();
    vpc.fabric.detach("eni-0aaaaaaaaaaaaaaa2").unwrap();
    let links = vpc.world.tools.ip_json(&vpc.a2, &["link", "show"]).unwrap();
    assert_eq!(links.as_array().map(Vec::len), Some(1), "only lo: {links}");
    silent(ask(&vpc.a1, Protocol::Udp, at(A2, &server)));
    assert!(vpc.fabric.assign("eni-0aaaaaaaaaaaaaaa2", &[Ipv4Net::from(SPARE)]).is_err());
}

#[test]
fn security_rules_see_every_packet_between_enis() {
    let vpc = vpc();
    let server = EchoServer::start(&vpc.b1).unwrap();
    vpc.fabric.set_security_rules("ip saddr 10.0.1.20 udp dport 1-65535 drop").unwrap();
    ask(&vpc.a1, Protocol::Udp, at(B1, &server)).unwrap();
    silent(ask(&vpc.a2, Protocol::Udp, at(B1, &server)));
    vpc.fabric.set_security_rules("").unwrap();
    ask(&vpc.a2, Protocol::Udp, at(B1, &server)).unwrap();
}
