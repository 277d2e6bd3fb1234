// SPDX-License-Identifier: Apache-2.0
//! The pool: what the planner is shown, and its plans turned into calls.
//!
//! Capacity counts from the moment it is planned: addresses of calls under way, of ENIs asked for, and of ENIs not proven
//! yet are *coming*. So nothing is asked for twice, and a failing call that will be tried again does not call for another.
//! An ENI that is late (`Eni::is_late`) is not counted on any more: another one may be asked for in its place.

use std::time::Duration;

use crate::action::{ActionKind, Fill};
use crate::ids::{BootTime, EniId};
use crate::lifecycle::{Assign, Eni, Request};
use crate::planner::grow::{self, GrowView, Growth, Room};
use crate::planner::place::Patience;
use crate::planner::target::{self, Policy, PoolView, Target};
use crate::planner::{Addresses, EniCount};

use super::state::{Purpose, Subnet};
use super::{Core, Turn};

/// ADDs that come together are met by one call: growth waits that long for more of them. A thirtieth of what an EC2 call
/// takes, and longer than a burst of calls takes to come in.
const COALESCE: Duration = Duration::from_millis(10);

impl Core {
    /// Addresses an ENI of this instance type can hold; `None`: limits not known.
    pub(super) fn per_eni(&self) -> Option<Addresses> {
        self.limits.as_ref().map(|limits| Addresses(limits.secondary_slots_per_eni()))
    }

    pub(super) fn policy(&self) -> Option<Policy> {
        let per_eni = self.per_eni()?;
        Some(Policy { warm: self.config.warm, per_eni, max_pods: self.config.max_pods.map(Addresses) })
    }

    /// What there is and what is coming.
    pub(super) fn pool_view(&self, now: BootTime) -> PoolView {
        let mut view = PoolView { waiting: Addresses(self.waiters.len()), ..PoolView::default() };
        let tallies = self.store.tallies();
        for eni in self.enis.values() {
            let serves = eni.gives_out() || eni.is_coming(now);
            if !serves {
                continue;
            }
            let tally = tallies.get(&Some(&eni.eni_id)).copied().unwrap_or_default();
            let assigning = Addresses(assigning(eni));
            view.total += Addresses(tally.total() - tally.leaving) + assigning;
            view.free += Addresses(tally.free) + assigning;
        }
        for request in self.requests.values() {
            view.total += Addresses(request.secondary);
            view.free += Addresses(request.secondary);
        }
        view
    }

    /// What is missing or too much; nothing of either while limits are not known.
    pub(super) fn target(&self, now: BootTime) -> Target {
        self.policy().map(|policy| target::target(&self.pool_view(now), &policy)).unwrap_or_default()
    }

    /// Whether something would be missing without this request.
    pub(super) fn is_needed(&self, now: BootTime, request: &Request) -> bool {
        let Some(policy) = self.policy() else { return true };
        let mut view = self.pool_view(now);
        view.total = view.total.less(Addresses(request.secondary));
        view.free = view.free.less(Addresses(request.secondary));
        target::target(&view, &policy).shortfall > Addresses::ZERO
    }

    /// Asks for what is missing.
    pub(super) fn grow(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let Some(view) = self.grow_view(now) else { return };
        let plan = grow::plan(&view);
        if plan.is_empty() {
            self.grow_at = None;
            return;
        }
        let at = *self.grow_at.get_or_insert(now + COALESCE);
        if now < at {
            self.alarm(at);
            return;
        }
        self.grow_at = None;
        for growth in plan {
            let main = self.place_of_new_eni(now, view.per_eni.0).map(|place| place.subnet_id);
            let mut from_main = Addresses::ZERO;
            match growth {
                Growth::Assign { eni_id, count } => {
                    let subnet = self.enis.get(&eni_id).map(|eni| eni.subnet_id.clone());
                    if subnet == main {
                        from_main = count;
                    }
                    if let Some(subnet) = subnet {
                        self.asked_of_subnet(&subnet, count.0);
                    }
                    self.start_assign(turn, &eni_id, count);
                }
                Growth::Create { secondary } => {
                    from_main = secondary + Addresses(1);
                    self.request_eni(turn, secondary);
                }
            }
            if let Some(subnet) = main.as_ref().and_then(|id| self.subnets.get_mut(id))
                && let Some(exhausted) = &mut subnet.exhausted
            {
                exhausted.left = exhausted.left.map(|left| left.saturating_sub(from_main.0));
            }
        }
        self.drive_requests(turn);
    }

    fn start_assign(&mut self, turn: &mut Turn, id: &EniId, count: Addresses) {
        let kind = ActionKind::Assign { eni_id: id.clone(), fill: Fill::Addresses(count.0) };
        let action = self.start(turn, Purpose::Assign { eni_id: id.clone(), count: count.0 }, kind);
        if let Some(eni) = self.enis.get_mut(id) {
            eni.assign = Assign::Running { action, count: count.0 };
        }
    }

