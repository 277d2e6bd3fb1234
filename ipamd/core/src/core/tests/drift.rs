// SPDX-License-Identifier: Apache-2.0
//! Whatever EC2 does not show: what pods have is kept, over reads and restarts, and the difference is told.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::world::{Hidden, World, warm_addresses, warm_prefixes};
use crate::config::Config;
use crate::event::EniView;
use crate::ids::EniId;

const HOUR: u64 = 3_600;
const TAKING: [&str; 4] = ["unassign", "detach", "delete", "deconfigure"];

/// What can be missing from a read: a whole ENI, or everything that pods have on one.
#[derive(Clone, Debug)]
enum Part {
    Eni(EniId),
    Blocks(Vec<Ipv4Net>),
}

/// A t3.small (3 ENIs of 3 slots for pods) with pods on all of its ENIs.
fn full(config: Config, pods: u32) -> World {
    let mut world = World::new("t3.small", config);
    world.start_pods(pods, 15);
    world.run_seconds(2 * HOUR);
    assert_eq!(world.enis.len(), 3);
    world
}

fn blocks_in_use(world: &World, view: &EniView) -> Vec<Ipv4Net> {
    let in_use = |block: &Ipv4Net| world.pods.values().any(|address| block.contains(address));
    let singles = view.secondary_addresses.iter().map(|address| Ipv4Net::from(*address));
    singles.chain(view.prefixes.iter().copied()).filter(in_use).collect()
}

fn parts(world: &World) -> Vec<Part> {
    let secondary = world.enis.keys().filter(|id| **id != world.facts.primary_eni_id);
    let enis = secondary.map(|id| Part::Eni(id.clone()));
    let blocks = world.enis.values().map(|eni| Part::Blocks(blocks_in_use(world, &eni.view)));
    enis.chain(blocks).collect()
}

fn hidden(parts: &[Part], subset: usize) -> Hidden {
    let mut hidden = Hidden::default();
    for (_, part) in parts.iter().enumerate().filter(|(bit, _)| subset & 1 << bit != 0) {
        match part {
            Part::Eni(id) => drop(hidden.enis.insert(id.clone())),
            Part::Blocks(blocks) => hidden.blocks.extend(blocks),
        }
    }
    hidden
}

fn check_kept(world: &World, checkpoint: &[u8], taken: &[u32], what: &Hidden) {
    let disk = world.disk.as_ref().expect("written");
    assert_eq!(String::from_utf8_lossy(&disk.reference_json), String::from_utf8_lossy(checkpoint), "without {what:?}");
    assert_eq!(TAKING.map(|kind| world.count(kind)), taken, "something was taken without {what:?}");
    assert!(world.snapshot().drift.found > 0, "nobody was told of {what:?}");
}

/// Every subset of the parts is missing for three hours of reads, over a restart, and for three hours more.
fn nothing_is_given_back(config: Config, pods: u32) {
    let mut world = full(config, pods);
    let checkpoint = world.disk.clone().expect("written").reference_json;
    let taken = TAKING.map(|kind| world.count(kind));
    let parts = parts(&world);
    for subset in 1..1 << parts.len() {
        let what = hidden(&parts, subset);
        world.hidden = what.clone();
        for _ in 0..2 {
            world.run_seconds(3 * HOUR);
            check_kept(&world, &checkpoint, &taken, &what);
            world.restart(|_| false);
            let facts = world.facts.clone();
            world.feed(crate::Event::FactsLearned(facts));
        }
        world.run_seconds(60);
        check_kept(&world, &checkpoint, &taken, &what);
        world.hidden = Hidden::default();
        world.run_seconds(2 * HOUR);
        let drift = world.snapshot().drift;
        assert!(drift.eni_ids.is_empty() && drift.addresses.is_empty(), "shown again: {drift:?}");
    }
}

#[test]
fn no_subset_of_enis_and_addresses_that_reads_leave_out_makes_us_give_back_what_pods_have() {
    nothing_is_given_back(warm_addresses(1, 0), 8);
}

#[test]
fn no_subset_of_enis_and_prefixes_that_reads_leave_out_makes_us_give_back_what_pods_have() {
    nothing_is_given_back(warm_prefixes(0), 140);
}

#[test]
fn an_address_that_ec2_took_away_under_a_pod_is_not_given_to_the_next_one() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    let requests: Vec<_> = (0..3).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(10);
    let [lost, ..] =
        requests.iter().map(|it| world.answer(*it).expect("answered").expect("served")).collect::<Vec<Ipv4Addr>>()[..]
    else {
        panic!("three were asked for")
    };
    let primary = world.facts.primary_eni_id.clone();
    world.enis.get_mut(&primary).expect("there").view.secondary_addresses.retain(|address| *address != lost);
    world.run_seconds(2 * HOUR);
    assert_eq!(world.snapshot().drift.addresses, [lost]);
    world.del("pod-0");
    world.run_seconds(120);
    assert!(world.snapshot().drift.addresses.is_empty());
    let more: Vec<_> = (0..20).map(|pod| world.add(&format!("late-{pod}"))).collect();
    world.run_seconds(15);
    world.assert_served(&more);
    assert!(world.pods.values().all(|address| *address != lost), "{lost} is not ours any more");
}
