// SPDX-License-Identifier: Apache-2.0
//! Services work beside kube-proxy in its three modes, whoever starts first, after kube-proxy was started anew, and with
//! iptables of either kind in use, in both layouts: from pods on primary and secondary ENIs and from the node, to replicas on
//! every ENI of two nodes, to an endpoint outside the VPC, and by node ports of either policy. The xtables lock is nothing to us.
//!
//! kube-proxy is the real one in iptables mode, and a stand-in in nftables mode (`integration::kube_proxy`), which the real one
//! of 1.20 does not have. The stand-in's iptables mode is held against the real one's rules.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads the kernel's table of connections")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::counters::netstat;
use integration::eventually::eventually;
use integration::fabric::INTERNET_HOST;
use integration::kube_proxy::{KubeProxy, Mode, Policy, Real, Service, StandIn};
use integration::netns::Namespace;
use integration::outside::{Outside, PEER};
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, reach_both};
use integration::tools::{Iptables, Tools};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use integration::world::World;

/// Cluster addresses: replicas in pods, an endpoint outside the VPC, a node port.
const REPLICAS: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 10);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 11);
const BY_NODE_PORT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 12);
const NODE_PORT: u16 = 30_080;
const BY_ANY_NODE_PORT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 13);
const ANY_NODE_PORT: u16 = 30_081;

/// So often is a Service with four replicas asked; that one of them is never picked has a chance of 1 in 300.
const ASKED: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    KubeProxy,
    Enid,
}

/// Which kube-proxy runs.
#[derive(Clone, Copy, Debug)]
enum Which {
    Real(Iptables),
    StandIn(Mode),
}

fn services_work(which: Which, first: First, layout: &str) {
    services_work_with(which, first, &[("ENID_LAYOUT", layout)]);
}

fn services_work_with(which: Which, first: First, settings: &[(&str, &str)]) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    let tools = topology.world.tools.clone();
    let outside = Outside::connect(&tools, &topology.fabric).unwrap();
    let netns = ["n1", "n2"].map(|name| topology.node(name).netns.clone());
    let mut proxies = netns.each_ref().map(|netns| -> Box<dyn KubeProxy + '_> {
        let address = topology.instance(netns.name()).unwrap().address;
        match which {
            Which::Real(kind) => Box::new(Real::new(&topology.world, &topology.runtime, netns, address, kind).unwrap()),
            Which::StandIn(mode) => Box::new(StandIn::new(&tools, netns, mode)),
        }
    });
    if first == First::KubeProxy {
        proxies.iter_mut().for_each(|proxy| proxy.sync(&[]).unwrap());
    }
    topology.start(settings).unwrap();
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
            service(BY_ANY_NODE_PORT, Some((ANY_NODE_PORT, Policy::Cluster)), endpoints(here)),
        ]
    });
    let sync = |proxies: &mut [Box<dyn KubeProxy + '_>; 2]| {
        proxies.iter_mut().zip(&services).for_each(|(proxy, services)| proxy.sync(services).unwrap());
    };
    sync(&mut proxies);
    ask_all(&topology, &pods[0], "after the start");
    // A restart writes everything anew; an upgrade may take it all away first.
    proxies.iter_mut().for_each(|proxy| proxy.stop());
    sync(&mut proxies);
    ask_all(&topology, &pods[0], "after a restart of kube-proxy");
    proxies.iter_mut().for_each(|proxy| proxy.clean_up().unwrap());
    sync(&mut proxies);
    ask_all(&topology, &pods[0], "after kube-proxy was taken away and came back");
    if settings.contains(&("ENID_NOTRACK", "true")) {
        nothing_plain_is_tracked(
            &topology,
            &pods[0],
            SocketAddrV4::new(pods[1][0].added.address, servers[1][0].port()),
        );
    }
    let drops: u64 = netns.iter().map(|netns| netstat(netns, "IPReversePathFilter").unwrap()).sum();
    assert_eq!(drops, 0);
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

