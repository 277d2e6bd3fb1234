// SPDX-License-Identifier: Apache-2.0
//! Filling nodes with pods and emptying them again, several sandboxes at a time, as kubelets do.
#![expect(clippy::disallowed_methods, reason = "shows how long things take")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::DemoError;
use super::console::Console;
use crate::node::Node;
use crate::pods::{self, Pod};
use crate::topology::Topology;

/// Sandboxes that one node's runtime starts at the same time.
const AT_ONCE: usize = 16;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// Starts `wanted[i]` pods on node i, all nodes at the same time.
pub(super) fn fill(topology: &Topology, console: &Console, wanted: [usize; 2]) -> Result<[Vec<Pod>; 2], DemoError> {
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let start = Instant::now();
    let filled = std::thread::scope(|scope| {
        let nodes: Vec<_> = topology
            .nodes
            .iter()
            .zip(wanted)
            .zip(&counts)
            .map(|((node, wanted), count)| scope.spawn(move || fill_node(node, wanted, count, start)))
            .collect();
        let mut shown = Instant::now();
        while nodes.iter().any(|node| !node.is_finished()) {
            crate::eventually::pass(Duration::from_millis(50));
            if shown.elapsed() >= PROGRESS {
                shown = Instant::now();
                console.say(&progress(topology, &counts, wanted));
            }
        }
        let joined = nodes.into_iter().map(|node| node.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<_>, DemoError>>()
    })?;
    let mut all = [Vec::new(), Vec::new()];
    for (((running, took), node), slot) in filled.into_iter().zip(&topology.nodes).zip(&mut all) {
        let (name, count, seconds) = (&node.name, running.len(), took.as_secs_f32());
        console.say(&format!("{name:<7} {count} pods in {seconds:.1} s; ADD took {}", spread(&running)));
        *slot = running;
    }
    Ok(all)
}

fn fill_node(
    node: &Node,
    wanted: usize,
    count: &AtomicUsize,
    start: Instant,
) -> Result<(Vec<Pod>, Duration), DemoError> {
    let pods = pods::start(node, wanted, AT_ONCE, count)?;
    Ok((pods, start.elapsed()))
}

/// Ends all pods of a node; how long it took.
pub(super) fn empty(node: &Node, pods: Vec<Pod>) -> Result<Duration, DemoError> {
    let start = Instant::now();
    pods::end(node, pods, AT_ONCE)?;
    Ok(start.elapsed())
}

fn progress(topology: &Topology, counts: &[AtomicUsize; 2], wanted: [usize; 2]) -> String {
    let parts = topology.nodes.iter().zip(counts).zip(wanted).map(|((node, count), wanted)| {
        let enis = topology.enis(&node.name).map_or(0, |enis| enis.len());
        format!("{} {}/{wanted} pods on {enis} ENIs", node.name, count.load(Ordering::Relaxed))
    });
    format!("  … {}", parts.collect::<Vec<_>>().join(", "))
}

/// Median and slowest of the ADD calls.
fn spread(pods: &[Pod]) -> String {
    let mut times: Vec<Duration> = pods.iter().map(|pod| pod.added.took).collect();
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(slowest)) => {
            format!("{} ms in the median, {:.1} s at most (waiting for EC2)", median.as_millis(), slowest.as_secs_f32())
        }
        _ => "no time".to_owned(),
    }
}
