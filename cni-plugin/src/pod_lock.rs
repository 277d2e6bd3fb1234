// SPDX-License-Identifier: Apache-2.0
//! One plugin at a time works on a pod: flock(2) on the file of its network namespace, which every caller has, needs no
//! file of ours and goes with the process. Runtimes should not run two calls for one sandbox at once; when one does, a
//! second ADD finds the first one's work complete, and a DEL does not take down what is half made.
#![expect(clippy::disallowed_methods, reason = "flock has no time-out, so this edge tries again after a pause")]

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Pause between tries; a plumbing takes about a millisecond.
const PAUSE: Duration = Duration::from_millis(2);

/// Held while it lives.
#[derive(Debug)]
pub(crate) struct PodLock {
    _namespace: File,
}

/// Why there is no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLock {
    /// The namespace is not there (any more).
    NoNamespace,
    /// Another plugin had it all the time.
    Busy,
}

impl PodLock {
    /// Takes the lock of the namespace at `netns` within `wait`.
    pub(crate) fn take(netns: &str, wait: Duration) -> Result<Self, NoLock> {
        let namespace = File::open(netns).map_err(|_| NoLock::NoNamespace)?;
        let end = Instant::now() + wait;
        loop {
            if flock(&namespace, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { _namespace: namespace });
            }
            if Instant::now() + PAUSE >= end {
                return Err(NoLock::Busy);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_no_longer_than_it_was_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let first = PodLock::take(&path, Duration::ZERO).unwrap();
        let started = Instant::now();
        assert_eq!(PodLock::take(&path, Duration::from_millis(50)).unwrap_err(), NoLock::Busy);
        assert!(started.elapsed() < Duration::from_secs(2));
        let other = path.clone();
        let second = std::thread::spawn(move || PodLock::take(&other, Duration::from_secs(5)).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        assert!(second.join().unwrap());
    }

    #[test]
    fn a_namespace_that_is_gone_is_told() {
        assert_eq!(PodLock::take("/nowhere", Duration::ZERO).unwrap_err(), NoLock::NoNamespace);
    }
}