fn nothing_plain_is_tracked(topology: &Topology, pods: &[Pod; 2], far: SocketAddrV4) {
    let node = topology.node("n1");
    for pod in pods {
        assert_eq!(reach_both(&pod.sandbox.netns, far).unwrap(), pod.added.address);
        let table = node.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap()).unwrap();
        assert!(!table.contains(&format!("dst={} sport", far.ip())), "{table}");
    }
    let shown = node.status().unwrap()["connections"].clone();
    assert!(shown["max"].as_u64() >= Some(1) && shown["count"].is_u64(), "{shown}");
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
    reach(&node.netns, SocketAddrV4::new(facts.address, NODE_PORT), "node to its own node port");
    let secondary = topology.enis("n1").unwrap().iter().find(|eni| eni.device_index == 1).unwrap().primary;
    let seen = reach(&n2.netns, SocketAddrV4::new(secondary, NODE_PORT), "n2 to the node port at a secondary ENI");
    assert_eq!(seen, topology.instance("n2").unwrap().address, "the client's address is kept, {when}");
    for _ in 0..ASKED {
        reach(&n2.netns, SocketAddrV4::new(secondary, ANY_NODE_PORT), "n2 to the other one at a secondary ENI");
    }
    for _ in 0..ASKED {
        let seen = reach(&n2.netns, SocketAddrV4::new(facts.address, ANY_NODE_PORT), "n2 to the other node port");
        assert_eq!(seen, facts.address, "the client's address is the node's, {when}");
    }
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
    services_work(Which::Real(Iptables::Legacy), First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_nft() {
    services_work(Which::Real(Iptables::Nft), First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_legacy_that_comes_later_in_layout_flat() {
    services_work(Which::Real(Iptables::Legacy), First::Enid, "flat");
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_nft_that_comes_later_in_layout_flat() {
    services_work(Which::Real(Iptables::Nft), First::Enid, "flat");
}

#[test]
fn services_work_beside_the_stand_in_on_nftables() {
    services_work(Which::StandIn(Mode::Nftables), First::KubeProxy, "classic");
}

#[test]
fn services_work_beside_the_stand_in_on_nftables_that_comes_later_in_layout_flat() {
    services_work(Which::StandIn(Mode::Nftables), First::Enid, "flat");
}

#[test]
fn services_work_beside_the_stand_in_on_nftables_in_layout_flat() {
    services_work(Which::StandIn(Mode::Nftables), First::KubeProxy, "flat");
}

#[test]
fn services_work_beside_the_stand_in_on_nftables_that_comes_later() {
    services_work(Which::StandIn(Mode::Nftables), First::Enid, "classic");
}

/// Both with what kube-proxy does not translate left untracked: nothing that it does translate may be.
fn services_work_untracked(which: Which) {
    services_work_with(which, First::Enid, &[("ENID_LAYOUT", "flat"), ("ENID_NOTRACK", "true")]);
}

#[test]
fn services_work_beside_kube_proxy_on_iptables_nft_with_plain_traffic_untracked() {
    services_work_untracked(Which::Real(Iptables::Nft));
}

#[test]
fn services_work_beside_the_stand_in_on_nftables_with_plain_traffic_untracked() {
    services_work_untracked(Which::StandIn(Mode::Nftables));
}

/// Of a table, by chain: the rules that concern kube-proxy, without comments and without what is hashed into names.
fn written(netns: &Namespace, kind: Iptables, table: &str) -> BTreeMap<String, Vec<String>> {
    let listing = Tools::iptables(netns, kind, &["iptables", "-w", "-t", table, "-S"], "").unwrap();
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in listing.lines().filter(|line| line.starts_with("-A") && line.contains("KUBE")) {
        let words = without_comment(line);
        let words: Vec<&str> = words.split_whitespace().map(unhashed).collect();
        chains.entry(words[1].to_owned()).or_default().push(words[2..].join(" "));
    }
    for (chain, rules) in &mut chains {
        // Services and endpoints come in no order.
        if ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-SVC", "KUBE-SEP"].contains(&chain.as_str()) {
            rules.sort();
        }
        // 1.20 writes one rule of KUBE-FORWARD twice.
        rules.dedup();
    }
    // Node ports are chained otherwise since 1.24.
    chains.retain(|chain, _| !["KUBE-NODEPORTS", "KUBE-EXT", "KUBE-XLB", "KUBE-SVL"].contains(&chain.as_str()));
    chains
}

fn without_comment(line: &str) -> String {
    let Some((before, after)) = line.split_once("-m comment --comment ") else { return line.to_owned() };
    let rest = match after.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map_or("", |(_, rest)| rest),
        None => after.split_once(' ').map_or("", |(_, rest)| rest),
    };
    without_comment(&format!("{before}{rest}"))
}

fn unhashed(word: &str) -> &str {
    let kinds = ["KUBE-SVC", "KUBE-SEP", "KUBE-EXT", "KUBE-XLB", "KUBE-SVL"];
    kinds.into_iter().find(|kind| word.starts_with(&format!("{kind}-"))).unwrap_or(word)
}

#[test]
fn the_stand_in_writes_what_kube_proxy_writes_in_iptables_mode() {
    let world = World::enter().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint =
        |last, is_local| (SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, last), 8000 + u16::from(last)), is_local);
    let service = |address, node_port, endpoints| Service { address, port: 80, node_port, endpoints };
    let services = [
        service(REPLICAS, None, vec![endpoint(20, true), endpoint(21, false), endpoint(22, true)]),
        service(BY_NODE_PORT, Some((NODE_PORT, Policy::Local)), vec![endpoint(20, true)]),
        service(EXTERNAL, Some((ANY_NODE_PORT, Policy::Cluster)), vec![]),
    ];
    for (kind, mode) in [(Iptables::Legacy, Mode::IptablesLegacy), (Iptables::Nft, Mode::IptablesNft)] {
        let netns = ["real", "stand-in"].map(|who| Namespace::create(&format!("{who}-{}", kind.name())).unwrap());
        netns.iter().for_each(|netns| world.tools.ip(netns, "link set lo up\n").unwrap());
        let mut real = Real::new(&world, &runtime, &netns[0], Ipv4Addr::new(10, 0, 1, 11), kind).unwrap();
        real.sync(&services).unwrap();
        StandIn::new(&world.tools, &netns[1], mode).sync(&services).unwrap();
        for table in ["filter", "nat"] {
            let [real, stand_in] = netns.each_ref().map(|netns| written(netns, kind, table));
            assert_eq!(stand_in, real, "{kind:?}, table {table}");
            assert!(!real.is_empty());
        }
    }
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
    StandIn::new(&tools, &netns, Mode::IptablesNft).sync(&[]).unwrap();
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
