// SPDX-License-Identifier: Apache-2.0
//! One seed: a life of a node with our daemon, at least half an hour long, in which pods come and go, the daemon is killed
//! and other things go wrong; then peace, in which everything must come to rest.
//!
//! What a seed holds is drawn in `plan`; what must hold at every step is in [`crate::check`], what must hold in the end in
//! `rest`. The same number is the same life; a failing one is run again with its trace.

mod plan;
mod rest;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::config::{AddressMode, WarmTargets};
use ipamd_core::faults::Fault;

use crate::check::{Rules, Violation};
use crate::layout::Layout;
use crate::ours::Ours;
use crate::rng::{Rng, Stream};
use crate::stats::{Stats, Times};
use crate::world::{NodeId, World};

pub use plan::{EAGER, Kind, Plan};

/// Of so many steps, one is followed by a look at the journal.
const JOURNAL_LOOKS: u64 = 500;
/// Lines of a trace that are shown.
const TRACE_LINES: usize = 60;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What it held.
    pub plan: Plan,
    /// What was measured on its nodes.
    pub stats: Vec<Stats>,
    /// Happenings.
    pub steps: u64,
    /// Simulated time, peace included.
    pub ended: BootTime,
    /// What broke.
    pub violation: Option<Violation>,
}

/// A seed's world, before its first step.
fn world_of(plan: &Plan, fault: Option<Fault>) -> World<Ours> {
    let layout = Layout {
        instance_types: vec![plan.instance_type.to_owned(); plan.nodes],
        subnets: 1,
        subnet_length: plan.subnet_length,
    };
    let vpc = layout.build(plan.seed).unwrap_or_else(|error| unreachable!("a layout of known types: {error}"));
    let instances: Vec<_> = vpc.instances().map(|instance| (instance.name.clone(), instance.id.clone())).collect();
    let mut world = World::new(vpc, plan.pace, plan.seed);
    let strategy = Rc::new(Ours::new("ours", plan.config.clone()).with_fault(fault));
    let limits = instance_limits::lookup(plan.instance_type);
    for index in 0..plan.nodes {
        let name = format!("n{index}");
        let Some((_, instance)) = instances.iter().find(|(other, _)| *other == name) else { continue };
        let id = world.add_node(Rc::clone(&strategy), instance, BootTime(Duration::from_millis(index as u64)));
        if let Some(limits) = limits {
            let rules = Rules {
                max_enis: limits.max_enis_on_default_card().min(plan.config.max_enis.unwrap_or(u32::MAX)),
                per_eni: limits.secondary_slots_per_eni(),
                warm: match (plan.config.address_mode, plan.config.warm) {
                    (AddressMode::Prefixes { warm_prefixes }, WarmTargets::Enis(_) | WarmTargets::Adaptive) => {
                        warm_prefixes.map_or(WarmTargets::Adaptive, WarmTargets::Prefixes)
                    }
                    (_, warm) => warm,
                },
                prefixes: plan.config.address_mode != AddressMode::SecondaryIps,
                max_pods: plan.config.max_pods,
            };
            world.checker_mut().hold_to(id, rules);
        }
    }
    for pod in &plan.pods {
        world.plan_pod(pod.clone());
    }
    for (at, blow) in &plan.blows {
        world.order(*at, blow.clone());
    }
    world
}

/// Lives a seed.
#[must_use]
pub fn live(seed: u64, fault: Option<Fault>) -> Report {
    let plan = Plan::draw(seed);
    let mut world = world_of(&plan, fault);
    let (steps, violation) = run(&mut world, &plan);
    Report {
        seed,
        stats: world.nodes().iter().map(|node| node.stats().clone()).collect(),
        steps,
        ended: world.now(),
        violation,
        plan,
    }
}

/// Lives a seed again and gives a short account of it: what was planned, what broke, and the lines before that.
#[must_use]
pub fn account(seed: u64, fault: Option<Fault>) -> String {
    let plan = Plan::draw(seed);
    let mut world = world_of(&plan, fault);
    world.keep_trace();
    let (_, violation) = run(&mut world, &plan);
    let mut text = format!("{plan}\n");
    let lines = world.trace().lines();
    let first = lines.len().saturating_sub(TRACE_LINES);
    if first > 0 {
        text.push_str(&format!("  … {first} lines before\n"));
    }
    for line in lines.iter().skip(first) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&match violation {
        Some(violation) => format!("BROKEN {violation}\n"),
        None => "nothing is broken\n".to_owned(),
    });
    text
}

