// SPDX-License-Identifier: Apache-2.0
//! Groups, tags, odd ENIs, unknown types, and ENIs that were left behind.

use std::time::Duration;

use super::world::{Fault, World, tags, warm_addresses, warm_enis};
use crate::config::Config;
use crate::event::{EniView, Event, Failure, FailureClass, InstanceFacts};
use crate::ids::{DeviceIndex, EniId, RouteTable};

const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
const INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";

fn born(mut world: World) -> World {
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world
}

fn blue(config: Config) -> Config {
    Config { cluster_name: Some("blue".into()), ..config }
}

#[test]
fn a_change_of_the_primary_s_groups_reaches_every_other_eni_once() {
    let mut world = World::new("m5.xlarge", warm_addresses(30, 0));
    world.run_seconds(60);
    assert_eq!((world.shape().0, world.count("groups")), (3, 0), "made with the right ones");
    let facts = InstanceFacts { security_group_ids: vec!["sg-2".into(), "sg-3".into()], ..world.facts.clone() };
    world.facts = facts.clone();
    world.feed(Event::FactsLearned(facts.clone()));
    world.feed(Event::FactsLearned(facts.clone()));
    world.run_seconds(3 * 3_600);
    assert_eq!(world.count("groups"), 2);
    let of = |id: &str| world.enis[&EniId::from(id)].view.security_group_ids.clone();
    assert_eq!((of("eni-1"), of("eni-2")), (facts.security_group_ids.clone(), facts.security_group_ids.clone()));
    // Somebody's own choice stands until the primary ENI's groups change again.
    world.enis.get_mut(&"eni-1".into()).expect("there").view.security_group_ids = vec!["sg-9".into()];
    world.run_seconds(3 * 3_600);
    assert_eq!(world.count("groups"), 2);
}

#[test]
fn a_group_change_that_ec2_denies_is_tried_seldom() {
    let mut world = World::new("m5.large", warm_addresses(12, 0));
    world.run_seconds(60);
    for _ in 0..100 {
        world.fault("groups", Fault::Before(FailureClass::Denied));
    }
    let facts = InstanceFacts { security_group_ids: vec!["sg-2".into()], ..world.facts.clone() };
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(3_600);
    assert!((2..=7).contains(&world.count("groups")), "{} calls", world.count("groups"));
}

#[test]
fn enis_in_service_get_the_tags_they_lack_and_nobody_else_s_do() {
    let mut world = World::unborn("m5.xlarge", blue(warm_enis(0)));
    world.attach_stranger("eni-user", 1, |view| view.tags = tags(&[("team", "a"), (CLUSTER, "red")]));
    world.attach_stranger("eni-off", 2, |view| view.tags = tags(&[("node.k8s.amazonaws.com/no_manage", "true")]));
    let mut world = born(world);
    world.run_seconds(3 * 3_600);
    let of = |id: &str| {
        let mut tags = world.enis[&EniId::from(id)].view.tags.clone();
        tags.sort();
        tags
    };
    let owner = ("eks:eni:owner", "amazon-vpc-cni");
    assert_eq!(of("eni-0"), tags(&[(CLUSTER, "blue"), owner, (INSTANCE, "i-1")]));
    assert_eq!(of("eni-user"), tags(&[(CLUSTER, "blue"), owner, ("team", "a")]));
    assert_eq!(of("eni-off"), tags(&[("node.k8s.amazonaws.com/no_manage", "true")]));
    assert_eq!(world.count("tag"), 2, "one call each, and none once they have them");
}

#[test]
fn efa_trunk_and_other_card_enis_take_their_slots_and_stay_as_they_are() {
    let mut world = World::unborn("m5.4xlarge", Config { keeps_trunk_slot: true, ..warm_addresses(200, 0) });
    world.attach_stranger("eni-efa", 1, |view| {
        view.interface_type = "efa".into();
        view.tags = tags(&[(INSTANCE, "i-1"), ("node.k8s.amazonaws.com/createdAt", "2025-01-01T00:00:00Z")]);
    });
    world.attach_stranger("eni-efa-only", 2, |view| view.interface_type = "efa-only".into());
    world.attach_stranger("eni-card", 30, |view| {
        if let Some(attachment) = &mut view.attachment {
            attachment.network_card = 1;
        }
    });
    let mut world = born(world);
    world.run_seconds(120);
    // Eight slots: primary, EFA, EFA-only, one kept for a trunk; the one of card 1 takes none of card 0.
    let snapshot = world.snapshot();
    assert_eq!(snapshot.enis.len(), 6, "{:?}", snapshot.enis);
    assert_eq!(snapshot.other_enis.len(), 2);
    world.attach_stranger("eni-trunk", 9, |view| view.interface_type = "trunk".into());
    world.run_seconds(3 * 3_600);
    assert_eq!(world.snapshot().enis.len(), 6, "the trunk took the slot that was kept for it");
    world.config.warm = crate::config::WarmTargets::Addresses { warm: 1, minimum: 0 };
    world.restart(|_| true);
    world.run_seconds(3 * 3_600);
    for id in ["eni-efa", "eni-efa-only", "eni-card", "eni-trunk"] {
        assert!(world.enis[&EniId::from(id)].view.attachment.is_some(), "{id}");
    }
    assert!(
        world.snapshot().enis.iter().all(|eni| !eni.created),
        "what was made has gone: {:?}",
        world.snapshot().enis
    );
}

