// SPDX-License-Identifier: Apache-2.0
//! The world with our daemon in it, by example.

use std::rc::Rc;

use ipamd_core::Config;
use ipamd_core::config::WarmTargets;

use super::*;
use crate::layout::Layout;
use crate::ours::Ours;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

fn world(seed: u64) -> World<Ours> {
    let vpc = Layout::one("m5.large", 22).build(seed).unwrap();
    let instance = vpc.instance_named("n0").unwrap().id.clone();
    let config = Config { warm: WarmTargets::Addresses { warm: 3, minimum: 0 }, ..Config::default() };
    let mut world = World::new(vpc, Pace::default(), seed);
    world.add_node(Rc::new(Ours::new("ours", config)), &instance, BootTime::default());
    world
}

fn pods(world: &mut World<Ours>, count: u64, ends: Option<u64>) {
    for number in 0..count {
        world.plan_pod(PodPlan {
            node: NodeId(0),
            name: format!("pod-{number}"),
            starts: at(30 + number),
            ends: ends.map(|ends| at(ends + number)),
        });
    }
}

fn assert_sound(world: &World<Ours>) {
    let lines: Vec<String> = world.trace().lines().iter().map(ToString::to_string).collect();
    let last = &lines[lines.len().saturating_sub(60)..];
    assert!(world.checker().violation().is_none(), "{}\n{}", world.checker().violation().unwrap(), last.join("\n"));
}

#[test]
fn pods_of_a_node_get_addresses_and_give_them_back() {
    let mut world = world(1);
    world.keep_trace();
    pods(&mut world, 20, Some(300));
    world.run_until(at(250));
    assert_sound(&world);
    let stats = world.nodes()[0].stats();
    assert_eq!((stats.pods.last(), stats.waits.count(), stats.held.last()), (20, 20, 23));
    world.run_until(at(1_500));
    assert_sound(&world);
    let stats = world.nodes()[0].stats();
    assert_eq!((stats.pods.last(), stats.held.last()), (0, 3));
    assert!(stats.waits.percentile(100) < Duration::from_secs(15), "{:?}", stats.waits.percentile(100));
}

#[test]
fn pods_keep_their_addresses_while_the_daemon_is_killed_again_and_again() {
    let mut world = world(2);
    world.keep_trace();
    pods(&mut world, 20, None);
    for second in 0..40 {
        world.order(at(30 + 3 * second), Blow::Kill { node: NodeId(0), after: u32::try_from(second % 7).unwrap() });
    }
    world.run_until(at(600));
    assert_sound(&world);
    let stats = world.nodes()[0].stats();
    assert_eq!(stats.pods.last(), 20);
    assert!(stats.restarts >= 10, "{}", stats.restarts);
    assert_eq!(world.checker().owners(NodeId(0)).count(), 20);
}

#[test]
fn the_same_seed_gives_the_same_run_line_by_line() {
    let lines = |seed| {
        let mut world = world(seed);
        world.keep_trace();
        pods(&mut world, 12, Some(100));
        world.order(at(35), Blow::Kill { node: NodeId(0), after: 5 });
        world.run_until(at(400));
        world.trace().lines().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(lines(5), lines(5));
    assert_ne!(lines(5), lines(6));
}
