// SPDX-License-Identifier: Apache-2.0
//! What must be in the kernel at any time, and what a look at it found: the words that core and host edge share about repair.
//!
//! When a look is due and what follows from it is decided in `core::repair`; which writes are needed in the datapath.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::action::{EniPlan, HostPlan, Plumbing};
use crate::ids::{AllocationKey, DeviceIndex, EniId, RouteTable};

/// The kernel told that something which may be ours was changed by another hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelChange {
    /// Addresses of which a rule, a route or a neighbour was removed or bent; what the plugin's DEL removes is among them.
    pub addresses: BTreeSet<IpAddr>,
    /// Kinds of other objects that were touched (`link`, `route`, `nft-table`, …).
    pub objects: BTreeSet<String>,
    /// Notifications were lost: anything may have changed.
    pub lost: bool,
    /// Names of the programs that did it, as far as they could be had.
    pub programs: BTreeSet<String>,
}

/// Everything that must be so, for one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlan {
    /// The node's own set-up; `None`: it could not be put right a moment ago, and is left out this time.
    pub host: Option<HostPlan>,
    /// ENIs in service, but for those of which that is true.
    pub enis: Vec<EniPlan>,
    /// Sandboxes whose ADD was answered a while ago; those whose host veth is not there are left out by the kernel's word.
    pub pods: Vec<PodPlan>,
    /// Addresses whose objects stay, whoever made them: held, being attached, of ENIs.
    pub spared: BTreeSet<IpAddr>,
    /// Addresses whose objects go now, if nobody needs them still.
    pub sweep: BTreeSet<IpAddr>,
    /// Whether the names of the programs that run are wanted.
    pub name_programs: bool,
}

/// A sandbox that must be reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Its key: the alias of its host veth.
    pub key: AllocationKey,
    /// Its host veth's name; `None`: the runtime named no pod, only the alias can tell.
    pub host_veth: Option<String>,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ENI's device index.
    pub device_index: DeviceIndex,
    /// The network card of that device index.
    pub network_card: u32,
    /// Its ENI's route table; main for the primary ENI.
    pub table: RouteTable,
    /// How it is plumbed.
    pub plumbing: Plumbing,
}

/// What a look found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was put right.
    pub repairs: Vec<Repaired>,
    /// Objects of orphans that were removed, as commands.
    pub swept: Vec<String>,
    /// Addresses with objects of ours that nobody needs, not removed.
    pub orphans: BTreeSet<IpAddr>,
    /// What could not be put right.
    pub failures: Vec<PartFailure>,
    /// Names of the programs that run, when asked for; empty too when they cannot be seen from here.
    pub programs: BTreeSet<String>,
}

/// A part of the node's network that is put right by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairPart {
    /// The node's own set-up.
    Host,
    /// An ENI's.
    Eni(EniId),
    /// What pods have.
    Pods,
}

impl fmt::Display for RepairPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the node's own set-up"),
            Self::Eni(eni_id) => fmt::Display::fmt(eni_id, f),
            Self::Pods => f.write_str("pods"),
        }
    }
}

/// Why a part could not be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFailure {
    /// Which.
    pub part: RepairPart,
    /// The error with its causes.
    pub message: String,
}

/// One object that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What kind, and why.
    pub what: RepairKind,
    /// The write, as a command.
    pub command: String,
}

/// Object and reason: what repairs are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairKind {
    /// `link`, `address`, `route`, `rule`, `neighbour`, `sysctl`, `nft-table`, `host-port`.
    pub object: String,
    /// `missing`, `changed`, `down`, `stale`.
    pub reason: String,
}

impl fmt::Display for RepairKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.reason)
    }
}

/// How often each kind was put right.
pub type RepairCounts = BTreeMap<RepairKind, u64>;
