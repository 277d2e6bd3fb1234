// SPDX-License-Identifier: Apache-2.0
//! ADDs at a steady rate, whatever became of those before (an open loop), while as many pods go: 20 a second with 250 pods present.
//!
//! ```text
//! ADD  0 ──── 50 ms ──── 100 ──── 150 …     each by a thread and a process of its own, started when it is due
//! DEL     25 ─────── 75 ─────── 125 …       of the oldest pod, so that their number stays
//! ```
//! Time counts from the moment when a call was due: one that begins late because the machine is busy has waited, too. Sandboxes are
//! made before and removed after.
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use std::error::Error;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::figures::Series;
use super::report::{Goal, Report, Table, short};
use super::roomy;
use crate::eventually::pass;
use crate::node::Node;
use crate::pods::Pod;
use crate::sandbox::{NetnsPath, Sandbox, SandboxError};

const PRESENT: usize = 250;
const RATE: u32 = 20;
const SECONDS: u32 = 20;
const QUICK_SECONDS: u32 = 3;
/// What 99 of 100 ADDs take at most.
const P99_MS: f64 = 20.0;
/// Before the first: threads and caches are there.
const LEAD: Duration = Duration::from_millis(500);

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let seconds = if report.settings().is_quick { QUICK_SECONDS } else { SECONDS };
    // Addresses rest as long as the default says: there are enough.
    let topology = roomy::start(&[("IP_COOLDOWN_PERIOD", "30")])?;
    let node = topology.node(roomy::NAME);
    let mut present = Vec::new();
    roomy::raise(node, &mut present, PRESENT)?;
    let count = (RATE * seconds) as usize;
    let coming = (0..count).map(|_| node.next_sandbox()).collect::<Result<Vec<_>, _>>()?;
    let measured = arrive(node, &coming, &present)?;
    tell(report, count, &measured);
    Ok(())
}

/// Times from when each was due.
#[derive(Debug, Default)]
struct Measured {
    adds: Series,
    dels: Series,
    /// How late calls began.
    late: Series,
}

/// What a call's thread brings: how late it began, how long after it was due it ended.
type Call<'scope> = ScopedJoinHandle<'scope, Result<(Duration, Duration), SandboxError>>;

fn arrive(node: &Node, coming: &[Sandbox], present: &[Pod]) -> Result<Measured, SandboxError> {
    let going = present.iter().map(|pod| &pod.sandbox).chain(coming);
    let apart = Duration::from_secs(1) / RATE;
    let first = Instant::now() + LEAD;
    std::thread::scope(|scope| {
        let (mut adds, mut dels) = (Vec::new(), Vec::new());
        let mut due = first;
        for (comes, goes) in coming.iter().zip(going) {
            adds.push(begin(scope, due, move || node.runtime.add(comes).map(drop)));
            dels.push(begin(scope, due + apart / 2, move || node.runtime.del(goes, NetnsPath::Given).map(drop)));
            due += apart;
        }
        let mut measured = Measured::default();
        for (calls, into) in [(adds, &mut measured.adds), (dels, &mut measured.dels)] {
            for call in calls {
                let (late, took) = call.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                measured.late.push(late);
                into.push(took);
            }
        }
        Ok(measured)
    })
}

/// Waits until a call is due and has a thread begin it.
fn begin<'scope>(
    scope: &'scope Scope<'scope, '_>,
    due: Instant,
    call: impl FnOnce() -> Result<(), SandboxError> + Send + 'scope,
) -> Call<'scope> {
    pass(due.saturating_duration_since(Instant::now()));
    scope.spawn(move || {
        let late = due.elapsed();
        call().map(|()| (late, due.elapsed()))
    })
}

fn tell(report: &mut Report, count: usize, measured: &Measured) {
    report.goal(Goal {
        name: format!("ADD at {RATE} a second with {PRESENT} pods present, p99"),
        measured: measured.adds.percentile(99),
        limit: P99_MS,
        unit: "ms",
    });
    let row = |what: &str, series: &Series| {
        let mut cells = vec![what.to_owned()];
        cells.extend([50, 90, 99, 100].map(|percent| short(series.percentile(percent))));
        cells
    };
    let rows =
        vec![row("ADD", &measured.adds), row("DEL", &measured.dels), row("of it: begun late, both", &measured.late)];
    report.table(Table {
        title: format!("{RATE} ADDs and {RATE} DELs a second with {PRESENT} pods present"),
        note: format!(
            "An m5.24xlarge in prefix mode; {count} of each, arriving when they are due whatever became of those before; time counts \
             from when a call was due to the end of its process."
        ),
        columns: ["call", "p50, ms", "p90, ms", "p99, ms", "longest, ms"].map(str::to_owned).to_vec(),
        rows,
    });
}
