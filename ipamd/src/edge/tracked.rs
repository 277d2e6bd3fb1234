// SPDX-License-Identifier: Apache-2.0
//! How many connections the kernel tracks, and what it lost, read now and then and told to the core.
//!
//! Decides only when: on the host thread, when that wakes for something else (every 20 s at the latest), and not again within
//! 30 s. Two small files below /proc/sys, some 20 us, and one short list by netlink.

use std::time::Duration;

use datapath::apply::{ApplyError, conntrack};
use ipamd_core::event::{LostConnections, TrackedConnections};
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
        match read() {
            Ok(found) => {
                self.failed = false;
                if let Some(found) = found {
                    inbox.event(Event::ConnectionsCounted(found));
                }
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                tracing::warn!(error = %chain(&error), "it cannot be told how many connections the kernel tracks, trying on");
            }
            Err(_) => {}
        }
    }
}

fn read() -> Result<Option<TrackedConnections>, ApplyError> {
    let Some((count, max)) = conntrack::fill()? else { return Ok(None) };
    let conntrack::Losses { insert_failed, dropped, early_dropped } = conntrack::losses()?.unwrap_or_default();
    Ok(Some(TrackedConnections { count, max, lost: LostConnections { insert_failed, dropped, early_dropped } }))
}
