// SPDX-License-Identifier: Apache-2.0
//! Services work beside kube-proxy in its three modes, whoever starts first, after kube-proxy has written its rules anew, and
//! with iptables of either kind in use, in both layouts: from pods on primary and secondary ENIs and from the node, to replicas on every ENI of
//! two nodes, to an endpoint outside the VPC, and by a node port. The xtables lock is nothing to us.
//!
//! kube-proxy is a stand-in (`integration::kube_proxy`): rules as its modes have them, not the program.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::counters::netstat;
use integration::eventually::eventually;
use integration::fabric::INTERNET_HOST;
use integration::kube_proxy::{KubeProxy, Mode, Policy, Service};
use integration::netns::Namespace;
use integration::outside::{Outside, PEER};
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, reach_both};
use integration::tools::{Iptables, Tools};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// Cluster addresses: replicas in pods, an endpoint outside the VPC, a node port.
const REPLICAS: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 10);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 11);
const BY_NODE_PORT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 12);
const NODE_PORT: u16 = 30_080;

/// So often is a Service with four replicas asked; that one of them is never picked has a chance of 1 in 300.
const ASKED: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    KubeProxy,
    Enid,
}

fn services_work(mode: Mode, first: First, layout: &str) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    let tools = topology.world.tools.clone();
    let outside = Outside::connect(&tools, &topology.fabric).unwrap();
    let netns = ["n1", "n2"].map(|name| topology.node(name).netns.clone());
    let proxies = netns.each_ref().map(|netns| KubeProxy::new(&tools, netns, mode));
    if first == First::KubeProxy {
        proxies.iter().for_each(|proxy| proxy.sync(&[]).unwrap());
    }
    topology.start(&[("ENID_LAYOUT", layout)]).unwrap();
    let pods = ["n1", "n2"].map(|name| on_both_enis(&topology, name));
    let servers = pods.each_ref().map(|pods| pods.each_ref().map(|pod| EchoServer::start(&pod.sandbox.netns).unwrap()));
    let endpoints = |here: usize| {
        let of_node = |node: usize| {
            let pairs = pods[node].iter().zip(&servers[node]);
            pairs.map(move |(pod, server)| (SocketAddrV4::new(pod.added.address, server.port()), node == here))
        };
        of_node(0).chain(of_node(1)).collect::<Vec<_>>()
    };
    let far = EchoServer::start_at(&outside.netns, PEER).unwrap();
    let services = [0, 1].map(|here| {
        let service = |address, node_port, endpoints| Service { address, port: 80, node_port, endpoints };
        vec![
            service(REPLICAS, None, endpoints(here)),
            service(EXTERNAL, None, vec![(SocketAddrV4::new(PEER, far.port()), false)]),
            service(BY_NODE_PORT, Some((NODE_PORT, Policy::Local)), vec![endpoints(here)[1]]),
        ]
    });
    let sync = || proxies.iter().zip(&services).for_each(|(proxy, services)| proxy.sync(services).unwrap());
    sync();
    ask_all(&topology, &pods[0], "after the start");
    // A restart writes everything anew; an upgrade may take it all away first.
    sync();
    ask_all(&topology, &pods[0], "after a restart of kube-proxy");
    proxies.iter().for_each(|proxy| proxy.clean_up().unwrap());
    sync();
    ask_all(&topology, &pods[0], "after kube-proxy was taken away and came back");
    let drops: u64 = netns.iter().map(|netns| netstat(netns, "IPReversePathFilter").unwrap()).sum();
    assert_eq!(drops, 0);
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

/// A pod on the primary ENI, and one on a secondary.
fn on_both_enis(topology: &Topology, node: &str) -> [Pod; 2] {
    let mut pods = pods::start(topology.node(node), 12, 6, &AtomicUsize::new(0)).unwrap();
    [true, false].map(|primary| {
        let at = pods.iter().position(|pod| pod.on_primary() == primary).unwrap();
        pods.swap_remove(at)
    })
}

