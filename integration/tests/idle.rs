// SPDX-License-Identifier: Apache-2.0
//! A node on which nothing happens: what the daemon does all the same.

use std::sync::atomic::AtomicUsize;

use integration::eventually::pass;
use integration::idle::{Idle, MINUTE, SETTLED};
use integration::kube_http::KubeApi;
use integration::pods;
use integration::topology::{READY, Topology, TopologySpec};

/// Times a thread was woken in a minute, all threads together: some ten for the one look at kernel and metadata, for which all wake at
/// once; the rest is for locks and pages that were waited for on a busy machine.
const WAKE_UPS: u64 = 20;

/// Lines of the log in a minute.
const LINES: usize = 10;

#[test]
fn an_idle_daemon_is_hardly_woken_says_little_and_asks_ec2_nothing() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let api = KubeApi::default();
    topology.introduce(&api).unwrap();
    topology.serve_api(&api).unwrap();
    topology.start(&[("AWS_VPC_K8S_CNI_LOGLEVEL", "info")]).unwrap();
    topology.node("n1").wait_answers(READY).unwrap();
    let pods = pods::start(topology.node("n1"), 3, 3, &AtomicUsize::new(0)).unwrap();
    pass(SETTLED);
    let Idle { woken, lines, calls } = Idle::watch(&mut topology, "n1", MINUTE).unwrap();
    let total: u64 = woken.values().sum();
    println!("woken in a minute: {woken:?}; lines: {lines}; calls: {calls}");
    assert_eq!(calls, 0, "EC2 was asked");
    assert!(lines <= LINES, "{}", integration::process::tail(&topology.node("n1").log(), 30));
    assert!(total <= WAKE_UPS, "{woken:?}");
    drop(pods);
}
