// SPDX-License-Identifier: Apache-2.0
//! `sbom FILE`: the image's bill of materials (CycloneDX 1.5, JSON) on standard output. Called by `scripts/image.sh`, which says in FILE
//! what is in the image: a line for each fact, words with tabs between.
//!
//! ```text
//! image     enid  0.1.0  amd64  2026-11-30T12:00:00Z
//! lock      Cargo.lock
//! program   ipamd    <SHA-256 of the file>  <what cargo tree prints of its package>
//! library   glibc    2.36-9  <package URL>  LGPL-2.1-or-later   ipamd aws-cni      what of Debian's or Rust's is linked into them
//! file      ca-certificates  20230311  <package URL>  MPL-2.0                      what else is in the image
//! ```
//! `cargo tree --edges normal --prefix depth --format '{p}|{l}'` is the list: what cargo links for that target and these features, without
//! what only builds and tests need. Procedural macros are in it: their output is in the programs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the build talks on its standard streams")]
#![expect(clippy::disallowed_methods, reason = "reads the files that it is given")]

mod bill;
mod tree;

use std::process::ExitCode;

use bill::{Bill, BillError};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file] = arguments.as_slice() else {
        eprintln!("usage: sbom FILE    what is in the image, a fact a line (deploy/sbom/src/main.rs)");
        return ExitCode::from(64);
    };
    match write(file) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sbom: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(file: &str) -> Result<String, BillError> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map_err(|error| BillError::Read { path: path.to_owned(), error: error.to_string() })
    };
    let bill = Bill::of(&read(file)?, &read)?;
    Ok(format!("{:#}", bill.to_json()))
}
