// SPDX-License-Identifier: Apache-2.0
//! When the kernel is looked at, what is told of it, and what is swept.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::world::{Fault, World, key, rule_missing, warm_addresses};
use crate::core::repair::{BETWEEN_CONTESTED, CONTESTED_LOOKS, LOOK_EVERY, ORPHAN_GRACE, YOUNG};
use crate::event::{Event, FailureClass};
use crate::reason::ReasonCode;
use crate::repair::KernelChange;

/// A node with a pod that is no more young, and nothing under way.
fn settled() -> World {
    let mut world = World::new("m5.large", warm_addresses(3, 0));
    world.run_seconds(30);
    let request = world.add("a");
    world.run(YOUNG + Duration::from_secs(1));
    assert!(matches!(world.answer(request), Some(Ok(_))));
    world
}

fn of(address: IpAddr) -> KernelChange {
    KernelChange { addresses: BTreeSet::from([address]), ..KernelChange::default() }
}

fn some_rule() -> KernelChange {
    KernelChange { objects: BTreeSet::from(["rule".to_owned()]), ..KernelChange::default() }
}

fn address(world: &World, pod: &str) -> IpAddr {
    world.ledger.owner[&key(pod)].into()
}

fn told(world: &World, code: ReasonCode) -> Vec<&str> {
    let told = world.notices.iter().filter(|notice| notice.code == Some(code));
    told.map(|notice| notice.text.as_str()).collect()
}

/// Looks until `time` has passed.
fn looks_in(world: &mut World, time: Duration) -> u32 {
    let before = world.count("repair");
    world.run(time);
    world.count("repair") - before
}

#[test]
fn damage_is_put_back_within_a_second_and_told_once_with_its_kind_and_count() {
    let mut world = settled();
    let change = KernelChange { programs: BTreeSet::from(["ip".to_owned()]), ..of(address(&world, "a")) };
    world.hurt(3, change);
    assert_eq!(looks_in(&mut world, Duration::from_secs(1)), 1);
    assert!(world.damage.is_empty());
    let told = told(&world, ReasonCode::HostRepaired);
    assert_eq!(
        told,
        ["put back what was changed (perhaps by ip): 3 rule missing (ip rule add …; ip rule add …; and 1 more)"]
    );
    let snapshot = world.core.snapshot(world.now).repair;
    assert_eq!((snapshot.repaired[0].what.to_string().as_str(), snapshot.repaired[0].count), ("rule missing", 3));
    assert!(!snapshot.contested);
}

#[test]
fn a_node_that_nobody_touches_is_looked_at_every_half_minute() {
    let mut world = settled();
    assert_eq!(looks_in(&mut world, LOOK_EVERY * 10), 10);
    // What no notification told of is found by that.
    world.damage = rule_missing(1);
    world.run(LOOK_EVERY);
    assert!(world.damage.is_empty());
}

#[test]
fn many_notifications_are_one_look_and_ours_lead_to_no_other() {
    let mut world = settled();
    for _ in 0..500 {
        world.hurt(1, some_rule());
    }
    assert_eq!(looks_in(&mut world, Duration::from_secs(5)), 1);
}

#[test]
fn what_a_del_removes_is_not_looked_at() {
    let mut world = settled();
    let address = address(&world, "a");
    world.feed(Event::KernelChanged(of(address)));
    world.run(Duration::from_millis(20));
    world.del("a");
    assert_eq!(looks_in(&mut world, Duration::from_secs(5)), 0);
}

#[test]
fn a_young_pod_is_left_to_its_add_and_looked_at_when_that_is_over() {
    let mut world = settled();
    world.add("b");
    world.run(Duration::from_millis(10));
    world.hurt(1, of(address(&world, "b")));
    assert_eq!(looks_in(&mut world, YOUNG - Duration::from_millis(100)), 0);
    assert_eq!(looks_in(&mut world, Duration::from_secs(1)), 1);
    // Anything else that is heard is looked at at once, without the young pod.
    world.add("c");
    world.run(Duration::from_millis(10));
    world.feed(Event::KernelChanged(some_rule()));
    world.run(Duration::from_millis(500));
    let young = address(&world, "c");
    let kind = world.last_repair.clone().expect("a look");
    assert!(kind.pods.iter().all(|pod| IpAddr::from(pod.address) != young) && kind.spared.contains(&young));
}

#[test]
fn a_fight_is_capped_and_its_likely_cause_named_once_a_minute() {
    let mut world = settled();
    for _ in 0..600 {
        world.hurt(1, some_rule());
        world.run(Duration::from_millis(100));
    }
    let looks = world.core.snapshot(world.now).repair;
    assert!(looks.contested);
    // Ten quick ones in some four seconds, and then one every five.
    let capped = u64::try_from(CONTESTED_LOOKS).unwrap() + 60 / BETWEEN_CONTESTED.as_secs();
    assert!((capped - 2..=capped + 2).contains(&(looks.looks - 2)), "{} looks", looks.looks);
    let fights = told(&world, ReasonCode::HostContested);
    assert_eq!(fights.len(), 1, "{fights:?}");
    assert!(fights[0].contains("Likely systemd-networkd: set ManageForeignRoutingPolicyRules=no"), "{}", fights[0]);
    assert!(told(&world, ReasonCode::HostRepaired).len() < CONTESTED_LOOKS);
    // Peace: a minute later everything is quick again.
    world.damage.clear();
    world.run_seconds(70);
    world.hurt(1, some_rule());
    assert_eq!(looks_in(&mut world, Duration::from_secs(1)), 1);
    assert!(!world.core.snapshot(world.now).repair.contested);
}

#[test]
fn a_look_that_failed_is_tried_again() {
    let mut world = settled();
    world.fault("repair", Fault::Before(FailureClass::Kernel));
    world.hurt(1, some_rule());
    world.run_seconds(10);
    assert!(world.damage.is_empty());
}

#[test]
fn leftovers_go_at_the_second_look_and_those_of_a_new_owner_stay() {
    let mut world = settled();
    let (orphan, held) = (IpAddr::from([10, 0, 77, 7]), address(&world, "a"));
    world.left.extend([orphan, held]);
    world.run(LOOK_EVERY + Duration::from_secs(1));
    assert!(world.left.contains(&orphan), "seen once");
    world.run(ORPHAN_GRACE + LOOK_EVERY);
    assert_eq!(world.left, BTreeSet::from([held]));
    assert_eq!(world.core.snapshot(world.now).repair.swept, 1);
    assert_eq!(told(&world, ReasonCode::OrphansSwept).len(), 1);
}

#[test]
fn pods_that_died_without_a_del_leave_nothing_behind() {
    let mut world = settled();
    let address = address(&world, "a");
    world.left.insert(address);
    world.vanish("a");
    // An allocation spares its address: an orphan allocation ends after a minute, then come two looks.
    world.run_seconds(60);
    assert!(world.left.contains(&address));
    world.run_seconds(150);
    assert!(world.left.is_empty());
}

#[test]
fn a_restart_looks_at_once_and_again_when_no_pod_is_young() {
    let mut world = settled();
    world.restart(|_| true);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    let before = world.count("repair");
    world.run_seconds(5);
    assert_eq!(world.count("repair") - before, 2);
    let plan = world.last_repair.clone().expect("a look");
    assert_eq!((plan.pods.len(), plan.sweep.len()), (1, 0));
}
