// SPDX-License-Identifier: Apache-2.0
//! Addresses on their way out: picked, witnessed, asked for, and what is believed when no clear answer came.
//!
//! ```text
//! pick ─► Witnessing ─kernel and EC2 read since, nobody objects─► Running ─done─► given back
//!            │ somebody objects, or they are needed                  │ refused, or no clear answer
//!            ▼                                                       ▼
//!          kept                                                  Resolving ─read of EC2─► gone: given back; listed: kept, or Witnessing again
//! ```
//! What is picked and not asked for can be kept at any time; after a call that may have taken it, only EC2 can say that it did not.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::{ActionKind, Fill};
use crate::event::{Failure, FailureClass, Outcome};
use crate::faults::Fault;
use crate::ids::{BootTime, EniId};
use crate::reason::{NoticeLevel, ReasonCode};
use crate::store::{AddressState, Slot};

use super::state::{Asked, LAG, Purpose, RESOLVE_AFTER, SURPLUS_STANDS, UnassignJob, UnassignStep, addresses_in};
use super::{Core, Turn};

/// A read of EC2 serves for so long, if it is newer than our last write and what goes has not been used since.
const READ_SERVES: Duration = Duration::from_secs(20);
/// How often what a call may have taken is asked to go again when that fails, too.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

impl Core {
    /// Picks what may go of a surplus: what has been free for a while. One read of EC2 serves a whole round of them: it is
    /// newer than their last use. `false`: there is nothing.
    pub(super) fn pick_idle(&mut self, turn: &mut Turn, id: &EniId, fill: Fill) -> bool {
        let now = turn.boot();
        let idle = |block: &Ipv4Net| {
            let rests = addresses_in(*block).filter_map(|address| self.store.get(address)?.state.rest());
            rests.map(|rest| rest.until + SURPLUS_STANDS).all(|at| at <= now)
        };
        let blocks: Vec<Ipv4Net> = self.free_blocks(id, fill).into_iter().filter(idle).collect();
        let ec2_since =
            self.shrinking.round.map_or(now, |round| round.max(BootTime(now.0.saturating_sub(READ_SERVES))));
        self.pick_blocks(turn, id, (blocks, fill), ec2_since)
    }

    /// Picks what may go whether it has been free for long or not.
    pub(super) fn pick(&mut self, turn: &mut Turn, id: &EniId, fill: Fill) {
        let blocks = self.free_blocks(id, fill);
        let now = turn.boot();
        self.pick_blocks(turn, id, (blocks, fill), now);
    }

    /// Free single addresses, never used ones first, then those free the longest; or prefixes that are free as a whole, the
    /// highest first.
    fn free_blocks(&self, id: &EniId, fill: Fill) -> Vec<Ipv4Net> {
        match fill {
            Fill::Addresses(_) => self.store.free_singles(id).into_iter().map(Ipv4Net::from).collect(),
            Fill::Prefixes(_) => self.store.free_prefixes(id).into_iter().rev().collect(),
        }
    }

    fn pick_blocks(
        &mut self,
        turn: &mut Turn,
        id: &EniId,
        (mut blocks, fill): (Vec<Ipv4Net>, Fill),
        ec2_since: BootTime,
    ) -> bool {
        blocks.truncate(fill.slots() as usize);
        if blocks.is_empty() {
            return false;
        }
        let step = UnassignStep::Witnessing(turn.boot());
        let job = UnassignJob { eni_id: id.clone(), blocks, step, ec2_since, asked: Asked::Nothing };
        if !self.makes(Fault::ReleasesByStaleView) {
            for address in job.pool_addresses() {
                self.store.set_leaving(address);
            }
        }
        turn.debug(format!("{} of {id}, free, are too many", job.fill()));
        self.shrinking.job = Some(job);
        true
    }

