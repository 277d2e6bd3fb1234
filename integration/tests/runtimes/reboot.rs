// SPDX-License-Identifier: Apache-2.0
//! A node that reboots with pods on it: the runtime still lists them, nothing of them is in the kernel, the journal is another boot's.

use integration::runtimes::containerd::{Line, PodSpec};
use integration::topology::READY;

use crate::bed::{Bed, pings, run};

#[test]
fn sandboxes_of_the_boot_before_go_without_a_trace_with_containerd_1() {
    sandboxes_of_the_boot_before_go(Line::One);
}

#[test]
fn sandboxes_of_the_boot_before_go_without_a_trace_with_containerd_2() {
    sandboxes_of_the_boot_before_go(Line::Two);
}

fn sandboxes_of_the_boot_before_go(line: Line) {
    let mut bed = Bed::build(line, "m5.large", &[]);
    let far = run(&bed.n2, "far");
    let old: Vec<_> = ["a", "b", "c"].into_iter().map(|name| run(&bed.n1, name)).collect();
    bed.n1.power_off().unwrap();
    let n1 = bed.topology.node_mut("n1");
    n1.kill();
    n1.ask(&["cleanup-host"]).unwrap();
    n1.lose_state().unwrap();
    // Both come up at once; kubelet sees dead sandboxes, and makes new ones before it has cleared them away.
    n1.start().unwrap();
    bed.n1.start_again().unwrap();
    bed.topology.node("n1").wait_ready(READY).unwrap();
    let new = bed.n1.run_pod(&PodSpec { attempt: 1, ..PodSpec::new("a") }).unwrap();
    for pod in &old {
        bed.n1.stop_pod(&pod.pod).unwrap();
        bed.n1.remove_pod(&pod.pod).unwrap();
    }
    bed.wait_allocated(1);
    pings(&bed.n2, &far, new.address);
    let listed = bed.n1.client.sandboxes(integration::runtimes::CALL).unwrap();
    assert_eq!(listed.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(), [new.id.as_str()]);
    bed.n1.stop_pod(&new).unwrap();
    bed.n1.remove_pod(&new).unwrap();
    bed.no_pod_is_left();
}
