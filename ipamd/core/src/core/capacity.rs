// SPDX-License-Identifier: Apache-2.0
//! How many pods with an address of their own this node can have in all: for who schedules pods, or sets kubelet's max-pods.
//!
//! Decides nothing of the pool: nothing here makes it grow or rest. The formula of an instance type is `instance_limits`'; here is
//! what of this node goes into it, and what the subnets do to it.
//!
//! | figure | says | changes with |
//! |---|---|---|
//! | `addresses` | what the type allows, in the node's mode, by MAX_ENI, without ENIs that serve no pods | settings, other people's ENIs |
//! | `limit` | the same, and no more than ENID_MAX_PODS | the same |
//! | `now` | what is held, and what the subnets can add to it | exhausted subnets, other users of them |
//!
//! ```text
//! stock of a subnet   resting after a refusal: what it was said to have left (what was asked of it since is off already)
//!                     counted: free + held by us when it was last counted, less what is held by us now and asked for
//!                     refused, its rest is over and it was never counted: what it was said to have left
//!                     else: no bound known
//! now                 held + room of our ENIs + ENIs that can still be made (one address each for themselves), as far as stocks go
//! ```
//!
//! What we hold and what is under way is taken off the count, so our own coming and going changes nothing.
//!
//! Worked example: m5.large, 27 addresses. It holds 9 on its primary ENI; its subnet had 3 free when it was counted, and no other is
//! usable. A new ENI takes one of the 3 for itself, so 2 pods more: `now` is 11. With a /28 free in prefix mode it would be more; how
//! fragmented a subnet is shows only when it is asked, so 16 free addresses count as one.
//!
//! Invariant: `now` <= `limit` <= `addresses`.

use std::collections::BTreeMap;

use instance_limits::{Capacity, Use};

use crate::action::Fill;
use crate::ids::{BootTime, SubnetId};
use crate::lifecycle::{Eni, Phase};
use crate::planner::Slots;
use crate::snapshot::CapacitySnapshot;
use crate::store::Slot;

use super::Core;
use super::pool::assigning;
use super::show::count;
use super::state::{BEING_DETACHED, Counted};

/// What each subnet can still give.
type Stocks = BTreeMap<SubnetId, u32>;

impl Core {
    /// `None`: the limits of the instance type are not known, or only guessed so far.
    pub(super) fn show_capacity(&self, now: BootTime) -> Option<CapacitySnapshot> {
        let limits = self.limits.as_ref().filter(|_| !self.guess.is_some_and(|guess| guess.is_open()))?;
        let all = Capacity::of(limits, self.use_of_type());
        let limit = all.addresses().min(self.config.max_pods.unwrap_or(u32::MAX));
        let now = self.attainable(all.slots_per_eni, now).min(limit);
        Some(CapacitySnapshot { addresses: all.addresses(), limit, now, formula: all.to_string() })
    }

    /// What of the instance type this node uses.
    fn use_of_type(&self) -> Use {
        Use {
            prefixes: self.mode() == Slot::Prefix,
            max_enis: self.config.max_enis,
            idle_enis: self.idle_enis() + self.trunk_slots(),
        }
    }

    /// ENIs that hold a place, give no pod an address and do not leave: other people's, those in excluded subnets that cannot be
    /// detached, and with custom networking the primary one, whatever it still has.
    fn idle_enis(&self) -> u32 {
        let idle = |eni: &Eni| eni.excluded || (eni.primary && self.has_pod_network());
        let stays = |eni: &&Eni| idle(eni) && (eni.primary || !eni.created);
        count(self.enis.values().filter(stays).count()) + self.staying_others()
    }

    fn staying_others(&self) -> u32 {
        count(self.others.values().filter(|other| other.network_card == 0 && other.why != BEING_DETACHED).count())
    }

