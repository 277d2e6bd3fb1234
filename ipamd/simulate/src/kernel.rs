// SPDX-License-Identifier: Apache-2.0
//! A node's kernel, as far as it testifies: links of attached ENIs, host veths of pods with their aliases.
//!
//! Links come and go as the VPC model says. A host veth is there from the moment the plugin has made it until the plugin's
//! DEL, which moves it to the dead group, or until its sandbox dies. It survives the daemon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use ipamd_core::BootTime;
use ipamd_core::event::{Failure, FailureClass, HeldAddress, KernelView};
use ipamd_core::ids::{AllocationKey, MacAddr};

use crate::allocator::{KernelAnswer, KernelCall};

/// A node's kernel.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Links by MAC, and whether they are set up.
    links: BTreeMap<MacAddr, bool>,
    /// Host veths.
    pods: BTreeMap<AllocationKey, Ipv4Addr>,
    /// Addresses whose rules a sandbox left that died without a DEL; a new pod of the address takes them over.
    leftovers: BTreeSet<Ipv4Addr>,
    /// Addresses whose connections and neighbours it has forgotten since they came to the node, and since the last pod that had them.
    clean: BTreeSet<Ipv4Addr>,
    /// Those of flushes that failed: they may be given up.
    stubborn: BTreeSet<Ipv4Addr>,
    /// When the thread that talks to it is free.
    pub(crate) free_at: BootTime,
    /// Calls of a kind that will fail: how many.
    failing: VecDeque<KernelCallKind>,
}

/// Kinds of calls, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelCallKind {
    /// [`KernelCall::Host`].
    Host,
    /// [`KernelCall::SetUpLink`].
    SetUpLink,
    /// [`KernelCall::TearDownLink`].
    TearDownLink,
    /// [`KernelCall::Observe`].
    Observe,
    /// [`KernelCall::Flush`].
    Flush,
    /// [`KernelCall::Repair`].
    Repair,
}

impl KernelCall {
    fn kind(&self) -> KernelCallKind {
        match self {
            Self::Host => KernelCallKind::Host,
            Self::SetUpLink { .. } => KernelCallKind::SetUpLink,
            Self::TearDownLink { .. } => KernelCallKind::TearDownLink,
            Self::Observe => KernelCallKind::Observe,
            Self::Flush { .. } => KernelCallKind::Flush,
            Self::Repair { .. } => KernelCallKind::Repair,
        }
    }
}

impl Kernel {
    /// The next call of this kind fails.
    pub fn order_fault(&mut self, kind: KernelCallKind) {
        self.failing.push_back(kind);
    }

    /// No call fails any more.
    pub fn clear_faults(&mut self) {
        self.failing.clear();
    }

    pub(crate) fn link_came(&mut self, mac: MacAddr) {
        self.links.insert(mac, false);
    }

    pub(crate) fn link_went(&mut self, mac: MacAddr) {
        self.links.remove(&mac);
    }

    /// Whether an ENI's link is there and set up.
    #[must_use]
    pub fn is_set_up(&self, mac: MacAddr) -> bool {
        self.links.get(&mac) == Some(&true)
    }

    /// The plugin has made a host veth.
    pub(crate) fn plumb(&mut self, key: AllocationKey, address: Ipv4Addr) {
        self.leftovers.remove(&address);
        self.clean.remove(&address);
        self.pods.insert(key, address);
    }

    /// Addresses come to the node: others had them, and pods of this node may have tried them.
    pub(crate) fn came(&mut self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        for address in addresses {
            self.clean.remove(&address);
            self.stubborn.remove(&address);
        }
    }

    /// Whether it knows nothing of who had an address before, as far as it let itself be told.
    #[must_use]
    pub fn has_forgotten(&self, address: Ipv4Addr) -> bool {
        self.clean.contains(&address) || self.stubborn.contains(&address)
    }

