// SPDX-License-Identifier: Apache-2.0
//! Prefix mode: steady state, growth, fragmentation and the way back, another mode's leavings, restarts.

use std::time::Duration;

use super::world::{Fault, World, warm_addresses, warm_enis, warm_prefixes};
use crate::action::{ActionKind, Fill};
use crate::config::{AddressMode, Config, Layout};
use crate::event::FailureClass;
use crate::ids::RequestId;

fn flat(config: Config) -> Config {
    Config { layout: Layout::Flat, ..config }
}

/// That no address is given out before is the world's own check, in every test.
#[test]
fn in_layout_flat_a_new_prefix_gets_its_rule_within_milliseconds_and_a_prefix_given_back_loses_it() {
    let mut world = World::new("m5.large", flat(targets(0, 0)));
    // The primary ENI takes nine prefixes, 144 pods; the others come on the second one.
    let requests = add_all(&mut world, 0..150);
    world.run_seconds(10);
    world.assert_served(&requests);
    let later = add_all(&mut world, 150..170);
    world.run_seconds(2);
    world.assert_served(&later);
    let second = world.enis.values().find(|eni| eni.view.eni_id != world.facts.primary_eni_id).unwrap().view.clone();
    let held = |world: &World| world.steered[&second.eni_id].len();
    assert_eq!((second.prefixes.len(), held(&world)), (2, 2));
    for pod in 160..170 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(300);
    assert_eq!((world.enis[&second.eni_id].view.prefixes.len(), held(&world)), (1, 1));
    assert!(world.count("configure") <= 6, "{} set-ups", world.count("configure"));
}

#[test]
fn a_pod_waits_for_the_rule_of_its_prefix_while_the_kernel_refuses_it() {
    let mut world = World::new("m5.large", flat(targets(0, 0)));
    let requests = add_all(&mut world, 0..150);
    world.run_seconds(10);
    world.assert_served(&requests);
    world.fault("configure", Fault::Before(FailureClass::Kernel));
    let later = add_all(&mut world, 150..170);
    world.run_seconds(8);
    world.assert_served(&later);
}

/// An address target in prefix mode.
fn targets(warm: u32, minimum: u32) -> Config {
    Config { address_mode: AddressMode::Prefixes { warm_prefixes: Some(1) }, ..warm_addresses(warm, minimum) }
}

fn add_all(world: &mut World, pods: std::ops::Range<u32>) -> Vec<RequestId> {
    pods.map(|pod| world.add(&format!("pod-{pod}"))).collect()
}

/// Starts `pods` one after the other and lets the pool settle: prefixes held.
fn settled(instance_type: &str, config: Config, pods: u32) -> usize {
    let mut world = World::new(instance_type, config);
    world.run_seconds(60);
    for pod in 0..pods {
        let request = world.add(&format!("pod-{pod}"));
        world.run_seconds(2);
        world.assert_served(&[request]);
    }
    world.run_seconds(300);
    let (prefixes, singles) = world.slots();
    assert_eq!(singles, 0);
    prefixes
}

/// Rows of amazon-vpc-cni-k8s docs/prefix-and-ip-target.md: pods -> prefixes. Its 1 for W = 7, M = 20 without pods is a
/// slip: 20 addresses take two.
#[test]
fn the_steady_state_is_that_of_the_reference_s_worked_values() {
    let rows = [
        ("t3.small", warm_prefixes(1), [(0, 1), (5, 2), (16, 2), (17, 3), (58, 5)].as_slice()),
        ("t3.small", targets(1, 1), &[(0, 1), (5, 1), (17, 2), (58, 4)]),
        ("t3.small", targets(7, 20), &[(0, 2), (5, 2), (17, 2), (58, 5)]),
        ("p3dn.24xlarge", targets(5, 10), &[(0, 1), (7, 1), (15, 2), (45, 4)]),
    ];
    for (instance_type, config, rows) in rows {
        for (pods, prefixes) in rows {
            let got = settled(instance_type, config.clone(), *pods);
            assert_eq!(got, *prefixes, "{instance_type}, {:?} with {pods} pods", config.warm);
        }
    }
}

#[test]
fn a_burst_is_met_by_all_its_enis_at_once_with_a_call_for_many_pods() {
    let mut world = World::new("m5.xlarge", warm_prefixes(1));
    world.run_seconds(30);
    assert_eq!(world.slots(), (1, 0));
    let requests = add_all(&mut world, 0..500);
    world.run_seconds(10);
    world.assert_served(&requests);
    assert_eq!(world.slots(), (33, 0), "500 pods and 16 warm ones");
    assert_eq!((world.count("create"), world.count("assign")), (2, 2), "at once, filled in the create call");
}

