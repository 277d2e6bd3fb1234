// SPDX-License-Identifier: Apache-2.0
//! `make bench`: what an ADD and a DEL cost, as ratios to the floor in the same run on the same machine.
//!
//! The floor (`cni-floor`) is one static process that plumbs a pod with the fewest kernel operations and makes one gRPC call to
//! an empty server: same linkage, same number of pods present, called in turn with ours (A B A B …), so that what else the
//! machine does weighs on both alike. It allocates nothing, writes no state, no rules and no log: those are ours to add.
//!
//! ```text
//! node  m4.4xlarge, real daemon, EC2 at 300 ms a call and 5 s an attach    0 → 232 pods, timed; resident memory
//! floor the same number of floor pods, empty server
//! then for each number of pods present: ADD ADD, DEL DEL, `ROUNDS` times, one at a time
//! ```
//!
//! Absolute numbers are the machine's; the ratios are what to compare.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program talks to a person and reads the clock"
)]

mod figures;
mod floor;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use figures::Series;
use floor::Floor;

use crate::node::Node;
use crate::sandbox::{NetnsPath, Sandbox};
use crate::topology::{Latency, NodeSpec, Subnet, Topology, TopologySpec};

/// Calls of each kind per row.
const ROUNDS: usize = 60;
/// Pods present while a row is measured.
const PRESENT: [usize; 2] = [0, 110];
/// Pods of a full m4.4xlarge: 8 ENIs x 29.
const FULL: usize = 232;
/// Sandboxes that the runtime starts at the same time while filling: all of them, so that only EC2 and we are slow.
const AT_ONCE: usize = FULL;

/// Runs everything and prints the figures.
///
/// # Errors
/// Something could not be started, or a call failed.
pub fn run() -> Result<(), Box<dyn Error>> {
    let spec = TopologySpec {
        nodes: vec![NodeSpec::new("n1", "m4.4xlarge", Subnet::B)],
        latency: Latency { call: Duration::from_millis(300), attach: Duration::from_secs(5), ..Latency::default() },
    };
    let mut topology = Topology::build(&spec)?;
    let node = &mut topology.nodes[0];
    // Addresses must come round while a row is measured; the log level is the reference's manifest's.
    node.set("IP_COOLDOWN_PERIOD", "1");
    node.set("AWS_VPC_K8S_CNI_LOGLEVEL", "info");
    node.start()?;
    node.wait_ready(Duration::from_secs(30))?;
    println!("| figure | value |\n|---|---|");
    size("plugin (static)", &crate::node::plugin_binary()?)?;
    size("daemon", &crate::node::daemon_binary()?)?;
    memory("daemon, idle, resident", node)?;
    let start = Instant::now();
    let mut pods = fill(node, FULL)?;
    println!(
        "| 0 to {FULL} pods, all asked for at once, EC2 300 ms a call, 5 s an attach | {:.1} s |",
        start.elapsed().as_secs_f32()
    );
    memory(&format!("daemon, {FULL} pods, resident"), node)?;
    drain(node, &mut pods, PRESENT[0])?;
    println!();
    rows(&topology, &mut pods)
}

fn rows(topology: &Topology, pods: &mut Vec<Sandbox>) -> Result<(), Box<dyn Error>> {
    let node = &topology.nodes[0];
    let mut floor = Floor::start(&topology.world)?;
    println!(
        "| call, one at a time, cold process, {ROUNDS} rounds | pods present | ours p50 | p90 | floor p50 | p90 | ratio p50 | p90 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for present in PRESENT {
        if pods.len() < present {
            pods.extend(fill(node, present - pods.len())?);
        }
        floor.fill(&topology.world, present)?;
        let (mut add, mut del) = ([Series::default(), Series::default()], [Series::default(), Series::default()]);
        for round in 0..ROUNDS {
            let ours = node.sandbox(&format!("bench-{present}-{round}"))?;
            let theirs = floor.pod(&topology.world)?;
            add[0].push(node.runtime.add(&ours)?.took);
            add[1].push(floor.call("ADD", &theirs)?);
            del[0].push(node.runtime.del(&ours, NetnsPath::Given)?);
            del[1].push(floor.call("DEL", &theirs)?);
        }
        for (name, [ours, floor]) in [("ADD", &mut add), ("DEL", &mut del)] {
            println!("| {name} | {present} | {} |", figures::row(ours, floor));
        }
    }
    Ok(())
}

fn fill(node: &Node, count: usize) -> Result<Vec<Sandbox>, Box<dyn Error>> {
    let sandboxes: Vec<Sandbox> =
        (0..count).map(|pod| node.sandbox(&format!("pod-{pod}"))).collect::<Result<_, _>>()?;
    let queue = std::sync::Mutex::new(sandboxes.iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let worker = || -> Result<(), crate::sandbox::SandboxError> {
        while let Some(sandbox) = next() {
            node.runtime.add(sandbox)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(sandboxes)
}

fn drain(node: &Node, pods: &mut Vec<Sandbox>, keep: usize) -> Result<(), Box<dyn Error>> {
    for sandbox in pods.drain(keep..) {
        node.runtime.del(&sandbox, NetnsPath::Given)?;
    }
    Ok(())
}

fn size(what: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::metadata(path)?.len();
    println!("| {what} | {:.2} MB |", megabytes(bytes));
    Ok(())
}

/// VmRSS of the daemon's process (proc(5), /proc/pid/status).
fn memory(what: &str, node: &mut Node) -> Result<(), Box<dyn Error>> {
    let pid = node.daemon().ok_or("the daemon does not run")?.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    println!("| {what} | {:.1} MB |", megabytes(kilobytes * 1024));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
