// SPDX-License-Identifier: Apache-2.0
//! EC2 and the kernel failing, one call at a time.

use std::time::Duration;

use super::world::{Fault, World, key, warm_addresses, warm_enis};
use crate::event::{Event, FailureClass};
use crate::reason::ReasonCode;

/// Ten pods on an m5.large: the primary ENI is full and one more is needed.
fn ten_pods(world: &mut World) {
    let requests: Vec<_> = (0..10).map(|pod| world.add_with(&format!("pod-{pod}"), Duration::from_secs(400))).collect();
    world.run_seconds(390);
    world.assert_served(&requests);
}

/// Every call of growing fails once, in every way: the pods come up, and no ENI is left over.
#[test]
fn any_call_of_growth_may_fail_once_in_any_way_and_no_eni_is_leaked() {
    use FailureClass::{
        Denied, DeviceIndexTaken, Kernel, LinkMissing, NotFound, Rejected, Throttled, TokenMismatch, Transient,
        Unknown, WrongState,
    };
    for kind in ["create", "attach", "termination", "assign", "configure", "describe", "host", "observe"] {
        let before = [
            Denied,
            DeviceIndexTaken,
            Kernel,
            LinkMissing,
            NotFound,
            Rejected,
            Throttled,
            TokenMismatch,
            Transient,
            Unknown,
            WrongState,
        ];
        let faults = before.map(Fault::Before).into_iter().chain([Fault::After, Fault::Twice]);
        for fault in faults {
            let mut world = World::new("m5.large", warm_addresses(0, 0));
            world.fault(kind, fault);
            ten_pods(&mut world);
            world.run_seconds(700);
            // These rest longer than an ENI is counted on: another one is asked for, and both stay in use.
            let rests_long = kind == "configure" && matches!(fault, Fault::Before(Denied | Rejected));
            let enis = if rests_long { 3 } else { 2 };
            assert_eq!(world.shape(), (enis, 10), "{kind} {fault:?}");
            assert_eq!(world.enis.len(), enis, "{kind} {fault:?}: an ENI was leaked");
            assert!(
                world.enis.values().skip(1).all(|eni| eni
                    .view
                    .attachment
                    .as_ref()
                    .is_some_and(|attachment| attachment.delete_on_termination))
            );
        }
    }
}

/// Every call of shrinking fails once, in every way: what is too much goes, and nothing else.
#[test]
fn any_call_of_shrinking_may_fail_once_in_any_way() {
    use FailureClass::{Denied, Kernel, NotFound, Rejected, Throttled, Transient, Unknown, WrongState};
    for kind in ["unassign", "detach", "deconfigure", "delete", "describe", "observe"] {
        let before = [Denied, Kernel, NotFound, Rejected, Throttled, Transient, Unknown, WrongState];
        for fault in before.map(Fault::Before).into_iter().chain([Fault::After, Fault::Twice]) {
            let mut world = World::new("m5.large", warm_addresses(1, 0));
            ten_pods(&mut world);
            for pod in 3..10 {
                world.del(&format!("pod-{pod}"));
            }
            world.fault(kind, fault);
            world.run_seconds(1_500);
            // Some failures say that the ENI is gone when it is not; then EC2 has it until it is found again.
            let lost = matches!((kind, fault), ("detach" | "delete", Fault::Before(NotFound)));
            if !lost {
                assert_eq!(world.shape(), (1, 4), "{kind} {fault:?}");
                assert_eq!(world.enis.len(), 1, "{kind} {fault:?}");
            }
        }
    }
}

/// Its slot is free already, and a read tells whether it is attached still.
#[test]
fn an_eni_that_ec2_is_slow_to_detach_is_not_asked_to_go_again_and_again() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    ten_pods(&mut world);
    for pod in 3..10 {
        world.del(&format!("pod-{pod}"));
    }
    for _ in 0..3 {
        world.fault("delete", Fault::Before(FailureClass::WrongState));
    }
    world.run_until(|world| world.count("delete") == 1);
    let (first, reads) = (world.now.boot, world.count("describe"));
    world.run_until(|world| world.count("delete") == 2);
    assert!(world.now.boot.since(first) >= Duration::from_secs(12), "{:?}", world.now.boot.since(first));
    world.run_until(|world| world.count("delete") == 3);
    assert!(world.count("describe") > reads, "EC2 was read after the second");
    world.run_until(|world| world.enis.len() == 1);
    assert_eq!(world.count("delete"), 4);
    assert!((24..60).contains(&world.now.boot.since(first).as_secs()), "{:?}", world.now.boot.since(first));
}

