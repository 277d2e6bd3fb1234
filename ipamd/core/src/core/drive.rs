// SPDX-License-Identifier: Apache-2.0
//! What each ENI, the host and the reads need next, as far as it is due.

use crate::action::{ActionKind, EniPlan, HostPlan};
use crate::ids::{BootTime, EniId};
use crate::lifecycle::{
    Assign, DetachStep, DrainReason, Eni, LATE_AFTER, OVERDUE_AFTER, Phase, STUCK_AFTER, Termination, Try, TryState,
};
use crate::reason::{NoticeLevel, ReasonCode};

use super::learn::{FIRST_MISSING_LOOK, LONGEST_MISSING_LOOK};
use super::repair::LOOK_EVERY;
use super::state::{OBSERVED_APART, ORPHAN_LOOK, Purpose, UnassignStep, VERIFY_EVERY};
use super::{Core, Turn};

/// What to start for an ENI.
enum Next {
    Attach,
    Configure,
    Deconfigure,
    Detach,
    Delete,
}

impl Core {
    pub(super) fn drive_enis(&mut self, turn: &mut Turn) {
        let ids: Vec<EniId> = self.enis.keys().cloned().collect();
        for id in &ids {
            self.give_up_if_stuck(turn, id);
            self.drive_eni(turn, id);
            self.drive_termination(turn, id);
            self.drive_steering(turn, id);
        }
    }

    fn drive_eni(&mut self, turn: &mut Turn, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let next = match &eni.phase {
            Phase::Attaching(_) => Next::Attach,
            Phase::Configuring(_) => Next::Configure,
            Phase::Detaching(DetachStep::Deconfigure(_)) => Next::Deconfigure,
            Phase::Detaching(DetachStep::Detach(_)) => Next::Detach,
            Phase::Deleting(_) => Next::Delete,
            Phase::Draining(_) => return self.drive_draining(turn, id),
            Phase::Ready => return,
        };
        let Some(TryState::Due(at)) = eni.phase.current_try().map(|attempt| attempt.state) else { return };
        if matches!(next, Next::Attach | Next::Detach | Next::Delete) && !self.may_write() {
            return;
        }
        if turn.boot() < at {
            self.alarm(at);
            return;
        }
        let Some((purpose, kind)) = self.call_for(id, &next) else { return };
        if matches!(next, Next::Configure) {
            self.note_proving(id);
        }
        let action = self.start(turn, purpose, kind);
        if let Some(attempt) = self.enis.get_mut(id).and_then(|eni| eni.phase.current_try_mut()) {
            attempt.state = TryState::Running(action);
        }
    }

    /// `None`: something it needs is not known yet.
    fn call_for(&self, id: &EniId, next: &Next) -> Option<(Purpose, ActionKind)> {
        let eni = self.enis.get(id)?;
        let eni_id = id.clone();
        Some(match next {
            Next::Attach => {
                let instance_id = self.facts.as_ref()?.instance_id.clone();
                let device_index = eni.device_index;
                let purpose = Purpose::Attach { eni_id: eni_id.clone(), device_index };
                (purpose, ActionKind::AttachEni { eni_id, instance_id, device_index, network_card: 0 })
            }
            Next::Configure => (Purpose::Configure { eni_id }, ActionKind::ConfigureEni(self.eni_plan(eni)?)),
            Next::Deconfigure => (Purpose::Deconfigure { eni_id }, ActionKind::DeconfigureEni(self.eni_plan(eni)?)),
            Next::Detach => {
                let attachment_id = eni.attachment_id.clone()?;
                (Purpose::Detach { eni_id: eni_id.clone() }, ActionKind::DetachEni { eni_id, attachment_id })
            }
            Next::Delete => (Purpose::Delete { eni_id: eni_id.clone() }, ActionKind::DeleteEni { eni_id }),
        })
    }

    pub(super) fn eni_plan(&self, eni: &Eni) -> Option<EniPlan> {
        Some(EniPlan {
            eni_id: eni.eni_id.clone(),
            mac: eni.mac,
            device_index: eni.device_index,
            network_card: eni.network_card,
            primary_address: eni.primary_address,
            subnet_cidr: self.subnets.get(&eni.subnet_id)?.cidr?,
            prefixes: self.prefixes_of(&eni.eni_id),
        })
    }

    fn drive_termination(&mut self, turn: &mut Turn, id: &EniId) {
        let now = turn.boot();
        let Some(eni) = self.enis.get(id) else { return };
        let Termination::Unset(attempt) = &eni.termination else { return };
        if !self.may_write() {
            return;
        }
        let (TryState::Due(at), Some(attachment_id)) = (attempt.state, eni.attachment_id.clone()) else { return };
        match eni.phase {
            Phase::Configuring(_) | Phase::Ready | Phase::Draining(_) => {}
            Phase::Attaching(_) | Phase::Detaching(_) | Phase::Deleting(_) => return,
        }
        if now < at {
            self.alarm(at);
            return;
        }
        let kind = ActionKind::SetDeleteOnTermination { eni_id: id.clone(), attachment_id };
        let action = self.start(turn, Purpose::Termination { eni_id: id.clone() }, kind);
        if let Some(Termination::Unset(attempt)) = self.enis.get_mut(id).map(|eni| &mut eni.termination) {
            attempt.state = TryState::Running(action);
        }
    }

