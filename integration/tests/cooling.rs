// SPDX-License-Identifier: Apache-2.0
//! Cooling addresses are not free ones: a node whose rest is cooling grows instead of making pods wait.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::pods;
use integration::topology::{Topology, TopologySpec};

#[test]
fn with_sixteen_pods_and_two_addresses_cooling_the_next_pod_comes_through_growth() {
    // On an m5.large the 18 are two full ENIs and a third must come; on an m5.xlarge the second has room.
    cooling_is_not_free("m5.large", Duration::from_secs(3));
    cooling_is_not_free("m5.xlarge", Duration::from_secs(1));
}

fn cooling_is_not_free(instance_type: &str, at_most: Duration) {
    let mut topology = Topology::build(&TopologySpec::one(instance_type)).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "120"), ("WARM_IP_TARGET", "0"), ("MINIMUM_IP_TARGET", "18")]).unwrap();
    let n1 = topology.node("n1");
    let mut running = pods::start(n1, 18, 6, &AtomicUsize::new(0)).unwrap();
    let ended = running.split_off(16);
    let resting: Vec<_> = ended.iter().map(|pod| pod.added.address).collect();
    pods::end(n1, ended, 2).unwrap();
    assert_eq!(n1.number("/pool/cooling").unwrap(), 2);

    let next = pods::start(n1, 1, 1, &AtomicUsize::new(18)).unwrap();
    assert!(!resting.contains(&next[0].added.address), "{} was cooling", next[0].added.address);
    let took = next[0].added.took;
    // An ENI takes 30 ms a call and 400 ms to attach here; the cooldown is two minutes.
    assert!(took < at_most, "on an {instance_type} the pod waited {took:?}");
    next[0].reached_from(&n1.netns).unwrap();
    n1.check().unwrap();
}
