// SPDX-License-Identifier: Apache-2.0
//! Filling nodes with pods and emptying them again, several sandboxes at a time, as kubelets do.
#![expect(clippy::disallowed_methods, reason = "shows how long things take")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::DemoError;
use super::console::Console;
use crate::node::Node;
use crate::sandbox::{Added, NetnsPath, Sandbox};
use crate::topology::Topology;

/// Sandboxes that one node's runtime starts at the same time.
const AT_ONCE: usize = 16;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// A pod that runs.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) sandbox: Sandbox,
    pub(super) added: Added,
}

impl Pod {
    /// Whether its address is the primary ENI's: then the main table (254) routes it.
    pub(super) fn on_primary(&self) -> bool {
        matches!(self.added.table, 0 | 254)
    }
}

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
    let mut pods = [Vec::new(), Vec::new()];
    for (((running, took), node), slot) in filled.into_iter().zip(&topology.nodes).zip(&mut pods) {
        let (name, count, seconds) = (&node.name, running.len(), took.as_secs_f32());
        console.say(&format!("{name:<7} {count} pods in {seconds:.1} s; ADD took {}", spread(&running)));
        *slot = running;
    }
    Ok(pods)
}

fn fill_node(
    node: &Node,
    wanted: usize,
    count: &AtomicUsize,
    start: Instant,
) -> Result<(Vec<Pod>, Duration), DemoError> {
    let next = AtomicUsize::new(0);
    let pods = Mutex::new(Vec::with_capacity(wanted));
    let worker = || -> Result<(), DemoError> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= wanted {
                return Ok(());
            }
            let sandbox = node.sandbox(&format!("{}-{number}", node.name))?;
            let added = node.runtime.add(&sandbox)?;
            count.fetch_add(1, Ordering::Relaxed);
            pods.lock().unwrap_or_else(PoisonError::into_inner).push(Pod { sandbox, added });
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok((pods.into_inner().unwrap_or_else(PoisonError::into_inner), start.elapsed()))
}

/// Ends all pods of a node: DEL, the namespace goes, and the DEL that containerd repeats without it.
pub(super) fn empty(node: &Node, pods: Vec<Pod>) -> Result<Duration, DemoError> {
    let start = Instant::now();
    let pods = Mutex::new(pods);
    let worker = || -> Result<(), DemoError> {
        loop {
            let Some(pod) = pods.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
            node.runtime.del(&pod.sandbox, NetnsPath::Given)?;
            node.runtime.del(&pod.sandbox, NetnsPath::Empty)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
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
