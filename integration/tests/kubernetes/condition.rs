// SPDX-License-Identifier: Apache-2.0
//! A node without addresses says so, and that it has some again; it stays ready all the time.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::pods;
use integration::sandbox::SandboxError;
use serde_json::json;

use super::bed::Bed;

/// One ENI of an m5.large: nine addresses.
const NINE: [(&str, &str); 3] = [("MAX_ENI", "1"), ("IP_COOLDOWN_PERIOD", "1"), ("WARM_IP_TARGET", "1")];

#[test]
fn a_full_node_has_a_condition_and_events_and_is_ready_all_the_same() {
    let bed = Bed::started(&NINE);
    bed.wait_condition("True", super::bed::SOON);
    let mut running = pods::start(bed.node(), 9, 3, &AtomicUsize::new(0)).unwrap();
    bed.bind_pod("tenth", json!({}));
    let tenth = bed.node().sandbox("tenth").unwrap();
    let refused = bed.node().runtime.add(&tenth).unwrap_err();
    assert!(refused.to_string().contains("NodeFull"), "{refused}");
    let condition = bed.wait_condition("False", super::bed::SOON);
    let told = Instant::now();
    assert_eq!(condition["reason"], "NodeFull");
    assert!(condition["message"].as_str().unwrap().contains("9 of 9 addresses in use"), "{condition}");
    bed.node().runtime.status().unwrap();

    let about_pod = bed.wait_event("Pod", "NodeFull");
    let uid = bed.api.read(|store| store.get(&bed.pod("tenth")).unwrap()["metadata"]["uid"].clone());
    assert_eq!((&about_pod["regarding"]["name"], &about_pod["regarding"]["uid"]), (&json!("tenth"), &uid));
    assert_eq!((&about_pod["type"], &about_pod["metadata"]["namespace"]), (&json!("Warning"), &json!("default")));
    let about_node = bed.wait_event("Node", "NodeFull");
    assert_eq!(about_node["regarding"]["name"], "n1");
    for _ in 0..3 {
        assert!(matches!(bed.node().runtime.add(&tenth), Err(SandboxError::Refused(_))));
    }
    assert_eq!(bed.events("Pod", "NodeFull").len(), 1, "the same again is a count, not an event");

    pods::end(bed.node(), running.split_off(7), 2).unwrap();
    let condition = bed.wait_condition("True", Duration::from_secs(60));
    assert_eq!(condition["reason"], "AddressesAvailable");
    assert!(told.elapsed() > Duration::from_secs(25), "it does not flap: {:?}", told.elapsed());
    assert_eq!(bed.wait_event("Node", "AddressesAvailable")["type"], "Normal");
    bed.wait("the count is written", super::bed::SOON, || {
        let event = bed.events("Pod", "NodeFull").remove(0);
        if event["series"]["count"] == 4 { Ok(()) } else { Err(event.to_string()) }
    });
    bed.node().runtime.status().unwrap();
}

#[test]
fn a_condition_that_somebody_removes_comes_back() {
    let bed = Bed::started(&[]);
    bed.wait_condition("True", super::bed::SOON);
    let key = integration::kube_http::store::Key {
        resource: &integration::kube_http::resource::NODES,
        namespace: String::new(),
        name: "n1".to_owned(),
    };
    let none = integration::kube_http::patch::Patch::merge(json!({ "status": { "conditions": [] } }));
    bed.api.patch(&key, integration::kube_http::patch::Part::Status, &none).unwrap();
    assert_eq!(bed.condition(), None);
    bed.wait_condition("True", super::bed::SOON);
}

#[test]
fn a_right_that_is_missing_costs_its_own_feature_alone() {
    let mut bed = Bed::new();
    bed.open();
    bed.api.deny(("", "nodes/status".to_owned(), "patch"), true);
    bed.start(&NINE);
    bed.wait("the missing right is named", super::bed::SOON, || {
        let shown = bed.node().ask(&["status"]).map_err(|error| error.to_string())?;
        let named =
            shown.contains("writing the node condition: ") && shown.contains("403") && shown.contains("connected");
        if named { Ok(()) } else { Err(shown) }
    });
    let _running = pods::start(bed.node(), 9, 3, &AtomicUsize::new(0)).unwrap();
    let tenth = bed.node().sandbox("tenth").unwrap();
    bed.node().runtime.add(&tenth).unwrap_err();
    bed.wait_event("Pod", "NodeFull");
    assert_eq!(bed.condition(), None);
}
