// SPDX-License-Identifier: Apache-2.0
//! Writes the compiled-in table from the CSV (`make limits`), after bringing the CSV up to date with answers of
//! DescribeInstanceTypes, if any (`make limits FROM="us-east-1.json eu-west-1.json"`):
//! `limits <instance-limits.csv> <table.rs> [<describe-instance-types.json> ...]`.
//!
//! Refuses what it does not understand, naming line and column of the CSV, or file, type and field of an answer, and writes
//! nothing then.
#![expect(clippy::disallowed_methods, reason = "a generator reads and writes the files named on its command line")]
#![expect(clippy::print_stderr, reason = "a command-line tool reports on stderr")]

use std::process::ExitCode;

#[path = "../src/describe.rs"]
mod describe;
#[path = "../src/generate.rs"]
mod generate;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [csv, table, answers @ ..] = args.as_slice() else {
        eprintln!("usage: limits <instance-limits.csv> <table.rs> [<describe-instance-types.json> ...]");
        return ExitCode::from(64);
    };
    match run(csv, table, answers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(csv: &str, table: &str, answers: &[String]) -> Result<(), String> {
    let mut text = read(csv)?;
    let answers = answers.iter().map(|file| Ok((file.clone(), read(file)?))).collect::<Result<Vec<_>, String>>()?;
    let updated = !answers.is_empty();
    if updated {
        let update = describe::update(&text, &answers)?;
        let describe::Update { added, changed, confirmed, kept, .. } = update;
        eprintln!(
            "{added} types added, {changed} changed, {confirmed} confirmed, {kept} in no answer and kept as they were"
        );
        text = update.csv;
    }
    let source = generate::table(&text).map_err(|error| format!("{csv}: {error}"))?;
    if updated {
        write(csv, &text)?;
    }
    write(table, &source)
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("reading {file}: {error}"))
}

fn write(file: &str, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("writing {file}: {error}"))
}
