// SPDX-License-Identifier: Apache-2.0
//! promtool, as `scripts/monitoring.sh` fetches it.

use std::path::PathBuf;
use std::process::Command;

use integration::process::fed;
use integration::tools::built;

/// Runs it with `input` on its standard input: whether it was content, and all that it said.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(program());
    let output = fed(command.args(arguments), input).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn program() -> PathBuf {
    let path = built("ENID_MONITORING", "enid/monitoring").join("bin/promtool");
    assert!(
        path.exists(),
        "{} is not there: run `make monitoring`, or name a folder in ENID_MONITORING",
        path.display()
    );
    path
}
