// SPDX-License-Identifier: Apache-2.0
//! Pods that are bound to the node find their addresses there.

use integration::kube_http::Failing;
use integration::kube_http::resource::PODS;
use serde_json::json;

use super::bed::Bed;

const ANNOUNCED: &str = "/pool/announced";

#[test]
fn bound_pods_have_their_addresses_before_they_ask_and_others_count_for_nothing() {
    let bed = Bed::started(&[("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "1")]);
    for (name, change) in [
        ("host", json!({ "spec": { "hostNetwork": true } })),
        ("done", json!({ "status": { "phase": "Succeeded" } })),
        ("failed", json!({ "status": { "phase": "Failed" } })),
        ("served", json!({ "status": { "phase": "Running", "podIP": "10.0.1.200" } })),
        ("leaving", json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })),
        ("elsewhere", json!({ "spec": { "nodeName": "n2" } })),
    ] {
        bed.bind_pod(name, change);
    }
    let names: Vec<String> = (0..12).map(|pod| format!("web-{pod}")).collect();
    names.iter().for_each(|name| bed.bind_pod(name, json!({})));
    bed.wait_number(ANNOUNCED, "twelve pods are announced", |count| count == 12);
    bed.wait_number("/pool/free", "there is an address for each, and the warm one", |free| free >= 13);
    assert_eq!(bed.node().number(ANNOUNCED).unwrap(), 12, "nobody else is");
    let calls = || bed.topology.calls("AssignPrivateIpAddresses") + bed.topology.calls("CreateNetworkInterface");
    let before = calls();
    let sandboxes: Vec<_> = names.iter().map(|name| bed.node().sandbox(name).unwrap()).collect();
    sandboxes.iter().for_each(|sandbox| drop(bed.node().runtime.add(sandbox).unwrap()));
    assert_eq!(calls(), before, "no pod waited for EC2");
    bed.wait_number(ANNOUNCED, "who has an address is announced no more", |count| count == 0);
}

#[test]
fn a_watch_that_expired_or_broke_misses_nothing() {
    let bed = Bed::started(&[]);
    bed.bind_pod("a", json!({}));
    bed.wait_number(ANNOUNCED, "one is announced", |count| count == 1);
    bed.api.compact();
    bed.bind_pod("b", json!({}));
    bed.wait_number(ANNOUNCED, "the second is announced after the watch expired", |count| count == 2);
    bed.api.fail(Failing::Unavailable);
    bed.wait_state("connecting");
    bed.api.delete(&bed.pod("a")).unwrap();
    bed.api.delete(&bed.pod("b")).unwrap();
    let pod = json!({ "metadata": { "name": "c" }, "spec": { "nodeName": "n1" } });
    bed.api.put(&PODS, Some("default"), pod).unwrap();
    bed.api.compact();
    bed.api.fail(Failing::No);
    bed.wait_state("connected");
    bed.wait_number(ANNOUNCED, "what happened meanwhile is known", |count| count == 1);
    bed.api.delete(&bed.pod("c")).unwrap();
    bed.wait_number(ANNOUNCED, "nobody is announced", |count| count == 0);
}
