// SPDX-License-Identifier: Apache-2.0
//! EC2 or IMDS out of reach: what is there is served, the cause is named, nothing hangs.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; real time"
)]

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::{Delivery, Fault, ImdsFault};

/// No call of EC2 is answered.
fn silent() -> Fault {
    Fault { delivery: Delivery::Hang, ..Fault::always("*", "InternalError") }
}

/// Within 15 s the node says why it cannot give addresses, in `ipamd status` and in the refusal of an ADD.
fn names_its_cause(fault: Fault, sign: &str) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.emulator.with_model(|vpc, _| vpc.order_fault(fault.clone()));
    topology.node_mut("n1").start().unwrap();
    let n1 = topology.node("n1");
    let named = eventually("the status names the cause", Duration::from_secs(15), || {
        let status = n1.ask(&["status"]).map_err(|error| error.to_string())?;
        if status.contains(sign) { Ok(()) } else { Err(status) }
    });
    named.unwrap_or_else(|error| panic!("{} {}: {error}", fault.action, fault.code));
}

#[test]
fn a_new_node_that_may_not_read_enis_says_so() {
    names_its_cause(Fault::always("DescribeNetworkInterfaces", "UnauthorizedOperation"), "UnauthorizedOperation");
}

#[test]
fn a_new_node_whose_ec2_does_not_answer_says_so() {
    names_its_cause(silent(), "has not answered for");
}

#[test]
fn a_node_with_a_journal_serves_its_pool_while_ec2_does_not_answer() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let first = pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap();
    topology.emulator.with_model(|vpc, _| vpc.order_fault(silent()));
    let n1 = topology.node_mut("n1");
    n1.kill();
    let began = Instant::now();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the start waited for EC2: {:?}", began.elapsed());
    let more = pods::start(n1, 3, 3, &AtomicUsize::new(2)).unwrap();
    for pod in first.iter().chain(&more) {
        pod.reached_from(&n1.netns).unwrap();
    }
}

/// Denials of what growth needs are refusals with a code; a denial of what it can do without costs nothing.
#[test]
fn each_denied_action_is_named_and_an_optional_one_costs_nothing() {
    for (action, needed) in [
        ("CreateNetworkInterface", true),
        ("AttachNetworkInterface", true),
        ("AssignPrivateIpAddresses", true),
        ("ModifyNetworkInterfaceAttribute", false),
    ] {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        topology.start(&[("WARM_IP_TARGET", "1")]).unwrap();
        topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, "UnauthorizedOperation")));
        let n1 = topology.node("n1");
        let mut refused = None;
        let mut running = Vec::new();
        for _ in 0..12 {
            let sandbox = n1.next_sandbox().unwrap();
            match n1.runtime.add(&sandbox) {
                Ok(added) => running.push((sandbox, added)),
                Err(error) => {
                    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
                    refused = Some(error.to_string());
                    break;
                }
            }
        }
        match refused {
            Some(text) => {
                assert!(needed, "{action} is not needed, but: {text}");
                assert!(text.contains("Ec2Denied") && text.contains("UnauthorizedOperation"), "{action}: {text}");
            }
            None => assert!(!needed, "{action} was denied and nobody was told"),
        }
        assert!(topology.calls(action) < 15, "{action} was called {} times", topology.calls(action));
    }
}

#[test]
fn imds_trouble_while_pods_come_and_go_is_not_noticed_by_them() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let n1 = topology.node("n1");
    // With an address the node has credentials: they come from IMDS too, and a new node without them can only wait.
    pods::start(n1, 1, 1, &AtomicUsize::new(0)).unwrap();
    let mut slowest = Duration::ZERO;
    for status in [429, 503, 401, 403] {
        let fault = ImdsFault { instance: None, path_prefix: String::new(), status, count: None };
        topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
        for _ in 0..8 {
            let sandbox = n1.next_sandbox().unwrap();
            slowest = slowest.max(n1.runtime.add(&sandbox).unwrap().took);
            n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
            pass(Duration::from_millis(150));
        }
        topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    }
    assert!(slowest < Duration::from_secs(1), "an ADD waited {slowest:?} for IMDS");
}
