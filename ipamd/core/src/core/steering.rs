// SPDX-License-Identifier: Apache-2.0
//! Layout `flat`: which way a pod's packets find its ENI, and the rules of prefixes.
//!
//! A prefix has one rule for all its addresses. It is written and proven by the ENI's set-up, and set up anew when the list
//! of its prefixes changes; that takes milliseconds. Until then no address of a new prefix is given out: its pod's packets
//! would leave by the primary ENI, and EC2 drops those. A prefix that was given back takes its rule along.
//!
//! In layout `classic`, and on the primary ENI, there is nothing to prove.

use ipnet::Ipv4Net;

use crate::action::{ActionKind, Plumbing};
use crate::config::Layout;
use crate::event::{Failure, Outcome};
use crate::ids::EniId;
use crate::lifecycle::{Eni, Phase, Try, TryState};
use crate::store::{Book, Slot};

use super::ended::unexpected;
use super::state::Purpose;
use super::{Core, Turn};

impl Core {
    /// Prefixes of an ENI, sorted, for the rules of layout `flat`.
    pub(super) fn prefixes_of(&self, id: &EniId) -> Vec<Ipv4Net> {
        let book = self.store.book(id).filter(|_| self.config.layout == Layout::Flat);
        book.into_iter().flat_map(Book::prefixes).map(|(prefix, _)| prefix).collect()
    }

    /// Whether the kernel has been seen to route what a pod inside the prefix sends.
    pub(super) fn is_proven(&self, id: &EniId, prefix: Ipv4Net) -> bool {
        let steers = |eni: &Eni| self.config.layout == Layout::Flat && !eni.primary;
        self.enis.get(id).is_some_and(|eni| !steers(eni) || eni.steering.proven.contains(&prefix))
    }

    /// How a pod with an address of this ENI is plumbed.
    pub(super) fn plumbing(&self, eni: &Eni, slot: Slot) -> Plumbing {
        Plumbing::of(self.config.layout, slot == Slot::Prefix, eni.primary)
    }

    /// A set-up of the ENI is being started: what it will have proved.
    pub(super) fn note_proving(&mut self, id: &EniId) {
        let prefixes = self.prefixes_of(id);
        if let Some(eni) = self.enis.get_mut(id) {
            eni.steering.proving = prefixes;
        }
    }

    /// Sets an ENI in service up anew when its prefixes are not those that have rules.
    pub(super) fn drive_steering(&mut self, turn: &mut Turn, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let in_service = matches!(eni.phase, Phase::Ready | Phase::Draining(_)) && !eni.primary;
        if !in_service || self.prefixes_of(id) == eni.steering.proven {
            return;
        }
        let TryState::Due(at) = eni.steering.attempt.state else { return };
        if turn.boot() < at {
            self.alarm(at);
            return;
        }
        let Some(plan) = self.eni_plan(eni) else { return };
        self.note_proving(id);
        let action = self.start(turn, Purpose::Steer { eni_id: id.clone() }, ActionKind::ConfigureEni(plan));
        if let Some(eni) = self.enis.get_mut(id) {
            eni.steering.attempt.state = TryState::Running(action);
        }
    }

    pub(super) fn steer_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        id: &EniId,
        outcome: Result<Outcome, Failure>,
    ) {
        let now = turn.boot();
        let Some(steering) = self.enis.get_mut(id).map(|eni| &mut eni.steering) else { return };
        let failure = match outcome {
            Ok(Outcome::EniConfigured) => {
                steering.proven = std::mem::take(&mut steering.proving);
                steering.attempt = Try::due(now);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        steering.attempt.attempts += 1;
        let attempts = steering.attempt.attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        if let Some(eni) = self.enis.get_mut(id) {
            eni.steering.attempt.again(failure, retry);
        }
    }
}
