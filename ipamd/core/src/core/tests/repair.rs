// SPDX-License-Identifier: Apache-2.0
//! When the kernel is looked at, what is told of it, and what is swept.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::world::{Fault, World, key, rule_missing, warm_addresses};
use crate::core::repair::{BETWEEN_CONTESTED, CONTESTED_LOOKS, LOOK_AT_ORPHANS, LOOK_EVERY, YOUNG};
use crate::event::{Event, FailureClass};
use crate::reason::ReasonCode;
use crate::repair::{KernelChange, RepairPart};

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
fn a_node_that_nobody_touches_is_looked_at_once_a_minute() {
    let mut world = settled();
    assert_eq!(looks_in(&mut world, LOOK_EVERY * 10), 10);
    // What no notification told of is found by that.
    world.damage = rule_missing(1);
    world.run(LOOK_EVERY);
    assert!(world.damage.is_empty());
}

#[test]
fn what_nobody_asked_to_be_read_is_read_when_repair_looks() {
    let mut world = settled();
    let counts = |world: &World| ["repair", "observe"].map(|kind| world.count(kind));
    // Repair's clock goes otherwise from here on.
    world.run_seconds(17);
    world.hurt(1, some_rule());
    world.run(LOOK_EVERY);
    let mut seconds = Vec::new();
    for _ in 0..LOOK_EVERY.as_secs() * 10 {
        let before = counts(&world);
        world.run_seconds(1);
        let now = counts(&world);
        seconds.push([now[0] - before[0], now[1] - before[1]]);
    }
    seconds.retain(|new| *new != [0, 0]);
    assert_eq!(seconds, [[1, 1]; 10], "looks of repair and readings, second by second");
}

