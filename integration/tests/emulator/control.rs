// SPDX-License-Identifier: Apache-2.0
//! The control API.

use serde_json::{Value, json};

use crate::served::{NODE_1, Served, between};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn settings_are_changed_in_part_and_unknown_ones_refused() {
    let served = Served::start();
    let answer = served.control("PUT", "/settings", r#"{"latencies":{"attach_ms":5000},"choice":"lowest"}"#);
    assert_eq!(answer.status, 200);
    let settings = value(&served.control("GET", "/settings", "").body);
    assert_eq!(settings["latencies"]["attach_ms"], 5_000);
    assert_eq!(settings["throttle"]["enabled"], true, "what was not named stays");
    let refused = served.control("PUT", "/settings", r#"{"latencies":{"attatch_ms":1}}"#);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("attatch_ms"), "{}", refused.body);
}

#[test]
fn a_fault_can_be_ordered_seen_and_taken_back() {
    let served = Served::start();
    let fault = json!({"action": "CreateTags", "code": "UnauthorizedOperation"});
    served.control("POST", "/faults", &fault.to_string());
    let refused = served.call("Action=CreateTags&ResourceId.1=x");
    assert_eq!((refused.status, between(&refused.body, "Code").as_str()), (403, "UnauthorizedOperation"));
    assert_eq!(value(&served.control("GET", "/faults", "").body)["calls"][0]["action"], "CreateTags");
    served.control("DELETE", "/faults", "");
    let refused = served.call("Action=CreateTags&ResourceId.1=x");
    assert_ne!(between(&refused.body, "Code"), "UnauthorizedOperation");
    let calls = value(&served.control("GET", "/calls", "").body);
    assert_eq!(calls.as_array().unwrap().len(), 2);
    assert_eq!(calls[0]["code"], "UnauthorizedOperation");
}

#[test]
fn an_address_is_moved_an_instance_launched_and_ended() {
    let served = Served::start();
    let from = served.primary_eni();
    served.call(&format!("Action=AssignPrivateIpAddresses&NetworkInterfaceId={from}&PrivateIpAddress.1=10.0.0.77"));
    let spec = json!({"name": "node-3", "instance_type": "m5.large", "subnet": "a"});
    let launched = value(&served.control("POST", "/instances", &spec.to_string()).body);
    let id = launched["instance"].as_str().unwrap().to_owned();
    let state = value(&served.control("GET", "/state", "").body);
    let enis = state["enis"].as_array().unwrap();
    let to = enis.iter().find(|eni| eni["attachment"]["instance"] == id.as_str()).unwrap()["id"].clone();
    let order = json!({"from": from, "to": to, "address": "10.0.0.77"}).to_string();
    assert_eq!(served.control("POST", "/move-address", &order).status, 200);
    let again = served.control("POST", "/move-address", &order);
    assert_eq!(again.status, 400);
    assert!(again.body.contains("is not a secondary address of"), "{}", again.body);
    assert_eq!(served.control("POST", &format!("/instances/{id}/terminate"), "").status, 200);
    assert_eq!(served.control("POST", "/instances/i-0123456789abcdef0/terminate", "").status, 400);
    assert_eq!(served.control("POST", &format!("/instances/{NODE_1}/explode"), "").status, 404);
    let left = value(&served.control("GET", "/state", "").body)["enis"].as_array().unwrap().len();
    assert_eq!(left, enis.len() - 1, "the primary ENI goes with its instance");
}

#[test]
fn faults_of_attaching_and_of_imds_and_blocks_of_a_vpc_can_be_ordered() {
    let served = Served::start();
    for (path, body) in [
        ("/attach-faults", json!({"instance": NODE_1, "count": 1, "kind": "no_link"})),
        ("/attach-faults", json!({"kind": {"late_link": 500}})),
        ("/imds-faults", json!({"path_prefix": "/latest/meta-data/mac", "status": 503, "count": 2})),
        ("/vpcs/vpc-0aaaaaaaaaaaaaaa1/cidr-blocks", json!("100.64.0.0/16")),
    ] {
        assert_eq!(served.control("POST", path, &body.to_string()).status, 200, "{path}");
    }
    let faults = value(&served.control("GET", "/faults", "").body);
    assert_eq!(faults["attaches"].as_array().unwrap().len(), 2);
    assert_eq!(faults["imds"][0]["status"], 503);
    let vpcs = served.call("Action=DescribeVpcs");
    assert!(vpcs.body.contains("<cidrBlock>100.64.0.0/16</cidrBlock>"), "{}", vpcs.body);
    assert_eq!(served.control("POST", "/vpcs/vpc-1/cidr-blocks", "\"10.1.0.0/16\"").status, 400);
}
