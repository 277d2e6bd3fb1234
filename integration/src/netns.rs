// SPDX-License-Identifier: Apache-2.0
//! Named network namespaces: made, entered, removed.
//!
//! A namespace is a file under `/run/netns` (a bind mount, as `ip netns add` makes it), so that `ip`, the CNI plugin and
//! `CNI_NETNS` can all name it. Work is done in it by a thread that enters it and ends with the work: a thread that left its
//! namespace is never given back to anybody. Child processes started by such a thread are in the namespace too.
//!
//! Invariant: the file goes when the last [`Namespace`] handle of it goes; the namespace itself when nothing is in it.
#![expect(clippy::disallowed_methods, reason = "namespaces are files")]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::world::{NETNS_FOLDER, unshare};

/// A step on a namespace that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} network namespace {name}")]
pub struct NetnsError {
    /// `making`, `entering`, …
    pub doing: &'static str,
    /// The namespace.
    pub name: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// A named network namespace. Clones name the same one.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Named>);

#[derive(Debug)]
struct Named {
    name: String,
    path: PathBuf,
}

impl Drop for Named {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the world ends with the process anyway.
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

impl Namespace {
    /// A new, empty namespace `/run/netns/<name>`: its loopback link is down, as the kernel makes it.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn create(name: &str) -> Result<Self, NetnsError> {
        let path = Path::new(NETNS_FOLDER).join(name);
        let failed = |doing| move |source| NetnsError { doing, name: name.to_owned(), source };
        File::create_new(&path).map_err(failed("making the file of"))?;
        let made = std::thread::scope(|scope| {
            let bind = || {
                unshare(UnshareFlags::NEWNET)?;
                rustix::mount::mount_bind("/proc/thread-self/ns/net", &path)
            };
            scope.spawn(bind).join().expect("the closure does not panic")
        });
        // From here on the handle's drop removes the file.
        let namespace = Self(Arc::new(Named { name: name.to_owned(), path: path.clone() }));
        made.map_err(|errno| failed("making")(errno.into()))?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Moves the calling thread into the namespace, for good. For a thread that was started for that.
    ///
    /// # Errors
    /// The file is gone, or the kernel refuses.
    pub fn enter(&self) -> Result<(), NetnsError> {
        let failed = |source| NetnsError { doing: "entering", name: self.0.name.clone(), source };
        let file = File::open(&self.0.path).map_err(failed)?;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| failed(errno.into()))
    }

    /// Runs `work` in the namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// The namespace cannot be entered; `work` was not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let entered = std::thread::scope(|scope| scope.spawn(|| self.enter().map(|()| work())).join());
        entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
