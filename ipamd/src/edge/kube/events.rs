// SPDX-License-Identifier: Apache-2.0
//! Which events are written, and when: pure.
//!
//! The same code about the same object is one event with a count, as long as no 5 min pass without it. It is written when it
//! is new, and its count at most every 30 s after that. All events together share a bucket: 10 at once, one every 2 s. What
//! waits for an API server that is away is bounded, and given up after 5 min.
//!
//! ```text
//! add ─► new ─due─► created ─add─► counted ─due (30 s)─► patched ─ 5 min without an add ─► forgotten
//! ```
//!
//! Worked example: a full node refuses 30 pods, each five times in a minute. 10 events are created at once, the other 20 in the
//! 40 s after that, each with the count of then; counts follow, one every 2 s.

use std::collections::BTreeMap;
use std::time::Duration;

use ipamd_core::ids::PodRef;
use ipamd_core::reason::ReasonCode;
use ipamd_core::{BootTime, Now};

/// So long after its last occurrence an event is over: the next one is a new event.
const OVER: Duration = Duration::from_secs(300);
/// How far apart counts are written.
const COUNTED: Duration = Duration::from_secs(30);
/// Writes at once, and the time in which one more is earned.
const BURST: u32 = 10;
const EARNED: Duration = Duration::from_secs(2);
/// Events that are kept, written or not.
const MOST: usize = 128;

/// Whom something is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// This node.
    Node,
    /// A pod of it.
    Pod(PodRef),
}

/// Something that is worth an event.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) about: About,
    pub(crate) code: ReasonCode,
    /// Else it is normal.
    pub(crate) warning: bool,
    pub(crate) text: String,
}

/// One event: the object and the code.
pub(super) type Key = (About, ReasonCode);

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: Key,
    pub(super) warning: bool,
    pub(super) text: String,
    /// Occurrences until now.
    pub(super) count: u32,
    pub(super) first_unix_nanos: i64,
    pub(super) last_unix_nanos: i64,
    /// The event's name when it has been created.
    pub(super) name: Option<String>,
}

#[derive(Debug)]
struct Entry {
    write: Write,
    /// The count that the API server has.
    told: u32,
    not_before: BootTime,
    last: BootTime,
}

/// All events that are not over.
#[derive(Debug)]
pub(super) struct Journal {
    entries: BTreeMap<Key, Entry>,
    tokens: u32,
    earned_at: BootTime,
    /// Occurrences that were given up.
    dropped: u64,
}

impl Journal {
    pub(super) fn new(now: BootTime) -> Self {
        Self { entries: BTreeMap::new(), tokens: BURST, earned_at: now, dropped: 0 }
    }

    /// Something has happened, once more perhaps.
    pub(super) fn add(&mut self, news: News, now: Now) {
        self.forget_over(now.boot);
        let key = (news.about, news.code);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.write.count = entry.write.count.saturating_add(1);
            entry.write.text = news.text;
            entry.write.last_unix_nanos = now.unix_nanos;
            entry.last = now.boot;
            return;
        }
        if self.entries.len() >= MOST {
            self.dropped += 1;
            return;
        }
        let write = Write {
            key: key.clone(),
            warning: news.warning,
            text: news.text,
            count: 1,
            first_unix_nanos: now.unix_nanos,
            last_unix_nanos: now.unix_nanos,
            name: None,
        };
        self.entries.insert(key, Entry { write, told: 0, not_before: now.boot, last: now.boot });
    }

    /// The next write that may be made now; it costs a token. New ones go before counts, the oldest first.
    pub(super) fn due(&mut self, now: BootTime) -> Option<Write> {
        self.forget_over(now);
        self.earn(now);
        let due = self.entries.values().filter(|entry| entry.is_behind() && entry.not_before <= now);
        let next = due.min_by_key(|entry| (entry.told > 0, entry.not_before, entry.write.first_unix_nanos))?;
        self.tokens = self.tokens.checked_sub(1)?;
        Some(next.write.clone())
    }

    /// When [`Self::due`] may have one; `None`: everything is written.
    pub(super) fn next(&self, now: BootTime) -> Option<BootTime> {
        let first = self.entries.values().filter(|entry| entry.is_behind()).map(|entry| entry.not_before).min()?;
        let token = if self.tokens > 0 { now } else { self.earned_at + EARNED };
        Some(first.max(token))
    }

    /// The API server has taken it under this name.
    pub(super) fn wrote(&mut self, write: &Write, name: String, now: BootTime) {
        if let Some(entry) = self.entries.get_mut(&write.key) {
            entry.write.name = Some(name);
            entry.told = write.count;
            entry.not_before = now + COUNTED;
        }
    }

    /// It has not: tried again when the count would be due.
    pub(super) fn failed(&mut self, write: &Write, now: BootTime) {
        if let Some(entry) = self.entries.get_mut(&write.key) {
            entry.not_before = now + COUNTED;
        }
    }

    /// The event is not there (any more).
    pub(super) fn gone(&mut self, write: &Write) {
        self.entries.remove(&write.key);
    }

    /// Occurrences that nobody will hear of.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget_over(&mut self, now: BootTime) {
        let mut dropped = 0;
        self.entries.retain(|_, entry| {
            let stays = now.since(entry.last) < OVER;
            if !stays && entry.told == 0 {
                dropped += u64::from(entry.write.count);
            }
            stays
        });
        self.dropped += dropped;
    }

    fn earn(&mut self, now: BootTime) {
        while self.tokens < BURST && now.since(self.earned_at) >= EARNED {
            self.tokens += 1;
            self.earned_at = self.earned_at + EARNED;
        }
        if self.tokens == BURST {
            self.earned_at = now;
        }
    }
}

impl Entry {
    fn is_behind(&self) -> bool {
        self.told < self.write.count
    }
}

#[cfg(test)]
mod tests;
