// SPDX-License-Identifier: Apache-2.0
//! `ipamd cleanup-host`: takes our objects out of the kernel, for an uninstall. What living pods need stays, and is told.
//!
//! Not under a running daemon, whose pods would lose the internet: it holds the lock of its state folder. Of the environment
//! only that folder is read, so that a mistake elsewhere does not stand in the way of an uninstall.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use datapath::apply::uninstall::{self, Kept};
use ipamd_core::config::Config;

use crate::edge::lock::InstanceLock;

/// Removes what is ours and prints what was kept. `journal` is `AWS_VPC_K8S_CNI_BACKING_STORE`.
///
/// # Errors
/// The daemon runs, or everything that could not be removed, one after the other.
pub fn run(out: &mut dyn Write, journal: Option<OsString>) -> Result<(), String> {
    let journal = journal.filter(|path| !path.is_empty()).map_or_else(|| Config::default().journal, PathBuf::from);
    let lock = journal.parent().unwrap_or(Path::new("/")).join("ipamd.lock");
    // No lock file: no daemon ever ran with this state folder.
    let taken = lock.exists().then(|| InstanceLock::try_take(&lock)).transpose();
    let _lock = taken.map_err(|error| crate::telemetry::chain(&error))?;
    let kept = uninstall::remove().map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(|error| crate::telemetry::chain(error)).collect();
        texts.join("; ")
    })?;
    out.write_all(text(&kept).as_bytes()).map_err(|error| format!("writing to standard output: {error}"))
}

fn text(kept: &Kept) -> String {
    if kept.pods.is_empty() {
        return "removed: all nft tables, rules, routes, neighbours, addresses and dead host veths of ours\n"
            .to_owned();
    }
    let mut text = String::from("removed: what is ours, but for what living pods need\n");
    kept.pods.iter().for_each(|pod| text.push_str(&format!("living pod: {pod}\n")));
    kept.objects.iter().for_each(|object| text.push_str(&format!("kept: {object}\n")));
    text.push_str("run `ipamd cleanup-host` again when these pods are gone\n");
    text
}
