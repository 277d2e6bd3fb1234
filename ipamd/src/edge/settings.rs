// SPDX-License-Identifier: Apache-2.0
//! The file of the node's settings as they were before us, `<state folder>/settings`: opened at the start and by an uninstall.
//!
//! What is in it and when it is written is `datapath::apply::ledger`'s. A start sets a damaged one aside, for the node must come
//! up: what was changed until then is not put back any more, which is told then and by the uninstall. An uninstall refuses it.

#![expect(clippy::disallowed_methods, reason = "the file edge of the settings")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datapath::apply::ApplyError;
use datapath::apply::ledger::Ledger;
use ipamd_core::reason::ReasonCode;

use crate::telemetry::chain;

/// Beside the journal.
const NAME: &str = "settings";
/// How a damaged one is called that was set aside.
const ASIDE: &str = "settings.corrupt-";

/// The ledger as it is.
///
/// # Errors
/// It is damaged, or cannot be read.
pub(crate) fn read(state_folder: &Path, boot_id: &str) -> Result<Ledger, ApplyError> {
    Ledger::open(&state_folder.join(NAME), boot_id)
}

/// The ledger, an empty one in the place of a damaged one.
///
/// # Errors
/// It cannot be read, or not be set aside.
pub(crate) fn open(state_folder: &Path, boot_id: &str, unix_seconds: i64) -> Result<Ledger, ApplyError> {
    let damage = match read(state_folder, boot_id) {
        Err(damage @ ApplyError::Damaged { .. }) => damage,
        other => return other,
    };
    let (path, aside) = (state_folder.join(NAME), state_folder.join(format!("{ASIDE}{unix_seconds}")));
    let failed = |source| ApplyError::Record { doing: "setting aside", path: path.clone(), source };
    fs::rename(&path, &aside).map_err(failed)?;
    tracing::error!(
        code = %ReasonCode::StateFileUnreadable, error = %chain(&damage), aside = %aside.display(),
        "the file of settings was set aside"
    );
    Ok(Ledger::empty(&path, boot_id))
}

/// Files that were set aside, by name.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn set_aside(state_folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(state_folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with(ASIDE));
    let mut paths: Vec<_> = names.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_sets_a_damaged_file_aside_and_an_uninstall_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join(NAME), folder.path().join("settings.corrupt-17"));
        fs::write(&path, "boot a\nnet.ipv4.ip_forward found").unwrap();
        let error = read(folder.path(), "a").unwrap_err();
        assert!(matches!(error, ApplyError::Damaged { .. }), "{error}");
        open(folder.path(), "a", 17).unwrap();
        assert!(!path.exists());
        assert_eq!(set_aside(folder.path()).unwrap(), [aside]);
        assert!(read(folder.path(), "a").unwrap().put_back(false).0.is_empty());
    }
}
