// SPDX-License-Identifier: Apache-2.0
//! A node from nothing, in /etc and /opt of its own: `ipamd install`, the list that the daemon writes, containers started from both,
//! `ipamd uninstall`; and what `ipamd doctor` says of healthy and of broken nodes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; looks at files, and starts systemd-analyze"
)]

mod bed;
mod conflist;
mod doctor;
mod node;
mod unit;
