// SPDX-License-Identifier: Apache-2.0
//! What is said of the next ADD is what becomes of it.

use super::world::{World, warm_addresses};
use crate::config::Config;
use crate::event::Event;
use crate::reason::ReasonCode;

#[test]
fn a_full_node_says_so_and_one_that_can_grow_does_not() {
    // One ENI of an m5.large: nine addresses.
    let mut world = World::new("m5.large", Config { max_enis: Some(1), ..warm_addresses(1, 0) });
    world.run_seconds(20);
    let pods: Vec<_> = (0..8).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(20);
    world.assert_served(&pods);
    assert_eq!(world.snapshot().supply.code, None, "one more is free or can come");
    let ninth = world.add("pod-8");
    world.run_seconds(20);
    world.assert_served(&[ninth]);
    let supply = world.snapshot().supply;
    assert_eq!(supply.code, Some(ReasonCode::NodeFull));
    assert!(supply.text.contains("9 of 9 addresses in use"), "{}", supply.text);
    let tenth = world.add("pod-9");
    world.run_seconds(20);
    assert_eq!(world.answer(tenth), Some(Err(ReasonCode::NodeFull)), "as it was said");
}

#[test]
fn a_cordoned_node_without_a_free_address_says_that_it_is_cordoned() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.run_seconds(20);
    world.feed(Event::NodeSchedulable(false));
    let first = world.add("first");
    world.run_seconds(5);
    world.assert_served(&[first]);
    assert_eq!(world.snapshot().supply.code, Some(ReasonCode::NodeCordoned));
    world.feed(Event::NodeSchedulable(true));
    assert_eq!(world.snapshot().supply.code, None);
}

#[test]
fn an_exhausted_subnet_is_a_shortage_for_all_of_its_rest_and_none_when_it_gives_again() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.run_seconds(20);
    world.squeeze_subnet(0);
    let last = world.add("last");
    world.run_seconds(5);
    world.assert_served(&[last]);
    for second in 0..20 {
        assert_eq!(world.snapshot().supply.code, Some(ReasonCode::SubnetExhausted), "{second} s");
        world.run_seconds(1);
    }
    world.squeeze_subnet(usize::MAX);
    world.run_seconds(60);
    assert_eq!(world.snapshot().supply.code, None);
}
