// SPDX-License-Identifier: Apache-2.0
//! The plugin under libcni, the reference implementation of a CNI runtime (containerd's and CRI-O's), on a node of the emulated VPC
//! with the real daemon: every verb, in every version that has it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; takes a file of libcni's cache away"
)]

mod bed;
mod chain;
mod garbage;
mod verbs;
