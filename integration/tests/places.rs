// SPDX-License-Identifier: Apache-2.0
//! Where addresses come from and whose ENIs are whose: subnets by tag, security groups, foreign ENIs, leaked ENIs, and
//! nodes whose ENIs are someone else's business.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::emulator::text_of;
use integration::eventually::eventually;
use integration::node::Node;
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{READY, SECOND_GROUP, Subnet, Topology, TopologySpec};

/// Pods that the primary ENI of an m5.large has addresses for.
const PRIMARY: usize = 9;
const ROLE: &str = "kubernetes.io/role/cni";

fn topology() -> Topology {
    Topology::build(&TopologySpec::one("m5.large")).expect("a topology")
}

/// An EC2 call of somebody else, which must succeed; the answer's XML.
fn ec2(topology: &Topology, action: &str, params: &[(&str, &str)]) -> String {
    let answer = topology.emulator.ec2(action, params);
    assert_eq!(answer.status, 200, "{action} {params:?}: {}", answer.body);
    answer.body
}

fn tag(topology: &Topology, resource: &str, key: &str, value: &str) {
    ec2(topology, "CreateTags", &[("ResourceId.1", resource), ("Tag.1.Key", key), ("Tag.1.Value", value)]);
}

/// An ENI that somebody made in subnet a.
fn somebodys_eni(topology: &Topology, description: &str, tags: &[(&str, &str)]) -> String {
    let subnet = topology.emulator.subnet_id("a");
    let made = ec2(topology, "CreateNetworkInterface", &[("SubnetId", &subnet), ("Description", description)]);
    let id = text_of(&made, "networkInterfaceId").to_owned();
    for (key, value) in tags {
        tag(topology, &id, key, value);
    }
    id
}

fn primary_eni(topology: &Topology) -> String {
    topology.enis("n1").expect("a node").first().expect("the primary ENI").id.clone()
}

fn exists(topology: &Topology, id: &str) -> bool {
    topology.emulator.with_model(|vpc, _| vpc.enis().any(|eni| eni.id.as_str() == id))
}

fn add(node: &Node) -> Ipv4Addr {
    let sandbox = node.next_sandbox().expect("a sandbox");
    node.runtime.add(&sandbox).unwrap_or_else(|error| panic!("{error}")).address
}

/// An ADD that is refused, with its text.
fn refused(node: &Node) -> String {
    let sandbox = node.next_sandbox().expect("a sandbox");
    let error = node.runtime.add(&sandbox).expect_err("no address is there").to_string();
    node.runtime.del(&sandbox, NetnsPath::Given).expect("a DEL");
    error
}

#[test]
fn an_add_whose_subnet_is_exhausted_is_served_from_the_sibling() {
    let mut topology = topology();
    let b = topology.emulator.subnet_id("b");
    tag(&topology, &b, ROLE, "1");
    topology.start(&[("MINIMUM_IP_TARGET", "9")]).expect("a daemon that is ready");
    let n1 = topology.node("n1");
    pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).expect("pods on the primary ENI");
    // Someone takes all of subnet b, which EC2 called the roomier one when it was asked.
    topology.emulator.exhaust(&b);
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    let address = add(n1);
    assert!(Subnet::A.block().contains(&address), "{address}");
    let tries: Vec<Option<String>> = topology.emulator.with_model(|vpc, _| {
        let creates = vpc.calls().filter(|call| call.action == "CreateNetworkInterface");
        creates.map(|call| call.code.clone()).collect()
    });
    assert_eq!(tries, [Some("InsufficientFreeAddressesInSubnet".to_owned()), None], "b refused, a gave");
}

