// SPDX-License-Identifier: Apache-2.0
//! promtool, as `scripts/monitoring.sh` fetches it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use integration::tools::build_folder;

/// Runs it with `input` on its standard input: whether it was content, and all that it said.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // One that ends early has said why.
    let _ = writer.join().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn program() -> PathBuf {
    let named = std::env::var_os("ENID_MONITORING").map(PathBuf::from);
    let folder = named.or_else(|| Some(build_folder()?.join("enid/monitoring"))).unwrap_or_default();
    let path = folder.join("bin/promtool");
    assert!(
        path.exists(),
        "{} is not there: run `make monitoring`, or name a folder in ENID_MONITORING",
        path.display()
    );
    path
}
