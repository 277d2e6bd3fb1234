// SPDX-License-Identifier: Apache-2.0
//! The start-up taint keeps pods away until an address is proven, and not longer.

use std::time::Duration;

use integration::eventually::pass;
use serde_json::{Value, json};
use vpc_model::Fault;

use super::bed::Bed;

const TAINT: &str = "enid.dev/starting";

fn taints(bed: &Bed) -> Vec<Value> {
    bed.shown_node()["spec"]["taints"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_start_up_taint_goes_with_the_first_proven_address_and_others_stay() {
    let mut bed = Bed::new();
    let (ours, other) = (
        json!({ "key": TAINT, "effect": "NoSchedule" }),
        json!({ "key": "a/b", "effect": "NoSchedule", "value": "c" }),
    );
    bed.change_node(json!({ "spec": { "taints": [other, ours] } }));
    bed.open();
    // Without these no address comes.
    for action in ["AssignPrivateIpAddresses", "CreateNetworkInterface"] {
        bed.topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, "InternalError")));
    }
    let node = bed.topology.node_mut("n1");
    node.set("ENID_STARTUP_TAINT", &format!("{TAINT}:NoSchedule"));
    node.start().unwrap();
    bed.node().wait_answers(super::bed::SOON).unwrap();
    bed.wait_state("connected");
    pass(Duration::from_secs(2));
    assert_eq!(bed.node().number("/pool/total").unwrap(), 0);
    assert_eq!(taints(&bed).len(), 2, "no address yet");
    bed.topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    bed.wait("the taint is gone", Duration::from_secs(60), || {
        let taints = taints(&bed);
        if taints.len() == 1 { Ok(()) } else { Err(format!("{taints:?}")) }
    });
    assert_eq!(taints(&bed), [other]);
    assert!(bed.node().number("/pool/total").unwrap() > 0);
}
