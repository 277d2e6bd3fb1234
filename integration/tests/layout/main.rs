// SPDX-License-Identifier: Apache-2.0
//! The two layouts of pods on real nodes: packets in every direction, and how many policy rules there are.
//!
//! All other scenarios run in the default layout, flat, and with `ENID_TEST_LAYOUT=classic` in the other one (`make layouts`). What
//! becomes of live pods when the layout changes: `switch`.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod switch;

use std::net::SocketAddrV4;
use std::sync::atomic::AtomicUsize;

use integration::fabric::INTERNET_HOST;
use integration::node::{Node, RpFilter};
use integration::pods::{self, Pod, one_of_each};
use integration::probe::{EchoServer, reach_both};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

const PREFIX_MODE: &[(&str, &str)] = &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];

/// The kernel's own rules: local, main, default.
const KERNEL_RULES: usize = 3;

fn rules(topology: &Topology, node: &Node) -> Vec<String> {
    let rules = topology.world.tools.ip_json(&node.netns, &["rule", "show"]).unwrap();
    rules.as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// How many rules a node in layout flat has: the pods' table, the connection mark; of each secondary ENI its own address, its
/// mark, that of its answers, and its prefixes.
fn rules_of_flat(topology: &Topology, node: &str) -> usize {
    let enis = topology.enis(node).unwrap();
    KERNEL_RULES + 2 + enis.iter().skip(1).map(|eni| 3 + eni.prefixes.len()).sum::<usize>()
}

/// The same in layout classic: the connection mark; each secondary ENI's address, and the mark of its answers; of each pod one `to`
/// rule, and a `from` rule on secondary ENIs.
fn rules_of_classic(topology: &Topology, node: &str, pods: &[Pod]) -> usize {
    let on_secondary = pods.iter().filter(|pod| !pod.on_primary()).count();
    KERNEL_RULES + 1 + 2 * secondary_enis(topology, node) + pods.len() + on_secondary
}

/// As many have a rule for their answers, unless the mask is too narrow.
fn secondary_enis(topology: &Topology, node: &str) -> usize {
    topology.enis(node).unwrap().len() - 1
}

/// Pods of every ENI of both nodes, the nodes and the internet reach each other, and no packet leaves by a wrong ENI.
fn all_reach_all(topology: &Topology, near: &[Pod], far: &[Pod]) {
    let outside = EchoServer::start(topology.fabric.internet()).unwrap();
    let hosts = ["n1", "n2"].map(|name| topology.instance(name).unwrap());
    let (near, far) = (one_of_each(near), one_of_each(far));
    for from in &near {
        for to in near.iter().filter(|to| to.added.address != from.added.address).chain(&far) {
            assert_eq!(to.reached_from(&from.sandbox.netns).unwrap(), from.added.address, "pod to pod");
            assert_eq!(from.reached_from(&to.sandbox.netns).unwrap(), to.added.address, "and back");
        }
        assert_eq!(from.reached_from(&topology.node("n1").netns).unwrap(), hosts[0].address, "probe of the own node");
        assert_eq!(from.reached_from(&topology.node("n2").netns).unwrap(), hosts[1].address, "another node");
        for (node, host) in ["n1", "n2"].into_iter().zip(&hosts) {
            let server = EchoServer::start_at(&topology.node(node).netns, host.address).unwrap();
            let seen = reach_both(&from.sandbox.netns, SocketAddrV4::new(host.address, server.port())).unwrap();
            assert_eq!(seen, from.added.address, "pod to {node}");
        }
        let seen = reach_both(&from.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), hosts[0].public_address, "pod to the internet");
    }
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

fn two_nodes(environment: &[(&str, &str)], pods: usize) -> (Topology, Vec<Pod>, Vec<Pod>) {
    let mut spec = TopologySpec::one("m5.large");
    // Subnet b holds both: a pod's own subnet is the other node's, and must be reached by the pod's ENI.
    spec.nodes = ["n1", "n2"].map(|name| NodeSpec::new(name, "m5.large", Subnet::B)).into();
    spec.nodes[0].rp_filter = RpFilter::Strict;
    let mut topology = Topology::build(&spec).unwrap();
    topology.start(environment).unwrap();
    let near = pods::start(topology.node("n1"), pods, 6, &AtomicUsize::new(0)).unwrap();
    let far = pods::start(topology.node("n2"), 12, 6, &AtomicUsize::new(0)).unwrap();
    (topology, near, far)
}

#[test]
fn in_layout_flat_pods_of_all_enis_reach_everything_and_the_rules_do_not_count_them() {
    let (topology, near, far) = two_nodes(&[("ENID_LAYOUT", "flat")], 20);
    assert_eq!(one_of_each(&near).len(), 3, "20 pods need all three ENIs");
    all_reach_all(&topology, &near, &far);
    let n1 = topology.node("n1");
    assert_eq!(rules(&topology, n1).len(), rules_of_flat(&topology, "n1"), "{:?}", rules(&topology, n1));
    let before = rules(&topology, n1);
    pods::end(n1, near, 6).unwrap();
    assert_eq!(rules(&topology, n1), before, "neither an ADD nor a DEL touches a rule");
}

#[test]
fn in_layout_flat_pods_inside_prefixes_reach_everything_and_each_prefix_has_one_rule() {
    let environment: Vec<_> = [("ENID_LAYOUT", "flat")].into_iter().chain(PREFIX_MODE.iter().copied()).collect();
    let (topology, near, far) = two_nodes(&environment, 150);
    assert_eq!(one_of_each(&near).len(), 2, "9 prefixes of the primary ENI are 144 addresses");
    all_reach_all(&topology, &near, &far);
    let n1 = topology.node("n1");
    assert_eq!(rules(&topology, n1).len(), rules_of_flat(&topology, "n1"), "{:?}", rules(&topology, n1));
}

#[test]
fn in_layout_classic_pods_of_all_enis_reach_everything_with_two_rules_each() {
    let (topology, near, far) = two_nodes(&[("ENID_LAYOUT", "classic")], 20);
    all_reach_all(&topology, &near, &far);
    let n1 = topology.node("n1");
    assert_eq!(rules(&topology, n1).len(), rules_of_classic(&topology, "n1", &near));
}

/// As with the reference's plugin, which knows nothing of layout flat: here the mask has room for one ENI's mark only, so pods
/// of the other one have rules of their own.
#[test]
fn pods_of_both_layouts_live_on_one_node_and_reach_each_other_and_everything() {
    let environment = [("ENID_LAYOUT", "flat"), ("ENID_ENI_MARK_MASK", "0x1000")];
    let (topology, near, far) = two_nodes(&environment, 20);
    all_reach_all(&topology, &near, &far);
    let n1 = topology.node("n1");
    let with_rules = near.iter().filter(|pod| pod.added.table == 3).count();
    assert!(with_rules > 0);
    // A pod has two rules, and its ENI one less; the mask has no room for answers.
    let of_enis = rules_of_flat(&topology, "n1") - 1 - secondary_enis(&topology, "n1");
    assert_eq!(rules(&topology, n1).len(), of_enis + 2 * with_rules);
    pods::end(n1, near, 6).unwrap();
    assert_eq!(rules(&topology, n1).len(), of_enis);
}
