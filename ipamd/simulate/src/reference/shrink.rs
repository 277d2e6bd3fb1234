// SPDX-License-Identifier: Apache-2.0
//! How the reference lets go: addresses and prefixes above the target, then one ENI that nothing needs.
//!
//! The store forgets first and EC2 is told after; what EC2 refuses comes back at a reconcile.
//!
//! Source: the reference (amazon-vpc-cni-k8s v1.23), `decreaseDatastorePool`, `tryUnassignCidrsFromAll`, `tryFreeENI`.

use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_model::EniId;

use super::agent::Agent;
use super::wire;

/// Between two shrinks.
const BETWEEN_SHRINKS: Duration = Duration::from_secs(30);

impl Agent {
    /// Gives this many addresses or prefixes back, if the last time is long enough ago.
    pub(super) async fn shrink(&self, over: u32) {
        let (now, last) = (self.now(), self.state.borrow().last_shrink);
        if over == 0 || now.saturating_sub(last) <= BETWEEN_SHRINKS {
            return;
        }
        let mut over = usize::try_from(over).unwrap_or(usize::MAX);
        let freeable = {
            let state = &mut *self.state.borrow_mut();
            state.store.freeable(&mut state.dice)
        };
        for (eni, mut blocks) in freeable {
            blocks.truncate(over);
            over -= blocks.len();
            self.forget(&eni, &blocks);
            if !blocks.is_empty() {
                // A refusal is logged; the reconcile finds what is still there.
                let _ = self.desk.ec2(wire::unassign(eni.as_str(), &blocks)).await;
            }
        }
        let mut state = self.state.borrow_mut();
        state.last_shrink = state.now;
        state.last_action = state.now;
    }

    fn forget(&self, eni: &EniId, blocks: &[Ipv4Net]) {
        let state = &mut *self.state.borrow_mut();
        for block in blocks {
            state.store.remove_block(eni, block);
            state.freed.insert(*block, state.now);
        }
    }

    /// Frees one ENI, if there is one that can go.
    pub(super) async fn free_an_eni(&self) {
        let eni = {
            let state = &mut *self.state.borrow_mut();
            let eni = state.store.eni_to_free(&self.rules, state.now, &mut state.dice);
            eni.inspect(|eni| state.store.remove_eni(eni))
        };
        if let Some(eni) = eni {
            self.release(&eni).await;
        }
    }
}
