// SPDX-License-Identifier: Apache-2.0
//! All ENIs, with their past.
//!
//! The one place through which an ENI is made, changed or deleted, so that no change misses its version in the history
//! that lagging readers see. Whether a change is allowed is decided by the actions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::History;
use crate::ids::{EniId, InstanceId};
use crate::state::Eni;

/// All ENIs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enis {
    now: BTreeMap<EniId, Eni>,
    past: BTreeMap<EniId, History<Eni>>,
}

impl Enis {
    pub(crate) fn get(&self, id: &EniId) -> Option<&Eni> {
        self.now.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Eni> {
        self.now.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    /// ENIs that this instance has, in whatever phase.
    pub(crate) fn of_instance<'a>(&'a self, instance: &'a InstanceId) -> impl Iterator<Item = &'a Eni> {
        self.iter().filter(move |eni| eni.attachment().is_some_and(|attachment| attachment.instance == *instance))
    }

    /// Adds an ENI. `since` is `None` for one that was there from the start.
    pub(crate) fn insert(&mut self, eni: Eni, since: Option<Duration>) {
        self.past.entry(eni.id.clone()).or_default().push(since, Some(eni.clone()));
        self.now.insert(eni.id.clone(), eni);
    }

    /// Changes an ENI; nothing happens when there is none.
    pub(crate) fn change(&mut self, id: &EniId, at: Duration, change: impl FnOnce(&mut Eni)) {
        if let Some(eni) = self.now.get_mut(id) {
            change(eni);
            self.past.entry(id.clone()).or_default().push(Some(at), Some(eni.clone()));
        }
    }

    pub(crate) fn remove(&mut self, id: &EniId, at: Duration) -> Option<Eni> {
        let eni = self.now.remove(id)?;
        self.past.entry(id.clone()).or_default().push(Some(at), None);
        Some(eni)
    }

    /// The ENIs as a reader with this lag sees them, sorted by id.
    pub(crate) fn seen(&self, now: Duration, lag: Duration) -> impl Iterator<Item = &Eni> {
        self.past.values().filter_map(move |history| history.seen(now, lag))
    }
}