    /// What is held and can come as far as is known, whatever the limits say.
    fn attainable(&self, slots_per_eni: u32, now: BootTime) -> u32 {
        let serving = self.enis.values().filter(|eni| eni.gives_out() || eni.is_coming(now));
        let asked: u32 = self.requests.values().map(|request| request.fill.addresses()).sum();
        let mut addresses = serving.fold(asked, |sum, eni| {
            let tally = self.store.tally(&eni.eni_id);
            sum.saturating_add(tally.total() - tally.leaving + assigning(eni).map_or(0, Fill::addresses))
        });
        if !self.may_write() {
            return addresses;
        }
        let mut stocks = self.stocks(now);
        for (eni, room) in self.rooms(now) {
            let slot = self.ask(&eni.subnet_id, now).slot;
            let stock = stocks.entry(eni.subnet_id.clone()).or_insert(u32::MAX);
            addresses = addresses.saturating_add(filled(room, slot, stock));
        }
        let usable = self.usable_places();
        for _ in 0..self.places_left(now) {
            let stock_of = |id: &&SubnetId| stocks.get(*id).copied().unwrap_or(0);
            let Some(id) = usable.iter().max_by_key(stock_of) else { break };
            let slot = self.ask(id, now).slot;
            let Some(stock) = stocks.get_mut(id).filter(|stock| **stock > 1) else { break };
            *stock = stock.saturating_sub(1);
            addresses = addresses.saturating_add(filled(Slots(slots_per_eni), slot, stock));
        }
        addresses
    }

    /// ENIs that could still be made, once those that leave have left.
    fn places_left(&self, now: BootTime) -> u32 {
        let stays = |phase: &Phase| phase.takes_slot() && !matches!(phase, Phase::Draining(_) | Phase::Detaching(_));
        let ours = count(self.enis.values().filter(|eni| stays(&eni.phase)).count() + self.requests.len());
        self.slots(now).unwrap_or(0).saturating_sub(ours).saturating_sub(self.staying_others())
    }

    fn stocks(&self, now: BootTime) -> Stocks {
        let known = self.subnets.keys().cloned();
        // Before anything was read of it, the primary ENI's is there all the same.
        let all = known.chain(self.facts.as_ref().map(|facts| facts.subnet_id.clone()));
        all.map(|id| (id.clone(), self.stock(&id, now))).collect()
    }

    fn stock(&self, id: &SubnetId, now: BootTime) -> u32 {
        let Some(subnet) = self.subnets.get(id) else { return u32::MAX };
        match (subnet.exhausted, subnet.counted) {
            (Some(exhausted), _) if now < exhausted.until => exhausted.left.unwrap_or(0),
            (_, Some(Counted { free, held, .. })) => {
                free.saturating_add(held).saturating_sub(self.held_in(id)).saturating_sub(self.asked_in(id))
            }
            (Some(exhausted), None) => exhausted.left.unwrap_or(u32::MAX),
            (None, None) => u32::MAX,
        }
    }

    /// Addresses of a subnet that calls under way ask for, the primary ones of ENIs too.
    fn asked_in(&self, id: &SubnetId) -> u32 {
        let requests = self.requests.values().filter(|request| request.subnet_id == *id);
        let assigns = self.enis.values().filter(|eni| eni.subnet_id == *id).filter_map(assigning);
        requests.map(|request| request.fill.addresses() + 1).chain(assigns.map(Fill::addresses)).sum()
    }

    /// Addresses of a subnet that ENIs of ours hold, their primary ones too.
    fn held_in(&self, id: &SubnetId) -> u32 {
        let enis = self.enis.values().filter(|eni| eni.subnet_id == *id);
        enis.map(|eni| self.store.tally(&eni.eni_id).total() + 1).sum()
    }

    /// EC2 has said how many addresses of a subnet are free.
    pub(super) fn subnet_counted(&mut self, id: &SubnetId, free: u32, at: BootTime) {
        let held = self.held_in(id);
        if let Some(subnet) = self.subnets.get_mut(id) {
            subnet.counted = Some(Counted { free, held, at });
        }
    }
}

/// Addresses that go into empty slots; single ones where no prefix fits any more.
fn filled(room: Slots, slot: Slot, stock: &mut u32) -> u32 {
    let each = slot.addresses();
    let whole = room.0.min(*stock / each);
    *stock = stock.saturating_sub(whole.saturating_mul(each));
    let single = room.0.saturating_sub(whole).min(*stock);
    *stock = stock.saturating_sub(single);
    whole.saturating_mul(each).saturating_add(single)
}
