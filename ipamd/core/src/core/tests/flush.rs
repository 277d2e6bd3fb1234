// SPDX-License-Identifier: Apache-2.0
//! Released addresses: nobody gets one before the kernel has forgotten its last pod. (`World` holds every other test to that.)

use std::time::Duration;

use super::world::{FLUSH_TAKES, Fault, World, warm_addresses, warm_enis};
use crate::action::ActionKind;
use crate::config::Config;
use crate::core::flush::{FLUSH_WITHIN, GATHERS, GIVE_UP_AFTER};
use crate::event::FailureClass;
use crate::ids::RequestId;
use crate::reason::ReasonCode;

/// An m5.large with all its 27 addresses in use: the next pod gets what the last one left. `count("flush")` begins with the flushes of
/// what came from EC2: [`CAME`].
fn full(cooldown_seconds: u64) -> World {
    let config = Config { cooldown: Duration::from_secs(cooldown_seconds), ..warm_enis(1) };
    let mut world = World::new("m5.large", config);
    world.start_pods(27, 30);
    assert_eq!(world.count("flush"), CAME);
    world
}

/// One an ENI: the addresses of each came together.
const CAME: u32 = 3;

#[test]
fn what_comes_from_ec2_is_flushed_together_once_its_eni_serves_and_before_anybody_gets_it() {
    let mut world = World::new("m5.large", warm_enis(1));
    let first = world.add("first");
    world.run_until(|world| world.pending_of("flush") == 1);
    assert_eq!(world.answer(first), None);
    world.run(FLUSH_TAKES);
    assert!(matches!(world.answer(first), Some(Ok(_))), "after one walk");
    world.run_seconds(60);
    assert_eq!(world.count("flush"), 2, "nine addresses of the first ENI, nine of the second");
}

#[test]
fn where_the_kernel_never_forgets_what_came_is_used_all_the_same_and_that_is_told() {
    let mut world = World::new("m5.large", warm_enis(1));
    for _ in 0..20 {
        world.fault("flush", Fault::Before(FailureClass::Kernel));
    }
    let first = world.add("first");
    world.run_until(|world| world.pending_of("flush") == 1);
    world.run(GIVE_UP_AFTER - Duration::from_millis(1));
    assert_eq!((world.answer(first), world.gave_flushes_up()), (None, false));
    world.run(Duration::from_millis(1));
    assert!(matches!(world.answer(first), Some(Ok(_))));
    assert!(world.gave_flushes_up());
}

#[test]
fn addresses_that_pods_have_are_not_flushed_at_a_restart() {
    // The world fails when a living pod's connections are flushed.
    let mut world = full(10);
    world.restart(|_| true);
    world.run_seconds(60);
    assert_eq!(world.count("flush"), CAME, "nobody's address is free");
}

#[test]
fn a_released_address_is_flushed_soon_and_again_when_its_cooldown_is_over() {
    let mut world = full(10);
    world.del("pod-3");
    world.run(GATHERS - Duration::from_millis(1));
    assert_eq!((world.count("flush"), world.pending_of("flush")), (CAME, 0), "not beside the DEL");
    world.run(Duration::from_millis(1) + FLUSH_TAKES);
    assert_eq!((world.count("flush"), world.pending_of("flush")), (CAME + 1, 0));
    world.run(Duration::from_millis(8_990));
    assert_eq!(world.count("flush"), CAME + 1, "it cools");
    world.run_seconds(600);
    assert_eq!(world.count("flush"), CAME + 2);
}

#[test]
fn what_is_released_in_the_same_second_is_flushed_together() {
    let mut world = full(30);
    for pod in 0..20 {
        world.del(&format!("pod-{pod}"));
        world.run(GATHERS / 25);
    }
    world.run_until(|world| world.pending_of("flush") == 1);
    let flushed = world.pending.iter().find_map(|(_, action)| match &action.kind {
        ActionKind::FlushAddresses { addresses, .. } => Some(addresses.len()),
        _ => None,
    });
    assert_eq!((world.count("flush"), flushed), (CAME + 1, Some(20)));
}

#[test]
fn what_is_released_while_a_flush_runs_goes_into_the_next_together() {
    let mut world = full(0);
    for pod in 0..20 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(1);
    assert_eq!(world.count("flush"), CAME + 2, "the first one alone, the other nineteen at once");
    for pod in 0..20 {
        let next = world.add(&format!("next-{pod}"));
        assert!(matches!(world.answer(next), Some(Ok(_))));
    }
}

#[test]
fn a_flush_that_fails_is_tried_again_and_the_waiting_pod_gets_the_address_then() {
    let mut world = full(0);
    world.fault("flush", Fault::Before(FailureClass::Kernel));
    world.fault("flush", Fault::Before(FailureClass::Kernel));
    world.del("pod-3");
    let next = world.add("next");
    world.run(FLUSH_TAKES);
    assert!(world.noticed("flushing connections and neighbours of 1 addresses failed"));
    assert_eq!(world.answer(next), None);
    world.run_seconds(4);
    assert!(matches!(world.answer(next), Some(Ok(_))));
    assert_eq!((world.count("flush"), world.gave_flushes_up()), (CAME + 3, false));
}

