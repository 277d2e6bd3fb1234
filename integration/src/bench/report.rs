// SPDX-License-Identifier: Apache-2.0
//! What a run of `make bench` has found: tables, goals and plots by section. Shown as it comes, and kept as Markdown and SVG.
//!
//! It decides how figures are shown, not what they are: sections measure and hand over text. Goals say met or not met and never decide
//! the exit code: time is the machine's, so what must not get worse is held by counts (`integration/tests/counts`).
//!
//! ```text
//! section ─ table, plot, goal ─► Report ─┬─ the terminal, at once
//!                                        └─ report.md and *.svg, at the end, also when a section has failed
//! ```
//!
//! Invariant: every row of a written table has as many cells as the table has columns, and no cell breaks it.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program talks to a person and writes files"
)]

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plot;
use super::settings::Settings;

/// A table of figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    /// How it was measured.
    pub(super) note: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// What a figure should be at most.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub(super) name: String,
    pub(super) measured: f64,
    pub(super) limit: f64,
    /// `ms`, `MiB`, `` for a plain number.
    pub(super) unit: &'static str,
}

/// A picture of lines.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// Stem of the file.
    pub(super) name: String,
    pub(super) title: String,
    /// What the axes show.
    pub(super) x: String,
    pub(super) y: String,
    /// A logarithmic y axis; points that are not above zero are left out of it.
    pub(super) log_y: bool,
    pub(super) lines: Vec<Line>,
}

/// A line of a picture.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What a section gave.
#[derive(Debug, Default)]
struct Part {
    section: &'static str,
    tables: Vec<Table>,
    plots: Vec<Plot>,
    took: Duration,
    failed: Option<String>,
}

/// All of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    settings: Settings,
    parts: Vec<Part>,
    goals: Vec<Goal>,
}

impl Goal {
    fn is_met(&self) -> bool {
        self.measured <= self.limit
    }

    fn cells(&self) -> Vec<String> {
        let with_unit = |number: f64| format!("{} {}", short(number), self.unit).trim_end().to_owned();
        let word = if self.is_met() { "met" } else { "NOT met" };
        vec![self.name.clone(), with_unit(self.measured), format!("<= {}", with_unit(self.limit)), word.to_owned()]
    }
}

impl Table {
    /// The first table of a program's Markdown.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn read(title: &str, note: &str, markdown: &str) -> Result<Self, String> {
        let cells = |line: &str| -> Vec<String> {
            line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let mut lines =
            markdown.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let columns = lines.next().map(cells).ok_or_else(|| format!("no table in {markdown:?}"))?;
        let rows = lines.skip(1).map(cells).collect();
        Ok(Self { title: title.to_owned(), note: note.to_owned(), columns, rows })
    }

    /// The table alone, its columns aligned.
    fn markdown(&self) -> String {
        let escaped = |cells: &[String]| -> Vec<String> {
            (0..self.columns.len()).map(|at| cells.get(at).map(|cell| escape(cell)).unwrap_or_default()).collect()
        };
        let head = escaped(&self.columns);
        let rows: Vec<_> = self.rows.iter().map(|row| escaped(row)).collect();
        let width = |at: usize| {
            let cells = std::iter::once(&head).chain(&rows).map(|row| row[at].chars().count());
            cells.max().unwrap_or_default().max(3)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
            format!("|{}\n", padded.collect::<String>())
        };
        let rule: String = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect();
        let body: String = rows.iter().map(|row| line(row)).collect();
        format!("{}|{rule}\n{body}", line(&head))
    }
}

impl Report {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// What the run was asked for: few rounds, another plugin.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What comes belongs to this section from now on.
    pub(super) fn begin(&mut self, section: &'static str) {
        println!("\n== {section}");
        self.parts.push(Part { section, ..Part::default() });
    }

