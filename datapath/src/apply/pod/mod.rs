// SPDX-License-Identifier: Apache-2.0
//! Pods into and out of the kernel. The order of an attach is [`crate::plan::pod`]'s; here is what happens when the
//! kernel does not agree.
//!
//! Attach leaves nothing behind when it fails: the veth is deleted by index (host route, neighbours and everything in the
//! pod go with it) and the rules that this call made are deleted, unless the address has come to be another link's
//! meanwhile (a second ADD for the same sandbox has won). The one thing it removes that was there before is a stale host
//! veth of the same name or the same owner. A pod that is whole is spared.
//!
//! Detach is keyed by the owner that the host veth's alias names, collects errors and goes on, and may be repeated. It
//! never touches a link or an address that another owner holds.

mod attach;
mod check;
mod detach;
mod sandboxes;
mod site;
mod standing;

pub use attach::{Attached, AttachedPod};
pub use check::check;
pub use detach::{Detached, detach, take_back};
pub use sandboxes::{AttachedSandbox, is_as_read, sandboxes};
pub use site::Site;
pub use standing::is_living;
#[cfg(test)]
pub(crate) use standing::{Standing, standing};

/// Opens the site and attaches: for tests, which know the address before.
#[cfg(test)]
pub(crate) fn attach(
    netns: &std::path::Path,
    pod: &crate::plan::pod::PodAttachment,
) -> Result<Attached, crate::apply::ApplyError> {
    Site::open(netns)?.attach(pod)
}
