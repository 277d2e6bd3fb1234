// SPDX-License-Identifier: Apache-2.0
//! Custom networking: where ENIs are made, with which groups, and what is said when they cannot be.
//!
//! The world checks with every call that no ENI is made outside the subnets that the ENIConfig names, and that the primary ENI is
//! asked for nothing.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::world::{Fault, World, warm_addresses};
use crate::action::ActionKind;
use crate::config::{Config, SubnetChoice};
use crate::event::{Event, FailureClass, SubnetView};
use crate::ids::SecurityGroupId;
use crate::pod_network::{EniConfigName, NameSource, PodNetwork, PodNetworkPolicy, PodSubnet, PodSubnetRef};
use crate::reason::ReasonCode;

mod calls;

fn name() -> EniConfigName {
    EniConfigName { name: "us-east-1a".to_owned(), source: NameSource::Label("topology/zone".to_owned()) }
}

fn entry(which: PodSubnetRef, order: u32, weight: u32) -> PodSubnet {
    PodSubnet { which, order, weight: NonZeroU32::new(weight).expect("a weight") }
}

/// Subnets by id, with order and weight; no groups of its own.
pub(super) fn policy(subnets: &[(&str, u32, u32)]) -> PodNetwork {
    let subnets = subnets.iter().map(|(id, order, weight)| entry(PodSubnetRef::Id((*id).into()), *order, *weight));
    let (eni_config, security_group_ids) = (name(), Vec::new());
    PodNetwork::Policy(PodNetworkPolicy { eni_config, security_group_ids, subnets: subnets.collect() })
}

pub(super) fn gone(cause: &str) -> PodNetwork {
    PodNetwork::Missing { eni_config: name(), cause: format!("is {cause}") }
}

fn with_groups(said: PodNetwork, groups: &[&str]) -> PodNetwork {
    match said {
        PodNetwork::Policy(policy) => {
            let security_group_ids = groups.iter().map(|id| SecurityGroupId::from(*id)).collect();
            PodNetwork::Policy(PodNetworkPolicy { security_group_ids, ..policy })
        }
        PodNetwork::Missing { .. } => said,
    }
}

fn custom(config: Config) -> Config {
    Config { subnets: SubnetChoice::EniConfig, ..config }
}

/// A node whose zone has three subnets for pods; nothing is said of its ENIConfig yet.
fn zone(instance_type: &str, config: Config) -> World {
    let mut world = World::unborn(instance_type, custom(config));
    world.add_subnet("subnet-2", 200, 100, &[("pods", "yes"), ("Name", "two")]);
    world.add_subnet("subnet-3", 201, 200, &[("pods", "yes")]);
    world.add_subnet("subnet-4", 202, 200, &[]);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world
}

fn groups_of_secondaries(world: &World) -> Vec<Vec<String>> {
    let secondary = world.enis.values().filter(|eni| eni.view.eni_id != world.facts.primary_eni_id);
    secondary.map(|eni| eni.view.security_group_ids.iter().map(ToString::to_string).collect()).collect()
}

#[test]
fn pods_get_addresses_of_the_eniconfig_s_subnet_on_enis_with_its_groups() {
    let mut world = zone("m5.large", warm_addresses(2, 0));
    world.say(with_groups(policy(&[("subnet-4", 0, 1)]), &["sg-pods"]));
    world.start_pods(12, 20);
    assert_eq!(world.subnets_in_use(), ["subnet-4", "subnet-4"]);
    assert_eq!(groups_of_secondaries(&world), [["sg-pods"], ["sg-pods"]]);
    let primary = &world.enis[&world.facts.primary_eni_id].view;
    assert!(primary.secondary_addresses.is_empty());
    assert!(world.pods.values().all(|address| address.octets()[2] == 202), "{:?}", world.pods);
    // Two ENIs of nine addresses are all: the primary one is no capacity.
    let more: Vec<_> = (0..7).map(|pod| world.add(&format!("more-{pod}"))).collect();
    world.run_seconds(20);
    let refused = more.iter().filter(|request| world.answer(**request) == Some(Err(ReasonCode::NodeFull))).count();
    assert_eq!(refused, 1);
}

