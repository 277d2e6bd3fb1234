// SPDX-License-Identifier: Apache-2.0
//! Giving back what is too much: when, and only after three witnesses agree.
//!
//! A surplus must have stood for 30 s; the least it was in that time is what may go. ENIs go whole where they can, several
//! at once; single addresses one call at a time. Between picking and calling, the kernel and EC2 are read anew, and the
//! journal is asked again: who disagrees stops it. New demand in that time stops it too, and gets what was picked.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::action::ActionKind;
use crate::event::{Failure, FailureClass, Outcome};
use crate::ids::{BootTime, EniId};
use crate::lifecycle::{Assign, DrainReason, Phase, RELEASE_AGE};
use crate::planner::Addresses;
use crate::planner::shrink::{self, Share, Shrinkage};
use crate::store::AddressState;

use super::pool::assigning;
use super::state::{LAG, Purpose, RESOLVE_AFTER, SURPLUS_STANDS, UnassignJob, UnassignStep};
use super::{Core, Turn};

/// How often what a call may have taken is asked to go again when that fails, too.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

impl Core {
    /// New demand takes back what was picked but not asked for yet.
    pub(super) fn recall(&mut self, turn: &mut Turn) {
        let draining = self.enis.values().any(|eni| eni.phase == Phase::Draining(DrainReason::Surplus));
        // What an excluded subnet gives back helps nobody here.
        let helps = |job: &UnassignJob| self.enis.get(&job.eni_id).is_none_or(|eni| !eni.excluded);
        let picked = self.shrinking.job.as_ref().is_some_and(|job| job.can_stop() && helps(job));
        if !(draining || picked) || self.target(turn.boot()).shortfall == Addresses::ZERO {
            return;
        }
        if picked {
            self.stop_unassign(turn, "it is needed again");
        }
        let draining: Vec<EniId> = self
            .enis
            .values()
            .filter(|eni| eni.phase == Phase::Draining(DrainReason::Surplus))
            .map(|eni| eni.eni_id.clone())
            .collect();
        for id in draining {
            self.keep(turn, &id, "it is needed again");
        }
    }

    pub(super) fn shrink(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if !self.may_scale() {
            self.stop_unassign(turn, "the pool is not managed now");
            self.shrinking.since = None;
            return;
        }
        self.drive_unassign(turn);
        let Some((shares, surplus)) = self.shares(now) else {
            self.shrinking.since = None;
            return;
        };
        let whole = self.policy().is_some_and(|policy| policy.by_whole_enis());
        if shrink::plan(&shares, surplus, whole).is_none() {
            self.shrinking.since = None;
            return;
        }
        let since = *self.shrinking.since.get_or_insert(now);
        self.shrinking.floor = if since == now { surplus.0 } else { self.shrinking.floor.min(surplus.0) };
        let at = (since + SURPLUS_STANDS).max(self.shrinking.not_before);
        if now < at {
            self.alarm(at);
            return;
        }
        self.give_back(turn, shares, whole);
    }

    /// ENIs in service and what is too much; `None`: nothing may go now.
    fn shares(&mut self, now: BootTime) -> Option<(Vec<Share>, Addresses)> {
        let growing = !self.requests.is_empty()
            || self
                .enis
                .values()
                .any(|eni| eni.is_coming(now) || assigning(eni) > 0 || matches!(eni.assign, Assign::Resolving { .. }));
        if !self.learned || growing || !self.waiters.is_empty() {
            return None;
        }
        let target = self.target(now);
        if target.shortfall > Addresses::ZERO {
            return None;
        }
        let tallies = self.store.tallies();
        let mut young: Option<BootTime> = None;
        let mut shares = Vec::new();
        for eni in self.enis.values().filter(|eni| eni.gives_out()) {
            let tally = tallies.get(&Some(&eni.eni_id)).copied().unwrap_or_default();
            let idle = eni.created
                && !eni.primary
                && tally.busy() + tally.leaving == 0
                && matches!(eni.assign, Assign::Idle | Assign::Resting(_))
                && !super::places::setting_termination(eni);
            let old_at = (eni.known_since + RELEASE_AGE).max(eni.keep_until);
            if idle && now < old_at {
                young = Some(young.map_or(old_at, |young| young.min(old_at)));
            }
            shares.push(Share {
                eni_id: eni.eni_id.clone(),
                device_index: eni.device_index,
                allocated: Addresses(tally.allocated),
                free: Addresses(tally.free),
                can_go: idle && now >= old_at,
            });
        }
        if let Some(at) = young {
            self.alarm(at);
        }
        Some((shares, target.surplus))
    }