#[test]
fn an_excluded_subnet_keeps_its_pods_gives_back_the_rest_and_serves_nobody_new() {
    let mut topology = topology();
    let [a, b] = ["a", "b"].map(|name| topology.emulator.subnet_id(name));
    tag(&topology, &b, ROLE, "1");
    topology.start(&[("WARM_IP_TARGET", "3"), ("IP_COOLDOWN_PERIOD", "1")]).expect("a daemon that is ready");
    let old = pods::start(topology.node("n1"), 1, 1, &AtomicUsize::new(0)).expect("a pod").remove(0);
    assert!(Subnet::A.block().contains(&old.added.address));
    tag(&topology, &a, ROLE, "0");
    let n1 = topology.node_mut("n1");
    n1.stop();
    n1.start().and_then(|()| n1.wait_ready(READY)).expect("a daemon that is ready again");
    let n1 = topology.node("n1");
    let given_back = eventually("what is free in the excluded subnet goes", Duration::from_secs(30), || {
        let primary = topology.enis("n1").expect("a node").remove(0);
        if primary.secondary == [old.added.address] { Ok(()) } else { Err(format!("{:?}", primary.secondary)) }
    });
    given_back.unwrap_or_else(|error| panic!("{error}"));
    let status = n1.status().expect("a daemon that answers");
    let excluded = |at: u64| {
        status["enis"].as_array().expect("ENIs").iter().find(|eni| eni["deviceIndex"] == at).map(|eni| &eni["excluded"])
    };
    assert_eq!(excluded(0), Some(&serde_json::Value::Bool(true)), "{status}");
    for _ in 0..3 {
        let address = add(n1);
        assert!(Subnet::B.block().contains(&address), "{address} is of the excluded subnet");
    }
    old.reached_from(&n1.netns).expect("the pod that was there runs on");
}

