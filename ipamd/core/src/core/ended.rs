// SPDX-License-Identifier: Apache-2.0
//! Outcomes of actions: what each means for the ENI, request or read that the action was for.
//!
//! An outcome changes the state and no more; what follows from it is started by `advance`. Outcomes of actions that are not
//! under way (repeated, or of an earlier process) are ignored. An answer of the wrong kind counts as no answer.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::action::Fill;
use crate::event::{Failure, FailureClass, Outcome};
use crate::faults::Fault;
use crate::ids::{ActionId, BootTime, EniId, MacAddr};
use crate::lifecycle::{Assign, DetachStep, Eni, Phase, Termination, Try, TryState};
use crate::store::AddressState;

use super::state::{LAG, LastFailure, Purpose, RESOLVE_AFTER};
use super::{Core, Turn};

/// Twice the "2 to 3 seconds" that it usually takes from detach to available; a call that comes too early is refused, and one more. No pod
/// of this node waits for the deletion, the slot is free once the ENI is detached. Its addresses stay taken in the subnet until then.
const DETACH_TAKES: std::time::Duration = std::time::Duration::from_secs(6);

impl Core {
    pub(super) fn ended(&mut self, turn: &mut Turn, id: ActionId, outcome: Outcome) {
        let Some(flight) = self.in_flight.remove(&id) else { return };
        let purpose = flight.purpose;
        let outcome = match outcome {
            Outcome::Failed(failure) => Err(failure),
            other => Ok(other),
        };
        if outcome.is_ok() {
            self.recovered(&purpose, turn.boot());
        }
        match &purpose {
            Purpose::Create { token, .. } => self.create_ended(turn, &purpose, token, outcome),
            Purpose::Attach { eni_id, .. } => self.attach_ended(turn, &purpose, eni_id, outcome),
            Purpose::Termination { eni_id } => self.termination_ended(turn, &purpose, eni_id, outcome),
            Purpose::Assign { eni_id, fill } => self.assign_ended(turn, &purpose, (eni_id, *fill), outcome),
            Purpose::Unassign { eni_id, .. } => self.unassign_ended(turn, &purpose, eni_id, outcome),
            Purpose::Deconfigure { eni_id } => self.deconfigure_ended(turn, &purpose, eni_id, outcome),
            Purpose::Detach { eni_id } => self.detach_ended(turn, &purpose, eni_id, outcome),
            Purpose::Delete { eni_id } => self.delete_ended(turn, &purpose, eni_id, outcome),
            Purpose::Configure { eni_id } => self.configure_ended(turn, &purpose, eni_id, outcome),
            Purpose::Steer { eni_id } => self.steer_ended(turn, &purpose, eni_id, outcome),
            Purpose::Describe => self.describe_ended(turn, &purpose, outcome),
            Purpose::Subnet { subnet_id } => self.subnet_ended(turn, &purpose, subnet_id, outcome),
            Purpose::Zone => self.zone_ended(turn, &purpose, outcome),
            Purpose::PodSubnets { subnet_ids } => self.pod_subnets_ended(turn, &purpose, subnet_ids, outcome),
            Purpose::Groups { eni_id, groups } => self.groups_ended(turn, &purpose, (eni_id, groups), outcome),
            Purpose::Tags { eni_id } => self.tags_ended(turn, &purpose, eni_id, outcome),
            Purpose::Sweep => self.sweep_ended(turn, &purpose, outcome),
            Purpose::MarkLeaked { eni_id } | Purpose::DeleteLeaked { eni_id } => {
                self.leaked_job_ended(turn, &purpose, eni_id, outcome);
            }
            Purpose::Host => self.host_ended(turn, &purpose, outcome),
            Purpose::Repair => self.repair_ended(turn, &purpose, outcome),
            Purpose::Observe => self.observe_ended(turn, &purpose, (flight.since, outcome)),
            Purpose::Sandboxes => self.sandboxes_ended(turn, &purpose, (flight.since, outcome)),
            Purpose::Flush { .. } => self.flush_ended(turn, &purpose, outcome),
        }
    }