    pub(super) fn drive_unassign(&mut self, turn: &mut Turn) {
        let Some(job) = &self.shrinking.job else { return };
        let UnassignStep::Witnessing(since) = job.step else { return };
        let Some(eni) = self.enis.get(&job.eni_id).filter(|eni| eni.gives_back()) else {
            self.unassign_without_eni(turn);
            return;
        };
        let written = job.ec2_since.max(eni.last_write);
        if !self.observe.is_newer_than(since) || !self.describe.is_newer_than(written) || eni.being_written() {
            return;
        }
        let job = job.clone();
        if !job.can_stop() {
            self.unassign_again(turn, job);
            return;
        }
        match self.objection_to_unassign(&job).filter(|_| !self.makes(Fault::ReleasesByStaleView)) {
            Some(objection) => self.stop_unassign(turn, &objection),
            None => self.start_unassign(turn, job),
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

    /// Why a job must not be carried out; `None`: all witnesses agree.
    fn objection_to_unassign(&self, job: &UnassignJob) -> Option<String> {
        let used = job.pool_addresses().into_iter().find(|address| {
            let entry = self.store.get(*address);
            !entry.is_some_and(|entry| matches!(entry.state, AddressState::Leaving { .. }))
                || self.kernel.held.contains_key(address)
        });
        if let Some(address) = used {
            return Some(format!("{address} is in use"));
        }
        let unlisted = job.blocks.iter().find(|block| !self.is_listed(&job.eni_id, **block));
        unlisted.map(|block| format!("EC2 does not list {block}"))
    }

    /// Whether the last read shows a prefix, or a single address given as /32, on an ENI.
    fn is_listed(&self, id: &EniId, block: Ipv4Net) -> bool {
        self.described.get(id).is_some_and(|view| {
            view.prefixes.contains(&block)
                || (block.prefix_len() == block.max_prefix_len() && view.secondary_addresses.contains(&block.addr()))
        })
    }

    /// Puts picked addresses back that were not asked to go yet.
    pub(super) fn stop_unassign(&mut self, turn: &mut Turn, why: &str) {
        let Some(job) = self.shrinking.job.take_if(|job| job.can_stop()) else { return };
        for address in job.pool_addresses() {
            self.store.stay(address);
        }
        self.shrinking.rest();
        self.shrinking.not_before = turn.boot() + SURPLUS_STANDS;
        let text = format!("{} of {} are kept: {why}", job.fill(), job.eni_id);
        turn.notice(NoticeLevel::Info, Some(ReasonCode::SurplusKept), text);
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
                self.shrinking.denials = 0;
                self.given_back((id, &job.blocks), now);
                turn.info(format!("{} of {id} were given back", job.fill()));
                return;
            }
            Err(failure) => failure,
        };
        let retry = self.failed(turn, what, &failure, 1);
        self.shrinking.not_before = retry;
        let asked_before = job.asked;
        if asked_before == Asked::Nothing && matches!(failure.class, FailureClass::Denied | FailureClass::Throttled) {
            // EC2 did not look at them: pods need not wait until it is asked again.
            job.pool_addresses().into_iter().for_each(|address| self.store.stay(address));
            self.shrinking.since = None;
            let rest = if failure.class == FailureClass::Denied { self.shrinking.denied() } else { SURPLUS_STANDS };
            self.shrinking.not_before = retry.max(now + rest);
            return;
        }
        let sure = refused_for_sure(failure.class);
        let again = match asked_before {
            Asked::Nothing => RESOLVE_AFTER,
            // Not a third time before a read can tell.
            Asked::Unclear(_) if !sure => LAG,
            Asked::Refused(_) | Asked::Unclear(_) => LOOK_AGAIN,
        };
        let step = UnassignStep::Resolving(retry.max(now + again));
        let asked = match asked_before {
            // The last of them counts, for each may be the one that did it.
            _ if !sure => Asked::Unclear(now + LAG),
            Asked::Nothing => Asked::Refused(now),
            before => before,
        };
        self.shrinking.job = Some(UnassignJob { step, asked, ..job });
    }

    /// An unassign call without a clear answer: what EC2 no longer lists is gone; what it lists stays, once no read can be
    /// behind the call any more. Until then it is not given out, its packets would die, but asked to go again.
    pub(super) fn resolve_unassign(&mut self, turn: &mut Turn, read_at: BootTime) {
        let now = turn.boot();
        let resolved = |job: &mut UnassignJob| matches!(job.step, UnassignStep::Resolving(after) if read_at >= after);
        let Some(job) = self.shrinking.job.take_if(resolved) else { return };
        let (listed, gone): (Vec<_>, Vec<_>) =
            job.blocks.iter().copied().partition(|block| self.is_listed(&job.eni_id, *block));
        self.given_back((&job.eni_id, &gone), now);
        if job.asked.listing_counts_from().is_none_or(|from| read_at >= from) {
            listed.into_iter().flat_map(addresses_in).for_each(|address| self.store.stay(address));
        } else if !listed.is_empty() {
            let step = UnassignStep::Witnessing(now);
            self.shrinking.job = Some(UnassignJob { blocks: listed, step, ec2_since: now, ..job });
        }
    }

