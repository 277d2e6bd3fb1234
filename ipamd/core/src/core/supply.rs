// SPDX-License-Identifier: Apache-2.0
//! Whether the next ADD gets an address: for those who tell Kubernetes.
//!
//! The queue's own word: an ADD that comes now, behind those who wait, with the whole budget. It gets none when nothing can come
//! in that time ([`super::outlook`]), or when ADDs have waited so long that something does not come although it could. A pool
//! that can grow in time is not short, however few addresses are free. Other than for an ADD, what an exhausted subnet may have once
//! it has rested is not counted: it has not, as a rule, and a node that says so must not take it back for every rest that ends soon.

use std::time::Duration;

use crate::ids::BootTime;
use crate::snapshot::SupplySnapshot;

use super::Core;
use super::undurable::not_durable;

/// The budget of an ADD less the margin of its answer (`ipam_api::ADD_BUDGET`, `ANSWER_MARGIN`).
const BUDGET: Duration = Duration::from_millis(19_500);
/// Half of it: an ADD that has waited so long does so in vain, or may.
const LATE: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn show_supply(&self, now: BootTime) -> SupplySnapshot {
        let refusal = if let Some(undurable) = &self.undurable {
            Some(not_durable(&undurable.message))
        } else if !self.is_serving() || self.waits_in_vain(now) {
            Some(self.what_was_waited_for(now))
        } else if self.sober_outlook(now).by(now + BUDGET) > self.waiters.len() {
            None
        } else {
            Some(self.why_nothing_comes(now, now + BUDGET))
        };
        refusal.map_or_else(SupplySnapshot::default, |refusal| SupplySnapshot {
            code: Some(refusal.code),
            text: refusal.cause,
        })
    }

    /// Whether an ENI in service has addresses that pods have or may get. Where the pool may not grow (the node is cordoned, or ENIs
    /// are someone else's business) the ENI is enough: others, who may wait for the node, must do something first.
    pub(super) fn has_addresses(&self) -> bool {
        let waits_for_none = !self.may_scale();
        self.enis.values().filter(|eni| eni.gives_back()).any(|eni| {
            let tally = self.store.tally(&eni.eni_id);
            waits_for_none || tally.busy() > 0 || (eni.gives_out() && tally.total() > 0)
        })
    }

    fn waits_in_vain(&self, now: BootTime) -> bool {
        self.waiters.iter().any(|waiter| now.since(waiter.since) >= LATE)
    }
}
