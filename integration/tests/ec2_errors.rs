// SPDX-License-Identifier: Apache-2.0
//! Every class of EC2 error, once, in the middle of growing: the node fills all the same, and nothing is left behind in EC2.
//!
//! Codes: EC2 API reference, "Error codes". Pods are started as kubelet does: what is refused is tried again with a new
//! sandbox.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; real time"
)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{Topology, TopologySpec};
use vpc_model::{Delivery, Effect, Fault};

/// More than the primary ENI holds, so an ENI has to be made, attached and configured.
const PODS: usize = 14;

/// Fills the node with `faults` on order, deletes everything, and looks at EC2.
fn survives(faults: &[Fault]) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    for fault in faults {
        topology.emulator.with_model(|vpc, _| vpc.order_fault(fault.clone()));
    }
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let pods = fill(&topology);
    for fault in faults {
        let met = topology.emulator.with_model(|vpc, _| {
            vpc.calls().any(|call| call.action == fault.action && call.code.as_deref() == Some(fault.code.as_str()))
        });
        assert!(met, "{} was never called, so {} was not tested", fault.action, fault.code);
    }
    let n1 = topology.node("n1");
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), PODS);
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
    pods::end(n1, pods, 4).unwrap();
    let settled = eventually("EC2 holds attached ENIs only, as the daemon believes", Duration::from_secs(40), || {
        let unattached = topology.unattached_enis();
        let assigned: usize = topology.enis("n1").unwrap().iter().map(|eni| eni.secondary.len()).sum();
        let total = n1.number("/pool/total").unwrap();
        if unattached == 0 && assigned as u64 == total {
            Ok(())
        } else {
            Err(format!("{unattached} unattached ENIs, {assigned} addresses assigned, {total} known"))
        }
    });
    settled.unwrap();
    let calls = topology.emulator.with_model(|vpc, _| vpc.calls().len());
    assert!(calls < 120, "{calls} calls: EC2 is asked too much");
}

fn fill(topology: &Topology) -> Vec<Pod> {
    let n1 = topology.node("n1");
    let (next, running) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let end = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < PODS {
                    let pod = loop {
                        let sandbox = n1.next_sandbox().unwrap();
                        let error = match n1.runtime.add(&sandbox) {
                            Ok(added) => break Pod { sandbox, added },
                            Err(error) => error,
                        };
                        assert!(error.refusal().is_some_and(|refused| refused.code == 11), "{error}");
                        assert!(Instant::now() < end, "{error}");
                        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
                        pass(Duration::from_millis(200));
                    };
                    running.lock().unwrap().push(pod);
                }
            });
        }
    });
    running.into_inner().unwrap()
}

#[test]
fn throttling_delays_and_does_not_break_growth() {
    let codes =
        ["CreateNetworkInterface", "AttachNetworkInterface", "AssignPrivateIpAddresses", "DescribeNetworkInterfaces"];
    survives(&codes.map(|action| Fault::once(action, "RequestLimitExceeded")));
}

#[test]
fn an_exhausted_subnet_that_gets_space_again_is_used_again() {
    survives(&[Fault::once("CreateNetworkInterface", "InsufficientFreeAddressesInSubnet")]);
}

#[test]
fn an_eni_that_holds_more_than_the_daemon_believes_is_looked_at_again() {
    survives(&[Fault::once("AssignPrivateIpAddresses", "PrivateIpAddressLimitExceeded")]);
}

