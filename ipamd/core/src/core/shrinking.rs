// SPDX-License-Identifier: Apache-2.0
//! Giving back what is too much: when, and only after three witnesses agree.
//!
//! A surplus must have stood for a while (`patience`); the least it was in that time is what may go, as far as it has been
//! free for 30 s. ENIs go whole where they can, several at once, and where the room on them is not needed; single addresses
//! and prefixes one call an ENI after the other, and one read of EC2 serves such a round. What is left of another mode goes too, surplus or not: free
//! addresses of the kind that slots are not filled with any more. Between picking and calling, the kernel and EC2 are read
//! anew, and the journal is asked again: who disagrees stops it. New demand in that time stops it too, and gets what was
//! picked.

use crate::ids::{BootTime, EniId};
use crate::lifecycle::{Assign, DrainReason, Eni, Phase, RELEASE_AGE};
use crate::planner::shrink::{self, Allowance, Share, Shrinkage};
use crate::planner::{Addresses, Slots};
use crate::store::Slot;

use super::pool::assigning;
use super::state::{SURPLUS_STANDS, UnassignJob};
use super::{Core, Turn};

impl Core {
    /// New demand takes back what was picked but not asked for yet. What was picked because it is in the way of what is
    /// missing goes all the same, unless a pod waits for it.
    pub(super) fn recall(&mut self, turn: &mut Turn) {
        let draining = self.enis.values().any(|eni| eni.phase == Phase::Draining(DrainReason::Surplus));
        // What an excluded subnet gives back helps nobody here.
        let in_the_way = self.waiters.is_empty() && self.job_is_outgoing(turn.boot());
        let helps = |job: &UnassignJob| !in_the_way && self.enis.get(&job.eni_id).is_none_or(|eni| !eni.excluded);
        let picked = self.shrinking.job.as_ref().is_some_and(|job| job.can_stop() && helps(job));
        if !(draining || picked) {
            return;
        }
        let short = self.target(turn.boot()).shortfall > Addresses::ZERO;
        let cramped = self.grow_view(turn.boot()).is_some_and(|view| view.room_missing > Addresses::ZERO);
        if !(short || cramped) {
            return;
        }
        if picked && short {
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

    /// Whether the unassign job takes what meets no target.
    fn job_is_outgoing(&self, now: BootTime) -> bool {
        let Some(job) = &self.shrinking.job else { return false };
        self.enis.get(&job.eni_id).is_some_and(|eni| !self.counts(eni, job.slot(), now))
    }

    pub(super) fn shrink(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if !self.may_scale() {
            self.stop_unassign(turn, "the pool is not managed now");
            self.shrinking.rest();
            return;
        }
        self.drive_unassign(turn);
        let plan = self.shares(now).filter(|(shares, allowance)| shrink::plan(shares, *allowance).is_some());
        let Some((shares, allowance)) = plan else {
            self.shrinking.rest();
            return;
        };
        if self.has_stood(allowance.surplus.0, now) {
            self.give_back(turn, shares, allowance);
        }
    }

    /// ENIs in service and what may go; `None`: nothing may go now.
    fn shares(&mut self, now: BootTime) -> Option<(Vec<Share>, Allowance)> {
        let growing = !self.requests.is_empty()
            || self.enis.values().any(|eni| {
                eni.is_coming(now) || assigning(eni).is_some() || matches!(eni.assign, Assign::Resolving { .. })
            });
        if !self.learned || growing || !self.waiters.is_empty() {
            return None;
        }
        let target = self.target(now);
        let policy = self.policy(now)?;
        let room = self.room_to_spare(now);
        let short = target.shortfall > Addresses::ZERO;
        let outgoing = if short { self.slots_in_the_way(now) } else { Slots(u32::MAX) };
        if short && outgoing == Slots::ZERO {
            return None;
        }
        let mut young: Option<BootTime> = None;
        let mut shares = Vec::new();
        for eni in self.enis.values().filter(|eni| eni.gives_out()) {
            let (share, old_at) = self.share(eni, now);
            let idle = share.can_go && !short;
            if idle && now < old_at {
                young = Some(young.map_or(old_at, |young| young.min(old_at)));
            }
            shares.push(Share { can_go: idle && now >= old_at, ..share });
        }
        if let Some(at) = young {
            self.alarm(at);
        }
        let allowance = Allowance {
            surplus: target.surplus,
            room,
            by_whole_enis: policy.by_whole_enis(),
            kept_prefixes: policy.kept_prefixes(),
            outgoing,
        };
        Some((shares, allowance))
    }

    /// One ENI as shrinking sees it, and when it is old enough to go.
    fn share(&self, eni: &Eni, now: BootTime) -> (Share, BootTime) {
        let all = self.store.tally(&eni.eni_id);
        let idle = eni.created
            && !eni.primary
            && all.busy() + all.leaving == 0
            && matches!(eni.assign, Assign::Idle | Assign::Resting(_))
            && !super::places::setting_termination(eni);
        let mut share = Share {
            eni_id: eni.eni_id.clone(),
            device_index: eni.device_index,
            allocated: Addresses(all.allocated),
            free: Addresses::ZERO,
            singles: Slots::ZERO,
            prefixes: Slots::ZERO,
            outgoing: (self.mode(), Slots::ZERO),
            room: self.per_eni().unwrap_or_default(),
            can_go: idle,
        };
        if let Some(book) = self.store.book(&eni.eni_id) {
            for slot in [Slot::Single, Slot::Prefix] {
                let slots = Slots(book.free_slots(slot));
                if !self.counts(eni, slot, now) {
                    share.outgoing = (slot, slots);
                    continue;
                }
                share.free += Addresses(book.of(slot).free);
                match slot {
                    Slot::Single => share.singles = slots,
                    Slot::Prefix => share.prefixes = slots,
                }
            }
        }
        (share, (eni.known_since + RELEASE_AGE).max(eni.keep_until))
    }

    fn give_back(&mut self, turn: &mut Turn, mut shares: Vec<Share>, mut allowance: Allowance) {
        let now = turn.boot();
        let mut surplus = allowance.surplus;
        loop {
            allowance.surplus = Addresses(self.shrinking.floor);
            match shrink::plan(&shares, allowance) {
                Some(Shrinkage::Release { eni_id, free, room }) => {
                    self.shrinking.floor -= free.0.min(self.shrinking.floor);
                    surplus = surplus.less(free);
                    allowance.room = if self.adapts() { allowance.room.less(room) } else { allowance.room };
                    self.shrinking.room = self.shrinking.room.map(|(since, least)| (since, least.less(room)));
                    shares.retain(|share| share.eni_id != eni_id);
                    self.enter(turn, &eni_id, Phase::Draining(DrainReason::Surplus));
                }
                Some(Shrinkage::Unassign { eni_id, fill, counted }) if self.shrinking.job.is_none() => {
                    self.shrinking.floor -= counted.0.min(self.shrinking.floor);
                    if !self.pick_idle(turn, &eni_id, fill) {
                        self.shrinking.watch(0, now);
                        self.alarm(now + SURPLUS_STANDS);
                    }
                    return;
                }
                Some(Shrinkage::Unassign { .. }) | None => {
                    if self.shrinking.floor == 0 {
                        self.shrinking.rest();
                    } else if self.shrinking.job.is_none() {
                        // The floor was lower than what there is now: the rest has not stood long enough.
                        self.shrinking.rest();
                        self.shrinking.watch(surplus.0, now);
                        let at = now + self.hysteresis().stands;
                        self.alarm(at);
                    }
                    return;
                }
            }
        }
    }
}
