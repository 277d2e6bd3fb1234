// SPDX-License-Identifier: Apache-2.0
//! The pool in steady state, growing and shrinking.

use super::world::{Fault, World, warm_addresses, warm_enis};
use crate::config::{Config, UntaggedEnis};
use crate::event::FailureClass;
use crate::ids::DeviceIndex;

/// Starts `pods` one after the other and lets the pool settle: (ENIs, secondary addresses).
fn settled(instance_type: &str, config: Config, pods: u32) -> (usize, usize) {
    let mut world = World::new(instance_type, config);
    world.run_seconds(60);
    for pod in 0..pods {
        let request = world.add(&format!("pod-{pod}"));
        world.run_seconds(15);
        assert!(matches!(world.answer(request), Some(Ok(_))), "pod {pod}: {:?}", world.answer(request));
    }
    world.run_seconds(300);
    world.shape()
}

/// Rows of amazon-vpc-cni-k8s docs/eni-and-ip-target.md: pods -> (ENIs, addresses).
#[test]
fn the_steady_state_is_that_of_the_reference_s_worked_values() {
    let t3_small = "t3.small";
    for (config, rows) in [
        (warm_enis(1), [(0, (1, 3)), (5, (3, 9)), (9, (3, 9))]),
        (warm_addresses(1, 1), [(0, (1, 1)), (5, (2, 6)), (9, (3, 9))]),
        (warm_addresses(2, 5), [(0, (2, 5)), (5, (3, 7)), (9, (3, 9))]),
    ] {
        for (pods, shape) in rows {
            assert_eq!(settled(t3_small, config.clone(), pods), shape, "{:?} with {pods} pods", config.warm);
        }
    }
    let p3dn = "p3dn.24xlarge";
    for (pods, shape) in [(0, (1, 49)), (3, (2, 98)), (95, (3, 147))] {
        assert_eq!(settled(p3dn, warm_enis(1), pods), shape, "E = 1 with {pods} pods");
    }
    for (pods, shape) in [(0, (1, 10)), (7, (1, 12)), (15, (1, 20)), (45, (2, 50))] {
        assert_eq!(settled(p3dn, warm_addresses(5, 10), pods), shape, "W = 5, M = 10 with {pods} pods");
    }
}

#[test]
fn an_empty_node_needs_three_calls_for_its_first_warm_pool() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(600);
    assert_eq!(world.shape(), (1, 9));
    assert_eq!((world.count("describe"), world.count("assign"), world.count("create")), (1, 1, 0));
    world.run_seconds(3_600);
    assert!(world.count("describe") <= 2, "an idle hour costs one read");
    assert_eq!(world.count("assign"), 1);
}

#[test]
fn a_burst_is_met_by_all_its_enis_at_once() {
    let mut world = World::new("m4.4xlarge", warm_addresses(1, 0));
    world.run_seconds(30);
    world.start_pods(232, 10);
    assert_eq!(world.shape(), (8, 232));
    assert_eq!(world.count("create"), 7, "one call an ENI");
    assert_eq!(world.count("assign"), 2, "the first warm address, then the rest of the primary ENI");
    let refused = world.add("one-too-many");
    assert_eq!(world.answer(refused), Some(Err(crate::reason::ReasonCode::NodeFull)));
}

#[test]
fn cooling_addresses_are_not_free() {
    let mut world = World::new("m5.large", warm_addresses(2, 0));
    world.run_seconds(30);
    world.add("a");
    world.run_seconds(5);
    assert_eq!(world.shape(), (1, 3));
    world.del("a");
    let (b, c, d) = (world.add("b"), world.add("c"), world.add("d"));
    world.run_seconds(2);
    for request in [b, c, d] {
        assert!(matches!(world.answer(request), Some(Ok(_))), "growth, not the cooldown, serves it");
    }
}

#[test]
fn a_surplus_goes_after_it_has_stood_and_only_down_to_the_targets() {
    let mut world = World::new("m5.large", warm_addresses(2, 3));
    for pod in 0..20 {
        world.add(&format!("pod-{pod}"));
    }
    world.run_seconds(40);
    assert_eq!(world.shape(), (3, 22));
    for pod in 5..20 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(50);
    assert_eq!(world.count("unassign") + world.count("detach"), 0, "30 s of cooldown and 30 s of standing");
    world.run_seconds(120);
    assert_eq!(world.shape(), (1, 7), "5 pods and 2 free ones, packed on the primary ENI");
    assert_eq!(world.enis.len(), 1, "the others are deleted, not only detached");
    assert_eq!((world.count("detach"), world.count("delete")), (2, 2));
}

#[test]
fn with_an_eni_target_whole_enis_go_and_the_warm_one_stays() {
    let mut world = World::new("m4.4xlarge", warm_enis(1));
    world.start_pods(232, 20);
    for pod in 0..232 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(90);
    assert_eq!(world.shape(), (1, 29));
    assert_eq!(world.enis.len(), 1);
    assert_eq!(world.count("unassign"), 0);
}

#[test]
fn pods_are_packed_so_that_enis_come_free() {
    let mut world = World::new("m5.large", warm_addresses(0, 27));
    world.run_seconds(30);
    assert_eq!(world.shape(), (3, 27));
    for pod in 0..9 {
        world.add(&format!("pod-{pod}"));
    }
    let by_eni: Vec<u32> = world.snapshot().enis.iter().map(|eni| eni.allocated).collect();
    assert_eq!(by_eni, [9, 0, 0]);
}

