// SPDX-License-Identifier: Apache-2.0
//! Many nodes that join at about the same time, in one account and Region: they share EC2's request buckets.
//!
//! Measures, for any strategy, how long it takes until the nodes have their first pods and how many requests EC2 sees.
//! Joins, pods and the VPC are the same for every strategy with the same seed.
//!
//! The ideal it is held against is not a strategy: a node's first addresses need one mutating request, and only so many a
//! second are taken. Worked example: 5,000 nodes, one AssignPrivateIpAddresses each, 100 at once and 5 a second after:
//! the last one passes 980 s after the first.
//!
//! Source of the buckets: EC2 developer guide, "Request throttling".

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use vpc_model::{ConfigError, InstanceId, ThrottleSettings};

use crate::allocator::Strategy;
use crate::layout::Layout;
use crate::pace::Pace;
use crate::rng::{Rng, Stream};
use crate::stats::Times;
use crate::world::{NodeId, PodPlan, World};

/// Bucket of AssignPrivateIpAddresses.
const ASSIGN_BURST: u32 = 100;
/// Requests a second that it gains.
const ASSIGN_REFILL: u32 = 5;

/// Nodes that join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How many.
    pub nodes: u32,
    /// Their type.
    pub instance_type: String,
    /// Subnets they are spread over, each a /16 of its own.
    pub subnets: u32,
    /// Time in which they join, evenly spread by chance.
    pub joining: Duration,
    /// Pods that are bound to each node as it joins.
    pub pods: u32,
    /// How long is watched at most; a fleet that has all its pods is watched no longer than `calls_until`.
    pub watched: Duration,
    /// Until when calls are counted.
    pub calls_until: Duration,
    /// EC2's request buckets.
    pub throttle: ThrottleSettings,
    /// What chance is drawn from.
    pub seed: u64,
}

impl Fleet {
    /// As many m5.large, joining evenly over five minutes, each with five pods.
    #[must_use]
    pub fn of(nodes: u32, seed: u64) -> Self {
        Self {
            nodes,
            instance_type: "m5.large".to_owned(),
            subnets: 12,
            joining: Duration::from_secs(300),
            pods: 5,
            watched: Duration::from_secs(4 * 3_600),
            calls_until: Duration::from_secs(3_600),
            throttle: ThrottleSettings::default(),
            seed,
        }
    }

