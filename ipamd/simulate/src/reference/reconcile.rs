// SPDX-License-Identifier: Apache-2.0
//! The reference's reconcile: once a minute without other action, the store is made to say what IMDS says.
//!
//! An ENI or block that is gone is forgotten by force, pods or not; an unknown ENI is tagged and taken up.
//!
//! Source: the reference (amazon-vpc-cni-k8s v1.23), `nodeIPPoolReconcile`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_model::EniId;
use vpc_model::imds::{ImdsEni, ImdsView};

use super::agent::{Agent, blocks};

/// Since the last action.
const IDLE: Duration = Duration::from_secs(60);
/// How long a block that was given back is not taken up again.
const FREED: Duration = Duration::from_secs(60);

impl Agent {
    pub(super) async fn reconcile(&self) {
        if self.now().saturating_sub(self.state.borrow().last_action) < IDLE {
            return;
        }
        let Ok(view) = self.desk.imds().await else { return };
        if view.enis.is_empty() {
            return;
        }
        if self.take_up_and_compare(&view).await.is_err() {
            return;
        }
        let state = &mut *self.state.borrow_mut();
        let listed: BTreeSet<EniId> = view.enis.iter().map(|eni| EniId::from(eni.eni_id.as_str())).collect();
        let gone: Vec<EniId> = state.store.enis().filter(|eni| !listed.contains(eni)).cloned().collect();
        gone.iter().for_each(|eni| state.store.remove_eni(eni));
        state.last_action = state.now;
    }

    async fn take_up_and_compare(&self, view: &ImdsView) -> Result<(), ()> {
        let known = |eni: &ImdsEni| self.state.borrow().store.has_eni(&EniId::from(eni.eni_id.as_str()));
        let (old, new): (Vec<&ImdsEni>, Vec<&ImdsEni>) = view.enis.iter().partition(|eni| known(eni));
        let described = match new.is_empty() {
            true => Vec::new(),
            false => self.describe_all(view).await.map_err(|_| ())?,
        };
        for eni in old {
            self.compare(eni).await;
        }
        for eni in new {
            let described = described.iter().find(|described| described.eni_id.as_str() == eni.eni_id);
            let tags = described.map(|described| described.tags.as_slice()).unwrap_or_default();
            if self.tag(&eni.eni_id, tags).await.is_ok() {
                // A failure skips the ENI until the next time.
                let _ = self.set_up(eni).await;
            }
        }
        Ok(())
    }

    /// Makes the store's blocks of an ENI those of IMDS, or of EC2 when the two differ.
    async fn compare(&self, eni: &ImdsEni) {
        let id = EniId::from(eni.eni_id.as_str());
        let held: BTreeSet<Ipv4Net> = self.state.borrow().store.blocks(&id).into_iter().collect();
        let mut seen: BTreeSet<Ipv4Net> = blocks(eni).into_iter().collect();
        if seen == held {
            return;
        }
        match self.described_blocks(&id).await {
            Ok(described) => seen = described.into_iter().collect(),
            Err(_) => return,
        }
        let state = &mut *self.state.borrow_mut();
        let now = state.now;
        state.freed.retain(|_, at| now.saturating_sub(*at) < FREED);
        for block in seen.iter().filter(|block| !state.freed.contains_key(block)) {
            state.store.add_block(&id, *block);
        }
        held.difference(&seen).for_each(|block| state.store.remove_block(&id, block));
    }
}
