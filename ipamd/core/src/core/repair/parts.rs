// SPDX-License-Identifier: Apache-2.0
//! Parts of the node's network that could not be put right. Each is tried again by a clock of its own, so that one that cannot
//! be mended (an ENI whose link is gone) keeps nobody else from being mended at once.
//!
//! | part | while it waits |
//! |---|---|
//! | the node's own set-up; an ENI | left out of looks that are due for other reasons |
//! | pods | in every look: they are many, and the one that cannot be written must not hold up the others. Only a look for its sake waits |

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::BootTime;
use crate::repair::{RepairPart, RepairPlan};

/// Parts that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Setbacks {
    waiting: BTreeMap<RepairPart, Setback>,
    /// Parts in the look under way.
    looked_at: BTreeSet<RepairPart>,
    /// When that began.
    began: BootTime,
}

#[derive(Clone, Copy, Debug)]
struct Setback {
    /// Failures in a row.
    attempts: u32,
    /// The next try.
    retry_at: BootTime,
}

impl Setbacks {
    /// Whether a part is to be left out now.
    pub(super) fn is_waiting(&self, part: &RepairPart, now: BootTime) -> bool {
        self.waiting.get(part).is_some_and(|setback| now < setback.retry_at)
    }

    /// When the first of them is tried again.
    pub(super) fn next(&self) -> Option<BootTime> {
        self.waiting.values().map(|setback| setback.retry_at).min()
    }

    /// Drops those that are no part any more.
    pub(super) fn keep(&mut self, is_part: impl Fn(&RepairPart) -> bool) {
        self.waiting.retain(|part, _| is_part(part));
    }

    /// A look starts.
    pub(super) fn begin(&mut self, plan: &RepairPlan, now: BootTime) {
        let enis = plan.enis.iter().map(|eni| RepairPart::Eni(eni.eni_id.clone()));
        let host = plan.host.iter().map(|_| RepairPart::Host);
        self.looked_at = host.chain(enis).chain([RepairPart::Pods]).collect();
        self.began = now;
    }

    /// What was looked at and did not fail is well.
    pub(super) fn succeeded_but(&mut self, failed: &BTreeSet<&RepairPart>) {
        let looked_at = std::mem::take(&mut self.looked_at);
        self.waiting.retain(|part, _| failed.contains(part) || !looked_at.contains(part));
    }

    /// How often a part has failed now; `None`: its time for another try had not come, so that says nothing new.
    pub(super) fn failed(&self, part: &RepairPart) -> Option<u32> {
        match self.waiting.get(part) {
            Some(setback) if self.began < setback.retry_at => None,
            Some(setback) => Some(setback.attempts + 1),
            None => Some(1),
        }
    }

    /// It waits until then, after so many failures.
    pub(super) fn wait(&mut self, part: &RepairPart, attempts: u32, retry_at: BootTime) {
        self.waiting.insert(part.clone(), Setback { attempts, retry_at });
    }

    /// It waits no more; whether it did.
    pub(super) fn end(&mut self, part: &RepairPart) -> bool {
        self.waiting.remove(part).is_some()
    }
}
