// SPDX-License-Identifier: Apache-2.0
//! What the instance may hold: the table's word, else DescribeInstanceTypes', else what EC2's refusals teach.
//!
//! ```text
//!   type in the table ───────────────────────────────► its row
//!   not in it: an earlier run's answer (journal) ─────► that
//!              EC2 answers ──────────────────────────► that, and the journal keeps it
//!              EC2 does not (denied, unreachable) ────► planner::guess, and the journal keeps it
//! ```
//!
//! An answer that comes late takes the guess's place.

use instance_limits::{CardLimits, Hypervisor, InstanceLimits, Trunking};

use crate::checkpoint::{CardRecord, LimitsRecord};
use crate::event::Failure;
use crate::ids::EniId;
use crate::lifecycle::Phase;
use crate::planner::guess::Guess;
use crate::reason::ReasonCode;

use super::{Core, Turn};

impl Core {
    pub(super) fn limits_learned(&mut self, turn: &mut Turn, limits: InstanceLimits) {
        let was_guessed = self.guess.take().is_some();
        if was_guessed || self.limits.as_ref() != Some(&limits) {
            self.limits = Some(limits);
            self.touch();
        }
        self.tell_mode(turn);
    }

    /// EC2 does not tell the type's limits; it is asked again meanwhile.
    pub(super) fn limits_unavailable(&mut self, turn: &mut Turn, failure: &Failure) {
        if self.limits.is_some() {
            return;
        }
        let kind = self.facts.as_ref().map_or("", |facts| facts.instance_type.as_str());
        let Failure { code, message, .. } = failure;
        let text = format!("the limits of {kind} are not to be had ({code}: {message}): they are found out by trying");
        turn.warn(ReasonCode::LimitsUnknown, text);
        self.guess = Some(Guess::default());
        self.update_guess();
        self.touch();
    }

    /// What there is certainly fits.
    pub(super) fn update_guess(&mut self) {
        let Some(mut guess) = self.guess else { return };
        let attached = |phase: &Phase| matches!(phase, Phase::Configuring(_) | Phase::Ready | Phase::Draining(_));
        let ours = self.enis.values().filter(|eni| attached(&eni.phase)).count();
        let others = self.others.values().filter(|other| other.network_card == 0).count();
        guess.enis.saw(u32::try_from(ours + others).unwrap_or(u32::MAX));
        // An ENI that is not attached may have any number of addresses.
        let proven = self.enis.values().filter(|eni| attached(&eni.phase)).map(|eni| &eni.eni_id);
        let most = proven.filter_map(|id| self.store.book(id)).map(|book| book.slots()).max();
        guess.addresses.saw(most.unwrap_or(0));
        self.take_guess(guess);
    }

    /// EC2 takes no more ENIs than there are; `false`: the limits are not guessed.
    pub(super) fn guess_enis_refused(&mut self, count: u32) -> bool {
        let Some(mut guess) = self.guess else { return false };
        guess.enis.was_refused(count);
        self.take_guess(guess);
        true
    }

    /// EC2 lets an ENI hold no so many addresses; `false`: the limits are not guessed.
    pub(super) fn guess_addresses_refused(&mut self, turn: &mut Turn, id: &EniId, count: u32) -> bool {
        let Some(mut guess) = self.guess else { return false };
        guess.addresses.was_refused(count);
        self.take_guess(guess);
        turn.info(format!("EC2 does not let {id} hold {count} addresses: fewer are tried for"));
        true
    }

    /// EC2 has refused twice to attach an ENI with the addresses that it has, and always will: the ENI goes. If it has more than we
    /// think that it may, another one takes its place, the first time at once; if not, another one would fare no better.
    pub(super) fn never_attached(&mut self, turn: &mut Turn, id: &EniId, failure: Failure) {
        let seen = self.described.get(id).map(|view| view.secondary_addresses.len() + view.prefixes.len());
        let known = self.store.book(id).map_or(0, crate::store::Book::slots);
        let count = known.max(seen.and_then(|seen| u32::try_from(seen).ok()).unwrap_or(0));
        let as_planned = self.slots_per_eni().is_none_or(|most| count <= most.0);
        // Somebody may fill each ENI that we make.
        let again = std::mem::replace(&mut self.unattachable, true);
        let would_be_refused = as_planned && !self.guess_addresses_refused(turn, id, count);
        if would_be_refused || again {
            self.hold_creates(failure, turn.boot());
        }
        let text = format!("EC2 does not attach {id} with {count} addresses and prefixes: it is deleted");
        turn.warn(ReasonCode::AddressLimit, text);
        self.delete_unattached(turn, id);
    }

    fn take_guess(&mut self, guess: Guess) {
        let limits = Some(guess.limits());
        if self.guess != Some(guess) || self.limits != limits {
            self.guess = Some(guess);
            self.limits = limits;
            self.touch();
        }
    }

    /// What the journal keeps: only what the table does not have.
    pub(super) fn record_limits(&self) -> Option<LimitsRecord> {
        let instance_type = self.facts.as_ref()?.instance_type.clone();
        let limits = self.limits.as_ref().filter(|_| instance_limits::lookup(&instance_type).is_none())?;
        Some(LimitsRecord {
            instance_type,
            cards: limits.cards.iter().map(|card| CardRecord { index: card.index, max_enis: card.max_enis }).collect(),
            default_card: limits.default_card,
            ipv4_per_eni: limits.ipv4_per_eni,
            takes_prefixes: limits.takes_prefixes(),
            guess: self.guess,
        })
    }

    /// What an earlier run learned.
    pub(crate) fn restore_limits(&mut self, record: &LimitsRecord) {
        let of_this_type = self.facts.as_ref().is_some_and(|facts| facts.instance_type == record.instance_type);
        if !of_this_type || record.cards.is_empty() {
            return;
        }
        self.guess = record.guess;
        let cards: Vec<CardLimits> =
            record.cards.iter().map(|card| CardLimits { index: card.index, max_enis: card.max_enis }).collect();
        self.limits = Some(InstanceLimits {
            cards: cards.into(),
            default_card: record.default_card,
            ipv4_per_eni: record.ipv4_per_eni,
            ipv6_per_eni: None,
            hypervisor: if record.takes_prefixes { Hypervisor::Nitro } else { Hypervisor::Unknown },
            bare_metal: false,
            trunking: Trunking::Unknown,
            vcpus: None,
        });
    }

    /// One slot is kept for a trunk that is not there yet, on types that take one.
    pub(super) fn trunk_slots(&self) -> u32 {
        let takes_one =
            self.limits.as_ref().is_some_and(|limits| matches!(limits.trunking, Trunking::Supported { .. }));
        let there = self.others.values().any(|other| other.why == crate::tags::A_TRUNK);
        u32::from(self.config.keeps_trunk_slot && takes_one && !there)
    }
}
