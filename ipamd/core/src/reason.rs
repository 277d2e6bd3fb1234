// SPDX-License-Identifier: Apache-2.0
//! Why: stable codes with their numbers, the same in the CNI error, the log line, the metric label, the Event and
//! `ipamd status`.
//!
//! ```text
//!   code       the codes, one a cause, with what each means
//!   table      what there is to know of each: kind, numbers, remedy, where it shows
//!   markdown   docs/reasons.md
//!   failure    from a failed action to its code
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod code;
mod failure;
mod markdown;
mod table;

#[cfg(test)]
mod tests;

pub use code::{NoSuchCode, ReasonCode};
pub(crate) use failure::reason_of;
pub use markdown::{markdown, section};
pub use table::{ReasonEntry, ReasonKind, Surface};

/// Why an ADD got no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: ReasonCode,
    /// What happened, with its numbers, and what to do; one sentence or two.
    pub cause: String,
    /// When a retry can succeed, as far as known.
    pub retry_after: Option<Duration>,
}

/// Something worth a log line; the driver logs it, the core never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub level: NoticeLevel,
    /// What happened, naming the object.
    pub text: String,
    /// Stable code, when it is one of the table.
    pub code: Option<ReasonCode>,
}

/// error = the operator must act, warn = degraded and will retry, info = state transitions, debug = decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// Decisions with their inputs.
    Debug,
    /// State transitions.
    Info,
    /// Degraded, will retry.
    Warn,
    /// The operator must act.
    Error,
}
