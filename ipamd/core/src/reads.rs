// SPDX-License-Identifier: Apache-2.0
//! Reads of the outside: when the last good one began, whether one is under way, when the next may start.
//!
//! A read proves something only about what was written before it *began*; so that is the time that counts. One read of a
//! kind at a time; whoever needs one asks for "begun at or after t", and all who ask share it.

use std::time::Duration;

use crate::event::Failure;
use crate::ids::{ActionId, BootTime};

/// One kind of read: DescribeNetworkInterfaces, or the kernel's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// The one under way, and when it was asked for.
    pub(crate) running: Option<(ActionId, BootTime)>,
    /// When the last good one began.
    pub(crate) last: Option<BootTime>,
    /// After a failure: not before then.
    pub(crate) not_before: BootTime,
    /// Failures in a row.
    pub(crate) attempts: u32,
    /// Why the last one failed.
    pub(crate) failure: Option<Failure>,
}

impl Read {
    /// Whether a good read began at or after `time`.
    pub(crate) fn is_newer_than(&self, time: BootTime) -> bool {
        self.last.is_some_and(|last| last >= time)
    }

    /// A good read, begun at `began`.
    pub(crate) fn succeeded(&mut self, began: BootTime, now: BootTime) {
        // A read that is older than it was asked for must not be asked for again at once.
        let asked = self.running.take().map_or(began, |(_, asked)| asked);
        self.not_before = if began < asked { now + Duration::from_secs(1) } else { BootTime::default() };
        self.last = Some(self.last.map_or(began, |last| last.max(began)));
        self.attempts = 0;
        self.failure = None;
    }

    pub(crate) fn failed(&mut self, failure: Failure, not_before: BootTime) {
        self.running = None;
        self.not_before = not_before;
        self.failure = Some(failure);
    }
}
