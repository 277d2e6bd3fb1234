// SPDX-License-Identifier: Apache-2.0
//! What the world checks by itself, in every test: what must be true of an address that is given out, and of the machine's state
//! after each event.

use std::net::Ipv4Addr;

use crate::Snapshot;
use crate::action::{Action, ActionKind, Fill};
use crate::config::{Layout, SubnetChoice};
use crate::event::Event;
use crate::ids::{AllocationKey, EniId};
use crate::store::prefix_of;

use super::{World, has};

impl World {
    pub(super) fn check_given(&self, key: &AllocationKey, address: Ipv4Addr, eni_id: &EniId) {
        for (owner, theirs) in &self.ledger.owner {
            assert!(owner == key || *theirs != address, "{address} of {owner} was given to {key} too");
        }
        if self.ledger.owner.get(key) == Some(&address) || self.ledger.ghosts.get(key) == Some(&address) {
            return;
        }
        assert!(!self.ledger.owner.contains_key(key), "{key} got a second address");
        assert!(
            self.ledger.resting_until.get(&address).is_none_or(|until| *until <= self.now.boot),
            "{address} was given out before its cooldown ended"
        );
        assert!(
            !self.ledger.unflushed.contains(&address) || self.gave_flushes_up(),
            "{address} was given out before the kernel forgot its last pod"
        );
        assert!(
            !self.ledger.fresh.contains(&address) || self.gave_flushes_up(),
            "{address} came from EC2 and was given out unflushed"
        );
        let is_at_work = |action: &Action| match &action.kind {
            ActionKind::FlushAddresses { addresses, until } => addresses.contains(&address) && self.now.boot < *until,
            _ => false,
        };
        assert!(
            !self.pending.iter().any(|(_, action)| is_at_work(action)),
            "{address} was given while a flush of it may still be at work"
        );
        assert!(self.proven.contains(eni_id), "{address} is on {eni_id}, which is not proven");
        let by_itself = self.enis.get(eni_id).is_some_and(|eni| eni.view.secondary_addresses.contains(&address));
        let has_rule = self.steered.get(eni_id).is_some_and(|prefixes| prefixes.contains(&prefix_of(address)));
        let needs_rule = self.config.layout == Layout::Flat && *eni_id != self.facts.primary_eni_id && !by_itself;
        assert!(!needs_rule || has_rule, "{address} is in a prefix of {eni_id} that has no rule");
        let on_eni = self.enis.get(eni_id).is_some_and(|eni| eni.view.attachment.is_some() && has(&eni.view, address));
        assert!(on_eni, "{address} is not on {eni_id} in EC2");
        let owner = self.pods.iter().find(|(_, held)| **held == address).map(|(owner, _)| owner);
        assert!(owner.is_none_or(|owner| owner == key), "{address} is in use by {owner:?}");
    }

    /// With custom networking: nothing for pods outside the subnets that the ENIConfig names now, not even once more what was asked
    /// for under an older one, nor on the primary ENI.
    pub(super) fn check_place(&self, kind: &ActionKind) {
        match kind {
            _ if self.config.subnets != SubnetChoice::EniConfig => {}
            ActionKind::CreateEni { subnet_id, .. } => {
                assert!(self.opened.contains(subnet_id), "the ENIConfig does not name {subnet_id}: {kind:?}");
            }
            ActionKind::Assign { eni_id, .. } => {
                assert_ne!(*eni_id, self.facts.primary_eni_id, "the primary ENI serves the node alone");
            }
            _ => {}
        }
    }

    pub(super) fn check_state(&mut self) {
        if let Some(wake) = self.core.next_deadline() {
            assert!(wake > self.now.boot, "a deadline that has come already");
        }
        let snapshot: Snapshot = self.core.snapshot(self.now);
        assert!(snapshot.pool.shortfall == 0 || snapshot.pool.surplus == 0);
        if let Some(max) = snapshot.pool.max_enis.filter(|_| snapshot.other_enis.is_empty()) {
            let reason = "more ENIs than the limits allow";
            // One that a lagging read hid comes back as one too many, and must be on its way out at once.
            let leaving = snapshot.enis.iter().filter(|eni| matches!(eni.state.as_str(), "Detaching" | "Deleting"));
            let back = if self.has_lagged { u32::try_from(leaving.count()).expect("few") } else { 0 };
            let enis = snapshot.pool.enis.saturating_sub(back);
            // Those that a limit was lowered beneath go in their own time, and none comes.
            self.above_limit = self.above_limit.min(snapshot.pool.enis);
            let fits = enis <= max.max(1).max(self.above_limit);
            assert!(fits || self.core.learned_enis.is_some(), "{reason}: {snapshot:?}");
        }
        for eni in &snapshot.enis {
            let most = self.core.slots_per_eni().map_or(0, |most| most.0);
            let known = eni.eni_id.as_ref().and_then(|id| self.core.enis.get(id));
            let assigning = known.and_then(crate::core::pool::assigning).map_or(0, Fill::slots);
            let slots = known.and_then(|eni| self.core.store.book(&eni.eni_id)).map_or(0, crate::store::Book::slots);
            // A guess may be lowered while a call that went by the higher one is under way.
            assert!(slots + assigning <= most.max(slots) || self.core.guess.is_some(), "{eni:?}");
        }
        self.looks += 1;
        if self.looks.is_multiple_of(32) {
            self.core.store.audit();
        }
        // Advancing again at the same time does nothing.
        let again = self.core.handle(Event::Tick, self.now);
        assert!(again.actions.is_empty() && again.replies.is_empty() && !again.persist, "not a fixed point: {again:?}");
    }
}
