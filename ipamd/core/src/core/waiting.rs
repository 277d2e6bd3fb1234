// SPDX-License-Identifier: Apache-2.0
//! The queue's three ends: an address, a refusal because nothing can come in time, a refusal because the time is over.
//!
//! Addresses are given out from proven ENIs only, and only once the host's own network is set up; the fullest ENI and
//! its fullest prefix first, so that the emptiest can be given back. A waiter stays as long as something could come for it inside its budget, counted
//! from the front of the queue; what could come is in `outlook`.

use crate::action::Reply;
use crate::ids::{BootTime, EniId};
use crate::reason::Refusal;
use crate::store::Slot;
use crate::waiters::Waiter;

use super::{Core, Turn};

impl Core {
    pub(super) fn serve_waiters(&mut self, turn: &mut Turn) {
        let keys: Vec<_> = self.waiters.iter().map(|waiter| waiter.key.clone()).collect();
        let mut dry = self.host.applied.is_none() || !self.exclusions_known();
        for key in keys {
            if let Some(address) = self.store.address_of(&key) {
                // It has one from the journal; its ENI has become known since it asked.
                if self.allocated(address).is_some()
                    && let Some(waiter) = self.waiters.take(&key)
                {
                    self.answer(turn, &waiter, address);
                }
            } else if !dry {
                dry = !self.serve(turn, &key);
            }
        }
    }

    /// Gives the sandbox an address; `false`: there is none.
    fn serve(&mut self, turn: &mut Turn, key: &crate::ids::AllocationKey) -> bool {
        let order = self.giving_order(turn.boot());
        let homes = order.iter().map(|(id, slot)| (id, *slot));
        let Some(address) = self.store.choose(homes, |id, prefix| self.is_proven(id, prefix)) else { return false };
        let Some(waiter) = self.waiters.take(key) else { return true };
        let Some(request) = waiter.calls.first().map(|call| call.request) else { return true };
        let allocation = Self::new_allocation(turn, &waiter.key, &waiter.pod, request);
        self.store.allocate(address, allocation);
        turn.debug(format!("{address} given to {key} after {} ms", turn.now.boot.since(waiter.since).as_millis()));
        self.answer(turn, &waiter, address);
        true
    }

    fn answer(&self, turn: &mut Turn, waiter: &Waiter, address: std::net::Ipv4Addr) {
        let Some(allocated) = self.allocated(address) else { return };
        for call in &waiter.calls {
            turn.fx.replies.push(Reply::Add { request: call.request, result: Ok(allocated.clone()) });
        }
    }

    /// ENIs that give addresses out, fullest first; first with what meets the target, then with what is on its way out.
    /// Where both kinds meet it, prefixes go first: single addresses are given back before them.
    fn giving_order(&self, now: BootTime) -> Vec<(EniId, Slot)> {
        let mut order = Vec::new();
        for eni in self.enis.values().filter(|eni| eni.gives_out()) {
            let Some(book) = self.store.book(&eni.eni_id) else { continue };
            for slot in [Slot::Prefix, Slot::Single] {
                if book.of(slot).free > 0 {
                    let out = !self.counts(eni, slot, now);
                    let place = (std::cmp::Reverse(book.all().allocated), eni.device_index);
                    order.push(((out, slot == Slot::Single, place), (eni.eni_id.clone(), slot)));
                }
            }
        }
        order.sort();
        order.into_iter().map(|(_, home)| home).collect()
    }

    /// Refuses the calls whose time is over.
    pub(super) fn answer_expired(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if self.waiters.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let refusal = self.what_was_waited_for(now);
        for call in self.waiters.take_expired(now) {
            turn.fx.replies.push(Reply::Add { request: call.request, result: Err(refusal.clone()) });
        }
    }

    /// Refuses the waiters that nothing can come for inside their budget.
    pub(super) fn refuse_hopeless(&mut self, turn: &mut Turn) {
        if self.waiters.is_empty() {
            return;
        }
        let now = turn.boot();
        let outlook = self.outlook(now);
        let mut ahead = 0;
        let mut hopeless: Vec<(crate::ids::AllocationKey, BootTime)> = Vec::new();
        for waiter in self.waiters.iter() {
            // One that holds an address already waits for its ENI to be learned, not for an address.
            let waits_for_eni = self.store.address_of(&waiter.key).is_some() && !self.learned;
            if waits_for_eni {
                continue;
            }
            if outlook.by(waiter.deadline()) > ahead {
                ahead += 1;
            } else {
                hopeless.push((waiter.key.clone(), waiter.deadline()));
            }
        }
        for (key, deadline) in hopeless {
            let refusal = self.why_nothing_comes(now, deadline);
            let Some(waiter) = self.waiters.take(&key) else { continue };
            for call in waiter.calls {
                turn.fx.replies.push(Reply::Add { request: call.request, result: Err(refusal.clone()) });
            }
        }
    }

    /// What a waiter would be refused with now.
    pub(super) fn present_refusal(&self, now: BootTime) -> Refusal {
        self.what_was_waited_for(now)
    }
}
