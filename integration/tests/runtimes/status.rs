// SPDX-License-Identifier: Apache-2.0
//! containerd 2 asks STATUS, and a node is Ready only when the answer is good: it is when an ADD would succeed, and stays so.

use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::runtimes::containerd::{Containerd, Line, PodSpec};
use integration::topology::READY;

use crate::bed::{nodes, pings, run};

/// How often kubelet asks is 5 s; the more often, the more a flap would show.
const STEP: Duration = Duration::from_millis(100);

#[test]
fn the_network_is_ready_when_an_add_would_succeed_and_stays_so_under_restarts_and_on_a_full_node() {
    let mut topology = nodes("t3.nano");
    let containerd = Containerd::start(&topology.world, topology.node("n1"), Line::Two).unwrap();
    let reason = containerd.network_ready().unwrap().unwrap_err();
    assert!(reason.contains("NetworkPluginNotReady"), "{reason}");
    topology.node_mut("n1").set("MAX_ENI", "1");
    topology.node_mut("n1").start().unwrap();
    let ready = eventually("NetworkReady", READY, || containerd.network_ready().unwrap());
    ready.unwrap();
    // It said so only when it was true.
    let first = run(&containerd, "first");

    let restarts = Instant::now();
    for _ in 0..4 {
        topology.node_mut("n1").kill();
        stays_ready(&containerd, Duration::from_millis(700));
        topology.node_mut("n1").start().unwrap();
        stays_ready(&containerd, Duration::from_millis(700));
    }
    topology.node("n1").wait_ready(READY).unwrap();
    assert!(restarts.elapsed() < Duration::from_secs(60), "slower than this the daemon may be called gone");
    // Full: the node's business, not its readiness'.
    containerd.run_pod(&PodSpec::new("too-many")).unwrap_err();
    stays_ready(&containerd, Duration::from_secs(1));
    pings(&containerd, &first, topology.instance("n1").unwrap().address);
}

fn stays_ready(containerd: &Containerd, during: Duration) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        containerd.network_ready().unwrap().unwrap_or_else(|reason| panic!("not ready any more: {reason}"));
        pass(STEP);
    }
}
