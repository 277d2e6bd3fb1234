// SPDX-License-Identifier: Apache-2.0
//! Our plugin with the reference's daemon, on a node that nothing of ours has prepared: a pod needs of the node only its default route
//! and forwarding when its address is the primary ENI's.

use std::time::Duration;

use integration::go_callers::wire::{Exchange, Peer};
use integration::node::Node;
use integration::pods::Pod;
use integration::probe;
use integration::sandbox::NetnsPath;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::{Value, json};

/// Two nodes without a daemon of ours, and addresses that EC2 has given to n1's primary ENI.
pub(crate) fn nodes(count: &str) -> (Topology, Vec<String>) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let topology = Topology::build(&spec).unwrap();
    let primary = topology.enis("n1").unwrap()[0].id.clone();
    let give = [("NetworkInterfaceId", primary.as_str()), ("SecondaryPrivateIpAddressCount", count)];
    let answer = topology.emulator.ec2("AssignPrivateIpAddresses", &give);
    assert_eq!(answer.status, 200, "{answer:?}");
    let addresses = topology.enis("n1").unwrap()[0].secondary.iter().map(ToString::to_string).collect();
    (topology, addresses)
}

fn start(node: &Node) -> Pod {
    let sandbox = node.next_sandbox().unwrap();
    let added = node.runtime.add(&sandbox).unwrap();
    Pod { sandbox, added }
}

/// What the daemon was asked in one field by each call.
fn asked(calls: &[Exchange], field: &str) -> Vec<Value> {
    calls.iter().map(|call| call.request[field].clone()).collect()
}

#[test]
fn pods_are_plumbed_with_the_reference_s_daemon_and_go_with_it() {
    let (topology, addresses) = nodes("3");
    let n1 = topology.node("n1");
    let before = n1.leftovers().unwrap();
    let daemon = Peer::daemon(&topology.world, n1, &addresses, &[]).unwrap();
    let pods = [start(n1), start(n1)];
    for (pod, address) in pods.iter().zip(&addresses) {
        assert_eq!((pod.added.address.to_string(), pod.added.table), (address.clone(), 254));
        n1.runtime.check(&pod.sandbox).unwrap();
        pod.reached_from(&n1.netns).unwrap();
        assert_eq!(pod.reached_from(&topology.node("n2").netns).unwrap(), topology.instance("n2").unwrap().address);
    }
    assert_eq!(pods[0].reached_from(&pods[1].sandbox.netns).unwrap(), pods[1].added.address);
    probe::ping(&pods[1].sandbox.netns, topology.instance("n2").unwrap().address, 56).unwrap();
    // The same ADD again is the same pod.
    assert_eq!(n1.runtime.add(&pods[0].sandbox).unwrap().address, pods[0].added.address);

    let adds = daemon.served("AddNetwork");
    assert_eq!(adds.len(), 3);
    let first = &pods[0].sandbox;
    let expected = json!({
        "K8S_POD_NAME": first.name, "K8S_POD_NAMESPACE": "default", "K8S_POD_INFRA_CONTAINER_ID": first.container_id,
        "Netns": format!("/var/run/netns/{}", first.netns.name()), "IfName": "eth0", "NetworkName": "aws-cni",
        "ContainerID": first.container_id, "ClientVersion": "", "RequiresMultiNICAttachment": false
    });
    assert_eq!(adds[0].request, expected);
    assert!(adds[0].unknown > 0, "the budget that we send is skipped there");

    for pod in &pods {
        n1.runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
        // "datastore: unknown pod" by now.
        n1.runtime.del(&pod.sandbox, NetnsPath::Empty).unwrap();
    }
    let dels = daemon.served("DelNetwork");
    let codes: Vec<_> = dels.iter().map(|del| del.code.as_str()).collect();
    assert_eq!(codes, ["OK", "Unknown", "OK", "Unknown"]);
    assert!(dels[1].message.contains("datastore: unknown pod"));
    assert_eq!(asked(&dels, "Reason"), vec![json!("PodDeleted"); 4]);
    let after = n1.leftovers().unwrap();
    assert_eq!((after.rules, after.routes, after.addresses), (before.rules, before.routes, before.addresses));
}

#[test]
fn its_refusals_are_told_and_leave_nothing() {
    let (topology, addresses) = nodes("1");
    let n1 = topology.node("n1");
    let daemon = Peer::daemon(&topology.world, n1, &addresses, &[]).unwrap();
    let _first = start(n1);
    let one = n1.leftovers().unwrap().of_pods();
    let second = n1.next_sandbox().unwrap();
    let refused = n1.runtime.add(&second).unwrap_err();
    let refused = refused.refusal().unwrap();
    assert!(refused.code == 11 && refused.message.contains("gave no reason"), "{refused}");
    assert!(refused.took < Duration::from_secs(5), "nothing is waited for: {:?}", refused.took);
    assert_eq!(n1.leftovers().unwrap().of_pods(), one);
    daemon.kill();

    let daemon = Peer::daemon(&topology.world, n1, &addresses, &["-version", "v1.23.1"]).unwrap();
    let refused = n1.runtime.add(&second).unwrap_err();
    let refused = refused.refusal().unwrap();
    assert!(refused.code == 11 && refused.message.contains("different versions"), "{refused}");
    assert!(refused.details.contains("wrong client version"), "{refused}");
    assert_eq!(n1.leftovers().unwrap().of_pods(), one);
    assert_eq!(daemon.served("AddNetwork").len(), 1, "it is not asked again");
}

#[test]
fn a_gc_is_done_by_dels_where_the_daemon_knows_no_other_call() {
    let (topology, addresses) = nodes("3");
    let n1 = topology.node("n1");
    let daemon = Peer::daemon(&topology.world, n1, &addresses, &[]).unwrap();
    let (kept, dropped) = (start(n1), [start(n1), start(n1)]);
    n1.runtime.gc(&[&kept.sandbox], Some(Duration::ZERO)).unwrap();
    let mut released: Vec<_> = asked(&daemon.served("DelNetwork"), "ContainerID");
    released.sort_by_key(ToString::to_string);
    let mut expected: Vec<_> = dropped.iter().map(|pod| json!(pod.sandbox.container_id)).collect();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(released, expected);
    assert_eq!(n1.leftovers().unwrap().of_pods().routes.len(), 1);
    kept.reached_from(&n1.netns).unwrap();
}
