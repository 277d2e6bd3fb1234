// SPDX-License-Identifier: Apache-2.0
//! ENIs asked for, and the subnets they are asked of.
//!
//! A create call carries a client token that is in the journal before the call is made, and as a tag on what it makes. So a
//! call without an answer, or one that a crash cut off, is looked for by tag and, when nothing is found, repeated with the
//! same token and the same parameters: EC2 makes one ENI however often it is asked. One for a subnet or groups that new ENIs do
//! not get any more is never sent (again): it is dropped, and what EC2 shows too late is found by the sweep.
//!
//! The subnet is chosen when the intent is made (`places`). One without free addresses is left alone for 30 s, doubling to
//! 30 min while it stays so, to 2 min while a pod waits; then one call finds out. Once in that time it is asked how much it
//! has left, and that much is taken. Worked example: a warm pool that a full subnet keeps short costs 14 calls in its first
//! hour, two each at 0:00, 0:30, 1:30, 3:30, 7:30, 15:30 and 31:30, and 4 an hour later.

use std::time::Duration;

use crate::action::{ActionKind, Fill, SubnetQuery};
use crate::event::{EniView, Failure, FailureClass, Outcome, SubnetView};
use crate::faults::Fault;
use crate::ids::{BootTime, DeviceIndex, EniId, SubnetId};
use crate::lifecycle::{Eni, Phase, Request, Termination, Try, TryState};
use crate::reason::{NoticeLevel, ReasonCode};
use crate::store::Slot;
use crate::tags;

use super::ended::unexpected;
use super::state::{BEING_DETACHED, Exhausted, Hold, Purpose, RESOLVE_AFTER};
use super::{Core, Turn};

const FIRST_HOLD_OFF: Duration = Duration::from_secs(30);
const LONGEST_HOLD_OFF: Duration = Duration::from_secs(1_800);
/// The longest while a pod waits.
const LONGEST_WAITED_FOR: Duration = Duration::from_secs(120);
/// How long EC2's word that the instance takes no more ENIs is believed.
const ENI_LIMIT_BELIEVED: Duration = Duration::from_secs(3_600);

impl Core {
    /// Puts a create intent into the state; `drive_requests` makes the call. `None`: facts or an index are missing.
    pub(super) fn request_eni(&mut self, turn: &mut Turn, wanted: Fill) -> Option<()> {
        let place = self.place_of_new_eni(turn.boot(), wanted.addresses())?;
        // Of siblings, some may have no prefixes.
        let fill = match (wanted, self.ask(&place.subnet_id, turn.boot()).slot) {
            (Fill::Prefixes(_), Slot::Single) => Fill::Addresses(wanted.addresses().min(self.slots_per_eni()?.0)),
            (wanted, Slot::Single | Slot::Prefix) => wanted,
        };
        let security_group_ids = self.groups_of_new_eni()?.to_vec();
        let eni_config = self.pod_policy().map(|policy| policy.eni_config.name.clone());
        let facts = self.facts.as_ref()?;
        self.next_serial += 1;
        let token = format!("{}-{}-{}", facts.instance_id, self.token_stem, self.next_serial);
        let request = Request {
            token: token.clone(),
            subnet_id: place.subnet_id.clone(),
            security_group_ids,
            eni_config,
            fill,
            device_index: self.free_device_index(),
            created_at: tags::rfc3339(turn.now.unix_nanos),
            attempt: Try::due(turn.boot()),
            maybe_created: false,
            since: turn.boot(),
        };
        turn.info(format!(
            "an ENI with {fill} of {} is asked for (device index {})",
            place.subnet_id, request.device_index.0
        ));
        self.asked_of_subnet(&place.subnet_id, fill.addresses() + 1);
        self.zone.used = true;
        self.requests.insert(token, request);
        self.touch();
        Some(())
    }

