// SPDX-License-Identifier: Apache-2.0
//! What words of the API server cost in calls, above all wrong ones, which all nodes of a cluster hear at once.

use std::time::Duration;

use super::super::world::{Fault, World, warm_addresses};
use super::{custom, elsewhere, groups_of_secondaries, policy, with_groups, zone};
use crate::action::{ActionKind, SubnetQuery};
use crate::event::{Event, FailureClass};
use crate::reason::ReasonCode;

/// How often the zone is described in so many seconds, after a word that names nothing that can be used; and looks by id.
fn rechecks(world: &mut World, seconds: u64, each: impl Fn(&mut World, u64)) -> (Vec<u64>, usize) {
    world.run_seconds(5);
    world.elsewhere = vec![elsewhere(world, "subnet-b", "vpc-1", "us-east-1b")];
    world.say(policy(&[("subnet-b", 0, 1)]));
    let (mut zones, mut named) = (Vec::new(), 0);
    for second in 0..seconds {
        let before: Vec<_> = world.pending.iter().map(|(_, action)| action.id).collect();
        each(world, second);
        world.run_seconds(1);
        for (_, action) in world.pending.iter().filter(|(_, action)| !before.contains(&action.id)) {
            match &action.kind {
                ActionKind::DescribeSubnets(SubnetQuery::Zone { .. }) => zones.push(second),
                ActionKind::DescribeSubnets(SubnetQuery::Named(_)) => named += 1,
                _ => {}
            }
        }
    }
    (zones, named)
}

#[test]
fn a_mistake_in_an_eniconfig_costs_few_calls_and_each_node_makes_them_at_times_of_its_own() {
    let of_node = |instance: &str, asks: bool| {
        let mut world = World::unborn("m5.large", custom(warm_addresses(1, 0)));
        world.facts.instance_id = instance.into();
        // Longer than a step, so that none is missed.
        world.latency = Duration::from_millis(1_500);
        let facts = world.facts.clone();
        world.feed(Event::FactsLearned(facts));
        rechecks(&mut world, 3 * 3_600, |world, second| {
            if asks && second % 15 == 0 {
                world.add("pod");
            }
        })
    };
    let (one, named) = of_node("i-1", false);
    assert!((8..=13).contains(&one.len()), "in three hours: {one:?}");
    assert!(one.windows(2).all(|pair| (60..=1_810).contains(&(pair[1] - pair[0]))), "{one:?}");
    assert_eq!(named, 1, "it is in another zone, and stays there");
    assert_ne!(of_node("i-2", false).0, one);
    let (hurried, _) = of_node("i-1", true);
    assert!((55..=100).contains(&hurried.len()), "every two or three minutes while ADDs come: {}", hurried.len());
}

#[test]
fn other_groups_with_the_same_subnets_are_no_reason_to_describe_the_zone() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.say(policy(&[("subnet-2", 0, 1)]));
    world.start_pods(1, 60);
    let calls = world.count("subnet");
    world.say(with_groups(policy(&[("subnet-2", 0, 1)]), &["sg-a"]));
    world.run_seconds(60);
    assert_eq!(world.count("subnet"), calls);
    assert_eq!(groups_of_secondaries(&world), [["sg-a"]]);
}

#[test]
fn while_a_named_subnet_cannot_be_looked_up_pods_are_told_why() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.run_seconds(5);
    world.say(policy(&[("subnet-x", 0, 1)]));
    let pod = world.add_with("pod", Duration::from_secs(5));
    // The zone answers; the look by id does not.
    let is_named = |world: &World| {
        let named = |kind: &ActionKind| matches!(kind, ActionKind::DescribeSubnets(SubnetQuery::Named(_)));
        world.pending.iter().any(|(_, action)| named(&action.kind))
    };
    for _ in 0..300 {
        if is_named(&world) {
            break;
        }
        world.run(Duration::from_millis(10));
    }
    assert!(is_named(&world));
    (0..50).for_each(|_| world.fault("subnet", Fault::Before(FailureClass::Throttled)));
    world.run_seconds(6);
    assert_eq!(world.answer(pod), Some(Err(ReasonCode::Ec2Throttled)));
}

#[test]
fn what_was_asked_for_under_another_eniconfig_is_not_asked_for_again() {
    for crash in [false, true] {
        let mut world = zone("m5.large", warm_addresses(1, 0));
        world.run_seconds(5);
        world.fault("create", Fault::Before(FailureClass::Unknown));
        world.say(with_groups(policy(&[("subnet-2", 0, 1)]), &["sg-a"]));
        world.run(Duration::from_millis(100));
        assert_eq!(world.count("create"), 1, "on its way");
        if crash {
            world.restart(|_| false);
            let facts = world.facts.clone();
            world.feed(Event::FactsLearned(facts));
        }
        world.say(with_groups(policy(&[("subnet-3", 0, 1)]), &["sg-b"]));
        world.run_seconds(60);
        assert_eq!(world.subnets_in_use(), ["subnet-3"], "crash {crash}");
        assert_eq!(groups_of_secondaries(&world), [["sg-b"]]);
    }
}
