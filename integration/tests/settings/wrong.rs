// SPDX-License-Identifier: Apache-2.0
//! What is wrong changes nothing, is told wherever an operator looks, and is forgotten when it is right.

use serde_json::json;

use crate::bed::{Bed, rewrite, variable, wait, wait_variable, warm};

const RIGHT: &str = "classes: [{name: all, settings: {WARM_IP_TARGET: 5}}]";
const WRONG: &str = "classes: [{name: all, settings: {WARM_IP_TARGET: 7, WARM_IP_TARGETS: 8, ENID_LAYOUT: classic}}]";

#[test]
fn a_file_with_mistakes_leaves_the_last_good_one_in_place_and_all_of_them_are_told() {
    let mut bed = Bed::started(&json!({}), RIGHT);
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["5", "class", "all"]));
    assert_eq!(bed.wait_condition("True")["reason"], "ConfigurationValid");
    rewrite(bed.node(), WRONG);
    let condition = bed.wait_condition("False");
    assert_eq!(condition["reason"], "ConfigurationInvalid");
    for named in ["class `all`", "WARM_IP_TARGETS", "ENID_LAYOUT takes effect only from the environment, at a start"] {
        assert!(condition["message"].as_str().unwrap().contains(named), "{condition}");
    }
    let event = bed.wait_event("ConfigurationInvalid");
    assert_eq!((&event["type"], &event["regarding"]["kind"]), (&json!("Warning"), &json!("Node")));
    let notes = bed.node().status().unwrap()["notes"].to_string();
    assert!(notes.contains("WARM_IP_TARGETS") && notes.contains("what was there before holds"), "{notes}");
    assert_eq!((variable(bed.node(), "WARM_IP_TARGET"), warm(bed.node())), (json!(["5", "class", "all"]), 5));
    let said = std::fs::read_to_string(bed.node().log()).unwrap();
    assert_eq!(said.matches("settings of this node cannot be used").count(), 1, "once, and not every 5 s");

    // A restart does not bring in what is wrong, nor does it lose what was right.
    let n1 = bed.topology.node_mut("n1");
    assert!(n1.stop());
    n1.start().unwrap();
    bed.node().wait_answers(integration::topology::READY).unwrap();
    assert_eq!((variable(bed.node(), "WARM_IP_TARGET"), warm(bed.node())), (json!(["5", "class", "all"]), 5));

    rewrite(bed.node(), "classes: [{name: all, settings: {WARM_IP_TARGET: 7}}]");
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["7", "class", "all"]));
    assert_eq!(bed.wait_condition("True")["reason"], "ConfigurationValid");
    wait(bed.node(), "nothing is noted any more", || {
        let notes = bed.node().status().map_err(|error| error.to_string())?["notes"].to_string();
        if notes.contains("settings:") { Err(notes) } else { Ok(()) }
    });
}

#[test]
fn an_annotation_that_is_wrong_is_named_and_the_file_goes_on() {
    let bed = Bed::started(&json!({}), RIGHT);
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["5", "class", "all"]));
    bed.annotate("WARM_IP_TARGET", &json!("many"));
    let condition = bed.wait_condition("False");
    assert!(
        condition["message"].as_str().unwrap().contains("annotation `setting.enid.dev/WARM_IP_TARGET`"),
        "{condition}"
    );
    rewrite(bed.node(), "classes: [{name: all, settings: {WARM_IP_TARGET: 6}}]");
    wait_variable(bed.node(), "WARM_IP_TARGET", &json!(["6", "class", "all"]));
}
