// SPDX-License-Identifier: Apache-2.0
//! What attaching a pod costs by the family of its address: the datapath's own program `families`, run, its table read.
//!
//! It is a program of that crate (`datapath/examples/families.rs`) because nothing of this one depends on the datapath;
//! `scripts/bench.sh` builds it and names it.
#![expect(clippy::disallowed_methods, reason = "runs a program")]

use std::error::Error;
use std::process::Command;

use super::report::{Report, Table};

/// Runs it.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let program = crate::node::binary("ENID_BENCH_FAMILIES", &["release/examples/families"])?;
    let output = Command::new(&program).output().map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let note = "Plumbing alone, in one process, without the daemon: 300 rounds of the three in turn.";
    let title = "Attaching a pod, by the family of its address";
    report.table(Table::read(title, note, &String::from_utf8_lossy(&output.stdout))?);
    Ok(())
}