    fn give_back(&mut self, turn: &mut Turn, mut shares: Vec<Share>, whole: bool) {
        let now = turn.boot();
        loop {
            let surplus = Addresses(self.shrinking.floor);
            match shrink::plan(&shares, surplus, whole) {
                Some(Shrinkage::Release { eni_id, free }) => {
                    self.shrinking.floor -= free.0.min(self.shrinking.floor);
                    shares.retain(|share| share.eni_id != eni_id);
                    self.enter(turn, &eni_id, Phase::Draining(DrainReason::Surplus));
                }
                Some(Shrinkage::Unassign { eni_id, count }) if self.shrinking.job.is_none() => {
                    self.shrinking.floor -= count.0.min(self.shrinking.floor);
                    self.pick(turn, &eni_id, count);
                    return;
                }
                Some(Shrinkage::Unassign { .. }) | None => {
                    if self.shrinking.floor == 0 {
                        self.shrinking.since = None;
                    } else if self.shrinking.job.is_none() {
                        // The floor was lower than what there is now: the rest has not stood long enough.
                        self.shrinking.since = Some(now);
                        self.alarm(now + SURPLUS_STANDS);
                    }
                    return;
                }
            }
        }
    }

    /// Picks free addresses: never used ones first, then those free the longest.
    pub(super) fn pick(&mut self, turn: &mut Turn, id: &EniId, count: Addresses) {
        let mut free: Vec<(Option<BootTime>, Ipv4Addr)> = self
            .store
            .of_eni(id)
            .filter_map(|(address, entry)| match entry.state {
                AddressState::Free { rest } => Some((rest.map(|rest| rest.released), address)),
                AddressState::Allocated(_)
                | AddressState::Cooling { .. }
                | AddressState::Held { .. }
                | AddressState::Leaving { .. } => None,
            })
            .collect();
        free.sort_unstable();
        free.truncate(count.0 as usize);
        let addresses: Vec<Ipv4Addr> = free.into_iter().map(|(_, address)| address).collect();
        for address in &addresses {
            self.store.set_leaving(*address);
        }
        turn.debug(format!("{} free addresses of {id} are too many", addresses.len()));
        let step = UnassignStep::Witnessing(turn.boot());
        self.shrinking.job = Some(UnassignJob { eni_id: id.clone(), addresses, step, listing_counts_from: None });
    }

    fn drive_unassign(&mut self, turn: &mut Turn) {
        let Some(job) = &self.shrinking.job else { return };
        let UnassignStep::Witnessing(since) = job.step else { return };
        let Some(eni) = self.enis.get(&job.eni_id).filter(|eni| eni.gives_back()) else {
            self.unassign_without_eni(turn);
            return;
        };
        let written = since.max(eni.last_write);
        if !self.observe.is_newer_than(since) || !self.describe.is_newer_than(written) || eni.being_written() {
            return;
        }
        if !job.can_stop() {
            let job = job.clone();
            self.unassign_again(turn, job);
            return;
        }
        let listed =
            self.described.get(&job.eni_id).map(|view| view.secondary_addresses.as_slice()).unwrap_or_default();
        let objection = job.addresses.iter().find_map(|address| {
            let leaving =
                self.store.get(*address).is_some_and(|entry| matches!(entry.state, AddressState::Leaving { .. }));
            if !leaving || self.kernel.held.contains_key(address) {
                Some(format!("{address} is in use"))
            } else if !listed.contains(address) {
                Some(format!("EC2 does not list {address}"))
            } else {
                None
            }
        });
        match objection {
            Some(objection) => self.stop_unassign(turn, &objection),
            None => {
                let job = job.clone();
                self.start_unassign(turn, job);
            }
        }
    }

    /// The ENI of a job is gone, or not in service for now.
    fn unassign_without_eni(&mut self, turn: &mut Turn) {
        self.stop_unassign(turn, "its ENI is not in service any more");
        let Some(job) = &mut self.shrinking.job else { return };
        if self.enis.contains_key(&job.eni_id) {
            job.step = UnassignStep::Resolving(turn.now.boot + LOOK_AGAIN);
        } else {
            self.shrinking.job = None;
        }
    }

    /// Puts picked addresses back that were not asked to go yet.
    fn stop_unassign(&mut self, turn: &mut Turn, why: &str) {
        let Some(job) = self.shrinking.job.take_if(|job| job.can_stop()) else { return };
        for address in &job.addresses {
            self.store.stay(*address);
        }
        self.shrinking.since = None;
        self.shrinking.not_before = turn.boot() + SURPLUS_STANDS;
        turn.info(format!("{} addresses of {} are kept: {why}", job.addresses.len(), job.eni_id));
    }

