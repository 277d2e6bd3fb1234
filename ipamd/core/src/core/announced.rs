// SPDX-License-Identifier: Apache-2.0
//! Pods that Kubernetes has bound to this node and that have not asked for an address yet: demand before it comes.
//!
//! Told by [`Event::PodsBound`](crate::Event::PodsBound), the whole set each time, so that what was missed mends itself. A
//! pod stops being announced when its ADD comes, by its namespace and name. The pool grows for the rest as for ADDs that
//! wait, without their priority; a bound pod that never asks (a volume that does not come) keeps an address free, and
//! nothing else stands still for it.

use std::collections::BTreeSet;

use crate::ids::PodRef;
use crate::planner::Addresses;

use super::Core;

/// Which pods are bound, and how many of them are still to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    pub(super) bound: BTreeSet<PodRef>,
    /// Counted when the state is advanced.
    pub(super) pods: Addresses,
}

impl Core {
    pub(super) fn count_announced(&mut self) {
        if self.announced.bound.is_empty() {
            self.announced.pods = Addresses::ZERO;
            return;
        }
        let served = self.store.allocations().map(|(_, _, allocation)| &allocation.pod);
        let known: BTreeSet<&PodRef> = served.chain(self.waiters.iter().map(|waiter| &waiter.pod)).collect();
        let coming = self.announced.bound.iter().filter(|pod| !known.contains(pod)).count();
        self.announced.pods = Addresses(u32::try_from(coming).unwrap_or(u32::MAX));
    }

    /// Whether a pod waits for an address, or is going to ask for one.
    pub(super) fn is_expected(&self) -> bool {
        !self.waiters.is_empty() || self.announced.pods > Addresses::ZERO
    }
}
