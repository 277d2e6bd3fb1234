// SPDX-License-Identifier: Apache-2.0
//! A node filled to its last address: real daemon, real plugin, EC2 with some latency.
//!
//! m5.large: 3 ENIs x 10 addresses, one of each the ENI's own: 27 pods (EC2 user guide, "Maximum IP addresses per network
//! interface").

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

const ROOM: usize = 27;

#[test]
fn a_node_fills_to_its_last_address_with_every_pod_reachable_and_the_next_is_refused_with_numbers() {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    topology.start(&[]).unwrap();
    let (n1, n2) = (topology.node("n1"), topology.node("n2"));

    let pods = pods::start(n1, ROOM, 8, &AtomicUsize::new(0)).unwrap();
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.added.address).collect();
    let enis = topology.enis("n1").unwrap();
    let assigned: BTreeSet<_> = enis.iter().flat_map(|eni| eni.secondary.iter().copied()).collect();
    assert_eq!(addresses, assigned, "every address that EC2 assigned is a pod's, and none twice");
    assert_eq!((addresses.len(), enis.len()), (ROOM, 3));

    let far = topology.instance("n2").unwrap().address;
    for pod in &pods {
        assert_eq!(pod.reached_from(&n2.netns).unwrap(), far);
    }

    let sandbox = n1.sandbox("one-too-many").unwrap();
    let error = n1.runtime.add(&sandbox).unwrap_err();
    let refused = error.refusal().unwrap();
    assert_eq!(refused.code, 11, "{refused}");
    assert!(refused.to_string().contains("NodeFull"), "{refused}");
    assert!(refused.to_string().contains("27"), "the numbers are in it: {refused}");
    assert!(refused.took < Duration::from_secs(3), "nothing can come, so it is refused at once: {:?}", refused.took);
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), ROOM as u64);
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

#[test]
fn an_add_on_a_full_node_waits_for_a_cooldown_that_ends_within_its_budget_and_not_a_moment_less() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "3")]).unwrap();
    let n1 = topology.node("n1");
    let mut pods = pods::start(n1, ROOM, 8, &AtomicUsize::new(0)).unwrap();
    let last = pods.pop().unwrap();
    n1.runtime.del(&last.sandbox, NetnsPath::Given).unwrap();

    let sandbox = n1.sandbox("patient").unwrap();
    let added = n1.runtime.add(&sandbox).unwrap();
    assert_eq!(added.address, last.added.address, "there is no other");
    // Between the release and the start of this ADD lies less than this second; the cooldown is 3 s.
    assert!(added.took > Duration::from_secs(2), "served after {:?}", added.took);
    assert!(added.took < Duration::from_secs(8), "served after {:?}", added.took);
}
