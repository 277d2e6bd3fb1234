// SPDX-License-Identifier: Apache-2.0
//! The subnets of the zone: read now and then, remembered, and chosen from when an ENI is made.
//!
//! The rules are `planner::place`'s. Here is what they need: the zone's subnets as last described, what was asked of each
//! since, and what each refused. Nothing waits for a description but the very first start; later ones refresh the memory
//! beside whatever goes on. A failed description leaves the last good answer standing, and so does one without the primary
//! ENI's subnet, which is there: it is no answer. Without a good one the primary ENI's subnet is usable and no other.
//!
//! ```text
//!   start ──► described ──an ENI is made, older than 30 min──► described again       idle: every 6 h
//!     └─ failed: the journal's standings, else the primary subnet; tried again after 10 min at the earliest
//! ```
//!
//! With custom networking the ENIConfig says which subnets there are to choose from (`pod_network`), and tags exclude nothing.
//!
//! Addresses of excluded subnets go the same way as a surplus does, three witnesses asked; pods there stay.

use std::time::Duration;

use crate::action::{ActionKind, Fill, SubnetQuery};
use crate::checkpoint::PlaceStanding as Standing;
use crate::config::SubnetChoice;
use crate::event::{Failure, FailureClass, Outcome, SubnetView};
use crate::ids::{BootTime, EniId, SubnetId};
use crate::lifecycle::{Assign, DrainReason, Eni, Phase, RELEASE_AGE, Termination, TryState};
use crate::planner::place::{self, Patience, Place, Share};
use crate::reason::{NoticeLevel, ReasonCode, Refusal};
use crate::store::Slot;

use super::ended::unexpected;
use super::pool::assigning;
use super::show::count;
use super::state::{Purpose, Subnet};
use super::{Core, Turn};

/// A description older than this is refreshed when ENIs are made.
const FRESH: Duration = Duration::from_secs(1_800);
/// How often the zone is read when nothing is made, in the place of a look at the ENIs: how late an exclusion is noticed on
/// an idle node, an hour and a quarter added.
const IDLE_LOOK: Duration = Duration::from_secs(6 * 3_600);
/// After a failed description: not before.
const AFTER_FAILURE: Duration = Duration::from_secs(600);
/// A refusal is forgotten so long after its rest ended.
const REMEMBERED: Duration = Duration::from_secs(600);

impl Core {
    /// Whether EC2's objects may be changed.
    pub(super) fn may_write(&self) -> bool {
        self.config.provisioning.is_full()
    }

    /// Whether the pool may grow and shrink.
    pub(super) fn may_scale(&self) -> bool {
        self.may_write() && (self.schedulable || self.config.provisions_when_cordoned)
    }

    /// Why the pool may not grow; `None`: it may.
    pub(super) fn why_not_scaled(&self) -> Option<Refusal> {
        let because = |code, cause: &str| Some(Refusal { code, cause: cause.to_owned(), retry_after: None });
        if !self.may_write() {
            let cause = "ENIs and addresses are someone else's business (DISABLE_NETWORK_RESOURCE_PROVISIONING or \
                         ENABLE_IMDS_ONLY_MODE), and none that is here is free";
            return because(ReasonCode::ProvisioningDisabled, cause);
        }
        if !self.may_scale() {
            let cause = "the node is cordoned, so it gets no more addresses, and none that is here is free; uncordon it, or \
                         set AWS_MANAGE_ENIS_NON_SCHEDULABLE";
            return because(ReasonCode::NodeCordoned, cause);
        }
        None
    }

    /// Whether tags say where ENIs are made, and which subnets serve no new pod.
    fn discovers(&self) -> bool {
        self.config.subnets == SubnetChoice::Tagged && self.may_write()
    }

    /// Whether the zone's subnets are looked at.
    fn reads_zone(&self) -> bool {
        self.config.subnets != SubnetChoice::Primary && self.may_write()
    }

