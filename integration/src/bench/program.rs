// SPDX-License-Identifier: Apache-2.0
//! How long the daemon takes to program a node whose kernel is empty although its pods live, and to repair the rules when somebody
//! has flushed them: in either layout, with the pods that are there.
//!
//! ```text
//! empty   daemon ended, rules, routes, addresses, permanent neighbours and nft table removed ─ daemon started ──► all is as before
//! repair  daemon at work, `ip rule flush` ──► all rules are as before
//! ```
//!
//! Both are seen from outside, by reading the kernel again and again, which takes its time, too: that of one reading is said.
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use std::error::Error;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::figures::Series;
use super::packets::KERNEL_RULES;
use super::report::{Report, Table};
use crate::eventually::{eventually, pass};
use crate::node::{Leftovers, Node};
use crate::pods;
use crate::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};

/// Pods on the node.
const PODS: usize = 250;
/// How often.
const PROGRAMMINGS: usize = 3;
/// Fewer than are taken for a fight (ten a minute).
const REPAIRS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// How often each is done in this run.
#[derive(Clone, Copy)]
struct Rounds {
    programmings: usize,
    repairs: usize,
}

/// One line of the table.
struct Line {
    layout: &'static str,
    pods: usize,
    rules: usize,
    empty: Series,
    repair: Series,
    reading: Series,
}

/// Measures on one node, in both layouts.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new("n1", "m5.24xlarge", Subnet::C)], ..TopologySpec::one("m5.24xlarge") };
    let mut topology = Topology::build(&spec)?;
    topology.start(&[("ENABLE_PREFIX_DELEGATION", "true"), ("AWS_VPC_K8S_CNI_LOGLEVEL", "info")])?;
    let _pods = pods::start(&topology.nodes[0], PODS, 8, &AtomicUsize::new(0))?;
    let settings = report.settings();
    let rounds = Rounds { programmings: settings.rounds(PROGRAMMINGS), repairs: settings.rounds(REPAIRS) };
    let mut lines = Vec::new();
    for layout in ["classic", "flat"] {
        let node = &mut topology.nodes[0];
        node.stop();
        node.set("ENID_LAYOUT", layout);
        node.start()?;
        node.wait_ready(READY)?;
        lines.push(of_layout(node, layout, rounds)?);
    }
    report.table(table(&lines, rounds));
    Ok(())
}

fn of_layout(node: &mut Node, layout: &'static str, rounds: Rounds) -> Result<Line, Box<dyn Error>> {
    // Pods change over, prefixes settle.
    pass(Duration::from_secs(8));
    let mut reading = Series::default();
    let mut look = |node: &Node| -> Result<Leftovers, Box<dyn Error>> {
        let start = Instant::now();
        let found = sorted(node.leftovers()?);
        reading.push(start.elapsed());
        Ok(found)
    };
    let whole = look(node)?;
    let mut line = Line {
        layout,
        pods: whole.links.len(),
        rules: whole.rules.len(),
        empty: Series::default(),
        repair: Series::default(),
        reading: Series::default(),
    };
    for _ in 0..rounds.repairs {
        node.ip(&format!("rule flush\n{KERNEL_RULES}"))?;
        let start = Instant::now();
        eventually("the rules are back", PATIENCE, || differs(&whole, &look(node)))?;
        line.repair.push(start.elapsed());
        pass(Duration::from_secs(2));
    }
    for _ in 0..rounds.programmings {
        node.stop();
        wipe(node, &whole)?;
        node.start()?;
        let start = Instant::now();
        eventually("the node is programmed", PATIENCE, || differs(&whole, &look(node)))?;
        line.empty.push(start.elapsed());
        node.wait_ready(READY)?;
        pass(Duration::from_secs(3));
    }
    line.reading = reading;
    Ok(line)
}

fn differs(whole: &Leftovers, now: &Result<Leftovers, Box<dyn Error>>) -> Result<(), String> {
    match now {
        Ok(now) if now == whole => Ok(()),
        Ok(now) => Err(format!(
            "rules {} of {}, routes {} of {}",
            now.rules.len(),
            whole.rules.len(),
            now.routes.len(),
            whole.routes.len()
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn sorted(mut found: Leftovers) -> Leftovers {
    for objects in [&mut found.rules, &mut found.routes, &mut found.neighbours, &mut found.addresses, &mut found.links]
    {
        objects.sort();
    }
    found
}

/// Takes away what the daemon and the plugins have made, but links: sandboxes live.
fn wipe(node: &Node, whole: &Leftovers) -> Result<(), Box<dyn Error>> {
    let mut lines = format!("rule flush\n{KERNEL_RULES}route flush table all proto 158\n");
    for neighbour in &whole.neighbours {
        lines += &format!("neighbour del {neighbour}\n");
    }
    for address in &whole.addresses {
        let link = address.split(" dev ").nth(1).unwrap_or_default();
        lines += &format!("address flush dev {link}\n");
    }
    node.ip(&lines)?;
    Ok(node.nft("delete table ip enid\n")?)
}

/// What was measured.
fn table(lines: &[Line], Rounds { programmings, repairs }: Rounds) -> Table {
    let mut rows = Vec::new();
    for line in lines {
        let cell = |series: &Series| format!("{:.2}, {:.2}", series.percentile(50) / 1e3, series.percentile(100) / 1e3);
        let (empty, repair, reading) = (cell(&line.empty), cell(&line.repair), line.reading.percentile(50) / 1e3);
        let counts = [line.layout.to_owned(), line.pods.to_string(), line.rules.to_string()];
        rows.push(counts.into_iter().chain([empty, repair, format!("{reading:.2}")]).collect());
    }
    let columns = [
        "layout".to_owned(),
        "pods".to_owned(),
        "rules".to_owned(),
        format!("programmed from empty, s (of {programmings}: p50, longest)"),
        format!("repaired after `ip rule flush`, s (of {repairs})"),
        "one reading, s".to_owned(),
    ];
    Table {
        title: "Programming a node, and repairing it".to_owned(),
        note: "Until the kernel is as before, seen by reading it again and again; one such reading is in each figure."
            .to_owned(),
        columns: columns.into(),
        rows,
    }
}