/// Not a retry loop: the ENI made in vain is deleted, and the node is full with what it has.
#[test]
fn an_instance_that_takes_no_more_enis_is_full_at_what_it_has_and_leaks_none() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let refused = Fault::always("AttachNetworkInterface", "AttachmentLimitExceeded");
    topology.emulator.with_model(|vpc, _| vpc.order_fault(refused));
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    let pods = pods::start(n1, 9, 3, &AtomicUsize::new(0)).unwrap();
    let full = eventually("the node says that it is full", Duration::from_secs(20), || {
        let sandbox = n1.next_sandbox().map_err(|error| error.to_string())?;
        let error = n1.runtime.add(&sandbox).expect_err("there is no tenth address").to_string();
        n1.runtime.del(&sandbox, NetnsPath::Given).map_err(|error| error.to_string())?;
        if error.contains("AttachmentLimit: ") && error.contains("AttachmentLimitExceeded") {
            Ok(())
        } else {
            Err(error)
        }
    });
    full.unwrap();
    // A new ENI is deleted when it is a minute old: before, EC2 may not know it yet, and "not found" would be taken for done.
    let deleted = eventually("the ENI made in vain is deleted", Duration::from_secs(80), || {
        let left = topology.unattached_enis();
        if left == 0 { Ok(()) } else { Err(format!("{left} unattached ENIs")) }
    });
    deleted.unwrap();
    assert!(topology.calls("AttachNetworkInterface") <= 3, "{} tries", topology.calls("AttachNetworkInterface"));
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn a_taken_device_index_is_replaced_by_another() {
    let mut taken = Fault::once("AttachNetworkInterface", "InvalidParameterValue");
    taken.message = Some("Instance 'i-0' already has an interface attached at device index '1'.".to_owned());
    survives(&[taken]);
}

#[test]
fn an_eni_that_ec2_does_not_know_yet_is_attached_later() {
    survives(&[Fault::once("AttachNetworkInterface", "InvalidNetworkInterfaceID.NotFound")]);
}

#[test]
fn an_eni_in_another_state_than_the_call_needs_is_looked_at_again() {
    survives(&[Fault::once("AttachNetworkInterface", "IncorrectState")]);
}

#[test]
fn a_denial_that_is_mended_is_forgotten() {
    survives(&[Fault::once("CreateNetworkInterface", "UnauthorizedOperation")]);
}

#[test]
fn a_client_token_that_ec2_has_seen_with_other_parameters_is_replaced() {
    survives(&[Fault::once("CreateNetworkInterface", "IdempotentParameterMismatch")]);
}

#[test]
fn server_errors_are_tried_again() {
    survives(&[
        Fault::once("CreateNetworkInterface", "InternalError"),
        Fault::once("AttachNetworkInterface", "ServiceUnavailable"),
    ]);
}

#[test]
fn a_create_whose_answer_is_lost_makes_one_eni_and_leaks_none() {
    let mut lost = Fault::once("CreateNetworkInterface", "InternalError");
    (lost.effect, lost.delivery) = (Effect::After, Delivery::Close);
    survives(&[lost]);
}

#[test]
fn an_attach_and_an_assign_whose_answers_are_lost_are_found_out_by_reading() {
    let mut lost = [
        Fault::once("AttachNetworkInterface", "InternalError"),
        Fault::once("AssignPrivateIpAddresses", "InternalError"),
    ];
    for fault in &mut lost {
        (fault.effect, fault.delivery) = (Effect::After, Delivery::Close);
    }
    survives(&lost);
}

#[test]
fn a_request_that_ec2_will_never_take_is_not_hammered_and_names_itself_in_the_refusal() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let rejected = Fault::always("CreateNetworkInterface", "InvalidParameterCombination");
    topology.emulator.with_model(|vpc, _| vpc.order_fault(rejected));
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    let pods = pods::start(n1, 9, 3, &AtomicUsize::new(0)).unwrap();
    let sandbox = n1.next_sandbox().unwrap();
    let error = n1.runtime.add(&sandbox).unwrap_err();
    assert!(error.refusal().is_some_and(|refused| refused.code == 11), "{error}");
    assert!(error.to_string().contains("InvalidParameterCombination"), "{error}");
    pass(Duration::from_secs(3));
    // Two ENIs are wanted; each is asked for once or twice before its call rests.
    let calls = topology.calls("CreateNetworkInterface");
    assert!(calls <= 4, "{calls} tries");
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
}
