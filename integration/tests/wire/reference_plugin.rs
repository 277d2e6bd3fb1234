// SPDX-License-Identifier: Apache-2.0
//! Our daemon, called by the reference's plugin.

use std::net::Ipv4Addr;

use integration::go_callers::wire::{Exchange, call};
use integration::topology::{Topology, TopologySpec};
use serde_json::{Value, json};

const ADD: &str = "/rpc.CNIBackend/AddNetwork";
const DEL: &str = "/rpc.CNIBackend/DelNetwork";

fn node(environment: &[(&str, &str)]) -> Topology {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(environment).unwrap();
    topology
}

fn ask(topology: &Topology, method: &str, request: &Value) -> Exchange {
    let n1 = topology.node("n1");
    call(n1, &n1.state_folder().join("ipamd.sock"), method, request).unwrap()
}

/// What the reference's plugin sends, the released image's empty version with it.
fn add(container: &str) -> Value {
    json!({
        "K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop", "K8S_POD_INFRA_CONTAINER_ID": container, "Netns": "/run/netns/none",
        "IfName": "eth0", "NetworkName": "aws-cni", "ContainerID": container, "ClientVersion": ""
    })
}

fn del(container: &str) -> Value {
    json!({
        "K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop", "K8S_POD_INFRA_CONTAINER_ID": container, "Reason": "PodDeleted",
        "IfName": "eth0", "NetworkName": "aws-cni", "ContainerID": container, "ClientVersion": "", "K8S_POD_UID": "u-1"
    })
}

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

/// The one address of a reply that has one.
fn address(exchange: &Exchange) -> Ipv4Addr {
    assert_eq!((exchange.code.as_str(), &exchange.reply["Success"]), ("OK", &json!(true)), "{exchange:?}");
    let metadata = exchange.reply["IPAllocationMetadata"].as_array().unwrap();
    assert_eq!(metadata.len(), 1, "{exchange:?}");
    metadata[0]["IPv4Addr"].as_str().unwrap().parse().unwrap()
}

fn allocated(topology: &Topology) -> u64 {
    topology.node("n1").number("/pool/allocated").unwrap()
}

#[test]
fn the_reference_s_plugin_gets_an_address_the_same_again_and_gives_it_back() {
    let topology = node(&[("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true")]);
    let first = ask(&topology, ADD, &add("c1"));
    let enis = topology.enis("n1").unwrap();
    let eni = enis.iter().find(|eni| eni.secondary.contains(&address(&first))).unwrap();
    let metadata = &first.reply["IPAllocationMetadata"][0];
    // The primary ENI's pods are in main; another ENI's number is one more than its device index.
    let table = if eni.device_index == 0 { 254 } else { eni.device_index + 1 };
    assert_eq!(metadata["RouteTableId"], table, "{first:?}");
    assert_eq!((&metadata["DeviceNumber"], &metadata["IPv6Addr"]), (&json!(eni.device_index), &json!("")));
    assert_eq!((&first.reply["UseExternalSNAT"], &first.reply["VPCv4CIDRs"]), (&json!(true), &json!(["10.0.0.0/16"])));
    for (field, empty) in [
        ("PodVlanId", json!(0)),
        ("PodENIMAC", json!("")),
        ("ParentIfIndex", json!(0)),
        ("NetworkPolicyMode", json!("")),
    ] {
        assert_eq!(first.reply[field], empty, "{field}");
    }
    assert!(first.unknown > 0, "our own fields were in it, and were skipped: {first:?}");

    assert_eq!(address(&ask(&topology, ADD, &add("c1"))), address(&first), "the key has it");
    assert_ne!(address(&ask(&topology, ADD, &add("c2"))), address(&first));
    assert_eq!(allocated(&topology), 2);
    assert_eq!(address(&ask(&topology, DEL, &del("c1"))), address(&first));
    assert_eq!(allocated(&topology), 1);
    // The reference says so by an error that its plugin takes for success; ours by a success without an address.
    let again = ask(&topology, DEL, &del("c1"));
    assert_eq!(
        (again.code.as_str(), &again.reply["Success"], &again.reply["IPAllocationMetadata"]),
        ("OK", &json!(true), &json!([]))
    );
}

#[test]
fn another_version_is_refused_by_status_and_an_ordinary_failure_by_the_reply() {
    let topology = node(&[("MAX_ENI", "1")]);
    for version in ["v1.19.0", "1.23.1"] {
        for (method, request) in [(ADD, add("c1")), (DEL, del("c1"))] {
            let refused = ask(&topology, method, &with(request, "ClientVersion", version.into()));
            assert_eq!(refused.code, "FailedPrecondition", "{refused:?}");
            assert!(refused.message.contains(version), "{refused:?}");
        }
    }
    // A plugin of before the CNI key, one that asks for several cards, and one for which there is no address.
    let failures = ["ContainerID", "IfName", "NetworkName"].map(|field| with(add("c1"), field, "".into()));
    for request in failures.into_iter().chain([with(add("c1"), "RequiresMultiNICAttachment", true.into())]) {
        let failed = ask(&topology, ADD, &request);
        assert_eq!((failed.code.as_str(), &failed.reply["Success"]), ("OK", &json!(false)), "{failed:?}");
    }
    assert_eq!(allocated(&topology), 0);
    for pod in 0..9 {
        address(&ask(&topology, ADD, &add(&format!("c{pod}"))));
    }
    let full = ask(&topology, ADD, &add("c9"));
    assert_eq!((full.code.as_str(), &full.reply["Success"]), ("OK", &json!(false)), "{full:?}");
    assert!(full.unknown > 0, "its reason is in a field of ours: {full:?}");
    // What an older plugin never sends is not asked for at its DEL.
    let old = json!({"K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop", "IfName": "eth0", "NetworkName": "aws-cni", "ContainerID": "c3"});
    address(&ask(&topology, DEL, &old));
}

#[test]
fn probes_and_the_policy_agent_s_question_are_answered() {
    let topology = node(&[("NETWORK_POLICY_ENFORCING_MODE", "Strict")]);
    let health = "/grpc.health.v1.Health/Check";
    for service in ["", "grpc.health.v1.aws-node"] {
        let answer = ask(&topology, health, &json!({"service": service}));
        assert_eq!((answer.code.as_str(), &answer.reply["status"]), ("OK", &json!("SERVING")), "{service}: {answer:?}");
    }
    assert_eq!(ask(&topology, health, &json!({"service": "another"})).code, "NotFound");
    let answer = ask(&topology, "/rpc.ConfigServerBackend/GetNetworkPolicyConfigs", &json!({}));
    let n1 = topology.instance("n1").unwrap();
    let expected = json!({
        "NetworkPolicyMode": "Strict", "MultiNICEnabled": false, "NodeIPv4": n1.address.to_string(), "NodeIPv6": "",
        "InstanceID": n1.id, "Region": "us-east-1"
    });
    assert_eq!((answer.code.as_str(), &answer.reply), ("OK", &expected));
    assert_eq!(ask(&topology, ADD, &add("c1")).reply["NetworkPolicyMode"], "Strict");
    assert_eq!(ask(&topology, DEL, &del("c1")).reply["NetworkPolicyMode"], "Strict");
    // Its plugin would have the agent forget a pod by its name, which may be another's by now.
    assert_eq!(ask(&topology, DEL, &del("c1")).reply["NetworkPolicyMode"], "");
}
