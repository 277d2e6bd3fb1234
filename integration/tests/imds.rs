// SPDX-License-Identifier: Apache-2.0
//! IMDS that does not answer when the daemon starts.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::pass;
use integration::pods;
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::ImdsFault;

fn break_imds(topology: &Topology) {
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 503, count: None };
    topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
}

#[test]
fn a_new_node_without_imds_is_not_ready_and_becomes_so_when_imds_answers() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    break_imds(&topology);
    topology.node_mut("n1").start().unwrap();
    pass(Duration::from_secs(2));
    let n1 = topology.node_mut("n1");
    assert!(!n1.daemon().unwrap().has_ended(), "the daemon waits for IMDS: {}", n1.daemon().unwrap().log_tail(5));
    let error = n1.runtime.status().unwrap_err();
    assert!(error.refusal().is_some_and(|refused| refused.code == 50), "{error}");

    topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    topology.node("n1").wait_ready(Duration::from_secs(40)).unwrap();
    pods::start(topology.node("n1"), 1, 1, &AtomicUsize::new(0)).unwrap();
}

#[test]
fn a_node_with_a_journal_serves_without_imds() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let first = pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap();
    break_imds(&topology);
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let more = pods::start(n1, 2, 2, &AtomicUsize::new(0)).unwrap();
    for pod in first.iter().chain(&more) {
        pod.reached_from(&n1.netns).unwrap();
    }
    assert!(more.iter().all(|pod| first.iter().all(|other| other.added.address != pod.added.address)));
}
