// SPDX-License-Identifier: Apache-2.0
//! ENIConfigs that are not there or name what cannot be used, and API servers that are away.

use std::time::{Duration, Instant};

use integration::kube_http::Failing;
use integration::kube_http::resource::ENI_CONFIGS;
use integration::topology::SECOND_GROUP;
use serde_json::json;

use super::bed::Bed;

#[test]
fn a_missing_eniconfig_is_named_and_when_it_is_made_pods_are_served_without_a_restart() {
    let mut bed = Bed::new(1);
    bed.change_node(json!({ "labels": { "k8s.amazonaws.com/eniConfig": "blue" } }));
    bed.start_without_addresses();
    bed.wait_named("blue");
    let error = bed.refused();
    for part in
        ["EniConfigMissing", "ENIConfig `blue`", "by the node's label k8s.amazonaws.com/eniConfig", "is not there"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let event = bed.wait_event("EniConfigMissing");
    assert!(event["note"].as_str().unwrap().contains("ENIConfig `blue`"), "{event}");
    let condition = bed.wait_condition("False", "EniConfigMissing");
    assert!(condition["message"].as_str().unwrap().contains("ENIConfig `blue`"), "{condition}");
    assert!(bed.subnets("n1").is_empty());
    let pid = bed.topology.node_mut("n1").daemon().unwrap().pid();
    // An ADD that is under way when it comes, as the kubelet repeats them.
    let late = std::thread::scope(|scope| {
        let trying = scope.spawn(|| {
            let sandbox = bed.node().next_sandbox().unwrap();
            bed.wait("the pod is served", || bed.node().runtime.add(&sandbox).map_err(|error| error.to_string()))
        });
        bed.configure("blue", json!({ "subnet": bed.subnet("one"), "securityGroups": [SECOND_GROUP] }));
        trying.join().unwrap()
    });
    assert!(bed.block("one").contains(&late.address));
    bed.wait_condition("True", "AddressesAvailable");
    assert_eq!(bed.topology.node_mut("n1").daemon().unwrap().pid(), pid);
}

#[test]
fn a_cluster_without_eniconfigs_is_told_from_one_without_this_one() {
    let mut bed = Bed::new(1);
    bed.api.unlearn(&ENI_CONFIGS, true);
    bed.start_without_addresses();
    bed.wait_named("default");
    let error = bed.refused();
    assert!(error.contains("EniConfigMissing") && error.contains("eniconfigs.crd.k8s.amazonaws.com"), "{error}");
    bed.configure("default", json!({ "subnet": bed.subnet("one") }));
    bed.api.unlearn(&ENI_CONFIGS, false);
    bed.wait("an ENI is made", || match bed.subnets("n1") {
        subnets if subnets == ["one"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bed.pods("n1", 2);
}

#[test]
fn an_eniconfig_that_may_not_be_read_is_told_at_once_and_when_the_right_is_given_pods_are_served() {
    let mut bed = Bed::new(1);
    let right = ("crd.k8s.amazonaws.com", "eniconfigs".to_owned(), "list");
    bed.api.deny(right.clone(), true);
    bed.configure("default", json!({ "subnet": bed.subnet("one"), "securityGroups": [SECOND_GROUP] }));
    bed.start_without_addresses();
    bed.wait_event("EniConfigMissing");
    let began = Instant::now();
    let error = bed.refused();
    // An ADD waits for 19.5 s for a word that is still to come.
    assert!(began.elapsed() < Duration::from_secs(10), "after {:?}: {error}", began.elapsed());
    for part in ["EniConfigMissing", "ENIConfig `default`", "(403)", "list and watch of eniconfigs"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    bed.api.deny(right, false);
    // The watch is tried again, half a minute apart at the most.
    let sandbox = bed.node().next_sandbox().unwrap();
    let served = bed.wait("the pod is served", || bed.node().runtime.add(&sandbox).map_err(|error| error.to_string()));
    assert!(bed.block("one").contains(&served.address));
}

#[test]
fn what_an_eniconfig_says_wrongly_is_named_and_the_subnet_that_can_be_used_is() {
    let mut bed = Bed::new(1);
    let unknown = "subnet-0123456789abcdef0";
    let subnets = json!([{ "id": bed.subnet("far") }, { "id": unknown }, { "id": "subnet-2" }]);
    bed.configure("default", json!({ "subnets": subnets }));
    bed.start_without_addresses();
    let causes = [
        format!("{} is in us-east-1b, the node in us-east-1a", bed.subnet("far")),
        format!("{unknown} does not exist"),
        "spec.subnets[2].id: no id such as".to_owned(),
    ];
    let event = bed.wait_event("EniConfigFaulty");
    let error = bed.refused();
    assert!(error.contains("EniConfigFaulty"), "{error}");
    for cause in &causes {
        assert!(error.contains(cause), "{cause}: {error}");
        assert!(event["note"].as_str().unwrap().contains(cause), "{cause}: {event}");
    }
    bed.wait_condition("False", "EniConfigFaulty");
    let mut subnets = subnets.as_array().unwrap().clone();
    subnets.push(json!({ "id": bed.subnet("two"), "order": 1 }));
    bed.configure("default", json!({ "subnets": subnets }));
    bed.wait("the good one is used", || match bed.subnets("n1") {
        subnets if subnets == ["two"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let pods = bed.pods("n1", 3);
    assert!(pods.iter().all(|pod| bed.block("two").contains(&pod.added.address)));
    let log = integration::process::tail(&bed.node().log(), 400);
    assert!(log.contains("its other subnets are used"), "{log}");
    // Groups that cannot be read must not become others.
    bed.configure("default", json!({ "subnet": bed.subnet("two"), "securityGroups": ["web"] }));
    let shown = bed.wait("the mistake is known", || match bed.shown() {
        shown if shown["problem"].is_string() => Ok(shown),
        other => Err(other.to_string()),
    });
    assert!(shown["problem"].as_str().unwrap().contains("spec.securityGroups[0]"), "{shown}");
    for pod in &pods {
        pod.reached_from(&bed.node().netns).unwrap();
    }
}

#[test]
fn a_daemon_that_starts_while_the_api_server_is_away_serves_and_grows_by_the_last_word() {
    let mut bed = Bed::new(1);
    bed.configure("default", json!({ "subnets": [{ "tags": { "Name": "one" } }], "securityGroups": [SECOND_GROUP] }));
    bed.start(&[]);
    let before = bed.pods("n1", 5);
    for failing in [Failing::Unavailable, Failing::Hanging] {
        bed.api.fail(failing);
        bed.restart();
        bed.pods("n1", 5);
    }
    let wanted = ("one".to_owned(), vec![SECOND_GROUP.to_owned()]);
    assert_eq!(bed.secondary("n1"), [wanted.clone(), wanted], "fifteen pods need a second ENI");
    for pod in &before {
        pod.reached_from(&bed.node().netns).unwrap();
    }
    bed.api.fail(Failing::No);
    bed.wait("the API server is found again", || match bed.node().status().unwrap()["kubernetes"].clone() {
        state if state["state"] == "connected" => Ok(()),
        other => Err(other.to_string()),
    });
}
