// SPDX-License-Identifier: Apache-2.0
//! Real containerd and runc on nodes of the emulated VPC, 1.x and 2.x: what runtimes that we did not write do with the plugin.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the clock"
)]

mod bed;
mod kill;
mod pods;
mod reboot;
mod status;
