// SPDX-License-Identifier: Apache-2.0
//! `ipamd cleanup-host`: takes our objects out of the kernel, for an uninstall. What living pods need stays, and is told.

use std::io::Write;

use datapath::apply::host;

/// Removes what is ours and prints what was kept.
///
/// # Errors
/// Everything that could not be removed, one after the other.
pub fn run(out: &mut dyn Write) -> Result<(), String> {
    let removed = host::remove().map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(|error| crate::telemetry::chain(error)).collect();
        texts.join("; ")
    })?;
    let mut text = String::from("removed: nft table, rules, routes and dead host veths of ours\n");
    for pod in &removed.kept {
        text.push_str(&format!("kept for a living pod: {} {}\n", pod.owner, pod.address));
    }
    out.write_all(text.as_bytes()).map_err(|error| format!("writing to standard output: {error}"))
}
