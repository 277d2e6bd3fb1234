// SPDX-License-Identifier: Apache-2.0
//! What settings cost on a trace of pods: addresses held, waits, EC2 calls, side by side, as a table and as a plot.
//!
//! Every column meets the same pods, latencies and kubelet (the real one). Nothing goes wrong in these worlds but what the
//! limits and EC2's own throttle make go wrong.

mod plot;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::{BootTime, Config};

use crate::allocator::Strategy;
use crate::layout::Layout;
use crate::ours::Ours;
use crate::pace::Pace;
use crate::pods::TracedPod;
use crate::reference::{Reference, Settings};
use crate::stats::Stats;
use crate::world::{NodeId, PodPlan, World};

pub use plot::svg;
pub use vpc_model::ConfigError;

/// How long is watched after the last pod has come or gone.
const AFTER: Duration = Duration::from_secs(600);
/// Seed of latencies.
const SEED: u64 = 1;

/// One column: whose algorithm, with which settings.
#[derive(Clone, Debug)]
pub enum Column {
    /// Our daemon's.
    Ours(String, Box<Config>),
    /// The model of the reference's.
    Reference(String, Settings),
}

/// What one column measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The column's name.
    pub name: String,
    /// Pods of the trace.
    pub pods: usize,
    /// What its node did.
    pub stats: Stats,
    /// Until when it was watched.
    pub end: BootTime,
}

/// Runs a trace on one node of a type.
///
/// # Errors
/// A type that is not in the table.
pub fn run(instance_type: &str, pods: &[TracedPod], column: &Column) -> Result<Measured, ConfigError> {
    match column {
        Column::Ours(name, config) => measure(instance_type, pods, Ours::new(name.clone(), (**config).clone())),
        Column::Reference(name, settings) => {
            measure(instance_type, pods, Reference::new(name.clone(), settings.clone()))
        }
    }
}

fn measure<S: Strategy>(instance_type: &str, pods: &[TracedPod], strategy: S) -> Result<Measured, ConfigError> {
    let vpc = Layout::one(instance_type, 19).build(SEED)?;
    let instance = vpc.instances().next().map(|instance| instance.id.clone());
    let mut world = World::for_figures(vpc, Pace::default(), SEED);
    let name = strategy.name().to_owned();
    if let Some(instance) = instance {
        world.add_node(Rc::new(strategy), &instance, BootTime::default());
    }
    for pod in pods {
        let TracedPod { name, starts, ends } = pod.clone();
        world.plan_pod(PodPlan { node: NodeId(0), name, starts, ends });
    }
    let last = pods.iter().map(|pod| pod.ends.unwrap_or(pod.starts)).max().unwrap_or_default();
    let end = last + AFTER;
    world.run_until(end);
    Ok(Measured { name, pods: pods.len(), stats: world.nodes()[0].stats().clone(), end })
}

