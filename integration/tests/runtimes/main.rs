// SPDX-License-Identifier: Apache-2.0
//! Real containerd, runc and podman on nodes of the emulated VPC: what runtimes that we did not write do with the plugin.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the clock"
)]

mod bed;
mod kill;
mod orphans;
mod others;
mod pods;
mod reboot;
mod seccomp;
mod status;
