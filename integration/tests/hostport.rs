// SPDX-License-Identifier: Apache-2.0
//! Host ports by the real plugin and daemon: open when ADD returns, kept through restarts, closed with their pod, whoever is
//! killed. (Every direction of packets: `datapath`'s tests.)
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; waits in real time"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use integration::node::Node;
use integration::probe::{EchoServer, Protocol, ask};
use integration::sandbox::{Added, NetnsPath, Runtime, Sandbox};
use integration::strace::{Scope, Strace};
use integration::tools::Tools;
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::{Value, json};

const PORT: u16 = 30_080;
const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);

fn two_nodes() -> Topology {
    let mut topology = Topology::build(&TopologySpec {
        nodes: vec![NodeSpec::new("n1", "m5.large", Subnet::A), NodeSpec::new("n2", "m5.large", Subnet::B)],
        ..TopologySpec::one("m5.large")
    })
    .unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "0")]).unwrap();
    topology
}

/// A pod that serves on the node's port, as containerd asks for it.
fn start(node: &Node) -> (Sandbox, Added, EchoServer) {
    let sandbox = node.next_sandbox().unwrap();
    // The server first: its port is what is mapped.
    let server = EchoServer::start(&sandbox.netns).unwrap();
    let added = publishing(node, server.port()).add(&sandbox).unwrap();
    (sandbox, added, server)
}

fn publishing(node: &Node, pod_port: u16) -> Runtime {
    let mapping = |protocol| json!({ "HostPort": PORT, "ContainerPort": pod_port, "Protocol": protocol, "HostIP": "" });
    node.runtime.with_ports(json!([mapping("tcp"), mapping("udp")]))
}

fn is_reached(from: &Node) -> bool {
    let to = SocketAddrV4::new(N1, PORT);
    let answers = [Protocol::Tcp, Protocol::Udp].map(|protocol| ask(&from.netns, protocol, to).is_ok());
    assert_eq!(answers[0], answers[1], "TCP and UDP");
    answers[0]
}

/// What the node's table of host ports holds, as text.
fn elements(node: &Node) -> Vec<Value> {
    let listing = Tools::find().unwrap().nft_json(&node.netns, &["list", "ruleset"]).unwrap();
    let objects = listing["nftables"].as_array().unwrap().clone();
    let sets = objects
        .iter()
        .flat_map(|object| [&object["map"], &object["set"]])
        .filter(|set| set["table"] == "enid_hostports");
    sets.flat_map(|set| set["elem"].as_array().cloned().unwrap_or_default()).collect()
}

fn within(limit: Duration, is_so: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    begin.elapsed()
}

#[test]
fn a_host_port_is_open_when_add_returns_survives_the_daemon_and_closes_with_its_pod() {
    let mut topology = two_nodes();
    let (sandbox, added, _server) = start(topology.node("n1"));
    for from in ["n2", "n1"] {
        assert!(is_reached(topology.node(from)), "from {from}");
    }
    let seen = ask(&topology.node("n2").netns, Protocol::Tcp, SocketAddrV4::new(N1, PORT)).unwrap();
    assert_eq!(*seen.ip(), topology.instance("n2").unwrap().address, "the client's own address");

    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    assert!(is_reached(topology.node("n2")), "after the daemon's kill -9");

    let n1 = topology.node("n1");
    let other = n1.next_sandbox().unwrap();
    let error = publishing(n1, 80).add(&other).unwrap_err();
    let refused = error.refusal().unwrap().to_string();
    assert!(refused.contains("30080") && refused.contains(&sandbox.container_id), "{refused}");
    assert!(is_reached(topology.node("n2")), "the first pod still has it");

    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert!(!is_reached(topology.node("n2")));
    assert_eq!(elements(n1), Vec::<Value>::new());
    // The next pod has the port at once, whoever had it, and most likely the address too.
    let (_again, next, _server) = start(n1);
    assert!(is_reached(topology.node("n2")), "{} after {}", next.address, added.address);
    n1.check().unwrap();
}

#[test]
fn a_sandbox_that_ends_without_a_del_leaves_no_host_port_for_half_a_minute() {
    let topology = two_nodes();
    let n1 = topology.node("n1");
    let (sandbox, _, server) = start(n1);
    assert_eq!(elements(n1).len(), 3);
    drop((server, sandbox));
    within(Duration::from_secs(30), || elements(n1).is_empty());
}

#[test]
fn a_plugin_killed_at_any_step_of_its_transaction_leaves_no_host_port_for_half_a_minute() {
    let topology = two_nodes();
    let n1 = topology.node("n1");
    let strace = Strace::find().unwrap();
    let file = topology.world.folder("recordings").unwrap().join("add");
    let sandbox = n1.next_sandbox().unwrap();
    let recorded = n1.runtime.under(strace.recording(&file)).with_ports(publishing_value());
    recorded.add(&sandbox).unwrap();
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    let recording = integration::strace::Recording::read(&file).unwrap();
    let mut cuts = 0;
    for cut in recording.cuts(Scope::Outward) {
        let sandbox = n1.next_sandbox().unwrap();
        let runtime = n1.runtime.under(strace.cutting(&cut)).with_ports(publishing_value());
        // Killed, or (a call that only the recorded run made) not; the runtime forgets the sandbox either way.
        let _ = runtime.add(&sandbox);
        cuts += 1;
    }
    assert!(cuts > 10, "{cuts} cuts");
    within(Duration::from_secs(30), || elements(n1).is_empty());
}

#[test]
fn what_others_flush_is_open_again_within_a_second_and_after_a_start() {
    let mut topology = two_nodes();
    let (_sandbox, _, _server) = start(topology.node("n1"));
    let flush = |node: &Node| Tools::find().unwrap().nft(&node.netns, "flush ruleset").unwrap();
    let whole = elements(topology.node("n1"));
    // The first looks after a start know of pods that are young.
    std::thread::sleep(Duration::from_secs(4));
    flush(topology.node("n1"));
    let took = within(Duration::from_secs(2), || elements(topology.node("n1")).len() == whole.len());
    println!("host ports are back after {took:?}");
    assert!(took < Duration::from_millis(1_200), "{took:?}, looked at every 200 ms");
    assert!(is_reached(topology.node("n2")));

    let n1 = topology.node_mut("n1");
    n1.kill();
    flush(n1);
    assert_eq!(elements(n1), Vec::<Value>::new());
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    within(Duration::from_secs(5), || elements(topology.node("n1")).len() == whole.len());
    assert!(is_reached(topology.node("n2")));
}

fn publishing_value() -> Value {
    json!([{ "hostPort": PORT, "containerPort": 80, "protocol": "tcp" }])
}