#[test]
fn where_the_kernel_never_forgets_the_address_is_used_all_the_same_and_that_is_told() {
    let mut world = full(0);
    for _ in 0..20 {
        world.fault("flush", Fault::Before(FailureClass::Kernel));
    }
    world.del("pod-3");
    let next = world.add("next");
    world.run(GIVE_UP_AFTER - Duration::from_millis(1));
    assert_eq!((world.answer(next), world.gave_flushes_up()), (None, false));
    world.run(Duration::from_millis(1));
    assert!(matches!(world.answer(next), Some(Ok(_))), "inside an ADD's budget");
    assert!(world.notices.iter().any(|notice| notice.code == Some(ReasonCode::AddressNotFlushed)));
}

#[test]
fn a_flush_without_an_answer_does_not_keep_the_address_for_ever() {
    let mut world = full(0);
    world.del("pod-3");
    world.pending.clear();
    let next = world.add("next");
    world.run(GIVE_UP_AFTER);
    assert!(matches!(world.answer(next), Some(Ok(_))));
}

#[test]
fn a_flush_that_the_restart_cut_off_is_done_before_anybody_gets_the_address() {
    let mut world = full(0);
    world.del("pod-3");
    world.restart(|_| false);
    let next = world.add("next");
    assert_eq!(world.answer(next), None);
    // The world fails when the address is given unflushed.
    world.run_seconds(5);
    assert!(matches!(world.answer(next), Some(Ok(_))));
    assert!(!world.gave_flushes_up());
}

#[test]
fn what_was_flushed_is_not_flushed_again_after_a_restart() {
    let mut world = full(0);
    world.del("pod-3");
    world.run_seconds(1);
    let before = world.count("flush");
    world.restart(|_| true);
    world.run_seconds(600);
    assert_eq!(world.count("flush"), before);
}

#[test]
fn while_the_journal_cannot_be_written_no_flush_is_given_up() {
    let mut world = full(0);
    world.disk_full = true;
    world.del("pod-3");
    world.run(GIVE_UP_AFTER * 3);
    world.disk_full = false;
    let next = world.add("next");
    world.run_seconds(5);
    assert!(matches!(world.answer(next), Some(Ok(_))));
    assert!(!world.gave_flushes_up());
}

/// The flush under way ends so long from now.
fn hang(world: &mut World, time: Duration) {
    let end = world.now.boot + time;
    let is_flush = |kind: &ActionKind| matches!(kind, ActionKind::FlushAddresses { .. });
    let flush = world.pending.iter_mut().find(|(_, action)| is_flush(&action.kind));
    flush.expect("a flush is under way").0 = end;
}

#[test]
fn an_address_is_not_given_up_while_a_flush_of_it_may_still_be_at_work() {
    let mut world = full(0);
    world.del("pod-3");
    hang(&mut world, Duration::from_secs(9));
    world.run(Duration::from_millis(500));
    world.del("pod-4");
    let next = world.add("next");
    // The second try begins shortly before the address would be given up, and does not end.
    while world.count("flush") < CAME + 2 {
        world.run(Duration::from_millis(1));
    }
    let began = world.now.boot;
    hang(&mut world, Duration::from_secs(3_600));
    // The world fails when the address is given too early.
    world.run(FLUSH_WITHIN - Duration::from_millis(1));
    assert_eq!(world.answer(next), None, "the flush may be at work, {:?} after it began", world.now.boot.since(began));
    world.run_seconds(2);
    assert!(matches!(world.answer(next), Some(Ok(_))), "inside an ADD's budget");
}

/// An m5.large whose 18 addresses of two ENIs have pods; the next pod waits for the third ENI. `so_far` is done before it asks.
fn waits_for_an_eni(so_far: impl FnOnce(&mut World)) -> (World, RequestId) {
    let config = Config { cooldown: Duration::from_mins(10), ..warm_addresses(0, 0) };
    let mut world = World::new("m5.large", config);
    world.start_pods(18, 60);
    so_far(&mut world);
    let next = world.add("next");
    world.run_until(|world| !world.core.newcomers().is_empty());
    assert_eq!(world.answer(next), None);
    (world, next)
}

#[test]
fn what_comes_while_flushes_fail_waits_from_then_on_and_not_from_the_next_try() {
    let (mut world, next) = waits_for_an_eni(|world| {
        for _ in 0..40 {
            world.fault("flush", Fault::Before(FailureClass::Kernel));
        }
        world.del("pod-3");
        world.run_seconds(120);
    });
    world.run(GIVE_UP_AFTER - Duration::from_secs(1));
    assert_eq!((world.answer(next), world.gave_flushes_up()), (None, false));
    world.run(FLUSH_WITHIN);
    assert!(matches!(world.answer(next), Some(Ok(_))), "inside an ADD's budget");
    assert!(world.gave_flushes_up());
}

#[test]
fn what_comes_while_a_flush_hangs_is_given_up_as_any() {
    let (mut world, next) = waits_for_an_eni(|world| {
        world.del("pod-3");
        world.run(GATHERS);
        hang(world, Duration::from_hours(1));
    });
    world.run(GIVE_UP_AFTER - Duration::from_millis(1));
    assert_eq!((world.answer(next), world.gave_flushes_up()), (None, false));
    world.run(Duration::from_millis(1));
    assert!(matches!(world.answer(next), Some(Ok(_))), "no flush of it is at work");
    assert!(world.gave_flushes_up());
}
