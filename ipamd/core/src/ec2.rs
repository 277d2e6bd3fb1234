// SPDX-License-Identifier: Apache-2.0
//! What is known of EC2 as a service, as pure functions: what an error code means for a decision, and how many requests a
//! node may send.
//!
//! Makes no call (crate `ipamd-aws`, which reads the wire and waits) and does not decide what follows from a failure (the
//! core). It is here so that the simulation (crate `ipamd-simulate`) runs the very same rules.

mod bucket;
mod classify;

pub use bucket::{Bucket, Ceiling};
pub use classify::{Sent, classify};
