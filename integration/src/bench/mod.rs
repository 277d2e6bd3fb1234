// SPDX-License-Identifier: Apache-2.0
//! `make bench`: what the host network and the calls that make it cost, measured in one run on one machine; Markdown tables.
//!
//! | section | measures |
//! |---|---|
//! | `fill` | size of the programs, resident memory, 0 to 232 pods on an m4.4xlarge with a slow EC2 |
//! | `calls` | ADD and DEL by pods present ([`calls`]); a node of 250 pods programmed and repaired ([`program`]) |
//! | `packets` | a packet by pods present and layout ([`packets`]) |
//! | `snat` | source address translation by packet and connection ([`snat`]) |
//! | `sandboxes` | RunPodSandbox and StopPodSandbox of a real containerd, beside `ptp` ([`sandboxes`]); only when it is named |
//! | `families` | attaching a pod by the family of its address; `scripts/bench.sh` runs `datapath/examples/families.rs` |
//!
//! The floor (`cni-floor`) is one static process that plumbs a pod with the fewest kernel operations and makes one gRPC call to
//! an empty server: same linkage, same number of pods present. It allocates nothing, writes no state, no rules and no log: those
//! are ours to add. All that is compared is called in turn (A B A B …), so that what else the machine does weighs on all alike.
//!
//! Absolute numbers are the machine's; ratios and differences are what to compare.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program talks to a person and reads the clock"
)]

mod calls;
mod cold;
mod figures;
mod floor;
mod meter;
mod packets;
mod peers;
mod program;
mod sandboxes;
mod snat;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::sandbox::Sandbox;
use crate::topology::{Latency, NodeSpec, Subnet, Topology, TopologySpec};

/// Pods of a full m4.4xlarge: 8 ENIs x 29.
const FULL: usize = 232;
/// Sandboxes that the runtime starts at the same time while filling: all of them, so that only EC2 and we are slow.
const AT_ONCE: usize = FULL;

/// What a section prints, or why it did not.
type Section = fn() -> Result<(), Box<dyn Error>>;

const SECTIONS: [(&str, Section); 5] = [
    ("fill", filling),
    ("calls", calls::run),
    ("packets", packets::run),
    ("snat", snat::run),
    (SANDBOXES, sandboxes::run),
];
/// Needs the runtimes' packages, which the others do not.
const SANDBOXES: &str = "sandboxes";

/// Runs the named sections, or all but `sandboxes`, and prints the figures.
///
/// # Errors
/// Something could not be started, a call failed, or there is no such section.
pub fn run(names: &[String]) -> Result<(), Box<dyn Error>> {
    if let Some(unknown) = names.iter().find(|name| SECTIONS.iter().all(|(known, _)| known != name)) {
        return Err(format!("no section is called {unknown}: fill, calls, packets, snat and sandboxes are").into());
    }
    for (name, section) in SECTIONS {
        if (names.is_empty() && name != SANDBOXES) || names.iter().any(|wanted| wanted == name) {
            // Each in a world of its own, which the thread that makes it is in.
            let ran = std::thread::scope(|scope| scope.spawn(|| section().map_err(|error| error.to_string())).join());
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
    }
    Ok(())
}

fn filling() -> Result<(), Box<dyn Error>> {
    let spec = TopologySpec {
        nodes: vec![NodeSpec::new("n1", "m4.4xlarge", Subnet::B)],
        latency: Latency { call: Duration::from_millis(300), attach: Duration::from_secs(5), ..Latency::default() },
    };
    let mut topology = Topology::build(&spec)?;
    let node = &mut topology.nodes[0];
    // The log level is the reference's manifest's.
    node.set("AWS_VPC_K8S_CNI_LOGLEVEL", "info");
    node.start()?;
    node.wait_ready(Duration::from_secs(30))?;
    println!("| figure | value |\n|---|---|");
    size("plugin (static)", &crate::node::plugin_binary()?)?;
    size("daemon", &crate::node::daemon_binary()?)?;
    memory("daemon, idle, resident", node)?;
    let start = Instant::now();
    let _pods = fill(node, FULL)?;
    println!(
        "| 0 to {FULL} pods, all asked for at once, EC2 300 ms a call, 5 s an attach | {:.1} s |",
        start.elapsed().as_secs_f32()
    );
    memory(&format!("daemon, {FULL} pods, resident"), node)?;
    println!();
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

fn size(what: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::metadata(path)?.len();
    println!("| {what} | {:.2} MB |", megabytes(bytes));
    Ok(())
}

/// Resident memory of the daemon.
fn memory(what: &str, node: &mut Node) -> Result<(), Box<dyn Error>> {
    let kibibytes = node.daemon().ok_or("the daemon does not run")?.rss_kib()?;
    println!("| {what} | {:.1} MB |", megabytes(kibibytes * 1024));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
