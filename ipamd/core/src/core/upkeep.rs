// SPDX-License-Identifier: Apache-2.0
//! Security groups and tags of ENIs that serve, kept as they should be.
//!
//! Every secondary ENI that serves has the primary ENI's security groups: what it was made with, or was seen with when it
//! was first described, is compared with what instance metadata says of the primary one, and set once when that differs.
//! With custom networking an ENI that was made for the ENIConfig of the node (its tag says so) has that one's groups instead,
//! and every other one keeps what it was made with (`pod_network`).
//! What somebody sets by hand afterwards stays until the wanted groups change. Tags that a description lacks or has
//! with other values are added; none is removed. Which tags: `tags::wanted`.
//!
//! One call at a time, and none while a pod waits: nobody's address hangs on it. Tags are added some time in the ten minutes
//! after an ENI became known, so that nodes that start together do not throttle each other; at once when EC2 denies calls,
//! for a policy may ask for the tags. A failure rests for ten minutes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::action::ActionKind;
use crate::event::{EniView, Failure, FailureClass, Outcome};
use crate::ids::{BootTime, EniId, SecurityGroupId};
use crate::lifecycle::{Eni, Phase};
use crate::tags;

use super::state::{LAG, Purpose};
use super::{Core, Turn};

/// After a failed call: not before, unless it was a matter of moments.
const REST: Duration = Duration::from_secs(600);

/// Tags are added within this time.
const TAGS_WITHIN: Duration = Duration::from_secs(600);

/// What to do for an ENI.
enum Chore {
    Groups(Vec<SecurityGroupId>),
    Tags(Vec<(String, String)>),
}

impl Core {
    /// Notes what a description says of an ENI's groups and tags.
    pub(super) fn note_upkeep(&mut self, view: &EniView, now: BootTime) {
        let Some(facts) = &self.facts else { return };
        let Some(eni) = self.enis.get_mut(&view.eni_id) else { return };
        if let Some(name) = tags::eni_config(view).filter(|name| eni.eni_config.as_deref() != Some(*name)) {
            eni.eni_config = Some(name.to_owned());
        }
        if eni.upkeep.groups.is_none() && !view.security_group_ids.is_empty() {
            eni.upkeep.groups = Some(view.security_group_ids.clone());
        }
        let settled = eni.upkeep.tagged_at.is_none_or(|at| now.since(at) >= LAG);
        if settled && !eni.upkeep.running {
            let wanted = tags::wanted(&self.config, facts, eni.primary, eni.created);
            eni.upkeep.missing_tags = tags::missing(&wanted, &view.tags);
        }
    }

    pub(super) fn drive_upkeep(&mut self, turn: &mut Turn) {
        let busy = !self.learned || !self.waiters.is_empty() || !self.requests.is_empty();
        if !self.may_write() || busy || self.enis.values().any(|eni| eni.upkeep.running) {
            return;
        }
        let now = turn.boot();
        let denied = self.failures.values().any(|last| last.failure.class == FailureClass::Denied);
        let spread = Duration::from_secs(if denied { 0 } else { self.salt() % TAGS_WITHIN.as_secs() });
        let next = self.enis.values().filter_map(|eni| {
            let chore = self.chore(eni)?;
            let earliest = match chore {
                Chore::Groups(_) => BootTime::default(),
                Chore::Tags(_) => eni.known_since + spread,
            };
            Some((eni.upkeep.not_before.max(earliest), chore, &eni.eni_id))
        });
        let Some((at, chore, id)) = next.min_by_key(|(at, _, id)| (*at, (*id).clone())) else { return };
        let eni_id = id.clone();
        if now < at {
            self.alarm(at);
            return;
        }
        let (purpose, kind) = match chore {
            Chore::Groups(security_group_ids) => {
                let purpose = Purpose::Groups { eni_id: eni_id.clone(), groups: security_group_ids.clone() };
                (purpose, ActionKind::SetSecurityGroups { eni_id: eni_id.clone(), security_group_ids })
            }
            Chore::Tags(tags) => {
                (Purpose::Tags { eni_id: eni_id.clone() }, ActionKind::TagEni { eni_id: eni_id.clone(), tags })
            }
        };
        self.start(turn, purpose, kind);
        if let Some(eni) = self.enis.get_mut(&eni_id) {
            eni.upkeep.running = true;
        }
    }

    fn chore(&self, eni: &Eni) -> Option<Chore> {
        match eni.phase {
            Phase::Configuring(_) | Phase::Ready => {}
            Phase::Attaching(_) | Phase::Draining(_) | Phase::Detaching(_) | Phase::Deleting(_) => return None,
        }
        let set = |groups: &[SecurityGroupId]| groups.iter().cloned().collect::<BTreeSet<_>>();
        let differs = |wanted: &&[SecurityGroupId]| {
            !wanted.is_empty() && eni.upkeep.groups.as_ref().is_some_and(|groups| set(groups) != set(wanted))
        };
        if let Some(wanted) = self.groups_wanted(eni).filter(differs) {
            return Some(Chore::Groups(wanted.to_vec()));
        }
        let missing = &eni.upkeep.missing_tags;
        (!missing.is_empty()).then(|| Chore::Tags(missing.clone()))
    }

    pub(super) fn groups_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        of: (&EniId, &[SecurityGroupId]),
        outcome: Result<Outcome, Failure>,
    ) {
        let (id, groups) = of;
        match outcome.err() {
            None => {
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.upkeep.groups = Some(groups.to_vec());
                    turn.info(format!("ENI {id} has other security groups now, {} of them", groups.len()));
                }
                self.upkeep_done(id);
            }
            Some(failure) => self.upkeep_failed(turn, what, id, &failure),
        }
    }

    pub(super) fn tags_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        id: &EniId,
        outcome: Result<Outcome, Failure>,
    ) {
        match outcome.err() {
            None => {
                if let Some(eni) = self.enis.get_mut(id) {
                    turn.debug(format!("{} tags of ENI {id} were brought up to date", eni.upkeep.missing_tags.len()));
                    eni.upkeep.missing_tags.clear();
                    eni.upkeep.tagged_at = Some(turn.now.boot);
                }
                self.upkeep_done(id);
            }
            Some(failure) => self.upkeep_failed(turn, what, id, &failure),
        }
    }

    fn upkeep_done(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.get_mut(id) {
            (eni.upkeep.running, eni.upkeep.attempts) = (false, 0);
        }
    }

    fn upkeep_failed(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, failure: &Failure) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.upkeep.running = false;
        eni.upkeep.attempts += 1;
        let attempts = eni.upkeep.attempts;
        let passing =
            matches!(failure.class, FailureClass::Throttled | FailureClass::Transient | FailureClass::Unknown);
        let soon = passing && matches!(what, Purpose::Groups { .. });
        let retry = self.failed(turn, what, failure, attempts);
        let at = if soon && attempts < 4 { retry } else { retry.max(turn.boot() + REST) };
        if let Some(eni) = self.enis.get_mut(id) {
            eni.upkeep.not_before = at;
        }
    }
}
