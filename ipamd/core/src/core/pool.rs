// SPDX-License-Identifier: Apache-2.0
//! The pool: what the planner is shown, and its plans turned into calls.
//!
//! Capacity counts from the moment it is planned: addresses of calls under way, of ENIs asked for, and of ENIs not proven
//! yet are *coming*. So nothing is asked for twice, and a failing call that will be tried again does not call for another.
//! An ENI that is overdue (`Eni::is_overdue`) is not counted on for ADDs that wait, as far as ENIs in service have slots for
//! them: a call is quick, a link may not come at all. One that is late (`Eni::is_late`) is not counted on for anything: another
//! one may be asked for in its place.
//!
//! Worked example: two ENIs with 13 addresses each have no link for 5 s, a third is in service with 13 empty slots, and 4 ADDs
//! wait. 26 are coming, so nothing seems missing; 4 of them do not count, and the third ENI gets 4.

use crate::action::{ActionKind, Fill};
use crate::config::{AddressMode, WarmTargets};
use crate::faults::Fault;
use crate::ids::{BootTime, EniId, SubnetId};
use crate::lifecycle::{Assign, Eni, Request};
use crate::planner::adaptive;
use crate::planner::grow::{self, Ask, GrowView, Growth, Room};
use crate::planner::place::Patience;
use crate::planner::target::{self, Policy, PoolView, Target};
use crate::planner::{Addresses, EniCount, Slots};
use crate::reason::{NoticeLevel, ReasonCode};
use crate::store::Slot;

use super::state::{PREFIX_PROBE, Purpose, Subnet};
use super::{Core, Turn};

impl Core {
    /// Slots for pods that an ENI of this instance type has; `None`: limits not known.
    pub(super) fn slots_per_eni(&self) -> Option<Slots> {
        self.limits.as_ref().map(|limits| Slots(limits.secondary_slots_per_eni()))
    }

    /// Addresses an ENI can hold in the node's mode; `None`: limits not known.
    pub(super) fn per_eni(&self) -> Option<Addresses> {
        self.slots_per_eni().map(|slots| slots.of(self.mode()))
    }

    /// What the node fills slots with where it can: prefixes only when they are asked for and the type takes them.
    pub(super) fn mode(&self) -> Slot {
        let takes = self.limits.as_ref().is_some_and(instance_limits::InstanceLimits::takes_prefixes);
        match self.config.address_mode {
            AddressMode::Prefixes { .. } if takes => Slot::Prefix,
            AddressMode::Prefixes { .. } | AddressMode::SecondaryIps => Slot::Single,
        }
    }

    /// Says so when prefixes are asked for and the instance type does not take them.
    pub(super) fn tell_mode(&self, turn: &mut Turn) {
        let asked = matches!(self.config.address_mode, AddressMode::Prefixes { .. });
        if asked && self.limits.is_some() && self.mode() == Slot::Single {
            let text = "this instance type takes no prefixes (only Nitro and bare metal do): pods get single addresses";
            turn.warn(ReasonCode::PrefixesUnsupported, text);
        }
    }

    /// What slots of ENIs in a subnet are filled with now.
    pub(super) fn ask(&self, subnet_id: &SubnetId, now: BootTime) -> Ask {
        let most = Slots(u32::MAX);
        if self.mode() == Slot::Single || self.refuses_prefixes(subnet_id, now) {
            return Ask { slot: Slot::Single, most };
        }
        let rare = self.subnets.get(subnet_id).and_then(|subnet| subnet.prefixes.rare_until);
        let most = if rare.is_some_and(|until| now < until) { Slots(1) } else { most };
        Ask { slot: Slot::Prefix, most }
    }

    /// Whether a subnet had no /28 a while ago, or not even an address.
    fn refuses_prefixes(&self, subnet_id: &SubnetId, now: BootTime) -> bool {
        let Some(subnet) = self.subnets.get(subnet_id) else { return false };
        let exhausted = subnet.exhausted.map(|exhausted| exhausted.until);
        subnet.prefixes.refused_until.into_iter().chain(exhausted).any(|until| now < until)
    }

