// SPDX-License-Identifier: Apache-2.0
//! When a node becomes Ready.

use std::path::Path;
use std::time::Duration;

use integration::cluster::machine_settings;
use integration::eventually::pass;
use integration::topology::READY;
use vpc_model::Fault;

use crate::bed::{Bed, DEPLOYMENTS, PATIENCE};
use crate::workloads::deployment;

/// kubelet looks at its runtime every 5 s, and writes every 2 s.
const SEVERAL_LOOKS: Duration = Duration::from_secs(12);

#[test]
fn a_node_turns_ready_only_when_an_add_would_succeed() {
    let (before, folders) = (machine_settings().unwrap(), folders());
    let mut bed = Bed::new();
    bed.grant();
    // Pods that wait for a node.
    bed.create(DEPLOYMENTS, &deployment("web", 4));
    let reason = bed.wait("n1 says why it is not ready", PATIENCE, || match bed.condition("n1", "Ready") {
        Some(condition) if condition["status"] == "False" => Ok(condition["message"].as_str().unwrap().to_owned()),
        other => Err(format!("{other:?}")),
    });
    assert!(reason.contains("cni plugin not initialized") || reason.contains("cni config uninitialized"), "{reason}");

    // The daemons run, and get no address.
    for action in ["AssignPrivateIpAddresses", "CreateNetworkInterface"] {
        bed.cluster.topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, "InternalError")));
    }
    bed.start(&[]);
    for node in bed.cluster.nodes() {
        bed.cluster.topology.node(&node).wait_answers(READY).unwrap();
    }
    pass(SEVERAL_LOOKS);
    for node in bed.cluster.nodes() {
        assert_eq!(bed.condition(&node, "Ready").unwrap()["status"], "False", "{node} has no address to give");
    }
    assert!(
        bed.pods("web").iter().all(|pod| pod.node.is_empty()),
        "the scheduler keeps away from nodes that are not ready"
    );

    bed.cluster.topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    let pods = bed.wait_pods("web", 4);
    assert!(pods.iter().all(|pod| bed.is_of_its_node(pod)), "{pods:?}");
    for node in bed.cluster.nodes() {
        bed.wait_ready(&node);
    }
    let refused: Vec<_> =
        bed.warnings().into_iter().filter(|warning| warning.contains("FailedCreatePodSandBox")).collect();
    assert!(refused.is_empty(), "Ready was a promise: {refused:?}");
    assert_eq!(machine_settings().unwrap(), before, "kubelet has changed what is the whole machine's");
    assert_eq!(self::folders(), folders, "something was left in the machine's folders");
}

/// Which of the folders that programs of Kubernetes make are on the machine.
fn folders() -> [bool; 4] {
    ["/usr/libexec/kubernetes", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"]
        .map(|it| Path::new(it).exists())
}
