// SPDX-License-Identifier: Apache-2.0
//! The IAM policies that we ship: they name exactly the actions that the daemon calls, and a node that may do nothing else lives.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::pods;
use integration::topology::{Topology, TopologySpec};
use vpc_model::Policy;

use crate::charts::repository;

const CLUSTER: &str = "blue";

/// A shipped policy, its two placeholders filled in.
fn policy(name: &str, vpc: &str) -> Policy {
    let path = repository().join("deploy/iam").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Policy::parse(&text.replace("CLUSTER_NAME", CLUSTER).replace("VPC_ID", vpc)).unwrap()
}

/// The actions that the EC2 edge has a name for, as every call in it has.
fn called_in_the_source() -> BTreeSet<String> {
    let folder = repository().join("ipamd/aws/src");
    let mut actions = BTreeSet::new();
    for file in ["ec2.rs", "ec2/reads.rs"] {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        let names = source.split("let action = \"").skip(1).filter_map(|rest| rest.split('"').next());
        actions.extend(names.map(|name| format!("ec2:{name}")));
    }
    actions
}

#[test]
fn the_policies_name_what_the_daemon_calls_and_nothing_else() {
    let called = called_in_the_source();
    assert!(called.len() > 8, "the source is not read right: {called:?}");
    let set = |policy: Policy| -> BTreeSet<String> { policy.actions().into_iter().collect() };
    assert_eq!(set(policy("pool", "v")), called);
    assert_eq!(set(policy("unscoped", "v")), called);
    let reads: BTreeSet<String> = called.iter().filter(|action| action.contains("Describe")).cloned().collect();
    assert_eq!(set(policy("read-only", "v")), reads);
    assert_eq!(set(policy("tag-existing", "v")), BTreeSet::from(["ec2:CreateTags".to_owned()]));
}

/// A node of the cluster whose role has these policies alone; somebody else has given it two addresses.
fn node_with(policies: &[&str]) -> Topology {
    let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let (instance, vpc) = topology.emulator.with_model(|vpc, _| {
        let instance = vpc.instance_named("n1").unwrap();
        (instance.id.to_string(), instance.vpc.to_string())
    });
    let key = format!("kubernetes.io/cluster/{CLUSTER}");
    let tagged = topology
        .emulator
        .ec2("CreateTags", &[("ResourceId.1", instance.as_str()), ("Tag.1.Key", &key), ("Tag.1.Value", "owned")]);
    assert_eq!(tagged.status, 200, "{}", tagged.body);
    let primary = topology.enis("n1").unwrap()[0].id.clone();
    let two = [("NetworkInterfaceId", primary.as_str()), ("SecondaryPrivateIpAddressCount", "2")];
    assert_eq!(topology.emulator.ec2("AssignPrivateIpAddresses", &two).status, 200);
    let all = policies.iter().fold(Policy::default(), |all, name| all.and(policy(name, &vpc)));
    topology.emulator.with_model(|vpc, _| {
        vpc.forget_calls();
        vpc.allow_only(all);
    });
    topology
}

/// The actions that were called, and those of them that were denied.
fn calls(topology: &Topology) -> (BTreeSet<String>, BTreeSet<String>) {
    topology.emulator.with_model(|vpc, _| {
        let denied = vpc.calls().filter(|call| call.code.as_deref() == Some("UnauthorizedOperation"));
        (vpc.calls().map(|call| call.action.clone()).collect(), denied.map(|call| call.action.clone()).collect())
    })
}

/// Twenty pods on three ENIs, and nothing that was called was denied.
fn serves_with(policies: &[&str]) {
    let mut topology = node_with(policies);
    topology.start(&[("WARM_IP_TARGET", "1"), ("CLUSTER_NAME", CLUSTER)]).unwrap();
    pods::start(topology.node("n1"), 20, 6, &AtomicUsize::new(0)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(topology.enis("n1").unwrap().len(), 3);
    let seen = eventually("the attachments of new ENIs end with the instance", Duration::from_secs(30), || {
        let (called, denied) = calls(&topology);
        assert!(denied.is_empty(), "denied: {denied:?}");
        if called.contains("ModifyNetworkInterfaceAttribute") { Ok(called) } else { Err(format!("{called:?}")) }
    });
    let called = seen.unwrap_or_else(|error| panic!("{error}"));
    for action in ["CreateNetworkInterface", "AttachNetworkInterface", "AssignPrivateIpAddresses", "DescribeSubnets"] {
        assert!(called.contains(action), "not called: {action}");
    }
}

#[test]
fn a_node_that_may_do_only_what_is_its_clusters_serves_its_pods_and_nothing_is_denied() {
    serves_with(&["pool", "tag-existing"]);
}

#[test]
fn a_node_with_the_policy_without_a_scope_is_denied_nothing() {
    serves_with(&["unscoped"]);
}

#[test]
fn a_node_whose_enis_are_others_business_reads_and_is_denied_nothing() {
    let mut topology = node_with(&["read-only"]);
    topology.start(&[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"), ("CLUSTER_NAME", CLUSTER)]).unwrap();
    pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap();
    let (called, denied) = calls(&topology);
    assert!(called.contains("DescribeNetworkInterfaces") && denied.is_empty(), "called {called:?}, denied {denied:?}");
}
