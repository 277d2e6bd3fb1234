// SPDX-License-Identifier: Apache-2.0
//! What a daemon does while nothing happens on its node: how often each thread is woken, what it logs, what it asks EC2.
//!
//! It reads and counts; what is too much is said by whoever looks (`integration/tests/idle.rs`, `make bench`).
#![expect(clippy::disallowed_methods, reason = "reads what the kernel and the log say")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::eventually::pass;
use crate::topology::Topology;

/// What was started with the daemon has ended by then: looks at EC2 and the kernel, the first writes to the API server.
pub const SETTLED: Duration = Duration::from_secs(110);

/// How long is watched.
pub const MINUTE: Duration = Duration::from_secs(60);

/// What one did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// How often threads waited for something and were woken, by their name.
    pub woken: BTreeMap<String, u64>,
    /// Lines of its log.
    pub lines: usize,
    /// Calls that EC2 saw, of all nodes.
    pub calls: usize,
}

impl Idle {
    /// Lets `time` pass.
    ///
    /// # Errors
    /// The daemon of the node does not run.
    ///
    /// # Panics
    /// There is no such node.
    pub fn watch(topology: &mut Topology, node: &str, time: Duration) -> io::Result<Self> {
        let before = Self::so_far(topology, node)?;
        pass(time);
        Ok(Self::so_far(topology, node)?.since(&before))
    }

    /// Since the daemon began.
    fn so_far(topology: &mut Topology, node: &str) -> io::Result<Self> {
        let gone = || io::Error::other(format!("the daemon of {node} does not run"));
        let pid = topology.node_mut(node).daemon().ok_or_else(gone)?.pid();
        let log = topology.node(node).log();
        let lines = fs::read_to_string(log).map_or(0, |text| text.lines().count());
        let calls = topology.emulator.with_model(|vpc, _| vpc.calls().len());
        Ok(Self { woken: waits(&Path::new("/proc").join(pid.to_string()).join("task"))?, lines, calls })
    }

    /// Threads of one name are summed: fewer than before when one has ended, which counts as none.
    fn since(&self, before: &Self) -> Self {
        let earlier = |name: &String| before.woken.get(name).copied().unwrap_or_default();
        let woken =
            self.woken.iter().map(|(name, count)| (name.clone(), count.saturating_sub(earlier(name)))).collect();
        Self { woken, lines: self.lines.saturating_sub(before.lines), calls: self.calls.saturating_sub(before.calls) }
    }
}

/// How often each thread has waited for something since it began, by name (proc(5), `voluntary_ctxt_switches`).
fn waits(tasks: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(tasks)?.flatten() {
        // One that has ended meanwhile is left out.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(name), Some(count)) = (field("Name:"), field("voluntary_ctxt_switches:")) else { continue };
        *found.entry(name.to_owned()).or_default() += count.parse::<u64>().map_err(io::Error::other)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_is_counted_by_its_name() {
        let sleeper = std::thread::Builder::new().name("idle-sleeper".to_owned());
        let thread = sleeper.spawn(|| {
            (0..20).for_each(|_| pass(Duration::from_millis(1)));
            waits(Path::new("/proc/self/task"))
        });
        let found = thread.unwrap().join().unwrap().unwrap();
        assert!(found["idle-sleeper"] >= 20, "{found:?}");
    }

    #[test]
    fn a_thread_that_has_ended_counts_as_not_woken() {
        let idle = |threads: &[(&str, u64)], lines| Idle {
            woken: threads.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            lines,
            calls: 7,
        };
        let before = idle(&[("a", 5), ("b", 9)], 2);
        let after = idle(&[("a", 8), ("b", 4), ("c", 1)], 3);
        let expected = Idle { calls: 0, ..idle(&[("a", 3), ("b", 0), ("c", 1)], 1) };
        assert_eq!(after.since(&before), expected);
    }
}