#[test]
fn a_node_that_is_repaired_all_the_time_is_read_twice_a_minute() {
    let mut world = settled();
    let before = world.count("observe");
    for _ in 0..LOOK_EVERY.as_secs() {
        world.hurt(1, some_rule());
        world.run_seconds(5);
    }
    let read = world.count("observe") - before;
    assert!((8..=10).contains(&read), "{read} readings in five minutes");
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
    while looks_in(&mut world, Duration::from_secs(1)) == 0 {}
    assert!(world.left.contains(&orphan), "seen once");
    world.run(LOOK_AT_ORPHANS);
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

#[test]
fn pods_that_were_young_when_all_was_hurt_are_put_back_as_soon_as_they_are_old_enough() {
    let mut world = settled();
    world.add("b");
    world.run(Duration::from_millis(1_200));
    world.add("c");
    world.run(Duration::from_millis(300));
    // `ip rule flush`: everything is hurt, 1.5 s after the one and 0.3 s after the other.
    world.hurt(1, some_rule());
    let pods = |world: &World| world.last_repair.as_ref().map_or(0, |plan| plan.pods.len());
    assert_eq!((looks_in(&mut world, Duration::from_millis(300)), pods(&world)), (1, 1));
    // One that comes later was not there to be hurt.
    world.add("d");
    assert_eq!((looks_in(&mut world, Duration::from_millis(300)), pods(&world)), (1, 2), "b is 2 s old");
    assert_eq!(looks_in(&mut world, Duration::from_millis(1_000)), 0);
    assert_eq!((looks_in(&mut world, Duration::from_millis(200)), pods(&world)), (1, 3), "c is 2 s old");
    assert_eq!(looks_in(&mut world, Duration::from_secs(5)), 0, "d was not hurt");
}

#[test]
fn an_old_pod_does_not_wait_for_a_young_one_that_was_hurt_with_it() {
    let mut world = settled();
    world.add("b");
    world.run(Duration::from_millis(100));
    let addresses = ["a", "b"].map(|pod| address(&world, pod)).into();
    world.hurt(2, KernelChange { addresses, ..KernelChange::default() });
    assert_eq!(looks_in(&mut world, Duration::from_secs(1)), 1);
    assert_eq!(looks_in(&mut world, Duration::from_secs(1)), 1, "b is 2 s old");
    assert_eq!(looks_in(&mut world, Duration::from_secs(5)), 0);
}

/// A node with a secondary ENI in service, whose id is given.
fn with_two_enis() -> (World, RepairPart) {
    let mut world = World::new("m5.large", warm_addresses(12, 0));
    world.run_seconds(90);
    let enis = world.last_repair.as_ref().expect("a look").enis.clone();
    let secondary = enis.iter().find(|eni| eni.device_index.0 == 1).expect("a secondary ENI");
    (world, RepairPart::Eni(secondary.eni_id.clone()))
}

#[test]
fn an_eni_that_cannot_be_put_right_waits_alone_and_is_tried_when_its_link_is_back() {
    let (mut world, eni) = with_two_enis();
    world.broken.insert(eni.clone());
    world.hurt(1, some_rule());
    world.run_seconds(300);
    assert!(told(&world, ReasonCode::HostRepaired).len() == 1);
    let is_in = |world: &World| world.last_repair.as_ref().is_some_and(|plan| plan.enis.len() == 2);
    for _ in 0..5 {
        world.hurt(1, some_rule());
        let looks = looks_in(&mut world, Duration::from_secs(1));
        assert!((1..=2).contains(&looks) && world.damage.is_empty(), "{looks} looks");
        world.run_seconds(11);
    }
    // Tried every half minute at last, whatever else is looked at.
    let tries = world.notices.iter().filter(|notice| notice.text.contains("injected")).count();
    // 1, 2, 4, … 30 s and a jitter of half of it.
    assert!((12..=26).contains(&tries), "{tries} tries in 360 s");
    world.run_seconds(1);
    world.broken.clear();
    let RepairPart::Eni(eni_id) = eni else { unreachable!("an ENI") };
    let mac = world.core.enis[&eni_id].mac;
    world.feed(Event::LinkAppeared { mac });
    assert!(looks_in(&mut world, Duration::from_secs(1)) >= 1 && is_in(&world));
    let after = world.notices.len();
    world.run_seconds(120);
    assert!(!world.notices[after..].iter().any(|notice| notice.text.contains("injected")));
}

#[test]
fn the_node_s_own_set_up_that_cannot_be_put_right_does_not_delay_pods() {
    let mut world = settled();
    world.broken.insert(RepairPart::Host);
    world.hurt(1, some_rule());
    world.run_seconds(200);
    world.hurt(1, of(address(&world, "a")));
    assert!(looks_in(&mut world, Duration::from_secs(1)) >= 1 && world.damage.is_empty());
    // Pods are looked at even while one of them fails.
    world.broken = BTreeSet::from([RepairPart::Pods]);
    world.run_seconds(200);
    world.hurt(1, of(address(&world, "a")));
    assert!(looks_in(&mut world, Duration::from_secs(1)) >= 1 && world.damage.is_empty());
    assert_eq!(world.last_repair.as_ref().map(|plan| plan.pods.len()), Some(1));
}

#[test]
fn only_programs_behind_changes_that_a_repair_answers_are_named() {
    let mut world = settled();
    let by = |program: &str| BTreeSet::from([program.to_owned()]);
    // Somebody changed something, and nothing of ours was hurt; somebody else, a DEL.
    world.feed(Event::KernelChanged(KernelChange { programs: by("innocent"), ..some_rule() }));
    world.run_seconds(1);
    let nobody_s = of(IpAddr::from([10, 0, 99, 99]));
    world.feed(Event::KernelChanged(KernelChange { programs: by("bystander"), ..nobody_s }));
    world.run_seconds(1);
    world.hurt(1, KernelChange { programs: by("culprit"), ..some_rule() });
    world.run_seconds(1);
    assert_eq!(
        told(&world, ReasonCode::HostRepaired),
        ["put back what was changed (perhaps by culprit): 1 rule missing (ip rule add …)"]
    );
    // A look that could not read the kernel has answered nothing.
    world.fault("repair", Fault::Before(FailureClass::Kernel));
    world.hurt(1, KernelChange { programs: by("again"), ..some_rule() });
    world.run_seconds(10);
    assert!(told(&world, ReasonCode::HostRepaired)[1].contains("(perhaps by again)"));
    // What nobody was heard doing is nobody's.
    world.damage = rule_missing(1);
    world.run(LOOK_EVERY);
    assert!(!told(&world, ReasonCode::HostRepaired)[2].contains("perhaps"));
}
