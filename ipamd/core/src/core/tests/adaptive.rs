// SPDX-License-Identifier: Apache-2.0
//! A node without warm targets: its first burst, its quiet hours, its bursts.

use std::time::Duration;

use super::world::{World, warm_enis};
use crate::config::Config;
use crate::ids::RequestId;

fn add_all(world: &mut World, pods: std::ops::Range<u32>) -> Vec<RequestId> {
    pods.map(|pod| world.add(&format!("pod-{pod}"))).collect()
}

fn del_all(world: &mut World, pods: std::ops::Range<u32>) {
    pods.for_each(|pod| world.del(&format!("pod-{pod}")));
}

#[test]
fn a_fresh_node_has_an_eni_s_worth_for_its_first_burst_as_with_warm_eni_target_1() {
    for (instance_type, worth) in [("t3.small", 3), ("m5.large", 9), ("m4.4xlarge", 29)] {
        let mut world = World::new(instance_type, Config::default());
        world.run_seconds(3_600);
        assert_eq!(world.shape(), (1, worth as usize), "{instance_type}");
        let requests = add_all(&mut world, 0..worth);
        assert!(requests.iter().all(|request| world.answer(*request).is_some()), "at once, without EC2");
        world.assert_served(&requests);
    }
}

#[test]
fn a_quiet_node_with_few_pods_holds_a_third_of_what_an_eni_target_holds() {
    let held = |config: Config| {
        let mut world = World::new("m4.4xlarge", config);
        world.run_seconds(60);
        for pod in 0..10 {
            world.add(&format!("pod-{pod}"));
            world.run_seconds(30);
        }
        world.run_seconds(2 * 3_600);
        world.shape().1
    };
    let (ours, eni_target) = (held(Config::default()), held(warm_enis(1)));
    assert!((10 + 8..=10 + 16).contains(&ours), "{ours} for 10 pods");
    assert_eq!(eni_target, 58);
}

#[test]
fn pods_that_are_replaced_one_by_one_cost_next_to_no_calls() {
    let mut world = World::new("m5.xlarge", Config::default());
    let requests = add_all(&mut world, 0..20);
    world.run_seconds(1_800);
    world.assert_served(&requests);
    let before = world.count("assign") + world.count("unassign") + world.count("create");
    for pod in 0..60 {
        world.del(&format!("pod-{pod}"));
        let request = world.add(&format!("pod-{}", pod + 20));
        world.run_seconds(60);
        world.assert_served(&[request]);
    }
    let calls = world.count("assign") + world.count("unassign") + world.count("create") - before;
    assert!(calls <= 6, "{calls} calls for 60 replaced pods");
}

#[test]
fn a_burst_that_was_seen_is_met_at_once_when_it_comes_again_even_after_a_restart() {
    let mut world = World::new("m4.4xlarge", Config::default());
    let pods = add_all(&mut world, 0..40);
    world.run_seconds(60);
    world.assert_served(&pods);
    let first = add_all(&mut world, 100..125);
    world.run_seconds(60);
    world.assert_served(&first);
    del_all(&mut world, 100..125);
    world.run_seconds(300);
    world.restart(|_| false);
    world.run_seconds(300);
    let held = world.shape().1;
    assert!((40 + 25..=40 + 28 + 8).contains(&held), "{held} for 40 pods");
    let again = add_all(&mut world, 200..225);
    assert!(again.iter().all(|request| matches!(world.answer(*request), Some(Ok(_)))), "without EC2");
}

#[test]
fn in_prefix_mode_a_node_without_targets_holds_a_prefix() {
    let config =
        Config { address_mode: crate::config::AddressMode::Prefixes { warm_prefixes: None }, ..Config::default() };
    let mut world = World::new("m5.large", config);
    world.run_seconds(600);
    assert_eq!(world.slots(), (1, 0));
    let requests = add_all(&mut world, 0..12);
    world.run(Duration::from_secs(5));
    world.assert_served(&requests);
    assert_eq!(world.slots(), (2, 0), "fewer than 8 were free");
}