    /// Starts the create calls that are due; drops those that failed and are not needed any more.
    pub(super) fn drive_requests(&mut self, turn: &mut Turn) {
        if !self.may_scale() {
            return;
        }
        let now = turn.boot();
        let tokens: Vec<String> = self.requests.keys().cloned().collect();
        for token in tokens {
            let Some(request) = self.requests.get(&token) else { continue };
            let TryState::Due(at) = request.attempt.state else { continue };
            if now < at {
                self.alarm(at);
                continue;
            }
            let (outdated, failed_before) = (self.is_outdated(request), request.attempt.attempts > 0);
            if request.maybe_created {
                if outdated && let Some(request) = self.requests.get_mut(&token) {
                    request.attempt.state = TryState::Resolving(now);
                    continue;
                }
            } else if outdated || (failed_before && !self.is_needed(now, request)) {
                self.requests.remove(&token);
                self.touch();
                continue;
            }
            self.start_create(turn, &token);
        }
    }

    fn start_create(&mut self, turn: &mut Turn, token: &str) {
        let (Some(facts), Some(request)) = (&self.facts, self.requests.get(token)) else { return };
        let kind = ActionKind::CreateEni {
            subnet_id: request.subnet_id.clone(),
            security_group_ids: request.security_group_ids.clone(),
            fill: request.fill,
            client_token: token.to_owned(),
            description: tags::description(facts),
            tags: tags::of_new_eni(&self.config, facts, token, (&request.created_at, request.eni_config.as_deref())),
        };
        let purpose = Purpose::Create { token: token.to_owned(), fill: request.fill };
        let id = self.start(turn, purpose, kind);
        if let Some(request) = self.requests.get_mut(token) {
            request.attempt.state = TryState::Running(id);
        }
        self.touch();
    }