#[test]
fn of_three_subnets_with_the_first_one_full_the_next_is_used_in_the_same_growth_step() {
    for known in [true, false] {
        let mut world = zone("m5.large", warm_addresses(0, 0));
        let empty = |world: &mut World| world.siblings.get_mut(&"subnet-2".into()).expect("there").free.clear();
        if known {
            empty(&mut world);
        }
        world.say(policy(&[("subnet-2", 0, 1), ("subnet-3", 1, 1), ("subnet-4", 2, 1)]));
        world.run_seconds(5);
        // Filled up behind our back since it was described.
        empty(&mut world);
        let began = world.now.boot;
        let pod = world.add("pod");
        world.run_seconds(6);
        world.assert_served(&[pod]);
        assert_eq!(world.subnets_in_use(), ["subnet-3"]);
        assert!(world.answered_at[&pod].since(began) < Duration::from_secs(3), "known {known}");
        assert_eq!(world.count("create"), if known { 1 } else { 2 });
    }
}

#[test]
fn enis_of_one_order_are_shared_by_weight() {
    let mut world = zone("m5.4xlarge", warm_addresses(180, 0));
    world.say(policy(&[("subnet-3", 0, 3), ("subnet-4", 0, 1), ("subnet-2", 1, 1)]));
    world.run_seconds(60);
    let made = world.subnets_in_use();
    assert_eq!(made.len(), 7, "{made:?}");
    let in_four = made.iter().filter(|subnet| *subnet == "subnet-4").count();
    assert_eq!(in_four, 2, "a quarter of seven, within one: {made:?}");
    assert!(!made.contains(&"subnet-2".to_owned()), "both of the first order have room");
}

#[test]
fn a_refused_read_is_a_word_where_there_is_no_other_and_takes_no_policy_away() {
    let mut world = zone("m5.large", warm_addresses(2, 0));
    let waits = world.add("waits");
    world.run_seconds(1);
    assert_eq!(world.answer(waits), None);
    world.feed(Event::PodNetworkRefused(gone("refused")));
    world.run_seconds(1);
    assert_eq!(world.answer(waits), Some(Err(ReasonCode::EniConfigMissing)), "not after 20 s");
    world.say(policy(&[("subnet-4", 0, 1)]));
    world.feed(Event::PodNetworkRefused(gone("refused")));
    let served = world.add("served");
    world.run_seconds(5);
    world.assert_served(&[served]);
}

#[test]
fn without_an_eniconfig_no_eni_is_made_and_pods_are_told_what_was_looked_for_and_when_it_comes_they_are_served() {
    let mut world = zone("m5.large", warm_addresses(2, 0));
    let unsaid = world.add("unsaid");
    world.run_seconds(21);
    assert_eq!(world.answer(unsaid), Some(Err(ReasonCode::EniConfigMissing)), "it waited for a word");
    world.say(gone("not there"));
    let refused = world.add("refused");
    assert_eq!(world.answer(refused), Some(Err(ReasonCode::EniConfigMissing)), "at once");
    let supply = world.snapshot().supply;
    assert_eq!(supply.code, Some(ReasonCode::EniConfigMissing));
    for part in ["ENIConfig `us-east-1a`", "label topology/zone", "is not there", "until that is put right"] {
        assert!(supply.text.contains(part), "{part}: {}", supply.text);
    }
    assert!(world.noticed("ENIConfig `us-east-1a`"));
    world.run_seconds(600);
    assert_eq!((world.count("create"), world.count("assign")), (0, 0));
    let before = world.add_with("waits", Duration::from_secs(1));
    assert_eq!(world.answer(before), Some(Err(ReasonCode::EniConfigMissing)));
    world.say(policy(&[("subnet-4", 0, 1)]));
    let after = world.add("waits");
    world.run_seconds(5);
    world.assert_served(&[after]);
    assert_eq!(world.snapshot().pod_network.and_then(|shown| shown.problem), None);
}