    /// Whether addresses of a kind on an ENI meet the target. Those of the other kind are on their way out: single ones in
    /// prefix mode, as long as the subnet has prefixes; prefixes in the other mode.
    pub(super) fn counts(&self, eni: &Eni, slot: Slot, now: BootTime) -> bool {
        match (self.mode(), slot) {
            (Slot::Single, Slot::Single) | (Slot::Prefix, Slot::Prefix) => true,
            (Slot::Single, Slot::Prefix) => false,
            (Slot::Prefix, Slot::Single) => self.refuses_prefixes(&eni.subnet_id, now),
        }
    }

    /// The targets of the node's mode. In prefix mode an ENI target means nothing, as in the reference.
    pub(super) fn warm_targets(&self) -> WarmTargets {
        match (self.mode(), self.config.address_mode, self.config.warm) {
            (_, _, warm @ WarmTargets::Addresses { .. }) => warm,
            (Slot::Prefix, AddressMode::Prefixes { warm_prefixes }, _) => {
                warm_prefixes.map_or(WarmTargets::Adaptive, WarmTargets::Prefixes)
            }
            (Slot::Single | Slot::Prefix, _, warm) => warm,
        }
    }

    /// Whether no target is set.
    pub(super) fn adapts(&self) -> bool {
        self.warm_targets() == WarmTargets::Adaptive
    }

    pub(super) fn policy(&self, now: BootTime) -> Option<Policy> {
        let per_eni = self.per_eni()?;
        let max_pods = self.config.max_pods.map(Addresses);
        let policy = Policy { warm: self.warm_targets(), per_eni, max_pods, ..Policy::default() };
        match self.warm_targets() {
            WarmTargets::Adaptive => {
                let first = match self.mode() {
                    Slot::Single => per_eni,
                    Slot::Prefix => Addresses(Slot::Prefix.addresses()),
                };
                let pods = Addresses(self.store.all().allocated);
                let unit = Addresses(self.mode().addresses());
                let node = adaptive::Node { pods, per_eni: self.slots_per_eni()?.of(Slot::Single), first, unit };
                let wish = self.adaptive.wish(&node, now);
                let warm = WarmTargets::Addresses { warm: wish.wanted.0, minimum: wish.minimum.0 };
                Some(Policy { warm, band: wish.band, room: wish.room, spare: wish.spare, ..policy })
            }
            WarmTargets::Enis(_) | WarmTargets::Prefixes(_) | WarmTargets::Addresses { .. } => Some(policy),
        }
    }

    /// What there is and what is coming.
    pub(super) fn pool_view(&self, now: BootTime) -> PoolView {
        let (waiting, announced) = (Addresses(self.waiters.len()), self.announced.pods);
        let mut view = PoolView { waiting, announced, ..PoolView::default() };
        let mut overdue = Addresses::ZERO;
        for eni in self.enis.values() {
            let serves = eni.gives_out() || eni.is_coming(now);
            if !serves {
                continue;
            }
            let book = self.store.book(&eni.eni_id);
            for slot in [Slot::Single, Slot::Prefix] {
                let tally = book.map(|book| book.of(slot)).unwrap_or_default();
                view.total += Addresses(tally.busy());
                if self.counts(eni, slot, now) {
                    view.total += Addresses(tally.free);
                    view.free += Addresses(tally.free);
                    if eni.is_overdue(now) {
                        overdue += Addresses(tally.free);
                    }
                    if self.makes(Fault::CoolingIsFree) {
                        view.free += Addresses(tally.cooling);
                    }
                } else {
                    view.outgoing += Addresses(tally.free);
                }
            }
            let forgets = self.makes(Fault::ForgetsInFlight);
            let assigning = Addresses(assigning(eni).filter(|_| !forgets).map_or(0, Fill::addresses));
            view.total += assigning;
            view.free += assigning;
        }
        for request in self.requests.values().filter(|_| !self.makes(Fault::ForgetsInFlight)) {
            view.total += Addresses(request.fill.addresses());
            view.free += Addresses(request.fill.addresses());
        }
        let replaced = overdue.min(waiting).min(self.room_in_service(overdue, now));
        view.total = view.total.less(replaced);
        view.free = view.free.less(replaced);
        view
    }

