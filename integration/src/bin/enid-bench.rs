// SPDX-License-Identifier: Apache-2.0
//! `make bench`: see `integration::bench`.
#![expect(clippy::print_stderr, reason = "a program that failed says why")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match integration::bench::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("enid-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
