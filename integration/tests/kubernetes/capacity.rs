// SPDX-License-Identifier: Apache-2.0
//! How many pods the node can have is published at once, comes back, and is held against kubelet's max-pods.

use std::time::{Duration, Instant};

use integration::eventually::pass;
use integration::topology::TopologySpec;
use serde_json::{Value, json};
use vpc_model::Fault;

use super::bed::{Bed, SOON};

const RESOURCE: &str = "enid.dev/address";

fn annotations(bed: &Bed) -> (Value, Value) {
    let all = bed.shown_node()["metadata"]["annotations"].clone();
    (all["enid.dev/pod-capacity"].clone(), all["enid.dev/pod-capacity-now"].clone())
}

fn resource(bed: &Bed) -> Value {
    bed.shown_node()["status"]["capacity"][RESOURCE].clone()
}

fn wait_figures(bed: &Bed, limit: &str, now: &str, within: Duration) {
    bed.wait("the annotations", within, || match annotations(bed) {
        found if found == (json!(limit), json!(now)) => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

#[test]
fn it_is_published_as_soon_as_metadata_has_answered_without_ec2() {
    let mut bed = Bed::new();
    bed.open();
    for action in ["DescribeNetworkInterfaces", "DescribeSubnets", "AssignPrivateIpAddresses", "CreateNetworkInterface"]
    {
        bed.topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, "InternalError")));
    }
    let node = bed.topology.node_mut("n1");
    node.set("ENID_EXTENDED_RESOURCE", RESOURCE);
    let begun = Instant::now();
    node.start().unwrap();
    wait_figures(&bed, "27", "27", Duration::from_secs(5));
    println!("published {:?} after the start", begun.elapsed());
    assert_eq!(resource(&bed), "27");
    let said = bed.node().ask(&["max-pods"]).unwrap();
    assert!(said.starts_with("29\nm5.large: 3 ENIs x 9 addresses = 27 addresses"), "{said}");
    let said = bed.node().ask(&["status"]).unwrap();
    assert!(said.contains("\npods     27 can have an address (3 ENIs x 9 addresses), 27 with what"), "{said}");
}

#[test]
fn what_kubelet_or_somebody_else_removes_comes_back_and_an_unchanged_node_is_written_no_more() {
    let bed = Bed::started(&[("ENID_EXTENDED_RESOURCE", RESOURCE), ("MAX_ENI", "2")]);
    wait_figures(&bed, "18", "18", SOON);
    bed.wait_condition("True", SOON);
    // As a kubelet that registers the node anew.
    bed.change_status(json!({ "capacity": { RESOURCE: "0", "pods": "20" } }));
    bed.wait("the resource is back", Duration::from_secs(60), || match resource(&bed) {
        value if value == "18" => Ok(()),
        value => Err(value.to_string()),
    });
    bed.wait("the other condition", SOON, || bed.condition_of("EnidMaxPodsFits").map(drop).ok_or("none".to_owned()));
    bed.change_node(json!({ "metadata": { "annotations": { "enid.dev/pod-capacity": null } } }));
    wait_figures(&bed, "18", "18", Duration::from_secs(60));
    let before = bed.shown_node()["metadata"]["resourceVersion"].clone();
    pass(Duration::from_secs(8));
    assert_eq!(bed.shown_node()["metadata"]["resourceVersion"], before);
}

/// MAX_ENI=3 on an m5.xlarge: 42 addresses.
#[test]
fn max_pods_of_58_and_addresses_for_42_is_a_condition_and_one_event() {
    let mut bed = Bed::of(&TopologySpec::one("m5.xlarge"));
    bed.change_status(json!({ "capacity": { "pods": "58" } }));
    bed.open();
    bed.start(&[("MAX_ENI", "3"), ("WARM_IP_TARGET", "1")]);
    let shown = |status: &str, within| {
        bed.wait(&format!("EnidMaxPodsFits is {status}"), within, || match bed.condition_of("EnidMaxPodsFits") {
            Some(condition) if condition["status"] == status => Ok(condition),
            other => Err(format!("{other:?}")),
        })
    };
    let condition = shown("False", SOON);
    assert_eq!(condition["reason"], "MaxPodsTooHigh");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains("58 pods, and 42 can have") && message.contains("max-pods to 44"), "{message}");
    let event = bed.wait_event("Node", "MaxPodsTooHigh");
    assert_eq!((&event["type"], &event["series"]), (&json!("Warning"), &Value::Null));
    // kubelet with 44, the two on the host's network counted.
    bed.change_status(json!({ "capacity": { "pods": "44" } }));
    let condition = shown("True", Duration::from_secs(60));
    assert_eq!(condition["reason"], "MaxPodsFits");
    assert_eq!(bed.events("Node", "MaxPodsTooHigh").len(), 1);
}

#[test]
fn eks_own_number_fits_an_m5_large() {
    let bed = Bed::started(&[]);
    bed.change_status(json!({ "capacity": { "pods": "29" } }));
    bed.wait("EnidMaxPodsFits", SOON, || match bed.condition_of("EnidMaxPodsFits") {
        Some(condition) if condition["status"] == "True" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(bed.events("Node", "MaxPodsTooHigh").len(), 0);
}
