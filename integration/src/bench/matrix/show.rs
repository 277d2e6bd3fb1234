// SPDX-License-Identifier: Apache-2.0
//! What the matrix shows: its one table, its goals, its plots. Pure: times in, text and points out.
//!
//! Of a burst goals, plots and what is compared with peers take the time until its last call has ended, not the p50 of single calls: with
//! fewer processors than calls, a callee that is quick enough has ended before the last ones are started, and its p50 is of how few meet,
//! not of what a burst costs.
//!
//! Callees are listed Enid first, the floor second.

use super::super::figures::{Ratio, Series};
use super::super::report::{Goal, Line, Plot, Table};
use super::Cell;
use super::callee::Verb;
use super::rounds::Kind;

const ENID: usize = 0;
const FLOOR: usize = 1;
/// A cold ADD, and a DEL, is to take at most so many times what the floor takes.
const TO_FLOOR: f64 = 1.25;
/// "Independent of the pods present": the ratio beside most pods, divided by that beside none.
const INDEPENDENT: f64 = 1.1;
/// Bursts of which there are goals.
const WITH_GOALS: [usize; 2] = [1, 32];
/// Pods present in the plot by pods at once.
const USUAL: usize = 110;

impl Cell {
    fn kind(&self, callee: usize, verb: Verb) -> &Kind {
        &self.times[callee][usize::from(verb == Verb::Del)]
    }

    fn median(&self, callee: usize, verb: Verb) -> f64 {
        Series::joined(&self.kind(callee, verb).rounds).percentile(50)
    }

    /// p50 of one call, or of the time until the last of a burst.
    fn typical(&self, callee: usize, verb: Verb) -> f64 {
        if self.at_once == 1 {
            return self.median(callee, verb);
        }
        Series::joined(&self.kind(callee, verb).whole).percentile(50)
    }

    /// Enid's to the floor's, as the goals take it.
    fn to_floor(&self, verb: Verb) -> f64 {
        if self.at_once == 1 { self.ratio(verb, 50, FLOOR).of_all } else { self.of_burst(verb, FLOOR).of_all }
    }

    /// Enid's to another's, of the time until the last of a burst.
    fn of_burst(&self, verb: Verb, other: usize) -> Ratio {
        Ratio::of(50, &self.kind(ENID, verb).whole, &self.kind(other, verb).whole)
    }

    /// Enid's to another's.
    fn ratio(&self, verb: Verb, percent: usize, other: usize) -> Ratio {
        Ratio::of(percent, &self.kind(ENID, verb).rounds, &self.kind(other, verb).rounds)
    }
}

/// The one table.
pub(super) fn table(cells: &[Cell], names: &[String]) -> Table {
    let mut columns: Vec<String> = ["call", "at once", "pods present", "rounds"].map(str::to_owned).to_vec();
    columns.push(format!("{} p50 / p90 / p99, ms", names[ENID]));
    columns.push("until the last".to_owned());
    columns.extend(names[FLOOR..].iter().map(|name| format!("{name} p50 / p90")));
    columns.push(format!("to {} p50 (p25 to p75 of rounds)", names[FLOOR]));
    columns.push(format!("to {} p90 (p25 to p75)", names[FLOOR]));
    columns.push(format!("to {} until the last", names[FLOOR]));
    columns.extend(names[FLOOR + 1..].iter().map(|name| format!("to {name} (one: p50, p90; a burst: until the last)")));
    let rows = cells.iter().flat_map(|cell| Verb::BOTH.map(|verb| row(cell, verb, names.len()))).collect();
    let note = "Cold processes, from start to end, milliseconds. In each round all are called in turn, each with so many at once on \
                a node of its own with as many pods of its own present. \"Until the last\": from the first start to the last end, \
                p50 of rounds.";
    Table { title: "ADD and DEL: the matrix".to_owned(), note: note.to_owned(), columns, rows }
}

fn row(cell: &Cell, verb: Verb, callees: usize) -> Vec<String> {
    let percentiles = |callee: usize, percents: &[usize]| {
        let all = Series::joined(&cell.kind(callee, verb).rounds);
        let texts = percents.iter().map(|percent| format!("{:.1}", all.percentile(*percent)));
        texts.collect::<Vec<_>>().join(" / ")
    };
    let ours = cell.kind(ENID, verb);
    let counts = [cell.at_once, cell.present, ours.rounds.len()].map(|count| count.to_string());
    let mut row = vec![verb.name().to_owned()];
    row.extend(counts);
    row.push(percentiles(ENID, &[50, 90, 99]));
    row.push(format!("{:.1}", Series::joined(&ours.whole).percentile(50)));
    row.extend((FLOOR..callees).map(|callee| percentiles(callee, &[50, 90])));
    row.extend([50, 90].map(|percent| cell.ratio(verb, percent, FLOOR).with_spread()));
    row.push(cell.of_burst(verb, FLOOR).plain());
    let to_peer = |callee| match cell.at_once {
        1 => [50, 90].map(|percent| cell.ratio(verb, percent, callee).plain()).join(", "),
        _ => cell.of_burst(verb, callee).plain(),
    };
    row.extend((FLOOR + 1..callees).map(to_peer));
    row
}

