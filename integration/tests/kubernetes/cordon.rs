// SPDX-License-Identifier: Apache-2.0
//! A cordoned node's pool stays as it is, unless it is told to go on.

use integration::sandbox::{Added, Sandbox, SandboxError};
use serde_json::{Value, json};

use super::bed::Bed;

const WARM: [(&str, &str); 2] = [("WARM_IP_TARGET", "2"), ("MINIMUM_IP_TARGET", "2")];

/// As the node lifecycle controller does.
fn cordon() -> Value {
    json!({ "spec": { "unschedulable": true, "taints": [{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }] } })
}

fn wait_cordoned(bed: &Bed, wanted: bool) {
    bed.wait("the cordon is known", super::bed::SOON, || {
        let state = bed.kubernetes();
        if state["cordoned"] == wanted { Ok(()) } else { Err(state.to_string()) }
    });
}

fn add(bed: &Bed) -> (Sandbox, Result<Added, SandboxError>) {
    let sandbox = bed.node().next_sandbox().unwrap();
    let added = bed.node().runtime.add(&sandbox);
    (sandbox, added)
}

#[test]
fn a_cordoned_node_takes_no_more_addresses_until_it_is_uncordoned() {
    let bed = Bed::started(&WARM);
    bed.wait_number("/pool/free", "the pool is warm", |free| free == 2);
    bed.change_node(cordon());
    wait_cordoned(&bed, true);
    let total = bed.node().number("/pool/total").unwrap();
    let _pods: Vec<_> = (0..total).map(|_| add(&bed).1.unwrap()).collect();
    let (_sandbox, refused) = add(&bed);
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("NodeCordoned"), "{refused}");
    assert_eq!(bed.node().number("/pool/total").unwrap(), total);
    bed.change_node(json!({ "spec": { "unschedulable": null, "taints": null } }));
    wait_cordoned(&bed, false);
    add(&bed).1.unwrap();
}

#[test]
fn aws_manage_enis_non_schedulable_goes_on() {
    let settings: Vec<_> = WARM.into_iter().chain([("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true")]).collect();
    let bed = Bed::started(&settings);
    bed.change_node(cordon());
    wait_cordoned(&bed, true);
    let _pods: Vec<_> = (0..4).map(|_| add(&bed).1.unwrap()).collect();
    bed.wait_number("/pool/total", "the pool grew", |total| total >= 6);
}
