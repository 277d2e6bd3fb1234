// SPDX-License-Identifier: Apache-2.0
//! What the journal costs: both files as bytes, written whole and read back (the core's own program `journal`), and what the daemon itself
//! spends on it at each ADD and DEL, by its metric.

use std::error::Error;

use super::programs::{Program, number};
use super::report::{Goal, Report, Table, short};
use super::roomy;
use super::rpc::{Caller, Times};
use super::scrape::Scrape;
use crate::node::Node;
use crate::world::World;

/// Pods present.
const PRESENT: [usize; 4] = [0, 50, 250, 735];
/// ADD and DEL calls of which the mean counts, one caller.
const PAIRS: usize = 200;
/// What an ADD may spend on being durable with 250 pods, in microseconds: a rewrite on tmpfs and what makes its bytes.
const DURABLE: f64 = 70.0;
/// A daemon starts to serve by then: of these the journal may take so much.
const READ_BACK_MS: f64 = 10.0;

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let topology = roomy::start(&[])?;
    whole(report, &topology.world)?;
    at_each_call(report, topology.node(roomy::NAME))
}

/// Both files, in a folder of the world's tmpfs.
fn whole(report: &mut Report, world: &World) -> Result<(), Box<dyn Error>> {
    let note = "`ipamd/core/examples/journal.rs`, 500 rounds, files on a tmpfs: temporary file and rename, no fsync. The daemon writes less \
                when it knows what has changed: the next table.";
    let folder = world.folder("journal")?;
    let program = Program::start("ENID_BENCH_JOURNAL", "journal", &[&folder.to_string_lossy()])?;
    let table = program.table("The journal, written whole and read back, by pods", note)?;
    let read = number(&table, "read and restored, us p50", |row| row[0] == "250")?;
    report.table(table);
    report.goal(Goal {
        name: "journal of 250 pods, read back at a start".to_owned(),
        measured: read / 1e3,
        limit: READ_BACK_MS,
        unit: "ms",
    });
    Ok(())
}

fn at_each_call(report: &mut Report, node: &Node) -> Result<(), Box<dyn Error>> {
    let caller = Caller::find()?;
    let (mut present, mut rows) = (Vec::new(), Vec::new());
    for count in PRESENT {
        roomy::raise(node, &mut present, count)?;
        roomy::filled(node, 2 * PAIRS)?;
        let before = Journal::read(&Scrape::of(node)?)?;
        let mut times = Times::default();
        caller.call(&node.state_folder().join("ipamd.sock"), "kept", (1, PAIRS), &mut times)?;
        let spent = Journal::read(&Scrape::of(node)?)?.since(&before);
        // The first pair of the caller's is not in its times, but in the daemon's.
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let calls = 2.0 * (PAIRS + 1) as f64;
        let mean = 1e6 * spent.seconds / spent.writes;
        rows.push(vec![
            count.to_string(),
            short(spent.writes / calls),
            short(mean),
            short(1e6 * spent.seconds / calls),
        ]);
        if count == 250 {
            let name = "the daemon's journal at a call with 250 pods present, mean".to_owned();
            report.goal(Goal { name, measured: 1e6 * spent.seconds / calls, limit: DURABLE, unit: "us" });
        }
    }
    report.table(Table {
        title: "What the daemon spends on its journal, by pods present".to_owned(),
        note: format!(
            "`ipamd_journal_write_duration_seconds` of the daemon over {PAIRS} pairs of AddNetwork and DelNetwork, one at a time; addresses \
             that come back from their rest are written down, too."
        ),
        columns: ["pods present", "writes a call", "a write, mean us", "a call, mean us"].map(str::to_owned).to_vec(),
        rows,
    });
    Ok(())
}

/// The daemon's journal so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Journal {
    writes: f64,
    seconds: f64,
}

impl Journal {
    fn read(scrape: &Scrape) -> Result<Self, String> {
        let of = |part: &str| scrape.value(&format!("ipamd_journal_write_duration_seconds_{part}"));
        Ok(Self { writes: of("count")?, seconds: of("sum")? })
    }

    fn since(self, before: &Self) -> Self {
        Self { writes: self.writes - before.writes, seconds: self.seconds - before.seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_the_difference_of_two_scrapes() {
        let scrape = |writes: u32, seconds: f64| {
            Scrape::new(&format!(
                "# TYPE ipamd_journal_write_duration_seconds histogram\n\
                 ipamd_journal_write_duration_seconds_bucket{{le=\"0.001\"}} 1\n\
                 ipamd_journal_write_duration_seconds_sum {seconds}\n\
                 ipamd_journal_write_duration_seconds_count {writes}\n"
            ))
        };
        let [before, after] = [scrape(10, 0.5), scrape(14, 0.75)].map(|scrape| Journal::read(&scrape).unwrap());
        assert_eq!(after.since(&before), Journal { writes: 4.0, seconds: 0.25 });
        assert!(Journal::read(&Scrape::new("other 1\n")).unwrap_err().contains("ipamd_journal_write_duration_seconds"));
    }
}