    /// Whether it is known, as far as it can be, where ENIs may be made.
    pub(super) fn places_known(&self) -> bool {
        self.zone.known || !self.reads_zone()
    }

    /// Whether it is known, as far as it can be, which subnets serve no new pod.
    pub(super) fn exclusions_known(&self) -> bool {
        self.zone.known || !self.discovers()
    }

    /// Reads the zone when that is due.
    pub(super) fn drive_zone(&mut self, turn: &mut Turn) {
        if !self.reads_zone() || self.zone.read.running.is_some() {
            return;
        }
        let Some(facts) = &self.facts else { return };
        let query =
            SubnetQuery::Zone { vpc_id: facts.vpc_id.clone(), availability_zone: facts.availability_zone.clone() };
        let wanted = match self.zone.read.last {
            None => BootTime::default(),
            Some(last) if self.zone.used => last + FRESH,
            Some(last) => {
                let looked_at_enis = self.describe.last.filter(|_| self.learned);
                (last + IDLE_LOOK).max(looked_at_enis.map_or(last, |looked| self.verify_due(looked)))
            }
        };
        let for_pods = self.zone.read.last.and_then(|last| self.zone_wanted_for_pods(last));
        let at = for_pods.map_or(wanted, |at| at.min(wanted)).max(self.zone.read.not_before);
        if turn.boot() < at {
            self.alarm(at);
            return;
        }
        // That it had not been read for long is no reason then.
        self.zone.used |= for_pods.is_some_and(|at| at < wanted);
        let id = self.start(turn, Purpose::Zone, ActionKind::DescribeSubnets(query));
        self.zone.read.running = Some((id, turn.boot()));
    }

    /// Whether the zone is due to be read for its age alone by then: it takes the turn of a look at the ENIs.
    pub(super) fn zone_is_next(&self, by: BootTime) -> bool {
        let old = self.zone.read.last.is_some_and(|last| last + IDLE_LOOK <= by);
        self.reads_zone() && old && !self.zone.used && self.zone.read.failure.is_none()
    }

    pub(super) fn zone_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        let now = turn.boot();
        let began = self.zone.read.running.map_or(now, |(_, began)| began);
        self.zone.known = true;
        let failure = match outcome {
            Ok(Outcome::SubnetsDescribed(views)) if self.is_whole(&views) => {
                self.zone.read.succeeded(began, now);
                if !std::mem::take(&mut self.zone.used) {
                    self.zone.idle_look = began;
                }
                self.zone_described(turn, views);
                return;
            }
            Ok(Outcome::SubnetsDescribed(views)) => Failure {
                class: FailureClass::Transient,
                code: "PrimarySubnetMissing".to_owned(),
                message: format!("{} subnets of the zone are described, without the primary ENI's", views.len()),
                retry_after: None,
            },
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.zone.read.attempts += 1;
        let attempts = self.zone.read.attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        // Optional for growth as a rule: the last good answer stands, so there is no hurry.
        let at = if self.pod_network_pending() { retry } else { retry.max(now + AFTER_FAILURE) };
        self.zone.read.failed(failure, at);
    }

    /// A description of the zone has the primary ENI's subnet.
    fn is_whole(&self, views: &[SubnetView]) -> bool {
        self.facts.as_ref().is_some_and(|facts| views.iter().any(|view| view.subnet_id == facts.subnet_id))
    }

