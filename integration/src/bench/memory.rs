// SPDX-License-Identifier: Apache-2.0
//! Whether memory grows: the core's live heap over a million simulated pods (`ipamd/simulate/examples/growth.rs`), and what a real daemon
//! holds over ten thousand real ADDs and DELs.
//!
//! The two run at the same time: neither measures time. A daemon keeps the newest of what happened in rings, which fill up during the
//! first thousand; from there on it must hold the same, within a MiB. Anonymous memory (`RssAnon`) is heap and stacks; `VmRSS` has the
//! pages of the program's file besides, which come as its code is first used.

use std::error::Error;

use super::programs::{Program, number};
use super::report::{Goal, Line, Plot, Report, Table};
use super::roomy;
use crate::node::Node;
use crate::pods;

/// Pods of the simulation.
const SIMULATED: &str = "1000000";
const QUICK_SIMULATED: &str = "20000";
/// Real ones, and after how many memory is read each time.
const REAL: usize = 10_000;
const EVERY: usize = 1_000;
const QUICK_REAL: usize = 400;
const QUICK_EVERY: usize = 100;
/// Pods that are there at a time.
const TOGETHER: usize = 50;
/// Flat means within this, in MiB.
const FLAT: f64 = 1.0;

/// What a daemon holds, in KiB.
#[derive(Clone, Copy, Debug)]
struct Reading {
    pods: usize,
    resident: u64,
    anonymous: u64,
}

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let is_quick = report.settings().is_quick;
    let simulated = if is_quick { QUICK_SIMULATED } else { SIMULATED };
    let growth = Program::start("ENID_BENCH_GROWTH", "growth", &[simulated])?;
    let (count, every) = if is_quick { (QUICK_REAL, QUICK_EVERY) } else { (REAL, EVERY) };
    let mut topology = roomy::start(&[])?;
    let mut readings = vec![read(topology.node_mut(roomy::NAME), 0)?];
    for pods in (every..=count).step_by(every) {
        churn(topology.node(roomy::NAME), every)?;
        readings.push(read(topology.node_mut(roomy::NAME), pods)?);
    }
    real(report, &readings);
    let note = "`ipamd/simulate/examples/growth.rs`: pods in waves on an m5.4xlarge, EC2 the strict model, time virtual; bytes that the core \
                and what stands around it have allocated and not freed, by a counting allocator, at the same moment of a wave.";
    let table = growth.table("The core's live heap over simulated pods", note)?;
    let heap = "the daemon's live heap, bytes";
    let first = number(&table, heap, |_| true)?;
    let pods = table.rows.last().map(|row| row[0].clone()).unwrap_or_default();
    let last = number(&table, heap, |row| row[0] == pods)?;
    report.goal(Goal {
        name: format!("live heap of the core after {pods} simulated pods, more than after the first 10000"),
        measured: (last - first) / 1_048_576.0,
        limit: FLAT,
        unit: "MiB",
    });
    report.table(table);
    Ok(())
}

/// So many pods come and go.
fn churn(node: &Node, count: usize) -> Result<(), Box<dyn Error>> {
    let mut left = count;
    while left > 0 {
        let some = left.min(TOGETHER);
        left -= some;
        let mut present = Vec::new();
        roomy::raise(node, &mut present, some)?;
        pods::end(node, present, roomy::AT_ONCE)?;
    }
    Ok(())
}

fn read(node: &mut Node, pods: usize) -> Result<Reading, Box<dyn Error>> {
    let daemon = node.daemon().ok_or("the daemon does not run")?;
    Ok(Reading { pods, resident: daemon.memory_kib("VmRSS")?, anonymous: daemon.memory_kib("RssAnon")? })
}

/// KiB as MiB.
fn mebibytes(kibibytes: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let kibibytes = kibibytes as f64;
    kibibytes / 1_024.0
}

fn signed(kibibytes: u64) -> i64 {
    i64::try_from(kibibytes).unwrap_or(i64::MAX)
}

/// Of each figure how much more it is in the last reading than in the second, the first after pods.
fn grown(readings: &[Reading]) -> Option<[f64; 2]> {
    let (first, last) = (readings.get(1)?, readings.last()?);
    let more = |of: fn(&Reading) -> u64| mebibytes(signed(of(last)) - signed(of(first)));
    Some([more(|reading| reading.resident), more(|reading| reading.anonymous)])
}

fn real(report: &mut Report, readings: &[Reading]) {
    let all = readings.last().map_or(0, |reading| reading.pods);
    for (name, more) in ["VmRSS", "RssAnon"].into_iter().zip(grown(readings).into_iter().flatten()) {
        let first = readings.get(1).map_or(0, |reading| reading.pods);
        report.goal(Goal {
            name: format!("{name} of the daemon after {all} real pods, more than after the first {first}"),
            measured: more,
            limit: FLAT,
            unit: "MiB",
        });
    }
    let row = |reading: &Reading| {
        let shown = |kibibytes| format!("{:.2}", mebibytes(signed(kibibytes)));
        vec![reading.pods.to_string(), shown(reading.resident), shown(reading.anonymous)]
    };
    report.table(Table {
        title: format!("Memory of the daemon over {all} real pods that come and go"),
        note: format!(
            "ADD, DEL and the DEL that containerd repeats, {} at once, at most {TOGETHER} pods at a time; read from /proc/<pid>/status \
             between them.",
            roomy::AT_ONCE
        ),
        columns: ["pods so far", "VmRSS, MiB", "RssAnon, MiB"].map(str::to_owned).to_vec(),
        rows: readings.iter().map(row).collect(),
    });
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let line = |name: &str, of: fn(&Reading) -> u64| Line {
        name: name.to_owned(),
        points: readings.iter().map(|reading| (reading.pods as f64, mebibytes(signed(of(reading))))).collect(),
    };
    report.plot(Plot {
        name: "memory".to_owned(),
        title: "Memory of the daemon over real pods that come and go".to_owned(),
        x: "pods so far".to_owned(),
        y: "MiB".to_owned(),
        log_y: false,
        lines: vec![line("VmRSS", |reading| reading.resident), line("RssAnon", |reading| reading.anonymous)],
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_from_the_first_reading_after_pods_and_may_be_negative() {
        let reading = |pods, resident, anonymous| Reading { pods, resident, anonymous };
        let readings = [reading(0, 1_024, 0), reading(1, 20_480, 8_192), reading(2, 21_504, 7_168)];
        assert_eq!(grown(&readings), Some([1.0, -1.0]));
        assert_eq!(grown(&readings[..1]), None);
    }
}