    /// What growth can use now; `None`: not enough is known to ask for anything.
    pub(super) fn grow_view(&self, now: BootTime) -> Option<GrowView> {
        if !self.learned || !self.places_known() || !self.may_scale() {
            return None;
        }
        let policy = self.policy()?;
        let place = self.place_of_new_eni(now, policy.per_eni.0);
        let in_main = |eni: &Eni| place.as_ref().is_some_and(|place| place.subnet_id == eni.subnet_id);
        let held_off = |subnet: Option<&Subnet>| {
            subnet.and_then(|subnet| subnet.exhausted).filter(|exhausted| now < exhausted.until)
        };
        let main = held_off(place.as_ref().and_then(|place| self.subnets.get(&place.subnet_id)));
        let usable = |eni: &Eni| in_main(eni) || held_off(self.subnets.get(&eni.subnet_id)).is_none();
        let mut later = Addresses::ZERO;
        let mut rooms = Vec::new();
        for (eni, addresses) in self.rooms(now).into_iter().filter(|(eni, _)| usable(eni)) {
            if self.is_busy(eni, now) {
                later += addresses;
            } else {
                let in_main_subnet = in_main(eni);
                rooms.push(Room { eni_id: eni.eni_id.clone(), addresses, in_main_subnet });
            }
        }
        for request in self.requests.values() {
            later += policy.per_eni.less(Addresses(request.secondary));
        }
        Some(GrowView {
            shortfall: self.target(now).shortfall,
            by_whole_enis: policy.by_whole_enis(),
            rooms,
            later,
            per_eni: policy.per_eni,
            new_enis: match (self.creates_rest_until(now), place.map(|place| place.patience)) {
                (Some(_), _) | (_, None | Some(Patience::HalfOpen { probed: true })) => EniCount(0),
                (None, patience) => {
                    let free = self.slots(now)?.saturating_sub(self.slots_taken());
                    let probing = matches!(patience, Some(Patience::HalfOpen { .. }));
                    EniCount(if probing { free.min(1) } else { free })
                }
            },
            subnet_left: main.map(|exhausted| Addresses(exhausted.left.unwrap_or(0))),
        })
    }

    /// A create call failed and rests, or attaching did for good: what made it fail would fail others too, so there are none
    /// until then.
    pub(super) fn creates_rest_until(&self, now: BootTime) -> Option<BootTime> {
        let resting = self.requests.values().filter(|request| request.attempt.failure.is_some());
        let held = self.creates_held.as_ref().map(|hold| hold.until);
        resting.filter_map(|request| request.attempt.earliest()).chain(held).filter(|at| *at > now).max()
    }

    /// ENIs that could hold more and how much, fullest first.
    pub(super) fn rooms(&self, now: BootTime) -> Vec<(&Eni, Addresses)> {
        let Some(per_eni) = self.per_eni() else { return Vec::new() };
        let tallies = self.store.tallies();
        let mut rooms: Vec<(&Eni, Addresses, u32)> = Vec::new();
        for eni in self.enis.values() {
            // EC2 assigns to an ENI whether it is attached or not.
            let serves = eni.gives_out() || eni.is_coming(now);
            if !serves {
                continue;
            }
            let cap = eni.learned_cap.filter(|(_, until)| now < *until).map_or(per_eni, |(cap, _)| Addresses(cap));
            // What leaves makes room; until it has left, the ENI is busy.
            let tally = tallies.get(&Some(&eni.eni_id)).copied().unwrap_or_default();
            let held = tally.total() - tally.leaving;
            let room = cap.min(per_eni).less(Addresses(held + assigning(eni)));
            if room > Addresses::ZERO {
                rooms.push((eni, room, held));
            }
        }
        rooms.sort_by_key(|(eni, _, held)| (std::cmp::Reverse(*held), eni.device_index));
        rooms.into_iter().map(|(eni, room, _)| (eni, room)).collect()
    }

    /// Whether it cannot be asked for more now: a call is under way, or rests after a failure.
    fn is_busy(&self, eni: &Eni, now: BootTime) -> bool {
        let leaving = self.shrinking.job.as_ref().is_some_and(|job| job.eni_id == eni.eni_id);
        let assigning = match eni.assign {
            Assign::Idle => false,
            Assign::Resting(until) => now < until,
            Assign::Running { .. } | Assign::Resolving { .. } => true,
        };
        leaving || assigning
    }

    /// Registers when growth that rests can go on.
    pub(super) fn growth_alarms(&mut self, now: BootTime) {
        let mut times: Vec<BootTime> = Vec::new();
        for eni in self.enis.values() {
            if let Assign::Resting(until) = eni.assign {
                times.push(until);
            }
            times.extend(eni.learned_cap.map(|(_, until)| until));
        }
        times.extend(self.subnets.values().filter_map(|subnet| subnet.exhausted).map(|exhausted| exhausted.until));
        times.extend(self.learned_enis.map(|(_, until)| until));
        times.extend(self.creates_held.as_ref().map(|hold| hold.until));
        for time in times.into_iter().filter(|time| *time > now) {
            self.alarm(time);
        }
    }
}

/// Addresses that a call under way will add.
pub(super) fn assigning(eni: &Eni) -> u32 {
    match eni.assign {
        Assign::Running { count, .. } => count,
        Assign::Idle | Assign::Resolving { .. } | Assign::Resting(_) => 0,
    }
}
