// SPDX-License-Identifier: Apache-2.0
//! Orphans where the container runtime may be asked: whom its word saves, whom it ends, and what its silence costs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{Fault, World, key, warm_addresses};
use crate::config::Config;
use crate::event::FailureClass;

/// Three pods, old and seen by the kernel, that the runtime has ready.
fn three() -> World {
    let config = Config { runtime: Some("/run/containerd/containerd.sock".into()), ..warm_addresses(1, 0) };
    let mut world = World::new("m5.large", config);
    world.start_pods(3, 5);
    world.ready = (0..3).map(|pod| format!("pod-{pod}")).collect();
    world.run_seconds(400);
    world
}

fn held(world: &World) -> Vec<String> {
    let held: BTreeSet<_> =
        world.core.store.allocations().map(|(_, _, allocation)| allocation.key.container_id.clone()).collect();
    held.into_iter().collect()
}

fn times(world: &World, text: &str) -> usize {
    world.notices.iter().filter(|notice| notice.text.contains(text)).count()
}

#[test]
fn it_is_not_asked_while_the_kernel_has_every_pod() {
    let mut world = three();
    world.run_seconds(3_600);
    assert_eq!(world.count("sandboxes"), 0);
}

#[test]
fn a_pod_whose_link_somebody_took_keeps_its_address_as_long_as_the_runtime_has_it() {
    let mut world = three();
    world.pods.remove(&key("pod-1"));
    world.run_seconds(1_800);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2"]);
    assert_eq!(times(&world, "something removed the link of a living pod"), 1, "told once");
    let asked = world.count("sandboxes");
    assert!((15..=31).contains(&asked), "about once a minute: {asked}");
    world.ready.remove("pod-1");
    world.vanish("pod-1");
    world.run_seconds(150);
    assert_eq!(held(&world), ["pod-0", "pod-2"]);
    assert!(world.noticed("is released: its host veth has been gone for"));
    assert!(world.noticed("and the runtime has no such sandbox"));
}

#[test]
fn a_link_that_is_back_is_told_of_anew_when_it_goes_again() {
    let mut world = three();
    let (pod, address) = world.pods.remove_entry(&key("pod-1")).expect("there");
    world.run_seconds(150);
    world.pods.insert(pod.clone(), address);
    world.run_seconds(150);
    world.pods.remove(&pod);
    world.run_seconds(150);
    assert_eq!(times(&world, "something removed the link of a living pod"), 2);
    assert_eq!(held(&world).len(), 3);
}

#[test]
fn one_that_the_runtime_does_not_have_is_released_after_a_minute_without_link() {
    let mut world = three();
    world.vanish("pod-1");
    world.ready.remove("pod-1");
    world.run_seconds(55);
    assert_eq!(held(&world).len(), 3, "a link may be away for a moment");
    world.run_seconds(100);
    assert_eq!(held(&world), ["pod-0", "pod-2"]);
}

#[test]
fn a_runtime_that_does_not_answer_holds_an_address_back_for_ten_minutes() {
    let mut world = three();
    (0..1_000).for_each(|_| world.fault("sandboxes", Fault::Before(FailureClass::Transient)));
    world.vanish("pod-1");
    world.run_seconds(590);
    assert_eq!(held(&world).len(), 3);
    let asked = world.count("sandboxes");
    assert!((5..=200).contains(&asked), "with pauses: {asked}");
    world.run_seconds(60);
    assert_eq!(held(&world), ["pod-0", "pod-2"]);
    assert!(world.noticed("the runtime has not answered for ten minutes"));
}

#[test]
fn a_runtime_that_comes_back_in_time_decides() {
    let mut world = three();
    (0..3).for_each(|_| world.fault("sandboxes", Fault::Before(FailureClass::Transient)));
    world.pods.remove(&key("pod-1"));
    world.run_seconds(700);
    assert_eq!(held(&world).len(), 3);
    assert!(world.noticed("something removed the link of a living pod"));
}

/// Makes an allocation one that was taken over without pod name, which the kernel shows nothing of.
fn unwitnessed(world: &mut World, pod: &str) {
    let address = world.pods.remove(&key(pod)).expect("there");
    world.testifies_no_more(address);
}

#[test]
fn what_no_link_can_testify_of_ends_by_the_runtime_s_word_alone() {
    let mut world = three();
    unwitnessed(&mut world, "pod-0");
    unwitnessed(&mut world, "pod-1");
    world.ready.remove("pod-1");
    world.vanish("pod-1");
    world.run_seconds(200);
    assert_eq!(held(&world), ["pod-0", "pod-2"]);
    world.run_seconds(3_600);
    assert_eq!(held(&world), ["pod-0", "pod-2"], "the runtime has pod-0");
    let asked = world.count("sandboxes");
    assert!((4..=8).contains(&asked), "every ten minutes: {asked}");
}

#[test]
fn what_was_granted_a_moment_before_the_list_was_made_may_still_be_in_the_making() {
    let mut world = three();
    world.plumbs = false;
    let late = world.add("late");
    world.run_seconds(1);
    let address = world.answer(late).expect("an answer").expect("an address");
    world.testifies_no_more(address);
    world.run_seconds(280);
    assert!(held(&world).contains(&"late".to_owned()));
    world.vanish("late");
    world.run_seconds(900);
    assert!(!held(&world).contains(&"late".to_owned()));
}

#[test]
fn without_it_what_no_link_can_testify_of_stays() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(3, 5);
    world.run_seconds(400);
    unwitnessed(&mut world, "pod-1");
    world.run(Duration::from_secs(7_200));
    assert_eq!(held(&world).len(), 3);
    assert_eq!(world.count("sandboxes"), 0);
}