    /// What ENIs in service could hold more; not looked at unless some are overdue.
    fn room_in_service(&self, overdue: Addresses, now: BootTime) -> Addresses {
        if overdue == Addresses::ZERO {
            return Addresses::ZERO;
        }
        let rooms = self.rooms(now).into_iter().filter(|(eni, _)| eni.gives_out());
        rooms.fold(Addresses::ZERO, |sum, (eni, slots)| sum + slots.of(self.ask(&eni.subnet_id, now).slot))
    }

    /// What is missing or too much; nothing of either while limits are not known.
    pub(super) fn target(&self, now: BootTime) -> Target {
        self.policy(now).map(|policy| target::target(&self.pool_view(now), &policy)).unwrap_or_default()
    }

    /// Whether something would be missing without this request.
    pub(super) fn is_needed(&self, now: BootTime, request: &Request) -> bool {
        let Some(policy) = self.policy(now) else { return true };
        let mut view = self.pool_view(now);
        view.total = view.total.less(Addresses(request.fill.addresses()));
        view.free = view.free.less(Addresses(request.fill.addresses()));
        let cramped = self.grow_view(now).is_some_and(|grow| {
            let room = self.room(&grow, now).less(policy.per_eni);
            room < self.spare(&policy, now)
        });
        cramped || target::target(&view, &policy).shortfall > Addresses::ZERO
    }

    /// Asks for what is missing.
    pub(super) fn grow(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let (Some(view), Some(policy)) = (self.grow_view(now), self.policy(now)) else { return };
        let plan = grow::plan(&view);
        let (makes, refills): (Vec<_>, Vec<_>) =
            plan.into_iter().partition(|growth| matches!(growth, Growth::Create { .. }));
        let room = self.room(&view, now);
        let due = [
            (!refills.is_empty()).then(|| *self.growing.refill_since.get_or_insert(now) + self.refill_waits(now)),
            (!makes.is_empty())
                .then(|| *self.growing.make_since.get_or_insert(now) + self.make_waits(&policy, room, now)),
        ];
        let [refill, make] = due.map(|at| at.is_some_and(|at| at <= now));
        due.into_iter().flatten().filter(|at| now < *at).for_each(|at| self.alarm(at));
        let mut plan = Vec::new();
        if refill || refills.is_empty() {
            self.growing.refill_since = None;
            plan = refills;
        }
        if make || makes.is_empty() {
            self.growing.make_since = None;
            plan.extend(makes);
        }
        if plan.is_empty() {
            return;
        }
        for growth in plan {
            let main = self.place_of_new_eni(now, view.per_eni.of(view.ask.slot).0).map(|place| place.subnet_id);
            let mut from_main = 0;
            match growth {
                Growth::Assign { eni_id, fill } => {
                    let subnet = self.enis.get(&eni_id).map(|eni| eni.subnet_id.clone());
                    if subnet == main {
                        from_main = fill.addresses();
                    }
                    if let Some(subnet) = subnet {
                        self.asked_of_subnet(&subnet, fill.addresses());
                    }
                    self.start_assign(turn, &eni_id, fill);
                }
                Growth::Create { fill } => {
                    from_main = fill.addresses().saturating_add(1);
                    self.request_eni(turn, fill);
                }
            }
            if let Some(subnet) = main.as_ref().and_then(|id| self.subnets.get_mut(id))
                && let Some(exhausted) = &mut subnet.exhausted
            {
                exhausted.left = exhausted.left.map(|left| left.saturating_sub(from_main));
            }
        }
        self.drive_requests(turn);
    }

