// SPDX-License-Identifier: Apache-2.0
//! GC: the runtime says which sandboxes of a network there are; allocations of others are released.
//!
//! | allocation's key | what the kernel showed last | granted | |
//! |---|---|---|---|
//! | of another network, or on the list | | | stays |
//! | on no list | | less than `spare_younger` ago | stays: its ADD may have come after the list was made, or after the plugin took it down |
//! | taken down by the plugin just now | | before | released, as by a DEL |
//! | on no list | a live host veth of this key | before | stays: the plugin has not taken it down, so it knows better |
//! | on no list | a live host veth without a key, routed its address | before | stays: a pod of the reference |
//! | on no list | none | before | released |
//!
//! "Granted" begins anew when an ADD is repeated, and with the daemon: what a restart has read from its journal is spared for that
//! long, also what the plugin has taken down meanwhile. What stays without reason is an orphan ([`super::kernel`]) 60 s after it is
//! seen to be gone, or the next GC's.
//!
//! Waiters are left alone: an ADD that waits is in no list yet.

use crate::action::{Freed, Reply};
use crate::event::Garbage;
use crate::ids::RequestId;
use crate::store::Allocation;

use super::{Core, Turn};

impl Core {
    pub(super) fn gc_requested(&mut self, turn: &mut Turn, request: RequestId, garbage: &Garbage) {
        let now = turn.boot();
        let is_held = |address, allocation: &Allocation| {
            let held = self.kernel.held.get(&address);
            held.is_some_and(|held| held.key.as_ref().is_none_or(|key| *key == allocation.key))
        };
        let stale = self.store.allocations().filter(|(address, _, allocation)| {
            let key = &allocation.key;
            let is_of_list = key.network == garbage.network && !garbage.keep.contains(key);
            let is_old = now.since(allocation.granted_at) >= garbage.spare_younger;
            is_of_list && is_old && (garbage.gone.contains(key) || !is_held(*address, allocation))
        });
        let stale: Vec<_> = stale.map(|(_, _, allocation)| (allocation.key.clone(), allocation.pod.clone())).collect();
        let mut released = Vec::new();
        for (key, pod) in stale {
            if let Some(allocated) = self.release_key(turn, &key) {
                turn.info(format!(
                    "{} of {key} ({}) is released: the runtime has no such sandbox",
                    allocated.address,
                    super::kernel::pod_name(&pod)
                ));
                released.push(Freed { key, pod, allocated });
            }
        }
        turn.fx.replies.push(Reply::Gc { request, released });
    }
}
