// SPDX-License-Identifier: Apache-2.0
//! Prefix mode with the real daemon and plugin, and packets to and from pods inside prefixes.
//!
//! m5.large: 3 ENIs of 9 slots for pods; a prefix is 16 addresses (EC2 user guide, "Prefix delegation"). EC2 refuses prefixes
//! where no aligned /28 is free as a whole; here someone else's ENIs hold one address of each.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, reach_both};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use ipnet::Ipv4Net;
use vpc_model::{AddressChoice, Fault};

/// A surplus stands for 30 s, an ENI is at least a minute old, and the machine may be busy.
const DRAINED: Duration = Duration::from_secs(180);

const PREFIX_MODE: &[(&str, &str)] =
    &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "1")];

/// Prefixes and single addresses that EC2 has on n1's ENIs.
fn slots(topology: &Topology) -> (Vec<Ipv4Net>, usize) {
    let enis = topology.enis("n1").unwrap();
    let prefixes = enis.iter().flat_map(|eni| eni.prefixes.iter().copied()).collect();
    (prefixes, enis.iter().map(|eni| eni.secondary.len()).sum())
}

fn becomes(topology: &Topology, what: &str, holds: impl Fn(usize, usize) -> bool) {
    let reached = eventually(what, DRAINED, || {
        let (prefixes, singles) = slots(topology);
        let found = format!("{} prefixes and {singles} single addresses", prefixes.len());
        if holds(prefixes.len(), singles) { Ok(()) } else { Err(found) }
    });
    reached.unwrap();
}

fn start(node: &Node, count: usize) -> Vec<Pod> {
    pods::start(node, count, 6, &AtomicUsize::new(0)).unwrap()
}

/// Every pod answers, and every pod reaches `far` with its own address.
fn check_packets(topology: &Topology, pods: &[Pod], far: &str) {
    let far_node = topology.node(far);
    let address = topology.instance(far).unwrap().address;
    let server = EchoServer::start(&far_node.netns).unwrap();
    for pod in pods {
        assert_eq!(pod.reached_from(&far_node.netns).unwrap(), address);
        let seen = reach_both(&pod.sandbox.netns, SocketAddrV4::new(address, server.port())).unwrap();
        assert_eq!(seen, pod.added.address, "inside the VPC a pod is seen with its own address");
    }
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

fn two_nodes(subnet: Subnet) -> Topology {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes = vec![NodeSpec::new("n1", "m5.large", subnet), NodeSpec::new("n2", "m5.large", Subnet::B)];
    Topology::build(&spec).unwrap()
}

fn start_daemon(topology: &mut Topology, environment: &[(&str, &str)]) {
    let n1 = topology.node_mut("n1");
    for (variable, value) in environment {
        n1.set(variable, value);
    }
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
}

/// Someone takes one address of every /28 of subnet a.
fn fragment(topology: &Topology) -> Vec<String> {
    let subnet = topology.emulator.subnet_id("a");
    let mut enis = Vec::new();
    for block in 1..15 {
        let address = format!("10.0.1.{}", block * 16 + 7);
        let answer =
            topology.emulator.ec2("CreateNetworkInterface", &[("SubnetId", &subnet), ("PrivateIpAddress", &address)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let id = answer.body.split("<networkInterfaceId>").nth(1).and_then(|rest| rest.split('<').next());
        enis.push(id.unwrap().to_owned());
    }
    enis
}

fn refusals(topology: &Topology) -> usize {
    topology
        .emulator
        .with_model(|vpc, _| vpc.calls().filter(|call| call.code.as_deref() == Some("InsufficientCidrBlocks")).count())
}

#[test]
fn pods_inside_prefixes_of_two_enis_are_reachable_and_the_node_drains_to_its_warm_prefix() {
    let mut topology = two_nodes(Subnet::B);
    start_daemon(&mut topology, PREFIX_MODE);
    let pods = start(topology.node("n1"), 150);
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), 150);
    let (prefixes, singles) = slots(&topology);
    assert!(addresses.iter().all(|address| prefixes.iter().any(|prefix| prefix.contains(address))));
    assert_eq!((singles, topology.enis("n1").unwrap().len()), (0, 2), "9 prefixes on the primary ENI are 144");
    let (first, last) = (topology.calls("CreateNetworkInterface"), topology.calls("AssignPrivateIpAddresses"));
    assert!(first == 1 && last <= 12, "{first} create and {last} assign calls: at most one for 16 pods");
    check_packets(&topology, &pods, "n2");
    topology.node("n1").check().unwrap();

    pods::end(topology.node("n1"), pods, 6).unwrap();
    becomes(&topology, "one warm prefix is left", |prefixes, singles| (prefixes, singles) == (1, 0));
    let alone = eventually("the second ENI is gone", DRAINED, || match topology.enis("n1").unwrap().len() {
        1 if topology.unattached_enis() == 0 => Ok(()),
        enis => Err(format!("{enis} ENIs")),
    });
    alone.unwrap();
    topology.node("n1").check().unwrap();
}

#[test]
fn on_a_fragmented_subnet_pods_get_single_addresses_and_prefixes_once_there_are_some() {
    let mut topology = two_nodes(Subnet::A);
    // Single addresses from below: drawn at random they can spoil every block themselves.
    topology.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.choice = AddressChoice::Lowest));
    let spoilers = fragment(&topology);
    start_daemon(&mut topology, PREFIX_MODE);
    let pods = start(topology.node("n1"), 20);
    let (prefixes, singles) = slots(&topology);
    assert!(prefixes.is_empty() && singles >= 20, "{prefixes:?} and {singles}");
    assert!((1..=3).contains(&refusals(&topology)), "refused {} times", refusals(&topology));
    let told = topology.node("n1").number("/prefixRefusals/0/refusals").unwrap();
    assert_eq!(told, 1, "the status names the subnet");
    check_packets(&topology, &pods, "n2");

    for eni in spoilers {
        assert_eq!(topology.emulator.ec2("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]).status, 200);
    }
    // The memory of the refusal lasts ten minutes, but not beyond the daemon's life.
    topology.node_mut("n1").kill();
    start_daemon(&mut topology, &[]);
    becomes(&topology, "prefixes are used, and free single addresses go", |prefixes, singles| {
        prefixes == 1 && singles == 20
    });
    let later = start(topology.node("n1"), 3);
    let (prefixes, _) = slots(&topology);
    assert!(later.iter().all(|pod| prefixes.iter().any(|prefix| prefix.contains(&pod.added.address))));
    check_packets(&topology, &pods, "n2");
    check_packets(&topology, &later, "n2");
    topology.node("n1").check().unwrap();
}

#[test]
fn with_one_address_taken_in_every_block_thirty_pods_start_and_the_first_block_that_comes_free_is_a_prefix_of_ours() {
    let mut spec = TopologySpec::one("m5.xlarge");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    // Single addresses from below, so that the highest blocks stay without ours.
    topology.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.choice = AddressChoice::Lowest));
    let mut spoilers = fragment(&topology);
    start_daemon(&mut topology, PREFIX_MODE);
    let pods = start(topology.node("n1"), 30);
    let slowest = pods.iter().map(|pod| pod.added.took).max().unwrap();
    assert!(slowest < Duration::from_secs(10), "inside one ADD's budget: {slowest:?}");
    assert!(slots(&topology).0.is_empty());
    let status = topology.node("n1").status().unwrap();
    let subnet = topology.emulator.subnet_id("a");
    assert_eq!(status["prefixRefusals"][0]["subnetId"], *subnet, "{}", status["prefixRefusals"]);

    let last = spoilers.pop().unwrap();
    assert_eq!(topology.emulator.ec2("DeleteNetworkInterface", &[("NetworkInterfaceId", &last)]).status, 200);
    // The memory of the refusal lasts ten minutes, but not beyond the daemon's life.
    topology.node_mut("n1").kill();
    start_daemon(&mut topology, &[]);
    // More than the single addresses that are left over: the node must grow.
    let more = start(topology.node("n1"), 20);
    let (prefixes, _) = slots(&topology);
    assert_eq!(prefixes, ["10.0.1.224/28".parse().unwrap()]);
    assert!(more.iter().any(|pod| prefixes[0].contains(&pod.added.address)));
    check_packets(&topology, &pods, "n2");
    check_packets(&topology, &more, "n2");
}

