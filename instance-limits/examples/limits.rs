// SPDX-License-Identifier: Apache-2.0
//! Writes the compiled-in table from the CSV: `limits <instance-limits.csv> <table.rs>` (`make limits`).
//!
//! Refuses a row it does not understand, naming the line and the column, and writes nothing then.
#![expect(clippy::disallowed_methods, reason = "a generator reads and writes the files named on its command line")]
#![expect(clippy::print_stderr, reason = "a command-line tool reports on stderr")]

use std::process::ExitCode;

#[path = "../src/generate.rs"]
mod generate;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [csv, table] = args.as_slice() else {
        eprintln!("usage: limits <instance-limits.csv> <table.rs>");
        return ExitCode::from(64);
    };
    let outcome = std::fs::read_to_string(csv)
        .map_err(|error| format!("reading {csv}: {error}"))
        .and_then(|text| generate::table(&text).map_err(|error| format!("{csv}: {error}")))
        .and_then(|source| std::fs::write(table, source).map_err(|error| format!("writing {table}: {error}")));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
