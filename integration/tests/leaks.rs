// SPDX-License-Identifier: Apache-2.0
//! kill -9 right after each EC2 call of an ENI's life, before its answer: what the next daemon finishes, and what other nodes of
//! the cluster clean up when there is no next daemon because the instance is gone.
//!
//! Every call on a node of its own, all at the same time: EC2 takes half a second to answer, so a call that is seen has had its
//! effect and its caller does not know. Ten minutes of leases are five seconds here (ENID_LEAKED_ENI_AGE); in full length, by the
//! clock of a simulation, the same is asked in `ipamd/core/src/core/tests/leaks.rs`.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::topology::{Latency, NodeSpec, READY, Subnet, Topology, TopologySpec};
use vpc_model::{CallRecord, EniId, InstanceId, InstanceState, Vpc};

/// Calls of growing by an ENI.
const GROWTH: [&str; 4] =
    ["AssignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"];
/// Calls of shrinking by one.
const SHRINKING: [&str; 3] = ["UnassignPrivateIpAddresses", "DetachNetworkInterface", "DeleteNetworkInterface"];
const VICTIMS: usize = GROWTH.len() + SHRINKING.len();
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const CREATED_TAG: &str = "node.k8s.amazonaws.com/createdAt";
const AGE: &str = "5";
/// How long EC2 takes to answer.
const ANSWER_MS: u64 = 500;

/// A node to be killed, and after which call.
struct Victim {
    node: Node,
    id: String,
    access_key: String,
    call: &'static str,
}

fn topology(survivors: usize) -> Topology {
    let ms = Duration::from_millis;
    let latency = Latency { call: ms(ANSWER_MS), attach: ms(400), detach: ms(1_000) };
    let mut spec = TopologySpec { nodes: Vec::new(), latency };
    let names = (0..VICTIMS).map(|number| format!("v{number}"));
    let names = names.chain((0..survivors).map(|number| format!("s{number}")));
    spec.nodes.extend(names.map(|name| NodeSpec::new(&name, "m5.large", Subnet::B)));
    let mut topology = Topology::build(&spec).unwrap();
    for node in &mut topology.nodes {
        node.set("CLUSTER_NAME", "blue");
        node.set("ENID_LEAKED_ENI_AGE", AGE);
        node.set("IP_COOLDOWN_PERIOD", "1");
        node.set("WARM_IP_TARGET", "12");
    }
    topology
}

fn victims(topology: &mut Topology) -> Vec<Victim> {
    let survivors = topology.nodes.split_off(VICTIMS);
    let nodes = std::mem::replace(&mut topology.nodes, survivors);
    let victim = |(node, call): (Node, &'static str)| {
        let id = topology.instance(&node.name).unwrap().id;
        let access_key = format!("ASIA{:.16}", id.trim_start_matches("i-").to_uppercase());
        Victim { node, id, access_key, call }
    };
    nodes.into_iter().zip(GROWTH.into_iter().chain(SHRINKING)).map(victim).collect()
}

/// How often it made the call that it is to be killed after.
fn called(topology: &Topology, victim: &Victim) -> usize {
    topology.emulator.with_model(|vpc, _| {
        let of = |call: &&CallRecord| call.access_key.as_deref() == Some(victim.access_key.as_str());
        vpc.calls().filter(of).filter(|call| call.action == victim.call).count()
    })
}

/// Lives up to its call, and is killed there: the answer is half a second away.
fn live(topology: &Topology, victim: &mut Victim) {
    victim.node.start().unwrap();
    let mut patience = Duration::from_secs(20);
    let mut before = 0;
    if SHRINKING.contains(&victim.call) {
        let grown = eventually("two ENIs", Duration::from_secs(40), || {
            let free = victim.node.number("/pool/free").map_err(|error| error.to_string())?;
            if free >= 12 { Ok(()) } else { Err(format!("{free} free addresses")) }
        });
        grown.unwrap_or_else(|error| panic!("{}: {error}", victim.node.name));
        victim.node.kill();
        victim.node.set("WARM_IP_TARGET", "2");
        before = called(topology, victim);
        victim.node.start().unwrap();
        // A surplus stands for 30 s, an ENI for a minute.
        patience = Duration::from_secs(120);
    }
    let reached = eventually(victim.call, patience, || match called(topology, victim) - before {
        0 => Err(format!("{} has not called it", victim.node.name)),
        _ => Ok(()),
    });
    victim.node.kill();
    reached.unwrap();
}

fn live_all(topology: &Topology, victims: &mut [Victim]) {
    std::thread::scope(|scope| {
        for victim in victims {
            scope.spawn(|| live(topology, victim));
        }
    });
}

/// Unattached ENIs by the instance that they were made for.
fn unattached(topology: &Topology) -> BTreeMap<String, Vec<String>> {
    topology.emulator.with_model(|vpc, _| {
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for eni in vpc.enis().filter(|eni| eni.attachment().is_none()) {
            let of = eni.tags.get(INSTANCE_TAG).cloned().unwrap_or_default();
            left.entry(of).or_default().push(eni.id.to_string());
        }
        left
    })
}

#[test]
fn a_daemon_killed_after_any_call_of_an_enis_life_leaves_none_behind_once_it_runs_again() {
    let mut topology = topology(0);
    let mut victims = victims(&mut topology);
    live_all(&topology, &mut victims);
    for victim in &mut victims {
        victim.node.start().and_then(|()| victim.node.wait_ready(READY)).unwrap();
    }
    let settled = eventually("no ENI lies about, and all go with their instance", Duration::from_secs(150), || {
        let left = unattached(&topology);
        let staying = topology.emulator.with_model(|vpc, _| {
            vpc.enis().filter(|eni| eni.attachment().is_some_and(|at| !at.delete_on_termination)).count()
        });
        let busy = victims.iter().any(|victim| {
            let wanted = if SHRINKING.contains(&victim.call) { 1 } else { 2 };
            victim.node.number("/pool/enis").ok() != Some(wanted)
        });
        if left.is_empty() && staying == 0 && !busy { Ok(()) } else { Err(format!("{left:?}, {staying} stay, {busy}")) }
    });
    settled.unwrap();
}