    /// The same has succeeded that failed last. Whatever else was wrong with it is told after this.
    fn recovered(&mut self, what: &Purpose, now: BootTime) {
        let is_same = |last: &&mut LastFailure| last.eni_id.as_ref().is_none_or(|id| what.eni_id() == Some(id));
        if let Some(last) = self.failures.get_mut(what.kind()).filter(is_same) {
            last.recovered.get_or_insert(now);
        }
    }

    fn attach_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        /// A detached ENI's slot is free after 2 to 15 s; longer, and the limit is taken for lower than we think.
        const MOST_WAITS_FOR_A_SLOT: u32 = 15;
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.last_write = now;
        let Phase::Attaching(attempt) = &mut eni.phase else { return };
        let refused_before = attempt.failure.as_ref().is_some_and(|last| last.class == FailureClass::AddressLimit);
        let failure = match outcome {
            Ok(Outcome::EniAttached { attachment_id }) => {
                eni.attachment_id = Some(attachment_id);
                self.attached(turn, id);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        match failure.class {
            FailureClass::AttachmentLimit if attempts <= MOST_WAITS_FOR_A_SLOT && self.a_slot_comes_free() => {
                self.again(id, failure, now + RESOLVE_AFTER);
            }
            FailureClass::AttachmentLimit => {
                self.learn_eni_limit(turn);
                self.delete_unattached(turn, id);
            }
            FailureClass::Rejected => {
                self.hold_creates(failure, now);
                self.delete_unattached(turn, id);
            }
            FailureClass::AddressLimit if refused_before => self.never_attached(turn, id, failure),
            // More than we know of? A read tells.
            FailureClass::AddressLimit => self.resolve(id, failure, now),
            FailureClass::DeviceIndexTaken | FailureClass::WrongState => {
                self.resolve(id, failure, if attempts == 1 { now } else { retry });
            }
            FailureClass::Unknown => self.resolve(id, failure, retry.max(now + RESOLVE_AFTER)),
            // A new ENI may be unknown for a moment; unknown for long, a read must say whether it exists.
            FailureClass::NotFound if attempts > 4 => self.resolve(id, failure, retry),
            FailureClass::NotFound
            | FailureClass::Throttled
            | FailureClass::Denied
            | FailureClass::Transient
            | FailureClass::SubnetExhausted
            | FailureClass::PrefixesExhausted
            | FailureClass::TokenMismatch
            | FailureClass::LinkMissing
            | FailureClass::Kernel => self.again(id, failure, retry),
        }
        self.touch();
    }

    /// The ENI is attached: its link is awaited, and it must go with the instance.
    pub(super) fn attached(&mut self, turn: &mut Turn, id: &EniId) {
        let now = turn.boot();
        self.creates_held = None;
        self.unattachable = false;
        if let Some(eni) = self.enis.get_mut(id) {
            eni.was_attached = true;
        }
        self.enter(turn, id, Phase::Configuring(Try::due(now)));
        if let Some(eni) = self.enis.get_mut(id).filter(|eni| eni.created && eni.termination == Termination::LeftAlone)
        {
            eni.termination = Termination::Unset(Try::due(now));
        }
    }

    fn termination_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        let Some(Termination::Unset(attempt)) = self.enis.get_mut(id).map(|eni| &mut eni.termination) else { return };
        let Some(failure) = outcome.err() else {
            if let Some(eni) = self.enis.get_mut(id) {
                eni.termination = Termination::Set;
            }
            self.touch();
            return;
        };
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        if let Some(Termination::Unset(attempt)) = self.enis.get_mut(id).map(|eni| &mut eni.termination) {
            attempt.again(failure, retry);
        }
    }

