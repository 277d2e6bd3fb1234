// SPDX-License-Identifier: Apache-2.0
//! Derives a slim copy of aws-sdk-ec2: the same crate without the actions that the daemon does not call.
//!
//! The full crate has 800 actions and 1.2 million lines; one compiler process needs 7 to 8 GB and minutes for it. The dozen
//! actions that the daemon calls, with the types and wire shapes they refer to, are a twentieth of that. Everyday builds
//! compile the copy; `Cargo.lock`, a plain `cargo build` and releases know nothing of it.
//!
//! ```text
//! Cargo.lock ──► locked version ──► checked? ──no──► refused, with what to do
//!                                      │ yes
//! registry's copy ─► layout ─► reach ◄─┴── ours: actions that our code calls
//!                                │
//!                              trim ─► same words, same surface? ─► <build folder>/slim-<hash of the source>/aws-sdk-ec2
//! ```
//!
//! Files are kept word for word or left out; of indexes, items. So the copy can lack something, which does not compile, but it
//! cannot do something else. Both are shown of each copy before it is used: that nothing in it is not the full crate's, and that
//! the public items of our actions are those of the full crate. The build folder is named by a hash of the copy: a change of the copy is another build.

pub mod build;
pub mod error;
pub mod layout;
pub mod lock;
#[cfg(test)]
mod miniature;
pub mod ours;
pub mod reach;
pub mod record;
pub mod surface;
pub mod trim;

pub use build::{Derived, Workspace};
pub use error::Error;