    pub(super) fn unassign_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        id: &EniId,
        outcome: Result<Outcome, Failure>,
    ) {
        let now = turn.boot();
        if let Some(eni) = self.enis.get_mut(id) {
            eni.last_write = now;
            eni.unassigning = None;
        }
        let Some(job) = self.shrinking.job.take_if(|job| job.eni_id == *id) else { return };
        let failure = match outcome {
            Ok(_) => {
                for address in &job.addresses {
                    self.store.forget(*address);
                    self.unassigned.insert(*address, now);
                }
                turn.info(format!("{} addresses of {id} were given back", job.addresses.len()));
                return;
            }
            Err(failure) => failure,
        };
        let retry = self.failed(turn, what, &failure, 1);
        self.shrinking.not_before = retry;
        let asked_before = job.listing_counts_from;
        let again = if asked_before.is_some() { LOOK_AGAIN } else { RESOLVE_AFTER };
        let step = UnassignStep::Resolving(retry.max(now + again));
        let listing_counts_from =
            if refused_for_sure(failure.class) { asked_before.or(Some(now)) } else { asked_before.or(Some(now + LAG)) };
        self.shrinking.job = Some(UnassignJob { step, listing_counts_from, ..job });
    }

    /// An unassign call without a clear answer: what EC2 no longer lists is gone; what it lists stays, once no read can be
    /// behind the call any more. Until then it is not given out, its packets would die, but asked to go again.
    pub(super) fn resolve_unassign(&mut self, turn: &mut Turn, read_at: BootTime) {
        let now = turn.boot();
        let resolved = |job: &mut UnassignJob| matches!(job.step, UnassignStep::Resolving(after) if read_at >= after);
        let Some(job) = self.shrinking.job.take_if(resolved) else { return };
        let listed = self.described.get(&job.eni_id).map(|view| view.secondary_addresses.clone()).unwrap_or_default();
        let (listed, gone): (Vec<_>, Vec<_>) = job.addresses.iter().partition(|address| listed.contains(*address));
        for address in gone {
            self.store.forget(address);
            self.unassigned.insert(address, now);
        }
        if job.listing_counts_from.is_none_or(|from| read_at >= from) {
            listed.into_iter().for_each(|address| self.store.stay(address));
        } else if !listed.is_empty() {
            self.shrinking.job = Some(UnassignJob { addresses: listed, step: UnassignStep::Witnessing(now), ..job });
        }
    }

    /// What an earlier call may have taken is asked to go again, if nobody objects; the rest needs no call.
    fn unassign_again(&mut self, turn: &mut Turn, job: UnassignJob) {
        let now = turn.boot();
        let listed = self.described.get(&job.eni_id).map(|view| view.secondary_addresses.clone()).unwrap_or_default();
        let mut again = Vec::new();
        for address in &job.addresses {
            if let Some(held) = self.kernel.held.get(address) {
                self.store.hold(*address, &held.link);
            } else if listed.contains(address) {
                again.push(*address);
            } else {
                self.store.forget(*address);
                self.unassigned.insert(*address, now);
            }
        }
        self.shrinking.job = None;
        if !again.is_empty() {
            self.start_unassign(turn, UnassignJob { addresses: again, ..job });
        }
    }

    fn start_unassign(&mut self, turn: &mut Turn, job: UnassignJob) {
        let (id, addresses) = (job.eni_id.clone(), job.addresses.clone());
        let purpose = Purpose::Unassign { eni_id: id.clone(), count: addresses.len() };
        let kind = ActionKind::Unassign { eni_id: id.clone(), addresses, prefixes: Vec::new() };
        let action = self.start(turn, purpose, kind);
        if let Some(eni) = self.enis.get_mut(&id) {
            eni.unassigning = Some(action);
        }
        self.shrinking.job = Some(UnassignJob { step: UnassignStep::Running, ..job });
    }
}

/// Whether EC2 said that nothing was done.
fn refused_for_sure(class: FailureClass) -> bool {
    match class {
        FailureClass::Throttled | FailureClass::Denied | FailureClass::Rejected | FailureClass::WrongState => true,
        FailureClass::SubnetExhausted
        | FailureClass::AddressLimit
        | FailureClass::AttachmentLimit
        | FailureClass::DeviceIndexTaken
        | FailureClass::NotFound
        | FailureClass::TokenMismatch
        | FailureClass::Transient
        | FailureClass::Unknown
        | FailureClass::LinkMissing
        | FailureClass::Kernel => false,
    }
}
