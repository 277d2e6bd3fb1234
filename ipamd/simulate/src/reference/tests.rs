// SPDX-License-Identifier: Apache-2.0
//! The whole model against the VPC model: what the reference's documents print comes to be.

use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use vpc_model::{Delivery, Effect};

use super::{Mode, Reference, Settings, Targets};
use crate::layout::Layout;
use crate::pace::Pace;
use crate::world::{Blow, CallFault, NodeId, PodPlan, World};

/// Between a change in the number of pods and the look at what came of it.
const SETTLE: u64 = 600;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

fn world(instance_type: &str, settings: Settings) -> World<Reference> {
    let vpc = Layout::one(instance_type, 20).build(settings.seed).unwrap();
    let instance = vpc.instance_named("n0").unwrap().id.clone();
    let mut world = World::new(vpc, Pace::default(), settings.seed);
    world.add_node(Rc::new(Reference::new("reference", settings)), &instance, BootTime::default());
    world
}

/// Not `run_until`, which stops where our own daemon's invariants break.
fn run_until(world: &mut World<Reference>, end: BootTime) {
    while world.next_time().is_some_and(|next| next <= end) {
        world.step();
    }
}

fn pods(world: &mut World<Reference>, numbers: std::ops::Range<u32>, starts: u64, ends: Option<u64>) {
    for number in numbers {
        let (name, ends) = (format!("pod-{number}"), ends.map(at));
        world.plan_pod(PodPlan { node: NodeId(0), name, starts: at(starts), ends });
    }
}

/// EC2 refuses every call of this action until then.
fn throttle(world: &mut World<Reference>, action: &'static str, until: u64) {
    let fault = CallFault {
        node: None,
        action,
        code: "RequestLimitExceeded",
        effect: Effect::Before,
        delivery: Delivery::Answer,
        count: u32::MAX,
        until: at(until),
    };
    world.order(at(0), Blow::Calls(fault));
}

/// Addresses or prefixes of each ENI, most first.
fn split(world: &World<Reference>) -> Vec<usize> {
    let mut split: Vec<usize> = world.vpc().enis().map(|eni| eni.secondaries.len() + eni.prefixes.len()).collect();
    split.sort_unstable_by(|one, other| other.cmp(one));
    split
}

fn running(world: &World<Reference>) -> u32 {
    world.nodes()[0].stats().pods.last()
}

/// Brings the node to each number of pods in turn, and says what it holds at each.
fn splits(instance_type: &str, mode: Mode, targets: Targets, numbers: &[u32]) -> Vec<Vec<usize>> {
    let mut world = world(instance_type, Settings { mode, targets, ..Settings::default() });
    let (mut so_far, mut now, mut splits) = (0, 0, Vec::new());
    for &number in numbers {
        pods(&mut world, so_far..number, now, None);
        so_far = number;
        now += SETTLE;
        run_until(&mut world, at(now));
        assert_eq!(running(&world), number, "{instance_type} {targets:?}: pods that run");
        splits.push(split(&world));
    }
    splits
}

fn targets(e: u32, w: u32, m: u32) -> Targets {
    Targets { warm_enis: e, warm_addresses: w, minimum_addresses: m, warm_prefixes: 1 }
}

/// `docs/eni-and-ip-target.md`, t3.small: 3 ENIs of 3 addresses.
#[test]
fn a_t3_small_holds_what_the_reference_documents() {
    let held = |targets| splits("t3.small", Mode::Addresses, targets, &[0, 5, 9]);
    assert_eq!(held(targets(1, 0, 0)), [vec![3], vec![3, 3, 3], vec![3, 3, 3]]);
    assert_eq!(held(targets(0, 1, 1)), [vec![1], vec![3, 3], vec![3, 3, 3]]);
    assert_eq!(held(targets(0, 2, 5)), [vec![3, 2], vec![3, 3, 1], vec![3, 3, 3]]);
}

/// The same document, p3dn.24xlarge: 49 addresses an ENI.
#[test]
fn a_p3dn_24xlarge_holds_what_the_reference_documents() {
    let held = |targets, pods| splits("p3dn.24xlarge", Mode::Addresses, targets, pods);
    assert_eq!(held(targets(1, 0, 0), &[0, 3, 95]), [vec![49], vec![49, 49], vec![49, 49, 49]]);
    assert_eq!(held(targets(0, 5, 10), &[0, 7, 15, 45]), [vec![10], vec![12], vec![20], vec![49, 1]]);
}

