// SPDX-License-Identifier: Apache-2.0
//! The files of host ports: one for each sandbox that has some, `<folder>/<sha1 of the owner>`, a [`Mapping`] as text.
//!
//! Does not know what is live ([`super`]). A file is replaced by rename, so it is whole or not there; no fsync, for it means
//! nothing after a boot. The lock is flock(2) on the folder: it goes with the process that has it, whoever kills it.
#![expect(clippy::disallowed_methods, reason = "the file edge of host ports; flock has no time-out, so it tries again")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sha1::{Digest, Sha1};

use crate::apply::error::ApplyError;
use crate::plan::hostport::Mapping;

/// How long others' writes are waited for; one takes about a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
/// For who must be done soon.
const LITTLE_PATIENCE: Duration = Duration::from_millis(200);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The folder, locked while it lives.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    _lock: Option<File>,
}

impl Records {
    /// Takes the lock; when `needed` and others have it all the time, an error, else without.
    pub(super) fn lock(folder: &Path, needed: bool) -> Result<Self, ApplyError> {
        let opened =
            if needed { fs::create_dir_all(folder).and_then(|()| File::open(folder)) } else { File::open(folder) };
        let file = match opened {
            Ok(file) => file,
            Err(error) if !needed && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { folder: folder.to_owned(), _lock: None });
            }
            Err(error) => return Err(failed("opening", folder, error)),
        };
        let end = Instant::now() + if needed { PATIENCE } else { LITTLE_PATIENCE };
        loop {
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { folder: folder.to_owned(), _lock: Some(file) });
            }
            if Instant::now() + PAUSE >= end {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        if needed {
            return Err(failed("locking", folder, io::ErrorKind::WouldBlock.into()));
        }
        Ok(Self { folder: folder.to_owned(), _lock: None })
    }

    /// Writes the sandbox's file; what it said before.
    pub(super) fn write(&self, mapping: &Mapping) -> Result<Option<String>, ApplyError> {
        let path = self.path(&mapping.owner);
        let before = fs::read_to_string(&path).ok();
        self.replace(&path, &mapping.to_string())?;
        Ok(before)
    }

    /// Undoes a write.
    pub(super) fn put_back(&self, owner: &str, before: Option<String>) -> Result<(), ApplyError> {
        match before {
            Some(text) => self.replace(&self.path(owner), &text),
            None => self.remove(owner),
        }
    }

    /// Removes the sandbox's file; none is fine.
    pub(super) fn remove(&self, owner: &str) -> Result<(), ApplyError> {
        let path = self.path(owner);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &path, error)),
            _ => Ok(()),
        }
    }

    /// All of them. What cannot be read as one is removed: nobody could say whose it is.
    pub(super) fn list(&self) -> Result<Vec<Mapping>, ApplyError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| failed("reading", &self.folder, error))?;
        let mut found = Vec::new();
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let mapping = fs::read_to_string(&path).ok().and_then(|text| text.parse::<Mapping>().ok());
            match mapping.filter(|mapping| self.path(&mapping.owner) == path) {
                Some(mapping) => found.push(mapping),
                // Ours is the lock, so nobody is writing it.
                None => fs::remove_file(&path).map_err(|error| failed("removing", &path, error))?,
            }
        }
        found.sort_by(|a, b| a.owner.cmp(&b.owner));
        Ok(found)
    }

    fn replace(&self, path: &Path, text: &str) -> Result<(), ApplyError> {
        let beside = path.with_extension("new");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
        written.map_err(|error| failed("writing", path, error))
    }

    fn path(&self, owner: &str) -> PathBuf {
        path_of(&self.folder, owner)
    }
}

/// What a sandbox's file says, without the lock: it is replaced whole. `None`: it has none.
pub(super) fn read(folder: &Path, owner: &str) -> Result<Option<Mapping>, ApplyError> {
    let path = path_of(folder, owner);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", &path, error)),
    }
}

fn path_of(folder: &Path, owner: &str) -> PathBuf {
    let digest = Sha1::digest(owner.as_bytes());
    folder.join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> ApplyError {
    ApplyError::Record { doing, path: path.to_owned(), source }
}
