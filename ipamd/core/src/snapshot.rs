// SPDX-License-Identifier: Apache-2.0
//! The state as an operator wants to see it: `ipamd status` and introspection.
//!
//! Plain data without behaviour; field names are the JSON's. Every list is sorted, so two snapshots can be compared. Ages
//! and times to come are in milliseconds.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::WarmTargets;
use crate::event::{FailureClass, InstanceFacts, TrackedConnections};
use crate::ids::{DeviceIndex, EniId, MacAddr, PodRef, RouteTable, SecurityGroupId, SubnetId};
use crate::pod_network::EniConfigName;
use crate::reason::ReasonCode;
use crate::repair::RepairKind;

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Who this instance is, once known.
    pub instance: Option<InstanceFacts>,
    /// Whether an ADD could be answered: some address of this boot was proven at least once.
    pub serving: bool,
    /// The pool in numbers.
    pub pool: PoolSnapshot,
    /// What the planner wants next, and what holds it back.
    pub why: WhySnapshot,
    /// Whether the next ADD gets an address.
    #[serde(default)]
    pub supply: SupplySnapshot,
    /// ENIs of ours by device index, those without a place last.
    pub enis: Vec<EniSnapshot>,
    /// Attached ENIs that we leave alone, by device index.
    pub other_enis: Vec<OtherEniSnapshot>,
    /// Pool addresses, sorted.
    pub addresses: Vec<AddressSnapshot>,
    /// Allocations by address.
    pub pods: Vec<PodSnapshot>,
    /// Waiting ADDs, first come first.
    pub waiters: Vec<WaiterSnapshot>,
    /// Calls to EC2 and the kernel under way, oldest first.
    pub actions: Vec<ActionSnapshot>,
    /// Last failure of each kind of action, newest first.
    pub failures: Vec<FailureSnapshot>,
    /// Subnets that are exhausted.
    pub exhausted_subnets: Vec<SubnetSnapshot>,
    /// What the last start had to report of the journal: files that could not be used, allocations dropped or adopted. At
    /// most a few lines; empty after an ordinary start.
    #[serde(default)]
    pub journal: Vec<String>,
    /// What is different from what settings ask for, and what is wrong with them and with the configuration list now; filled in by
    /// who serves the snapshot.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Subnets that ENIs of ours are in or may be made in, by id.
    #[serde(default)]
    pub subnets: Vec<SubnetSupplySnapshot>,
    /// Subnets that had no /28 when asked for one, by id.
    #[serde(default)]
    pub prefix_refusals: Vec<PrefixRefusalSnapshot>,
    /// Custom networking; `None`: it is off.
    #[serde(default)]
    pub pod_network: Option<PodNetworkSnapshot>,
    /// Where EC2's word differs from ours.
    #[serde(default)]
    pub drift: DriftSnapshot,
    /// What others changed in the kernel, and was put back.
    #[serde(default)]
    pub repair: RepairSnapshot,
    /// The kernel's table of connections, read every 30 to 90 s; `None`: not read yet, or nothing is tracked.
    #[serde(default)]
    pub connections: Option<TrackedConnections>,
    /// How it stands with the API server; filled in by who serves the snapshot.
    #[serde(default)]
    pub kubernetes: KubernetesSnapshot,
    /// How many pods can have an address of their own; `None`: the limits of the instance type are not known.
    #[serde(default)]
    pub capacity: Option<CapacitySnapshot>,
    /// Who looks for leaked ENIs.
    #[serde(default)]
    pub sweep: SweepSnapshot,
}

/// How many pods can have an address of their own on this node, in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacitySnapshot {
    /// What the instance type allows, with MAX_ENI and without ENIs that serve no pods.
    pub addresses: u32,
    /// The same, and no more than ENID_MAX_PODS.
    pub limit: u32,
    /// Of these, what is here or the subnets had when they were last seen.
    pub now: u32,
    /// How `addresses` comes about: `3 ENIs x 9 addresses`.
    pub formula: String,
}

/// Who looks for leaked ENIs, and whether it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepSnapshot {
    /// For the whole cluster: `this node`, `another node`, `nobody` (each node does, seldom), or `off`.
    pub sweeper: String,
    /// EC2 refused a sweep's last look, or its last mark or delete, to this node's role.
    pub is_denied: bool,
    /// How old a leaked ENI must be, in milliseconds; `None`: `off`.
    #[serde(default)]
    pub age_ms: Option<u64>,
}

/// Whether an ADD that comes now gets an address inside its budget, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupplySnapshot {
    /// What it would be refused with, and has been if ADDs wait for longer than they should; `None`: it gets one.
    pub code: Option<ReasonCode>,
    /// Why, with the numbers; empty when it gets one.
    pub text: String,
}

