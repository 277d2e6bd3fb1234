// SPDX-License-Identifier: Apache-2.0
//! What an ADD and a DEL cost with more and more pods on the node, one at a time and 32 at once, beside the floor, Debian's `ptp`
//! and its `bridge`: cold processes, in turn, with as many pods of each kind present on a node of its own.
//!
//! Ours runs on an m5.24xlarge in prefix mode, which has room for all with some to spare: EC2 is never waited for, only the
//! daemon. Pods that are present are real ones, of every kind.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::figures::Series;
use super::floor::{Floor, FloorPod};
use super::peers::{self, Peer, PeerPod};
use super::program;
use super::report::{Report, Table};
use crate::node::Node;
use crate::sandbox::{NetnsPath, Sandbox};
use crate::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use crate::world::World;

/// Calls of each kind one at a time.
const ROUNDS: usize = 30;
/// Pods present.
const PRESENT: [usize; 5] = [0, 10, 110, 250, 735];
/// Calls at once, and how often.
const AT_ONCE: usize = 32;
const STORMS: usize = 3;
/// The number of pods with which a node is programmed from empty and repaired.
const PROGRAMMED: usize = 250;

type Failed = Box<dyn Error + Send + Sync>;

/// Who is called.
enum Callee<'a> {
    Ours(&'a Node),
    Floor(&'a Floor),
    Peer(&'a Peer),
}

/// A pod of theirs.
enum Called {
    Ours(Sandbox),
    Floor(FloorPod),
    Peer(PeerPod),
}

impl Callee<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "enid",
            Self::Floor(_) => "floor",
            Self::Peer(peer) => peer.name,
        }
    }

    fn pod(&self, world: &World, number: usize) -> Result<Called, Box<dyn Error>> {
        Ok(match self {
            Self::Ours(node) => Called::Ours(node.next_sandbox()?),
            Self::Floor(floor) => Called::Floor(floor.pod(world)?),
            Self::Peer(peer) => Called::Peer(peer.pod(world, number)?),
        })
    }

    fn add(&self, pod: &Called) -> Result<Duration, Failed> {
        match (self, pod) {
            (Self::Ours(node), Called::Ours(sandbox)) => Ok(node.runtime.add(sandbox)?.took),
            _ => self.call("ADD", pod),
        }
    }

    fn del(&self, pod: &Called) -> Result<Duration, Failed> {
        match (self, pod) {
            (Self::Ours(node), Called::Ours(sandbox)) => Ok(node.runtime.del(sandbox, NetnsPath::Given)?),
            _ => self.call("DEL", pod),
        }
    }

    fn call(&self, verb: &str, pod: &Called) -> Result<Duration, Failed> {
        match (self, pod) {
            (Self::Floor(floor), Called::Floor(pod)) => floor.call(verb, pod),
            (Self::Peer(peer), Called::Peer(pod)) => peer.call(verb, pod),
            _ => Err("a pod of somebody else".into()),
        }
    }
}

/// Runs `work` on each pod, so many at once; how long each took.
fn in_parallel(
    pods: &[Called],
    at_once: usize,
    work: impl Fn(&Called) -> Result<Duration, Failed> + Sync,
) -> Result<Vec<Duration>, Failed> {
    let (next, took) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || -> Result<(), Failed> {
        while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
            let duration = work(pod)?;
            took.lock().unwrap_or_else(PoisonError::into_inner).push(duration);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()
    })?;
    Ok(took.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Times of one kind of call by who was called.
#[derive(Default)]
struct Row([Series; 4]);

impl Row {
    fn cells(&mut self, what: &str, at_once: usize, present: usize) -> Vec<String> {
        let medians = self.0.each_mut().map(|series| series.percentile(50));
        let slow = self.0.each_mut().map(|series| series.percentile(90));
        let cell = |at: usize| format!("{:.1} / {:.1}", medians[at], slow[at]);
        let [ours, floor, ptp, bridge] = [0, 1, 2, 3].map(cell);
        let ratio = |at: usize| medians[0] / medians[at];
        let ratios = [1, 2, 3].map(|at| format!("{:.2}", ratio(at)));
        let call = [what.to_owned(), at_once.to_string(), present.to_string()];
        call.into_iter().chain([ours, floor, ptp, bridge]).chain(ratios).collect()
    }
}

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new("n1", "m5.24xlarge", Subnet::C)], ..TopologySpec::one("m5.24xlarge") };
    let mut topology = Topology::build(&spec)?;
    let environment = [
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("WARM_PREFIX_TARGET", "6"),
        ("IP_COOLDOWN_PERIOD", "1"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "info"),
    ];
    topology.start(&environment)?;
    let floor = Floor::start(&topology.world)?;
    let [ptp, bridge] = peers::start(&topology.world)?;
    let mut table = Vec::new();
    let mut present: [Vec<Called>; 4] = Default::default();
    let mut programmed = Vec::new();
    for count in PRESENT {
        let node = &topology.nodes[0];
        let callees = [Callee::Ours(node), Callee::Floor(&floor), Callee::Peer(&ptp), Callee::Peer(&bridge)];
        table.extend(rows(&topology.world, &callees, &mut present, count)?);
        if count == PROGRAMMED {
            programmed = program::measure(&mut topology)?;
        }
    }
    report.table(program::table(&mut programmed));
    let columns = [
        "call",
        "at once",
        "pods present",
        "enid p50 / p90, ms",
        "floor",
        "ptp",
        "bridge",
        "enid / floor",
        "/ ptp",
        "/ bridge",
    ];
    report.table(Table {
        title: "ADD and DEL, by pods on the node".to_owned(),
        note: "Cold processes, from start to end.".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: table,
    });
    Ok(())
}

fn rows(
    world: &World,
    callees: &[Callee<'_>; 4],
    present: &mut [Vec<Called>; 4],
    count: usize,
) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    for (callee, present) in callees.iter().zip(present) {
        let more = (present.len()..count).map(|number| callee.pod(world, number)).collect::<Result<Vec<_>, _>>()?;
        in_parallel(&more, 8, |pod| callee.add(pod)).map_err(|error| format!("{}: {error}", callee.name()))?;
        present.extend(more);
    }
    let mut table = Vec::new();
    for (at_once, rounds) in [(1, ROUNDS), (AT_ONCE, STORMS)] {
        let (mut adds, mut dels) = (Row::default(), Row::default());
        for round in 0..rounds {
            for (at, callee) in callees.iter().enumerate() {
                let told = |error: Failed| format!("{}: {error}", callee.name());
                let number = |pod: usize| 10_000 + count * 100 + round * AT_ONCE + pod;
                let pods =
                    (0..at_once).map(|pod| callee.pod(world, number(pod) + at_once)).collect::<Result<Vec<_>, _>>()?;
                let took = in_parallel(&pods, at_once, |pod| callee.add(pod)).map_err(told)?;
                took.into_iter().for_each(|took| adds.0[at].push(took));
                let took = in_parallel(&pods, at_once, |pod| callee.del(pod)).map_err(told)?;
                took.into_iter().for_each(|took| dels.0[at].push(took));
            }
        }
        table.push(adds.cells("ADD", at_once, count));
        table.push(dels.cells("DEL", at_once, count));
    }
    Ok(table)
}
