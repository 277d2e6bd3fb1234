// SPDX-License-Identifier: Apache-2.0
//! Nodes that end in the middle of an ENI's life, and the one node of their cluster that cleans up after them.

use std::time::Duration;

use super::world::{FakeEni, Fault, World, tags, warm_addresses, warm_enis};
use crate::config::Config;
use crate::election::Elected;
use crate::event::{Event, FailureClass};
use crate::ids::{BootTime, Now};
use crate::tags::{CREATED_AT_TAG, parse_rfc3339};

const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
const INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
const LEASE: &str = "enid.dev/leaked-seen-by";
/// The default of ENID_LEAKED_ENI_AGE.
const AGE: u64 = 300;
/// Elected, and nobody else ever is.
const FOR_EVER: Elected = Elected::ThisNode { until: BootTime(Duration::MAX) };

fn blue(config: Config) -> Config {
    Config { cluster_name: Some("blue".into()), cooldown: Duration::from_secs(1), ..config }
}

/// Every call that changes something in EC2.
fn changes(world: &World) -> u32 {
    let kinds = ["create", "attach", "termination", "assign", "unassign", "detach", "delete", "tag"];
    kinds.iter().map(|kind| world.count(kind)).sum()
}

/// Runs until so many calls that change something were made, for at most that time; whether they were.
fn until(world: &mut World, calls: u32, seconds: u64) -> bool {
    for _ in 0..seconds * 20 {
        if changes(world) >= calls {
            return true;
        }
        world.run(Duration::from_millis(50));
    }
    false
}

/// A node that grows and shrinks by an ENI and ends right after, or during, that call; `None`: it has made fewer.
fn ends_at(call: u32, happens: bool) -> Option<World> {
    let mut world = World::new("m5.large", blue(warm_addresses(1, 0)));
    let reached = until(&mut world, call, 5)
        || {
            for pod in 0..14 {
                world.add(&format!("pod-{pod}"));
            }
            until(&mut world, call, 30)
        }
        || {
            (3..14).for_each(|pod| world.del(&format!("pod-{pod}")));
            until(&mut world, call, 900)
        };
    if reached && happens {
        world.restart(|_| true);
    }
    reached.then_some(world)
}

/// What an instance leaves behind: ENIs without delete-on-termination, unattached.
fn left_by(world: World) -> (Now, Vec<FakeEni>) {
    let primary = world.facts.primary_eni_id.clone();
    let stays = |eni: &FakeEni| eni.view.attachment.as_ref().is_none_or(|at| !at.delete_on_termination);
    let mut left: Vec<FakeEni> =
        world.enis.into_values().filter(|eni| eni.view.eni_id != primary && stays(eni)).collect();
    for (number, eni) in left.iter_mut().enumerate() {
        eni.view.attachment = None;
        eni.view.status = "available".into();
        eni.view.eni_id = format!("eni-left-{number}").as_str().into();
    }
    (world.now, left)
}

/// Another node of the cluster, elected, at that time.
fn sweeper(now: Now) -> World {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    world.facts.instance_id = "i-9".into();
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.feed(Event::SweeperElected(FOR_EVER));
    world.run(now.boot.since(world.now.boot));
    assert_eq!(world.now.unix_nanos, now.unix_nanos);
    world
}

fn age(world: &World, eni: &FakeEni) -> u64 {
    let created = eni.view.tags.iter().find(|(key, _)| key == CREATED_AT_TAG).expect("made with its tags");
    let nanos = world.now.unix_nanos - parse_rfc3339(&created.1).expect("a time");
    u64::try_from(nanos / 1_000_000_000).expect("past")
}

#[test]
fn whenever_an_instance_is_terminated_no_eni_of_it_is_left_ten_minutes_later_and_no_young_one_is_touched() {
    let (mut ends, mut leaks) = (0, 0);
    for call in 1.. {
        let Some(world) = ends_at(call, false) else { break };
        ends += 1;
        for world in [Some(world), ends_at(call, true)].into_iter().flatten() {
            let (now, left) = left_by(world);
            leaks += left.len();
            let mut sweeper = sweeper(now);
            sweeper.enis.extend(left.into_iter().map(|eni| (eni.view.eni_id.clone(), eni)));
            for _ in 0..60 {
                sweeper.run_seconds(10);
                let leaked = sweeper.enis.values().filter(|eni| eni.view.eni_id.as_str().starts_with("eni-left"));
                for eni in leaked {
                    let touched = eni.view.tags.iter().any(|(key, _)| key == LEASE);
                    assert!(!touched || age(&sweeper, eni) >= AGE, "call {call}: {eni:?}");
                }
            }
            let left: Vec<_> = sweeper.enis.keys().filter(|id| id.as_str().starts_with("eni-left")).collect();
            assert!(left.is_empty(), "ended at call {call}: {left:?}");
        }
    }
    assert!(ends >= 9, "a life of {ends} calls: create, attach, set to go, assign, tag, unassign, detach, delete");
    assert!(leaks >= 6, "{leaks} ENIs were left behind: there was nothing to clean up");
}