    /// The section has ended, well or with an error.
    pub(super) fn end(&mut self, took: Duration, outcome: &Result<(), String>) {
        let Some(part) = self.parts.last_mut() else { return };
        part.took = took;
        part.failed = outcome.as_ref().err().cloned();
        match &part.failed {
            None => println!("{} took {:.0} s", part.section, took.as_secs_f64()),
            Some(error) => println!("{} FAILED after {:.0} s: {error}", part.section, took.as_secs_f64()),
        }
    }

    /// Shows a table and keeps it.
    pub(super) fn table(&mut self, table: Table) {
        println!("\n{}\n{}\n\n{}", table.title, table.note, table.markdown());
        if let Some(part) = self.parts.last_mut() {
            part.tables.push(table);
        }
    }

    /// Keeps a goal; goals are shown together, at the end.
    pub(super) fn goal(&mut self, goal: Goal) {
        self.goals.push(goal);
    }

    /// Keeps a picture.
    pub(super) fn plot(&mut self, plot: Plot) {
        if let Some(part) = self.parts.last_mut() {
            part.plots.push(plot);
        }
    }

    /// Sections that failed, each with its error.
    pub(super) fn failures(&self) -> Vec<String> {
        let told = |part: &Part| part.failed.as_ref().map(|error| format!("{}: {error}", part.section));
        self.parts.iter().filter_map(told).collect()
    }

    /// Shows goals and times, writes `report.md` and the pictures into the folder and says where they are.
    ///
    /// # Errors
    /// A file cannot be written, or a picture not be drawn.
    pub(super) fn finish(&self, folder: &Path) -> io::Result<()> {
        if !self.goals.is_empty() {
            println!(
                "\nGoals (time is the machine's: none of them decides the exit code)\n\n{}",
                self.goals().markdown()
            );
        }
        println!("\n{}", self.times().markdown());
        fs::create_dir_all(folder)?;
        let mut written = Vec::new();
        let mut write = |name: String, text: String| -> io::Result<()> {
            let path: PathBuf = folder.join(name);
            fs::write(&path, text)?;
            written.push(path);
            Ok(())
        };
        write("report.md".to_owned(), self.markdown())?;
        for plot in self.parts.iter().flat_map(|part| &part.plots) {
            write(format!("{}.svg", plot.name), plot::svg(plot).map_err(io::Error::other)?)?;
        }
        println!("written:");
        written.iter().for_each(|path| println!("  {}", path.display()));
        Ok(())
    }

    fn goals(&self) -> Table {
        Table {
            columns: ["goal", "measured", "wanted", ""].map(str::to_owned).to_vec(),
            rows: self.goals.iter().map(Goal::cells).collect(),
            ..Table::default()
        }
    }

    fn times(&self) -> Table {
        let row = |name: &str, took: Duration| vec![name.to_owned(), format!("{:.0}", took.as_secs_f64())];
        let mut rows: Vec<_> = self.parts.iter().map(|part| row(part.section, part.took)).collect();
        rows.push(row("all", self.parts.iter().map(|part| part.took).sum()));
        Table { columns: ["section", "took, s"].map(str::to_owned).to_vec(), rows, ..Table::default() }
    }

    fn markdown(&self) -> String {
        let mut text = format!("# Benchmarks: what a run of `make bench` found\n\n{}\n", self.settings.stamp());
        text += "How it is measured and how to read it: the page beside this one where it is committed, `docs/benchmarks/README.md`.\n";
        if !self.goals.is_empty() {
            text += &format!("\n## Goals\n{}", self.goals().markdown());
        }
        for part in &self.parts {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n## Section {}\n", part.section);
            if let Some(error) = &part.failed {
                let _ = writeln!(text, "\n**It failed:** {}", escape(error));
            }
            for table in &part.tables {
                let _ = write!(text, "\n### {}\n{}\n\n{}", table.title, table.note, table.markdown());
            }
            for plot in &part.plots {
                let _ = writeln!(text, "\n![{}]({}.svg)", plot.title, plot.name);
            }
        }
        text + &format!("\n## How long it took\n{}", self.times().markdown())
    }
}

