// SPDX-License-Identifier: Apache-2.0
//! Nothing is given back on the word of one witness, nor on an old word.

use std::time::Duration;

use super::world::{Fault, World, key, warm_addresses};
use crate::action::ActionKind;
use crate::event::{Event, FailureClass, Outcome};
use crate::ids::{BootTime, EniId};

/// Ten pods on two ENIs of an m5.large, of which nine vanish by DEL; runs until something is picked to go.
fn about_to_shrink(last_pod_left: u32) -> World {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(10, 15);
    for pod in (0..10).filter(|pod| *pod != last_pod_left) {
        world.del(&format!("pod-{pod}"));
    }
    world.run_until(|world| {
        let snapshot = world.snapshot();
        snapshot.pool.leaving > 0 || snapshot.enis.iter().any(|eni| eni.state == "Draining")
    });
    world
}

fn secondary(world: &World) -> EniId {
    world.enis.keys().find(|id| **id != world.facts.primary_eni_id).cloned().expect("a second ENI")
}

#[test]
fn an_eni_is_not_detached_when_the_kernel_has_an_address_that_the_journal_does_not_know() {
    let mut world = about_to_shrink(0);
    let id = secondary(&world);
    let address = world.subnet_free.pop_first().expect("one");
    world.enis.get_mut(&id).expect("there").view.secondary_addresses.push(address);
    world.pods.insert(key("someone"), address);
    world.run_seconds(3_600);
    assert_eq!(world.count("detach"), 0);
    assert!(world.enis.contains_key(&id));
}

#[test]
fn an_eni_is_not_detached_when_the_kernel_has_an_address_that_is_free_by_the_journal() {
    let mut world = about_to_shrink(0);
    let id = secondary(&world);
    let address = world.enis[&id].view.secondary_addresses[0];
    world.pods.insert(key("someone"), address);
    world.run_seconds(600);
    assert_eq!(world.count("detach"), 0);
    assert!(world.noticed("is not given back"));
    world.pods.remove(&key("someone"));
    world.run_seconds(360);
    assert_eq!(world.count("detach"), 1, "once the kernel let go and it rested");
}

#[test]
fn an_eni_is_not_detached_before_the_kernel_was_read_anew() {
    let mut world = about_to_shrink(0);
    let id = secondary(&world);
    // The read under way is slow; what it will show is there already.
    for (at, action) in &mut world.pending {
        if action.kind == ActionKind::ObserveKernel {
            *at = *at + Duration::from_secs(20);
        }
    }
    let address = world.enis[&id].view.secondary_addresses[0];
    world.pods.insert(key("someone"), address);
    world.run_seconds(600);
    assert_eq!(world.count("detach") + world.count("deconfigure"), 0);
}

#[test]
fn addresses_are_not_unassigned_on_an_ec2_read_that_began_before_they_were_picked() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(5, 5);
    for pod in 1..5 {
        world.del(&format!("pod-{pod}"));
    }
    let last_read = world.now.boot;
    world.run_until(|world| world.snapshot().pool.leaving > 0);
    world.run(Duration::from_millis(100));
    let index = world.pending.iter().position(|(_, action)| matches!(action.kind, ActionKind::DescribeEnis { .. }));
    let (_, action) = world.pending.remove(index.expect("a read is under way"));
    let enis = world.enis.values().map(|eni| eni.view.clone()).collect();
    world.feed(Event::ActionEnded { id: action.id, outcome: Outcome::EnisDescribed { enis, read_at: last_read } });
    assert_eq!(world.count("unassign"), 0);
    world.run_seconds(5);
    assert_eq!(world.count("unassign"), 1, "a fresh read does");
}

#[test]
fn an_eni_is_not_detached_when_its_tags_say_so_meanwhile() {
    let mut world = about_to_shrink(0);
    let id = secondary(&world);
    let tags = &mut world.enis.get_mut(&id).expect("there").view.tags;
    tags.push(("node.k8s.amazonaws.com/no_manage".into(), "true".into()));
    world.run_seconds(600);
    assert_eq!(world.count("detach") + world.count("delete"), 0);
}

