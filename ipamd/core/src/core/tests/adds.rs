// SPDX-License-Identifier: Apache-2.0
//! ADD and DEL: what is answered, when, and with which code.

use std::time::Duration;

use super::world::{FLUSH_TAKES, Fault, World, key, warm_addresses, warm_enis};
use crate::action::{ActionKind, Reply};
use crate::config::Config;
use crate::event::{Event, FailureClass};
use crate::ids::{PodRef, RequestId};
use crate::reason::ReasonCode;

/// An m5.large with all its 27 addresses in use.
fn full(cooldown_seconds: u64) -> World {
    let config = Config { cooldown: Duration::from_secs(cooldown_seconds), ..warm_enis(1) };
    let mut world = World::new("m5.large", config);
    world.start_pods(27, 30);
    world
}

#[test]
fn a_free_address_is_given_at_once_and_the_same_one_to_a_repeated_add() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(10);
    let first = world.add("a");
    let again = world.add("a");
    assert!(matches!(world.answer(first), Some(Ok(_))));
    assert_eq!(world.answer(first), world.answer(again));
}

#[test]
fn two_waiting_adds_for_one_sandbox_get_one_address() {
    let mut world = World::new("m5.large", warm_enis(1));
    let (first, second) = (world.add("a"), world.add("a"));
    world.run_seconds(5);
    assert!(matches!(world.answer(first), Some(Ok(_))));
    assert_eq!(world.answer(first), world.answer(second));
    assert_eq!(world.snapshot().pool.allocated, 1);
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.subnet_free = world.subnet_free.iter().copied().take(2).collect();
    let requests: Vec<_> = (0..4).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(25);
    let served: Vec<bool> = requests.iter().map(|request| matches!(world.answer(*request), Some(Ok(_)))).collect();
    assert_eq!(served, [true, true, false, false]);
}

#[test]
fn a_full_node_refuses_at_once_with_the_numbers() {
    let mut world = full(30);
    let refused = world.add("one-more");
    assert_eq!(world.answer(refused), Some(Err(ReasonCode::NodeFull)));
    world.last_refusal_says("27 of 27 addresses in use, 0 cooling, 3 of 3 ENIs of 9 addresses");
}

#[test]
fn a_cooldown_that_ends_inside_the_budget_is_waited_for_and_a_longer_one_is_not() {
    let mut world = full(10);
    world.del("pod-3");
    let waits = world.add("waits");
    let no_second = world.add("no-second");
    assert_eq!(world.answer(waits), None);
    assert_eq!(world.answer(no_second), Some(Err(ReasonCode::AllCooling)), "the one that cools is promised already");
    world.run(Duration::from_millis(9_999));
    assert_eq!(world.answer(waits), None);
    world.run(Duration::from_millis(1));
    assert_eq!((world.answer(waits), world.pending_of("flush")), (None, 1), "the moment it ends the kernel is told");
    world.run(FLUSH_TAKES);
    assert!(matches!(world.answer(waits), Some(Ok(_))), "and the moment that is done");

    let mut long = full(30);
    long.del("pod-3");
    let refused = long.add("refused");
    assert_eq!(long.answer(refused), Some(Err(ReasonCode::AllCooling)));
}

#[test]
fn with_no_cooldown_a_released_address_serves_the_next_in_the_queue() {
    let mut world = full(0);
    world.del("pod-3");
    let next = world.add("next");
    assert_eq!(world.answer(next), None, "the kernel has not forgotten the last pod");
    world.run(FLUSH_TAKES);
    assert!(matches!(world.answer(next), Some(Ok(_))));
}

#[test]
fn a_del_for_a_waiting_sandbox_ends_its_add_and_nothing_is_allocated_for_it() {
    let mut world = World::new("m5.large", warm_enis(1));
    let waits = world.add("a");
    world.del("a");
    assert_eq!(world.answer(waits), Some(Err(ReasonCode::Superseded)));
    world.run_seconds(30);
    assert_eq!(world.snapshot().pool.allocated, 0);
}

#[test]
fn an_abandoned_add_gets_nothing_and_an_answered_one_keeps_what_it_got() {
    let mut world = World::new("m5.large", warm_enis(1));
    let waits = world.add("a");
    world.abandon(waits);
    world.run_seconds(30);
    assert_eq!(world.snapshot().pool.allocated, 0);
    let answered = world.add("b");
    world.feed(Event::RequestAbandoned { request: answered });
    assert_eq!(world.snapshot().pool.allocated, 1, "a DEL or the orphan sweep frees it");
    world.pods.clear();
    world.ledger.owner.clear();
    world.run_seconds(150);
    assert_eq!(world.snapshot().pool.allocated, 0);
    assert!(world.noticed("its host veth has been gone"));
}