    /// When the last node could have had its first addresses: one assignment a node, all that the bucket lets through.
    #[must_use]
    pub fn ideal(&self) -> Duration {
        let seconds = self.nodes.saturating_sub(ASSIGN_BURST).div_ceil(ASSIGN_REFILL);
        Duration::from_secs(seconds.into()).max(self.joining)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The strategy.
    pub name: String,
    /// When a node had its first pod, since the first join; nodes that never had are missing.
    pub first_pod: Times,
    /// When a node had all its pods, since the first join.
    pub all_pods: Times,
    /// The same since the node's own join.
    pub own_wait: Times,
    /// Nodes that had not all their pods at the end.
    pub unfinished: usize,
    /// Requests that EC2 saw until every node had its pods, by action.
    pub calls_until_done: BTreeMap<&'static str, u32>,
    /// Of these, throttled.
    pub throttled_until_done: u32,
    /// Requests that EC2 saw in the time watched, by action.
    pub calls: BTreeMap<&'static str, u32>,
    /// Of these, throttled.
    pub throttled: u32,
    /// Addresses that the fleet held at the end.
    pub held: u32,
    /// ENIs of the VPC at the end.
    pub enis: usize,
}

/// Lets a fleet join.
///
/// # Errors
/// A type that is not in the table, or more subnets than fit.
pub fn run<S: Strategy>(strategy: S, fleet: &Fleet) -> Result<Outcome, ConfigError> {
    let name = strategy.name().to_owned();
    let (mut world, joins) = join(strategy, fleet)?;
    let (counted, watched) = (BootTime(fleet.calls_until), BootTime(fleet.watched));
    let mut outcome = Outcome { name, ..Outcome::default() };
    let mut until = BootTime::default();
    let mut done = false;
    // Looked at every ten seconds: exact times are in the nodes' series.
    while until < watched && !(done && until >= counted) {
        until = until + Duration::from_secs(10);
        world.run_until(until);
        if !done && has_all_pods(&world, fleet) {
            done = true;
            (outcome.calls_until_done, outcome.throttled_until_done) = calls(&world);
        }
        if until == counted {
            (outcome.calls, outcome.throttled) = calls(&world);
        }
    }
    if !done {
        (outcome.calls_until_done, outcome.throttled_until_done) = calls(&world);
    }
    measure(&world, fleet, &joins, &mut outcome);
    Ok(outcome)
}

/// The world of a fleet, and when each node joins.
fn join<S: Strategy>(strategy: S, fleet: &Fleet) -> Result<(World<S>, Vec<BootTime>), ConfigError> {
    let count = usize::try_from(fleet.nodes).unwrap_or(usize::MAX);
    let layout =
        Layout { instance_types: vec![fleet.instance_type.clone(); count], subnets: fleet.subnets, subnet_length: 16 };
    let mut vpc = layout.build(fleet.seed)?;
    // The quota of a Region is 5,000 by default; accounts of this size have it raised.
    vpc.change_settings(|settings| {
        settings.quotas.network_interfaces = 100_000;
        settings.throttle = fleet.throttle.clone();
    });
    let instances: Vec<InstanceId> = (0..count)
        .filter_map(|index| vpc.instance_named(&format!("n{index}")))
        .map(|instance| instance.id.clone())
        .collect();
    let mut world = World::for_figures(vpc, Pace::default(), fleet.seed);
    let strategy = Rc::new(strategy);
    let mut chance = Rng::new(fleet.seed, Stream::Shape);
    let mut joins = Vec::new();
    for instance in &instances {
        let joined = BootTime(chance.time(Duration::ZERO, fleet.joining));
        let node = world.add_node(Rc::clone(&strategy), instance, joined);
        for number in 0..fleet.pods {
            world.plan_pod(PodPlan { node, name: format!("{}-{number}", node.0), starts: joined, ends: None });
        }
        joins.push(joined);
    }
    Ok((world, joins))
}

fn has_all_pods<S: Strategy>(world: &World<S>, fleet: &Fleet) -> bool {
    world.nodes().iter().all(|node| node.stats().pods.last() >= fleet.pods)
}

fn calls<S: Strategy>(world: &World<S>) -> (BTreeMap<&'static str, u32>, u32) {
    let mut calls = BTreeMap::new();
    for node in world.nodes() {
        for (action, number) in &node.stats().calls {
            *calls.entry(*action).or_default() += number;
        }
    }
    (calls, world.nodes().iter().map(|node| node.stats().throttled).sum())
}

fn measure<S: Strategy>(world: &World<S>, fleet: &Fleet, joins: &[BootTime], outcome: &mut Outcome) {
    let start = joins.iter().min().copied().unwrap_or_default();
    for (index, joined) in joins.iter().enumerate() {
        let stats = world.nodes()[NodeId(index).0].stats();
        let reached = |pods: u32| stats.pods.points().iter().find(|(_, value)| *value >= pods).map(|(at, _)| *at);
        if let Some(at) = reached(1) {
            outcome.first_pod.add(at.since(start));
        }
        match reached(fleet.pods) {
            Some(at) => {
                outcome.all_pods.add(at.since(start));
                outcome.own_wait.add(at.since(*joined));
            }
            None => outcome.unfinished += 1,
        }
        outcome.held += stats.held.last();
    }
    outcome.enis = world.vpc().enis().count();
}

#[cfg(test)]
mod tests {
    use ipamd_core::Config;

    use super::*;
    use crate::ours::Ours;
    use crate::reference::{Reference, Settings};

    fn small() -> Fleet {
        // A twentieth of the nodes in a twentieth of the time: the burst of every bucket covers them.
        Fleet { joining: Duration::from_secs(15), calls_until: Duration::from_secs(600), ..Fleet::of(100, 7) }
    }

    #[test]
    fn the_ideal_is_one_assignment_a_node_at_the_rate_of_the_bucket() {
        assert_eq!(Fleet::of(5_000, 1).ideal(), Duration::from_secs(980));
        assert_eq!(
            Fleet::of(100, 1).ideal(),
            Duration::from_secs(300),
            "the bucket's burst is enough: they have to join"
        );
    }

    #[test]
    fn a_small_fleet_gets_its_pods_with_either_strategy_and_ours_asks_for_less() {
        let fleet = small();
        let ours = run(Ours::new("ours", Config::default()), &fleet).unwrap();
        let reference = run(Reference::new("reference", Settings::default()), &fleet).unwrap();
        for outcome in [&ours, &reference] {
            assert_eq!((outcome.unfinished, outcome.all_pods.count()), (0, 100), "{outcome:?}");
            assert!(outcome.all_pods.percentile(100) < Duration::from_secs(120), "{outcome:?}");
        }
        let sum = |outcome: &Outcome| outcome.calls.values().sum::<u32>();
        assert!(sum(&ours) < sum(&reference), "{:?} {:?}", ours.calls, reference.calls);
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let fleet = Fleet { nodes: 10, ..small() };
        let figures = || {
            let outcome = run(Reference::new("reference", Settings::default()), &fleet).unwrap();
            (outcome.all_pods.percentile(50), outcome.calls)
        };
        assert_eq!(figures(), figures());
    }
}
