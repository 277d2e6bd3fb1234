// SPDX-License-Identifier: Apache-2.0
//! Where ENIs are made, and what happens where none should be.

use std::time::Duration;

use super::world::{Fault, World, tags, warm_addresses, warm_enis};
use crate::config::{Config, Provisioning, SubnetChoice};
use crate::event::{Event, FailureClass};
use crate::reason::ReasonCode;

const OFFERED: &[(&str, &str)] = &[("kubernetes.io/role/cni", "1")];
const EXCLUDED: &[(&str, &str)] = &[("kubernetes.io/role/cni", "0")];

/// A node in a zone with two more subnets that are offered to pods.
fn zone(config: Config) -> World {
    let mut world = World::unborn("m5.large", config);
    world.add_subnet("subnet-2", 200, 60, OFFERED);
    world.add_subnet("subnet-3", 201, 30, OFFERED);
    world.add_subnet("subnet-hidden", 202, 200, &[]);
    world
}

fn born(mut world: World) -> World {
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world
}

#[test]
fn new_enis_go_where_most_addresses_are_free_and_never_where_pods_are_not_offered() {
    let mut world = zone(warm_addresses(14, 0));
    world.squeeze_subnet(20);
    let mut world = born(world);
    world.run_seconds(20);
    assert_eq!(world.subnets_in_use(), ["subnet-2"]);
    world.start_pods(12, 20);
    assert_eq!(world.subnets_in_use(), ["subnet-2", "subnet-2"]);
    assert_eq!(world.count("subnet"), 1, "the zone is described once, not at each create");
}

#[test]
fn an_add_that_meets_an_exhausted_subnet_is_served_from_its_sibling_in_the_same_step() {
    let mut world = born(zone(warm_addresses(0, 0)));
    world.run_seconds(5);
    // Both that EC2 called roomy fill up behind our back: the primary ENI's and the first choice of new ENIs.
    world.squeeze_subnet(0);
    world.siblings.get_mut(&"subnet-2".into()).expect("there").free.clear();
    let began = world.now.boot;
    let pod = world.add("pod");
    world.run_seconds(6);
    world.assert_served(&[pod]);
    assert_eq!(world.subnets_in_use(), ["subnet-3"]);
    let took = world.answered_at[&pod].since(began);
    assert!(took < Duration::from_secs(3), "assign, two creates, attach, link: {took:?}");
    assert_eq!((world.count("assign"), world.count("create")), (1, 2));
}

#[test]
fn a_subnet_that_refused_is_asked_by_one_call_at_a_time_once_it_has_rested() {
    let config = Config { subnets: SubnetChoice::Primary, ..warm_enis(2) };
    let mut world = World::new("m5.xlarge", config);
    world.run(Duration::from_millis(400));
    world.squeeze_subnet(0);
    world.run_seconds(29);
    let before = world.count("create");
    world.run_seconds(8);
    assert_eq!(world.count("create") - before, 1, "one probe, though more than one ENI is wanted");
    world.squeeze_subnet(usize::MAX);
    world.run_seconds(300);
    assert_eq!(world.snapshot().pool.shortfall, 0);
}

/// The warm pool is short of one address for hours, and nobody waits.
#[test]
fn a_subnet_that_stays_exhausted_is_asked_seldom_and_at_once_when_a_pod_waits_for_it() {
    let config = Config { subnets: SubnetChoice::Primary, ..warm_addresses(6, 0) };
    let mut world = World::new("m5.large", config);
    world.squeeze_subnet(5);
    world.run_seconds(3_600);
    let asked = |world: &World| world.count("assign") + world.count("create") + world.count("subnet");
    let first = asked(&world);
    assert!(first <= 18, "{first} calls in the first hour");
    world.run_seconds(3_600);
    assert!(asked(&world) - first <= 5, "{} calls in the second hour", asked(&world) - first);
    // Someone leaves; nothing tells the node so, but the next pods that find no address do.
    for pod in 0..5 {
        let pod = world.add(&format!("pod-{pod}"));
        world.run_seconds(1);
        world.assert_served(&[pod]);
    }
    world.squeeze_subnet(usize::MAX);
    let waits = world.add("waits");
    world.run_seconds(3);
    world.assert_served(&[waits]);
}

#[test]
fn without_discovery_only_the_primary_subnet_is_used_and_no_tags_are_read() {
    let config = Config { subnets: SubnetChoice::Primary, ..warm_enis(1) };
    let mut world = born(zone(config));
    let pod = world.add("pod");
    world.run_seconds(30);
    world.assert_served(&[pod]);
    assert_eq!(world.subnets_in_use(), ["subnet-1"]);
    assert_eq!(world.count("subnet"), 0);
}

#[test]
fn when_the_zone_cannot_be_described_the_primary_subnet_serves_and_no_other() {
    let mut world = zone(warm_addresses(14, 0));
    for _ in 0..50 {
        world.fault("subnet", Fault::Before(FailureClass::Denied));
    }
    let mut world = born(world);
    let pod = world.add("pod");
    world.run_seconds(1_000);
    world.assert_served(&[pod]);
    assert_eq!(world.subnets_in_use(), ["subnet-1"]);
    assert!(world.count("subnet") <= 3, "{} tries", world.count("subnet"));
}