    fn flushed(&mut self, addresses: &[Ipv4Addr]) -> KernelAnswer {
        self.stubborn.retain(|address| !addresses.contains(address));
        self.clean.extend(addresses);
        KernelAnswer::Done
    }

    /// A sandbox dies without a DEL: its host veth goes, its rules stay.
    pub(crate) fn die(&mut self, key: &AllocationKey) {
        self.leftovers.extend(self.pods.remove(key));
    }

    /// A host veth is gone, or in the dead group.
    pub(crate) fn unplumb(&mut self, key: &AllocationKey) {
        self.pods.remove(key);
    }

    /// Who has an address.
    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<&AllocationKey> {
        self.pods.iter().find(|(_, held)| **held == address).map(|(key, _)| key)
    }

    /// What an observation shows.
    #[must_use]
    pub fn view(&self) -> KernelView {
        let held = |(key, address): (&AllocationKey, &Ipv4Addr)| HeldAddress {
            address: *address,
            key: Some(key.clone()),
            link: veth(key),
        };
        KernelView {
            held: self.pods.iter().map(held).collect(),
            host_veths: self.pods.keys().map(veth).collect(),
            link_macs: self.links.keys().copied().collect(),
        }
    }

    /// Carries out a call.
    pub(crate) fn run(&mut self, call: &KernelCall) -> Result<KernelAnswer, Failure> {
        if let Some(index) = self.failing.iter().position(|kind| *kind == call.kind()) {
            self.failing.remove(index);
            if let KernelCall::Flush { addresses } = call {
                self.stubborn.extend(addresses);
            }
            return Err(failure(FailureClass::Kernel, "Errno16", "the kernel is busy (injected)"));
        }
        match call {
            KernelCall::Host => Ok(KernelAnswer::Done),
            KernelCall::Flush { addresses } => Ok(self.flushed(addresses)),
            KernelCall::SetUpLink { mac } => match self.links.get_mut(mac) {
                Some(set_up) => {
                    *set_up = true;
                    Ok(KernelAnswer::Configured)
                }
                None => Err(failure(FailureClass::LinkMissing, "LinkMissing", "no link has this MAC")),
            },
            KernelCall::TearDownLink { mac } => {
                if let Some(set_up) = self.links.get_mut(mac) {
                    *set_up = false;
                }
                Ok(KernelAnswer::Done)
            }
            KernelCall::Observe => Ok(KernelAnswer::Observed(self.view())),
            KernelCall::Repair { spared, sweep } => Ok(self.repair(spared, sweep)),
        }
    }
}

impl Kernel {
    /// What sandboxes left that died without a DEL goes when it is named and nobody needs it.
    fn repair(&mut self, spared: &[IpAddr], sweep: &[IpAddr]) -> KernelAnswer {
        let live: BTreeSet<Ipv4Addr> = self.pods.values().copied().collect();
        let spares = |address: &Ipv4Addr| live.contains(address) || spared.contains(&IpAddr::from(*address));
        let goes = |address: &Ipv4Addr| sweep.contains(&IpAddr::from(*address)) && !spares(address);
        let swept = self.leftovers.iter().copied().filter(goes).map(IpAddr::from).collect();
        self.leftovers.retain(|address| !goes(address));
        let orphans = self.leftovers.iter().copied().filter(|address| !spares(address)).map(IpAddr::from).collect();
        KernelAnswer::Repaired { swept, orphans }
    }

    /// Addresses whose rules are there.
    #[must_use]
    pub fn leftovers(&self) -> &BTreeSet<Ipv4Addr> {
        &self.leftovers
    }
}

/// The name of a host veth: nothing but its alias is read.
fn veth(key: &AllocationKey) -> String {
    format!("eni{}", key.container_id)
}

fn failure(class: FailureClass, code: &str, message: &str) -> Failure {
    Failure { class, code: code.to_owned(), message: message.to_owned(), retry_after: None }
}