    fn configure_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        let Phase::Configuring(attempt) = &mut eni.phase else { return };
        let failure = match outcome {
            Ok(Outcome::EniConfigured) => {
                eni.steering.proven = std::mem::take(&mut eni.steering.proving);
                if let Some(asked_at) = eni.asked_at.take() {
                    self.adaptive.eni_took(now.since(asked_at));
                }
                self.enter(turn, id, Phase::Ready);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        let link_seen = std::mem::take(&mut eni.link_seen) && failure.class == FailureClass::LinkMissing;
        let retry = self.failed(turn, what, &failure, attempts);
        self.again(id, failure, if link_seen { now } else { retry });
    }

    /// Whether a link with this MAC is no ENI's, nor may be one of somebody else's.
    pub(super) fn is_strange_link(&self, mac: MacAddr) -> bool {
        self.may_write() && self.enis.values().all(|eni| eni.mac != mac)
    }

    /// A link with this MAC is there: an ENI that waits for it is set up at once.
    pub(super) fn link_appeared(&mut self, now: BootTime, mac: MacAddr) {
        let known: Vec<EniId> = self.enis.values().filter(|eni| eni.mac == mac).map(|eni| eni.eni_id.clone()).collect();
        known.iter().for_each(|eni_id| self.repair_link(eni_id, now));
        // Where someone else attaches ENIs, an unknown link may be one.
        if known.is_empty() && !self.may_write() {
            self.describe_after = Some(now);
        }
        for eni in self.enis.values_mut().filter(|eni| eni.mac == mac) {
            if let Phase::Configuring(attempt) = &mut eni.phase {
                match &mut attempt.state {
                    TryState::Due(at) => *at = (*at).min(now),
                    TryState::Running(_) => eni.link_seen = true,
                    TryState::Resolving(_) => {}
                }
            }
        }
    }

    fn deconfigure_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        /// What is left of an ENI that is gone does no harm, so its going does not wait for the kernel for ever.
        const MOST_ATTEMPTS: u32 = 3;
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        let Phase::Detaching(DetachStep::Deconfigure(attempt)) = &mut eni.phase else { return };
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        match outcome {
            Err(failure) if attempts < MOST_ATTEMPTS && failure.class != FailureClass::LinkMissing => {
                let retry = self.failed(turn, what, &failure, attempts);
                self.again(id, failure, retry);
            }
            Ok(_) | Err(_) => self.enter(turn, id, Phase::Detaching(DetachStep::Detach(Try::due(now)))),
        }
    }