/// A number of the table.
type Figure = (&'static str, fn(&Measured) -> String);

const FIGURES: [Figure; 13] = [
    ("addresses held, p50", |it| it.stats.held.percentile(50, it.end).to_string()),
    ("addresses held, p95", |it| it.stats.held.percentile(95, it.end).to_string()),
    ("addresses held, most", |it| it.stats.held.max().to_string()),
    ("pods at once, most", |it| it.stats.pods.max().to_string()),
    ("addresses held per pod", |it| {
        let pods = it.stats.pods.integral(it.end);
        if pods > 0.0 { format!("{:.2}", it.stats.held.integral(it.end) / pods) } else { "-".to_owned() }
    }),
    ("addresses held per pod, p95", |it| {
        let hundredths = per_pod(&it.stats, it.end, 95);
        hundredths.map_or("-".to_owned(), |ratio| format!("{}.{:02}", ratio / 100, ratio % 100))
    }),
    ("wait for an address, p50", |it| wait(it, 50)),
    ("wait for an address, p99", |it| wait(it, 99)),
    ("wait for an address, longest", |it| wait(it, 100)),
    ("pods that never had one", |it| it.pods.saturating_sub(it.stats.waits.count()).to_string()),
    ("ADDs refused", |it| it.stats.refusals.values().sum::<u32>().to_string()),
    ("EC2 calls", |it| it.stats.all_calls().to_string()),
    ("  of these throttled", |it| it.stats.throttled.to_string()),
];

/// What this part of all pods waited at most, in hundredths; those that never had an address waited longer than any.
fn wait(it: &Measured, part: usize) -> String {
    it.stats.waits.percentile_among(it.pods, part).map_or("never".to_owned(), seconds)
}

/// Addresses held per pod, in hundredths: what is not exceeded for this part of the time in which there is a pod;
/// `None`: there is none at any time.
fn per_pod(stats: &Stats, end: BootTime, part: u32) -> Option<u32> {
    let changes = stats.held.points().iter().chain(stats.pods.points()).map(|(at, _)| *at);
    let mut moments: Vec<BootTime> = changes.filter(|at| *at < end).chain([end]).collect();
    moments.sort_unstable();
    moments.dedup();
    let mut ratios = Vec::new();
    for pair in moments.windows(2) {
        let (held, pods) = (stats.held.at(pair[0]), stats.pods.at(pair[0]));
        if let Some(ratio) = (held * 100).checked_div(pods) {
            ratios.push((ratio, pair[1].since(pair[0])));
        }
    }
    ratios.sort_unstable();
    let wanted = ratios.iter().map(|(_, stood)| *stood).sum::<Duration>() * part / 100;
    let mut sum = Duration::ZERO;
    let reached = |(_, stood): &&(u32, Duration)| {
        sum += *stood;
        sum >= wanted
    };
    ratios.iter().find(reached).map(|(ratio, _)| *ratio)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The columns side by side, calls by kind below. Names stand word below word, so that many columns fit beside each other.
#[must_use]
pub fn table(columns: &[Measured]) -> String {
    let row = |name: &str, cells: &mut dyn Iterator<Item = String>| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let mut rows: Vec<Vec<String>> = headings(columns).into_iter().map(|line| row("", &mut line.into_iter())).collect();
    for (name, figure) in FIGURES {
        rows.push(row(name, &mut columns.iter().map(figure)));
    }
    let actions: BTreeSet<&str> = columns.iter().flat_map(|it| it.stats.calls.keys().copied()).collect();
    for action in actions {
        let count = |it: &Measured| it.stats.calls.get(action).copied().unwrap_or(0).to_string();
        rows.push(row(&format!("  {action}"), &mut columns.iter().map(count)));
    }
    aligned(&rows)
}

/// The names of the columns as lines of words, the last words at the bottom.
fn headings(columns: &[Measured]) -> Vec<Vec<String>> {
    let names: Vec<Vec<&str>> = columns.iter().map(|it| it.name.split_whitespace().collect()).collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or(0);
    let word = |name: &Vec<&str>, line: usize| {
        let index = (line + name.len()).checked_sub(lines);
        index.and_then(|index| name.get(index)).map_or(String::new(), ToString::to_string)
    };
    (0..lines).map(|line| names.iter().map(|name| word(name, line)).collect()).collect()
}

/// Rows of cells as text, the first cell to the left and the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a text cannot fail.
            let _ = if index == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipamd_core::config::WarmTargets;

    /// The cells of a row.
    fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace().collect()
    }

    #[test]
    fn addresses_per_pod_count_each_moment_with_a_pod_as_long_as_it_lasts() {
        let at = |seconds| BootTime(Duration::from_secs(seconds));
        let mut stats = Stats::default();
        for (second, held) in [(0, 10), (200, 20)] {
            stats.held.set(at(second), held);
        }
        for (second, pods) in [(0, 0), (130, 5), (220, 20), (230, 0)] {
            stats.pods.set(at(second), pods);
        }
        // 100 for 10 s, 200 for 70 s, 400 for 20 s.
        let ratios = [10, 80, 81, 95].map(|part| per_pod(&stats, at(300), part));
        assert_eq!(ratios, [Some(100), Some(200), Some(400), Some(400)]);
        assert_eq!(per_pod(&Stats::default(), at(300), 95), None);
    }

    #[test]
    fn fewer_warm_addresses_hold_less_and_every_pod_gets_one() {
        let pods = crate::pods::parse(include_str!("../traces/ci.csv")).unwrap();
        let ours = |name: &str, warm| Column::Ours(name.to_owned(), Box::new(Config { warm, ..Config::default() }));
        let columns = [
            ours("eni", WarmTargets::Enis(1)),
            ours("few", WarmTargets::Addresses { warm: 5, minimum: 10 }),
            Column::Reference("reference".to_owned(), Settings::default()),
        ];
        let measured: Vec<Measured> = columns.iter().map(|column| run("m5.4xlarge", &pods, column).unwrap()).collect();
        for column in &measured {
            assert_eq!(column.stats.waits.count(), pods.len(), "{}: every pod gets an address", column.name);
        }
        let held = |index: usize| measured[index].stats.held.integral(measured[index].end);
        assert!(held(1) < held(0));
        let text = table(&measured);
        assert!(text.contains("addresses held, p95") && text.contains("AssignPrivateIpAddresses"), "{text}");
        assert_eq!(row(&text, "pods that never had one"), ["0", "0", "0"], "{text}");
        let plot = svg("m5.4xlarge & <ci>", &measured);
        assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
        assert!(plot.contains("m5.4xlarge &amp; &lt;ci>"), "the title is escaped");
        assert_eq!(plot.matches("<polyline").count(), 4, "one line a column, and the pods");
    }

    #[test]
    fn a_node_that_is_too_small_shows_the_pods_that_never_had_an_address() {
        // Two ENIs of one address each.
        let pods = crate::pods::parse("name,starts,ends\na,10,\nb,11,\nc,12,\n").unwrap();
        let column = Column::Ours("ours".to_owned(), Box::default());
        let measured = run("t3.nano", &pods, &column).unwrap();
        let text = table(&[measured]);
        assert_eq!(row(&text, "pods that never had one"), ["1"], "{text}");
        assert_eq!(row(&text, "wait for an address, p99"), ["never"], "one of three is more than a hundredth");
    }

    #[test]
    fn names_of_columns_stand_word_below_word() {
        let column =
            |name: &str| Measured { name: name.to_owned(), pods: 0, stats: Stats::default(), end: BootTime::default() };
        let lines = headings(&[column("A=1 B=2"), column("defaults")]);
        assert_eq!(lines, [["A=1", ""], ["B=2", "defaults"]]);
    }
}
