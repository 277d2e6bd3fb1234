// SPDX-License-Identifier: Apache-2.0
//! The watched file of blocks (`ENID_SNAT_FILE`): reads it every 5 s and tells when what it says is another than before.
//!
//! What it means is the core's ([`parse_nat_file`]). A file that is not there is one without lists: the variables' values
//! hold. One with a mistake changes nothing, and the mistake is told once. Contents are compared, not times: a mounted
//! ConfigMap changes by a symbolic link further up, which no event on the file itself tells.

#![expect(clippy::disallowed_methods, reason = "the polling edge: it reads a file and waits")]

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use ipamd_core::Event;
use ipamd_core::config::{NatBlocks, parse_nat_file};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::inbox::Inbox;

/// How often the file is read.
const PERIOD: Duration = Duration::from_secs(5);

/// More than 50,000 blocks take; a larger file is a mistake.
const LARGEST_BYTES: u64 = 1 << 20;

/// The file, and what it said last.
#[derive(Debug)]
pub(crate) struct NatFile {
    path: PathBuf,
    variables: NatBlocks,
    /// `None`: never read. `Ok(None)`: there was no file. `Err`: why it could not be read.
    last: Option<Result<Option<String>, String>>,
    blocks: NatBlocks,
}

impl NatFile {
    /// `variables`: what holds where the file says nothing.
    pub(crate) fn new(path: PathBuf, variables: NatBlocks) -> Self {
        Self { path, blocks: variables.clone(), variables, last: None }
    }

    /// Reads the file; the lists that hold now.
    pub(crate) fn read(&mut self) -> &NatBlocks {
        let found = read(&self.path);
        if self.last.as_ref() == Some(&found) {
            return &self.blocks;
        }
        // Once, and again when it has gone.
        if found == Ok(None) {
            tracing::warn!(
                path = %self.path.display(),
                "ENID_SNAT_FILE: there is no such file (yet): what the variables say holds until there is one"
            );
        }
        let parsed = found.clone().and_then(|text| match text {
            Some(text) => parse_nat_file(&text, &self.variables),
            None => Ok(self.variables.clone()),
        });
        match parsed {
            Ok(blocks) => {
                tracing::info!(path = %self.path.display(), ?blocks, "lists of blocks are read");
                self.blocks = blocks;
            }
            Err(error) => tracing::error!(
                path = %self.path.display(), error, blocks = ?self.blocks,
                "the file of ENID_SNAT_FILE cannot be used, the lists stay as they were"
            ),
        }
        self.last = Some(found);
        &self.blocks
    }

    /// Goes on reading; tells the core, and those who ask for the lists, what is new.
    pub(crate) async fn watch(mut self, inbox: Inbox, blocks: watch::Sender<NatBlocks>) {
        loop {
            sleep(PERIOD).await;
            let found = self.read();
            if *found != *blocks.borrow() {
                blocks.send_replace(found.clone());
                inbox.event(Event::NatBlocksChanged(found.clone()));
            }
        }
    }
}

/// `None`: there is no file.
fn read(path: &std::path::Path) -> Result<Option<String>, String> {
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(LARGEST_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    });
    match text {
        Ok(text) if text.len() as u64 > LARGEST_BYTES => Err(format!("it has more than {LARGEST_BYTES} bytes")),
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluding(blocks: &[&str]) -> NatBlocks {
        NatBlocks { exclude: blocks.iter().map(|block| block.parse().unwrap()).collect(), ..NatBlocks::default() }
    }

    #[test]
    fn the_last_file_without_a_mistake_holds_and_none_means_the_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snat.json");
        let mut file = NatFile::new(path.clone(), excluding(&["10.9.0.0/16"]));
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
    fn a_mounted_config_map_is_followed_through_its_links() {
        let folder = tempfile::tempdir().unwrap();
        for (version, block) in [("1", "10.1.0.0/16"), ("2", "10.2.0.0/16")] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("snat.json"), format!(r#"{{"exclude": ["{block}"]}}"#))
                .unwrap();
        }
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        link("1", "..data");
        link("..data/snat.json", "snat.json");
        let mut file = NatFile::new(folder.path().join("snat.json"), NatBlocks::default());
        assert_eq!(*file.read(), excluding(&["10.1.0.0/16"]));
        // As kubelet does it: a new link, renamed over the old one.
        link("2", "..data_tmp");
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        assert_eq!(*file.read(), excluding(&["10.2.0.0/16"]));
    }
}