    fn start_assign(&mut self, turn: &mut Turn, id: &EniId, fill: Fill) {
        let kind = ActionKind::Assign { eni_id: id.clone(), fill };
        let action = self.start(turn, Purpose::Assign { eni_id: id.clone(), fill }, kind);
        if let Some(eni) = self.enis.get_mut(id) {
            eni.assign = Assign::Running { action, fill };
            eni.assign_asked_at.get_or_insert(turn.now.boot);
        }
    }

    /// Free addresses, and those that the slots of our ENIs could hold, of ENIs that are coming too.
    pub(super) fn room(&self, view: &GrowView, now: BootTime) -> Addresses {
        let rooms = view.rooms.iter().map(|room| room.slots.of(room.ask.slot));
        rooms.fold(self.pool_view(now).free + view.later, |sum, room| sum + room)
    }

    /// What growth can use now; `None`: not enough is known to ask for anything.
    pub(super) fn grow_view(&self, now: BootTime) -> Option<GrowView> {
        if !self.learned || !self.places_known() || !self.may_scale() {
            return None;
        }
        let policy = self.policy(now)?;
        let per_eni = self.slots_per_eni()?;
        let place = self.place_of_new_eni(now, policy.per_eni.0);
        let in_main = |eni: &Eni| place.as_ref().is_some_and(|place| place.subnet_id == eni.subnet_id);
        let held_off = |subnet: Option<&Subnet>| {
            subnet.and_then(|subnet| subnet.exhausted).filter(|exhausted| now < exhausted.until)
        };
        let main = held_off(place.as_ref().and_then(|place| self.subnets.get(&place.subnet_id)));
        let usable = |eni: &Eni| in_main(eni) || held_off(self.subnets.get(&eni.subnet_id)).is_none();
        let supplied = place.as_ref().is_some_and(|place| matches!(place.patience, Patience::Ready));
        let mut later = Addresses::ZERO;
        let mut rooms = Vec::new();
        for (eni, slots) in self.rooms(now).into_iter().filter(|(eni, _)| usable(eni)) {
            let ask = self.ask(&eni.subnet_id, now);
            if self.is_busy(eni, now) {
                later += slots.of(ask.slot);
            } else {
                let in_main_subnet = in_main(eni);
                rooms.push(Room { eni_id: eni.eni_id.clone(), slots, ask, in_main_subnet });
            }
        }
        for request in self.requests.values() {
            let slots = per_eni.less(Slots(request.fill.slots()));
            later += slots.of(self.ask(&request.subnet_id, now).slot);
        }
        let mut view = GrowView {
            shortfall: self.target(now).shortfall,
            room_missing: Addresses::ZERO,
            by_whole_enis: policy.by_whole_enis(),
            rooms,
            later,
            per_eni,
            ask: place.as_ref().map_or(Ask::ANY_SINGLE, |place| self.ask(&place.subnet_id, now)),
            new_enis: match (self.creates_rest_until(now), place.map(|place| place.patience)) {
                (Some(_), _) | (_, None | Some(Patience::HalfOpen { probed: true })) => EniCount(0),
                (None, patience) => {
                    let free = self.slots(now)?.saturating_sub(self.slots_taken());
                    let probing = matches!(patience, Some(Patience::HalfOpen { .. }));
                    EniCount(if probing { free.min(1) } else { free })
                }
            },
            subnet_left: main.map(|exhausted| Addresses(exhausted.left.unwrap_or(0))),
        };
        // Of a subnet that had nothing a while ago, nothing is asked that nobody misses.
        if supplied {
            view.room_missing = self.spare(&policy, now).less(self.room(&view, now));
        }
        Some(view)
    }

    /// The room that is wanted; no more than there may be pods for.
    pub(super) fn spare(&self, policy: &Policy, now: BootTime) -> Addresses {
        let pool = self.pool_view(now);
        let used = pool.total.less(pool.free);
        policy.max_pods.map_or(policy.spare, |most| policy.spare.min(most.less(used)))
    }

