// SPDX-License-Identifier: Apache-2.0
//! One node of a cluster sweeps leaked ENIs, and another one when it is gone.

use std::time::Duration;

use integration::emulator::text_of;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::resource::LEASES;
use integration::kube_http::store::Key;
use integration::topology::{Latency, NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::{Value, json};
use vpc_model::{CallRecord, EniId};

use super::bed::{Bed, SOON};

const SETTINGS: [(&str, &str); 3] = [("CLUSTER_NAME", "blue"), ("ENID_LEAKED_ENI_AGE", "10"), ("WARM_IP_TARGET", "1")];
/// Two looks of 12.5 s at most, on a busy machine.
const ELECTED: Duration = Duration::from_secs(60);

/// An old ENI of the cluster, made for an instance that is gone.
fn leak(topology: &Topology) -> EniId {
    let subnet = topology.emulator.subnet_id("b");
    let params = [("SubnetId", subnet.as_str()), ("Description", "aws-K8S-i-00000000000000bad")];
    let made = topology.emulator.ec2("CreateNetworkInterface", &params);
    let eni = text_of(&made.body, "networkInterfaceId");
    for (key, value) in [
        ("cluster.k8s.amazonaws.com/name", "blue"),
        ("node.k8s.amazonaws.com/instance_id", "i-00000000000000bad"),
        ("node.k8s.amazonaws.com/createdAt", "2025-01-01T00:00:00Z"),
    ] {
        let params = [("ResourceId.1", eni), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        assert_eq!(topology.emulator.ec2("CreateTags", &params).status, 200);
    }
    EniId::from(eni)
}

fn wait_swept(bed: &Bed, eni: &EniId, within: Duration) {
    bed.wait("the leaked ENI is gone", within, || {
        let there = bed.topology.emulator.with_model(|vpc, _| vpc.eni(eni).is_some());
        if there { Err(lease(bed).map_or("no Lease".to_owned(), |lease| lease["spec"].to_string())) } else { Ok(()) }
    });
}

fn lease(bed: &Bed) -> Option<Value> {
    let key = Key { resource: &LEASES, namespace: "kube-system".to_owned(), name: "enid-sweeper".to_owned() };
    bed.api.read(|store| store.get(&key).ok().cloned())
}

/// Names of the running nodes that say that they sweep.
fn sweepers(bed: &Bed) -> Vec<String> {
    let says =
        |node: &&integration::node::Node| node.status().is_ok_and(|status| status["sweep"]["sweeper"] == "this node");
    bed.topology.nodes.iter().filter(says).map(|node| node.name.clone()).collect()
}

fn wait_elected(bed: &Bed, not: &str) -> String {
    bed.wait("one is elected", ELECTED, || match sweepers(bed).as_slice() {
        [name] if name != not => Ok(name.clone()),
        other => Err(format!("{other:?}")),
    })
}

/// Which nodes deleted ENIs, call by call.
fn deleted_by(bed: &Bed) -> Vec<String> {
    let calls: Vec<CallRecord> = bed.topology.emulator.with_model(|vpc, _| vpc.calls().cloned().collect());
    let deletes = calls.iter().filter(|call| call.action == "DeleteNetworkInterface" && call.code.is_none());
    let name = |call: &CallRecord| {
        let key = call.access_key.clone().unwrap_or_default();
        let is_its = |node: &&integration::node::Node| {
            let id = bed.topology.instance(&node.name).unwrap().id;
            key == format!("ASIA{:.16}", id.trim_start_matches("i-").to_uppercase())
        };
        bed.topology.nodes.iter().find(is_its).map_or(key.clone(), |node| node.name.clone())
    };
    deletes.map(name).collect()
}

#[test]
fn of_three_nodes_one_sweeps_and_when_it_is_killed_another_one_does() {
    let nodes = ["n1", "n2", "n3"].map(|name| NodeSpec::new(name, "m5.large", Subnet::B));
    let mut bed = Bed::of(&TopologySpec { nodes: nodes.to_vec(), latency: Latency::default() });
    bed.open();
    bed.start(&SETTINGS);
    let first = wait_elected(&bed, "");
    let spec = lease(&bed).unwrap()["spec"].clone();
    assert!(spec["holderIdentity"].as_str().unwrap().starts_with(&format!("{first}_")), "{spec}");
    assert_eq!((&spec["leaseDurationSeconds"], &spec["leaseTransitions"]), (&6.into(), &0.into()));
    for node in bed.topology.nodes.iter().filter(|node| node.name != first) {
        bed.wait("the others know", SOON, || match node.status().unwrap()["sweep"]["sweeper"].clone() {
            said if said == "another node" => Ok(()),
            said => Err(format!("{}: {said}", node.name)),
        });
    }
    let eni = leak(&bed.topology);
    wait_swept(&bed, &eni, Duration::from_secs(40));
    assert_eq!(deleted_by(&bed), std::slice::from_ref(&first), "once, by the elected one");

    bed.topology.node_mut(&first).kill();
    let eni = leak(&bed.topology);
    let second = wait_elected(&bed, &first);
    wait_swept(&bed, &eni, Duration::from_secs(40));
    assert_eq!(deleted_by(&bed), [first, second]);
    assert_eq!(lease(&bed).unwrap()["spec"]["leaseTransitions"], 1);
}

#[test]
fn a_holder_whose_cleanup_is_turned_off_makes_way_and_comes_back_when_it_is_on_again() {
    let nodes = ["n1", "n2"].map(|name| NodeSpec::new(name, "m5.large", Subnet::B));
    let mut bed = Bed::of(&TopologySpec { nodes: nodes.to_vec(), latency: Latency::default() });
    bed.open();
    bed.start(&SETTINGS);
    let first = wait_elected(&bed, "");
    let turn_off = |node: &str, value: Value| {
        let key = Key::node(node);
        let name = "setting.enid.dev/DISABLE_LEAKED_ENI_CLEANUP";
        let change = json!({ "metadata": { "annotations": { name: value } } });
        bed.api.patch(&key, Part::Object, &Patch::merge(change)).unwrap();
    };
    turn_off(&first, json!("true"));
    let second = wait_elected(&bed, &first);
    assert_eq!(bed.topology.node(&first).status().unwrap()["sweep"]["sweeper"], "off");
    let eni = leak(&bed.topology);
    wait_swept(&bed, &eni, Duration::from_secs(40));
    assert_eq!(deleted_by(&bed), std::slice::from_ref(&second));

    turn_off(&first, Value::Null);
    bed.wait("it takes part again", SOON, || {
        match bed.topology.node(&first).status().unwrap()["sweep"]["sweeper"].clone() {
            said if said == "another node" => Ok(()),
            said => Err(said.to_string()),
        }
    });
    turn_off(&second, json!("true"));
    assert_eq!(wait_elected(&bed, &second), first);
}

#[test]
fn without_the_right_to_leases_each_node_is_on_its_own_and_says_why() {
    let mut bed = Bed::new();
    bed.open();
    bed.api.deny(("coordination.k8s.io", "leases".to_owned(), "get"), true);
    bed.start(&SETTINGS);
    bed.wait("the missing right is named", SOON, || {
        let shown = bed.node().ask(&["status"]).map_err(|error| error.to_string())?;
        let named = shown.contains("electing the node that sweeps leaked ENIs: ") && shown.contains("403");
        let alone = shown.contains("leaks    swept by nobody for the cluster, every node seldom");
        if named && alone { Ok(()) } else { Err(shown) }
    });
    assert_eq!(lease(&bed), None);
}
