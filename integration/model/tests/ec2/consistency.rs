// SPDX-License-Identifier: Apache-2.0
//! Lags, faults, throttling, latencies, the log of calls.

use std::time::Duration;

use vpc_model::{Caller, Delivery, Fault};

use crate::common::{World, all};

const SECOND: Duration = Duration::from_secs(1);

fn fault(json: serde_json::Value) -> Fault {
    serde_json::from_value(json).unwrap()
}

/// EC2 developer guide, "Eventual consistency": an id just returned may be unknown, a change may not show.
#[test]
fn describe_can_lag_behind_what_was_done() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| settings.lags.describe_ms = 3_000);
    let eni = world.create("a", &[]);
    let by_id = [("NetworkInterfaceId.1", eni.as_str())];
    assert_eq!(world.refused("DescribeNetworkInterfaces", &by_id).0, "InvalidNetworkInterfaceID.NotFound");
    world.ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", "10.0.1.40")]);
    world.pass(SECOND);
    world.ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", "10.0.1.41")]);
    world.pass(2 * SECOND);
    assert_eq!(world.secondaries(&eni).len(), 1);
    world.pass(SECOND);
    assert_eq!(world.secondaries(&eni).len(), 2);
    world.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]);
    assert_eq!(world.secondaries(&eni).len(), 2, "the deleted ENI is still seen");
    world.pass(3 * SECOND);
    world.refused("DescribeNetworkInterfaces", &by_id);
}

#[test]
fn a_new_id_can_be_unknown_to_the_next_call() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| settings.lags.new_id_ms = 2_000);
    let eni = world.create("a", &[]);
    let delete = [("NetworkInterfaceId", eni.as_str())];
    assert_eq!(world.refused("DeleteNetworkInterface", &delete).0, "InvalidNetworkInterfaceID.NotFound");
    world.pass(2 * SECOND);
    world.ok("DeleteNetworkInterface", &delete);
}

#[test]
fn a_fault_before_has_no_effect_and_a_fault_after_has() {
    for (effect, made) in [("before", 0), ("after", 1)] {
        let mut world = World::new();
        let (subnet, enis) = (world.subnet("a"), world.vpc.enis().count());
        world.vpc.order_fault(fault(serde_json::json!({
            "action": "CreateNetworkInterface", "code": "InternalError", "count": 1, "effect": effect
        })));
        let params = [("SubnetId", subnet.as_str()), ("ClientToken", "t")];
        let answer = world.call("CreateNetworkInterface", &params);
        assert_eq!(answer.status, 500);
        assert_eq!(world.vpc.enis().count(), enis + made, "{effect}");
        world.ok("CreateNetworkInterface", &params);
        assert_eq!(world.vpc.enis().count(), enis + 1, "{effect}: the same token makes one ENI");
    }
}

#[test]
fn an_answer_can_be_kept_back() {
    let mut world = World::new();
    world.vpc.order_fault(fault(serde_json::json!({"action": "*", "effect": "after", "delivery": "hang", "count": 1})));
    assert_eq!(world.call("DescribeVpcs", &[]).delivery, Delivery::Hang);
    assert_eq!(world.call("DescribeVpcs", &[]).delivery, Delivery::Answer);
}

/// EC2 developer guide, "Request throttling": AttachNetworkInterface has a bucket of 50, refilled by 5 a second; the
/// refusal is RequestLimitExceeded with HTTP 503.
#[test]
fn the_fifty_first_attach_at_once_is_throttled() {
    let mut world = World::new();
    let codes: Vec<u16> = (0..51).map(|_| world.call("AttachNetworkInterface", &[]).status).collect();
    assert!(codes[..50].iter().all(|status| *status == 400), "{codes:?}");
    assert_eq!(codes[50], 503);
    let (code, text) = world.refused("AttachNetworkInterface", &[]);
    assert_eq!((code.as_str(), text.as_str()), ("RequestLimitExceeded", "Request limit exceeded."));
    world.pass(SECOND);
    assert_eq!(world.call("AttachNetworkInterface", &[]).status, 400);
    world.vpc.change_settings(|settings| settings.throttle.enabled = false);
    assert!((0..200).all(|_| world.call("AttachNetworkInterface", &[]).status == 400));
}

/// EC2 developer guide, "Request throttling": one bucket an action for the account, whoever calls; describing everything
/// has a smaller one of its own.
#[test]
fn all_nodes_of_an_account_share_each_bucket() {
    let mut world = World::new();
    let (id, now) = (world.primary("large").to_string(), world.now);
    let mut describe = |node: u32, params: &[(&str, &str)]| {
        let caller = Caller { access_key: Some(format!("ASIA{node}")), session_token: None };
        let params: Vec<_> = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        world.vpc.ec2(&caller, "DescribeNetworkInterfaces", &params, now).status
    };
    let everything: Vec<u16> = (0..51).map(|node| describe(node % 7, &[])).collect();
    assert_eq!(everything.iter().filter(|status| **status == 200).count(), 50);
    assert_eq!(describe(8, &[("IncludeManagedResources", "true")]), 503, "that limits nothing");
    let filtered: Vec<u16> = (0..101).map(|node| describe(node % 7, &[("NetworkInterfaceId.1", &id)])).collect();
    assert_eq!(filtered.iter().filter(|status| **status == 200).count(), 100);
}

#[test]
fn answers_are_due_after_the_latency_of_their_action() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| {
        settings.latencies.call_ms = 300;
        settings.latencies.by_action_ms.insert("CreateTags".to_owned(), 5);
    });
    assert_eq!(world.call("DescribeVpcs", &[]).delay, Duration::from_millis(300));
    assert_eq!(world.call("CreateTags", &[]).delay, Duration::from_millis(5));
}

#[test]
fn calls_are_remembered_with_their_outcome() {
    let mut world = World::new();
    world.ok("DescribeVpcs", &[]);
    world.refused("DescribeVpcs", &[("VpcId.1", "vpc-0123456789abcdef0")]);
    let calls: Vec<_> = world.vpc.calls().map(|call| (call.action.as_str(), call.code.as_deref())).collect();
    assert_eq!(calls, [("DescribeVpcs", None), ("DescribeVpcs", Some("InvalidVpcID.NotFound"))]);
}

#[test]
fn the_same_seed_and_calls_give_the_same_answers() {
    let run = || {
        let mut world = World::new();
        let eni = world.create("a", &[("SecondaryPrivateIpAddressCount", "5")]);
        world.attach(&eni, "large", 1);
        all(&world.ok("DescribeNetworkInterfaces", &[]), "item")
    };
    assert_eq!(run(), run());
}
