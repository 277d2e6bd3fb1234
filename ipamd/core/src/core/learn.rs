// SPDX-License-Identifier: Apache-2.0
//! What IMDS and EC2 say, written into the state.
//!
//! A description counts for an ENI only when the read began after our last write to it and no write is under way. It adds
//! what we did not know, finds what calls without an answer did, and takes free addresses out that EC2 no longer lists. It
//! never takes an address from a sandbox, and never an ENI that something uses: that is reported, and the ENI gives nothing
//! out until EC2 shows it again. What we gave back or assigned less than a minute ago is believed over a lagging read.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::prefix_addresses;
use crate::event::{EniView, Failure, InstanceFacts, Outcome};
use crate::faults::Fault;
use crate::ids::{BootTime, DeviceIndex, EniId};
use crate::lifecycle::{Assign, DetachStep, Eni, Phase, Try, TryState};
use crate::reason::ReasonCode;
use crate::store::{AddressState, Rest, Slot, prefix_of};
use crate::tags::{self, Ownership};

use super::ended::unexpected;
use super::state::{BEING_DETACHED, LAG, Other, Purpose};
use super::{Core, Turn};

/// How long EC2's word that an ENI takes no more addresses is believed.
const CAP_BELIEVED: Duration = Duration::from_secs(600);
/// An ENI that EC2 does not show is given up when a read so long after the first one does not show it either.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// How long after the first read the next looks for it.
pub(super) const FIRST_MISSING_LOOK: Duration = Duration::from_secs(30);
/// How often one that stays missing is looked for at least.
pub(super) const LONGEST_MISSING_LOOK: Duration = Duration::from_secs(900);

