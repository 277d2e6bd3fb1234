// SPDX-License-Identifier: Apache-2.0
//! Settings that change while the daemon runs: the pool goes where the new ones want it, and no pod notices.

use std::time::Duration;

use super::world::{World, warm_addresses, warm_enis};
use crate::config::{AddressMode, Config, SubnetChoice};

fn filled(instance_type: &str, config: Config, pods: usize) -> World {
    let mut world = World::new(instance_type, config);
    world.run_seconds(30);
    for pod in 0..pods {
        world.add(&format!("pod-{pod}"));
        world.run(Duration::from_millis(200));
    }
    world.run_seconds(60);
    assert_eq!(world.snapshot().pool.allocated as usize, pods);
    world
}

#[test]
fn another_warm_target_is_gone_for_at_once_and_back_without_a_restart() {
    let mut world = filled("m5.large", warm_addresses(2, 0), 5);
    assert_eq!(world.snapshot().pool.free, 2);
    world.set_live(warm_addresses(8, 0).live());
    world.run_seconds(5);
    assert_eq!(world.snapshot().pool.free, 8, "grown without waiting for anything");
    world.set_live(warm_addresses(2, 0).live());
    world.run_seconds(600);
    let pool = world.snapshot().pool;
    assert_eq!((pool.allocated, pool.free), (5, 2));
}

#[test]
fn a_lowered_limit_takes_no_eni_and_makes_none() {
    let mut world = filled("m5.large", warm_enis(1), 12);
    assert_eq!(world.snapshot().pool.enis, 3);
    world.set_live(Config { max_enis: Some(1), ..warm_enis(1) }.live());
    world.run_seconds(600);
    let pool = world.snapshot().pool;
    assert_eq!((pool.allocated, pool.max_enis), (12, Some(1)));
    let creates = world.calls.get("create").copied();
    for pod in 12..27 {
        world.add(&format!("pod-{pod}"));
    }
    world.run_seconds(60);
    assert_eq!(world.calls.get("create").copied(), creates, "a new ENI above the limit");
    for pod in 0..27 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(3_600);
    assert_eq!(world.snapshot().pool.enis, 1, "those above the limit went when nobody was on them");
}

#[test]
fn what_cools_keeps_the_time_it_was_given() {
    let mut world = filled("m5.large", Config { cooldown: Duration::from_secs(60), ..warm_addresses(2, 0) }, 3);
    world.del("pod-0");
    world.set_live(Config { cooldown: Duration::ZERO, ..warm_addresses(2, 0) }.live());
    world.run_seconds(50);
    assert_eq!(world.snapshot().pool.cooling, 1);
    world.del("pod-1");
    world.run_seconds(5);
    assert_eq!(world.snapshot().pool.cooling, 1, "released after the change");
    world.run_seconds(10);
    assert_eq!(world.snapshot().pool.cooling, 0);
}

#[test]
fn prefixes_that_are_switched_on_come_beside_the_addresses_of_living_pods() {
    let mut world = filled("m5.large", warm_addresses(2, 0), 5);
    let prefixes = AddressMode::Prefixes { warm_prefixes: None };
    world.set_live(Config { address_mode: prefixes, ..warm_addresses(2, 0) }.live());
    for pod in 5..12 {
        world.add(&format!("pod-{pod}"));
    }
    world.run_seconds(600);
    let snapshot = world.snapshot();
    assert_eq!(snapshot.pool.allocated, 12);
    assert!(snapshot.enis.iter().map(|eni| eni.prefixes).sum::<u32>() >= 1, "{:#?}", snapshot.enis);
}

#[test]
fn tags_that_are_added_reach_the_enis_that_serve() {
    let mut world = filled("m5.large", warm_addresses(2, 0), 5);
    let tags = [("team".to_owned(), "a".to_owned())].into_iter().collect();
    world.set_live(Config { additional_eni_tags: tags, ..warm_addresses(2, 0) }.live());
    world.run_seconds(1_200);
    let has_tag = |tags: &[(String, String)]| tags.contains(&("team".to_owned(), "a".to_owned()));
    assert!(world.enis.values().all(|eni| has_tag(&eni.view.tags)));
}

#[test]
fn a_sweep_that_is_switched_off_deletes_nothing_that_it_had_marked() {
    let swept = |age: Option<u64>| Config { leaked_eni_age: age.map(Duration::from_secs), ..warm_enis(0) };
    let mut world = filled("m5.large", swept(Some(300)), 1);
    world.set_live(swept(None).live());
    let looks = world.calls.get("leaked").copied();
    world.run_seconds(24 * 3_600);
    assert_eq!(world.calls.get("leaked").copied(), looks);
    world.set_live(swept(Some(300)).live());
    world.run_seconds(3_600);
    assert!(world.calls.get("leaked").copied() > looks, "on again");
}

#[test]
fn pods_are_served_while_discovery_that_was_switched_on_reads_the_zone() {
    let primary = Config { subnets: SubnetChoice::Primary, ..warm_addresses(3, 0) };
    let mut world = filled("m5.large", primary.clone(), 2);
    world.latency = Duration::from_secs(20);
    world.set_live(Config { subnets: SubnetChoice::Tagged, ..primary }.live());
    let pod = world.add("during");
    assert!(matches!(world.answer(pod), Some(Ok(_))), "at once: {:?}", world.answer(pod));
}