    /// An ENI whose set-up does not succeed for five minutes is not waited for any more, and given back when nothing is on it.
    fn give_up_if_stuck(&mut self, turn: &mut Turn, id: &EniId) {
        let now = turn.boot();
        let Some(eni) = self.enis.get(id) else { return };
        let Phase::Configuring(attempt) = &eni.phase else { return };
        if !eni.is_stuck(now) {
            let steps = [OVERDUE_AFTER, LATE_AFTER, STUCK_AFTER].map(|after| eni.since + after);
            let at = steps.into_iter().find(|at| now < *at).unwrap_or(eni.since + STUCK_AFTER);
            self.alarm(at);
            return;
        }
        let running = matches!(attempt.state, TryState::Running(_));
        let can_go = eni.created && !eni.primary && now >= eni.keep_until && !running && !eni.being_written();
        if !eni.stuck_reported {
            let why = attempt.failure.as_ref().map_or("no answer", |failure| failure.message.as_str());
            let text = format!("ENI {id} could not be set up for {} s: {why}", STUCK_AFTER.as_secs());
            turn.notice(NoticeLevel::Error, Some(ReasonCode::EniStuck), text);
            if let Some(eni) = self.enis.get_mut(id) {
                eni.stuck_reported = true;
            }
        }
        if can_go && self.store.tally(id).busy() == 0 {
            self.enter(turn, id, Phase::Draining(DrainReason::Stuck));
        }
    }

    /// Three witnesses: our journal, the kernel and EC2, both read since the ENI began to drain.
    fn drive_draining(&mut self, turn: &mut Turn, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        if !self.may_scale() {
            return self.keep(turn, id, "the pool is not managed now");
        }
        let since = eni.since.max(eni.last_write);
        if !self.observe.is_newer_than(eni.since) || !self.describe.is_newer_than(since) || eni.being_written() {
            return;
        }
        match self.objection(eni) {
            None => {
                let due = Try::due(turn.boot());
                let configured = self.eni_plan(eni).is_some();
                let step = if configured { DetachStep::Deconfigure(due) } else { DetachStep::Detach(due) };
                self.enter(turn, id, Phase::Detaching(step));
            }
            Some(objection) => self.keep(turn, id, &objection),
        }
        // Whatever it is now, it is due.
        self.drive_eni(turn, id);
    }

    /// Why an ENI must not be detached; `None`: all agree that nothing uses it.
    fn objection(&self, eni: &Eni) -> Option<String> {
        let busy = self.store.tally(&eni.eni_id).busy();
        if busy > 0 {
            return Some(format!("{busy} of its addresses are in use"));
        }
        let Some(view) = self.described.get(&eni.eni_id) else {
            return Some("EC2 does not show it".to_owned());
        };
        if eni.attachment_id.is_none() || view.attachment.is_none() {
            return Some("EC2 does not show it attached".to_owned());
        }
        let facts = self.facts.as_ref()?;
        if tags_forbid(view, facts, &self.config) {
            return Some("its tags say that it is not ours".to_owned());
        }
        let ours = self.store.of_eni(&eni.eni_id).map(|(address, _)| address);
        let held = ours
            .chain(view.secondary_addresses.iter().copied())
            .chain(view.prefixes.iter().flat_map(|prefix| crate::action::prefix_addresses(*prefix)))
            .find_map(|address| self.kernel.held.get(&address).map(|held| (address, &held.link)));
        held.map(|(address, link)| format!("{link} has its address {address}"))
    }

    /// A draining ENI stays.
    pub(super) fn keep(&mut self, turn: &mut Turn, id: &EniId, why: &str) {
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        let Phase::Draining(reason) = eni.phase else { return };
        eni.keep_until = now + std::time::Duration::from_secs(60);
        let back = match reason {
            DrainReason::Surplus | DrainReason::Excluded => Phase::Ready,
            DrainReason::Stuck => Phase::Configuring(Try::due(now)),
        };
        turn.warn(ReasonCode::SurplusKept, format!("ENI {id} is not given back: {why}"));
        self.enter(turn, id, back);
    }

    pub(super) fn drive_host(&mut self, turn: &mut Turn) {
        let Some(facts) = &self.facts else { return };
        let wanted = HostPlan {
            primary_mac: facts.primary_mac,
            primary_address: facts.primary_address,
            vpc_cidrs: facts.vpc_cidrs.clone(),
            blocks: self.config.snat.blocks.clone(),
            notrack: self.config.leaves_untracked(&facts.vpc_cidrs),
        };
        if self.host.applied.as_ref() == Some(&wanted) {
            return;
        }
        let TryState::Due(at) = self.host.attempt.state else { return };
        if turn.boot() < at {
            self.alarm(at);
            return;
        }
        if let Some(why) = self.config.everything_is_tracked_because(&wanted.vpc_cidrs) {
            let text = format!("ENID_NOTRACK has no effect: {why}; all traffic is tracked");
            turn.warn(ReasonCode::NotrackIneffective, text);
        }
        let kind = ActionKind::ConfigureHost(wanted.clone());
        self.host.writing = Some(wanted);
        let action = self.start(turn, Purpose::Host, kind);
        self.host.attempt.state = TryState::Running(action);
    }

