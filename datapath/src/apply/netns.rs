// SPDX-License-Identifier: Apache-2.0
//! A pod's network namespace, entered only for as long as it takes to open a socket there (a few microseconds; a thread
//! of its own would cost twenty times that in an ADD). A socket stays in the namespace that it was born in.
//!
//! Invariant: the calling thread is back in its own namespace when a call returns `Ok`. If going back fails, which the
//! kernel has no reason to do (we have just come from there), the error says so and the thread must end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::ApplyError;

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    pod: File,
    own: File,
}

impl Netns {
    /// Opens it, and refuses the caller's own: a pod plumbed into the node's namespace would take its default route.
    pub(crate) fn open(path: &Path) -> Result<Self, ApplyError> {
        let failed = |source| ApplyError::Namespace { path: path.to_owned(), source };
        let pod = File::open(path).map_err(failed)?;
        let own = File::open("/proc/thread-self/ns/net").map_err(failed)?;
        let pod_identity = identity(&pod).map_err(|errno| failed(errno.into()))?;
        if pod_identity == identity(&own).map_err(|errno| failed(errno.into()))? {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "is the node's own namespace")));
        }
        Ok(Self { path: path.to_owned(), pod, own })
    }

    /// Whether it is what the path leads to now.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let there = rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        there.is_ok() && there.ok() == identity(&self.pod).ok()
    }

    /// Its descriptor, for messages that name a namespace.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pod.as_fd()
    }

    /// Runs `f` inside.
    pub(crate) fn inside<T>(&self, f: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        let enter = |file: &File| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| ApplyError::Namespace { path: self.path.clone(), source: errno.into() })
        };
        enter(&self.pod)?;
        let result = f();
        enter(&self.own)?;
        result
    }
}

fn identity(file: &File) -> rustix::io::Result<(u64, u64)> {
    rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino))
}
