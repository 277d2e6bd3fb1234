// SPDX-License-Identifier: Apache-2.0
//! What one decision of the core costs on nodes of 50, 250 and 750 addresses: the core's own program `decision`, run, its table read.

use std::error::Error;

use super::programs::Program;
use super::report::{Line, Plot, Report, Table};

/// Runs it.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let note = "`ipamd/core/examples/decision.rs`: the core alone, 5,000 rounds of each in turn, 50 plans of growth; nothing is written.";
    let program = Program::start("ENID_BENCH_DECISION", "decision", &[])?;
    let table = program.table("One decision of the core, by addresses of the node", note)?;
    report.plot(plot(&table)?);
    report.table(table);
    Ok(())
}

/// Medians by addresses, a line a decision.
fn plot(table: &Table) -> Result<Plot, String> {
    let mut lines: Vec<Line> = Vec::new();
    for row in &table.rows {
        let [addresses, _, what, median, ..] = row.as_slice() else { return Err(format!("{row:?} has too few cells")) };
        let number = |cell: &String| cell.parse::<f64>().map_err(|_| format!("{cell:?} in {row:?} is no number"));
        let point = (number(addresses)?, number(median)?);
        // What it is, without what it consists of.
        let name = what.split(':').next().unwrap_or(what);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: name.to_owned(), points: vec![point] }),
        }
    }
    Ok(Plot {
        name: "planner".to_owned(),
        title: "One decision of the core, p50".to_owned(),
        x: "addresses of the node".to_owned(),
        y: "us".to_owned(),
        log_y: true,
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_decisions_medians_and_a_row_without_is_told() {
        let table = |rows: &str| {
            Table::read(
                "T",
                "N",
                &format!("| addresses | in use | decision | p50, us | p99, us |\n|---|---|---|---|---|\n{rows}"),
            )
            .unwrap()
        };
        let rows =
            "| 50 | 40 | ADD: one | 8.5 | 9 |\n| 50 | 40 | tick: none | 2 | 3 |\n| 750 | 600 | ADD: one | 32 | 99 |\n";
        let lines = plot(&table(rows)).unwrap().lines;
        assert_eq!((lines[0].name.as_str(), lines[0].points.as_slice()), ("ADD", &[(50.0, 8.5), (750.0, 32.0)][..]));
        assert_eq!((lines[1].name.as_str(), lines[1].points.len()), ("tick", 1));
        assert!(plot(&table("| 50 | 40 | ADD | soon | 9 |\n")).unwrap_err().contains("soon"));
    }
}
