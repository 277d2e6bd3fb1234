// SPDX-License-Identifier: Apache-2.0
//! Pods do not need the API server: not there, hanging, or failing, it costs no ADD a moment, and it is found when it is back.

use std::time::{Duration, Instant};

use integration::kube_http::Failing;
use integration::sandbox::NetnsPath;
use serde_json::json;

use super::bed::Bed;

/// Above what an ADD takes on a loaded machine, and far below any timeout of the edge.
const QUICK: Duration = Duration::from_secs(3);

/// ADDs and DELs of a few pods that the API server knows of, each in time.
fn pods_come_and_go(bed: &Bed, names: &[&str]) {
    for name in names {
        bed.bind_pod(name, json!({}));
        let sandbox = bed.node().sandbox(name).unwrap();
        let took = bed.node().runtime.add(&sandbox).unwrap().took;
        assert!(took < QUICK, "{name}: ADD took {took:?}");
        let took = bed.node().runtime.del(&sandbox, NetnsPath::Given).unwrap();
        assert!(took < QUICK, "{name}: DEL took {took:?}");
    }
}

#[test]
fn without_an_api_server_pods_are_served_and_when_it_comes_it_is_found_without_a_restart() {
    let mut bed = Bed::new();
    let begun = Instant::now();
    bed.start(&[("ANNOTATE_POD_IP", "true")]);
    assert!(begun.elapsed() < Duration::from_secs(10), "ready after {:?}", begun.elapsed());
    pods_come_and_go(&bed, &["a", "b"]);
    let state = bed.wait("the cause is in the status", super::bed::SOON, || {
        let state = bed.kubernetes();
        if state["errors"].to_string().contains("refused") { Ok(state) } else { Err(state.to_string()) }
    });
    assert_eq!(state["state"], "connecting");
    assert!(bed.node().ask(&["status"]).unwrap().contains("cluster  connecting for "));
    let pid = bed.topology.node_mut("n1").daemon().unwrap().pid();
    bed.change_node(json!({ "spec": { "unschedulable": true } }));
    bed.open();
    let state = bed.wait_state("connected");
    assert_eq!((&state["node"], &state["cordoned"]), (&json!("n1"), &json!(true)));
    let sandbox = bed.node().sandbox("c").unwrap();
    bed.bind_pod("c", json!({}));
    let added = bed.node().runtime.add(&sandbox).unwrap();
    bed.wait_annotation("c", &added.address.to_string());
    assert_eq!(bed.topology.node_mut("n1").daemon().unwrap().pid(), pid);
    let daemon_errors = bed.kubernetes()["errors"].clone();
    assert_eq!(daemon_errors, json!([]), "what is over is not told any more");
}

#[test]
fn an_api_server_that_hangs_or_fails_delays_no_add() {
    let mut bed = Bed::new();
    bed.api.fail(Failing::Hanging);
    bed.open();
    bed.start(&[("ANNOTATE_POD_IP", "true")]);
    pods_come_and_go(&bed, &["a", "b"]);
    assert_eq!(bed.kubernetes()["state"], "connecting");
    bed.api.fail(Failing::No);
    bed.wait_state("connected");
    bed.bind_pod("c", json!({}));
    let sandbox = bed.node().sandbox("c").unwrap();
    for failing in [Failing::Hanging, Failing::Unavailable] {
        bed.api.fail(failing);
        pods_come_and_go(&bed, &["d", "e"]);
    }
    // What should have been written meanwhile is, when it is back.
    let added = bed.node().runtime.add(&sandbox).unwrap();
    bed.api.fail(Failing::No);
    bed.wait_annotation("c", &added.address.to_string());
}

#[test]
fn without_a_node_name_or_a_way_to_connect_it_is_off_and_says_why() {
    let mut bed = Bed::new();
    bed.topology.node_mut("n1").unset("KUBECONFIG");
    bed.start(&[]);
    let state = bed.wait_state("off");
    assert!(state["errors"].to_string().contains("service account"), "{state}");
    assert!(bed.topology.node_mut("n1").stop());
    bed.topology.node_mut("n1").unset("MY_NODE_NAME");
    bed.start(&[]);
    assert!(bed.kubernetes()["errors"].to_string().contains("MY_NODE_NAME"), "{}", bed.kubernetes());
    pods_come_and_go(&bed, &["a"]);
}

/// It is in the VPC or near it; the proxy is for AWS's endpoints. kube takes the environment's, and makes no client then.
#[test]
fn the_api_server_is_reached_directly_whatever_proxy_is_set() {
    let nobody = "http://127.0.0.1:9";
    let bed = Bed::started(&[("HTTPS_PROXY", nobody), ("HTTP_PROXY", nobody)]);
    bed.wait_number("/pool/free", "the pool is warm", |free| free > 0);
}