#[test]
fn an_eni_whose_link_never_appears_is_soon_replaced_and_later_given_up() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 5);
    world.link_delay = Duration::from_secs(100_000);
    let unlucky = world.add_with("unlucky", Duration::from_secs(20));
    world.run_seconds(10);
    world.link_delay = Duration::from_millis(500);
    world.run_seconds(4);
    assert_eq!(world.count("create"), 1, "an attach may take a while");
    world.run_seconds(5);
    assert!(matches!(world.answer(unlucky), Some(Ok(_))), "by another ENI, inside its budget");
    world.run_seconds(270);
    assert_eq!(world.count("detach"), 0, "the late one has five minutes");
    world.run_seconds(60);
    assert!(world.noticed("could not be set up for 300 s"));
    assert_eq!(world.count("detach"), 1);
    assert_eq!(world.enis.len(), 2, "the late one is given back");
}

#[test]
fn an_overdue_eni_does_not_let_adds_wait_that_another_has_slots_for() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 5);
    let add = |world: &mut World, pod: usize| world.add_with(&format!("wave-{pod}"), Duration::from_secs(20));
    let served =
        |world: &World, asked: &[_]| asked.iter().filter(|id| matches!(world.answer(**id), Some(Ok(_)))).count();
    world.link_delay = Duration::from_secs(14);
    let mut asked: Vec<_> = (0..3).map(|pod| add(&mut world, pod)).collect();
    world.run_seconds(1);
    world.link_delay = Duration::from_millis(500);
    asked.extend((3..10).map(|pod| add(&mut world, pod)));
    world.run_seconds(4);
    assert!(served(&world, &asked) < 5, "the first ENI's addresses are counted on as long as its attach may last");
    world.run_seconds(4);
    assert_eq!(served(&world, &asked), 9, "all that the second ENI has room for, by a call, not by a link");
    assert_eq!(world.count("create"), 2, "and no third ENI is asked for");
}

#[test]
fn a_link_that_appears_is_set_up_at_once() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.link_delay = Duration::from_millis(12_100);
    let requests: Vec<_> = (0..10).map(|pod| world.add_with(&format!("pod-{pod}"), Duration::from_secs(30))).collect();
    world.run(Duration::from_millis(13_500));
    assert_eq!(world.answer(requests[9]), None, "the next look of the back-off is later");
    let mac = world.enis.values().last().expect("the new ENI").view.mac;
    world.feed(Event::LinkAppeared { mac });
    world.run(Duration::from_millis(10));
    assert!(matches!(world.answer(requests[9]), Some(Ok(_))));
}

#[test]
fn a_taken_device_index_is_left_to_whoever_has_it() {
    let mut world = World::new("m5.xlarge", warm_addresses(0, 0));
    world.run_seconds(5);
    world.attach_stranger("eni-user", 1, |view| view.interface_type = "efa-only".into());
    world.start_pods(20, 19);
    let indices: Vec<u32> = world.snapshot().enis.iter().map(|eni| eni.device_index.0).collect();
    assert_eq!(indices, [0, 2]);
}

#[test]
fn nothing_in_use_is_released_whatever_ec2_shows() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    ten_pods(&mut world);
    let hidden: Vec<_> = world.enis.iter().skip(1).map(|(id, eni)| (id.clone(), eni.clone())).collect();
    for (id, _) in &hidden {
        world.enis.remove(id);
    }
    world.run_seconds(4 * 3_600);
    assert_eq!(world.snapshot().pool.allocated, 10);
    assert_eq!(world.count("unassign") + world.count("detach") + world.count("delete"), 0);
    assert!(world.noticed("EC2 does not show ENI"));
    world.enis.extend(hidden);
    world.run_seconds(60);
    let more = world.add("one-more");
    assert!(matches!(world.answer(more), Some(Ok(_))), "it gives addresses out again");
}