/// Where EC2 shows an ENI.
enum Place<'a> {
    Attached(&'a EniView, DeviceIndex),
    /// Attached but on its way out, or on another instance.
    Leaving,
    Detached(&'a EniView),
    Unknown,
}

impl Core {
    pub(crate) fn facts_learned(&mut self, turn: &mut Turn, facts: InstanceFacts) {
        self.facts_failure = None;
        if self.facts.as_ref() == Some(&facts) && self.enis.contains_key(&facts.primary_eni_id) {
            return;
        }
        let now = turn.boot();
        if self.facts.as_ref().is_some_and(|known| known.instance_id != facts.instance_id) {
            turn.error(
                ReasonCode::StateOfOtherInstance,
                "the journal is of another instance: its ENIs are forgotten, allocations stay",
            );
            self.enis.clear();
            self.requests.clear();
            self.learned = false;
        }
        if self.limits.is_none() {
            self.limits = instance_limits::lookup(&facts.instance_type).cloned();
            self.tell_mode(turn);
        }
        self.subnets.entry(facts.subnet_id.clone()).or_default().cidr = Some(facts.subnet_cidr);
        if !self.enis.contains_key(&facts.primary_eni_id) {
            let primary = primary_eni(&facts, now);
            self.enis.insert(primary.eni_id.clone(), primary);
        }
        self.facts = Some(facts);
        self.touch();
    }

    pub(super) fn facts_unavailable(&mut self, turn: &mut Turn, failure: Failure) {
        if self.facts.is_none() {
            let text = format!("instance metadata cannot be read ({}: {})", failure.code, failure.message);
            turn.warn(ReasonCode::ImdsUnavailable, text);
        }
        self.facts_failure = Some(failure);
    }

    pub(super) fn describe_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        let failure = match outcome {
            Ok(Outcome::EnisDescribed { enis, read_at }) => {
                self.describe.succeeded(read_at, turn.boot());
                self.enis_described(turn, enis, read_at);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.read_failed(turn, what, failure, |core| &mut core.describe);
    }

    fn enis_described(&mut self, turn: &mut Turn, views: Vec<EniView>, read_at: BootTime) {
        let now = turn.boot();
        self.forget_what_no_read_can_show(now);
        self.described = views.into_iter().map(|view| (view.eni_id.clone(), view)).collect();
        self.others.clear();
        let views: Vec<EniView> = self.described.values().cloned().collect();
        for view in &views {
            if !self.enis.contains_key(&view.eni_id) {
                self.stranger(turn, view, read_at);
            }
        }
        let known: Vec<EniId> = self.enis.keys().cloned().collect();
        for id in known {
            self.compare(turn, &id, read_at);
        }
        for view in &views {
            self.note_upkeep(view, now);
        }
        self.resolve_requests(read_at, now);
        self.resolve_unassign(turn, read_at);
        if !self.learned {
            self.learned = true;
            if self.quarantine.take().is_some() {
                self.touch();
            }
            turn.info(format!("EC2 was read: {} ENIs of ours, {} of others", self.enis.len(), self.others.len()));
        }
    }

    /// What was given back so long ago that even a lagging read does not show it any more.
    fn forget_what_no_read_can_show(&mut self, now: BootTime) {
        let before = self.unassigned.len() + self.departed.len();
        self.unassigned.retain(|_, at| now.since(*at) < LAG);
        self.departed.retain(|_, at| now.since(*at) < LAG * 2);
        if self.unassigned.len() + self.departed.len() != before {
            self.touch();
        }
    }

    /// An ENI that we do not know: asked for, ours by tag, or to be left alone.
    fn stranger(&mut self, turn: &mut Turn, view: &EniView, read_at: BootTime) {
        let Some(facts) = &self.facts else { return };
        let place = place(view, facts);
        if let Some(token) = tags::client_token(view).filter(|token| self.requests.contains_key(*token)) {
            let token = token.to_owned();
            let running =
                self.requests.get(&token).is_some_and(|request| matches!(request.attempt.state, TryState::Running(_)));
            if !running {
                self.request_answered(turn, &token, view);
            }
            return;
        }
        let Place::Attached(_, device_index) = place else {
            self.count_leaving(view);
            return;
        };
        if self.departed.contains_key(&view.eni_id) {
            self.count_leaving(view);
            return;
        }
        let created = match tags::ownership(view, facts, &self.config) {
            Ownership::Made => true,
            Ownership::Used => false,
            Ownership::LeftAlone(why) => {
                let network_card = network_card(view);
                self.others.insert(view.eni_id.clone(), Other { device_index, network_card, why });
                return;
            }
        };
        let set = view.attachment.as_ref().is_some_and(|attachment| attachment.delete_on_termination);
        let mut eni = Eni::from_view(view, device_index, Phase::Configuring(Try::due(turn.boot())), turn.boot());
        eni.created = created;
        eni.termination = Self::termination_of(created, set, turn.boot());
        turn.info(format!(
            "ENI {} (device index {}) is attached and serves pods from now on",
            view.eni_id, device_index.0
        ));
        self.enis.insert(view.eni_id.clone(), eni);
        self.touch();
        self.take_addresses(turn, view, read_at);
    }

    /// An ENI that is on its way out still takes its slot and index.
    fn count_leaving(&mut self, view: &EniView) {
        let Some(attachment) = &view.attachment else { return };
        let ours = self
            .facts
            .as_ref()
            .is_some_and(|facts| attachment.instance_id.as_ref().is_none_or(|instance| *instance == facts.instance_id));
        if ours {
            let other = Other {
                device_index: attachment.device_index,
                network_card: attachment.network_card,
                why: BEING_DETACHED,
            };
            self.others.insert(view.eni_id.clone(), other);
        }
    }

    /// A known ENI against its description.
    fn compare(&mut self, turn: &mut Turn, id: &EniId, read_at: BootTime) {
        let (Some(eni), Some(facts)) = (self.enis.get(id), &self.facts) else { return };
        if eni.being_written() || read_at < eni.last_write {
            return;
        }
        let view = self.described.get(id).cloned();
        let place = view.as_ref().map_or(Place::Unknown, |view| place(view, facts));
        match &eni.phase {
            Phase::Attaching(attempt) => {
                let resolving = matches!(attempt.state, TryState::Resolving(after) if read_at >= after);
                self.compare_attaching(turn, id, place, resolving);
            }
            Phase::Configuring(_) | Phase::Ready | Phase::Draining(_) => {
                self.compare_attached(turn, id, place, read_at)
            }
            Phase::Detaching(DetachStep::Deconfigure(_)) => {}
            Phase::Detaching(DetachStep::Detach(attempt)) => {
                if matches!(attempt.state, TryState::Resolving(after) if read_at >= after) {
                    self.compare_detaching(turn, id, place);
                }
            }
            Phase::Deleting(attempt) => {
                if matches!(attempt.state, TryState::Resolving(after) if read_at >= after) {
                    self.compare_deleting(turn, id, place);
                }
            }
        }
    }

    fn compare_attaching(&mut self, turn: &mut Turn, id: &EniId, place: Place<'_>, resolving: bool) {
        /// A new ENI may be hidden from reads for a moment; missing from so many, it does not exist.
        const MOST_LOOKS: u32 = 5;
        let now = turn.boot();
        match place {
            Place::Attached(view, device_index) => {
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.device_index = device_index;
                    eni.network_card = network_card(view);
                    eni.attachment_id = view.attachment.as_ref().map(|attachment| attachment.attachment_id.clone());
                }
                self.attached(turn, id);
                self.take_addresses(turn, view, now);
            }
            Place::Leaving => self.gone(turn, id, "EC2 shows it attached elsewhere or on its way out"),
            Place::Detached(view) => {
                self.take_addresses(turn, view, now);
                if resolving {
                    // Whatever kept it from being attached (an index taken, most of all), choose anew.
                    let index = self.index_for(id);
                    if let Some(eni) = self.enis.get_mut(id) {
                        eni.device_index = index;
                        eni.network_card = 0;
                    }
                    self.due(id, now);
                    self.touch();
                }
            }
            Place::Unknown if resolving => {
                let Some(attempt) = self.enis.get_mut(id).and_then(|eni| eni.phase.current_try_mut()) else { return };
                attempt.attempts += 1;
                if attempt.attempts >= MOST_LOOKS {
                    // A read may lag: only the delete call's answer is proof.
                    self.delete_unattached(turn, id);
                } else {
                    attempt.state = TryState::Due(now + Duration::from_secs(1));
                }
            }
            Place::Unknown => {}
        }
    }

    /// The index an ENI has reserved, or another when an ENI of someone else has it.
    fn index_for(&self, id: &EniId) -> DeviceIndex {
        let Some(reserved) = self.enis.get(id).map(|eni| eni.device_index) else { return self.free_device_index() };
        let taken = self.others.values().any(|other| other.network_card == 0 && other.device_index == reserved)
            || self.enis.values().any(|eni| eni.eni_id != *id && eni.device_index == reserved);
        if taken { self.free_device_index() } else { reserved }
    }

    fn compare_attached(&mut self, turn: &mut Turn, id: &EniId, place: Place<'_>, read_at: BootTime) {
        if let Place::Attached(view, device_index) = place {
            let Some(eni) = self.enis.get_mut(id) else { return };
            eni.missing_since = None;
            let attachment = view.attachment.as_ref();
            let attachment_id = attachment.map(|attachment| attachment.attachment_id.clone());
            let moved = (eni.network_card, eni.device_index) != (network_card(view), device_index);
            if eni.attachment_id != attachment_id || moved {
                eni.attachment_id = attachment_id;
                eni.device_index = device_index;
                eni.network_card = network_card(view);
                if moved {
                    self.enter(turn, id, Phase::Configuring(Try::due(turn.now.boot)));
                }
                self.touch();
            }
            self.take_addresses(turn, view, read_at);
            return;
        }
        if self.makes(Fault::AbsenceIsDetached) && self.enis.get(id).is_some_and(|eni| !eni.primary) {
            return self.gone(turn, id, "a read does not show it");
        }
        let now = turn.boot();
        let in_use = self.store.tally(id).busy() > 0;
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.assign = Assign::Idle;
        let just_written = eni.last_write > BootTime::default() && now.since(eni.last_write) < LAG;
        if eni.primary || just_written {
            return;
        }
        let Some(since) = eni.missing_since else {
            eni.missing_since = Some(read_at);
            self.drift.found += 1;
            let text = format!("EC2 does not show ENI {id} attached: it gives no address out until it does");
            turn.error(ReasonCode::EniNotListed, text);
            return;
        };
        if in_use || read_at.since(since) < SECOND_LOOK {
            return;
        }
        let created = eni.created;
        match place {
            Place::Detached(_) | Place::Unknown if created && self.may_write() => self.detached(turn, id),
            // Ours to delete, as soon as whoever detaches it is done.
            Place::Leaving if created && self.leaves_this_instance(id) => {}
            Place::Detached(_) | Place::Leaving | Place::Unknown => {
                self.gone(turn, id, "it was detached by someone else");
            }
            Place::Attached(..) => {}
        }
    }

    fn leaves_this_instance(&self, id: &EniId) -> bool {
        let attachment = self.described.get(id).and_then(|view| view.attachment.as_ref());
        let instance = attachment.and_then(|attachment| attachment.instance_id.as_ref());
        instance.is_none_or(|instance| self.facts.as_ref().is_some_and(|facts| facts.instance_id == *instance))
    }

    fn compare_detaching(&mut self, turn: &mut Turn, id: &EniId, place: Place<'_>) {
        match place {
            Place::Attached(view, _) => {
                // After a restart the id may be an old attachment's.
                let attachment_id = view.attachment.as_ref().map(|attachment| attachment.attachment_id.clone());
                if let Some(eni) = self.enis.get_mut(id).filter(|eni| eni.attachment_id != attachment_id) {
                    eni.attachment_id = attachment_id;
                    self.touch();
                }
                self.due(id, turn.boot());
            }
            Place::Leaving | Place::Detached(_) | Place::Unknown => self.detached(turn, id),
        }
    }

    fn compare_deleting(&mut self, turn: &mut Turn, id: &EniId, place: Place<'_>) {
        let now = turn.boot();
        match place {
            Place::Attached(view, device_index) => {
                let attachment_id = view.attachment.as_ref().map(|attachment| attachment.attachment_id.clone());
                if let Some(eni) = self.enis.get_mut(id) {
                    eni.attachment_id = attachment_id;
                    eni.device_index = device_index;
                    eni.network_card = network_card(view);
                }
                self.enter(turn, id, Phase::Detaching(DetachStep::Detach(Try::due(now))));
            }
            // Unknown may be a read that lags: the delete call's own "not found" is proof.
            Place::Leaving | Place::Detached(_) | Place::Unknown => self.due(id, now),
        }
    }

    fn due(&mut self, id: &EniId, at: BootTime) {
        if let Some(attempt) = self.enis.get_mut(id).and_then(|eni| eni.phase.current_try_mut()) {
            attempt.state = TryState::Due(at);
        }
    }

    /// The addresses of an ENI as EC2 lists them.
    fn take_addresses(&mut self, turn: &mut Turn, view: &EniView, read_at: BootTime) {
        let now = turn.boot();
        let Some(eni) = self.enis.get(&view.eni_id) else { return };
        let primary = eni.primary_address;
        let settled = eni.last_write == BootTime::default() || now.since(eni.last_write) >= LAG;
        let quarantine = if self.learned { None } else { self.quarantine };
        let rest = quarantine.map(|until| Rest { released: now, until });
        let mut listed: u32 = 0;
        for address in view.secondary_addresses.iter().copied().filter(|address| *address != primary) {
            listed += 1;
            // Whatever an earlier read said: it is there.
            self.drift.addresses.remove(&address);
            if !self.unassigned.contains_key(&Ipv4Net::from(address)) {
                self.learn_address(address, &view.eni_id, rest, now);
            }
        }
        for prefix in &view.prefixes {
            listed += 1;
            prefix_addresses(*prefix).for_each(|address| {
                self.drift.addresses.remove(&address);
            });
            if !self.unassigned.contains_key(prefix) {
                self.learn_prefix(*prefix, &view.eni_id, rest, now);
            }
        }
        self.resolve_assign(turn, &view.eni_id, listed, read_at);
        if settled {
            self.compare_addresses(turn, view);
        }
    }

    /// Takes out what EC2 no longer lists and nobody uses. Of a prefix that EC2 no longer lists, the free addresses go: EC2
    /// may give them to someone else.
    fn compare_addresses(&mut self, turn: &mut Turn, view: &EniView) {
        let listed: BTreeSet<Ipv4Net> =
            view.prefixes.iter().copied().chain(view.secondary_addresses.iter().copied().map(Ipv4Net::from)).collect();
        let block = |address: Ipv4Addr, slot: Slot| match slot {
            Slot::Single => Ipv4Net::from(address),
            Slot::Prefix => prefix_of(address),
        };
        let unlisted: Vec<(Ipv4Addr, AddressState)> = self
            .store
            .of_eni(&view.eni_id)
            .filter(|(address, entry)| !listed.contains(&block(*address, entry.slot)))
            .map(|(address, entry)| (address, entry.state.clone()))
            .collect();
        let of_this: Vec<Ipv4Addr> = self.store.of_eni(&view.eni_id).map(|(address, _)| address).collect();
        for address in of_this.into_iter().filter(|address| unlisted.iter().all(|(missing, _)| missing != address)) {
            self.drift.addresses.remove(&address);
        }
        for (address, state) in unlisted {
            let free = matches!(state, AddressState::Free { .. });
            // One that is leaving is the business of the call that takes it.
            let leaving = matches!(state, AddressState::Leaving { .. });
            if free {
                self.store.forget(address);
                let text = format!("EC2 no longer lists the free address {address} on {}: forgotten", view.eni_id);
                turn.warn(ReasonCode::AddressNotListed, text);
            } else if !leaving && self.drift.addresses.insert(address) {
                self.drift.found += 1;
                let text = format!("EC2 does not list {address} on {}, but it is in use: kept", view.eni_id);
                turn.error(ReasonCode::AddressNotListed, text);
            }
        }
    }

    /// What EC2 did not list while it was in use is not given out again on our own word: as soon as it is free it is forgotten.
    /// A read that lists it, because the one before lagged, brings it back.
    pub(super) fn forget_what_ec2_does_not_list(&mut self, turn: &mut Turn) {
        let in_use = |address: &Ipv4Addr| {
            self.store.get(*address).is_some_and(|entry| !matches!(entry.state, AddressState::Free { .. }))
        };
        let over: Vec<Ipv4Addr> = self.drift.addresses.iter().copied().filter(|address| !in_use(address)).collect();
        for address in over {
            self.drift.addresses.remove(&address);
            if self.store.forget(address) {
                let text = format!("{address} is in use no more, and EC2 did not list it: forgotten");
                turn.warn(ReasonCode::AddressNotListed, text);
            }
        }
    }

    /// An assign call without a clear answer: the read shows what there is.
    fn resolve_assign(&mut self, turn: &mut Turn, id: &EniId, listed: u32, read_at: BootTime) {
        let per_eni = self.slots_per_eni();
        let now = turn.boot();
        let Some(eni) = self.enis.get_mut(id) else { return };
        let Assign::Resolving { after, limit_hit } = eni.assign else { return };
        if read_at < after {
            return;
        }
        eni.assign = Assign::Idle;
        let refused = limit_hit.map(|asked| listed.saturating_add(asked));
        if refused.is_some_and(|refused| self.guess_addresses_refused(turn, id, refused)) {
            return;
        }
        if let (Some(refused), Some(per_eni), Some(eni)) = (refused, per_eni, self.enis.get_mut(id))
            && refused <= per_eni.0
        {
            // Of one known for a short time only, the read may lag behind what an earlier process asked for.
            let believed = if now.since(eni.known_since) < CAP_BELIEVED { LAG } else { CAP_BELIEVED };
            eni.learned_cap = Some((listed, now + believed));
            let text = format!(
                "EC2 lets {id} hold no more than {listed} addresses and prefixes: taken for its limit for a while"
            );
            turn.warn(ReasonCode::AddressLimit, text);
        }
    }

    fn resolve_requests(&mut self, read_at: BootTime, now: BootTime) {
        let lost: Vec<String> = self
            .requests
            .values()
            .filter(|request| matches!(request.attempt.state, TryState::Resolving(after) if read_at >= after))
            .map(|request| request.token.clone())
            .collect();
        for token in lost {
            self.request_not_found(&token, now);
        }
    }

    /// Takes an address in, and holds it back while the kernel has it.
    pub(super) fn learn_address(&mut self, address: Ipv4Addr, id: &EniId, rest: Option<Rest>, now: BootTime) {
        self.learn_in(address, (id, Slot::Single), rest, now);
    }

    /// Takes a prefix in, address by address.
    pub(super) fn learn_prefix(&mut self, prefix: Ipv4Net, id: &EniId, rest: Option<Rest>, now: BootTime) {
        for address in prefix_addresses(prefix) {
            self.learn_in(address, (id, Slot::Prefix), rest, now);
        }
    }

    fn learn_in(&mut self, address: Ipv4Addr, home: (&EniId, Slot), rest: Option<Rest>, now: BootTime) {
        self.store.learn(address, home, rest, now);
        if let Some(held) = self.kernel.held.get(&address) {
            let link = held.link.clone();
            self.store.hold(address, &link);
        }
    }
}

/// The primary ENI, as far as IMDS tells.
fn primary_eni(facts: &InstanceFacts, now: BootTime) -> Eni {
    let view = EniView {
        eni_id: facts.primary_eni_id.clone(),
        mac: facts.primary_mac,
        vpc_id: Some(facts.vpc_id.clone()),
        subnet_id: facts.subnet_id.clone(),
        primary_address: facts.primary_address,
        secondary_addresses: Vec::new(),
        prefixes: Vec::new(),
        security_group_ids: Vec::new(),
        attachment: None,
        status: String::new(),
        interface_type: String::new(),
        foreign: false,
        description: String::new(),
        tags: Vec::new(),
    };
    let mut eni = Eni::from_view(&view, DeviceIndex(0), Phase::Configuring(Try::due(now)), now);
    eni.primary = true;
    eni
}

/// The network card that an ENI is attached to; 0 for one that is not.
fn network_card(view: &EniView) -> u32 {
    view.attachment.as_ref().map_or(0, |attachment| attachment.network_card)
}

fn place<'a>(view: &'a EniView, facts: &InstanceFacts) -> Place<'a> {
    match &view.attachment {
        None => Place::Detached(view),
        Some(attachment) => {
            let here = attachment.instance_id.as_ref().is_none_or(|instance| *instance == facts.instance_id);
            if here && !matches!(attachment.status.as_str(), "detaching" | "detached") {
                Place::Attached(view, attachment.device_index)
            } else {
                Place::Leaving
            }
        }
    }
}
