// SPDX-License-Identifier: Apache-2.0
//! One call of a plugin, cold: from the start of the process to its end, as a runtime waits for it.
#![expect(clippy::disallowed_methods, reason = "times a process")]

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// Runs the command in the node's namespace with this configuration on standard input.
pub(super) fn call(
    node: &Namespace,
    command: &mut Command,
    configuration: &[u8],
) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (output, took) = node.run(|| -> std::io::Result<_> {
        let start = Instant::now();
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(configuration)?;
        }
        Ok((child.wait_with_output()?, start.elapsed()))
    })??;
    if output.status.success() {
        return Ok(took);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&said)).into())
}
