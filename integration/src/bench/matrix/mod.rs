// SPDX-License-Identifier: Apache-2.0
//! What a cold ADD and a cold DEL cost: at 1, 8, 32 and 110 at once, with 0, 110, 250 and 735 pods present, beside the floor, Debian's
//! `ptp` and `bridge`, and another plugin when the environment names one.
//!
//! Ours runs on an m5.24xlarge in prefix mode. The daemon is told to hold as many addresses as there are pods present and two bursts
//! more, so EC2 is never waited for and never asked meanwhile. Pods that are present are real ones, of every callee, on a node of its own.
//!
//! ```text
//! for each number of pods present: daemon restarted with as many addresses ─ pods up to the number ─ for 1, 8, 32, 110 at once: rounds
//! ```
//!
//! Rounds and what is timed: [`rounds`]; the wait between them: [`settle`]. What is shown: [`show`].

mod callee;
mod rounds;
mod settle;
mod show;

use std::error::Error;
use std::time::{Duration, Instant};

use callee::{Callee, Pod, Verb};
use rounds::{Plan, Times};

use super::floor::Floor;
use super::peers;
use super::report::Report;
use crate::eventually::pass;
use crate::node::Node;
use crate::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use crate::world::World;

/// Pods present.
const PRESENT: [usize; 4] = [0, 110, 250, 735];
/// The largest burst.
const MOST_AT_ONCE: usize = 110;
/// At once, seconds, rounds at least. A round at 110 takes the peers seconds.
const PLANS: [Plan; 4] = [plan(1, 10, 20), plan(8, 10, 8), plan(32, 16, 6), plan(MOST_AT_ONCE, 24, 4)];
/// To see that everything works.
const QUICK: [Plan; 4] = [plan(1, 0, 3), plan(8, 0, 2), plan(32, 0, 1), plan(MOST_AT_ONCE, 0, 1)];
/// At once while the node is filled.
const FILLING: usize = 24;
/// What a daemon that has just started still looks at.
const SETTLED: Duration = Duration::from_secs(2);

const fn plan(at_once: usize, seconds: u64, least: usize) -> Plan {
    Plan { at_once, budget: Duration::from_secs(seconds), least }
}

/// What was measured of one combination, by callee.
#[derive(Debug)]
struct Cell {
    present: usize,
    at_once: usize,
    times: Vec<Times>,
}

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new("n1", "m5.24xlarge", Subnet::C)], ..TopologySpec::one("m5.24xlarge") };
    let mut topology = Topology::build(&spec)?;
    let node = &mut topology.nodes[0];
    let environment = [
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("WARM_IP_TARGET", "1"),
        ("IP_COOLDOWN_PERIOD", "1"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "info"),
    ];
    environment.iter().for_each(|(variable, value)| node.set(variable, value));
    let floor = Floor::start(&topology.world)?;
    let peers = peers::start(&topology.world, report.settings().other.as_ref())?;
    let plans = if report.settings().is_quick { QUICK } else { PLANS };
    let (mut cells, mut names) = (Vec::new(), Vec::new());
    let mut present: Vec<Vec<Pod>> = Vec::new();
    for count in PRESENT {
        restart(&mut topology.nodes[0], count)?;
        let others = peers.iter().map(Callee::Peer);
        let callees: Vec<_> =
            [Callee::Enid(&topology.nodes[0]), Callee::Floor(&floor)].into_iter().chain(others).collect();
        names = callees.iter().map(|callee| callee.name().to_owned()).collect();
        present.resize_with(callees.len(), Vec::new);
        fill(&topology.world, &callees, &mut present, count)?;
        rounds::warm_up(&topology.world, &callees)?;
        for plan in &plans {
            let times = timed(&format!("{} at once beside {count}", plan.at_once), || {
                rounds::measure(&topology.world, &callees, plan)
            })?;
            cells.push(Cell { present: count, at_once: plan.at_once, times });
        }
    }
    show::plots(&cells, &names).into_iter().for_each(|plot| report.plot(plot));
    show::goals(&cells).into_iter().for_each(|goal| report.goal(goal));
    report.table(show::table(&cells, &names));
    Ok(())
}

/// A daemon that has addresses for the pods present and for two bursts: one whose addresses rest, and the next.
fn restart(node: &mut Node, present: usize) -> Result<(), Box<dyn Error>> {
    if node.daemon().is_some() {
        node.stop();
    }
    node.set("MINIMUM_IP_TARGET", &(present + 2 * MOST_AT_ONCE + 16).to_string());
    node.start()?;
    node.wait_ready(READY)?;
    node.wait_answers(READY)?;
    Callee::Enid(node).ready_for(2 * MOST_AT_ONCE)?;
    pass(SETTLED);
    Ok(())
}

/// Pods up to the number, of each.
fn fill(world: &World, callees: &[Callee<'_>], present: &mut [Vec<Pod>], count: usize) -> Result<(), Box<dyn Error>> {
    timed(&format!("{count} pods of each are there"), || {
        for (callee, present) in callees.iter().zip(present.iter_mut()) {
            while present.len() < count {
                let more = callee::pods(world, FILLING.min(count - present.len()))?;
                callee.call(Verb::Add, &more)?;
                present.extend(more);
            }
        }
        Ok(())
    })
}

/// Says how long it took: a person waits for minutes.
#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program talks to a person")]
fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let start = Instant::now();
    let done = work().map_err(|error| format!("{what}: {error}"))?;
    println!("  {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}
