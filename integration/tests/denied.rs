// SPDX-License-Identifier: Apache-2.0
//! Permissions that the node's role lacks: what can be done without costs nothing and changes nothing, and what giving back needs
//! is named while pods come and go.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::pods;
use integration::topology::{Topology, TopologySpec};
use vpc_model::{EniId, Fault};

const DENIED: &str = "UnauthorizedOperation";

/// Subnet and security groups of each of n1's ENIs, by device index.
fn places(topology: &Topology) -> Vec<(String, Vec<String>)> {
    let enis = topology.enis("n1").unwrap();
    topology.emulator.with_model(|vpc, _| {
        let place = |id: &str| {
            let eni = vpc.eni(&EniId(id.to_owned())).unwrap();
            (eni.subnet.to_string(), eni.security_groups.iter().map(ToString::to_string).collect())
        };
        enis.iter().map(|eni| place(&eni.id)).collect()
    })
}

/// Pods run and more ENIs come as if nothing were denied, and the denial is told.
fn an_optional_permission_is_missing(action: &str, besides: Option<&str>) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let denials = std::iter::once(action).chain(besides).map(|action| Fault::always(action, DENIED));
    topology.emulator.with_model(|vpc, _| denials.for_each(|denial| vpc.order_fault(denial)));
    topology.start(&[("WARM_IP_TARGET", "1")]).unwrap();
    pods::start(topology.node("n1"), 20, 6, &AtomicUsize::new(0)).unwrap_or_else(|error| panic!("{action}: {error}"));
    let places = places(&topology);
    assert_eq!(places.len(), 3, "without {action}");
    assert!(places.iter().all(|place| *place == places[0]), "without {action}: {places:?}");
    let named = eventually("the denial is in the status", Duration::from_secs(20), || {
        let status = topology.node("n1").ask(&["status"]).map_err(|error| error.to_string())?;
        if topology.calls(action) > 0 && status.contains(DENIED) { Ok(()) } else { Err(status) }
    });
    named.unwrap_or_else(|error| panic!("{action}: {error}"));
    assert!(topology.calls(action) < 10, "{action} was called {} times", topology.calls(action));
}

/// Of 8 or 14 pods that many stay: one ENI, of which addresses are given back; or two, of which the second goes.
fn giving_back_is_denied(action: &str, pods: usize, stay: usize) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, DENIED)));
    topology.start(&[("WARM_IP_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let n1 = topology.node("n1");
    let mut running = pods::start(n1, pods, 6, &AtomicUsize::new(0)).unwrap();
    let gone = running.split_off(stay);
    pods::end(n1, gone, 6).unwrap();
    // A surplus stands for a minute, an ENI is at least a minute old.
    let named = eventually("the denial is in the status", Duration::from_secs(150), || {
        let status = n1.ask(&["status"]).map_err(|error| error.to_string())?;
        if status.contains(DENIED) { Ok(()) } else { Err(status) }
    });
    named.unwrap_or_else(|error| panic!("{action}: {error}"));
    let more = pods::start(n1, 4, 4, &AtomicUsize::new(0)).unwrap();
    for pod in running.iter().chain(&more) {
        pod.reached_from(&n1.netns).unwrap();
    }
    assert!(topology.calls(action) < 6, "{action} was called {} times", topology.calls(action));
}

#[test]
fn without_the_right_to_describe_subnets_no_pod_is_refused_and_enis_have_the_same_subnet_and_security_groups() {
    an_optional_permission_is_missing("DescribeSubnets", None);
}

#[test]
fn without_the_right_to_modify_enis_no_pod_is_refused_and_enis_have_the_same_subnet_and_security_groups() {
    an_optional_permission_is_missing("ModifyNetworkInterfaceAttribute", None);
}

#[test]
fn without_the_right_to_tag_no_pod_is_refused_and_enis_have_the_same_subnet_and_security_groups() {
    // Tags are added some time in ten minutes, or at once when something was denied before.
    an_optional_permission_is_missing("CreateTags", Some("ModifyNetworkInterfaceAttribute"));
}

#[test]
fn a_denied_unassignment_is_named_and_tried_rarely() {
    giving_back_is_denied("UnassignPrivateIpAddresses", 8, 1);
}

#[test]
fn a_denied_detachment_is_named_and_tried_rarely() {
    giving_back_is_denied("DetachNetworkInterface", 14, 0);
}
