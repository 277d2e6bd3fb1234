// SPDX-License-Identifier: Apache-2.0
//! How many connections the kernel tracks, read now and then and told to the core.
//!
//! Decides only when: on the host thread, when that wakes for something else (every 20 s at the latest), and not again within
//! 30 s. Two small files below /proc/sys, some 20 us.

use std::time::Duration;

use datapath::apply::conntrack;
use ipamd_core::event::TrackedConnections;
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
        match conntrack::fill() {
            Ok(found) => {
                self.failed = false;
                if let Some((count, max)) = found {
                    inbox.event(Event::ConnectionsCounted(TrackedConnections { count, max }));
                }
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                tracing::warn!(error = %chain(&error), "it cannot be told how many connections the kernel tracks, trying on");
            }
            Err(_) => {}
        }
    }
}
