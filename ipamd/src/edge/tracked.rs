// SPDX-License-Identifier: Apache-2.0
//! How many connections the kernel tracks, and what it lost, read now and then and told to the core. Where the losses cannot be
//! read the rest is told without them.
//!
//! Decides only when: on the host thread, when that wakes for something else (every 75 s at the latest), and not again within
//! 30 s. Two small files below /proc/sys, some 20 us, and one short list by netlink.

use std::time::Duration;

use datapath::apply::{ApplyError, conntrack};
use ipamd_core::event::{LostConnections, TrackedConnections};
use ipamd_core::reason::ReasonCode;
use ipamd_core::{BootTime, Event};

use crate::clock;
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// Not more often.
const PERIOD: Duration = Duration::from_secs(30);

/// When the next reading is due.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    due: BootTime,
    /// A failure was told; the next is not.
    failed: bool,
}

impl Tracked {
    /// Reads, when it is time.
    pub(crate) fn look(&mut self, inbox: &Inbox) {
        if self.due > clock::boot() {
            return;
        }
        self.due = clock::boot() + PERIOD;
        let mut failure = None;
        if let Some(found) = read(&mut failure) {
            inbox.event(Event::ConnectionsCounted(found));
        }
        let was_failed = std::mem::replace(&mut self.failed, failure.is_some());
        if let Some((what, error)) = failure.filter(|_| !was_failed) {
            tracing::warn!(
                code = %ReasonCode::KernelUnreadable, error = %chain(&error),
                "it cannot be told {what}, trying on"
            );
        }
    }
}

/// What there is to be told; `None`: the kernel tracks nothing, or does not say how much. What could not be read goes into `failure`.
fn read(failure: &mut Option<(&'static str, ApplyError)>) -> Option<TrackedConnections> {
    let filled = conntrack::fill().unwrap_or_else(|error| {
        *failure = Some(("how many connections the kernel tracks", error));
        None
    });
    let (count, max) = filled?;
    let lost = conntrack::losses().unwrap_or_else(|error| {
        *failure = Some(("what connections the kernel lost", error));
        None
    });
    let lost = lost.map(|conntrack::Losses { insert_failed, dropped, early_dropped }| LostConnections {
        insert_failed,
        dropped,
        early_dropped,
    });
    Some(TrackedConnections { count, max, lost })
}