#[test]
fn an_address_that_the_kernel_has_is_neither_given_out_nor_unassigned() {
    let mut world = World::new("m5.large", warm_addresses(0, 3));
    world.run_seconds(5);
    let address = world.snapshot().addresses[0].address;
    world.pods.insert(key("unknown"), address);
    world.run_seconds(70);
    assert_eq!(world.snapshot().pool.held, 1);
    assert!(world.noticed("is not given out until the kernel lets go"));
    let requests: Vec<_> = (0..5).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(10);
    world.assert_served(&requests);
    assert!(requests.iter().all(|request| world.answer(*request) != Some(Ok(address))));
    for pod in 0..5 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(200);
    assert!(world.snapshot().addresses.iter().any(|entry| entry.address == address && entry.state == "held"));
    world.pods.clear();
    world.run_seconds(120);
    assert_eq!(world.snapshot().pool.held, 0);
}

#[test]
fn a_throttled_account_slows_growth_but_not_the_pool() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(10);
    for _ in 0..6 {
        world.fault("create", Fault::Before(FailureClass::Throttled));
    }
    let requests: Vec<_> = (0..9).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.assert_served(&requests);
    let creates = world.count("create");
    world.run_seconds(20);
    let waits = world.add_with("waits", Duration::from_millis(300));
    world.run_seconds(1);
    assert_eq!(world.answer(waits), Some(Err(ReasonCode::Ec2Throttled)));
    assert!(world.count("create") - creates <= 7, "backed off, and asked once for the ADD that waits");
    world.run_seconds(120);
    assert_eq!(world.shape().0, 2);
}

/// Not "nothing came in time": what EC2 answers is known.
#[test]
fn an_add_that_waited_for_an_assign_call_that_fails_again_and_again_is_told_why() {
    let mut config = warm_addresses(1, 0);
    config.max_enis = Some(1);
    let mut world = World::new("m5.large", config);
    world.run_seconds(10);
    for _ in 0..50 {
        world.fault("assign", Fault::Before(FailureClass::Transient));
    }
    let waits: Vec<_> = (0..9).map(|pod| world.add_with(&format!("pod-{pod}"), Duration::from_secs(3))).collect();
    world.run_seconds(5);
    assert!(
        waits.iter().any(|waits| world.answer(*waits) == Some(Err(ReasonCode::Ec2Unavailable))),
        "{:?}",
        world.replies
    );
    assert!(
        waits.iter().all(|waits| world.answer(*waits) != Some(Err(ReasonCode::BudgetSpent))),
        "{:?}",
        world.replies
    );
}

#[test]
fn a_host_that_cannot_be_set_up_gives_nothing_out() {
    let mut world = World::unborn("m5.large", warm_enis(1));
    for _ in 0..40 {
        world.fault("host", Fault::Before(FailureClass::Kernel));
    }
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(30);
    let refused = world.add_with("a", Duration::from_millis(100));
    world.run_seconds(1);
    assert_eq!(world.answer(refused), Some(Err(ReasonCode::HostSetupFailed)));
    assert!(!world.snapshot().serving);
}

#[test]
fn a_node_serves_only_when_it_has_an_address_to_give_and_goes_on_serving_without() {
    let mut world = World::unborn("m5.large", warm_enis(1));
    for _ in 0..3 {
        world.fault("assign", Fault::Before(FailureClass::Denied));
    }
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(2);
    let shown = world.snapshot();
    assert!(shown.enis.iter().any(|eni| eni.state.starts_with("Ready")), "{:?}", shown.enis);
    assert_eq!((shown.serving, shown.pool.total), (false, 0), "an ENI that is set up is not an address");
    world.run_seconds(600);
    assert!(world.snapshot().serving);
    let requests: Vec<_> = (0..27).map(|pod| world.add(&format!("pod{pod}"))).collect();
    world.run_seconds(30);
    world.assert_served(&requests);
    assert!(world.snapshot().serving, "a full node is no less fit");
}

#[test]
fn a_cordoned_node_without_an_address_is_not_called_unfit() {
    let mut world = World::unborn("m5.large", warm_enis(1));
    world.feed(Event::NodeSchedulable(false));
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(30);
    let shown = world.snapshot();
    assert_eq!((shown.serving, shown.pool.total), (true, 0));
}

#[test]
fn changed_vpc_blocks_are_written_to_the_host_again() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(10);
    assert_eq!(world.count("host"), 1);
    let mut facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts.clone()));
    world.run_seconds(10);
    assert_eq!(world.count("host"), 1, "the same facts again change nothing");
    facts.vpc_cidrs.push("100.64.0.0/16".parse().expect("block"));
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(10);
    assert_eq!(world.count("host"), 2);
}

