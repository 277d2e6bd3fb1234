// SPDX-License-Identifier: Apache-2.0
//! What the watches keep of a full node's objects is little, however large those are.

use integration::kube_http::patch::{Part, Patch};
use serde_json::{Value, json};

use super::bed::Bed;

/// Of resident memory that both watches and 250 pods of 10 kB may take; read into values and kept, those alone take twice as much.
const AT_MOST_KIB: u64 = 6 << 10;

fn rss_kib(bed: &mut Bed) -> u64 {
    bed.topology.node_mut("n1").daemon().unwrap().rss_kib().unwrap()
}

/// As large as they are with a few containers, probes, volumes and managed fields.
fn served(number: usize) -> Value {
    let environment: Vec<Value> =
        (0..150).map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": "a value of some length" })).collect();
    json!({
        "spec": { "containers": [{ "name": "main", "env": environment }] },
        "status": { "phase": "Running", "podIP": format!("10.0.3.{number}") },
    })
}

#[test]
fn two_watches_and_a_full_node_of_large_pods_take_little_memory() {
    let mut bed = Bed::new();
    bed.start(&[("ANNOTATE_POD_IP", "true")]);
    let before = rss_kib(&mut bed);
    (0..250).for_each(|pod| bed.bind_pod(&format!("web-{pod}"), served(pod)));
    bed.open();
    bed.wait_state("connected");
    bed.bind_pod("last", json!({}));
    bed.wait_number("/pool/announced", "the list is read", |count| count == 1);
    for round in 0..2 {
        for pod in 0..250 {
            let patch = Patch::merge(json!({ "metadata": { "labels": { "round": round.to_string() } } }));
            bed.api.patch(&bed.pod(&format!("web-{pod}")), Part::Object, &patch).unwrap();
        }
    }
    bed.api.delete(&bed.pod("last")).unwrap();
    bed.wait_number("/pool/announced", "all changes are read", |count| count == 0);
    let after = rss_kib(&mut bed);
    println!("resident: {before} KiB without an API server, {after} KiB with both watches and 250 pods");
    assert!(after < before + AT_MOST_KIB, "{before} KiB before, {after} KiB after");
}
