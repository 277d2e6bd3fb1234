// SPDX-License-Identifier: Apache-2.0
//! One daemon for one state folder: a lock that the kernel gives back when the process is gone, however it went.
//!
//! During a roll-out the old daemon may still be writing its journal: the new one waits a little for it.

#![expect(clippy::disallowed_methods, reason = "waits for the other daemon's end before anything else runs")]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::clock;

/// The lock file, in the state folder.
const NAME: &str = "ipamd.lock";

/// How long the other daemon's end is waited for: it stops within 5 s of its SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("opening the lock file {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another ipamd holds {}: stop it first", path.display())]
    Held { path: PathBuf },
}

/// Held as long as this lives.
#[derive(Debug)]
pub(crate) struct InstanceLock(#[expect(dead_code, reason = "its descriptor is the lock")] File);

impl InstanceLock {
    /// Takes the lock of a state folder; waits for another daemon's end.
    pub(crate) fn take(state_folder: &Path) -> Result<Self, LockError> {
        Self::take_within(&state_folder.join(NAME), PATIENCE)
    }

    /// Takes it for a command that no daemon may run beside, at once or not at all. `None`: there is no lock file, so no daemon ever
    /// ran with this state folder, and none is made.
    pub(crate) fn of_no_daemon(state_folder: &Path) -> Result<Option<Self>, LockError> {
        let path = state_folder.join(NAME);
        path.exists().then(|| Self::take_within(&path, Duration::ZERO)).transpose()
    }

    fn take_within(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let open = OpenOptions::new().create(true).write(true).truncate(false).open(path);
        let file = open.map_err(|source| LockError::Open { path: path.to_owned(), source })?;
        let deadline = clock::boot() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(_) if clock::boot() < deadline => std::thread::sleep(PAUSE),
                Err(_) => return Err(LockError::Held { path: path.to_owned() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_until_the_first_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert!(InstanceLock::of_no_daemon(folder.path()).unwrap().is_none() && !path.exists(), "none is made");
        let first = InstanceLock::take(folder.path()).unwrap();
        for refused in [
            InstanceLock::take_within(&path, Duration::from_millis(100)).unwrap_err(),
            InstanceLock::of_no_daemon(folder.path()).unwrap_err(),
        ] {
            assert!(refused.to_string().contains("another ipamd holds"), "{refused}");
        }
        drop(first);
        assert!(InstanceLock::of_no_daemon(folder.path()).unwrap().is_some());
        InstanceLock::take_within(&path, Duration::from_millis(100)).unwrap();
    }
}
