// SPDX-License-Identifier: Apache-2.0
//! What an attach works with and needs no address for: a plugin opens it while the daemon answers.

use std::path::{Path, PathBuf};

use crate::apply::error::ApplyError;
use crate::apply::netlink::Socket;
use crate::apply::netns::Netns;

/// A pod's network namespace beside the node's, with a netlink socket in each. Nothing is changed by opening it.
#[derive(Debug)]
pub struct Site {
    pub(in crate::apply) path: PathBuf,
    pub(in crate::apply) netns: Netns,
    pub(in crate::apply) node: Socket,
    pub(in crate::apply) inside: Socket,
}

impl Site {
    /// The calling thread's namespace is the node's, `netns` is the path of the pod's.
    ///
    /// # Errors
    /// [`ApplyError::Namespace`] when there is no such namespace, or it is the node's own; what the kernel refuses.
    pub fn open(netns: &Path) -> Result<Self, ApplyError> {
        let path = netns.to_owned();
        let netns = Netns::open(netns)?;
        let node = Socket::route()?;
        let inside = netns.inside(Socket::route)?;
        Ok(Self { path, netns, node, inside })
    }

    /// The same, or what is at the path by now: since it was opened the sandbox may have gone, and its namespace lives on for us alone.
    ///
    /// # Errors
    /// As of [`Site::open`].
    pub fn current(self) -> Result<Self, ApplyError> {
        if self.netns.is_at(&self.path) { Ok(self) } else { Self::open(&self.path) }
    }
}
