// SPDX-License-Identifier: Apache-2.0
//! What happened lately, for those who ask why: the decision log of `ipamd events` and `ipamd why`, and the pool's course over the
//! last hour.
//!
//! Does: number what it is told, and keep the newest of it. Does not: decide what is worth telling (the driver and the edges do), write
//! anything to disk, or count (that is the metrics' business). Pure; who shares it locks it.
//!
//! ```text
//!   tell ──► debug? ──yes──► ring of decisions with their inputs (many, soon forgotten)
//!                └───no────► ring of what happened to pods, ENIs and the node
//!   since(n) ──► both, by number ; missed = what was numbered from n on and is in neither any more
//! ```
//!
//! Invariants: numbers grow by one a record and are never given twice by one daemon, whose start goes with every answer; debug records never push out others; memory is bounded by
//! [`LOUD`], [`QUIET`] and [`LONGEST_TEXT`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::ids::EniId;
use crate::reason::{NoticeLevel, ReasonCode};

/// Records kept that are not debug: a full node's pods, three times.
pub const LOUD: usize = 768;

/// Debug records kept.
pub const QUIET: usize = 256;

/// Bytes of a text; longer ones (an EC2 error with its encoded message) are cut.
pub const LONGEST_TEXT: usize = 512;

/// The course goes back this far.
const HOUR_MS: i64 = 3_600_000;

/// In so much time the course has two samples at most.
const SAMPLE_MS: i64 = 2_000;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A pod was given an address.
    Added,
    /// A pod was refused one.
    Refused,
    /// A pod gave one back.
    Released,
    /// What is wanted next, and why.
    Decision,
    /// A call to EC2 or the kernel began or ended well.
    Action,
    /// A call failed.
    Failure,
    /// Something was put right in the kernel.
    Repair,
    /// An ENI, the node or the daemon is in another state.
    State,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How loud.
    pub level: NoticeLevel,
    /// What it is about.
    pub kind: Kind,
    /// Stable code, when it has one.
    pub code: Option<ReasonCode>,
    /// What happened, naming the object.
    pub text: String,
    /// `namespace/name`, when it is about a pod that has one.
    pub pod: Option<String>,
    /// `network/container/ifname`, when it is about a sandbox.
    pub key: Option<String>,
    /// The address that it is about.
    pub address: Option<Ipv4Addr>,
    /// The ENI that it is about.
    pub eni_id: Option<EniId>,
    /// How long it took.
    pub took_ms: Option<u64>,
}

impl Entry {
    /// With nothing but its text.
    #[must_use]
    pub fn new(level: NoticeLevel, kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { level, kind, text, code: None, pod: None, key: None, address: None, eni_id: None, took_ms: None }
    }
}

/// What was told, with its number and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its number; the first since the daemon's start is 1.
    pub seq: u64,
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// How loud.
    pub level: NoticeLevel,
    /// What it is about.
    pub kind: Kind,
    /// Stable code, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// What happened, naming the object.
    pub text: String,
    /// `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `network/container/ifname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The address that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The ENI that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni_id: Option<EniId>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// Some of what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Records {
    /// In the order in which they were told.
    pub records: Vec<Record>,
    /// How many of those asked for are forgotten.
    pub missed: u64,
    /// What to ask for next.
    pub next: u64,
    /// Whose numbers these are: when the daemon started, milliseconds since the Unix epoch. Another start counts from 1 again.
    pub started_unix_ms: i64,
}

/// The pool at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// Addresses of pods.
    pub used: u32,
    /// Addresses that can be given, or will be once their ENI is proven.
    pub free: u32,
    /// Released less than a cooldown ago.
    pub cooling: u32,
    /// All addresses held.
    pub total: u32,
    /// ADDs that wait.
    pub waiters: u32,
}

impl Sample {
    fn same(self, other: Self) -> bool {
        Self { unix_ms: 0, ..self } == Self { unix_ms: 0, ..other }
    }
}

/// The newest of what happened.
#[derive(Debug)]
pub struct Chronicle {
    started_unix_ms: i64,
    next: u64,
    loud: VecDeque<Record>,
    quiet: VecDeque<Record>,
    course: VecDeque<Sample>,
}

impl Chronicle {
    /// Of a daemon that starts now.
    #[must_use]
    pub fn new(started_unix_ms: i64) -> Self {
        Self { started_unix_ms, next: 1, loud: VecDeque::new(), quiet: VecDeque::new(), course: VecDeque::new() }
    }

    /// Keeps it; its number.
    pub fn tell(&mut self, unix_ms: i64, entry: Entry) -> u64 {
        let Entry { level, kind, code, text, pod, key, address, eni_id, took_ms } = entry;
        let seq = self.next;
        self.next += 1;
        let record = Record { seq, unix_ms, level, kind, code, text: cut(text), pod, key, address, eni_id, took_ms };
        let (ring, most) = match level {
            NoticeLevel::Debug => (&mut self.quiet, QUIET),
            NoticeLevel::Info | NoticeLevel::Warn | NoticeLevel::Error => (&mut self.loud, LOUD),
        };
        if ring.len() == most {
            ring.pop_front();
        }
        ring.push_back(record);
        seq
    }

    /// What was told from number `since` on (0 and 1: from the first), in order.
    #[must_use]
    pub fn since(&self, since: u64) -> Records {
        let since = since.max(1);
        let newer = |ring: &VecDeque<Record>| -> Vec<Record> {
            ring.iter().skip_while(|record| record.seq < since).cloned().collect()
        };
        let mut records = newer(&self.loud);
        records.extend(newer(&self.quiet));
        records.sort_by_key(|record| record.seq);
        let kept = u64::try_from(records.len()).unwrap_or(u64::MAX);
        Records {
            records,
            missed: self.next.saturating_sub(since).saturating_sub(kept),
            next: self.next,
            started_unix_ms: self.started_unix_ms,
        }
    }

    /// Takes note of the pool. What is as before is left out: the course is a step function.
    pub fn sample(&mut self, sample: Sample) {
        let mut newest = self.course.iter().rev();
        let (last, before) = (newest.next().copied(), newest.next().copied());
        if last.is_some_and(|last| last.same(sample)) {
            return;
        }
        // Close together: the newest stands for all since the one before.
        if last.and(before).is_some_and(|before| sample.unix_ms - before.unix_ms < SAMPLE_MS) {
            self.course.pop_back();
        }
        self.course.push_back(sample);
        // One older than an hour stays: what was then held until the next.
        while self.course.get(1).is_some_and(|second| second.unix_ms < sample.unix_ms - HOUR_MS) {
            self.course.pop_front();
        }
    }

    /// The pool over the last hour, oldest first; each holds until the next.
    #[must_use]
    pub fn course(&self) -> Vec<Sample> {
        self.course.iter().copied().collect()
    }
}

/// No longer than [`LONGEST_TEXT`], cut between characters.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let mark = "…";
        let end = (0..=LONGEST_TEXT - mark.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(mark);
    }
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests;