#[test]
fn demand_takes_back_what_was_picked_to_go() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.start_pods(9, 10);
    for pod in 0..8 {
        world.del(&format!("pod-{pod}"));
    }
    // Until the surplus has stood and its witnesses are asked.
    for _ in 0..1_000 {
        world.run(std::time::Duration::from_millis(100));
        if world.snapshot().pool.leaving > 0 || world.snapshot().enis.iter().any(|eni| eni.state == "Draining") {
            break;
        }
    }
    assert!(world.snapshot().pool.leaving > 0 || world.snapshot().enis.iter().any(|eni| eni.state == "Draining"));
    let again: Vec<_> = (20..28).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    assert!(again.iter().all(|request| matches!(world.answer(*request), Some(Ok(_)))), "at once, without EC2");
    assert_eq!(world.count("unassign") + world.count("detach"), 0);
}

#[test]
fn max_eni_and_enis_of_others_take_slots() {
    let config = Config { max_enis: Some(3), ..warm_addresses(25, 0) };
    let mut world = World::unborn("m5.xlarge", config);
    world.attach_stranger("eni-efa", 1, |view| view.interface_type = "efa-only".into());
    let facts = world.facts.clone();
    world.feed(crate::Event::FactsLearned(facts));
    world.run_seconds(60);
    let (enis, addresses) = world.shape();
    assert_eq!((enis, addresses), (3, 25), "primary, one of ours, the stranger's");
    let snapshot = world.snapshot();
    assert_eq!(snapshot.other_enis.len(), 1);
    assert_eq!(snapshot.enis.iter().map(|eni| eni.device_index).collect::<Vec<_>>(), [DeviceIndex(0), DeviceIndex(2)]);
    world.add("a");
    world.run_seconds(60);
    assert_eq!(world.shape().0, 3);
}

#[test]
fn untagged_enis_are_used_but_never_detached_or_left_alone() {
    for (untagged_enis, used) in [(UntaggedEnis::Used, 1), (UntaggedEnis::LeftAlone, 0)] {
        let mut world = World::unborn("m5.large", Config { untagged_enis, ..warm_addresses(1, 0) });
        let address = world.subnet_free.pop_first().expect("one");
        world.attach_stranger("eni-user", 1, |view| view.secondary_addresses = vec![address]);
        let facts = world.facts.clone();
        world.feed(crate::Event::FactsLearned(facts));
        world.run_seconds(600);
        let ours = world.snapshot().enis.iter().filter(|eni| eni.device_index == DeviceIndex(1)).count();
        assert_eq!(ours, used);
        assert_eq!(world.count("detach") + world.count("delete"), 0);
        assert!(world.enis[&crate::ids::EniId::from("eni-user")].view.attachment.is_some());
    }
}

#[test]
fn an_exhausted_subnet_gives_what_it_has_left_and_is_then_left_alone() {
    let mut world = World::new("m5.large", warm_addresses(6, 0));
    world.subnet_free = world.subnet_free.iter().copied().take(4).collect();
    world.run_seconds(20);
    assert_eq!(world.shape(), (1, 4), "the four that were left");
    let assigns = world.count("assign");
    let requests: Vec<_> =
        (0..5).map(|pod| world.add_with(&format!("pod-{pod}"), std::time::Duration::from_secs(8))).collect();
    assert!(requests[..4].iter().all(|request| matches!(world.answer(*request), Some(Ok(_)))));
    assert_eq!(world.answer(requests[4]), Some(Err(crate::reason::ReasonCode::SubnetExhausted)), "at once");
    world.run_seconds(600);
    assert!(world.count("assign") - assigns <= 14, "{} calls in ten minutes", world.count("assign") - assigns);
    world.subnet_free.extend((20_000..20_100).map(|host| std::net::Ipv4Addr::from(0x0a00_0000 + host)));
    world.run_seconds(1_800);
    assert_eq!(world.shape(), (2, 10), "4 pods and 6 free ones");
}

#[test]
fn a_wrong_limit_of_ours_is_learned_from_ec2() {
    let mut world = World::new("m5.large", warm_addresses(12, 0));
    world.per_eni = 5;
    world.run_seconds(60);
    assert!(world.noticed("taken for its limit"));
    world.per_eni = 9;
    let mut fewer = World::new("m5.large", warm_addresses(20, 0));
    fewer.max_enis = 2;
    fewer.run_seconds(60);
    assert_eq!(fewer.shape(), (2, 18));
    assert!(fewer.noticed("takes no more ENIs"));
    fewer.run_seconds(60);
    assert_eq!(fewer.enis.len(), 2, "the ENI that could not be attached is deleted");
}

/// An ENI that was never attached frees no slot when it goes: nobody waits for one.
#[test]
fn enis_made_together_in_vain_are_not_attached_again_and_again_while_one_of_them_waits_to_be_deleted() {
    let mut world = World::new("m5.large", warm_addresses(27, 0));
    world.max_enis = 1;
    world.run_seconds(50);
    assert_eq!((world.count("create"), world.count("attach")), (2, 2));
    world.run_seconds(80);
    assert_eq!(world.enis.len(), 1);
}

#[test]
fn a_lost_answer_to_assign_is_looked_up_and_not_repeated() {
    let mut world = World::new("m5.large", warm_addresses(4, 0));
    world.fault("assign", Fault::After);
    world.run_seconds(20);
    assert_eq!(world.shape(), (1, 4));
    assert_eq!(world.count("assign"), 1);
    world.fault("assign", Fault::Before(FailureClass::Unknown));
    world.add("a");
    world.run_seconds(20);
    assert_eq!(world.shape(), (1, 5));
}