#[test]
fn a_picked_address_that_the_kernel_has_is_not_unassigned() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(5, 5);
    for pod in 1..5 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_until(|world| world.snapshot().pool.leaving > 0);
    let picked = world.snapshot().addresses.into_iter().find(|entry| entry.state == "leaving").expect("one").address;
    world.pods.insert(key("someone"), picked);
    world.run_seconds(300);
    let eni = &world.enis[&world.facts.primary_eni_id];
    assert!(eni.view.secondary_addresses.contains(&picked));
    assert!(world.noticed("are kept"));
}

#[test]
fn an_ec2_read_that_began_before_the_pick_proves_nothing() {
    let mut world = about_to_shrink(0);
    let picked_at = world.now.boot;
    let before = BootTime(picked_at.0 - Duration::from_secs(1));
    for _ in 0..5 {
        let index = world.pending.iter().position(|(_, action)| matches!(action.kind, ActionKind::DescribeEnis { .. }));
        let Some(index) = index else {
            world.run(Duration::from_millis(500));
            continue;
        };
        let (_, action) = world.pending.remove(index);
        let enis = world.enis.values().map(|eni| eni.view.clone()).collect();
        world.feed(Event::ActionEnded { id: action.id, outcome: Outcome::EnisDescribed { enis, read_at: before } });
        assert_eq!(world.count("deconfigure") + world.count("detach"), 0);
    }
    world.run_seconds(20);
    assert_eq!(world.count("detach"), 1, "a fresh read does");
}

#[test]
fn an_address_given_back_is_not_taken_in_again_from_a_lagging_read() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(6, 5);
    for pod in 1..6 {
        world.del(&format!("pod-{pod}"));
    }
    while world.count("unassign") == 0 {
        world.run(Duration::from_millis(20));
    }
    world.lag();
    // The next growth's answer is lost, so EC2 is read, and the read lags.
    world.fault("assign", Fault::Before(FailureClass::Unknown));
    let more: Vec<_> = (10..12).map(|pod| world.add_with(&format!("pod-{pod}"), Duration::from_secs(30))).collect();
    world.run_seconds(30);
    world.assert_served(&more);
}

#[test]
fn an_address_whose_unassign_was_cut_off_by_a_crash_is_not_given_out_before_ec2_is_read() {
    for happened in [true, false] {
        let mut world = World::new("m5.large", warm_addresses(1, 0));
        let requests: Vec<_> = (0..6).map(|pod| world.add(&format!("pod-{pod}"))).collect();
        world.run_seconds(5);
        world.assert_served(&requests);
        for pod in 1..6 {
            world.del(&format!("pod-{pod}"));
        }
        while world.count("unassign") == 0 {
            world.run(Duration::from_millis(20));
        }
        world.restart(|_| happened);
        let more: Vec<_> = (10..16).map(|pod| world.add(&format!("pod-{pod}"))).collect();
        world.run_seconds(15);
        world.assert_served(&more);
    }
}

#[test]
fn a_read_that_overtakes_the_answer_to_an_assign_call_does_not_make_it_look_empty() {
    let mut world = World::new("m5.large", warm_addresses(3, 0));
    world.run_seconds(10);
    // Someone else's read: asked for while the journal is quiet, answered while an assign call is under way.
    world.run_seconds(4_600);
    world.add("a");
    world.add("b");
    world.run(Duration::from_millis(15));
    assert_eq!(world.snapshot().enis[0].assigning, 2);
    let id = world.facts.primary_eni_id.clone();
    let address = world.subnet_free.pop_first().expect("one");
    world.enis.get_mut(&id).expect("there").view.secondary_addresses.push(address);
    let read = world.start_read();
    let enis = world.enis.values().map(|eni| eni.view.clone()).collect();
    let outcome = Outcome::EnisDescribed { enis, read_at: world.now.boot };
    world.feed(Event::ActionEnded { id: read, outcome });
    assert_eq!(world.snapshot().pool.total, 3, "the call under way may or may not be in it");
}
