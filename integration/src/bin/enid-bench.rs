// SPDX-License-Identifier: Apache-2.0
//! `make bench`: see `integration::bench`. Its arguments are the sections to run; none: all.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that failed says why, one that is asked for help gives it"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let sections: Vec<String> = std::env::args().skip(1).collect();
    if sections.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", integration::bench::help());
        return ExitCode::SUCCESS;
    }
    match integration::bench::run(&sections) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("enid-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