#[test]
fn an_eni_of_ours_that_somebody_moved_to_another_card_has_that_card_s_table_also_after_a_restart() {
    let mut world = born(World::unborn("m5.4xlarge", warm_addresses(40, 0)));
    world.run_seconds(120);
    let of = |world: &World, id: &EniId| {
        let snapshot = world.snapshot();
        let eni = snapshot.enis.iter().find(|eni| eni.eni_id.as_ref() == Some(id)).expect("it serves").clone();
        (eni.device_index, eni.table, eni.state)
    };
    let id =
        world.snapshot().enis.iter().find(|eni| eni.device_index == DeviceIndex(1)).and_then(|eni| eni.eni_id.clone());
    let id = id.expect("a secondary ENI");
    assert_eq!(of(&world, &id).1, RouteTable(2));
    let attachment = world.enis.get_mut(&id).and_then(|eni| eni.view.attachment.as_mut()).expect("attached");
    attachment.network_card = 2;
    world.run_seconds(2 * 3_600);
    assert_eq!(of(&world, &id), (DeviceIndex(1), RouteTable(10_201), "Ready".to_owned()));
    world.restart(|_| true);
    world.run_seconds(1);
    assert_eq!(of(&world, &id).1, RouteTable(10_201));
}

fn unknown_type(per_eni: usize, max_enis: usize) -> World {
    let mut world = World::unborn("m5.large", warm_addresses(2, 0));
    world.facts.instance_type = "z99.large".into();
    (world.per_eni, world.max_enis) = (per_eni, max_enis);
    let mut world = born(world);
    let message = "not authorized to perform ec2:DescribeInstanceTypes".to_owned();
    let failure =
        Failure { class: FailureClass::Denied, code: "UnauthorizedOperation".into(), message, retry_after: None };
    world.feed(Event::LimitsUnavailable(failure));
    world
}

#[test]
fn an_instance_type_that_nobody_knows_gets_pods_and_its_limits_are_found_out() {
    let mut world = unknown_type(9, 2);
    world.start_pods(9, 19);
    let more: Vec<_> = (9..25).map(|pod| world.add(&format!("pod-{pod}"))).collect();
    world.run_seconds(600);
    let served = more.iter().filter(|request| matches!(world.answer(**request), Some(Ok(_)))).count();
    let held = world.shape();
    assert_eq!(held, (2, 18), "{served} served");
    let calls = world.count("assign") + world.count("create");
    world.restart(|_| true);
    world.run_seconds(600);
    assert!(world.count("assign") + world.count("create") <= calls + 1, "what was learned was forgotten");
    assert_eq!(world.snapshot().pool.addresses_per_eni, Some(9));
}

#[test]
fn limits_that_ec2_told_once_serve_after_a_restart_without_ec2() {
    let mut world = World::unborn("m5.large", warm_addresses(2, 0));
    world.facts.instance_type = "z99.large".into();
    let mut world = born(world);
    let limits = instance_limits::lookup("m5.large").expect("a known type").clone();
    world.feed(Event::LimitsLearned(limits));
    world.run_seconds(20);
    world.restart(|_| true);
    assert_eq!(world.snapshot().pool.addresses_per_eni, Some(9));
    world.start_pods(5, 19);
}

/// An unattached ENI that a node made.
fn leave(world: &mut World, id: &str, index: u32, change: impl FnOnce(&mut EniView)) {
    world.attach_stranger(id, index, |view| {
        view.attachment = None;
        view.description = "aws-K8S-i-2".into();
        view.tags = tags(&[(INSTANCE, "i-2"), (CLUSTER, "blue")]);
        change(view);
    });
}