/// Custom networking: which ENIConfig the node has, and what its subnets are worth now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkSnapshot {
    /// The ENIConfig; `None`: nobody has said yet which it is.
    pub eni_config: Option<EniConfigName>,
    /// For how long that, and what it says, has been so.
    pub for_ms: u64,
    /// Groups of new ENIs; empty while there are none to be made.
    pub security_group_ids: Vec<SecurityGroupId>,
    /// What it says of subnets, in its order; those that tags stand for one by one.
    pub subnets: Vec<PodSubnetSnapshot>,
    /// Why no ENI is made for pods; `None`: they are.
    pub problem: Option<String>,
}

/// A subnet of an ENIConfig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSubnetSnapshot {
    /// The subnet; `None`: the entry means none.
    pub subnet_id: Option<SubnetId>,
    /// The entry: an id, tags, or a field that cannot be understood.
    pub entry: String,
    /// Lower ones are used first.
    pub order: u32,
    /// Its share among those of its order.
    pub weight: u32,
    /// Free addresses as EC2 last counted them, what was asked for since taken off; `None`: not known.
    pub free: Option<u32>,
    /// ENIs of ours there, those asked for among them.
    pub enis: u32,
    /// `usable`, or what keeps it from being used.
    pub standing: String,
}

/// How it stands with the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesSnapshot {
    /// `off`, `connecting` or `connected`.
    pub state: String,
    /// For how long.
    pub for_ms: u64,
    /// The Node; `None`: not told (`MY_NODE_NAME`).
    pub node: Option<String>,
    /// Whether it is cordoned; `None`: not known yet.
    pub cordoned: Option<bool>,
    /// Why it is off; what cannot be read or written, and why. Sorted.
    pub errors: Vec<String>,
    /// Events and the like that were given up: nobody took them in time.
    pub dropped: u64,
}

/// The pool in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSnapshot {
    /// The policy.
    pub targets: WarmTargets,
    /// Free addresses to keep by it now; 0 while limits are not known.
    #[serde(default)]
    pub wanted: u32,
    /// Addresses held, in every state; primary addresses not counted.
    pub total: u32,
    /// Bound to a sandbox.
    pub allocated: u32,
    /// Could be given out now.
    pub free: u32,
    /// Released less than a cooldown ago.
    pub cooling: u32,
    /// In use by the kernel without an allocation of ours: not given out.
    pub held: u32,
    /// Being given back to EC2.
    pub leaving: u32,
    /// Free on ENIs that are not proven yet, or asked for and not answered yet.
    pub coming: u32,
    /// Waiting ADDs.
    pub waiters: u32,
    /// Pods bound to the node that have no address and do not ask for one yet.
    pub announced: u32,
    /// Addresses missing to the target.
    pub shortfall: u32,
    /// Addresses above the target.
    pub surplus: u32,
    /// Addresses for pods that an ENI can hold in the node's mode; `None`: limits not known yet.
    pub addresses_per_eni: Option<u32>,
    /// ENIs of ours that hold or will hold a place on the instance.
    pub enis: u32,
    /// ENIs we may have (instance type, MAX_ENI, ENIs of others taken off); `None`: limits not known yet.
    pub max_enis: Option<u32>,
}

/// What the planner wants next, and what holds it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhySnapshot {
    /// One sentence.
    pub text: String,
    /// The constraint that binds, when something is missing and cannot come.
    pub bound_by: Option<ReasonCode>,
    /// Which rule decided.
    #[serde(default)]
    pub rule: Rule,
    /// When it is decided anew at the latest, whatever happens; `None`: nothing waits for time.
    #[serde(default)]
    pub next_ms: Option<u64>,
}

/// Which rule decided what is wanted next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Not all is known that a decision needs.
    #[default]
    Starting,
    /// The journal cannot be written: nothing is asked for until it can.
    NotDurable,
    /// Addresses are missing to the target, and cannot come in time or are asked for as fast as they can be.
    Shortfall,
    /// Nothing is missing once what is under way is here, and that is held up.
    HeldUp,
    /// Free addresses above the target: they go once they have been too many for long enough.
    SurplusRests,
    /// Free addresses above the target that are kept: the target may rise again, or nothing can go.
    SurplusKept,
    /// As many as there should be.
    Met,
}

/// One ENI of ours, or one asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EniSnapshot {
    /// The ENI; `None`: its create call is not answered yet.
    pub eni_id: Option<EniId>,
    /// `Requested`, `Attaching`, `Configuring`, `Ready`, `Draining`, `Detaching`, `Deleting`.
    pub state: String,
    /// How long it has been in that state.
    pub state_for_ms: u64,
    /// When its next try is due, when the last failed.
    pub retry_in_ms: Option<u64>,
    /// Position, held or reserved.
    pub device_index: DeviceIndex,
    /// Route table of its pods.
    pub table: RouteTable,
    /// Its MAC, once known.
    pub mac: Option<MacAddr>,
    /// Its primary address, once known.
    pub primary_address: Option<Ipv4Addr>,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// Whether it was made for us; others are never detached.
    pub created: bool,
    /// Its subnet is excluded from pods by its tags: it gives no address to new ones.
    #[serde(default)]
    pub excluded: bool,
    /// Pool addresses it holds or is created with.
    pub total: u32,
    /// Prefixes that it holds, or is created with.
    #[serde(default)]
    pub prefixes: u32,
    /// Of these, bound to a sandbox.
    pub allocated: u32,
    /// Of these, could be given out.
    pub free: u32,
    /// Of these, cooling.
    pub cooling: u32,
    /// Addresses being assigned to it.
    pub assigning: u32,
    /// Why its last action failed, when it did.
    pub last_failure: Option<String>,
}