/// `docs/prefix-and-ip-target.md`, t3.small (3 prefixes an ENI) and p3dn.24xlarge.
#[test]
fn in_prefix_mode_both_types_hold_what_the_reference_documents() {
    let held = |kind, targets, pods: &[u32]| -> Vec<usize> {
        splits(kind, Mode::Prefixes, targets, pods).iter().map(|split| split.iter().sum()).collect()
    };
    assert_eq!(held("t3.small", targets(0, 0, 0), &[0, 5, 16, 17, 58]), [1, 2, 2, 3, 5]);
    assert_eq!(held("t3.small", targets(0, 1, 1), &[0, 5, 17, 58]), [1, 1, 2, 4]);
    assert_eq!(held("t3.small", targets(0, 7, 20), &[0, 5, 17, 58]), [2, 2, 2, 5], "the code's 2 for 0 pods");
    assert_eq!(held("p3dn.24xlarge", targets(0, 5, 10), &[0, 7, 15, 45]), [1, 1, 2, 4]);
}

#[test]
fn a_start_makes_the_documented_calls() {
    let mut world = world("m5.large", Settings::default());
    run_until(&mut world, at(120));
    let calls: Vec<(&str, u32)> =
        world.nodes()[0].stats().calls.iter().map(|(action, number)| (*action, *number)).collect();
    let expected = [
        // Its addresses on the primary ENI,
        ("AssignPrivateIpAddresses", 1),
        // the primary ENI's tag,
        ("CreateTags", 1),
        // all ENIs of IMDS at the start; the search for leaked ones comes in the first five minutes,
        ("DescribeNetworkInterfaces", 1),
        // is the primary ENI's subnet excluded?,
        ("DescribeSubnets", 1),
        // and the security groups.
        ("ModifyNetworkInterfaceAttribute", 1),
    ];
    let mut calls = calls;
    for (action, number) in &mut calls {
        if *action == "DescribeNetworkInterfaces" {
            *number = (*number).min(1);
        }
    }
    assert_eq!(calls, expected);
    run_until(&mut world, at(3_000));
    assert_eq!(world.nodes()[0].stats().calls["DescribeNetworkInterfaces"], 2, "one search for leaked ENIs an hour");
    assert_eq!(split(&world), [9]);
}

#[test]
fn a_pod_too_many_waits_for_the_loop_and_for_kubelet() {
    let mut world = world("m5.large", Settings::default());
    run_until(&mut world, at(120));
    pods(&mut world, 0..15, 120, None);
    run_until(&mut world, at(300));
    let stats = world.nodes()[0].stats();
    assert_eq!(running(&world), 15);
    assert!(stats.refusals["BudgetSpent"] >= 6, "{:?}", stats.refusals);
    assert!(stats.waits.percentile(50) < Duration::from_secs(1), "nine are there");
    assert!(stats.waits.percentile(100) > Duration::from_secs(5), "{:?}", stats.waits.percentile(100));
    assert_eq!(split(&world), [9, 9, 9], "one ENI for the pods, one to be warm");
}

/// Which ENI keeps the minimum is chance: when it is a secondary one, that one stays for good.
#[test]
fn what_is_not_needed_goes_back() {
    let mut world = world("m5.large", Settings { targets: targets(1, 2, 4), ..Settings::default() });
    pods(&mut world, 0..20, 60, Some(600));
    run_until(&mut world, at(590));
    assert_eq!((running(&world), split(&world)), (20, vec![9, 9, 4]));
    run_until(&mut world, at(1_200));
    assert_eq!((running(&world), split(&world).iter().sum::<usize>()), (0, 4), "down to the minimum");
    assert!(split(&world).len() < 3, "{:?}", split(&world));
}

#[test]
fn a_throttled_start_ends_the_process_and_kubelet_starts_it_again() {
    let mut world = world("m5.large", Settings::default());
    throttle(&mut world, "AssignPrivateIpAddresses", 120);
    run_until(&mut world, at(120));
    let daemon = |world: &World<Reference>| {
        let container = world.nodes()[0].daemon().unwrap();
        (container.starts(), container.is_serving())
    };
    let (starts, serving) = daemon(&world);
    assert!((3..=6).contains(&starts) && !serving, "{starts} starts, serving: {serving}");
    run_until(&mut world, at(600));
    assert!(daemon(&world).1);
    assert_eq!(split(&world), [9]);
}

#[test]
fn a_start_that_takes_too_long_is_killed_by_the_liveness_probe() {
    let mut world = world("m5.large", Settings::default());
    throttle(&mut world, "DescribeSubnets", 79);
    run_until(&mut world, at(79));
    assert_eq!(world.nodes()[0].daemon().unwrap().starts(), 1, "six tries, ten seconds apart, and two retries each");
    run_until(&mut world, at(100));
    let container = world.nodes()[0].daemon().unwrap();
    assert!(container.starts() == 2 || container.is_serving());
}