#[test]
fn the_last_good_answer_stands_when_later_ones_fail_even_after_a_restart() {
    let mut world = zone(warm_addresses(2, 0));
    world.subnet_tags = tags(EXCLUDED);
    let mut world = born(world);
    world.run_seconds(20);
    assert_eq!(world.subnets_in_use(), ["subnet-2"]);
    for _ in 0..50 {
        world.fault("subnet", Fault::Before(FailureClass::Transient));
    }
    world.restart(|_| true);
    world.start_pods(11, 60);
    assert_eq!(world.subnets_in_use(), ["subnet-2", "subnet-2"], "the excluded primary subnet is not fallen back to");
}

#[test]
fn an_empty_answer_is_none_and_the_last_good_one_stands() {
    let mut world = zone(warm_addresses(2, 0));
    world.subnet_tags = tags(EXCLUDED);
    let mut world = born(world);
    world.run_seconds(20);
    assert_eq!(world.subnets_in_use(), ["subnet-2"]);
    world.zone_hidden = true;
    world.run_seconds(8 * 3_600);
    for restart in [false, true] {
        if restart {
            world.restart(|_| true);
        }
        let pods: Vec<_> = (0..8).map(|pod| world.add(&format!("pod-{restart}-{pod}"))).collect();
        world.run_seconds(19);
        world.assert_served(&pods);
        assert!(!world.subnets_in_use().contains(&"subnet-1".to_owned()), "{:?}", world.subnets_in_use());
    }
    assert!(world.noticed("without the primary ENI's"));
}

#[test]
fn an_excluded_subnet_serves_no_new_pod_keeps_its_running_ones_and_gives_back_what_is_free() {
    let mut world = born(zone(warm_addresses(3, 0)));
    let before = world.add("before");
    world.run_seconds(90);
    let old = world.answer(before).expect("answered").expect("served");
    world.subnet_tags = tags(EXCLUDED);
    // The change is seen when EC2 is read the next time; a restart does so at once.
    world.restart(|_| true);
    world.run_seconds(2);
    let after = world.add("after");
    world.run_seconds(300);
    let new = world.answer(after).expect("answered").expect("served");
    assert_eq!(old.octets()[2], 0);
    assert_eq!(new.octets()[2], 200, "{new} is of the excluded subnet");
    let primary = &world.enis[&world.facts.primary_eni_id].view;
    assert_eq!(primary.secondary_addresses, [old], "only what is in use stays");
    world.del("before");
    world.run_seconds(300);
    assert!(world.enis[&world.facts.primary_eni_id].view.secondary_addresses.is_empty());
}

#[test]
fn an_eni_made_in_a_subnet_that_was_excluded_later_goes_once_its_pods_are_gone() {
    let mut world = born(zone(warm_addresses(0, 0)));
    world.squeeze_subnet(0);
    let pod = world.add("pod");
    world.run_seconds(20);
    world.assert_served(&[pod]);
    world.siblings.get_mut(&"subnet-2".into()).expect("there").tags = tags(EXCLUDED);
    world.restart(|_| true);
    world.run_seconds(200);
    assert_eq!(world.subnets_in_use(), ["subnet-2"], "its pod runs");
    world.del("pod");
    world.run_seconds(300);
    assert!(world.subnets_in_use().is_empty());
}

#[test]
fn a_zone_without_a_usable_subnet_refuses_with_its_own_code() {
    let mut world = World::unborn("m5.large", warm_addresses(0, 0));
    world.subnet_tags = tags(EXCLUDED);
    let mut world = born(world);
    let pod = world.add("pod");
    world.run_seconds(20);
    assert_eq!(world.answer(pod), Some(Err(ReasonCode::NoUsableSubnet)));
    assert_eq!(world.count("create") + world.count("assign"), 0);
}

#[test]
fn a_cordoned_node_keeps_its_pool_as_it_is_and_says_so() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.run_seconds(20);
    world.feed(Event::NodeSchedulable(false));
    let (first, second) = (world.add("first"), world.add("second"));
    world.run_seconds(25);
    world.assert_served(&[first]);
    assert_eq!(world.answer(second), Some(Err(ReasonCode::NodeCordoned)));
    world.feed(Event::NodeSchedulable(true));
    let third = world.add("third");
    world.run_seconds(5);
    world.assert_served(&[third]);
}

#[test]
fn with_provisioning_disabled_what_is_there_serves_and_ec2_is_changed_by_nobody() {
    let config = Config { provisioning: Provisioning::Disabled, ..warm_enis(1) };
    let mut world = World::unborn("m5.large", config);
    let given: Vec<_> = (0..2).filter_map(|_| world.subnet_free.pop_first()).collect();
    let primary = world.facts.primary_eni_id.clone();
    world.enis.get_mut(&primary).expect("there").view.secondary_addresses = given;
    let mut world = born(world);
    let pods: Vec<_> = (0..3).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(120);
    world.assert_served(&pods[..2]);
    assert_eq!(world.answer(pods[2]), Some(Err(ReasonCode::ProvisioningDisabled)));
    for kind in ["create", "attach", "assign", "unassign", "detach", "delete", "termination", "tag", "groups", "leaked"]
    {
        assert_eq!(world.count(kind), 0, "{kind}");
    }
}
