// SPDX-License-Identifier: Apache-2.0
//! What attaching a pod costs by the family of its address: the datapath's own program `families`, run, its table read.

use std::error::Error;

use super::programs::Program;
use super::report::Report;

/// Runs it.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let note = "Plumbing alone, in one process, without the daemon: 300 rounds of the three in turn.";
    let program = Program::start("ENID_BENCH_FAMILIES", "families", &[])?;
    report.table(program.table("Attaching a pod, by the family of its address", note)?);
    Ok(())
}
