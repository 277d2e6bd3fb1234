// SPDX-License-Identifier: Apache-2.0
//! GC by the runtime's list: what is released, and whom it spares.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{World, key, warm_addresses};
use crate::event::{Event, Garbage, HeldAddress};
use crate::ids::{AllocationKey, RequestId};

const SPARE: Duration = Duration::from_secs(60);

/// Three pods, old and seen by the kernel.
fn three() -> World {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(3, 5);
    world.run_seconds(130);
    world
}

fn gc(world: &mut World, keep: &[&str], gone: &[&str]) {
    let keys = |list: &[&str]| list.iter().map(|container| key(container)).collect::<BTreeSet<AllocationKey>>();
    let garbage = Garbage { network: "aws-cni".to_owned(), keep: keys(keep), gone: keys(gone), spare_younger: SPARE };
    world.feed(Event::GcRequested { request: RequestId(u64::MAX), garbage });
}

fn held(world: &World) -> Vec<String> {
    let mut held: Vec<_> =
        world.core.store.allocations().map(|(_, _, allocation)| allocation.key.container_id.clone()).collect();
    held.sort();
    held
}

#[test]
fn what_the_plugin_has_taken_down_is_released_and_rests_like_after_a_del() {
    let mut world = three();
    let address = world.ledger.owner[&key("pod-0")];
    world.pods.remove(&key("pod-0"));
    gc(&mut world, &["pod-1", "pod-2"], &["pod-0"]);
    assert_eq!(held(&world), ["pod-1", "pod-2"]);
    let entry = world.snapshot().addresses.into_iter().find(|entry| entry.address == address).expect("there");
    assert_eq!(entry.state, "cooling");
    assert!(world.noticed("the runtime has no such sandbox"));
    gc(&mut world, &["pod-1", "pod-2"], &["pod-0"]);
    assert_eq!(held(&world), ["pod-1", "pod-2"], "once more");
}

#[test]
fn a_pod_on_no_list_whose_host_veth_lives_is_the_plugin_s_to_take_down() {
    let mut world = three();
    gc(&mut world, &["pod-1"], &[]);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2"]);
}

#[test]
fn one_without_a_host_veth_is_released_once_it_is_old() {
    let mut world = three();
    world.plumbs = false;
    let young = world.add("young");
    world.run_seconds(1);
    world.assert_served(&[young]);
    world.run_seconds(58);
    gc(&mut world, &["pod-0", "pod-1", "pod-2"], &[]);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2", "young"], "59 s");
    world.run_seconds(1);
    gc(&mut world, &["pod-0", "pod-1", "pod-2"], &[]);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2"], "60 s");
}

#[test]
fn a_grant_that_is_newer_than_what_the_plugin_took_down_stays() {
    let mut world = three();
    let again = world.add("pod-0");
    world.run_seconds(1);
    world.assert_served(&[again]);
    gc(&mut world, &["pod-1", "pod-2"], &["pod-0"]);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2"], "granted anew 1 s ago");
    world.run_seconds(59);
    world.pods.remove(&key("pod-0"));
    gc(&mut world, &["pod-1", "pod-2"], &["pod-0"]);
    assert_eq!(held(&world), ["pod-1", "pod-2"], "60 s");
}

#[test]
fn a_pod_of_the_reference_whose_host_veth_has_its_address_stays() {
    let mut world = three();
    let address = world.ledger.owner[&key("pod-0")];
    let list = ["pod-1", "pod-2"];
    let held_by = |world: &mut World, key: Option<AllocationKey>| {
        world.core.kernel.held.insert(address, HeldAddress { address, key, link: "eni0".to_owned() });
    };
    held_by(&mut world, None);
    gc(&mut world, &list, &[]);
    assert_eq!(held(&world), ["pod-0", "pod-1", "pod-2"], "routed to a host veth that names nobody");
    held_by(&mut world, Some(key("another")));
    world.pods.remove(&key("pod-0"));
    gc(&mut world, &list, &[]);
    assert_eq!(held(&world), list, "another sandbox has it");
}

#[test]
fn keys_of_another_network_and_kept_ones_stay_whatever_is_said_to_be_gone() {
    let mut world = three();
    let (network, all) = ("another".to_owned(), ["pod-0", "pod-1", "pod-2"]);
    let gone: BTreeSet<_> = all.iter().map(|container| key(container)).collect();
    let garbage = Garbage { network, gone, ..Garbage::default() };
    world.feed(Event::GcRequested { request: RequestId(u64::MAX), garbage });
    gc(&mut world, &all, &["pod-0"]);
    assert_eq!(held(&world), all);
}

#[test]
fn a_waiting_add_is_in_no_list_yet_and_is_served() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    let waits = world.add("waits");
    gc(&mut world, &[], &[]);
    world.run_seconds(15);
    world.assert_served(&[waits]);
}
