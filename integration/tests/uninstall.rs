// SPDX-License-Identifier: Apache-2.0
//! `ipamd cleanup-host` on a real node: living pods of both layouts go on as before, and once they are gone nothing is left, and
//! settings of the node are as they were before.
#![expect(clippy::disallowed_methods, reason = "sets and reads the node's settings, and damages their file")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::net::SocketAddrV4;
use std::sync::atomic::AtomicUsize;

use integration::fabric::INTERNET_HOST;
use integration::node::{Node, RpFilter};
use integration::pods::{self, Pod, one_of_each};
use integration::probe::{EchoServer, reach_both};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// Pods of every ENI of n1 reach each other, a pod of n2 and the internet, and are reached by both nodes and that pod.
fn packets(topology: &Topology, near: &[Pod], far: &Pod) {
    let outside = EchoServer::start(topology.fabric.internet()).unwrap();
    let hosts = ["n1", "n2"].map(|name| topology.instance(name).unwrap());
    for from in one_of_each(near) {
        for to in one_of_each(near).into_iter().filter(|to| to.added.address != from.added.address).chain([far]) {
            assert_eq!(to.reached_from(&from.sandbox.netns).unwrap(), from.added.address);
            assert_eq!(from.reached_from(&to.sandbox.netns).unwrap(), to.added.address);
        }
        for (node, host) in ["n1", "n2"].into_iter().zip(&hosts) {
            assert_eq!(from.reached_from(&topology.node(node).netns).unwrap(), host.address);
        }
        let seen = reach_both(&from.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), hosts[0].public_address, "{} on the internet", from.added.address);
    }
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

fn start(environment: &[(&str, &str)], pods: usize) -> (Topology, Vec<Pod>, Pod) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes = ["n1", "n2"].map(|name| NodeSpec::new(name, "m5.large", Subnet::B)).into();
    spec.nodes[0].rp_filter = RpFilter::Strict;
    let mut topology = Topology::build(&spec).unwrap();
    SETTINGS.iter().for_each(|(path, before, _)| set(topology.node("n1"), path, before));
    topology.start(environment).unwrap();
    let near = pods::start(topology.node("n1"), pods, 6, &AtomicUsize::new(0)).unwrap();
    let far = pods::start(topology.node("n2"), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0);
    (topology, near, far)
}

const EARLY_DEMUX: (&str, &str) = ("DISABLE_TCP_EARLY_DEMUX", "true");

/// Settings of n1 as they are before its daemon first runs, and as it needs them.
const SETTINGS: [(&str, &str, &str); 3] =
    [("ip_forward", "0", "1"), ("tcp_early_demux", "1", "0"), ("conf/eth0/rp_filter", "1", "2")];

fn set(node: &Node, path: &str, value: &str) {
    node.netns.run(|| fs::write(format!("/proc/sys/net/ipv4/{path}"), value)).unwrap().unwrap();
}

fn settings(node: &Node) -> [String; 3] {
    let read = |path| node.netns.run(|| fs::read_to_string(format!("/proc/sys/net/ipv4/{path}"))).unwrap().unwrap();
    SETTINGS.map(|(path, ..)| read(path).trim().to_owned())
}

fn cleanup(node: &Node) -> String {
    node.ask(&["cleanup-host"]).unwrap()
}

fn goes_on_and_leaves_nothing(environment: &[(&str, &str)], pods: usize) {
    let (mut topology, near, far) = start(environment, pods);
    packets(&topology, &near, &far);
    let ours = SETTINGS.map(|(.., ours)| ours.to_owned());
    assert_eq!(settings(topology.node("n1")), ours);
    assert!(topology.node_mut("n1").stop());
    let n1 = topology.node("n1");
    let told = cleanup(n1);
    assert_eq!(settings(n1), ours, "{told}");
    assert!(told.contains("left: net.ipv4.ip_forward=1, which is still needed; it was found 0\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("living pod: ")).count(), near.len(), "{told}");
    assert!(told.contains("kept: nft table ip enid\n"), "{told}");
    packets(&topology, &near, &far);
    assert_eq!(cleanup(n1), told, "again");
    pods::end(n1, near, 6).unwrap();
    let told = cleanup(n1);
    assert!(!told.contains("kept") && !told.contains("living"), "{told}");
    assert_eq!(settings(n1), SETTINGS.map(|(_, before, _)| before.to_owned()), "{told}");
    assert_eq!(told.matches("put back: ").count(), 4, "redirects went with forwarding: {told}");
    let left = n1.leftovers().unwrap();
    assert!(left.is_empty(), "{left}");
    let tools = &topology.world.tools;
    let rules = tools.ip_json(&n1.netns, &["rule", "show"]).unwrap();
    assert_eq!(rules.as_array().unwrap().len(), 3, "{rules}");
    let enis = topology.enis("n1").unwrap();
    let addresses = tools.ip_json(&n1.netns, &["-4", "address", "show"]).unwrap().to_string();
    for eni in enis.iter().filter(|eni| eni.device_index > 0) {
        assert!(!addresses.contains(&eni.primary.to_string()), "{addresses}");
    }
}

/// The mask has room for one ENI's mark only, so that pods of the other one are plumbed in layout classic.
#[test]
fn pods_of_both_layouts_go_on_and_nothing_is_left_when_they_are_gone() {
    goes_on_and_leaves_nothing(&[("ENID_LAYOUT", "flat"), ("ENID_ENI_MARK_MASK", "0x1000"), EARLY_DEMUX], 20);
}

#[test]
fn pods_inside_prefixes_go_on_and_nothing_is_left_when_they_are_gone() {
    let prefixes = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];
    let environment = [("ENID_LAYOUT", "flat"), prefixes[0], prefixes[1], EARLY_DEMUX];
    goes_on_and_leaves_nothing(&environment, 150);
}

#[test]
fn without_a_pod_nothing_of_a_node_in_either_layout_is_left() {
    for layout in ["classic", "flat"] {
        let (mut topology, _, _far) = start(&[("ENID_LAYOUT", layout), ("WARM_ENI_TARGET", "1")], 0);
        assert!(topology.node_mut("n1").stop());
        let n1 = topology.node("n1");
        let file = n1.state_folder().join("settings");
        let kept = fs::read(&file).unwrap();
        fs::write(&file, "damaged").unwrap();
        let refused = n1.ask(&["cleanup-host"]).unwrap_err().to_string();
        assert!(refused.contains("settings is damaged"), "{refused}");
        assert_eq!(settings(n1), ["1", "1", "2"].map(str::to_owned), "nothing is put back by a damaged file");
        fs::write(&file, kept).unwrap();
        // Somebody needs it by now.
        set(n1, "conf/eth0/rp_filter", "0");
        let told = cleanup(n1);
        assert!(told.contains("=0, somebody else's choice; it was found 1, we had made it 2\n"), "{told}");
        assert_eq!(settings(n1), ["0", "1", "0"].map(str::to_owned), "{told}");
        assert!(!told.contains("kept"), "{told}");
        let left = n1.leftovers().unwrap();
        assert!(left.is_empty(), "{left}");
    }
}
