// SPDX-License-Identifier: Apache-2.0
//! What the demo prints: steps with the time since the start, and tables with aligned columns.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "the demo talks to a person, and shows the time")]

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Standard output with a clock.
#[derive(Debug)]
pub(super) struct Console {
    start: Instant,
    colour: bool,
    failures: AtomicUsize,
}

impl Console {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), colour: std::io::stdout().is_terminal(), failures: AtomicUsize::new(0) }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A heading.
    pub(super) fn section(&self, title: &str) {
        let title = if self.colour { format!("\x1b[1m{title}\x1b[0m") } else { title.to_owned() };
        println!("\n{title}");
    }

    /// What is happening.
    pub(super) fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.start.elapsed().as_secs_f32());
        // A pipe is read while the demo runs.
        let _ = std::io::stdout().flush();
    }

    /// Text without a time.
    pub(super) fn plain(&self, text: &str) {
        println!("{text}");
    }

    /// A fact that was checked; a false one makes the demo fail.
    pub(super) fn verdict(&self, held: bool, text: &str) {
        if !held {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let mark = self.mark(held);
        self.say(&format!("{mark}  {text}"));
    }

    /// Counts failures shown in a table.
    pub(super) fn add_failures(&self, failures: usize) {
        self.failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// How many checks failed.
    pub(super) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// `ok` or `FAILED`, in colour on a terminal.
    pub(super) fn mark(&self, held: bool) -> String {
        match (held, self.colour) {
            (true, true) => "\x1b[32mok\x1b[0m".to_owned(),
            (true, false) => "ok".to_owned(),
            (false, true) => "\x1b[31mFAILED\x1b[0m".to_owned(),
            (false, false) => "FAILED".to_owned(),
        }
    }

    /// A table: the first row is the heading.
    pub(super) fn table(&self, rows: &[Vec<String>]) {
        println!("{}", layout(rows));
    }
}

/// Columns as wide as their widest cell, two blanks between, a line under the heading.
fn layout(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide - width(cell))));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    if !lines.is_empty() {
        lines.insert(1, widths.iter().map(|wide| "-".repeat(*wide)).collect::<Vec<_>>().join("  "));
    }
    lines.join("\n")
}

/// Characters that show: colour codes do not.
fn width(cell: &str) -> usize {
    let mut shown = 0;
    let mut hidden = false;
    for character in cell.chars() {
        match (hidden, character) {
            (false, '\x1b') => hidden = true,
            (true, 'm') => hidden = false,
            (true, _) => {}
            (false, _) => shown += 1,
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text =
            layout(&[row(["check", "result"]), row(["\x1b[32mok\x1b[0m", "10.0.1.7"]), row(["a longer one", "-"])]);
        assert_eq!(
            text,
            "check         result\n------------  --------\n\x1b[32mok\x1b[0m            10.0.1.7\na longer one  -"
        );
    }
}