    /// Starts the reads that someone waits for.
    pub(super) fn drive_reads(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if self.describe.running.is_none()
            && let Some(facts) = &self.facts
        {
            let instance_id = facts.instance_id.clone();
            let at = self.describe_wanted_at(now).max(self.describe.not_before);
            if now < at {
                self.alarm(at);
            } else {
                let kind = ActionKind::DescribeEnis {
                    instance_id,
                    also: self.enis.keys().cloned().collect(),
                    tokens: self.tokens_in_doubt(),
                };
                let id = self.start(turn, Purpose::Describe, kind);
                self.describe.running = Some((id, now));
            }
        }
        if self.observe.running.is_none() {
            let at = self.observe_wanted_at().max(self.observe.not_before);
            if now < at {
                self.alarm(at);
            } else {
                let id = self.start(turn, Purpose::Observe, ActionKind::ObserveKernel);
                self.observe.running = Some((id, now));
            }
        }
        self.drive_sandboxes(turn);
    }

    fn tokens_in_doubt(&self) -> Vec<String> {
        self.requests
            .values()
            .filter(|request| matches!(request.attempt.state, TryState::Resolving(_)))
            .map(|request| request.token.clone())
            .collect()
    }

    /// When EC2 is read if nothing happens: an hour after it last was, for the ENIs or in their stead for the zone.
    pub(super) fn verify_due(&self, last: BootTime) -> BootTime {
        let jitter = std::time::Duration::from_secs(self.salt() % (VERIFY_EVERY.as_secs() / 4));
        last.max(self.zone.idle_look) + VERIFY_EVERY + jitter
    }

    /// The earliest time for which someone wants EC2 read.
    fn describe_wanted_at(&self, now: BootTime) -> BootTime {
        let Some(last) = self.describe.last.filter(|_| self.learned) else { return now };
        let mut wanted = self.verify_due(last);
        if self.zone_is_next(wanted) {
            wanted = wanted + VERIFY_EVERY;
        }
        let mut want = |after: BootTime| {
            if last < after {
                wanted = wanted.min(after);
            }
        };
        if let Some(after) = self.describe_after {
            want(after);
        }
        want(self.settled_at);
        for request in self.requests.values() {
            if let TryState::Resolving(after) = request.attempt.state {
                want(after);
            }
        }
        for eni in self.enis.values() {
            // A read that fell into a write of ours told nothing of this ENI: another one is needed after it.
            if let Some(TryState::Resolving(after)) = eni.phase.current_try().map(|attempt| attempt.state)
                && !eni.being_written()
            {
                want(after.max(eni.last_write));
            }
            if let Assign::Resolving { after, .. } = eni.assign {
                want(after.max(eni.last_write));
            }
            if matches!(eni.phase, Phase::Draining(_)) && !eni.being_written() {
                want(eni.since.max(eni.last_write));
            }
            if let Some(since) = eni.missing_since {
                // Less and less often: what someone else took away stays away, for as long as its pods live perhaps.
                want(last + (last.since(since) / 2).clamp(FIRST_MISSING_LOOK, LONGEST_MISSING_LOOK));
            }
        }
        if let Some(job) = &self.shrinking.job {
            let last_write = self.enis.get(&job.eni_id).map_or(BootTime::default(), |eni| eni.last_write);
            match job.step {
                UnassignStep::Witnessing(_) => want(job.ec2_since.max(last_write)),
                UnassignStep::Resolving(since) => want(since.max(last_write)),
                UnassignStep::Running => {}
            }
        }
        wanted
    }

    fn observe_wanted_at(&self) -> BootTime {
        let Some(last) = self.observe.last else { return BootTime::default() };
        let mut wanted = if self.kernel.orphans { last + ORPHAN_LOOK } else { self.unasked_observation(last) };
        let mut want = |after: BootTime| {
            if last < after {
                wanted = wanted.min(after);
            }
        };
        for eni in self.enis.values().filter(|eni| matches!(eni.phase, Phase::Draining(_))) {
            want(eni.since);
        }
        if let Some(job) = &self.shrinking.job
            && let UnassignStep::Witnessing(since) = job.step
        {
            want(since);
        }
        wanted
    }

    /// When the kernel is read though nobody asked: when repair looks, for an idle node's threads wake for both at once. That is once a
    /// minute, half a minute to one and a half after the last reading.
    fn unasked_observation(&self, last: BootTime) -> BootTime {
        let apart = last + OBSERVED_APART;
        match self.repairs.last {
            Some(look) if look >= apart => apart,
            look => apart.max(look.unwrap_or(last) + LOOK_EVERY),
        }
    }
}

fn tags_forbid(
    view: &crate::event::EniView,
    facts: &crate::event::InstanceFacts,
    config: &crate::config::Config,
) -> bool {
    crate::tags::ownership(view, facts, config) != crate::tags::Ownership::Made
}
