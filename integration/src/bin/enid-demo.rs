// SPDX-License-Identifier: Apache-2.0
//! `make demo`: see `integration::demo`.
#![expect(clippy::print_stderr, reason = "a program that failed says why")]

use std::error::Error;
use std::process::ExitCode;

const HELP: &str =
    "enid-demo: two nodes in an emulated VPC, 259 pods, checked with real packets (`make demo`)\nusage: enid-demo";

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        eprintln!("{HELP}");
        let asked = ["-h", "--help"].contains(&argument.as_str());
        return if asked { ExitCode::SUCCESS } else { ExitCode::from(64) };
    }
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