#[test]
fn where_services_lie_in_the_vpc_nothing_is_left_untracked_and_that_is_said() {
    let service_host = Some("100.64.0.1".to_owned());
    let mut world = World::new("m5.large", crate::config::Config { notrack: true, service_host, ..warm_enis(1) });
    let said = |world: &World| world.notices.iter().filter(|notice| notice.text.contains("ENID_NOTRACK")).count();
    let written = |world: &World| world.core.host.applied.as_ref().expect("written").notrack;
    world.run_seconds(10);
    assert_eq!((said(&world), written(&world)), (0, true));
    let mut facts = world.facts.clone();
    facts.vpc_cidrs.push("100.64.0.0/16".parse().expect("block"));
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(10);
    assert_eq!((said(&world), written(&world)), (1, false));
}

#[test]
fn beside_the_network_policy_agent_nothing_is_left_untracked_and_that_is_said() {
    let policy_mode = Some("standard".to_owned());
    let mut world = World::new("m5.large", crate::config::Config { notrack: true, policy_mode, ..warm_enis(1) });
    world.run_seconds(10);
    let told = world.notices.iter().filter(|notice| notice.text.contains("NETWORK_POLICY_ENFORCING_MODE is standard"));
    assert_eq!(told.count(), 1);
    assert!(!world.core.host.applied.as_ref().expect("written").notrack);
}

#[test]
fn how_full_the_table_of_connections_is_is_shown() {
    use crate::event::{LostConnections, TrackedConnections};
    let mut world = World::new("m5.large", warm_enis(1));
    assert_eq!(world.core.snapshot(world.now).connections, None);
    let found = TrackedConnections { count: 900, max: 1000, lost: Some(LostConnections::default()) };
    world.feed(Event::ConnectionsCounted(found));
    assert_eq!(world.core.snapshot(world.now).connections, Some(found));
    let code = Some(crate::reason::ReasonCode::ConntrackFilling);
    assert_eq!(world.notices.iter().filter(|notice| notice.code == code).count(), 1);
}

#[test]
fn an_eni_made_by_an_unanswered_call_is_found_although_reads_lag_and_nobody_needs_it_any_more() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 5);
    world.fault("create", Fault::After);
    let waits = world.add("one-more");
    world.lag();
    world.run_seconds(1);
    assert_eq!(world.enis.len(), 2, "made, and nobody heard of it");
    world.abandon(waits);
    world.run_seconds(600);
    assert_eq!(world.enis.len(), 1, "found and given back");
}

#[test]
fn a_call_that_does_not_answer_is_told_of_once_after_three_seconds_with_its_endpoint() {
    let config = crate::config::Config { ec2_endpoint: Some("http://ec2.test".to_owned()), ..warm_addresses(0, 0) };
    let mut world = World::new("m5.large", config);
    let told = |world: &World| world.notices.iter().filter(|notice| notice.text.contains("has not answered")).count();
    world.add_with("pod-0", Duration::from_secs(60));
    while world.pending.iter().all(|(_, action)| !matches!(action.kind, crate::action::ActionKind::Assign { .. })) {
        world.run(Duration::from_millis(20));
    }
    world.pending.retain(|(_, action)| !matches!(action.kind, crate::action::ActionKind::Assign { .. }));
    world.run(Duration::from_millis(2_900));
    assert_eq!(told(&world), 0);
    world.run_seconds(30);
    assert_eq!(told(&world), 1);
    let notice = world.notices.iter().find(|notice| notice.text.contains("has not answered")).expect("counted");
    assert!(notice.text.contains("http://ec2.test") && notice.text.contains("assigning"), "{}", notice.text);
    assert_eq!(notice.code, Some(ReasonCode::Ec2Unavailable));
}

#[test]
fn a_right_that_is_missing_is_not_back_when_the_eni_that_showed_it_is_gone() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    ten_pods(&mut world);
    (0..10_000).for_each(|_| world.fault("detach", Fault::Before(FailureClass::Denied)));
    (3..10).for_each(|pod| world.del(&format!("pod-{pod}")));
    world.run_seconds(600);
    assert!(world.count("detach") > 0);
    world.enis.pop_last();
    world.run_seconds(1_500);
    let shown = world.core.snapshot(world.now);
    assert_eq!(shown.enis.len(), 1, "somebody else took it away");
    let denied = shown.failures.iter().find(|failure| failure.class == FailureClass::Denied);
    assert_eq!(denied.map(|failure| failure.recovered_ago_ms), Some(None), "{:?}", shown.failures);
}
