// SPDX-License-Identifier: Apache-2.0
//! Tombstones: DELs that the plugin left on disk while the daemon was away, one file each.
//!
//! Finds them and removes them when the core says so; what a DEL does is the core's. The plugin writes a file by temporary,
//! hidden name and rename, so a file that ends in `.json` is whole; one that cannot be read is set aside, and a hidden one
//! that is old goes.
//!
//! Format: `{"network", "containerID", "ifName", "at"}` in `<state folder>/tombstones/<any>.json`.

#![expect(clippy::disallowed_methods, reason = "the file edge of the tombstones")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipam_api::state::TOMBSTONES;
use ipamd_core::ids::AllocationKey;
use ipamd_core::reason::ReasonCode;
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::Deserialize;

use crate::alarm;
use crate::clock;
use crate::inbox::Inbox;

/// Far longer than a plugin takes from the first byte to the rename: a DEL has 2 s for everything.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Tombstone {
    network: String,
    #[serde(rename = "containerID")]
    container_id: String,
    #[serde(rename = "ifName")]
    if_name: String,
}

/// Until a watch is tried again.
const PAUSE: Duration = Duration::from_secs(60);

/// The folder, and which file holds which key.
#[derive(Debug)]
pub(crate) struct Tombstones {
    folder: PathBuf,
    files: HashMap<AllocationKey, PathBuf>,
}

impl Tombstones {
    pub(crate) fn new(state_folder: &Path) -> Self {
        Self { folder: state_folder.join(TOMBSTONES), files: HashMap::new() }
    }

    /// Keys of all tombstones that lie there and were not reported before.
    pub(crate) fn scan(&mut self) -> Vec<AllocationKey> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(
                    code = %ReasonCode::StateFileUnreadable, folder = %self.folder.display(), %error,
                    "tombstones cannot be read, trying again"
                );
                return Vec::new();
            }
        };
        let mut files = HashMap::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if is_hidden {
                remove_left_over(&path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.extend(read(&path).map(|key| (key, path)));
            }
        }
        // A file may have been withdrawn and left again meanwhile: what counts is what lies there now.
        let mut found: Vec<_> = files.keys().filter(|key| !self.files.contains_key(key)).cloned().collect();
        found.sort();
        self.files = files;
        found
    }

    /// The DEL under this key is done: its file goes.
    pub(crate) fn forget(&mut self, key: &AllocationKey) {
        let Some(path) = self.files.remove(key) else { return };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    code = %ReasonCode::StateNotDurable, path = %path.display(), %error,
                    "a tombstone cannot be removed, it will be found again"
                );
            }
            _ => {}
        }
    }
}

/// Tells the driver whenever a tombstone is laid, for ever. Without a watch they are found by the driver's own looks, up to a minute later.
pub(crate) async fn watch(state_folder: PathBuf, inbox: Inbox) {
    let mut told = String::new();
    loop {
        let Err(error) = watch_once(&state_folder.join(TOMBSTONES), &inbox).await;
        let error = error.to_string();
        if error != told {
            tracing::warn!(
                code = %ReasonCode::TombstonesUnwatched, folder = %state_folder.display(), error,
                "tombstones cannot be watched for, they are looked for every minute; trying again"
            );
            told = error;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the watch ends: with an error, or with the folder.
async fn watch_once(folder: &Path, inbox: &Inbox) -> io::Result<Infallible> {
    fs::create_dir_all(folder)?;
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    // The plugin writes under another name first.
    inotify::add_watch(&watch, folder, inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR)?;
    let watch = alarm::polled(watch)?;
    inbox.tombstones();
    loop {
        let mut ready = watch.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut events = inotify::Reader::new(watch.get_ref(), &mut buffer);
        // Which one does not matter, the folder is read.
        match events.next() {
            Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the folder is gone"));
            }
            Ok(_) => inbox.tombstones(),
            Err(Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A hidden file is a tombstone being written; an old one is what a killed plugin left, whose DEL the runtime repeats.
fn remove_left_over(path: &Path) {
    let age =
        fs::metadata(path).and_then(|file| file.modified()).map(|modified| modified.elapsed().unwrap_or_default());
    if age.is_ok_and(|age| age > WRITTEN_WITHIN) {
        let removed = fs::remove_file(path);
        tracing::debug!(path = %path.display(), ?removed, "a tombstone that was never finished");
    }
}

/// The key in a file; `None`: withdrawn by the plugin at this moment, or garbage.
fn read(path: &Path) -> Option<AllocationKey> {
    let bytes = fs::read(path).ok()?;
    let Ok(tombstone) = serde_json::from_slice::<Tombstone>(&bytes) else {
        set_aside(path);
        return None;
    };
    Some(AllocationKey { network: tombstone.network, container_id: tombstone.container_id, ifname: tombstone.if_name })
}

fn set_aside(path: &Path) {
    let mut name = OsString::from(path);
    name.push(format!(".corrupt-{}", clock::now().unix_nanos / 1_000_000_000));
    let renamed = fs::rename(path, &name);
    tracing::warn!(
        code = %ReasonCode::StateFileUnreadable, path = %path.display(), ?renamed,
        "a tombstone cannot be parsed: set aside"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> AllocationKey {
        AllocationKey { network: "aws-cni".into(), container_id: container.into(), ifname: "eth0".into() }
    }

    #[test]
    fn a_tombstone_is_reported_once_and_its_file_goes_when_it_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let mut tombstones = Tombstones::new(state.path());
        assert!(tombstones.scan().is_empty(), "no folder yet");
        let folder = state.path().join(TOMBSTONES);
        fs::create_dir(&folder).unwrap();
        let text = r#"{"network":"aws-cni","containerID":"c1","ifName":"eth0","at":1}"#;
        fs::write(folder.join("ab.json"), text).unwrap();
        fs::write(folder.join("cd.json.tmp"), "{").unwrap();
        assert_eq!(tombstones.scan(), [key("c1")]);
        assert!(tombstones.scan().is_empty());
        tombstones.forget(&key("c1"));
        assert!(!folder.join("ab.json").exists());
        fs::write(folder.join("ab.json"), text).unwrap();
        assert_eq!(tombstones.scan(), [key("c1")], "a new DEL for the same key counts again");
    }

    #[test]
    fn what_a_killed_plugin_left_half_written_goes_when_it_is_old() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(TOMBSTONES);
        fs::create_dir(&folder).unwrap();
        let (old, young) = (folder.join(".ab.json.17"), folder.join(".cd.json.18"));
        fs::write(&young, "{").unwrap();
        let file = fs::File::create(&old).unwrap();
        file.set_modified(std::time::SystemTime::now() - WRITTEN_WITHIN * 2).unwrap();
        assert!(Tombstones::new(state.path()).scan().is_empty());
        assert!(!old.exists() && young.exists());
    }

    #[test]
    fn garbage_is_set_aside() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(TOMBSTONES);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ab.json"), "not json").unwrap();
        assert!(Tombstones::new(state.path()).scan().is_empty());
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.len() == 1 && names[0].to_string_lossy().starts_with("ab.json.corrupt-"), "{names:?}");
    }
}