#[test]
fn leaked_enis_of_the_cluster_go_after_a_second_look_and_foreign_ones_stay() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    leave(&mut world, "eni-leaked", 50, |_| {});
    leave(&mut world, "eni-red", 51, |view| view.tags = tags(&[(INSTANCE, "i-2"), (CLUSTER, "red")]));
    leave(&mut world, "eni-user", 52, |view| view.description = "mine".into());
    leave(&mut world, "eni-off", 53, |view| {
        view.tags.extend(tags(&[("node.k8s.amazonaws.com/no_manage", "true")]));
    });
    let mut world = born(world);
    world.run_seconds(35 * 60);
    let marked = world.enis.get(&EniId::from("eni-leaked")).is_none_or(|eni| eni.view.tags.len() == 3);
    assert!(marked, "seen once: marked, or gone after a second look");
    world.run_seconds(10 * 60);
    assert!(!world.enis.contains_key(&EniId::from("eni-leaked")));
    for id in ["eni-red", "eni-user", "eni-off"] {
        assert!(world.enis.contains_key(&EniId::from(id)), "{id}");
    }
    assert_eq!((world.count("leaked"), world.count("delete")), (2, 1));
}

#[test]
fn an_eni_that_is_attached_between_the_looks_is_not_deleted() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    leave(&mut world, "eni-slow", 50, |_| {});
    let mut world = born(world);
    let marked = |world: &World| {
        let tags = &world.enis[&EniId::from("eni-slow")].view.tags;
        tags.iter().any(|(key, _)| key == "enid.dev/leaked-seen-by")
    };
    for _ in 0..40 * 60 {
        world.run_seconds(1);
        if marked(&world) {
            break;
        }
    }
    assert!(marked(&world));
    let slow = world.enis.get_mut(&EniId::from("eni-slow")).expect("there");
    slow.view.status = "in-use".into();
    world.run_seconds(3_600);
    assert!(world.enis.contains_key(&EniId::from("eni-slow")));
    assert_eq!(world.count("delete"), 0);
}

/// Found by simulation (seed 3,153): somebody detached an ENI from a living node, whose pods on it lived on; another node took
/// it for leaked and deleted it under them.
#[test]
fn what_a_living_node_has_lost_is_left_to_that_node() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    leave(&mut world, "eni-lost", 50, |_| {});
    world.living.insert("i-2".into());
    let mut world = born(world);
    world.run_seconds(48 * 3_600);
    assert!(world.count("leaked") >= 2);
    assert_eq!((world.count("tag"), world.count("delete")), (1, 0), "the primary ENI's own tags, and nothing else");
    world.living.clear();
    world.run_seconds(48 * 3_600);
    assert!(!world.enis.contains_key(&EniId::from("eni-lost")));
}

#[test]
fn at_most_ten_go_in_one_sweep_and_an_idle_day_costs_few_looks() {
    let mut world = World::unborn("m5.large", blue(warm_enis(0)));
    for number in 0..25 {
        leave(&mut world, &format!("eni-leaked-{number}"), 60 + number, |_| {});
    }
    let mut world = born(world);
    world.run_seconds(3_600);
    assert_eq!(world.count("delete"), 10);
    world.run_seconds(71 * 3_600);
    assert_eq!(world.count("delete"), 25);
    let looks = world.count("leaked");
    world.run_seconds(24 * 3_600);
    assert!(world.count("leaked") - looks <= 2, "{} looks a day", world.count("leaked") - looks);
}

#[test]
fn without_a_cluster_name_only_what_this_instance_left_goes() {
    let mut world = World::unborn("m5.large", warm_enis(0));
    leave(&mut world, "eni-other", 50, |_| {});
    leave(&mut world, "eni-own", 51, |view| view.tags = tags(&[(INSTANCE, "i-1")]));
    let mut world = born(world);
    world.run_seconds(45 * 60);
    assert!(world.enis.contains_key(&EniId::from("eni-other")));
    assert!(!world.enis.contains_key(&EniId::from("eni-own")));
}

#[test]
fn an_eni_that_ec2_wrongly_called_gone_is_found_and_deleted_all_the_same() {
    let mut world = World::new("m5.large", Config { cooldown: Duration::ZERO, ..warm_addresses(0, 0) });
    world.start_pods(12, 15);
    world.fault("delete", Fault::Before(FailureClass::NotFound));
    for pod in 0..12 {
        world.del(&format!("pod-{pod}"));
    }
    world.run_seconds(300);
    let unattached = |world: &World| world.enis.values().filter(|eni| eni.view.attachment.is_none()).count();
    assert_eq!((world.snapshot().enis.len(), unattached(&world)), (1, 1), "forgotten, and still there");
    world.run_seconds(40 * 3_600);
    assert_eq!(unattached(&world), 0);
}

#[test]
fn the_sweep_can_be_turned_off() {
    let mut world = World::unborn("m5.large", Config { leaked_eni_age: None, ..blue(warm_enis(0)) });
    leave(&mut world, "eni-leaked", 50, |_| {});
    let mut world = born(world);
    world.run_seconds(24 * 3_600);
    assert_eq!(world.count("leaked"), 0);
    assert!(world.enis.contains_key(&EniId::from("eni-leaked")));
}