/// What the ratios to the floor should be.
pub(super) fn goals(cells: &[Cell]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for verb in Verb::BOTH {
        for at_once in WITH_GOALS {
            let of_burst: Vec<&Cell> = cells.iter().filter(|cell| cell.at_once == at_once).collect();
            let ratios: Vec<f64> = of_burst.iter().map(|cell| cell.to_floor(verb)).collect();
            let (Some(none), Some(most)) = (ratios.first(), ratios.last()) else { continue };
            let presents: Vec<_> = of_burst.iter().map(|cell| cell.present.to_string()).collect();
            let goal = |name: &str, measured: f64, limit: f64| {
                let name = format!("cold {}, {at_once} at once: {name}", verb.name());
                Goal { name, measured, limit, unit: "" }
            };
            // What is no number is the worst.
            let worst = ratios.iter().copied().max_by(f64::total_cmp).unwrap_or(f64::NAN);
            let what = if at_once == 1 { "p50" } else { "until the last" };
            let name = format!("{what}, to the floor's, worst of {} pods present", presents.join(", "));
            goals.push(goal(&name, worst, TO_FLOOR));
            let (first, last) = (&presents[0], &presents[presents.len() - 1]);
            let name = format!("that ratio beside {last} pods to that beside {first}");
            goals.push(goal(&name, most / none, INDEPENDENT));
        }
    }
    goals
}

/// Times by pods present and by pods at once, and the ratio to the floor.
pub(super) fn plots(cells: &[Cell], names: &[String]) -> Vec<Plot> {
    let by_present = |verb: Verb| -> Vec<Line> {
        let alone = || cells.iter().filter(|cell| cell.at_once == 1);
        let of = |callee: usize| alone().map(|cell| (count(cell.present), cell.median(callee, verb))).collect();
        names.iter().enumerate().map(|(callee, name)| Line { name: name.clone(), points: of(callee) }).collect()
    };
    let by_burst = |verb: Verb| -> Vec<Line> {
        let beside = || cells.iter().filter(|cell| cell.present == USUAL);
        let of = |callee: usize| beside().map(|cell| (count(cell.at_once), cell.typical(callee, verb))).collect();
        names.iter().enumerate().map(|(callee, name)| Line { name: name.clone(), points: of(callee) }).collect()
    };
    let to_floor = Verb::BOTH.into_iter().flat_map(|verb| {
        WITH_GOALS.map(|at_once| {
            let some = cells.iter().filter(|cell| cell.at_once == at_once);
            let points = some.map(|cell| (count(cell.present), cell.to_floor(verb))).collect();
            Line { name: format!("{}, {at_once} at once", verb.name()), points }
        })
    });
    let plot = |name: &str, title: &str, x: &str, lines: Vec<Line>| {
        let [name, title, x] = [name, title, x].map(str::to_owned);
        Plot { name, title, x, y: "ms, p50".to_owned(), log_y: true, lines }
    };
    let usual = format!("beside {USUAL} pods, by pods at once");
    vec![
        plot("add-by-present", "One cold ADD, by pods present", "pods present", by_present(Verb::Add)),
        plot("del-by-present", "One cold DEL, by pods present", "pods present", by_present(Verb::Del)),
        plot("add-by-burst", &format!("Until the last ADD {usual}"), "pods at once", by_burst(Verb::Add)),
        plot("del-by-burst", &format!("Until the last DEL {usual}"), "pods at once", by_burst(Verb::Del)),
        Plot {
            y: "times the floor".to_owned(),
            log_y: false,
            ..plot("to-floor", "Enid's ratio to the floor, by pods present", "pods present", to_floor.collect())
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "hundreds")]
fn count(pods: usize) -> f64 {
    pods as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Enid takes twice, the floor once, a peer ten times the milliseconds.
    fn cell(present: usize, at_once: usize, ms: &[u64]) -> Cell {
        let series = |times: u64| -> Vec<Series> {
            ms.iter().map(|ms| vec![Duration::from_millis(ms * times)].into()).collect()
        };
        let kind = |times: u64| Kind { rounds: series(times), whole: series(times) };
        Cell { present, at_once, times: [2, 1, 10].map(|times| [kind(times), kind(times)]).into() }
    }

    fn names() -> Vec<String> {
        ["enid", "floor", "ptp"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_row_has_the_times_and_the_ratios_of_its_cell() {
        let table = table(&[cell(110, 8, &[1, 2, 3, 4])], &names());
        assert_eq!(table.rows.len(), 2);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{table:?}");
        let expected = [
            "ADD",
            "8",
            "110",
            "4",
            "4.0 / 8.0 / 8.0",
            "4.0",
            "2.0 / 4.0",
            "20.0 / 40.0",
            "2.00 (2.00 to 2.00)",
            "2.00 (2.00 to 2.00)",
            "2.00",
            "0.20",
        ];
        assert_eq!(table.rows[0], expected);
        assert_eq!(table.rows[1][0], "DEL");
    }

    #[test]
    fn goals_are_of_the_worst_number_of_pods_and_of_how_it_moves() {
        let cells = [cell(0, 1, &[1]), cell(735, 1, &[1]), cell(0, 32, &[1]), cell(735, 32, &[1])];
        let goals = goals(&cells);
        assert_eq!(goals.len(), 8);
        assert!(goals[0].name.contains("ADD, 1 at once") && goals[0].name.contains("0, 735 pods"), "{goals:?}");
        assert!((goals[0].measured - 2.0).abs() < 1e-9 && (goals[1].measured - 1.0).abs() < 1e-9, "{goals:?}");
        assert!(self::goals(&[]).is_empty());
    }

    #[test]
    fn plots_have_a_line_a_callee_and_a_point_a_cell() {
        let cells = [cell(0, 1, &[1]), cell(110, 1, &[3]), cell(110, 8, &[4])];
        let plots = plots(&cells, &names());
        assert_eq!(plots[0].lines.len(), 3);
        assert_eq!(plots[0].lines[0].points, [(0.0, 2.0), (110.0, 6.0)]);
        assert_eq!(plots[2].lines[2].points, [(1.0, 30.0), (8.0, 40.0)]);
        assert_eq!(plots[4].lines[0].points, [(0.0, 2.0), (110.0, 2.0)]);
        assert!(plots[0].log_y && !plots[4].log_y);
    }
}