    /// Whether EC2 has given an address of a block anew since it was to leave an ENI: to another ENI, or there as another kind.
    fn came_back(&self, id: &EniId, block: Ipv4Net) -> bool {
        let slot = if block.prefix_len() == block.max_prefix_len() { Slot::Single } else { Slot::Prefix };
        let mut entries = addresses_in(block).filter_map(|address| self.store.get(address));
        entries.any(|entry| entry.eni.as_ref().is_some_and(|home| home != id || entry.slot != slot))
    }

    /// A call takes all that it names or nothing: when some of it turns up elsewhere after a call whose answer was not clear, no read
    /// need tell that the rest has gone, too. After calls that were refused somebody else has moved what turns up.
    pub(super) fn conclude_unassign(&mut self, turn: &mut Turn) {
        let Some(job) = &self.shrinking.job else { return };
        let unanswered = matches!(job.asked, Asked::Unclear(_)) && job.step != UnassignStep::Running;
        if !unanswered || job.blocks.iter().all(|block| !self.came_back(&job.eni_id, *block)) {
            return;
        }
        let Some(UnassignJob { eni_id, blocks, .. }) = self.shrinking.job.take() else { return };
        self.given_back((&eni_id, &blocks), turn.boot());
        turn.info(format!("an earlier call did take addresses from {eni_id}: EC2 has given of them anew"));
    }

    /// EC2 has back what it took from an ENI; what it has given to another one since stays there.
    fn given_back(&mut self, (id, blocks): (&EniId, &[Ipv4Net]), now: BootTime) {
        let blocks: Vec<Ipv4Net> = blocks.iter().copied().filter(|block| !self.came_back(id, *block)).collect();
        for address in blocks.iter().copied().flat_map(addresses_in) {
            if !self.store.forget(address) && self.store.get(address).is_some() {
                // Somebody came to have it meanwhile: as soon as it is free it is forgotten.
                self.drift.addresses.insert(address);
            }
        }
        self.unassigned.extend(blocks.into_iter().map(|block| (block, now)));
        // Also where every address stays for now: that EC2 has it back must outlive a restart.
        self.touch();
    }

    /// What an earlier call may have taken is asked to go again, if nobody objects; the rest needs no call.
    fn unassign_again(&mut self, turn: &mut Turn, job: UnassignJob) {
        let now = turn.boot();
        let mut again = Vec::new();
        for block in &job.blocks {
            let gone_on = |address: Ipv4Addr| {
                self.store.get(address).is_some_and(|entry| !matches!(entry.state, AddressState::Leaving { .. }))
            };
            if addresses_in(*block).any(gone_on) {
                // A pod has it, or had it since: it is not on its way out any more.
                addresses_in(*block).for_each(|address| self.store.stay(address));
                continue;
            }
            let held: Vec<_> = addresses_in(*block).filter_map(|address| self.kernel.held.get(&address)).collect();
            if !held.is_empty() {
                for held in held {
                    self.store.hold(held.address, &held.link);
                }
                // What else is in a prefix stays with it.
                addresses_in(*block).for_each(|address| self.store.stay(address));
            } else if self.is_listed(&job.eni_id, *block) {
                again.push(*block);
            } else {
                self.given_back((&job.eni_id, &[*block]), now);
            }
        }
        self.shrinking.job = None;
        if !again.is_empty() {
            self.start_unassign(turn, UnassignJob { blocks: again, ..job });
        }
    }

    fn start_unassign(&mut self, turn: &mut Turn, job: UnassignJob) {
        let id = job.eni_id.clone();
        let (addresses, prefixes) = match job.slot() {
            Slot::Single => (job.pool_addresses(), Vec::new()),
            Slot::Prefix => (Vec::new(), job.blocks.clone()),
        };
        let purpose = Purpose::Unassign { eni_id: id.clone(), fill: job.fill() };
        let action = self.start(turn, purpose, ActionKind::Unassign { eni_id: id.clone(), addresses, prefixes });
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
        | FailureClass::PrefixesExhausted
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
