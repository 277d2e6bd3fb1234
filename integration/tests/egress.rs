// SPDX-License-Identifier: Apache-2.0
//! IPv6 out of an IPv4 cluster (ENABLE_V6_EGRESS): real daemon, real plugin, an internet that speaks IPv6. What the node's rules do
//! with each kind of packet is shown in `datapath`.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "opens connections and reads logs")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::fabric::ipv6::INTERNET;
use integration::netns::Namespace;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};

const NODE: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f13, 0, 0, 0, 0, 0, 0x10);

struct Bench {
    topology: Topology,
    internet: TcpListener,
}

impl Bench {
    /// A node whose primary ENI has no IPv6 address yet; its daemon runs with egress.
    fn new() -> Self {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        topology.start(&[("ENABLE_V6_EGRESS", "true")]).unwrap();
        let internet = topology.fabric.internet().run(|| TcpListener::bind("[::]:0")).unwrap().unwrap();
        Self { topology, internet }
    }

    fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    fn give_ipv6(&self) {
        let primary = self.topology.enis("n1").unwrap().into_iter().find(|eni| eni.device_index == 0).unwrap();
        self.topology.fabric.give_ipv6(&primary.id, &self.node().netns, "eth0", NODE).unwrap();
    }

    /// Whose address the internet sees, in IPv6; `None`: the pod has no way there.
    fn seen_from(&self, pod: &Pod) -> Option<IpAddr> {
        let to = SocketAddr::new(INTERNET.into(), self.internet.local_addr().unwrap().port());
        let connected = pod.sandbox.netns.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap();
        let _pod = connected.ok()?;
        Some(self.internet.accept().unwrap().1.ip())
    }

    fn restart(&mut self, egress: &str) {
        let node = self.topology.node_mut("n1");
        node.kill();
        node.set("ENABLE_V6_EGRESS", egress);
        node.start().unwrap();
        node.wait_ready(READY).unwrap();
        node.wait_answers(READY).unwrap();
    }

    fn has_table(&self) -> bool {
        let tables = self.topology.world.tools.nft_json(&self.node().netns, &["list", "tables"]).unwrap();
        let is_ours = |item: &serde_json::Value| item["table"]["family"] == "ip6" && item["table"]["name"] == "enid";
        tables["nftables"].as_array().unwrap().iter().any(is_ours)
    }
}

fn sysctl(netns: &Namespace, path: &str) -> String {
    netns.run(|| std::fs::read_to_string(format!("/proc/sys/net/{path}"))).unwrap().unwrap().trim().to_owned()
}

/// The pod's egress address, as `ip` in its namespace shows it.
fn egress_of(bench: &Bench, pod: &Pod) -> Option<String> {
    let shown = bench.topology.world.tools.ip_json(&pod.sandbox.netns, &["-6", "addr", "show", "dev", "eth0"]).unwrap();
    let addresses = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let egress =
        addresses.iter().filter_map(|info| info["local"].as_str()).find(|local| local.starts_with("fd00::ac:"));
    egress.map(ToOwned::to_owned)
}

#[test]
fn pods_get_out_in_ipv6_behind_the_node_and_keep_that_whatever_becomes_of_daemon_and_setting() {
    let mut bench = Bench::new();
    let before = pods::start(bench.node(), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0);
    assert_eq!(egress_of(&bench, &before), None, "the node itself has no way out");
    assert!(std::fs::read_to_string(bench.node().plugin_log()).unwrap().contains("the pod has no egress"));
    assert!(std::fs::read_to_string(bench.node().log()).unwrap().contains("give the primary ENI an IPv6 address"));

    bench.give_ipv6();
    // More than the primary ENI has room for: some are on another one, whose way they must not take.
    let mut pods = pods::start(bench.node(), 11, 4, &AtomicUsize::new(0)).unwrap();
    assert!(pods.iter().any(Pod::on_primary) && pods.iter().any(|pod| !pod.on_primary()));
    for pod in &pods {
        assert_eq!(bench.seen_from(pod), Some(NODE.into()), "{}", pod.added.host_veth);
        let ips = pod.added.result["ips"].as_array().unwrap();
        assert_eq!(ips.len(), 1, "the runtime is told of the VPC's address only: {ips:?}");
    }
    assert_eq!(sysctl(&bench.node().netns, "ipv6/conf/eth0/accept_ra"), "2");

    let (address, veth) = (egress_of(&bench, &pods[0]).unwrap(), pods[0].added.host_veth.clone());
    let mut tables = ["main", "158000"].into_iter();
    let table = tables.find(|table| bench.node().ip(&format!("route del {address}/128 table {table}\n")).is_ok());
    let table = table.expect("in one of them it was");
    let is_back = |what: &str| {
        eventually(what, Duration::from_secs(5), || {
            bench.seen_from(&pods[0]).map(|_| ()).ok_or_else(|| format!("{veth} has no way out"))
        })
        .unwrap();
    };
    is_back("the removed route is back");
    bench.node().ip(&format!("route replace {address}/128 dev eth0 table {table}\n")).unwrap();
    is_back("the bent route leads to the pod again");

    bench.restart("true");
    assert_eq!(
        bench.node().status().unwrap()["repair"]["repaired"].as_array().unwrap().len(),
        0,
        "nothing to put right"
    );
    assert!(pods.iter().all(|pod| bench.seen_from(pod).is_some()));
    bench.restart("false");
    assert!(pods.iter().all(|pod| bench.seen_from(pod).is_some()), "what a pod has it keeps");
    let later = pods::start(bench.node(), 1, 1, &AtomicUsize::new(100)).unwrap().remove(0);
    assert_eq!(egress_of(&bench, &later), None);
    bench.node().check().unwrap();

    pods.extend([before, later]);
    for pod in pods {
        bench.node().runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
    }
    eventually("what only egress needs goes with the last pod", Duration::from_secs(90), || {
        if bench.has_table() { Err("table ip6 enid is there".to_owned()) } else { Ok(()) }
    })
    .unwrap();
    let left = bench.node().leftovers().unwrap().of_pods();
    assert!(left.routes.is_empty() && left.neighbours.is_empty() && left.rules.is_empty(), "{left}");
    assert_eq!(bench.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
    assert_eq!(bench.topology.fabric.ipv6_wrong_sources().unwrap(), Vec::<String>::new());
}