#[test]
fn a_del_always_succeeds_even_for_an_unknown_sandbox_and_before_anything_is_known() {
    let mut world = World::unborn("m5.large", warm_enis(1));
    let request = RequestId(9_000);
    let effects = world.core.handle(Event::DelRequested { request, key: key("never-seen") }, world.now);
    assert_eq!(effects.replies, [Reply::Del { request, released: None }]);
    assert!(!effects.persist);
}

#[test]
fn an_add_before_imds_answers_waits_and_says_what_for() {
    let mut world = World::unborn("m5.large", warm_enis(1));
    let short = world.add_with("a", Duration::from_secs(2));
    world.run_seconds(2);
    assert_eq!(world.answer(short), Some(Err(ReasonCode::Starting)));
    let failed = world.add_with("b", Duration::from_secs(2));
    world.feed(Event::FactsUnavailable(super::world::failure(FailureClass::Transient)));
    world.run_seconds(2);
    assert_eq!(world.answer(failed), Some(Err(ReasonCode::ImdsUnavailable)));
    let served = world.add("c");
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(2);
    assert!(matches!(world.answer(served), Some(Ok(_))));
}

#[test]
fn a_refused_create_refuses_those_who_waited_for_it() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 5);
    world.fault("create", Fault::Before(FailureClass::Denied));
    let waits = world.add("one-more");
    assert_eq!(world.answer(waits), None, "growth could serve it");
    world.run_seconds(1);
    assert_eq!(world.answer(waits), Some(Err(ReasonCode::Ec2Denied)));
    assert_eq!(world.shape().0, 1);
    let later = world.add("later");
    assert_eq!(world.answer(later), Some(Err(ReasonCode::Ec2Denied)), "it would be denied again");
    world.run_seconds(45);
    let served = world.add("served");
    world.run_seconds(5);
    assert!(matches!(world.answer(served), Some(Ok(_))));
}

#[test]
fn an_eni_that_takes_too_long_is_named_when_the_budget_is_spent() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.link_delay = Duration::from_secs(40);
    let requests: Vec<_> = (0..10).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(20);
    world.assert_served(&requests[..9]);
    assert_eq!(world.answer(requests[9]), Some(Err(ReasonCode::EniPending)));
    world.run_seconds(30);
    let again = world.add("pod-9");
    assert!(matches!(world.answer(again), Some(Ok(_))), "the ENI is there for the next try");
}

#[test]
fn addresses_are_reused_oldest_released_first_after_the_never_used_ones() {
    let config = Config { cooldown: Duration::from_secs(1), ..warm_addresses(0, 3) };
    let mut world = World::new("m5.large", config);
    world.run_seconds(5);
    let (a, b) = (world.add("a"), world.add("b"));
    let (a, b) = (world.answer(a), world.answer(b));
    world.del("b");
    world.run(Duration::from_millis(10));
    world.del("a");
    world.run_seconds(5);
    let order: Vec<_> = ["c", "d", "e"].map(|pod| world.add(pod)).map(|request| world.answer(request)).into();
    assert!(order[0] != a && order[0] != b, "the never-used one");
    assert_eq!(order[1..], [b, a]);
}

#[test]
fn a_tombstone_releases_its_sandbox_and_is_removed_once_the_release_is_durable() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(5);
    world.add("a");
    world.released("a");
    let effects = world.core.handle(Event::TombstoneFound { key: key("a") }, world.now);
    assert!(effects.persist);
    assert!(effects.actions.iter().any(|action| action.kind == ActionKind::ForgetTombstone { key: key("a") }));
    assert_eq!(world.snapshot().pool.allocated, 0);
    // Found again (it could not be removed) after the sandbox came back: it keeps its address.
    let pod = PodRef { namespace: "default".into(), name: "a".into() };
    let deadline = world.now.boot + Duration::from_secs(10);
    world.core.handle(Event::AddRequested { request: RequestId(77), key: key("a"), pod, deadline }, world.now);
    world.core.handle(Event::TombstoneFound { key: key("a") }, world.now);
    assert_eq!(world.snapshot().pool.allocated, 1);
}

#[test]
fn nothing_is_given_out_while_the_state_cannot_be_written() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(10);
    world.disk_full = true;
    let refused = world.add("a");
    assert_eq!(world.answer(refused), Some(Err(ReasonCode::StateNotDurable)));
    assert_eq!(world.snapshot().pool.allocated, 0, "taken back");
    let waits = world.add("b");
    assert_eq!(world.answer(waits), None, "the disk is tried again in a second");
    world.disk_full = false;
    world.run_seconds(2);
    assert!(matches!(world.answer(waits), Some(Ok(_))));
    world.disk_full = true;
    world.del("b");
    assert_eq!(world.snapshot().pool.allocated, 0, "a DEL is never refused");
    world.disk_full = false;
    world.run_seconds(2);
    assert!(!String::from_utf8_lossy(&world.disk.as_ref().expect("written").reference_json).contains("\"b\""));
}
