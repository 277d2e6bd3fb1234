// SPDX-License-Identifier: Apache-2.0
//! All ENIs, with their past, and the indexes by which they are found.
//!
//! The one place through which an ENI is made, changed or deleted, so that no change misses its version in the history
//! that lagging readers see. Whether a change is allowed is decided by the actions.
//!
//! Invariant: the indexes (deadlines, attachments, instances) say of every ENI what the ENI says itself; an ENI that was
//! deleted is forgotten when the longest lag has passed. Nothing but a search by anything else looks at every ENI, so that
//! an account of some 10,000 ENIs answers as quickly as one of ten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::history::History;
use crate::ids::{AttachmentId, EniId, InstanceId};
use crate::state::Eni;

/// One ENI's past and present.
#[derive(Clone, Debug)]
struct Record {
    history: History<Eni>,
    /// The instances that it was ever attached to.
    instances: Vec<InstanceId>,
}

/// All ENIs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enis {
    records: BTreeMap<EniId, Record>,
    /// How many are not deleted.
    number: usize,
    /// Deleted ones with their time, oldest first.
    gone: VecDeque<(Duration, EniId)>,
    /// What ends by itself, and when.
    deadlines: BTreeSet<(Duration, EniId)>,
    attachments: BTreeMap<AttachmentId, EniId>,
    /// ENIs that this instance has, or has had while they are remembered.
    instances: BTreeMap<InstanceId, BTreeSet<EniId>>,
    /// The longest lag of any reader.
    keep: Duration,
}

/// What the indexes know of an ENI.
#[derive(PartialEq, Eq)]
struct Keys {
    deadline: Option<Duration>,
    attachment: Option<AttachmentId>,
}

impl Keys {
    fn of(eni: &Eni) -> Self {
        Self { deadline: eni.state.deadline(), attachment: eni.attachment().map(|attachment| attachment.id.clone()) }
    }
}

impl Enis {
    pub(crate) fn get(&self, id: &EniId) -> Option<&Eni> {
        self.records.get(id)?.history.now()
    }

    /// Those there are, sorted by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Eni> {
        self.records.values().filter_map(|record| record.history.now())
    }

    pub(crate) fn len(&self) -> usize {
        self.number
    }

    /// ENIs that this instance has, in whatever phase, sorted by id.
    pub(crate) fn of_instance<'a>(&'a self, instance: &'a InstanceId) -> impl Iterator<Item = &'a Eni> {
        let known = self.instances.get(instance).into_iter().flatten().filter_map(|id| self.get(id));
        known.filter(move |eni| eni.attachment().is_some_and(|attachment| attachment.instance == *instance))
    }

    /// The ENI that has this attachment.
    pub(crate) fn of_attachment(&self, id: &AttachmentId) -> Option<&Eni> {
        self.get(self.attachments.get(id)?)
    }

    /// What ends by itself first, and when.
    pub(crate) fn first_deadline(&self) -> Option<&(Duration, EniId)> {
        self.deadlines.first()
    }

    /// Says how long the longest lag of a reader is from now on.
    pub(crate) fn set_keep(&mut self, keep: Duration) {
        self.keep = keep;
    }

    /// Adds an ENI. `since` is `None` for one that was there from the start.
    pub(crate) fn insert(&mut self, eni: Eni, since: Option<Duration>) {
        let id = eni.id.clone();
        let record = Record { history: History::new(since, eni), instances: Vec::new() };
        self.remember(&id, record);
    }

    fn remember(&mut self, id: &EniId, record: Record) {
        let before = self.get(id).map(Keys::of);
        if before.is_none() {
            self.number += 1;
        }
        self.records.insert(id.clone(), record);
        self.index(id, before);
    }

    /// Changes an ENI; nothing happens when there is none.
    pub(crate) fn change(&mut self, id: &EniId, at: Duration, change: impl FnOnce(&mut Eni)) {
        let keep = self.keep;
        let Some(record) = self.records.get_mut(id) else { return };
        let before = record.history.now().map(Keys::of);
        record.history.change(at, keep, change);
        self.index(id, before);
    }

    pub(crate) fn remove(&mut self, id: &EniId, at: Duration) -> Option<Eni> {
        let record = self.records.get_mut(id)?;
        let eni = record.history.now()?.clone();
        record.history.end(at, self.keep);
        self.number -= 1;
        self.index(id, Some(Keys::of(&eni)));
        self.gone.push_back((at, id.clone()));
        self.forget(at);
        Some(eni)
    }

    /// The ENIs as a reader with this lag sees them, sorted by id.
    pub(crate) fn seen(&self, now: Duration, lag: Duration) -> impl Iterator<Item = &Eni> {
        self.records.values().filter_map(move |record| record.history.seen(now, lag))
    }

    /// One of them.
    pub(crate) fn seen_one(&self, id: &EniId, now: Duration, lag: Duration) -> Option<&Eni> {
        self.records.get(id)?.history.seen(now, lag)
    }

    /// Those that this instance has as a reader with this lag sees it, sorted by id.
    pub(crate) fn seen_of_instance(&self, instance: &InstanceId, now: Duration, lag: Duration) -> Vec<&Eni> {
        let known = self.instances.get(instance).into_iter().flatten();
        known
            .filter_map(|id| self.seen_one(id, now, lag))
            .filter(|eni| eni.attachment().is_some_and(|attachment| attachment.instance == *instance))
            .collect()
    }

    /// Brings the indexes up to date after a change of one ENI, of which they knew `before`.
    fn index(&mut self, id: &EniId, before: Option<Keys>) {
        let after = self.get(id).map(Keys::of);
        if before == after {
            return;
        }
        if let Some(Keys { deadline, attachment }) = before {
            if let Some(deadline) = deadline {
                self.deadlines.remove(&(deadline, id.clone()));
            }
            if let Some(attachment) = attachment {
                self.attachments.remove(&attachment);
            }
        }
        let Some(Keys { deadline, attachment }) = after else { return };
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id.clone()));
        }
        if let Some(attachment) = attachment {
            self.attachments.insert(attachment, id.clone());
            self.index_instance(id);
        }
    }

    fn index_instance(&mut self, id: &EniId) {
        let Some(instance) = self.get(id).and_then(Eni::attachment).map(|attachment| attachment.instance.clone())
        else {
            return;
        };
        if let Some(record) = self.records.get_mut(id).filter(|record| !record.instances.contains(&instance)) {
            record.instances.push(instance.clone());
            self.instances.entry(instance).or_default().insert(id.clone());
        }
    }

    /// Forgets deleted ENIs that no reader can see any more.
    fn forget(&mut self, now: Duration) {
        while self.gone.front().is_some_and(|(at, _)| *at + self.keep <= now) {
            let Some((_, id)) = self.gone.pop_front() else { return };
            let Some(record) = self.records.remove(&id) else { continue };
            for instance in record.instances {
                if let Some(known) = self.instances.get_mut(&instance) {
                    known.remove(&id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
