// SPDX-License-Identifier: Apache-2.0
//! Writes `src/generated/*.rs` from `rpc.proto`, `health.proto` and `cri.proto`: `cargo run -p ipam-api --example generate`.
#![expect(clippy::disallowed_methods, reason = "a generator reads and writes the files it is about")]
#![expect(clippy::print_stderr, reason = "a command-line tool reports on stderr")]

use std::path::Path;
use std::process::ExitCode;

#[path = "../src/generate.rs"]
mod generate;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = generate::generate(root).and_then(|files| {
        files.into_iter().try_for_each(|(name, text)| {
            let path = root.join("src/generated").join(name);
            std::fs::write(&path, text).map_err(|error| format!("writing {}: {error}", path.display()))
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