/// An attached ENI that we leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherEniSnapshot {
    /// The ENI.
    pub eni_id: EniId,
    /// Its position.
    pub device_index: DeviceIndex,
    /// Its card.
    pub network_card: u32,
    /// Why we leave it alone.
    pub why: String,
}

/// One pool address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressSnapshot {
    /// The address.
    pub address: Ipv4Addr,
    /// Its ENI; `None`: not learned yet.
    pub eni_id: Option<EniId>,
    /// The /28 prefix it belongs to; `None`: assigned by itself.
    #[serde(default)]
    pub prefix: Option<Ipv4Net>,
    /// `free`, `allocated`, `cooling`, `flushing`, `held` or `leaving`.
    pub state: String,
    /// How long it still cools.
    pub cooling_for_ms: Option<u64>,
}

/// One allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSnapshot {
    /// `network/container/ifname`.
    pub key: String,
    /// The pod; both names empty when the runtime names none.
    pub pod: PodRef,
    /// Its address.
    pub address: Ipv4Addr,
    /// The ENI; `None`: not learned yet.
    pub eni_id: Option<EniId>,
    /// That ENI's position.
    pub device_index: Option<DeviceIndex>,
    /// When it was allocated, nanoseconds since the Unix epoch.
    pub allocated_unix_nanos: i64,
    /// How long its host veth has been gone, when it is.
    pub orphan_for_ms: Option<u64>,
}

/// One waiting ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaiterSnapshot {
    /// `network/container/ifname`.
    pub key: String,
    /// The pod.
    pub pod: PodRef,
    /// How long it has waited.
    pub waiting_ms: u64,
    /// How long it can still wait.
    pub budget_left_ms: u64,
    /// What it would be refused with now.
    pub waits_for: ReasonCode,
}

/// One call under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionSnapshot {
    /// Its number.
    pub id: u64,
    /// What it does, naming the object.
    pub what: String,
    /// For how long.
    pub running_ms: u64,
}

/// The last failure of one kind of action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSnapshot {
    /// What was tried.
    pub what: String,
    /// Kind of failure.
    pub class: FailureClass,
    /// EC2's code or the edge's own.
    pub code: String,
    /// Its cause; `None`: an older daemon.
    #[serde(default)]
    pub reason: Option<ReasonCode>,
    /// Full text.
    pub message: String,
    /// How long ago.
    pub ago_ms: u64,
    /// How long ago the same succeeded again; where the ENI that it was about is not there any more, how long ago it failed. `None`: it is
    /// not past.
    #[serde(default)]
    pub recovered_ago_ms: Option<u64>,
}

/// What a subnet has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetSupplySnapshot {
    /// The subnet.
    pub subnet_id: SubnetId,
    /// Free addresses as EC2 last counted them.
    pub free: u32,
    /// How long ago that was.
    pub read_ms_ago: u64,
    /// Whether it is left alone for now: it had no address when asked for one.
    pub is_exhausted: bool,
}

/// An exhausted subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetSnapshot {
    /// The subnet.
    pub subnet_id: SubnetId,
    /// When it is tried again.
    pub retry_in_ms: u64,
    /// Free addresses as EC2 last counted them.
    pub available: Option<u32>,
}

/// A subnet that had no /28 when asked for one: its ENIs get single addresses in the meantime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixRefusalSnapshot {
    /// The subnet.
    pub subnet_id: SubnetId,
    /// Times it had none.
    pub refusals: u32,
    /// When it is asked again; `None`: with the next need.
    pub probe_in_ms: Option<u64>,
}

/// What is here by our journal and was not shown when EC2 was read last: kept, and not given out anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftSnapshot {
    /// ENIs, sorted.
    pub eni_ids: Vec<EniId>,
    /// Addresses in use on ENIs that are shown, sorted.
    pub addresses: Vec<Ipv4Addr>,
    /// How often an ENI or an address in use went missing since the start.
    pub found: u64,
}

/// What others changed in the kernel, and was put back; counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairSnapshot {
    /// Times everything was looked at.
    pub looks: u64,
    /// Objects that were put right, by kind and reason.
    pub repaired: Vec<RepairedSnapshot>,
    /// Objects of sandboxes that are gone, removed.
    pub swept: u64,
    /// Whether someone changes what is ours again and again: it is put back less often then.
    pub contested: bool,
}

/// Objects of one kind that were put right for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairedSnapshot {
    /// What, and why.
    #[serde(flatten)]
    pub what: RepairKind,
    /// How many.
    pub count: u64,
}
