// SPDX-License-Identifier: Apache-2.0
//! What can come, by when, and why nothing does.
//!
//! The outlook is an upper bound: addresses that could be there by a time if everything goes well. Only what certainly
//! cannot be there in time is left out: a cooldown that ends later, a call that rests until later, a subnet that is left
//! alone until later, ENIs beyond the limits. So a waiter is refused at once exactly when waiting is pointless, and a
//! blockage that shows later refuses it then.

use crate::action::Fill;
use crate::event::{Failure, FailureClass};
use crate::ids::BootTime;
use crate::lifecycle::{Assign, Eni, Phase, TryState};
use crate::reason::{ReasonCode, Refusal, reason_of};
use crate::store::Slot;

use super::Core;
use super::pool::assigning;
use super::undurable::not_durable;

/// Addresses that could come, each lot with the time before which it cannot.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    lots: Vec<(BootTime, u32)>,
    /// What a subnet may have when its rest is over is left out.
    without_resting: bool,
}

impl Outlook {
    fn add(&mut self, from: BootTime, count: u32) {
        if count > 0 {
            self.lots.push((from, count));
        }
    }

    /// Addresses that could be there by `deadline`.
    pub(super) fn by(&self, deadline: BootTime) -> u32 {
        self.lots.iter().filter(|(from, _)| *from <= deadline).fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

impl Core {
    pub(super) fn outlook(&self, now: BootTime) -> Outlook {
        self.look_out(now, Outlook::default())
    }

    /// Without what an exhausted subnet may have when it is asked again: an ADD may wait for that, and nobody should count on it.
    pub(super) fn sober_outlook(&self, now: BootTime) -> Outlook {
        self.look_out(now, Outlook { without_resting: true, ..Outlook::default() })
    }

    fn look_out(&self, now: BootTime, mut outlook: Outlook) -> Outlook {
        // Not enough is known to say no: whatever is missing may come, but not before it is tried again.
        let guessing = self.guess.is_some_and(|guess| guess.is_open());
        let unknown = !self.learned || !self.places_known() || self.facts.is_none() || self.limits.is_none();
        if unknown || guessing || (self.pod_network_pending() && self.has_free_slot(now)) {
            let from = if self.facts.is_some() && !self.learned { self.describe.not_before } else { now };
            outlook.add(from, u32::MAX);
        }
        if self.host.applied.is_none() {
            if let TryState::Due(at) = self.host.attempt.state {
                // Whatever else comes, nothing is given out before that.
                if at > now {
                    return Outlook { lots: vec![(at, u32::MAX)], ..outlook };
                }
            }
            outlook.add(now, u32::MAX);
        }
        self.outlook_of_addresses(now, &mut outlook);
        self.outlook_of_growth(now, &mut outlook);
        outlook
    }

    /// Addresses that exist: cooling ones, and those of ENIs that are not proven yet.
    fn outlook_of_addresses(&self, now: BootTime, outlook: &mut Outlook) {
        let usable = |eni: &&Eni| eni.gives_out() || eni.is_coming(now);
        for eni in self.enis.values().filter(usable) {
            let free = self.store.tally(&eni.eni_id).free;
            let steered_at = eni.steering.attempt.failure.as_ref().and_then(|_| eni.steering.attempt.earliest());
            outlook.add(resting_until(eni).or(steered_at).unwrap_or(now), free);
        }
        for (until, entry) in self.store.cooling() {
            let eni = entry.eni.as_ref().and_then(|id| self.enis.get(id)).filter(usable);
            if let Some(eni) = eni {
                outlook.add(resting_until(eni).unwrap_or(now).max(until), 1);
            }
        }
    }

    /// Addresses that can be asked for, or have been.
    fn outlook_of_growth(&self, now: BootTime, outlook: &mut Outlook) {
        let Some(per_eni) = self.slots_per_eni() else { return };
        for request in self.requests.values() {
            // Filled to the brim once it is there.
            let brim = per_eni.of(self.ask(&request.subnet_id, now).slot).0;
            outlook.add(request.attempt.earliest().unwrap_or(now), brim.max(request.fill.addresses()));
        }
        for eni in self.enis.values().filter(|eni| eni.gives_out() || eni.is_coming(now)) {
            outlook.add(now, assigning(eni).map_or(0, Fill::addresses));
        }
        if !self.may_scale() {
            return;
        }
        for (eni, room) in self.rooms(now) {
            let room = room.of(self.ask(&eni.subnet_id, now).slot);
            let assign = match eni.assign {
                Assign::Resting(until) => until.max(now),
                Assign::Idle | Assign::Running { .. } | Assign::Resolving { .. } => now,
            };
            self.outlook_of_subnet(outlook, Some(eni), (now, assign), room.0);
        }
        let slots = self.slots(now).unwrap_or(0);
        let free = slots.saturating_sub(self.slots_taken());
        let leaving = self.enis.values().filter(|eni| matches!(eni.phase, Phase::Detaching(_))).count();
        let leaving = u32::try_from(leaving).unwrap_or(u32::MAX);
        let from = self.creates_rest_until(now).unwrap_or(now);
        let place = self.place_of_new_eni(now, 1);
        let each = place.map_or(per_eni.of(Slot::Single), |place| per_eni.of(self.ask(&place.subnet_id, now).slot));
        let count = free.saturating_add(leaving).saturating_mul(each.0);
        self.outlook_of_subnet(outlook, None, (now, from), count);
    }

    /// `eni`: `None` for new ENIs. An exhausted subnet gives what it has left now, and more when it is tried again.
    fn outlook_of_subnet(&self, outlook: &mut Outlook, eni: Option<&Eni>, times: (BootTime, BootTime), count: u32) {
        let (now, from) = times;
        let id = match eni {
            Some(eni) => eni.subnet_id.clone(),
            None => match self.place_of_new_eni(now, 1) {
                Some(place) => place.subnet_id,
                None => return,
            },
        };
        match self.subnets.get(&id).and_then(|subnet| subnet.exhausted) {
            None => outlook.add(from, count),
            Some(exhausted) => {
                let own = u32::from(eni.is_none());
                let now_left = if exhausted.ask { count } else { exhausted.left.unwrap_or(0).saturating_sub(own) };
                outlook.add(from, now_left.min(count));
                if now >= exhausted.until || !outlook.without_resting {
                    outlook.add(from.max(exhausted.until), count);
                }
            }
        }
    }

    /// Why a waiter with this deadline is refused before it: what blocks it longest.
    pub(super) fn why_nothing_comes(&self, now: BootTime, deadline: BootTime) -> Refusal {
        if let Some(refusal) = self.not_started(now) {
            return refusal;
        }
        if let Some(refusal) = self.why_not_scaled() {
            return refusal;
        }
        if let Some(refusal) = self.no_pod_network(now) {
            return refusal;
        }
        if let Some((failure, at)) = self.resting_failure(now).filter(|(_, at)| *at > deadline) {
            return of_failure(&failure, at.since(now));
        }
        if let Some(refusal) = self.exhausted(now) {
            return refusal;
        }
        if let Some(refusal) = self.stuck(now) {
            return refusal;
        }
        self.full(now)
    }

    /// What a waiter whose time is over was waiting for.
    pub(super) fn what_was_waited_for(&self, now: BootTime) -> Refusal {
        if let Some(undurable) = &self.undurable {
            return not_durable(&undurable.message);
        }
        if let Some(refusal) = self.not_started(now) {
            return refusal;
        }
        if let Some((failure, at)) = self.resting_failure(now) {
            return of_failure(&failure, at.since(now));
        }
        let nowhere = || self.no_pod_network(now).filter(|_| self.rooms(now).is_empty());
        if let Some(refusal) =
            self.pending(now).or_else(nowhere).or_else(|| self.exhausted(now)).or_else(|| self.stuck(now))
        {
            return refusal;
        }
        if let Some(refusal) = self.why_not_scaled() {
            return refusal;
        }
        if let Some((failure, at)) = self.repeated_assign(now) {
            return of_failure(&failure, at.since(now));
        }
        let assigning = self.enis.values().any(|eni| !matches!(eni.assign, Assign::Idle));
        if assigning {
            let cause = format!("an assign call to EC2 was not answered in time ({})", self.numbers(now));
            return refusal(ReasonCode::BudgetSpent, cause, None);
        }
        if self.can_still_grow(now) {
            return refusal(
                ReasonCode::BudgetSpent,
                format!("no address came free in time ({})", self.numbers(now)),
                None,
            );
        }
        self.full(now)
    }

    /// The daemon does not know enough yet, or cannot give anything out.
    fn not_started(&self, now: BootTime) -> Option<Refusal> {
        if self.facts.is_none() {
            return Some(match &self.facts_failure {
                Some(failure) => refusal(
                    ReasonCode::ImdsUnavailable,
                    format!("instance metadata cannot be read ({}: {})", failure.code, failure.message),
                    None,
                ),
                None => refusal(ReasonCode::Starting, "the daemon is still reading instance metadata".to_owned(), None),
            });
        }
        if !self.learned {
            return Some(match &self.describe.failure {
                Some(failure) => of_failure(failure, self.describe.not_before.since(now)),
                None => match self.slow_description(now) {
                    Some(cause) => refusal(ReasonCode::Ec2Unavailable, cause, None),
                    None => {
                        refusal(ReasonCode::Starting, "the daemon is still reading its ENIs from EC2".to_owned(), None)
                    }
                },
            });
        }
        if !self.places_known() {
            let cause = "the daemon is still reading the zone's subnets from EC2".to_owned();
            return Some(refusal(ReasonCode::Starting, cause, None));
        }
        if self.limits.is_none() {
            let kind = self.facts.as_ref().map_or("", |facts| facts.instance_type.as_str());
            let cause = format!("the ENI limits of instance type {kind} are not known yet");
            return Some(refusal(ReasonCode::LimitsUnknown, cause, None));
        }
        if self.host.applied.is_none() {
            return Some(match &self.host.attempt.failure {
                Some(failure) => refusal(
                    ReasonCode::HostSetupFailed,
                    format!("the host's network cannot be set up: {}", failure.message),
                    self.host.attempt.earliest().map(|at| at.since(now)),
                ),
                None => refusal(ReasonCode::Starting, "the host's network is still being set up".to_owned(), None),
            });
        }
        None
    }

    /// The failed call of growth that is tried again last, and when.
    fn resting_failure(&self, now: BootTime) -> Option<(Failure, BootTime)> {
        let requests = self.requests.values().map(|request| &request.attempt);
        let attaching = self.enis.values().filter_map(|eni| match &eni.phase {
            Phase::Attaching(attempt) => Some(attempt),
            Phase::Configuring(_) | Phase::Ready | Phase::Draining(_) | Phase::Detaching(_) | Phase::Deleting(_) => {
                None
            }
        });
        let calls = requests.chain(attaching).filter_map(|attempt| match (&attempt.state, &attempt.failure) {
            (TryState::Due(at), Some(failure)) => Some((failure.clone(), *at)),
            (TryState::Due(_) | TryState::Running(_) | TryState::Resolving(_), _) => None,
        });
        let assigns = self.enis.values().filter_map(|eni| match (&eni.assign, &eni.assign_failure) {
            (Assign::Resting(until), Some(failure)) => Some((failure.clone(), *until)),
            (Assign::Idle | Assign::Running { .. } | Assign::Resolving { .. } | Assign::Resting(_), _) => None,
        });
        let held = self.creates_held.as_ref().map(|hold| (hold.failure.clone(), hold.until));
        calls.chain(assigns).chain(held).filter(|(_, at)| *at > now).max_by_key(|(_, at)| *at)
    }

    /// The last failure of an assign call that is made again, or looked up in EC2 before.
    fn repeated_assign(&self, now: BootTime) -> Option<(Failure, BootTime)> {
        self.enis.values().find_map(|eni| match (&eni.assign, &eni.assign_failure) {
            (Assign::Running { .. }, Some(failure)) => Some((failure.clone(), now)),
            (Assign::Resolving { after, .. }, Some(failure)) => Some((failure.clone(), *after)),
            (Assign::Idle | Assign::Resting(_) | Assign::Running { .. } | Assign::Resolving { .. }, _) => None,
        })
    }

    /// What keeps addresses that are counted as coming from coming now.
    pub(super) fn blockage(&self, now: BootTime) -> Option<Refusal> {
        self.resting_failure(now).map(|(failure, at)| of_failure(&failure, at.since(now)))
    }

    fn pending(&self, now: BootTime) -> Option<Refusal> {
        if let Some(request) = self.requests.values().next() {
            let seconds = now.since(request.since).as_secs();
            let cause =
                format!("an ENI with {} has been asked for for {seconds} s ({})", request.fill, self.numbers(now));
            return Some(refusal(ReasonCode::EniPending, cause, None));
        }
        let eni = self.enis.values().find(|eni| eni.is_coming(now))?;
        let mut cause = format!(
            "ENI {} (device index {}) has been {} for {} s ({})",
            eni.eni_id,
            eni.device_index.0,
            eni.phase.name(),
            now.since(eni.since).as_secs(),
            self.numbers(now)
        );
        if let Some(failure) = eni.phase.current_try().and_then(|attempt| attempt.failure.as_ref()) {
            cause.push_str(": ");
            cause.push_str(&failure.message);
        }
        Some(refusal(ReasonCode::EniPending, cause, None))
    }

    fn exhausted(&self, now: BootTime) -> Option<Refusal> {
        let (id, until, left) = self.subnets.iter().find_map(|(id, subnet)| {
            let exhausted = subnet.exhausted.filter(|exhausted| now < exhausted.until)?;
            Some((id, exhausted.until, exhausted.left))
        })?;
        let wait = until.since(now);
        let left = left.map_or_else(|| "no".to_owned(), |left| left.to_string());
        let cause = format!(
            "{id} has {left} free addresses and is tried again in {} s; give the node another subnet or free addresses ({})",
            wait.as_secs(),
            self.numbers(now)
        );
        Some(refusal(ReasonCode::SubnetExhausted, cause, Some(wait)))
    }

    fn stuck(&self, now: BootTime) -> Option<Refusal> {
        let eni = self.enis.values().find(|eni| eni.is_late(now))?;
        let why = eni.phase.current_try().and_then(|attempt| attempt.failure.as_ref());
        let why = why.map_or_else(|| "its link never appeared".to_owned(), |failure| failure.message.clone());
        let cause = format!("ENI {} could not be set up: {why} ({})", eni.eni_id, self.numbers(now));
        Some(refusal(ReasonCode::EniStuck, cause, None))
    }

    fn has_free_slot(&self, now: BootTime) -> bool {
        self.slots(now).is_some_and(|slots| slots > self.slots_taken())
    }

    /// No ENI can be made for what the ENIConfig says, or does not say, though the instance has a place for one.
    fn no_pod_network(&self, now: BootTime) -> Option<Refusal> {
        let refusal = self.why_no_pod_network(now).filter(|_| self.has_free_slot(now))?;
        Some(Refusal { cause: format!("{} ({})", refusal.cause, self.numbers(now)), ..refusal })
    }

    /// Everything the limits allow is taken.
    fn full(&self, now: BootTime) -> Refusal {
        if self.has_free_slot(now) && self.place_of_new_eni(now, 1).is_none() {
            let cause = format!(
                "no subnet of the zone is usable for pods: tag one with kubernetes.io/role/cni=1 ({})",
                self.numbers(now)
            );
            return refusal(ReasonCode::NoUsableSubnet, cause, None);
        }
        let next = self.store.cooling().map(|(until, _)| until).next();
        match next {
            Some(until) => {
                let wait = until.since(now);
                let cause = format!(
                    "every address left is cooling down, the next one for {} ms ({})",
                    wait.as_millis(),
                    self.numbers(now)
                );
                refusal(ReasonCode::AllCooling, cause, Some(wait))
            }
            None => {
                let all = self.store.all();
                let spoken_for = if all.allocated < all.total() { ", or goes to an ADD that came before" } else { "" };
                let numbers = self.numbers(now);
                let cause = format!("every address this node may hold is in use{spoken_for} ({numbers})");
                if let Some((enis, _)) = self.learned_enis.filter(|(_, until)| now < *until) {
                    let why = format!(
                        "; EC2 attaches no more than {enis} ENIs (AttachmentLimitExceeded): on many types volumes take the \
                         same places; MAX_ENI and fewer pods on the node keep out of their way"
                    );
                    return refusal(ReasonCode::AttachmentLimit, cause + &why, None);
                }
                refusal(ReasonCode::NodeFull, cause, None)
            }
        }
    }

    fn can_still_grow(&self, now: BootTime) -> bool {
        let slots = self.slots(now).unwrap_or(0);
        (slots > self.slots_taken() && self.place_of_new_eni(now, 1).is_some()) || !self.rooms(now).is_empty()
    }

    /// The pool in numbers, for a refusal's text.
    fn numbers(&self, now: BootTime) -> String {
        let all = self.store.all();
        let slots = self.slots(now).map_or_else(|| "?".to_owned(), |slots| slots.to_string());
        let per_eni = self.slots_per_eni().map_or_else(|| "?".to_owned(), |count| count.0.to_string());
        let kind = match self.mode() {
            Slot::Single => "addresses",
            Slot::Prefix => "prefixes",
        };
        format!(
            "{} of {} addresses in use, {} cooling, {} of {slots} ENIs of {per_eni} {kind}",
            all.allocated,
            all.total(),
            all.cooling,
            self.slots_taken()
        )
    }
}

/// Until when an ENI that is not proven yet rests after a failure. One without a link rests for nothing but its safety net:
/// the kernel tells when the link comes, and it is tried at once.
fn resting_until(eni: &Eni) -> Option<BootTime> {
    let missing = |failure: &Failure| failure.class == FailureClass::LinkMissing;
    let attempt = eni.phase.current_try().filter(|attempt| !attempt.failure.as_ref().is_some_and(missing))?;
    attempt.earliest()
}

pub(super) fn of_failure(failure: &Failure, wait: std::time::Duration) -> Refusal {
    let cause = format!("{} ({}); tried again in {} ms", failure.message, failure.code, wait.as_millis());
    refusal(reason_of(failure, None), cause, Some(wait))
}

fn refusal(code: ReasonCode, cause: String, retry_after: Option<std::time::Duration>) -> Refusal {
    Refusal { code, cause, retry_after }
}
