// SPDX-License-Identifier: Apache-2.0
//! `make demo`: see `integration::demo`.
#![expect(clippy::print_stderr, reason = "a program that failed says why")]

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match integration::demo::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("\nthe demo failed: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