#[test]
fn pods_fill_prefixes_one_by_one_and_empty_ones_go_as_a_whole() {
    let mut world = World::new("m5.large", targets(0, 0));
    let requests = add_all(&mut world, 0..40);
    world.run_seconds(10);
    world.assert_served(&requests);
    assert_eq!(world.slots(), (3, 0));
    // The first prefix keeps one pod, the second all but one, the third none.
    for pod in (1..16).chain(16..17).chain(32..40) {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(50);
    assert_eq!(world.slots(), (3, 0), "30 s of cooldown and 30 s of standing");
    world.run_seconds(60);
    assert_eq!(world.slots(), (2, 0));
    let next = world.add("next");
    let first = world.answer(requests[0]).expect("answered").expect("served");
    let address = world.answer(next).expect("at once").expect("served");
    assert_ne!(crate::store::prefix_of(address), crate::store::prefix_of(first), "the fullest one, not the lowest");
}

#[test]
fn without_a_free_block_the_same_add_gets_a_single_address_in_the_same_step() {
    for class in [FailureClass::PrefixesExhausted, FailureClass::Rejected] {
        let mut world = World::new("m5.large", targets(0, 0));
        world.run_seconds(5);
        world.fault("assign", Fault::Before(class));
        let request = world.add("a");
        world.run(Duration::from_millis(330));
        assert_eq!(world.count("assign"), 2, "refused, and asked again at once");
        let second = world.pending.iter().map(|(_, action)| &action.kind);
        let fills: Vec<Fill> = second
            .filter_map(|kind| match kind {
                ActionKind::Assign { fill, .. } => Some(*fill),
                _ => None,
            })
            .collect();
        assert_eq!(fills, [Fill::Addresses(1)]);
        world.run(Duration::from_millis(310));
        assert!(matches!(world.answer(request), Some(Ok(_))), "two calls");
    }
}

#[test]
fn on_a_fragmented_subnet_every_pod_starts_and_the_node_finds_its_way_back() {
    let mut world = World::new("m5.xlarge", warm_prefixes(1));
    world.fragment_subnet();
    let requests = add_all(&mut world, 0..30);
    world.run_seconds(10);
    world.assert_served(&requests);
    let (prefixes, singles) = world.slots();
    assert_eq!((prefixes, world.shape().0), (0, 4), "46 addresses on 4 ENIs of 14");
    assert!(singles >= 30);
    let refusals = world.snapshot().prefix_refusals;
    assert_eq!((refusals.len(), refusals[0].refusals), (1, 1));
    let before = world.count("assign") + world.count("create");
    world.run_seconds(3_600);
    let probes = world.count("assign") + world.count("create") - before;
    assert!(probes <= 12, "{probes} calls in an hour: one probe in ten minutes, and what it changes");

    // One block comes free: the next probe gets it.
    world.mend_subnet(1);
    world.run_seconds(800);
    assert_eq!(world.slots().0, 1, "{:?}", world.slots());
    world.mend_subnet(usize::MAX);
    for pod in 0..30 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(1_800);
    assert_eq!(world.slots(), (1, 0), "single addresses are given back first");
    let served = world.add("after");
    assert!(matches!(world.answer(served), Some(Ok(_))));
}

#[test]
fn a_subnet_with_fewer_blocks_than_asked_for_gives_them_one_by_one() {
    let mut world = World::new("m5.large", targets(0, 0));
    world.fragment_subnet();
    world.mend_subnet(2);
    let requests = add_all(&mut world, 0..40);
    world.run_seconds(10);
    world.assert_served(&requests);
    assert_eq!(world.slots(), (2, 8), "both blocks, and single addresses for the rest");
}

#[test]
fn a_node_whose_slots_are_full_of_single_addresses_makes_room_for_a_prefix() {
    let mut world = World::new("t3.small", targets(4, 0));
    world.fragment_subnet();
    let requests = add_all(&mut world, 0..5);
    world.run_seconds(10);
    world.assert_served(&requests);
    assert_eq!(world.slots(), (0, 9), "9 slots: 5 pods and 4 warm ones");
    world.mend_subnet(usize::MAX);
    world.run_seconds(1_200);
    assert_eq!(world.slots(), (1, 5), "the pods keep their addresses");
}

#[test]
fn switching_the_mode_keeps_pods_and_gives_back_free_addresses_of_the_other_kind() {
    let mut world = World::new("m5.large", warm_addresses(4, 0));
    let first = add_all(&mut world, 0..5);
    world.run_seconds(30);
    assert_eq!(world.slots(), (0, 9));
    world.reconfigure(warm_prefixes(1));
    world.run_seconds(200);
    assert_eq!(world.slots(), (1, 5));
    world.assert_served(&first);
    let second = add_all(&mut world, 10..13);
    world.run_seconds(200);
    world.assert_served(&second);
    assert_eq!(world.slots(), (2, 5), "new pods are in prefixes");

    world.reconfigure(warm_addresses(4, 0));
    world.run_seconds(200);
    assert_eq!(world.slots(), (1, 9), "one prefix has pods, the other went");
    for pod in 10..13 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(200);
    assert_eq!(world.slots(), (0, 9));
}

#[test]
fn free_addresses_of_the_other_kind_serve_who_would_wait() {
    let mut world = World::new("m5.large", warm_addresses(9, 0));
    world.run_seconds(30);
    world.reconfigure(warm_prefixes(1));
    world.fault("assign", Fault::Before(FailureClass::Throttled));
    let request = world.add("a");
    world.run(Duration::from_millis(320));
    assert!(matches!(world.answer(request), Some(Ok(_))), "as soon as the ENI is proven, without EC2");
}

#[test]
fn a_type_without_prefixes_gets_single_addresses_and_says_so() {
    let config = Config { address_mode: AddressMode::Prefixes { warm_prefixes: Some(1) }, ..warm_enis(1) };
    let mut world = World::new("m4.large", config);
    world.run_seconds(60);
    assert!(world.noticed("takes no prefixes"));
    assert_eq!(world.slots(), (0, 9));
}

#[test]
fn a_lost_answer_to_an_assign_of_prefixes_is_looked_up_and_not_repeated() {
    let mut world = World::new("m5.large", warm_prefixes(2));
    world.fault("assign", Fault::After);
    world.run_seconds(20);
    assert_eq!((world.slots(), world.count("assign")), ((2, 0), 1));
}

#[test]
fn a_restart_keeps_prefixes_pods_and_cooldowns_before_ec2_is_read() {
    let mut world = World::new("m5.large", warm_prefixes(1));
    let requests = add_all(&mut world, 0..20);
    world.run_seconds(20);
    world.assert_served(&requests);
    world.del("pod-3");
    let before = world.snapshot();
    world.restart(|_| false);
    let after = world.snapshot();
    assert_eq!(before.addresses, after.addresses);
    let own = String::from_utf8(world.disk.as_ref().expect("written").own_json.clone()).expect("text");
    assert_eq!(own.matches("\"prefix\":").count(), 3);
    assert!(own.len() < 6_000, "{} bytes for 48 addresses: free ones that were never used take no room", own.len());
}

#[test]
fn a_prefix_that_ec2_takes_away_keeps_its_pods_and_gives_out_nothing_more() {
    let mut world = World::new("m5.large", targets(0, 0));
    let request = world.add("a");
    world.run_seconds(10);
    let address = world.answer(request).expect("answered").expect("served");
    let eni = world.facts.primary_eni_id.clone();
    world.enis.get_mut(&eni).expect("attached").view.prefixes.clear();
    world.run_seconds(2 * 3_600);
    assert!(world.noticed("but it is in use: kept"));
    let known: Vec<_> = world.snapshot().addresses.into_iter().map(|entry| entry.address).collect();
    assert_eq!(known, [address]);
    world.restart(|_| false);
    let known: Vec<_> = world.snapshot().addresses.into_iter().map(|entry| entry.address).collect();
    assert_eq!(known, [address], "nor after a restart");
}

#[test]
fn a_full_node_refuses_with_the_numbers_of_prefixes() {
    let mut world = World::new("t3.small", targets(0, 0));
    let requests = add_all(&mut world, 0..144);
    world.run_seconds(15);
    world.assert_served(&requests);
    let refused = world.add("one-more");
    assert_eq!(world.answer(refused), Some(Err(crate::reason::ReasonCode::NodeFull)));
    world.last_refusal_says("144 of 144 addresses in use, 0 cooling, 3 of 3 ENIs of 3 prefixes");
}