    fn zone_described(&mut self, turn: &mut Turn, views: Vec<SubnetView>) {
        let now = turn.boot();
        let Some(primary) = self.facts.as_ref().map(|facts| facts.subnet_id.clone()) else { return };
        for subnet in self.subnets.values_mut() {
            subnet.standing = None;
        }
        let (mut held, keeps_tags) = (0, self.has_pod_network());
        let counts: Vec<(SubnetId, u32)> = views.iter().map(|view| (view.subnet_id.clone(), view.available)).collect();
        for view in views {
            // The network address, the router, DNS, one reserved and the broadcast address are nobody's (VPC user guide).
            let size = 1_u32.checked_shl(u32::from(32 - view.cidr.prefix_len())).unwrap_or(u32::MAX);
            held += u64::from(size.saturating_sub(5).saturating_sub(view.available));
            let standing = place::standing(&view.tags, view.subnet_id == primary, self.config.cluster_name.as_deref());
            let subnet = self.subnets.entry(view.subnet_id).or_default();
            subnet.standing = Some(standing);
            subnet.free = view.available;
            subnet.cidr = Some(view.cidr);
            subnet.tags = if keeps_tags { view.tags } else { Vec::new() };
        }
        self.zone.held = Some(held);
        counts.into_iter().for_each(|(id, free)| self.subnet_counted(&id, free, now));
        let of = |standing| self.subnets.values().filter(|subnet| subnet.standing == Some(standing)).count();
        let (usable, excluded) = (of(Standing::Usable), of(Standing::Excluded));
        turn.debug(format!("the zone has {usable} usable subnets and {excluded} excluded ones"));
        if usable == 0 && self.discovers() {
            let text = "no subnet of the zone is usable for pods by its tags: no ENI will be made";
            turn.error(ReasonCode::NoUsableSubnet, text);
        }
        self.zone_described_for_pods();
        self.touch();
    }

    fn standing(&self, id: &SubnetId) -> Option<Standing> {
        self.subnets.get(id).and_then(|subnet| subnet.standing)
    }

    /// Notes which ENIs are in excluded subnets.
    pub(super) fn mark_excluded(&mut self, turn: &mut Turn) {
        let discovers = self.discovers();
        for eni in self.enis.values_mut() {
            let standing = self.subnets.get(&eni.subnet_id).and_then(|subnet| subnet.standing);
            let excluded = discovers && standing == Some(Standing::Excluded);
            if excluded != eni.excluded {
                eni.excluded = excluded;
                let what = if excluded { "is excluded: ENI gives no address out" } else { "serves pods again on ENI" };
                let text = format!("{} {what} {}", eni.subnet_id, eni.eni_id);
                turn.notice(NoticeLevel::Info, Some(ReasonCode::SubnetExcluded), text);
            }
        }
    }

    /// Whether a new ENI may be made in that subnet.
    pub(super) fn is_usable_place(&self, id: &SubnetId) -> bool {
        if self.has_pod_network() && self.may_write() {
            return self.pod_places().contains_key(id);
        }
        let primary = self.facts.as_ref().is_some_and(|facts| facts.subnet_id == *id);
        if !self.discovers() {
            return primary;
        }
        let described = self.subnets.values().any(|subnet| subnet.standing.is_some());
        if described { self.standing(id) == Some(Standing::Usable) } else { primary }
    }

    /// Which of the known subnets new ENIs may be made in: as `is_usable_place`, once for all.
    pub(super) fn usable_places(&self) -> Vec<SubnetId> {
        if self.has_pod_network() && self.may_write() {
            return self.pod_places().into_keys().collect();
        }
        let primary = self.facts.as_ref().map(|facts| &facts.subnet_id);
        let known = self.subnets.keys().chain(primary.filter(|id| !self.subnets.contains_key(*id)));
        known.filter(|id| self.is_usable_place(id)).cloned().collect()
    }

    fn places(&self, now: BootTime) -> Vec<Place> {
        if self.has_pod_network() && self.may_write() {
            let chosen = self.pod_places();
            let place = |(id, (order, weight)): (&SubnetId, &(u32, u32))| {
                let share = Share { weight: *weight, enis: self.secondary_enis_in(id) };
                Place { order: *order, share: Some(share), ..self.place(id, now) }
            };
            return chosen.iter().map(place).collect();
        }
        let usable = self.subnets.keys().filter(|id| self.is_usable_place(id));
        usable.map(|id| self.place(id, now)).collect()
    }

