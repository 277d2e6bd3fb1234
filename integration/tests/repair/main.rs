// SPDX-License-Identifier: Apache-2.0
//! What others do to the node's network is put back by the running daemon, without any pod being made anew: by hand, by
//! a program that fights, while the daemon is away, by systemd-networkd and NetworkManager.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "measures time, starts programs and reads their output")]

mod bed;
mod by_hand;
mod fight;
mod programs;
mod restart;