#[test]
fn the_refusal_without_a_code_of_its_own_is_understood_too() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let fault = |prefixes: u32| Fault {
        when: [("Ipv4PrefixCount".to_owned(), prefixes.to_string())].into(),
        message: Some("There aren't sufficient free Ipv4 addresses or prefixes".to_owned()),
        ..Fault::always("AssignPrivateIpAddresses", "InvalidParameterValue")
    };
    // However many are asked for at once.
    topology.emulator.with_model(|vpc, _| (1..5).for_each(|prefixes| vpc.order_fault(fault(prefixes))));
    start_daemon(&mut topology, PREFIX_MODE);
    let pods = start(topology.node("n1"), 2);
    let (prefixes, singles) = slots(&topology);
    assert!(prefixes.is_empty() && singles >= 2, "{prefixes:?} and {singles}");
    for pod in &pods {
        pod.reached_from(&topology.node("n1").netns).unwrap();
    }
}

#[test]
fn switching_the_mode_under_live_pods_keeps_them_and_gives_back_what_is_free() {
    let mut topology = two_nodes(Subnet::A);
    start_daemon(&mut topology, &[("WARM_IP_TARGET", "4"), ("IP_COOLDOWN_PERIOD", "1")]);
    let old = start(topology.node("n1"), 5);
    let n1 = topology.node_mut("n1");
    assert!(n1.stop());
    n1.unset("WARM_IP_TARGET");
    start_daemon(&mut topology, PREFIX_MODE);
    becomes(&topology, "a warm prefix, and the pods' single addresses", |prefixes, singles| {
        (prefixes, singles) == (1, 5)
    });
    let new = start(topology.node("n1"), 5);
    let (prefixes, _) = slots(&topology);
    assert!(new.iter().all(|pod| prefixes.iter().any(|prefix| prefix.contains(&pod.added.address))));
    check_packets(&topology, &old, "n2");
    check_packets(&topology, &new, "n2");

    let n1 = topology.node_mut("n1");
    assert!(n1.stop());
    start_daemon(&mut topology, &[("ENABLE_PREFIX_DELEGATION", "false"), ("WARM_IP_TARGET", "4")]);
    becomes(&topology, "the prefix with pods, and single addresses", |prefixes, singles| (prefixes, singles) == (1, 9));
    check_packets(&topology, &new, "n2");
    pods::end(topology.node("n1"), new, 5).unwrap();
    becomes(&topology, "the last prefix goes when its pods are gone", |prefixes, singles| {
        (prefixes, singles) == (0, 9)
    });
    check_packets(&topology, &old, "n2");
}
