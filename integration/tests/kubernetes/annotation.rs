// SPDX-License-Identifier: Apache-2.0
//! Pods show their address while they have it.

use integration::kube_http::Failing;
use integration::sandbox::NetnsPath;
use serde_json::json;

use super::bed::{ANNOTATION, Bed};

#[test]
fn a_pod_shows_its_address_from_its_add_to_its_del() {
    let bed = Bed::started(&[("ANNOTATE_POD_IP", "true")]);
    bed.bind_pod("a", json!({ "metadata": { "annotations": { "other": "stays" } } }));
    bed.bind_pod("b", json!({}));
    let [a, b] = ["a", "b"].map(|name| bed.node().sandbox(name).unwrap());
    for sandbox in [&a, &b] {
        let added = bed.node().runtime.add(sandbox).unwrap();
        bed.wait_annotation(&sandbox.name, &added.address.to_string());
    }
    let shown = bed.api.read(|store| store.get(&bed.pod("a")).unwrap()["metadata"]["annotations"].clone());
    assert_eq!(shown["other"], "stays");
    bed.node().runtime.del(&a, NetnsPath::Given).unwrap();
    bed.wait_annotation("a", "");

    // What another wrote meanwhile is not ours to empty; a pod that is gone is no error.
    bed.bind_pod("b", json!({ "metadata": { "annotations": { ANNOTATION: "192.0.2.1" } } }));
    bed.wait_annotation("b", &b.address().unwrap().to_string());
    bed.api.delete(&bed.pod("b")).unwrap();
    bed.node().runtime.del(&b, NetnsPath::Given).unwrap();
    bed.bind_pod("c", json!({}));
    let c = bed.node().sandbox("c").unwrap();
    let added = bed.node().runtime.add(&c).unwrap();
    bed.wait_annotation("c", &added.address.to_string());
    assert_eq!(bed.kubernetes()["errors"], json!([]));
}

#[test]
fn what_happened_while_the_api_server_or_the_daemon_was_away_is_made_good() {
    let mut bed = Bed::started(&[("ANNOTATE_POD_IP", "true")]);
    bed.api.fail(Failing::Unavailable);
    bed.bind_pod("a", json!({}));
    let a = bed.node().sandbox("a").unwrap();
    let added = bed.node().runtime.add(&a).unwrap();
    assert!(bed.topology.node_mut("n1").stop());
    assert_eq!(bed.annotation("a"), None);
    bed.api.fail(Failing::No);
    bed.start(&[]);
    bed.wait_annotation("a", &added.address.to_string());
}