fn ask_all(topology: &Topology, pods: &[Pod; 2], when: &str) {
    let node = topology.node("n1");
    let facts = topology.instance("n1").unwrap();
    let outside = EchoServer::start(topology.fabric.internet()).unwrap();
    let reach = |from: &Namespace, to: SocketAddrV4, what: &str| {
        reach_both(from, to).unwrap_or_else(|error| panic!("{what}, {when}: {error}"))
    };
    for pod in pods {
        let (from, who) = (&pod.sandbox.netns, if pod.on_primary() { "primary" } else { "secondary" });
        for _ in 0..ASKED {
            let seen = reach_replicas(from);
            // To itself a pod comes by the node's address: kube-proxy masquerades that.
            assert!(seen == pod.added.address || seen == facts.address, "{who} to replicas, {when}: {seen}");
        }
        let seen = reach(from, SocketAddrV4::new(EXTERNAL, 80), &format!("{who} to an endpoint outside"));
        assert_eq!(seen, facts.address, "{who} to an endpoint outside, {when}");
        let seen = reach(from, SocketAddrV4::new(INTERNET_HOST, outside.port()), &format!("{who} to the internet"));
        assert_eq!(Some(seen), facts.public_address, "{who} to the internet, {when}");
    }
    for _ in 0..ASKED {
        reach(&node.netns, SocketAddrV4::new(REPLICAS, 80), "node to replicas");
    }
    reach(&node.netns, SocketAddrV4::new(EXTERNAL, 80), "node to an endpoint outside");
    let n2 = topology.node("n2");
    let seen = reach(&n2.netns, SocketAddrV4::new(facts.address, NODE_PORT), "n2 to the node port");
    assert_eq!(seen, topology.instance("n2").unwrap().address, "the client's address is kept, {when}");
}

/// UDP and TCP may meet different replicas, and so be seen with different addresses.
fn reach_replicas(from: &Namespace) -> Ipv4Addr {
    use integration::probe::{Protocol, reach};
    let to = SocketAddrV4::new(REPLICAS, 80);
    reach(from, Protocol::Udp, to).unwrap();
    reach(from, Protocol::Tcp, to).unwrap()
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_legacy() {
    services_work(Mode::IptablesLegacy, First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_nft() {
    services_work(Mode::IptablesNft, First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_kube_proxy_on_nftables() {
    services_work(Mode::Nftables, First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_legacy_that_comes_later_in_layout_flat() {
    services_work(Mode::IptablesLegacy, First::Enid, "flat");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_nft_that_comes_later_in_layout_flat() {
    services_work(Mode::IptablesNft, First::Enid, "flat");
}

#[test]
fn services_work_beside_kube_proxy_on_nftables_that_comes_later_in_layout_flat() {
    services_work(Mode::Nftables, First::Enid, "flat");
}

#[test]
fn services_work_beside_kube_proxy_on_nftables_in_layout_flat() {
    services_work(Mode::Nftables, First::KubeProxy, "flat");
}

#[test]
fn services_work_beside_kube_proxy_on_nftables_that_comes_later() {
    services_work(Mode::Nftables, First::Enid, "classic");
}

#[test]
fn a_held_xtables_lock_does_not_hold_up_the_start() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    // The world has a /run of its own: this is the file that every iptables on the node would wait for.
    let lock = File::create("/run/xtables.lock").unwrap();
    lock.lock().unwrap();
    topology.start(&[]).unwrap();
    eventually("the table is there", Duration::from_secs(5), || {
        let node = topology.node("n1");
        let table = topology.world.tools.nft_json(&node.netns, &["list", "table", "ip", "enid"]);
        table.map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    assert!(pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).is_ok());
}

#[test]
fn what_the_reference_left_is_gone_once_the_daemon_is_there_and_kube_proxy_s_is_not() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let tools = topology.world.tools.clone();
    let netns = topology.node("n1").netns.clone();
    let iptables =
        |words: &[&str]| Tools::iptables(&netns, Iptables::Nft, &[&["iptables", "-t", "nat"], words].concat(), "");
    KubeProxy::new(&tools, &netns, Mode::IptablesNft).sync(&[]).unwrap();
    let before = iptables(&["-S"]).unwrap();
    iptables(&["-N", "AWS-SNAT-CHAIN-0"]).unwrap();
    iptables(&["-A", "POSTROUTING", "-m", "comment", "--comment", "AWS SNAT CHAIN", "-j", "AWS-SNAT-CHAIN-0"]).unwrap();
    iptables(&["-A", "AWS-SNAT-CHAIN-0", "!", "-o", "vlan+", "-j", "SNAT", "--to-source", "10.0.1.11"]).unwrap();
    topology.start(&[]).unwrap();
    eventually("its rules are gone", Duration::from_secs(5), || {
        let now = iptables(&["-S"]).map_err(|error| error.to_string())?;
        if now == before { Ok(()) } else { Err(now) }
    })
    .unwrap();
}
