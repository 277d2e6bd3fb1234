// SPDX-License-Identifier: Apache-2.0
//! Measuring programs of other crates, which nothing here may depend on: each is run, and the table that it prints read.
//!
//! They are examples of those crates, built for release by `scripts/bench.sh`, so that what they measure is optimised whatever this
//! program is.
#![expect(clippy::disallowed_methods, reason = "runs programs")]

use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::report::Table;

/// A program that runs; ended when this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// `None`: it has been waited for.
    child: Option<Child>,
}

impl Program {
    /// Starts an example of another crate, `variable` naming another file than the one that is built.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub(super) fn start(variable: &'static str, name: &str, arguments: &[&str]) -> Result<Self, Box<dyn Error>> {
        let path = crate::node::binary(variable, &[&format!("release/examples/{name}")])?;
        let mut command = Command::new(&path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, child: Some(child) })
    }

    /// Waits for its end: the table that it printed.
    ///
    /// # Errors
    /// It failed, with what it said, or printed none.
    pub(super) fn table(mut self, title: &str, note: &str) -> Result<Table, Box<dyn Error>> {
        let child = self.child.take().ok_or("waited for twice")?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("{}: {}", self.path.display(), String::from_utf8_lossy(&output.stderr).trim()).into());
        }
        Ok(Table::read(title, note, &String::from_utf8_lossy(&output.stdout))?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has just ended cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The number in a column of the first row that `is_wanted`.
///
/// # Errors
/// There is no such row or column, or no number in it.
pub(super) fn number(table: &Table, column: &str, is_wanted: impl Fn(&[String]) -> bool) -> Result<f64, String> {
    let at = table.columns.iter().position(|name| name == column);
    let at = at.ok_or_else(|| format!("no column {column:?} among {:?}", table.columns))?;
    let row = table.rows.iter().find(|row| is_wanted(row));
    let cell = row.and_then(|row| row.get(at)).ok_or_else(|| format!("no such row in {:?}", table.rows))?;
    cell.parse().map_err(|_| format!("{cell:?} in column {column:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_row_and_column_or_told_why_not() {
        let table = Table::read("T", "N", "| pods | p50, us |\n|---|---|\n| 0 | 1.5 |\n| 250 | many |\n").unwrap();
        let of = |pods: &'static str| move |row: &[String]| row[0] == pods;
        assert_eq!(number(&table, "p50, us", of("0")), Ok(1.5));
        assert!(number(&table, "p50, us", of("250")).unwrap_err().contains("many"));
        assert!(number(&table, "p50, us", of("7")).unwrap_err().contains("no such row"));
        assert!(number(&table, "p99, us", of("0")).unwrap_err().contains("p99, us"));
    }
}