/// A cell's or a line's text: nothing in it ends the cell, the row or begins HTML.
fn escape(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut escaped = String::with_capacity(one_line.len());
    let mut rest = one_line.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' | '|' => escaped.extend(['\\', letter]),
            // GitHub Flavored Markdown, section 6.10: what can begin a tag.
            '<' if rest.peek().is_some_and(|next| next.is_alphabetic() || "/!?".contains(*next)) => escaped += "&lt;",
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// Three digits or so.
pub(super) fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let text = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = vec![text(&["a|b", "line\nend"]), text(&["<i>"]), text(&["x", "y", "one too many"])];
        Table { title: "T".into(), note: "N".into(), columns: text(&["one", "two"]), rows }
    }

    #[test]
    fn no_cell_breaks_its_table_and_every_row_has_all_cells() {
        let markdown = table().markdown();
        let lines: Vec<&str> = markdown.lines().collect();
        assert_eq!(lines[0], "| one    | two      |");
        assert_eq!(lines[1], "|--------|----------|");
        assert_eq!(lines[2], "| a\\|b   | line end |");
        assert_eq!(lines[3], "| &lt;i> |          |");
        assert_eq!(lines[4], "| x      | y        |");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn a_programs_table_is_read_back_as_it_was_written() {
        let said = "warming up\n| one | two |\n|---|---|\n| 1 | 2.50 |\n| 3 | |\n\nend\n";
        let table = Table::read("T", "N", said).unwrap();
        assert_eq!((table.columns.as_slice(), table.rows.len()), (&["one".to_owned(), "two".to_owned()][..], 2));
        assert_eq!(
            (table.rows[0].as_slice(), table.rows[1][1].as_str()),
            (&["1".to_owned(), "2.50".to_owned()][..], "")
        );
        assert!(Table::read("T", "N", "nothing").unwrap_err().contains("nothing"));
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_never_by_what_is_no_number() {
        let goal = |measured| Goal { name: "g".into(), measured, limit: 1.25, unit: "" };
        assert!(goal(1.25).is_met() && goal(0.0).is_met());
        assert!(!goal(1.26).is_met() && !goal(f64::NAN).is_met());
        assert_eq!(goal(1.5).cells(), ["g", "1.50", "<= 1.25", "NOT met"]);
        let with_unit = Goal { unit: "ms", limit: 20.0, ..goal(123.4) };
        assert_eq!(with_unit.cells(), ["g", "123 ms", "<= 20.0 ms", "NOT met"]);
    }

    #[test]
    fn a_report_has_what_was_given_and_says_what_failed() {
        let mut report = Report::default();
        report.begin("first");
        report.table(table());
        report.goal(Goal { name: "small".into(), measured: 1.0, limit: 2.0, unit: "MiB" });
        let lines = vec![Line { name: "l".into(), points: vec![(0.0, 1.0)] }];
        let (name, title, x, y) = ("stem".into(), "P".into(), "x".into(), "y".into());
        report.plot(Plot { name, title, x, y, log_y: false, lines });
        report.end(Duration::from_secs(61), &Ok(()));
        report.begin("second");
        report.end(Duration::from_secs(2), &Err("no <b> | here".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        report.finish(folder.path()).unwrap();
        let markdown = fs::read_to_string(folder.path().join("report.md")).unwrap();
        for part in [
            "## Section first",
            "### T\nN\n\n| one",
            "![P](stem.svg)",
            "| small | 1.00 MiB | <= 2.00 MiB | met |",
            "**It failed:** no &lt;b> \\| here",
            "| all     | 63      |",
        ] {
            assert!(markdown.contains(part), "no {part:?} in\n{markdown}");
        }
        assert!(folder.path().join("stem.svg").exists());
        assert_eq!(report.failures(), ["second: no <b> | here"]);
    }
}
