// SPDX-License-Identifier: Apache-2.0
//! Pods that are bound to the node are met before they ask.

use std::collections::BTreeSet;

use super::world::{World, warm_addresses};
use crate::config::Config;
use crate::event::Event;
use crate::ids::PodRef;

fn bound(names: impl IntoIterator<Item = String>) -> Event {
    let pod = |name: String| PodRef { namespace: "default".into(), name };
    Event::PodsBound(names.into_iter().map(pod).collect::<BTreeSet<_>>())
}

fn pods(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|pod| format!("pod-{pod}"))
}

#[test]
fn what_bound_pods_will_ask_for_is_there_when_they_ask() {
    let mut world = World::new("m5.4xlarge", warm_addresses(1, 0));
    world.run_seconds(60);
    world.feed(bound(pods(40)));
    assert_eq!(world.snapshot().pool.announced, 40);
    world.run_seconds(30);
    let pool = world.snapshot().pool;
    assert!(pool.free >= 41, "{} free for 40 pods and the target of one", pool.free);
    let calls = world.count("assign") + world.count("create");
    let asked: Vec<_> = pods(40).map(|pod| world.add(&pod)).collect();
    world.assert_served(&asked);
    assert_eq!(world.count("assign") + world.count("create"), calls, "no call was needed for any of them");
    assert_eq!(world.snapshot().pool.announced, 0, "who has an address is announced no more");
}

#[test]
fn a_bound_pod_that_never_asks_keeps_one_address_and_holds_nothing_else_up() {
    let mut world = World::new("m5.4xlarge", warm_addresses(1, 0));
    world.feed(bound(pods(30)));
    world.run_seconds(60);
    world.feed(bound(pods(1)));
    world.run_seconds(900);
    let pool = world.snapshot().pool;
    assert_eq!((pool.free, pool.announced), (2, 1), "the pool shrank to the target and the one pod");
    world.feed(bound(pods(0)));
    world.run_seconds(900);
    assert_eq!(world.snapshot().pool.free, 1);
}

#[test]
fn beyond_max_pods_only_the_demand_counts() {
    let mut world = World::new("m5.large", Config { max_pods: Some(5), ..warm_addresses(5, 0) });
    world.run_seconds(60);
    world.feed(bound(pods(7)));
    world.run_seconds(60);
    assert_eq!(world.snapshot().pool.total, 7);
}
