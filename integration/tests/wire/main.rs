// SPDX-License-Identifier: Apache-2.0
//! The contract from its other side: gRPC's own implementation, with messages that were written down from the reference's behaviour,
//! plays the reference's plugin against our daemon, its daemon for our plugin, and the network policy agent that both are asked by
//! and ask. What one end of ours and the other agree on wrongly, shows here.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod agent;
mod reference_daemon;
mod reference_plugin;
