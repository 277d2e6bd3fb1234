// SPDX-License-Identifier: Apache-2.0
//! What the Node says: labels that classes select by, annotations that are settings.

use integration::kube_http::Failing;
use integration::topology::READY;
use serde_json::{Value, json};

use crate::bed::{Bed, variable, wait, wait_variable, warm};

const LARGE: &str =
    "classes: [{name: large, selector: {labels: {size: large}}, settings: {WARM_IP_TARGET: 6, MAX_ENI: 2}}]";

#[test]
fn an_annotation_of_the_node_wins_over_its_class_and_goes_again_when_it_is_taken_away() {
    let bed = Bed::started(&json!({ "size": "large" }), LARGE);
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["6", "class", "large"]));
    bed.annotate("WARM_IP_TARGET", &json!("4"));
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["4", "node", null]));
    wait(bed.node(), "the pool aims at it", || if warm(bed.node()) == 4 { Ok(()) } else { Err(String::new()) });
    assert_eq!(variable(bed.node(), "MAX_ENI"), json!(["2", "class", "large"]));
    let shown = bed.node().ask(&["config"]).unwrap();
    let line = shown.lines().find(|line| line.trim_start().starts_with("WARM_IP_TARGET")).unwrap();
    assert!(line.contains("annotation of the node") && line.contains("yes"), "{line}");
    assert_eq!(bed.wait_condition("True")["reason"], "ConfigurationValid");
    bed.annotate("WARM_IP_TARGET", &Value::Null);
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["6", "class", "large"]));
    bed.node().check().unwrap();
}

#[test]
fn a_restart_without_the_api_server_keeps_what_the_node_s_class_and_annotations_set() {
    let mut bed = Bed::started(&json!({ "size": "large" }), LARGE);
    bed.annotate("ENID_MAX_PODS", &json!("17"));
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["6", "class", "large"]));
    wait_variable(bed.node(), "ENID_MAX_PODS", &json!(["17", "node", null]));
    bed.api.fail(Failing::Unavailable);
    let n1 = bed.topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    bed.node().wait_answers(READY).unwrap();
    // From the first answer on, and not only after a while.
    assert_eq!(variable(bed.node(), "WARM_IP_TARGET"), json!(["6", "class", "large"]));
    assert_eq!(variable(bed.node(), "ENID_MAX_PODS"), json!(["17", "node", null]));
    assert_eq!(warm(bed.node()), 6);
    assert_eq!(bed.node().status().unwrap()["kubernetes"]["state"], "connecting");
    // Back, it tells what the Node is by now.
    bed.annotate("ENID_MAX_PODS", &Value::Null);
    bed.api.fail(Failing::No);
    wait_variable(bed.node(), "ENID_MAX_PODS", &json!([null, "default", null]));
    assert_eq!(variable(bed.node(), "WARM_IP_TARGET"), json!(["6", "class", "large"]));
}