#[test]
fn what_instances_terminated_after_any_call_of_an_enis_life_leave_behind_another_node_sweeps() {
    let mut topology = topology(2);
    let mut victims = victims(&mut topology);
    // One that lives and lacks an ENI: that is its own business.
    let lost = somebodys_lost_eni(&topology, "s0");
    live_all(&topology, &mut victims);
    for victim in &victims {
        let id = InstanceId(victim.id.clone());
        let terminated = |vpc: &mut Vpc, now| vpc.set_instance_state(&id, InstanceState::Terminated, now);
        topology.emulator.with_model(terminated).unwrap();
    }
    let of_the_dead = |topology: &Topology| {
        let mut left = unattached(topology);
        left.retain(|of, _| victims.iter().any(|victim| victim.id == *of));
        left
    };
    let left = of_the_dead(&topology);
    assert!(left.len() >= 3, "after create, attach and detach at least: {left:?}");
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    // `s1` has no business with what `s0` lost.
    let mut sweeper = topology.nodes.pop().unwrap();
    sweeper.start().and_then(|()| sweeper.wait_ready(READY)).unwrap();
    let swept = eventually("what the dead left behind is gone", Duration::from_secs(100), || {
        let left = of_the_dead(&topology);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    swept.unwrap();
    assert!(topology.emulator.with_model(|vpc, _| vpc.eni(&EniId::from(lost.as_str())).is_some()), "s0 lives");
    check_touches(&topology);
}

/// An ENI that was made for a node that lives, unattached.
fn somebodys_lost_eni(topology: &Topology, node: &str) -> String {
    let id = topology.instance(node).unwrap().id;
    let subnet = topology.emulator.subnet_id("b");
    let description = format!("aws-K8S-{id}");
    let tags = [("cluster.k8s.amazonaws.com/name", "blue"), (INSTANCE_TAG, id.as_str())];
    let made = topology
        .emulator
        .ec2("CreateNetworkInterface", &[("SubnetId", subnet.as_str()), ("Description", description.as_str())]);
    let start = made.body.find("<networkInterfaceId>").unwrap() + "<networkInterfaceId>".len();
    let eni = made.body[start..start + made.body[start..].find('<').unwrap()].to_owned();
    for (key, value) in tags {
        let params = [("ResourceId.1", eni.as_str()), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        assert_eq!(topology.emulator.ec2("CreateTags", &params).status, 200);
    }
    eni
}

/// Each ENI was deleted once, and none was touched that was younger than its lease.
fn check_touches(topology: &Topology) {
    let calls: Vec<CallRecord> = topology.emulator.with_model(|vpc, _| vpc.calls().cloned().collect());
    let parameter = |call: &CallRecord, name: &str| {
        call.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let mut deleted: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.action == "DeleteNetworkInterface") {
        *deleted.entry(parameter(call, "NetworkInterfaceId").unwrap()).or_default() += 1;
    }
    assert!(deleted.values().all(|times| *times == 1), "{deleted:?}");
    let marks = calls.iter().filter(|call| parameter(call, "Tag.1.Key").as_deref() == Some("enid.dev/leaked-seen-by"));
    let marked: Vec<String> = marks.filter_map(|call| parameter(call, "ResourceId.1")).collect();
    assert!(deleted.keys().all(|eni| marked.contains(eni)), "{deleted:?} were deleted, {marked:?} marked");
}

#[test]
fn two_sweepers_delete_a_leaked_eni_once_and_neither_touches_one_that_is_younger_than_its_lease() {
    let ms = Duration::from_millis;
    let nodes = ["s0", "s1"].map(|name| NodeSpec::new(name, "m5.large", Subnet::B));
    let latency = Latency { call: ms(30), attach: ms(400), detach: ms(200) };
    let mut topology = Topology::build(&TopologySpec { nodes: nodes.to_vec(), latency }).unwrap();
    let leaked = somebodys_lost_eni(&topology, "s0");
    let young = somebodys_lost_eni(&topology, "s0");
    let tag = |eni: &str, key: &str, value: &str| {
        let params = [("ResourceId.1", eni), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        assert_eq!(topology.emulator.ec2("CreateTags", &params).status, 200);
    };
    for eni in [&leaked, &young] {
        tag(eni, INSTANCE_TAG, "i-00000000000000bad");
    }
    // Young as long as the test runs.
    tag(&leaked, CREATED_TAG, "2025-01-01T00:00:00Z");
    tag(&young, CREATED_TAG, "2125-01-01T00:00:00Z");
    let before = topology.emulator.with_model(|vpc, _| format!("{:?}", vpc.eni(&EniId::from(young.as_str()))));
    topology.start(&[("CLUSTER_NAME", "blue"), ("ENID_LEAKED_ENI_AGE", AGE)]).unwrap();
    let swept = eventually("the leaked ENI is gone", Duration::from_secs(60), || {
        let there = topology.emulator.with_model(|vpc, _| vpc.eni(&EniId::from(leaked.as_str())).is_some());
        if there { Err("it is there".to_owned()) } else { Ok(()) }
    });
    swept.unwrap();
    // The other one's first sweep is within half a minute, too.
    pass(Duration::from_secs(35));
    check_touches(&topology);
    let after = topology.emulator.with_model(|vpc, _| format!("{:?}", vpc.eni(&EniId::from(young.as_str()))));
    assert_eq!(after, before);
}
