// SPDX-License-Identifier: Apache-2.0
//! The ready marker: `<state folder>/ready` holds the id of the boot in which an address was proven for the first time.
//!
//! The plugin's STATUS reads it: before that an ADD could not succeed. It is written once and never withdrawn, so that
//! STATUS does not flap; after a reboot it names another boot and does not count.
//!
//! In the same moment of each daemon's life the network configuration list is due ([`super::conflist`]).

#![expect(clippy::disallowed_methods, reason = "the file edge of the marker")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipam_api::state::{BOOT_ID, READY};
use ipamd_core::Core;
use ipamd_core::reason::ReasonCode;
use tokio::sync::watch;

/// The id of this boot, without the newline.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// The marker's file, and whether it says this boot.
#[derive(Debug)]
pub(crate) struct ReadyMarker {
    path: PathBuf,
    boot_id: String,
    written: bool,
    serving: watch::Sender<bool>,
}

impl ReadyMarker {
    /// `serving` becomes true when an ADD would succeed.
    pub(crate) fn new(state_folder: &Path, boot_id: String, serving: watch::Sender<bool>) -> Self {
        let path = state_folder.join(READY);
        let written = fs::read_to_string(&path).is_ok_and(|text| text.trim() == boot_id);
        Self { path, boot_id, written, serving }
    }

    /// Writes the marker as soon as the core serves.
    pub(crate) fn update(&mut self, core: &Core) {
        let is_known = *self.serving.borrow();
        if (self.written && is_known) || !core.is_serving() {
            return;
        }
        if !is_known {
            self.serving.send_replace(true);
        }
        if self.written {
            return;
        }
        match self.write() {
            Ok(()) => {
                self.written = true;
                tracing::info!(path = %self.path.display(), "first address of this boot proven: ready");
            }
            Err(error) => {
                tracing::warn!(
                    code = %ReasonCode::StateNotDurable, path = %self.path.display(), %error,
                    "the ready marker cannot be written yet"
                )
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, format!("{}\n", self.boot_id))?;
        fs::rename(&temporary, &self.path)
    }
}