    pub(super) fn create_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        token: &str,
        outcome: Result<Outcome, Failure>,
    ) {
        let now = turn.boot();
        let Some(request) = self.requests.get_mut(token) else { return };
        let failure = match outcome {
            Ok(Outcome::EniCreated(view)) => {
                let subnet_id = request.subnet_id.clone();
                self.subnet_gave(&subnet_id, now);
                self.request_answered(turn, token, &view);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        request.attempt.attempts += 1;
        let attempts = request.attempt.attempts;
        let (subnet_id, fill) = (request.subnet_id.clone(), request.fill);
        let outdated = self.requests.get(token).is_some_and(|request| self.is_outdated(request));
        let retry = self.failed(turn, what, &failure, attempts);
        self.touch();
        match failure.class {
            FailureClass::SubnetExhausted | FailureClass::PrefixesExhausted => {
                self.subnet_refused(turn, &subnet_id, fill);
                self.withdraw(token, failure, now);
            }
            FailureClass::AttachmentLimit => {
                self.learn_eni_limit(turn);
                self.withdraw(token, failure, now);
            }
            FailureClass::AddressLimit if self.guess.is_some() => {
                let asked = self.requests.get(token).map_or(0, |request| request.fill.slots());
                self.guess_addresses_refused(turn, &EniId::from("a new ENI"), asked);
                self.withdraw(token, failure, now);
            }
            // Its subnet or a group of it is gone: no repetition helps.
            FailureClass::NotFound | FailureClass::Rejected if outdated => self.withdraw(token, failure, now),
            FailureClass::Unknown => self.look_for(token, failure, retry.max(now + RESOLVE_AFTER)),
            FailureClass::TokenMismatch => self.look_for(token, failure, now),
            FailureClass::Throttled
            | FailureClass::AddressLimit
            | FailureClass::DeviceIndexTaken
            | FailureClass::NotFound
            | FailureClass::WrongState
            | FailureClass::Denied
            | FailureClass::Transient
            | FailureClass::Rejected
            | FailureClass::LinkMissing
            | FailureClass::Kernel => {
                if let Some(request) = self.requests.get_mut(token) {
                    request.attempt.again(failure, retry);
                }
            }
        }
    }

    /// The call will not succeed. Did an earlier one?
    fn withdraw(&mut self, token: &str, failure: Failure, now: BootTime) {
        if self.requests.get(token).is_some_and(|request| request.maybe_created) {
            self.look_for(token, failure, now);
        } else {
            self.requests.remove(token);
        }
    }

    fn look_for(&mut self, token: &str, failure: Failure, after: BootTime) {
        if let Some(request) = self.requests.get_mut(token) {
            request.maybe_created = true;
            request.attempt.resolve(failure, after);
        }
    }

    /// The ENI of a request is there: in the call's answer, or found by its token.
    pub(super) fn request_answered(&mut self, turn: &mut Turn, token: &str, view: &EniView) {
        let now = turn.boot();
        let Some(request) = self.requests.remove(token) else { return };
        self.touch();
        if self.enis.contains_key(&view.eni_id) {
            return;
        }
        let mut eni = Eni::from_view(view, request.device_index, Phase::Attaching(Try::due(now)), now);
        eni.created = true;
        eni.asked_at = Some(request.since).filter(|_| !request.maybe_created);
        eni.upkeep.groups = Some(request.security_group_ids);
        eni.eni_config = request.eni_config;
        let (addresses, prefixes) = (view.secondary_addresses.len(), view.prefixes.len());
        turn.info(format!("ENI {} was created with {addresses} addresses and {prefixes} prefixes", view.eni_id));
        self.enis.insert(view.eni_id.clone(), eni);
        for address in &view.secondary_addresses {
            self.learn_address(*address, &view.eni_id, None, now);
        }
        for prefix in &view.prefixes {
            self.learn_prefix(*prefix, &view.eni_id, None, now);
        }
    }

    /// A read did not show the ENI of a request that may have made one.
    pub(super) fn request_not_found(&mut self, token: &str, now: BootTime) {
        let outdated = self.requests.get(token).is_some_and(|request| self.is_outdated(request));
        let Some(request) = self.requests.get_mut(token) else { return };
        let dead = request.attempt.failure.as_ref().is_some_and(|failure| match failure.class {
            FailureClass::TokenMismatch
            | FailureClass::SubnetExhausted
            | FailureClass::PrefixesExhausted
            | FailureClass::AttachmentLimit => true,
            FailureClass::Throttled
            | FailureClass::AddressLimit
            | FailureClass::DeviceIndexTaken
            | FailureClass::NotFound
            | FailureClass::WrongState
            | FailureClass::Denied
            | FailureClass::Transient
            | FailureClass::Unknown
            | FailureClass::Rejected
            | FailureClass::LinkMissing
            | FailureClass::Kernel => false,
        });
        if dead || outdated {
            let failure = self.requests.remove(token).and_then(|request| request.attempt.failure);
            if let Some(failure) = failure.filter(|failure| failure.class == FailureClass::TokenMismatch) {
                self.hold_creates(failure, now);
            }
        } else {
            request.attempt.state = TryState::Due(now);
        }
        self.touch();
    }

    /// Asks for no new ENI for a while, longer each time in a row.
    pub(super) fn hold_creates(&mut self, failure: Failure, now: BootTime) {
        let attempts = self.creates_held.as_ref().map_or(0, |hold| hold.attempts) + 1;
        let until = now + crate::backoff::delay(&failure, attempts, self.salt());
        self.creates_held = Some(Hold { attempts, until, failure });
    }

    /// Whether it asks for a subnet or groups that new ENIs do not get any more.
    fn is_outdated(&self, request: &Request) -> bool {
        let groups = self.groups_of_new_eni();
        groups.is_some_and(|groups| groups != request.security_group_ids) || !self.is_usable_place(&request.subnet_id)
    }

    /// Whether an ENI that was detached a moment ago may still have its slot in EC2.
    pub(super) fn a_slot_comes_free(&self) -> bool {
        self.enis.values().any(|eni| eni.was_attached && matches!(eni.phase, Phase::Deleting(_)))
            || self.others.values().any(|other| other.why == BEING_DETACHED)
    }

    /// EC2 takes no more ENIs than are attached, whatever the table of types says.
    pub(super) fn learn_eni_limit(&mut self, turn: &mut Turn) {
        if self.guess_enis_refused(self.slots_taken()) {
            turn.info(format!("EC2 takes no {} ENIs: fewer are tried for", self.slots_taken()));
            return;
        }
        let limit = self.slots_taken().saturating_sub(1).max(1);
        let until = turn.boot() + ENI_LIMIT_BELIEVED;
        self.learned_enis = Some((limit, until));
        self.touch();
        let text = format!("EC2 takes no more ENIs: {limit} is taken for the limit for an hour");
        turn.warn(ReasonCode::AttachmentLimit, text);
    }

    /// ENIs that hold or will hold a slot of the default card, of ours and of others.
    pub(super) fn slots_taken(&self) -> u32 {
        let ours = self.enis.values().filter(|eni| eni.phase.takes_slot()).count() + self.requests.len();
        let others = self.others.values().filter(|other| other.network_card == 0).count();
        u32::try_from(ours + others).unwrap_or(u32::MAX)
    }

    /// Slots there are; `None`: the instance type's limits are not known.
    pub(super) fn slots(&self, now: BootTime) -> Option<u32> {
        let limit = self.limits.as_ref()?.max_enis_on_default_card();
        let learned = self.learned_enis.filter(|(_, until)| now < *until).map_or(u32::MAX, |(enis, _)| enis);
        let slots = limit.min(learned).min(self.config.max_enis.unwrap_or(u32::MAX));
        Some(slots.saturating_sub(self.trunk_slots()))
    }

    /// The lowest device index that nobody has or is promised.
    pub(super) fn free_device_index(&self) -> DeviceIndex {
        let taken = |index: DeviceIndex| {
            // Also those being deleted: EC2 may not have let go of them yet.
            self.enis.values().any(|eni| eni.device_index == index)
                || self.requests.values().any(|request| request.device_index == index)
                || self.others.values().any(|other| other.network_card == 0 && other.device_index == index)
        };
        (1..).map(DeviceIndex).find(|index| !taken(*index)).unwrap_or(DeviceIndex(u32::MAX))
    }

    pub(super) fn subnet_exhausted(&mut self, turn: &mut Turn, id: &SubnetId) {
        if self.makes(Fault::IgnoresExhaustion) {
            return;
        }
        let now = turn.boot();
        let subnet = self.subnets.entry(id.clone()).or_default();
        let standing = subnet.exhausted.filter(|exhausted| now < exhausted.until);
        let ask = match standing {
            // Calls that were under way when the first failed add nothing.
            Some(Exhausted { left: None, .. }) => return,
            Some(Exhausted { left: Some(_), .. }) => false,
            None => true,
        };
        subnet.exhaustions += 1;
        let doublings = subnet.exhaustions.saturating_sub(1).min(8);
        let hold_off = FIRST_HOLD_OFF.saturating_mul(1 << doublings).min(LONGEST_HOLD_OFF);
        let sooner = now + hold_off.min(LONGEST_WAITED_FOR);
        subnet.exhausted = Some(Exhausted { until: now + hold_off, sooner, left: None, ask });
        turn.notice(
            NoticeLevel::Warn,
            Some(ReasonCode::SubnetExhausted),
            format!("{id} has no free address; it is left alone for {} s", hold_off.as_secs()),
        );
    }

    /// A pod that waits is worth asking an exhausted subnet sooner.
    pub(super) fn hurry_subnets(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        for exhausted in self.subnets.values_mut().filter_map(|subnet| subnet.exhausted.as_mut()) {
            exhausted.until = exhausted.until.min(exhausted.sooner);
        }
    }

    /// A subnet did not have what was asked of it.
    pub(super) fn subnet_refused(&mut self, turn: &mut Turn, id: &SubnetId, fill: Fill) {
        match fill {
            Fill::Addresses(_) => self.subnet_exhausted(turn, id),
            Fill::Prefixes(count) => self.prefixes_refused(turn, id, count),
        }
    }

    pub(super) fn subnet_gave(&mut self, id: &SubnetId, now: BootTime) {
        if let Some(subnet) = self.subnets.get_mut(id)
            && subnet.exhausted.is_some_and(|exhausted| now >= exhausted.until)
        {
            subnet.exhausted = None;
            subnet.exhaustions = 0;
            // It gives again, and how much nobody has said.
            subnet.counted = None;
        }
    }

    /// Asks for what is not known of subnets.
    pub(super) fn drive_subnets(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        for eni in self.enis.values() {
            self.subnets.entry(eni.subnet_id.clone()).or_default();
        }
        let ids: Vec<SubnetId> = self.subnets.keys().cloned().collect();
        for id in ids {
            let Some(subnet) = self.subnets.get(&id) else { continue };
            let ask = subnet.cidr.is_none() || subnet.exhausted.is_some_and(|exhausted| exhausted.ask);
            if !ask || subnet.reading.is_some() {
                continue;
            }
            if now < subnet.read_not_before {
                let at = subnet.read_not_before;
                self.alarm(at);
                continue;
            }
            let purpose = Purpose::Subnet { subnet_id: id.clone() };
            let action = self.start(turn, purpose, ActionKind::DescribeSubnets(SubnetQuery::Id(id.clone())));
            if let Some(subnet) = self.subnets.get_mut(&id) {
                subnet.reading = Some(action);
            }
        }
    }

    pub(super) fn subnet_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        id: &SubnetId,
        outcome: Result<Outcome, Failure>,
    ) {
        let now = turn.boot();
        let Some(subnet) = self.subnets.get_mut(id) else { return };
        subnet.reading = None;
        let failure = match outcome {
            Ok(Outcome::SubnetsDescribed(views)) if views.iter().any(|view| view.subnet_id == *id) => {
                let Some(SubnetView { cidr, available, .. }) = views.into_iter().find(|view| view.subnet_id == *id)
                else {
                    return;
                };
                subnet.read_attempts = 0;
                if let Some(exhausted) = subnet.exhausted.as_mut().filter(|exhausted| exhausted.ask) {
                    exhausted.ask = false;
                    exhausted.left = Some(available);
                    turn.info(format!("{id} has {available} free addresses left"));
                }
                let is_new = subnet.cidr.replace(cidr) != Some(cidr);
                self.subnet_counted(id, available, now);
                if is_new {
                    self.touch();
                }
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        subnet.read_attempts += 1;
        let attempts = subnet.read_attempts;
        let retry = self.failed(turn, what, &failure, attempts);
        if let Some(subnet) = self.subnets.get_mut(id) {
            subnet.read_not_before = retry.max(now);
        }
    }

    /// Forgets an ENI. Nothing may be in use on it.
    pub(super) fn gone(&mut self, turn: &mut Turn, id: &EniId, how: &str) {
        let addresses: Vec<_> = self.store.of_eni(id).map(|(address, _)| address).collect();
        for address in addresses {
            self.store.stay(address);
            self.store.forget(address);
        }
        self.enis.remove(id);
        self.departed.insert(id.clone(), turn.boot());
        turn.info(format!("ENI {id} is gone: {how}"));
        self.touch();
    }

    /// Whether a new ENI has its delete-on-termination to be set.
    pub(crate) fn termination_of(created: bool, set: bool, now: BootTime) -> Termination {
        match (created, set) {
            (true, true) => Termination::Set,
            (true, false) => Termination::Unset(Try::due(now)),
            (false, _) => Termination::LeftAlone,
        }
    }
}
