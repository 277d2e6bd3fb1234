// SPDX-License-Identifier: Apache-2.0
//! The kernel's witness: which addresses live sandboxes have, whatever our journal says.
//!
//! | journal | kernel has it | kernel does not |
//! |---|---|---|
//! | Allocated | fine | missing; an orphan after 60 s, released then if the runtime agrees ([`super::sandboxes`]) |
//! | Free, Flushing, Leaving | Held: not given out, not unassigned | fine |
//! | Cooling | nothing; Held when it is still so at the end | fine |
//! | Held | fine | Cooling, Flushing, then Free |
//!
//! An observation tells only about what was done before it began.

use std::collections::BTreeSet;

use crate::event::{Failure, KernelView, Outcome};
use crate::ids::{AllocationKey, BootTime, PodRef};
use crate::reason::{NoticeLevel, ReasonCode};
use crate::store::{AddressState, Allocation, Testimony};

use super::ended::unexpected;
use super::state::{ORPHAN_AFTER, Purpose};
use super::{Core, Turn};

impl Core {
    pub(super) fn observe_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        ended: (BootTime, Result<Outcome, Failure>),
    ) {
        let (began, outcome) = ended;
        let failure = match outcome {
            Ok(Outcome::KernelObserved(view)) => {
                self.observe.succeeded(began, turn.boot());
                self.kernel_observed(turn, view, began);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.read_failed(turn, what, failure, |core| &mut core.observe);
    }

    /// `began`: when the observation was started.
    pub(crate) fn kernel_observed(&mut self, turn: &mut Turn, view: KernelView, began: BootTime) {
        self.hold_back(turn, &view, began);
        self.find_orphans(turn, &view, began);
        self.kernel.held = view.held.into_iter().map(|held| (held.address, held)).collect();
    }

    /// Free addresses that the kernel has are held; held ones that it has no more rest.
    fn hold_back(&mut self, turn: &mut Turn, view: &KernelView, began: BootTime) {
        for held in &view.held {
            let settled = self.store.get(held.address).is_some_and(|entry| match &entry.state {
                AddressState::Free { rest } | AddressState::Leaving { rest } => {
                    rest.is_none_or(|rest| rest.released <= began)
                }
                AddressState::Flushing { rest, .. } => rest.released <= began,
                AddressState::Allocated(_) | AddressState::Cooling { .. } | AddressState::Held { .. } => false,
            });
            if settled && self.store.hold(held.address, &held.link) {
                let text = format!(
                    "{} is free by the journal, but {} has it: it is not given out until the kernel lets go",
                    held.address, held.link
                );
                turn.warn(ReasonCode::AddressHeld, text);
            }
        }
        let released: Vec<_> = self
            .store
            .iter()
            .filter(|(_, entry)| matches!(entry.state, AddressState::Held { .. }))
            .map(|(address, _)| address)
            .filter(|address| view.held.iter().all(|held| held.address != *address))
            .collect();
        for address in released {
            turn.notice(NoticeLevel::Info, Some(ReasonCode::AddressHeld), format!("the kernel let {address} go"));
            self.store.let_go(address, turn.boot(), self.config.cooldown);
        }
    }

    /// Allocations without host veth: noted first, released when that stays so.
    fn find_orphans(&mut self, turn: &mut Turn, view: &KernelView, began: BootTime) {
        let (mut missing, mut unwitnessed) = (Vec::new(), Vec::new());
        let mut present = Vec::new();
        // Of nearly all pods the alias says so; the others are looked for one by one.
        let by_alias: BTreeSet<&AllocationKey> = view.held.iter().filter_map(|held| held.key.as_ref()).collect();
        for (address, _, allocation) in self.store.allocations() {
            if allocation.granted_at > began {
                continue;
            }
            let is_held = by_alias.contains(&allocation.key);
            if is_held || testifies(view, address, allocation, &self.config.veth_prefix) {
                if allocation.testimony != Testimony::Present {
                    present.push(address);
                }
                continue;
            }
            match allocation.testimony {
                Testimony::Impossible => unwitnessed.push(address),
                Testimony::Present => missing.push((address, None)),
                Testimony::MissingSince(since) => missing.push((address, Some(since))),
            }
        }
        for address in present {
            self.testify(address, Testimony::Present);
        }
        self.kernel.orphans = !missing.is_empty();
        self.forget_spared(&missing.iter().map(|(address, _)| *address).collect());
        for (address, since) in missing {
            match since {
                None => self.testify(address, Testimony::MissingSince(began)),
                Some(since) if began.since(since) >= ORPHAN_AFTER => self.end_orphan(turn, address, since, began),
                Some(_) => {}
            }
        }
        for address in unwitnessed {
            self.end_unwitnessed(turn, address, began);
        }
    }

    fn testify(&mut self, address: std::net::Ipv4Addr, testimony: Testimony) {
        if let Some(allocation) = self.store.allocation_mut(address) {
            allocation.testimony = testimony;
            self.store.mark_changed(address);
        }
    }
}

/// Whether the kernel has a link for this allocation: by alias, by its address's route, or by its pod's host veth name. A link
/// of that name whose alias names another sandbox is that one's: a re-created StatefulSet pod has the name of the one before.
pub(crate) fn testifies(
    view: &KernelView,
    address: std::net::Ipv4Addr,
    allocation: &Allocation,
    veth_prefix: &str,
) -> bool {
    let by_alias = view.held.iter().any(|held| match &held.key {
        Some(key) => *key == allocation.key,
        None => held.address == address,
    });
    let of_another = |name: &str| {
        view.held.iter().any(|held| held.link == name && held.key.as_ref().is_some_and(|key| *key != allocation.key))
    };
    let by_name = || {
        crate::veth::host_veth(veth_prefix, &allocation.pod)
            .is_some_and(|name| view.host_veths.contains(&name) && !of_another(&name))
    };
    by_alias || by_name()
}

pub(super) fn pod_name(pod: &PodRef) -> String {
    if pod.name.is_empty() { "no pod name".to_owned() } else { format!("{}/{}", pod.namespace, pod.name) }
}