#[test]
fn what_the_primary_eni_and_others_have_is_served_whatever_is_said() {
    let mut world = World::new("m5.large", warm_addresses(4, 0));
    world.add_subnet("subnet-4", 202, 200, &[]);
    world.start_pods(3, 20);
    world.reconfigure(custom(warm_addresses(4, 0)));
    world.run_seconds(1);
    let first = world.add("first");
    assert!(matches!(world.answer(first), Some(Ok(_))), "{:?}", world.answer(first));
    world.say(gone("not there"));
    let second = world.add("second");
    assert!(matches!(world.answer(second), Some(Ok(_))));
    world.say(policy(&[("subnet-4", 0, 1)]));
    world.run_seconds(30);
    assert_eq!(world.subnets_in_use(), ["subnet-4"]);
    assert_eq!(world.snapshot().pool.allocated, 5);
}

#[test]
fn a_daemon_that_starts_without_an_api_server_goes_on_serving_and_growing() {
    for denied in [false, true] {
        let mut world = zone("m5.large", warm_addresses(1, 0));
        let tags = BTreeMap::from([("pods".to_owned(), "yes".to_owned()), ("Name".to_owned(), "two".to_owned())]);
        let by_tags = entry(PodSubnetRef::Tags(tags), 0, 1);
        let (eni_config, security_group_ids) = (name(), vec!["sg-pods".into()]);
        world.say(PodNetwork::Policy(PodNetworkPolicy { eni_config, security_group_ids, subnets: vec![by_tags] }));
        world.start_pods(3, 20);
        if denied {
            (0..50).for_each(|_| world.fault("subnet", Fault::Before(FailureClass::Denied)));
        }
        world.restart(|_| true);
        let pods: Vec<_> = (0..12).map(|pod| world.add(&format!("late-{pod}"))).collect();
        world.run_seconds(19);
        world.assert_served(&pods);
        assert_eq!(world.subnets_in_use(), ["subnet-2", "subnet-2"]);
        assert_eq!(groups_of_secondaries(&world), [["sg-pods"], ["sg-pods"]]);
    }
}

fn elsewhere(world: &World, id: &str, vpc: &str, zone: &str) -> SubnetView {
    SubnetView {
        subnet_id: id.into(),
        vpc_id: vpc.into(),
        cidr: "10.9.0.0/24".parse().expect("a block"),
        available: 200,
        availability_zone: if zone.is_empty() { world.facts.availability_zone.clone() } else { zone.to_owned() },
        tags: Vec::new(),
    }
}

#[test]
fn subnets_that_cannot_be_used_are_named_with_the_cause_and_the_good_one_is_used() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.elsewhere =
        vec![elsewhere(&world, "subnet-b", "vpc-1", "us-east-1b"), elsewhere(&world, "subnet-v", "vpc-2", "")];
    let faulty =
        PodSubnetRef::Faulty { field: "spec.subnets[3]".to_owned(), problem: "neither id nor tags".to_owned() };
    let nobody = PodSubnetRef::Tags(BTreeMap::from([("pods".to_owned(), "no".to_owned())]));
    let PodNetwork::Policy(bad) = policy(&[("subnet-b", 0, 1), ("subnet-v", 0, 1), ("subnet-x", 0, 1)]) else {
        panic!()
    };
    let bad =
        PodNetworkPolicy { subnets: [bad.subnets, vec![entry(faulty, 0, 1), entry(nobody, 0, 1)]].concat(), ..bad };
    let causes = [
        "subnet-b is in us-east-1b, the node in us-east-1a",
        "subnet-v is in vpc-2, the node in vpc-1",
        "subnet-x does not exist",
        "spec.subnets[3]: neither id nor tags",
        "no subnets with pods=no in vpc-1 and us-east-1a",
    ];
    world.say(PodNetwork::Policy(bad.clone()));
    let pod = world.add("pod");
    world.run_seconds(3);
    assert_eq!(world.answer(pod), Some(Err(ReasonCode::EniConfigFaulty)));
    let supply = world.snapshot().supply;
    assert_eq!(supply.code, Some(ReasonCode::EniConfigFaulty));
    for cause in causes {
        assert!(supply.text.contains(cause), "{cause}: {}", supply.text);
        assert!(world.noticed(cause), "{cause}");
    }
    assert_eq!(world.count("create"), 0);
    let good = entry(PodSubnetRef::Id("subnet-4".into()), 7, 1);
    world.notices.clear();
    world.say(PodNetwork::Policy(PodNetworkPolicy { subnets: [bad.subnets, vec![good]].concat(), ..bad }));
    let pod = world.add("pod");
    world.run_seconds(6);
    world.assert_served(&[pod]);
    assert_eq!(world.subnets_in_use(), ["subnet-4"]);
    assert!(causes.iter().all(|cause| world.noticed(cause)) && world.noticed("its other subnets are used"));
    let shown = world.snapshot().pod_network.expect("on");
    assert_eq!(shown.subnets.iter().filter(|subnet| subnet.standing == "usable").count(), 1);
}

