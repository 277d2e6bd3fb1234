// SPDX-License-Identifier: Apache-2.0
//! Where the daemon's keys come from, and which way its calls take: every source that users have, proxies, endpoints.
//!
//! The emulated EC2 takes no call whose key it does not know or that has expired; so a daemon that works is one that signs with what
//! its source gave.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads the clock, and writes tokens and certificates")]

mod authorities;
mod bed;
mod endpoints;
mod nothing;
mod proxies;
mod rotation;
mod sources;
#[path = "../image/tls.rs"]
mod tls;
