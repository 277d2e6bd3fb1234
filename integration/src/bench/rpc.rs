// SPDX-License-Identifier: Apache-2.0
//! The call alone: AddNetwork and DelNetwork over the daemon's socket, without a process a call and without plumbing, beside the floor's
//! empty server, by pods present, callers at once, and whether the connection is kept or new as the plugin's is.
//!
//! `cni-calls` (`integration/floor`) makes the calls: it is built as the plugin is, so that the caller's end costs what it costs there.
//! Addresses that it is given have no pod; it gives each back with the next call.
#![expect(clippy::disallowed_methods, reason = "runs a program")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::figures::Series;
use super::floor::Floor;
use super::report::{Goal, Line, Plot, Report, Table, short};
use super::roomy;

/// Pods present.
const PRESENT: [usize; 3] = [0, 250, 735];
const CONNECTIONS: [&str; 2] = ["kept", "new"];
const CALLERS: [usize; 3] = [1, 8, 32];
/// Pairs of a turn, all callers together.
const PAIRS: usize = 96;
/// Turns of each, one after the other.
const TURNS: usize = 3;
/// The ratio of an ADD with 735 pods present to one with none, at most.
const INDEPENDENT: f64 = 1.3;

/// The program that calls.
#[derive(Clone, Debug)]
pub(super) struct Caller(PathBuf);

/// Times of both calls.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) add: Series,
    pub(super) del: Series,
}

impl Caller {
    pub(super) fn find() -> Result<Self, Box<dyn Error>> {
        Ok(Self(crate::node::binary("ENID_CNI_CALLS", &["enid/cni-calls"])?))
    }

    /// So many callers make so many pairs each.
    pub(super) fn call(
        &self,
        socket: &Path,
        connection: &str,
        (callers, rounds): (usize, usize),
        times: &mut Times,
    ) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(&self.0);
        command.arg(socket).arg(connection).args([callers.to_string(), rounds.to_string()]);
        let output = command.output().map_err(|error| format!("{}: {error}", self.0.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} {}: {}", self.0.display(), socket.display(), said.trim()).into());
        }
        times.read(&String::from_utf8_lossy(&output.stdout)).map_err(Into::into)
    }
}

impl Times {
    /// Adds what the program printed: `add` and `del`, each with microseconds.
    fn read(&mut self, said: &str) -> Result<(), String> {
        for (verb, series) in [("add", &mut self.add), ("del", &mut self.del)] {
            let line = said.lines().find_map(|line| line.strip_prefix(verb));
            let words = line.ok_or_else(|| format!("no line {verb:?} in {said:?}"))?.split_whitespace();
            for word in words {
                let micros: f64 = word.parse().map_err(|_| format!("{word:?} is no time"))?;
                let took = Duration::try_from_secs_f64(micros / 1e6).map_err(|_| format!("{word:?} is no time"))?;
                series.push(took);
            }
        }
        Ok(())
    }

    /// ADD and DEL: this percentile in microseconds.
    fn micros(&self, percent: usize) -> [f64; 2] {
        [&self.add, &self.del].map(|series| series.percentile(percent) * 1e3)
    }
}

/// Medians of ADD: who, over which connection, and by pods present.
type Curves = Vec<(String, Vec<(f64, f64)>)>;

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let caller = Caller::find()?;
    let topology = roomy::start(&[])?;
    let floor = Floor::start(&topology.world)?;
    let node = topology.node(roomy::NAME);
    let sockets = [node.state_folder().join("ipamd.sock"), floor.socket.clone()];
    let turns = report.settings().rounds(TURNS);
    let (mut present, mut rows, mut curves) = (Vec::new(), Vec::new(), Curves::new());
    for count in PRESENT {
        roomy::raise(node, &mut present, count)?;
        for connection in CONNECTIONS {
            for callers in CALLERS {
                let mut sides = [Times::default(), Times::default()];
                for _ in 0..turns {
                    for (socket, times) in sockets.iter().zip(&mut sides) {
                        roomy::filled(node, 2 * PAIRS)?;
                        caller.call(socket, connection, (callers, PAIRS / callers), times)?;
                    }
                }
                rows.push(row((connection, callers, count), &sides));
                if callers == 1 {
                    remember(&mut curves, connection, count, &sides);
                }
            }
        }
    }
    tell(report, turns, rows, curves);
    Ok(())
}

fn row((connection, callers, present): (&str, usize, usize), sides: &[Times; 2]) -> Vec<String> {
    let mut cells = vec![connection.to_owned(), callers.to_string(), present.to_string()];
    let halves = sides.each_ref().map(|times| times.micros(50));
    let slow = sides.each_ref().map(|times| times.micros(90));
    for verb in [0, 1] {
        cells.extend([0, 1].map(|side| format!("{} / {}", short(halves[side][verb]), short(slow[side][verb]))));
        cells.push(short(halves[0][verb] / halves[1][verb]));
    }
    cells
}

fn remember(curves: &mut Curves, connection: &str, present: usize, sides: &[Times; 2]) {
    for (who, times) in ["enid", "floor"].into_iter().zip(sides) {
        let name = format!("{who}, connection {connection}");
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let point = (present as f64, times.micros(50)[0]);
        match curves.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => curves.push((name, vec![point])),
        }
    }
}

fn tell(report: &mut Report, turns: usize, rows: Vec<Vec<String>>, curves: Curves) {
    let columns = [
        "connection",
        "at once",
        "pods present",
        "ADD enid p50 / p90, us",
        "ADD floor",
        "ADD ratio p50",
        "DEL enid p50 / p90, us",
        "DEL floor",
        "DEL ratio p50",
    ];
    let note = format!(
        "`cni-calls`, {PAIRS} pairs a turn, {turns} turns of daemon and empty server each; no process a call, no plumbing. A \
         connection that is kept is tonic's; a new one a call is the plugin's own client's."
    );
    let title = "The call alone, by connection, callers and pods present".to_owned();
    report.table(Table { title, note, columns: columns.map(str::to_owned).to_vec(), rows });
    for (name, points) in curves.iter().filter(|(name, _)| name.starts_with("enid")) {
        if let (Some((_, none)), Some((_, full))) = (points.first(), points.last()) {
            report.goal(Goal {
                name: format!("the call alone ({name}): an ADD with 735 pods present against one with none, p50"),
                measured: full / none,
                limit: INDEPENDENT,
                unit: "",
            });
        }
    }
    report.plot(Plot {
        name: "rpc".to_owned(),
        title: "AddNetwork alone, one at a time, p50".to_owned(),
        x: "pods present".to_owned(),
        y: "us".to_owned(),
        log_y: false,
        lines: curves.into_iter().map(|(name, points)| Line { name, points }).collect(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_verb_by_verb_and_what_is_none_is_told() {
        let mut times = Times::default();
        times.read("add 100.0 300.0\ndel 50.5\n").unwrap();
        times.read("add 200.0\ndel 49.5\n").unwrap();
        let [add, del] = times.micros(50);
        assert!((add - 200.0).abs() < 1e-6 && (del - 49.5).abs() < 1e-6, "{add} {del}");
        for said in ["add 1.0\n", "add x\ndel 1\n", "add -1\ndel 1\n", ""] {
            assert!(Times::default().read(said).is_err(), "{said:?}");
        }
    }
}
