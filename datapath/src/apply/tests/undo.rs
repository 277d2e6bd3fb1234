// SPDX-License-Identifier: Apache-2.0
//! A failed attach leaves nothing behind, wherever it fails.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::apply::pod::attach;
use crate::apply::testbed::{Space, assert_same, pod};
use crate::apply::{ApplyError, fault};

/// Attaches, expects an error and the same dumps as before.
fn fails_without_a_trace(node: &Space, sandbox: &Space, pod: &crate::plan::pod::PodAttachment) -> ApplyError {
    let before = (node.dump(), sandbox.dump());
    let error = attach(&sandbox.path(), pod).unwrap_err();
    assert_same(&before.0, &node.dump(), &error.to_string());
    assert_same(&before.1, &sandbox.dump(), &error.to_string());
    error
}

#[test]
fn after_a_fault_at_any_step_nothing_is_left() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(2));
    let mut steps = 0;
    loop {
        fault::fail_after(steps);
        let before = (node.dump(), sandbox.dump());
        let result = attach(&sandbox.path(), &pod);
        if !fault::has_happened() {
            result.unwrap();
            break;
        }
        assert!(result.is_err());
        assert_same(&before.0, &node.dump(), &format!("fault at step {steps}"));
        assert_same(&before.1, &sandbox.dump(), &format!("fault at step {steps}"));
        steps += 1;
    }
    assert_eq!(steps, 5);
}

#[test]
fn a_namespace_that_is_gone_is_named_in_the_error() {
    let node = Space::enter_new();
    let before = node.dump();
    let error = attach(Path::new("/run/netns/gone"), &pod("a", Ipv4Addr::new(10, 0, 0, 7), None)).unwrap_err();
    assert!(matches!(error, ApplyError::Namespace { .. }), "{error}");
    assert!(error.to_string().contains("/run/netns/gone"));
    assert_same(&before, &node.dump(), "dump");
}

#[test]
fn an_address_that_is_routed_elsewhere_is_refused_by_name() {
    let (node, living, sandbox) = (Space::enter_new(), Space::new(), Space::new());
    let address = Ipv4Addr::new(10, 0, 0, 7);
    attach(&living.path(), &pod("living", address, Some(3))).unwrap();
    let error = fails_without_a_trace(&node, &sandbox, &pod("new", address, Some(2)));
    match error {
        ApplyError::AddressInUse { owner, .. } => assert_eq!(owner.as_deref(), Some("aws-cni/living-sandbox/eth0")),
        other => panic!("{other}"),
    }
}

#[test]
fn an_mtu_that_the_kernel_refuses_leaves_nothing() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let mut pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(2));
    pod.mtu = 70_000;
    let error = fails_without_a_trace(&node, &sandbox, &pod);
    assert_eq!(error.errno(), Some(rustix::io::Errno::INVAL.raw_os_error()), "{error}");
    assert!(error.to_string().contains("mtu 70000"), "{error}");
}

#[test]
fn a_name_that_is_taken_in_the_pod_leaves_nothing() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    sandbox.ip("link add eth0 type bridge");
    let error = fails_without_a_trace(&node, &sandbox, &pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(2)));
    assert_eq!(error.errno(), Some(rustix::io::Errno::EXIST.raw_os_error()), "{error}");
}

#[test]
fn a_default_route_that_is_there_in_the_pod_leaves_nothing() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    sandbox.ip("link add other type veth peer name another");
    sandbox.ip("link set other up");
    sandbox.ip("route add default dev other");
    let error = fails_without_a_trace(&node, &sandbox, &pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(2)));
    assert!(error.to_string().contains("ip route add default via 169.254.1.1"), "{error}");
}

#[test]
fn an_owner_that_is_no_alias_is_refused_before_anything_is_made() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let mut pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    pod.owner = "x".repeat(300);
    let error = fails_without_a_trace(&node, &sandbox, &pod);
    assert!(matches!(error, ApplyError::Alias { .. }), "{error}");
}

#[test]
fn rules_that_were_there_before_survive_an_undo() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    node.ip("rule add priority 512 to 10.0.0.7 lookup main");
    fault::fail_after(4);
    fails_without_a_trace(&node, &sandbox, &pod);
}
