// SPDX-License-Identifier: Apache-2.0
//! ENIs are made in the declared subnets and with the declared security groups, whatever DescribeSubnets answers: the last good
//! answer stands, and without any the primary ENI's subnet is the only one.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::time::Duration;

use integration::eventually::eventually;
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::{Effect, Fault};

/// 8 ENIs of 29 addresses for pods.
const INSTANCE_TYPE: &str = "m5.4xlarge";
const ROLE: &str = "kubernetes.io/role/cni";

fn tag(topology: &Topology, subnet: &str, role: &str) {
    let params = [("ResourceId.1", subnet), ("Tag.1.Key", ROLE), ("Tag.1.Value", role)];
    assert_eq!(topology.emulator.ec2("CreateTags", &params).status, 200);
}

/// What DescribeSubnets does from now on, and what it is called.
fn bad_answers() -> [(&'static str, Fault); 3] {
    let empty = Fault { effect: Effect::Empty, ..Fault::always("DescribeSubnets", "") };
    [
        ("denied", Fault::always("DescribeSubnets", "UnauthorizedOperation")),
        ("throttled", Fault::always("DescribeSubnets", "RequestLimitExceeded")),
        ("empty", empty),
    ]
}

/// Starts the daemon anew with a warm target that takes more ENIs, and waits until it is met.
fn grow(topology: &mut Topology, warm: u64, why: &str) {
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.set("WARM_IP_TARGET", &warm.to_string());
    n1.start().and_then(|()| n1.wait_ready(READY)).unwrap_or_else(|error| panic!("{why}: {error}"));
    let met = eventually("the warm target is met", Duration::from_secs(30), || {
        let free = topology.node("n1").number("/pool/free").map_err(|error| error.to_string())?;
        if free >= warm { Ok(()) } else { Err(format!("{free} free addresses")) }
    });
    met.unwrap_or_else(|error| panic!("{why}: {error}"));
}

/// Subnets and security groups that ENIs were asked for with.
fn asked_for(topology: &Topology) -> Vec<(String, String)> {
    topology.emulator.with_model(|vpc, _| {
        let creates = vpc.calls().filter(|call| call.action == "CreateNetworkInterface");
        let value = |parameters: &[(String, String)], name: &str| {
            parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let asked =
            |parameters: &[(String, String)]| (value(parameters, "SubnetId"), value(parameters, "SecurityGroupId.1"));
        creates.map(|call| asked(&call.parameters)).collect()
    })
}

fn groups(topology: &Topology) -> Vec<String> {
    let instance = topology.instance("n1").unwrap().id;
    topology.emulator.with_model(|vpc, _| {
        let of = |eni: &&vpc_model::Eni| {
            eni.attachment().is_some_and(|at| at.instance.as_str() == instance && at.device_index == 0)
        };
        let primary = vpc.enis().find(of).unwrap();
        primary.security_groups.iter().map(ToString::to_string).collect()
    })
}

#[test]
fn once_a_good_answer_came_bad_ones_never_move_an_eni_out_of_the_declared_subnets() {
    let mut topology = Topology::build(&TopologySpec::one(INSTANCE_TYPE)).unwrap();
    let [a, b] = ["a", "b"].map(|name| topology.emulator.subnet_id(name));
    // The primary ENI's own subnet is not for pods.
    tag(&topology, &a, "0");
    tag(&topology, &b, "1");
    grow(&mut topology, 20, "a good answer");
    for ((why, fault), warm) in bad_answers().into_iter().zip([50, 100, 150]) {
        topology.emulator.with_model(|vpc, _| vpc.clear_faults());
        topology.emulator.with_model(|vpc, _| vpc.order_fault(fault));
        topology.emulator.with_model(|vpc, _| vpc.forget_calls());
        grow(&mut topology, warm, why);
        let described = topology.calls("DescribeSubnets");
        assert!(described > 0, "{why}: nobody asked");
        let asked = asked_for(&topology);
        assert!(!asked.is_empty(), "{why}: no ENI was needed");
        let group = groups(&topology).remove(0);
        assert!(
            asked.iter().all(|asked| *asked == (b.clone(), group.clone())),
            "{why}: {asked:?}, and b is {b}\n{}",
            integration::process::tail(&topology.node("n1").log(), 150)
        );
        assert!(described < 12, "{why}: {described} calls");
    }
    // What EC2 says stands again as soon as it says something.
    topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    tag(&topology, &a, "1");
    tag(&topology, &b, "0");
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    grow(&mut topology, 20, "after a good answer");
    assert!(asked_for(&topology).iter().all(|(subnet, _)| *subnet == a), "{:?}", asked_for(&topology));
}

#[test]
fn without_any_good_answer_only_the_primary_subnet_is_used() {
    for (why, fault) in bad_answers() {
        let mut topology = Topology::build(&TopologySpec::one(INSTANCE_TYPE)).unwrap();
        let [a, b] = ["a", "b"].map(|name| topology.emulator.subnet_id(name));
        // Offered, but nobody is told so.
        tag(&topology, &b, "1");
        topology.emulator.with_model(|vpc, _| vpc.order_fault(fault));
        topology.start(&[]).unwrap_or_else(|error| panic!("{why}: {error}"));
        grow(&mut topology, 50, why);
        let asked = asked_for(&topology);
        assert!(!asked.is_empty() && asked.iter().all(|(subnet, _)| *subnet == a), "{why}: {asked:?}");
    }
}
