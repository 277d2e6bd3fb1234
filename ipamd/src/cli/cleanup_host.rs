// SPDX-License-Identifier: Apache-2.0
//! `ipamd cleanup-host`: takes our objects out of the kernel, for an uninstall. What living pods need stays, and is told. When
//! there is none, settings of the node are put back as they were found, unless somebody else has chosen since.
//!
//! Not under a running daemon, whose pods would lose the internet: it holds the lock of its state folder. Of the environment
//! only that folder is read, so that a mistake elsewhere does not stand in the way of an uninstall.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use datapath::apply::ApplyError;
use datapath::apply::uninstall::{self, Kept};
use ipamd_core::config::Config;

use crate::cli::{boot_id, print};
use crate::edge::lock::InstanceLock;
use crate::edge::settings;
use crate::telemetry::chain;

/// What a clean-up did.
#[derive(Debug)]
pub(super) struct Cleaned {
    /// Line by line.
    pub(super) text: String,
    /// Pods that live, for which something was kept.
    pub(super) living_pods: usize,
    /// What could not be put back.
    pub(super) failure: Option<String>,
}

/// Removes what is ours, puts settings back, and prints what was kept. `journal` is `AWS_VPC_K8S_CNI_BACKING_STORE`.
///
/// # Errors
/// The daemon runs, or everything that could not be removed or put back, one after the other. A file of settings that is damaged
/// hinders only what it is for.
pub fn run(out: &mut dyn Write, journal: Option<OsString>) -> Result<(), String> {
    let journal = journal.filter(|path| !path.is_empty()).map_or_else(|| Config::default().journal, PathBuf::from);
    let folder = journal.parent().unwrap_or(Path::new("/"));
    let _lock = InstanceLock::of_no_daemon(folder).map_err(|error| chain(&error))?;
    let Cleaned { text, failure, .. } = clean(folder)?;
    print(out, &text)?;
    failure.map_or(Ok(()), Err)
}

/// Removes what is ours and puts settings back. The caller holds the lock of the state folder.
///
/// # Errors
/// Everything that could not be removed.
pub(super) fn clean(folder: &Path) -> Result<Cleaned, String> {
    let kept = uninstall::remove(uninstall::Counted::Dependent).map_err(|errors| all(&errors))?;
    let (told, failure) = match put_back(folder, !kept.pods.is_empty() || kept.has_others) {
        Ok((told, errors)) => (told, (!errors.is_empty()).then(|| all(&errors))),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    Ok(Cleaned { text: text(&kept, &told), living_pods: kept.pods.len(), failure })
}

pub(super) fn all(errors: &[ApplyError]) -> String {
    errors.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ")
}

/// What became of each setting, as lines, and what went wrong with others.
fn put_back(folder: &Path, is_needed: bool) -> Result<(Vec<String>, Vec<ApplyError>), String> {
    let boot_id = boot_id()?;
    let mut ledger = settings::read(folder, &boot_id).map_err(|error| chain(&error))?;
    let (judged, errors) = ledger.put_back(is_needed);
    let later = ledger.unknown().iter().map(|line| format!("left: {line}, by a later version, which puts it back"));
    let later: Vec<String> = later.collect();
    let aside = settings::set_aside(folder).map_err(|error| format!("reading {}: {error}", folder.display()))?;
    let lost = |path: &PathBuf| format!("left: settings that {} may name, which was damaged", path.display());
    Ok((judged.iter().map(ToString::to_string).chain(later).chain(aside.iter().map(lost)).collect(), errors))
}

fn text(kept: &Kept, settings: &[String]) -> String {
    let settings: String = settings.iter().map(|line| format!("{line}\n")).collect();
    if kept.pods.is_empty() {
        let removed = "removed: all nft tables, rules, routes, neighbours, addresses and dead host veths of ours\n";
        return format!("{removed}{settings}");
    }
    let mut text = String::from("removed: what is ours, but for what living pods need\n");
    kept.pods.iter().for_each(|pod| text.push_str(&format!("living pod: {pod}\n")));
    kept.objects.iter().for_each(|object| text.push_str(&format!("kept: {object}\n")));
    text.push_str(&settings);
    text.push_str("run `ipamd cleanup-host` again when these pods are gone\n");
    text
}
