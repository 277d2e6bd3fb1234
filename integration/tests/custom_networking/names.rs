// SPDX-License-Identifier: Apache-2.0
//! Which ENIConfig a node has: what of the Node names it, and what becomes of ENIs when it names another one.

use serde_json::json;

use super::bed::Bed;

const KEY: &str = "k8s.amazonaws.com/eniConfig";
const EXTERNAL: &str = "vpc.amazonaws.com/externalEniConfig";

#[test]
fn the_external_label_goes_before_the_annotation_and_that_before_the_label() {
    let mut bed = Bed::new(1);
    for (name, subnet) in [("by-label", "one"), ("by-annotation", "two"), ("external", "tiny")] {
        bed.configure(name, json!({ "subnet": bed.subnet(subnet) }));
    }
    bed.change_node(json!({
        "labels": { KEY: "by-label", EXTERNAL: "external" }, "annotations": { KEY: "by-annotation" },
    }));
    bed.start(&[("MAX_ENI", "2")]);
    bed.wait_named("external");
    bed.change_node(json!({ "labels": { EXTERNAL: null } }));
    let shown = bed.wait_named("by-annotation");
    assert_eq!(shown["eniConfig"]["source"], json!({ "annotation": KEY }));
    bed.change_node(json!({ "annotations": { KEY: null } }));
    bed.wait_named("by-label");
    bed.change_node(json!({ "labels": { KEY: null } }));
    let shown = bed.wait_named("default");
    assert!(shown["problem"].as_str().unwrap().contains("is not there"), "{shown}");
}

#[test]
fn when_the_node_names_another_eniconfig_new_enis_are_made_by_that_and_the_others_stay() {
    let mut bed = Bed::new(1);
    bed.configure("blue", json!({ "subnet": bed.subnet("one") }));
    bed.configure("green", json!({ "subnet": bed.subnet("two") }));
    bed.change_node(json!({ "labels": { "team/network": "blue" } }));
    bed.start(&[("ENI_CONFIG_LABEL_DEF", "team/network")]);
    let before = bed.pods("n1", 5);
    assert_eq!(bed.subnets("n1"), ["one"]);
    bed.change_node(json!({ "labels": { "team/network": "green" } }));
    bed.wait_named("green");
    let after = bed.pods("n1", 10);
    assert_eq!(bed.subnets("n1"), ["one", "two"]);
    assert!(after.iter().any(|pod| bed.block("two").contains(&pod.added.address)));
    for pod in before.iter().chain(&after) {
        pod.reached_from(&bed.node().netns).unwrap();
    }
}
