// SPDX-License-Identifier: Apache-2.0
//! The EC2 and IMDS edges of the IPAM daemon: the only crate that sees the AWS SDK.
//!
//! Does: turn an EC2 [`ActionKind`](ipamd_core::action::ActionKind) into calls and their answer into an
//! [`Outcome`](ipamd_core::event::Outcome); read the instance's facts from IMDS; keep our own share of EC2's request rate.
//! Does not: decide anything, repeat a call that may have had an effect, or keep state beyond caches with a lifetime.
//!
//! Invariants: a call whose repetition could act twice (assign by count, attach) is sent once and a lost answer is
//! `Unknown`; an id that EC2 does not know is left out of a description, never an error; every request, retries included,
//! is charged to the bucket of its action.
//!
//! ```text
//!  ActionKind ─► Ec2::run ─► Throttle (bucket per action, waits or refuses) ─► SDK (standard retry) ─► EC2
//!                   │                       ▲  charge, succeeded, slow_down           │ each attempt
//!  Outcome  ◄── classify, view              └──────── BucketInterceptor ◄─────────────┘
//! ```
//! [`watch::Watch`], when there is one, is told how every call ended and what was held back.

mod config;
mod credentials;
mod ec2;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod imds;
mod intercept;
mod limits;
mod route;
mod throttle;
mod trust;
mod view;
pub mod watch;

pub use config::{ConnectError, Settings};
pub use ec2::Ec2;
pub use ec2::dry_run::{Subject, TRIED, Verdict};
pub use imds::Imds;

/// An SDK error with its causes in one line. The SDK's own display context adds their `Debug` text, which nobody can read.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The first cause of that type, the error itself among them.
fn cause_of<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
