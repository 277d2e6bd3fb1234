// SPDX-License-Identifier: Apache-2.0
//! The lists of blocks that hold now: the variables', and in place of each the one that the watched file has (`ENID_SNAT_FILE`).
//!
//! What the file means is the core's ([`parse_nat_file`]). A file that is not there is one without lists: the variables' values
//! hold. One with a mistake changes nothing, and the mistake is told once. The variables may change, too ([`super::layers`]).

use std::path::PathBuf;

use ipamd_core::Event;
use ipamd_core::config::{NatBlocks, parse_nat_file};
use ipamd_core::reason::ReasonCode;
use tokio::sync::watch;

use super::watched_file::{Found, WatchedFile, pause};
use crate::inbox::Inbox;

/// The file, if there is to be one, and what it came to last.
#[derive(Debug)]
pub(crate) struct NatFile {
    /// `None`: the variables' lists hold.
    file: Option<WatchedFile>,
    variables: NatBlocks,
    blocks: NatBlocks,
}

impl NatFile {
    /// `variables`: what holds where the file says nothing.
    pub(crate) fn new(path: Option<PathBuf>, variables: NatBlocks) -> Self {
        Self { file: path.map(WatchedFile::new), blocks: variables.clone(), variables }
    }

    /// Reads the file; the lists that hold now.
    pub(crate) fn read(&mut self) -> &NatBlocks {
        if let Some(file) = &mut self.file
            && let Some(found) = file.look().cloned()
        {
            self.take(&found);
        }
        &self.blocks
    }

    /// The variables are others now.
    fn set_variables(&mut self, variables: NatBlocks) {
        self.variables = variables;
        match self.file.as_ref().and_then(|file| file.last().cloned()) {
            Some(found) => self.take(&found),
            None => self.blocks = self.variables.clone(),
        }
    }

    fn take(&mut self, found: &Found) {
        let path = self.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default();
        // Once, and again when it has gone.
        if *found == Ok(None) {
            tracing::warn!(
                code = %ReasonCode::SnatFileMissing,
                path,
                "ENID_SNAT_FILE: there is no such file (yet): what the variables say holds until there is one"
            );
        }
        let parsed = found.clone().and_then(|text| match text {
            Some(text) => parse_nat_file(&text, &self.variables),
            None => Ok(self.variables.clone()),
        });
        match parsed {
            Ok(blocks) => {
                tracing::info!(path, ?blocks, "lists of blocks are read");
                self.blocks = blocks;
            }
            Err(error) => tracing::error!(
                code = %ReasonCode::SnatFileInvalid,
                path, error, blocks = ?self.blocks,
                "the file of ENID_SNAT_FILE cannot be used, the lists stay as they were"
            ),
        }
    }

    /// Goes on reading; tells the core, and those who ask for the lists, what is new.
    pub(crate) async fn watch(
        mut self,
        mut variables: watch::Receiver<NatBlocks>,
        inbox: Inbox,
        blocks: watch::Sender<NatBlocks>,
    ) {
        loop {
            tokio::select! {
                () = pause(self.file.as_ref()) => {}
                Ok(()) = variables.changed() => {
                    let changed = variables.borrow_and_update().clone();
                    self.set_variables(changed);
                }
            }
            let found = self.read();
            if *found != *blocks.borrow() {
                blocks.send_replace(found.clone());
                inbox.event(Event::NatBlocksChanged(found.clone()));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files that a cluster would mount")]
mod tests {
    use super::*;

    fn excluding(blocks: &[&str]) -> NatBlocks {
        NatBlocks { exclude: blocks.iter().map(|block| block.parse().unwrap()).collect(), ..NatBlocks::default() }
    }

    #[test]
    fn the_last_file_without_a_mistake_holds_and_none_means_the_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snat.json");
        let mut file = NatFile::new(Some(path.clone()), excluding(&["10.9.0.0/16"]));
        assert_eq!(*file.read(), excluding(&["10.9.0.0/16"]));
        std::fs::write(&path, r#"{"exclude": ["192.168.0.0/16"]}"#).unwrap();
        assert_eq!(*file.read(), excluding(&["192.168.0.0/16"]));
        for mistake in [&b"{\"exclude\": [\"192.168"[..], b"", b"\xff", &vec![b' '; 2 << 20]] {
            std::fs::write(&path, mistake).unwrap();
            assert_eq!(*file.read(), excluding(&["192.168.0.0/16"]));
        }
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(*file.read(), excluding(&["10.9.0.0/16"]));
        std::fs::write(&path, r#"{"exclude": []}"#).unwrap();
        assert_eq!(*file.read(), excluding(&[]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*file.read(), excluding(&["10.9.0.0/16"]));
    }

    #[test]
    fn other_variables_hold_where_the_file_says_nothing() {
        let mut none = NatFile::new(None, excluding(&["10.9.0.0/16"]));
        none.set_variables(excluding(&["10.8.0.0/16"]));
        assert_eq!(*none.read(), excluding(&["10.8.0.0/16"]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snat.json");
        std::fs::write(&path, r#"{"exclude": ["192.168.0.0/16"]}"#).unwrap();
        let mut file = NatFile::new(Some(path.clone()), excluding(&["10.9.0.0/16"]));
        file.read();
        file.set_variables(excluding(&["10.8.0.0/16"]));
        assert_eq!(*file.read(), excluding(&["192.168.0.0/16"]));
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(*file.read(), excluding(&["10.8.0.0/16"]));
    }
}