    fn detach_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        /// An ENI that EC2 would not let go is put to use again and left alone for a while.
        const KEEP: std::time::Duration = std::time::Duration::from_secs(600);
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.last_write = now;
        let Phase::Detaching(DetachStep::Detach(attempt)) = &mut eni.phase else { return };
        let failure = match outcome {
            Ok(_) => {
                self.detached(turn, id);
                return;
            }
            Err(failure) => failure,
        };
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        match failure.class {
            FailureClass::NotFound => self.detached(turn, id),
            FailureClass::Denied | FailureClass::Rejected => {
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.keep_until = now + KEEP;
                }
                self.enter(turn, id, Phase::Configuring(Try::due(now)));
            }
            FailureClass::Unknown => self.resolve(id, failure, retry.max(now + RESOLVE_AFTER)),
            FailureClass::Throttled
            | FailureClass::SubnetExhausted
            | FailureClass::PrefixesExhausted
            | FailureClass::AddressLimit
            | FailureClass::AttachmentLimit
            | FailureClass::DeviceIndexTaken
            | FailureClass::WrongState
            | FailureClass::TokenMismatch
            | FailureClass::Transient
            | FailureClass::LinkMissing
            | FailureClass::Kernel => self.resolve(id, failure, retry),
        }
    }

    /// An ENI that was never attached is not going to be: it is deleted once every call knows it. One made a moment ago may
    /// be unknown to the call, and its "not found" would be taken for done.
    pub(super) fn delete_unattached(&mut self, turn: &mut Turn, id: &EniId) {
        let now = turn.boot();
        let due = self.enis.get(id).map_or(now, |eni| now.max(eni.known_since + LAG));
        self.enter(turn, id, Phase::Deleting(Try::due(due)));
    }

    /// The ENI is detached, or about to be: it is deleted when EC2 lets us.
    pub(super) fn detached(&mut self, turn: &mut Turn, id: &EniId) {
        let due = turn.boot() + DETACH_TAKES;
        if let Some(eni) = self.enis.get_mut(id) {
            eni.attachment_id = None;
            eni.termination = Termination::LeftAlone;
        }
        self.enter(turn, id, Phase::Deleting(Try::due(due)));
    }

    fn delete_ended(&mut self, turn: &mut Turn, what: &Purpose, id: &EniId, outcome: Result<Outcome, Failure>) {
        /// So many tries were refused, and a read is to tell what has become of the ENI,
        const READ_AFTER: u32 = 4;
        /// or so many while it was in use, when detaching it is long over as a rule: it may be attached still, or again.
        const READ_AFTER_IN_USE: u32 = 2;
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.last_write = now;
        let Phase::Deleting(attempt) = &mut eni.phase else { return };
        let mut failure = match outcome {
            Ok(_) => {
                self.gone(turn, id, "deleted");
                return;
            }
            Err(failure) => failure,
        };
        if failure.class == FailureClass::NotFound {
            self.gone(turn, id, "deleted");
            return;
        }
        attempt.attempts += 1;
        let attempts = attempt.attempts;
        let in_use = failure.class == FailureClass::WrongState;
        let is_read = attempts.is_multiple_of(if in_use { READ_AFTER_IN_USE } else { READ_AFTER });
        if in_use && !is_read {
            failure.retry_after = failure.retry_after.max(Some(DETACH_TAKES * 2));
        }
        let retry = self.failed(turn, what, &failure, attempts);
        if is_read {
            self.resolve(id, failure, retry);
        } else {
            self.again(id, failure, retry);
        }
    }

    fn assign_ended(&mut self, turn: &mut Turn, what: &Purpose, of: (&EniId, Fill), outcome: Result<Outcome, Failure>) {
        let (id, fill) = of;
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.last_write = now;
        eni.assign = Assign::Idle;
        let asked_at = eni.assign_asked_at;
        let subnet_id = eni.subnet_id.clone();
        let failure = match outcome {
            Ok(Outcome::Assigned { addresses, prefixes }) => {
                if self.take_assigned(turn, id, &addresses, &prefixes) > 0 {
                    self.adaptive.call_took(asked_at.map_or_else(Default::default, |at| now.since(at)));
                    self.subnet_gave(&subnet_id, now);
                    return;
                }
                Failure {
                    class: FailureClass::Unknown,
                    code: "NothingAssigned".to_owned(),
                    message: "EC2 answered without a new address".to_owned(),
                    retry_after: None,
                }
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.assign_attempts += 1;
        eni.assign_failure = Some(failure.clone());
        let attempts = eni.assign_attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        let next = match failure.class {
            FailureClass::SubnetExhausted | FailureClass::PrefixesExhausted => {
                self.subnet_refused(turn, &subnet_id, fill);
                Assign::Idle
            }
            // Whatever the reason, EC2 will not take prefixes there: pods start with single addresses.
            FailureClass::Rejected if matches!(fill, Fill::Prefixes(_)) => {
                self.prefixes_refused(turn, &subnet_id, 1);
                Assign::Idle
            }
            FailureClass::AddressLimit => Assign::Resolving { after: now, limit_hit: Some(fill.slots()) },
            FailureClass::Unknown if self.makes(Fault::RepeatsAssign) => Assign::Resting(retry),
            FailureClass::Unknown | FailureClass::Transient | FailureClass::NotFound | FailureClass::WrongState => {
                Assign::Resolving { after: retry.max(now + RESOLVE_AFTER), limit_hit: None }
            }
            FailureClass::Throttled
            | FailureClass::AttachmentLimit
            | FailureClass::DeviceIndexTaken
            | FailureClass::Denied
            | FailureClass::TokenMismatch
            | FailureClass::Rejected
            | FailureClass::LinkMissing
            | FailureClass::Kernel => Assign::Resting(retry),
        };
        if let Some(eni) = self.enis.get_mut(id) {
            eni.assign = next;
        }
    }

    /// Takes what an assign call added; says how many slots of it are new.
    fn take_assigned(&mut self, turn: &mut Turn, id: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) -> usize {
        let now = turn.boot();
        let Some(eni) = self.enis.get(id) else { return 0 };
        let primary = eni.primary_address;
        // An address of an ENI that is lost, or whose delete call has not been answered, may be given anew: it is on this one.
        let stays = |eni: &Eni| eni.missing_since.is_none() && !matches!(eni.phase, Phase::Deleting(_));
        let has = |home: &EniId| home == id || self.enis.get(home).is_some_and(stays);
        // So may one that was leaving another.
        let known = |address: Ipv4Addr| {
            let Some(entry) = self.store.get(address) else { return false };
            let leaving = matches!(entry.state, AddressState::Leaving { .. });
            entry.eni.as_ref().is_some_and(|home| has(home) && !(leaving && home != id))
        };
        let fresh: Vec<_> =
            addresses.iter().copied().filter(|address| *address != primary && !known(*address)).collect();
        let whole: Vec<_> = prefixes
            .iter()
            .copied()
            .filter(|prefix| crate::action::prefix_addresses(*prefix).any(|address| !known(address)))
            .collect();
        for address in &fresh {
            self.unassigned.remove(&Ipv4Net::from(*address));
            self.learn_address(*address, id, None, now);
        }
        for prefix in &whole {
            self.unassigned.remove(prefix);
            self.learn_prefix(*prefix, id, None, now);
        }
        let got = fresh.len() + whole.len();
        if let Some(eni) = self.enis.get_mut(id).filter(|_| got > 0) {
            eni.assign_attempts = 0;
            eni.assign_failure = None;
            eni.assign_asked_at = None;
        }
        turn.info(format!("{} addresses and {} prefixes assigned to {id}", fresh.len(), whole.len()));
        got
    }

    fn host_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        let writing = self.host.writing.take();
        match outcome {
            Ok(_) => {
                self.host.applied = writing;
                self.host.attempt = Try::due(turn.boot());
                turn.info("the host's network is set up");
            }
            Err(failure) => {
                self.host.attempt.attempts += 1;
                let attempts = self.host.attempt.attempts;
                let retry = self.failed(turn, what, &failure, attempts);
                self.host.attempt.again(failure, retry);
            }
        }
    }

    /// Tries the ENI's present step again at `at`.
    pub(super) fn again(&mut self, id: &EniId, failure: Failure, at: BootTime) {
        if let Some(attempt) = self.enis.get_mut(id).and_then(|eni| eni.phase.current_try_mut()) {
            attempt.again(failure, at);
        }
    }

    /// Has a read tell what became of the ENI's present step.
    pub(super) fn resolve(&mut self, id: &EniId, failure: Failure, after: BootTime) {
        if let Some(attempt) = self.enis.get_mut(id).and_then(|eni| eni.phase.current_try_mut()) {
            attempt.resolve(failure, after);
        }
    }

    /// Moves an ENI to another phase, and says so.
    pub(super) fn enter(&mut self, turn: &mut Turn, id: &EniId, phase: Phase) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        turn.info(format!("ENI {id} (device index {}): {} -> {}", eni.device_index.0, eni.phase.name(), phase.name()));
        eni.enter(phase, turn.now.boot);
        self.touch();
    }
}

/// An answer of the wrong kind tells nothing.
pub(super) fn unexpected() -> Failure {
    Failure {
        class: FailureClass::Unknown,
        code: "UnexpectedOutcome".to_owned(),
        message: "the answer does not belong to the call".to_owned(),
        retry_after: None,
    }
}