#[test]
fn only_the_node_that_is_elected_sweeps_for_the_cluster() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    for number in 0..3 {
        world.attach_stranger(&format!("eni-{number}-leaked"), 50 + number, |view| {
            view.attachment = None;
            view.description = "aws-K8S-i-2".into();
            view.tags = tags(&[(INSTANCE, "i-2"), (CLUSTER, "blue"), (CREATED_AT_TAG, "2025-01-01T00:00:00Z")]);
        });
    }
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.feed(Event::SweeperElected(Elected::AnotherNode));
    world.run_seconds(48 * 3_600);
    assert!(world.count("leaked") <= 3, "looks for its own now and then");
    assert_eq!(world.count("delete"), 0);
    world.feed(Event::SweeperElected(FOR_EVER));
    world.run_seconds(AGE);
    assert_eq!(world.count("delete"), 3);
    let looks = world.count("leaked");
    world.run_seconds(3_600);
    assert!((35..=45).contains(&(world.count("leaked") - looks)), "{} an hour", world.count("leaked") - looks);
    let looks = world.count("leaked");
    world.feed(Event::SweeperElected(Elected::AnotherNode));
    world.run_seconds(24 * 3_600);
    assert!(world.count("leaked") - looks <= 1, "one that was under way");
}

#[test]
fn a_sweeper_that_may_not_mark_looks_no_oftener_for_it() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    world.attach_stranger("eni-leaked", 50, |view| {
        view.attachment = None;
        view.description = "aws-K8S-i-2".into();
        view.tags = tags(&[(INSTANCE, "i-2"), (CLUSTER, "blue"), (CREATED_AT_TAG, "2025-01-01T00:00:00Z")]);
    });
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    (0..2_000).for_each(|_| world.fault("tag", Fault::Before(FailureClass::Denied)));
    world.run_seconds(24 * 3_600);
    assert!(world.count("leaked") <= 4, "{} looks in a day", world.count("leaked"));
    assert_eq!(world.count("delete"), 0);
}

/// A node whose cluster has three ENIs of an instance that is gone.
fn with_leaks() -> World {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    for number in 0..3 {
        world.attach_stranger(&format!("eni-{number}-leaked"), 50 + number, |view| {
            view.attachment = None;
            view.description = "aws-K8S-i-2".into();
            view.tags = tags(&[(INSTANCE, "i-2"), (CLUSTER, "blue"), (CREATED_AT_TAG, "2025-01-01T00:00:00Z")]);
        });
    }
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world
}

#[test]
fn an_election_ends_by_the_nodes_own_clock_though_nobody_tells_it() {
    let mut world = with_leaks();
    world.run_seconds(5);
    let until = world.now.boot + Duration::from_secs(100);
    world.feed(Event::SweeperElected(Elected::ThisNode { until }));
    world.run_seconds(99);
    let (looks, marks) = (world.count("leaked"), world.count("tag"));
    assert!(looks >= 1 && marks >= 3, "{looks} looks, {marks} marks");
    // The second look, which would delete, is 120 s after the first.
    world.run_seconds(3_600);
    assert_eq!((world.count("leaked"), world.count("delete")), (looks, 0));
    assert_eq!(world.snapshot().sweep.sweeper, "another node");
}

#[test]
fn a_renewed_election_goes_on_where_it_was() {
    let mut world = with_leaks();
    for _ in 0..6 {
        let until = world.now.boot + Duration::from_secs(120);
        world.feed(Event::SweeperElected(Elected::ThisNode { until }));
        world.run_seconds(60);
    }
    assert_eq!(world.count("delete"), 3);
    assert!(world.count("leaked") <= 5, "{} looks in 6 min", world.count("leaked"));
    assert_eq!(world.snapshot().sweep.sweeper, "this node");
    world.feed(Event::SweeperElected(Elected::Nobody));
    assert_eq!(world.snapshot().sweep.sweeper, "nobody");
}

#[test]
fn a_sweeper_without_the_right_to_says_so() {
    let mut world = with_leaks();
    (0..50).for_each(|_| world.fault("tag", Fault::Before(FailureClass::Denied)));
    world.feed(Event::SweeperElected(FOR_EVER));
    world.run_seconds(30);
    assert!(world.snapshot().sweep.is_denied);
    assert_eq!(world.count("delete"), 0);
}

#[test]
fn a_look_that_succeeds_takes_back_that_one_was_refused_and_not_that_a_mark_was() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.fault("leaked", Fault::Before(FailureClass::Denied));
    world.feed(Event::SweeperElected(FOR_EVER));
    world.run_seconds(5);
    assert!(world.snapshot().sweep.is_denied);
    world.run_seconds(3_600);
    assert!(world.count("leaked") >= 2);
    assert!(!world.snapshot().sweep.is_denied, "the last look was answered");

    let mut world = with_leaks();
    world.fault("tag", Fault::Before(FailureClass::Denied));
    world.feed(Event::SweeperElected(FOR_EVER));
    world.run_seconds(30);
    let looks = world.count("leaked");
    assert!(looks == 1 && world.snapshot().sweep.is_denied);
    // Elected anew, it tries anew.
    world.feed(Event::SweeperElected(Elected::AnotherNode));
    assert!(world.snapshot().sweep.is_denied);
    world.feed(Event::SweeperElected(FOR_EVER));
    assert!(!world.snapshot().sweep.is_denied);
    world.run_seconds(300);
    assert!(world.count("delete") > 0 && !world.snapshot().sweep.is_denied);
}