#[test]
fn changed_security_groups_of_the_primary_eni_reach_the_others_once() {
    let mut topology = topology();
    topology.start(&[("WARM_IP_TARGET", "20")]).expect("a daemon that is ready");
    let grown = eventually("both ENIs are there", Duration::from_secs(20), || match topology.enis("n1") {
        Ok(enis) if enis.len() == 3 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    grown.unwrap_or_else(|error| panic!("{error}"));
    let primary = primary_eni(&topology);
    ec2(
        &topology,
        "ModifyNetworkInterfaceAttribute",
        &[("NetworkInterfaceId", &primary), ("SecurityGroupId.1", SECOND_GROUP)],
    );
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    let changed = eventually("all ENIs have the new group", Duration::from_secs(100), || {
        let old = topology.emulator.with_model(|vpc, _| {
            let attached = vpc.enis().filter(|eni| eni.attachment().is_some());
            attached.filter(|eni| eni.security_groups.iter().any(|id| id.as_str() != SECOND_GROUP)).count()
        });
        if old == 0 { Ok(()) } else { Err(format!("{old} ENIs have another group")) }
    });
    changed.unwrap_or_else(|error| panic!("{error}"));
    let changes = topology.emulator.with_model(|vpc, _| {
        let of_groups = |name: &String| name.starts_with("SecurityGroupId");
        vpc.calls().filter(|call| call.parameters.iter().any(|(name, _)| of_groups(name))).count()
    });
    assert_eq!(changes, 2, "one for each ENI but the primary one");
}

#[test]
fn enis_of_others_take_their_slots_and_are_touched_by_nobody() {
    let mut topology = topology();
    let off = somebodys_eni(&topology, "mine", &[("node.k8s.amazonaws.com/no_manage", "true")]);
    let other = somebodys_eni(&topology, "aws-K8S-i-0", &[("node.k8s.amazonaws.com/instance_id", "i-0")]);
    let instance = topology.instance("n1").expect("a node").id;
    for (eni, index) in [(&off, "1"), (&other, "2")] {
        let params = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", &instance), ("DeviceIndex", index)];
        ec2(&topology, "AttachNetworkInterface", &params);
    }
    let before = topology.enis("n1").expect("a node");
    topology.start(&[("CLUSTER_NAME", "blue"), ("ENID_LEAKED_ENI_AGE", "5")]).expect("a daemon that is ready");
    let n1 = topology.node("n1");
    pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).expect("pods on the primary ENI");
    let error = refused(n1);
    assert!(error.contains("NodeFull"), "{error}");
    assert_eq!(topology.enis("n1").expect("a node")[1..], before[1..]);
    let tags = |id: &str| {
        topology.emulator.with_model(|vpc, _| vpc.enis().find(|eni| eni.id.as_str() == id).map(|eni| eni.tags.len()))
    };
    assert_eq!((tags(&off), tags(&other)), (Some(1), Some(1)));
}

#[test]
fn with_provisioning_disabled_what_comes_is_served_and_nothing_of_ec2_is_changed() {
    let mut topology = topology();
    let primary = primary_eni(&topology);
    let give = |topology: &Topology, count: &str| {
        let params = [("NetworkInterfaceId", primary.as_str()), ("SecondaryPrivateIpAddressCount", count)];
        ec2(topology, "AssignPrivateIpAddresses", &params);
    };
    give(&topology, "2");
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    topology.start(&[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"), ("CLUSTER_NAME", "blue")]).expect("ready");
    let n1 = topology.node("n1");
    let (_first, _second) = (add(n1), add(n1));
    let error = refused(n1);
    assert!(error.contains("ProvisioningDisabled"), "{error}");
    let changing: Vec<String> = topology.emulator.with_model(|vpc, _| {
        let calls = vpc.calls().filter(|call| !call.action.starts_with("Describe"));
        calls.map(|call| call.action.clone()).collect()
    });
    assert!(changing.is_empty(), "{changing:?}");
    give(&topology, "1");
    let followed =
        eventually("the new address is noticed", Duration::from_secs(40), || match n1.number("/pool/free") {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?} free")),
        });
    followed.unwrap_or_else(|error| panic!("{error}"));
    add(n1);
}

#[test]
fn in_imds_only_mode_pods_are_served_and_followed_without_a_single_call_to_ec2() {
    let mut topology = topology();
    let primary = primary_eni(&topology);
    let give = [("NetworkInterfaceId", primary.as_str()), ("SecondaryPrivateIpAddressCount", "2")];
    ec2(&topology, "AssignPrivateIpAddresses", &give);
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    topology.start(&[("ENABLE_IMDS_ONLY_MODE", "true")]).expect("a daemon that is ready");
    let first = pods::start(topology.node("n1"), 2, 1, &AtomicUsize::new(0)).expect("pods");
    let error = refused(topology.node("n1"));
    assert!(error.contains("ProvisioningDisabled"), "{error}");
    assert_eq!(topology.emulator.with_model(|vpc, _| vpc.calls().len()), 0);

    // Someone attaches an ENI with addresses.
    let subnet = topology.emulator.subnet_id("b");
    let made = [("SubnetId", subnet.as_str()), ("SecondaryPrivateIpAddressCount", "3")];
    let made = ec2(&topology, "CreateNetworkInterface", &made);
    let eni = text_of(&made, "networkInterfaceId").to_owned();
    let instance = topology.instance("n1").expect("a node").id;
    let attach = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", &instance), ("DeviceIndex", "1")];
    ec2(&topology, "AttachNetworkInterface", &attach);
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    let n1 = topology.node("n1");
    let followed = eventually("the ENI is served", Duration::from_secs(40), || match n1.number("/pool/free") {
        Ok(3) => Ok(()),
        other => Err(format!("{other:?} free")),
    });
    followed.unwrap_or_else(|error| panic!("{error}"));
    let second = pods::start(n1, 3, 1, &AtomicUsize::new(0)).expect("pods");
    for pod in first.iter().chain(&second) {
        pod.reached_from(&n1.netns).expect("a pod that answers");
    }
    // Nobody misses EC2 where it may not be asked.
    let strict = || n1.ask(&["check", "--strict"]).map(drop).map_err(|error| error.to_string());
    eventually("a strict check", Duration::from_secs(40), strict).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(topology.emulator.with_model(|vpc, _| vpc.calls().len()), 0);
}

#[test]
fn an_eni_leaked_by_a_node_of_the_cluster_is_swept_and_everybody_else_s_stay() {
    const INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
    const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
    let mut topology = topology();
    let ours = [(INSTANCE, "i-00000000000000bad"), (CLUSTER, "blue")];
    let leaked = somebodys_eni(&topology, "aws-K8S-i-00000000000000bad", &ours);
    let foreign = [
        somebodys_eni(&topology, "aws-K8S-i-1", &[(INSTANCE, "i-1"), (CLUSTER, "red")]),
        somebodys_eni(&topology, "aws-K8S-i-1", &[(INSTANCE, "i-1")]),
        somebodys_eni(&topology, "a database", &ours),
        somebodys_eni(&topology, "aws-K8S-i-1", &[&ours[..], &[("node.k8s.amazonaws.com/no_manage", "true")]].concat()),
    ];
    topology.start(&[("CLUSTER_NAME", "blue"), ("ENID_LEAKED_ENI_AGE", "5")]).expect("a daemon that is ready");
    let swept = eventually("the leaked ENI is gone", Duration::from_secs(60), || {
        if exists(&topology, &leaked) { Err("it is there".to_owned()) } else { Ok(()) }
    });
    swept.unwrap_or_else(|error| panic!("{error}"));
    for eni in &foreign {
        assert!(exists(&topology, eni), "{eni} was somebody else's");
    }
    assert_eq!(topology.calls("DeleteNetworkInterface"), 1);
}
