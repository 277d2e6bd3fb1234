// SPDX-License-Identifier: Apache-2.0
//! What waits for company, and what does not: refills, surplus, spare ENIs, reads.

use std::time::Duration;

use super::world::{World, warm_addresses};
use crate::config::Config;

fn pods(world: &mut World, names: std::ops::Range<u32>, apart: Duration) {
    for pod in names {
        let request = world.add(&format!("pod-{pod}"));
        world.run(apart);
        world.assert_served(&[request]);
    }
}

#[test]
fn a_refill_waits_for_more_to_be_missing_and_no_longer_than_ten_seconds() {
    let mut world = World::new("m4.4xlarge", warm_addresses(6, 0));
    world.run_seconds(30);
    assert_eq!(world.count("assign"), 1);
    pods(&mut world, 0..2, Duration::from_secs(1));
    assert_eq!(world.count("assign"), 1, "four of six are free");
    world.run_seconds(10);
    assert_eq!((world.count("assign"), world.shape()), (2, (1, 8)));
    pods(&mut world, 2..5, Duration::from_millis(200));
    world.run_seconds(1);
    assert_eq!((world.count("assign"), world.shape()), (3, (1, 11)), "half of them are gone: at once");
}

#[test]
fn what_an_add_waits_for_is_asked_for_at_once_and_with_it_the_whole_deficit() {
    let mut world = World::new("m4.4xlarge", warm_addresses(4, 0));
    world.run_seconds(30);
    let requests: Vec<_> = (0..9).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run(Duration::from_millis(600));
    world.assert_served(&requests);
    assert_eq!((world.count("assign"), world.shape()), (2, (1, 13)));
}

#[test]
fn pods_that_go_one_by_one_are_given_back_in_batches_and_at_last_to_the_target() {
    let mut world = World::new("m4.4xlarge", warm_addresses(5, 0));
    world.start_pods(20, 15);
    for pod in 0..18 {
        world.del(&format!("pod-{pod}"));
        world.run_seconds(20);
    }
    world.run_seconds(500);
    assert_eq!(world.shape(), (1, 7), "two pods and five free ones");
    assert!(world.count("unassign") <= 4, "{} calls for 18 addresses in six minutes", world.count("unassign"));
}

#[test]
fn an_address_that_came_free_a_moment_ago_is_not_given_back_though_others_have_been_too_many_for_long() {
    let mut world = World::new("m4.4xlarge", warm_addresses(2, 0));
    world.start_pods(20, 15);
    (0..6).for_each(|pod| world.del(&format!("pod-{pod}")));
    // Each second one pod goes and another comes, which takes what has been free the longest.
    let mut gone = 6;
    while world.count("unassign") == 0 && gone < 600 {
        let names = [format!("pod-{gone}"), format!("pod-{}", gone + 14)];
        world.add(&names[1]);
        world.del(&names[0]);
        gone += 1;
        world.run_seconds(1);
    }
    let young = world.snapshot().addresses.into_iter().filter(|entry| entry.state == "leaving").count();
    assert!(young == 0 || gone >= 30 + 30, "after the cooldown and as long again: {gone} s");
}

#[test]
fn one_read_of_ec2_serves_a_round_of_unassigns_on_several_enis() {
    let mut world = World::new("m5.xlarge", warm_addresses(2, 0));
    world.start_pods(40, 30);
    assert_eq!(world.shape(), (3, 42));
    world.run_seconds(60);
    let before = (world.count("describe"), world.count("unassign"));
    // Some of each ENI's pods go, and none of them comes free as a whole.
    (0..40).filter(|pod| pod % 3 != 0).for_each(|pod| world.del(&format!("pod-{pod}")));
    world.run_seconds(180);
    let after = (world.count("describe"), world.count("unassign"));
    assert_eq!(world.shape(), (3, 14 + 2));
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 3), "a call an ENI, and one read");
}

#[test]
fn without_targets_there_is_room_for_an_eni_s_worth_and_it_costs_one_address() {
    let mut world = World::new("m4.4xlarge", Config::default());
    world.run_seconds(60);
    assert_eq!(world.shape(), (1, 29), "nobody has come yet");
    world.add("pod-0");
    world.run_seconds(80);
    assert_eq!(world.shape(), (2, 30), "a spare ENI with one address");
    world.run_seconds(1_800);
    assert_eq!(world.shape().1, 1 + 16, "ten minutes on, a pod, the floor and the band");
    assert_eq!(world.enis.len(), 2);
    let assigns = world.count("assign");
    pods(&mut world, 1..40, Duration::from_millis(400));
    assert!(world.count("assign") - assigns <= 6, "{} calls for 39 pods", world.count("assign") - assigns);
    assert_eq!(world.count("create"), 2, "the room was there; another ENI keeps it so");
}

#[test]
fn a_spare_eni_goes_when_there_has_been_room_enough_for_half_an_hour() {
    let mut world = World::new("m4.4xlarge", Config::default());
    world.run_seconds(30);
    world.start_pods(80, 100);
    let most = world.enis.len();
    assert!(most >= 4, "80 pods and an ENI's worth of room: {most}");
    (0..80).for_each(|pod| world.del(&format!("pod-{pod}")));
    world.run_seconds(1_700);
    assert_eq!(world.enis.len(), most);
    world.run_seconds(6 * 3_600);
    assert_eq!(world.enis.len(), 1, "without pods the primary one has room enough");
    assert_eq!(world.count("delete"), world.count("create"), "one call an ENI");
}

#[test]
fn a_second_read_follows_a_restart_when_no_lag_can_hide_what_was_written_before() {
    let mut world = World::new("m5.large", warm_addresses(2, 0));
    world.run_seconds(30);
    let before = world.count("describe");
    world.restart(|_| true);
    world.run_seconds(30);
    assert_eq!(world.count("describe") - before, 1);
    world.run_seconds(60);
    assert_eq!(world.count("describe") - before, 2);
    world.run_seconds(2_000);
    assert_eq!(world.count("describe") - before, 2);
}