#[test]
fn a_subnet_that_is_made_or_tagged_later_is_found_by_itself() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.say(policy(&[("subnet-new", 0, 1)]));
    world.run_seconds(120);
    let calls = world.count("subnet");
    assert!(calls <= 9, "{calls} calls in two minutes");
    world.add_subnet("subnet-new", 210, 60, &[]);
    world.run_seconds(160);
    assert_eq!(world.subnets_in_use(), ["subnet-new"]);
    assert!(world.noticed("every subnet of"));
}

#[test]
fn a_changed_eniconfig_concerns_new_enis_and_the_groups_of_those_made_for_it() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.say(with_groups(policy(&[("subnet-2", 0, 1)]), &["sg-a"]));
    world.start_pods(3, 20);
    world.say(with_groups(policy(&[("subnet-3", 0, 1)]), &["sg-b"]));
    world.run_seconds(30);
    assert_eq!(world.subnets_in_use(), ["subnet-2"], "nothing is moved");
    assert_eq!(groups_of_secondaries(&world), [["sg-b"]], "its groups follow");
    world.start_pods(12, 20);
    assert_eq!(world.subnets_in_use(), ["subnet-2", "subnet-3"]);
    // Another ENIConfig is no business of ENIs that were made for this one.
    let PodNetwork::Policy(other) = with_groups(policy(&[("subnet-4", 0, 1)]), &["sg-c"]) else { panic!() };
    let eni_config = EniConfigName { name: "other".to_owned(), source: NameSource::ExternalLabel };
    world.say(PodNetwork::Policy(PodNetworkPolicy { eni_config, ..other }));
    world.facts.security_group_ids = vec!["sg-node".into()];
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.restart(|_| true);
    world.run_seconds(1_000);
    assert_eq!(groups_of_secondaries(&world), [["sg-b"], ["sg-b"]]);
}

#[test]
fn an_eniconfig_without_groups_means_the_primary_eni_s() {
    let mut world = zone("m5.large", warm_addresses(1, 0));
    world.say(policy(&[("subnet-2", 0, 1)]));
    world.start_pods(1, 20);
    assert_eq!(groups_of_secondaries(&world), [["sg-1"]]);
    world.facts.security_group_ids = vec!["sg-node".into()];
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(30);
    assert_eq!(groups_of_secondaries(&world), [["sg-node"]]);
}

#[test]
fn while_ec2_does_not_describe_the_zone_no_eni_is_made_and_pods_are_told_why() {
    let mut world = World::unborn("m5.large", custom(warm_addresses(1, 0)));
    world.add_subnet("subnet-2", 200, 100, &[]);
    (0..3).for_each(|_| world.fault("subnet", Fault::Before(FailureClass::Denied)));
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.say(policy(&[("subnet-2", 0, 1)]));
    let pod = world.add_with("pod", Duration::from_secs(2));
    world.run_seconds(3);
    assert_eq!(world.answer(pod), Some(Err(ReasonCode::Ec2Denied)));
    assert_eq!(world.count("create"), 0);
    world.faults.clear();
    world.run_seconds(400);
    assert_eq!(world.subnets_in_use(), ["subnet-2"], "found by itself");
}

#[test]
fn an_excluded_or_unoffered_subnet_is_used_when_the_eniconfig_names_it() {
    let mut world = World::unborn("m5.large", custom(warm_addresses(1, 0)));
    world.add_subnet("subnet-2", 200, 100, &[("kubernetes.io/role/cni", "0")]);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.say(policy(&[("subnet-2", 0, 1)]));
    world.start_pods(3, 20);
    world.run_seconds(300);
    assert_eq!(world.subnets_in_use(), ["subnet-2"]);
    let in_tags = |kind: &ActionKind| matches!(kind, ActionKind::Unassign { .. });
    assert!(!world.pending.iter().any(|(_, action)| in_tags(&action.kind)));
}
