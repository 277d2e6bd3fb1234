// SPDX-License-Identifier: Apache-2.0
//! Giving back what is too much: when, and only after three witnesses agree.
//!
//! A surplus must have stood for 30 s; the least it was in that time is what may go. ENIs go whole where they can, several
//! at once; single addresses one call at a time. Between picking and calling, the kernel and EC2 are read anew, and the
//! journal is asked again: who disagrees stops it. New demand in that time stops it too, and gets what was picked.

use std::net::Ipv4Addr;

use crate::action::ActionKind;
use crate::event::{Failure, Outcome};
use crate::ids::{BootTime, EniId};
use crate::lifecycle::{Assign, DrainReason, Phase, RELEASE_AGE, TryState};
use crate::planner::Addresses;
use crate::planner::shrink::{self, Share, Shrinkage};
use crate::store::AddressState;

use super::pool::assigning;
use super::state::{Purpose, RESOLVE_AFTER, SURPLUS_STANDS, UnassignJob, UnassignStep};
use super::{Core, Turn};

impl Core {
    /// New demand takes back what was picked but not asked for yet.
    pub(super) fn recall(&mut self, turn: &mut Turn) {
        let picked = self.enis.values().any(|eni| eni.phase == Phase::Draining(DrainReason::Surplus))
            || matches!(self.shrinking.job, Some(UnassignJob { step: UnassignStep::Witnessing(_), .. }));
        if !picked || self.target(turn.boot()).shortfall == Addresses::ZERO {
            return;
        }
        self.stop_unassign(turn, "it is needed again");
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
                && !matches!(&eni.termination, crate::lifecycle::Termination::Unset(attempt)
                    if matches!(attempt.state, TryState::Running(_)));
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
    fn pick(&mut self, turn: &mut Turn, id: &EniId, count: Addresses) {
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
        self.shrinking.job = Some(UnassignJob { eni_id: id.clone(), addresses, step });
    }

    fn drive_unassign(&mut self, turn: &mut Turn) {
        let Some(job) = &self.shrinking.job else { return };
        let UnassignStep::Witnessing(since) = job.step else { return };
        let Some(eni) = self.enis.get(&job.eni_id).filter(|eni| eni.gives_out()) else {
            self.stop_unassign(turn, "its ENI is not in service any more");
            return;
        };
        let written = since.max(eni.last_write);
        if !self.observe.is_newer_than(since) || !self.describe.is_newer_than(written) || eni.being_written() {
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
        if let Some(objection) = objection {
            self.stop_unassign(turn, &objection);
            return;
        }
        let (id, addresses) = (job.eni_id.clone(), job.addresses.clone());
        let kind = ActionKind::Unassign { eni_id: id.clone(), addresses: addresses.clone(), prefixes: Vec::new() };
        let action = self.start(turn, Purpose::Unassign { eni_id: id.clone(), count: addresses.len() }, kind);
        if let Some(eni) = self.enis.get_mut(&id) {
            eni.unassigning = Some(action);
        }
        if let Some(job) = &mut self.shrinking.job {
            job.step = UnassignStep::Running;
        }
    }

    /// Puts picked addresses back that were not asked to go yet.
    fn stop_unassign(&mut self, turn: &mut Turn, why: &str) {
        let waiting = matches!(self.shrinking.job, Some(UnassignJob { step: UnassignStep::Witnessing(_), .. }));
        let Some(job) = self.shrinking.job.take_if(|_| waiting) else { return };
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
        let step = UnassignStep::Resolving(retry.max(now + RESOLVE_AFTER));
        self.shrinking.job = Some(UnassignJob { step, ..job });
    }

    /// An unassign call without a clear answer: what EC2 still lists stays.
    pub(super) fn resolve_unassign(&mut self, turn: &mut Turn, read_at: BootTime) {
        let now = turn.boot();
        let resolved = |job: &mut UnassignJob| matches!(job.step, UnassignStep::Resolving(after) if read_at >= after);
        let Some(job) = self.shrinking.job.take_if(resolved) else { return };
        let listed = self.described.get(&job.eni_id).map(|view| view.secondary_addresses.clone()).unwrap_or_default();
        for address in job.addresses {
            if listed.contains(&address) {
                self.store.stay(address);
            } else {
                self.store.forget(address);
                self.unassigned.insert(address, now);
            }
        }
    }
}