    /// Slots that must come free before what is missing can be asked for: every one is taken, some by what meets no target.
    pub(super) fn slots_in_the_way(&self, now: BootTime) -> Slots {
        let Some(view) = self.grow_view(now) else { return Slots::ZERO };
        let nowhere = view.rooms.is_empty() && view.later == Addresses::ZERO && view.new_enis == EniCount(0);
        if nowhere && self.waiters.is_empty() { Slots::to_hold(view.shortfall, view.ask.slot) } else { Slots::ZERO }
    }

    /// A subnet did not have the prefixes that were asked of it: fewer are asked for at once, or single addresses in their
    /// place until it is probed again.
    pub(super) fn prefixes_refused(&mut self, turn: &mut Turn, id: &SubnetId, asked: u32) {
        let now = turn.boot();
        let salt = self.salt();
        let supply = &mut self.subnets.entry(id.clone()).or_default().prefixes;
        let rest = PREFIX_PROBE + crate::backoff::jitter(PREFIX_PROBE / 4, supply.refusals, salt);
        if asked > 1 {
            supply.rare_until = Some(now + rest);
            let text = format!("{id} does not have {asked} free /28s: it is asked for one at a time");
            turn.notice(NoticeLevel::Info, Some(ReasonCode::SubnetFragmented), text);
            return;
        }
        supply.refusals = supply.refusals.saturating_add(1);
        supply.refused_until = Some(now + rest);
        // The probe after that asks for one.
        supply.rare_until = Some(now + rest + PREFIX_PROBE);
        let wait = rest.as_secs();
        let text = format!("{id} has no free /28: single addresses are used until it is asked again in {wait} s");
        turn.warn(ReasonCode::SubnetFragmented, text);
    }

    /// A create call failed and rests, or attaching did for good: what made it fail would fail others too, so there are none
    /// until then.
    pub(super) fn creates_rest_until(&self, now: BootTime) -> Option<BootTime> {
        let resting = self.requests.values().filter(|request| request.attempt.failure.is_some());
        let held = self.creates_held.as_ref().map(|hold| hold.until);
        resting.filter_map(|request| request.attempt.earliest()).chain(held).filter(|at| *at > now).max()
    }

    /// ENIs that could hold more and how much: those that give addresses out first, the fullest of them before the others.
    pub(super) fn rooms(&self, now: BootTime) -> Vec<(&Eni, Slots)> {
        let Some(per_eni) = self.slots_per_eni() else { return Vec::new() };
        let mut rooms: Vec<(&Eni, Slots, u32)> = Vec::new();
        for eni in self.enis.values() {
            // EC2 assigns to an ENI whether it is attached or not.
            let serves = eni.gives_out() || eni.is_coming(now);
            // With custom networking its subnet is the node's, not the pods': what it has is used, and no more asked for.
            let closed = eni.primary && self.has_pod_network();
            if !serves || closed {
                continue;
            }
            let cap = eni.learned_cap.filter(|(_, until)| now < *until).map_or(per_eni, |(cap, _)| Slots(cap));
            // What leaves makes room; until it has left, the ENI is busy.
            let held = self.store.book(&eni.eni_id).map_or(0, crate::store::Book::slots);
            let room = cap.min(per_eni).less(Slots(held + assigning(eni).map_or(0, Fill::slots)));
            if room > Slots::ZERO {
                rooms.push((eni, room, held));
            }
        }
        rooms.sort_by_key(|(eni, _, held)| (!eni.gives_out(), std::cmp::Reverse(*held), eni.device_index));
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
        if self.mode() == Slot::Prefix {
            times.extend(self.subnets.values().filter_map(|subnet| subnet.prefixes.refused_until));
        }
        times.extend(self.learned_enis.map(|(_, until)| until));
        times.extend(self.creates_held.as_ref().map(|hold| hold.until));
        for time in times.into_iter().filter(|time| *time > now) {
            self.alarm(time);
        }
    }
}

/// What a call under way will add.
pub(super) fn assigning(eni: &Eni) -> Option<Fill> {
    match eni.assign {
        Assign::Running { fill, .. } => Some(fill),
        Assign::Idle | Assign::Resolving { .. } | Assign::Resting(_) => None,
    }
}