    fn place(&self, id: &SubnetId, now: BootTime) -> Place {
        let subnet = self.subnets.get(id);
        Place {
            subnet_id: id.clone(),
            free: subnet.map_or(0, |subnet| subnet.free),
            patience: subnet.map_or(Patience::Ready, |subnet| self.patience(id, subnet, now)),
            fits: self.ask(id, now).slot == self.mode(),
            order: 0,
            share: None,
        }
    }

    /// ENIs of ours in a subnet, the primary one left out, and those asked for there.
    pub(super) fn secondary_enis_in(&self, id: &SubnetId) -> u32 {
        let ours = |eni: &&Eni| eni.subnet_id == *id && !eni.primary && eni.phase.takes_slot();
        let made = self.enis.values().filter(ours).count();
        let asked = self.requests.values().filter(|request| request.subnet_id == *id).count();
        count(made + asked)
    }

    fn patience(&self, id: &SubnetId, subnet: &Subnet, now: BootTime) -> Patience {
        let Some(exhausted) = subnet.exhausted.filter(|exhausted| now < exhausted.until + REMEMBERED) else {
            return Patience::Ready;
        };
        if now < exhausted.until {
            return Patience::Resting { until: exhausted.until, left: exhausted.left.unwrap_or(0) };
        }
        let asked = self.requests.values().any(|request| request.subnet_id == *id)
            || self.enis.values().any(|eni| eni.subnet_id == *id && assigning(eni).is_some());
        Patience::HalfOpen { probed: asked }
    }

    /// The subnet of the next ENI with so many pod addresses.
    pub(super) fn place_of_new_eni(&self, now: BootTime, pod_addresses: u32) -> Option<Place> {
        place::choose(&self.places(now), pod_addresses.saturating_add(1)).cloned()
    }

    /// So many addresses were asked of a subnet.
    pub(super) fn asked_of_subnet(&mut self, id: &SubnetId, addresses: u32) {
        if let Some(subnet) = self.subnets.get_mut(id) {
            subnet.free = subnet.free.saturating_sub(addresses);
        }
    }

    /// Gives back what excluded subnets have free: whole ENIs where nothing is in use, else single addresses.
    pub(super) fn vacate(&mut self, turn: &mut Turn) {
        if !self.learned || !self.may_scale() || self.zone.read.last.is_none() {
            return;
        }
        let now = turn.boot();
        let excluded: Vec<EniId> = self
            .enis
            .values()
            .filter(|eni| eni.excluded && eni.gives_back() && matches!(eni.assign, Assign::Idle | Assign::Resting(_)))
            .map(|eni| eni.eni_id.clone())
            .collect();
        for id in excluded {
            let (Some(eni), tally) = (self.enis.get(&id), self.store.tally(&id)) else { continue };
            if eni.created && !eni.primary && tally.busy() + tally.leaving == 0 {
                let at = (eni.known_since + RELEASE_AGE).max(eni.keep_until);
                if now < at {
                    self.alarm(at);
                } else if !setting_termination(eni) {
                    self.enter(turn, &id, Phase::Draining(DrainReason::Excluded));
                }
                continue;
            }
            let free = |slot| self.store.book(&id).map_or(0, |book| book.free_slots(slot));
            let (singles, prefixes) = (free(Slot::Single), free(Slot::Prefix));
            if singles + prefixes == 0 || self.shrinking.job.is_some() {
                continue;
            }
            if now < self.shrinking.not_before {
                let at = self.shrinking.not_before;
                self.alarm(at);
            } else {
                let fill = if singles > 0 { Fill::Addresses(singles) } else { Fill::Prefixes(prefixes) };
                self.pick(turn, &id, fill);
            }
        }
    }
}

pub(super) fn setting_termination(eni: &Eni) -> bool {
    matches!(&eni.termination, Termination::Unset(attempt) if matches!(attempt.state, TryState::Running(_)))
}