/// Lives a seed again and gives every line of it.
#[must_use]
pub fn whole_trace(seed: u64, fault: Option<Fault>) -> String {
    let plan = Plan::draw(seed);
    let mut world = world_of(&plan, fault);
    world.keep_trace();
    let (_, violation) = run(&mut world, &plan);
    let mut text = format!("{plan}\n");
    for line in world.trace().lines() {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&format!("{violation:?}\n"));
    text
}

fn run(world: &mut World<Ours>, plan: &Plan) -> (u64, Option<Violation>) {
    let mut looks = Rng::new(plan.seed, Stream::Samples);
    let mut steps = 0;
    let mut calls_at_peace = None;
    let settled = plan.peace + rest::SETTLES;
    let end = settled + rest::RESTS;
    while world.next_time().is_some_and(|next| next <= end) && world.checker().violation().is_none() {
        world.step();
        steps += 1;
        let now = world.now();
        let eager = now >= plan.eager && now < plan.eager + EAGER;
        if eager != world.is_eager() {
            world.write_eagerly(eager);
        }
        if looks.below(JOURNAL_LOOKS) == 0 {
            rest::journal_says_the_same(world, NodeId(0));
        }
        if calls_at_peace.is_none() && world.now() >= settled {
            calls_at_peace = Some(world.nodes().iter().map(|node| node.stats().all_calls()).collect::<Vec<_>>());
        }
    }
    if world.checker().violation().is_none() {
        for id in (0..plan.nodes).map(NodeId) {
            let before = calls_at_peace.as_ref().and_then(|calls| calls.get(id.0)).copied().unwrap_or(0);
            rest::is_at_rest(world, id, before);
        }
    }
    (steps, world.checker().violation().cloned())
}

/// Many seeds in one table: what they held and what was measured.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    columns: BTreeMap<&'static str, Vec<u64>>,
    kinds: BTreeMap<Kind, u64>,
    /// Seeds that broke something.
    pub broken: Vec<Report>,
    seeds: u64,
}

impl Distribution {
    /// Adds a seed.
    pub fn add(&mut self, report: Report) {
        self.seeds += 1;
        let sum = |of: fn(&Stats) -> u32| report.stats.iter().map(|stats| u64::from(of(stats))).sum::<u64>();
        let mut waits = Times::default();
        report.stats.iter().for_each(|stats| waits.join(&stats.waits));
        let lived = report.plan.peace.0.as_secs() / 60;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for (name, value) in [
            ("minutes of life", lived),
            ("pod events", sum(|stats| stats.pod_events)),
            ("kills", sum(|stats| stats.restarts)),
            ("faults", report.plan.faults() as u64),
            ("EC2 calls", sum(Stats::all_calls)),
            ("throttled", sum(|stats| stats.throttled)),
            ("ADDs refused", sum(|stats| stats.refusals.values().sum())),
            ("most addresses held", sum(|stats| stats.held.max())),
            ("longest wait, ms", millis(waits.percentile(100))),
            ("median wait, ms", millis(waits.percentile(50))),
            ("happenings", report.steps),
        ] {
            self.columns.entry(name).or_default().push(value);
        }
        for kind in report.plan.kinds() {
            *self.kinds.entry(kind).or_default() += 1;
        }
        if report.violation.is_some() {
            self.broken.push(report);
        }
    }

    /// Adds all of another.
    pub fn join(&mut self, other: Self) {
        for (name, values) in other.columns {
            self.columns.entry(name).or_default().extend(values);
        }
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.broken.extend(other.broken);
        self.seeds += other.seeds;
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} seeds, {} broken", self.seeds, self.broken.len())?;
        writeln!(f, "{:<22} {:>9} {:>9} {:>9} {:>9} {:>9}", "a seed", "least", "p5", "median", "p95", "most")?;
        for (name, values) in &self.columns {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let at = |part: usize| sorted.get((sorted.len().saturating_sub(1)) * part / 100).copied().unwrap_or(0);
            writeln!(f, "{name:<22} {:>9} {:>9} {:>9} {:>9} {:>9}", at(0), at(5), at(50), at(95), at(100))?;
        }
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        writeln!(f, "went wrong: {}", kinds.join(", "))
    }
}
