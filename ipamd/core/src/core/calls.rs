// SPDX-License-Identifier: Apache-2.0
//! Calls of the plugin: ADD, DEL, tombstones. (GC: [`super::garbage`].)
//!
//! An ADD for a key that holds an address gets the same one, whatever its ENI is doing. Any other goes to the queue's end;
//! `advance` serves it in the same turn when an address is free. A DEL always succeeds, at once, and waits for nobody.

use crate::action::{Action, ActionKind, Allocated, Plumbing, Priority, Reply};
use crate::ids::{ActionId, AllocationKey, DeviceIndex, EniId, PodRef, RequestId, RouteTable};
use crate::reason::{ReasonCode, Refusal};
use crate::store::{Allocation, Testimony};
use crate::waiters::Call;

use super::{Core, Turn};

/// Tombstones remembered as done; older ones have long been removed from disk.
const MOST_TOMBSTONES_DONE: usize = 256;
/// Keys migrated from the time before CNI keys, as the reference wrote them (`pkg/ipamd/datastore`).
const MIGRATED_NETWORK: &str = "_migrated-from-cri";
const MIGRATED_IFNAME: &str = "unknown";

impl Core {
    pub(super) fn add_requested(&mut self, turn: &mut Turn, key: AllocationKey, pod: PodRef, call: Call) {
        if let Some(address) = self.store.address_of(&key) {
            let known_eni = self.store.get(address).is_some_and(|entry| entry.eni.is_some());
            let now = turn.boot();
            if let Some(allocation) = self.store.allocation_mut(address) {
                // The caller is about to plumb (again): its host veth may be missing for a while.
                allocation.granted_at = now;
                if allocation.testimony != Testimony::Present {
                    allocation.testimony = Testimony::Present;
                    self.store.mark_changed(address);
                }
            }
            if known_eni {
                let result = self.allocated(address).ok_or_else(|| superseded("its address was lost"));
                turn.fx.replies.push(Reply::Add { request: call.request, result });
                return;
            }
        }
        if self.store.address_of(&key).is_none() && self.waiters.iter().all(|waiter| waiter.key != key) {
            let before = self.adaptive.memory();
            self.adaptive.arrived(turn.boot());
            if self.adapts() && self.adaptive.memory() != before {
                self.touch();
            }
        }
        self.waiters.join(key, pod, call, turn.boot());
    }

    pub(super) fn del_requested(&mut self, turn: &mut Turn, request: RequestId, key: &AllocationKey) {
        if let Some(waiter) = self.waiters.take(key) {
            for call in waiter.calls {
                let result = Err(superseded("a DEL for the same sandbox came while the ADD was waiting"));
                turn.fx.replies.push(Reply::Add { request: call.request, result });
            }
        }
        let released = self.release_key(turn, key);
        turn.fx.replies.push(Reply::Del { request, released });
    }

    pub(super) fn tombstone_found(&mut self, turn: &mut Turn, key: AllocationKey) {
        // Done before and found again: it was not removed in time, and the key may be in use anew.
        if !self.tombstones_done.contains(&key) {
            self.release_key(turn, &key);
            self.tombstones_done.push_back(key.clone());
            if self.tombstones_done.len() > MOST_TOMBSTONES_DONE {
                self.tombstones_done.pop_front();
            }
            self.touch();
        }
        self.forgets.push(key);
    }

    /// Removes tombstones whose release is in the journal that these effects write.
    pub(super) fn forget_tombstones(&mut self, turn: &mut Turn) {
        for key in std::mem::take(&mut self.forgets) {
            self.next_action += 1;
            let id = ActionId(self.next_action);
            let kind = ActionKind::ForgetTombstone { key };
            turn.fx.actions.push(Action { id, priority: Priority::Release, kind });
        }
    }

    pub(super) fn release_key(&mut self, turn: &mut Turn, key: &AllocationKey) -> Option<Allocated> {
        let migrated = AllocationKey {
            network: MIGRATED_NETWORK.to_owned(),
            container_id: key.container_id.clone(),
            ifname: MIGRATED_IFNAME.to_owned(),
        };
        let address = self.store.address_of(key).or_else(|| self.store.address_of(&migrated))?;
        let released = self.allocated(address).unwrap_or(Allocated {
            address,
            eni_id: EniId::from(""),
            device_index: DeviceIndex(0),
            network_card: 0,
            table: RouteTable::MAIN,
            plumbing: Plumbing::OwnRules,
        });
        self.store.release(address, turn.boot(), self.config.cooldown);
        turn.debug(format!("{address} released by {key}"));
        Some(released)
    }

    /// What an ADD or DEL is told of an address; `None`: its ENI is not known yet.
    pub(super) fn allocated(&self, address: std::net::Ipv4Addr) -> Option<Allocated> {
        let entry = self.store.get(address)?;
        let eni_id = entry.eni.clone()?;
        let eni = self.enis.get(&eni_id)?;
        let (network_card, device_index) = (eni.network_card, eni.device_index);
        let table = RouteTable::of_eni(network_card, device_index);
        Some(Allocated { address, eni_id, device_index, network_card, table, plumbing: self.plumbing(eni, entry.slot) })
    }

    /// A fresh allocation for a waiter's first call.
    pub(super) fn new_allocation(turn: &Turn, key: &AllocationKey, pod: &PodRef, request: RequestId) -> Allocation {
        Allocation {
            key: key.clone(),
            pod: pod.clone(),
            allocated_unix_nanos: turn.now.unix_nanos,
            granted_at: turn.boot(),
            request: Some(request),
            before: None,
            testimony: Testimony::Present,
        }
    }
}

fn superseded(cause: &str) -> Refusal {
    Refusal { code: ReasonCode::Superseded, cause: cause.to_owned(), retry_after: None }
}
