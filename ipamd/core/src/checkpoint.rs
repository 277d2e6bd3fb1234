// SPDX-License-Identifier: Apache-2.0
//! The journal: what must survive a kill -9, as bytes, and the bytes read back.
//!
//! Two files. `ipam.json` is the reference's checkpoint, whole and unchanged in format (amazon-vpc-cni-k8s,
//! `pkg/ipamd/datastore`, version `vpc-cni-ipam/1`), so that the reference can take over from us and we from it: it holds
//! the allocations and nothing else. `enid.json` is ours: boot id, facts, ENIs with their addresses, what cools until when,
//! intents of calls that may be under way, tombstones done. It does not decide anything: `restore` does.
//!
//! A text is kept up, not rendered anew: each record has a place of its own, filled up with white space ([`Sheet`]), so that an ADD or a DEL
//! changes a few hundred bytes however many pods there are. In which order records stand means nothing.
//!
//! Invariant: for every state, parsing what was encoded gives the same journal (a property test holds us to it), and the two
//! files may be of different age by one write. The driver writes `enid.json` first; should the other order happen, an
//! address that only `enid.json` calls allocated rests for one cooldown before it is given out.
//!
//! Times are nanoseconds since boot; they mean something only under the boot id they were written with.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::event::InstanceFacts;
use crate::ids::{AllocationKey, AttachmentId, DeviceIndex, EniId, MacAddr, PodRef, SecurityGroupId, SubnetId};
use crate::planner::guess::Guess;
use crate::pod_network::PodNetwork;

mod sheet;
#[cfg(test)]
mod tests;

pub(crate) use sheet::Sheet;
pub use sheet::{Changed, Draft};

/// Version text of the reference's checkpoint; it refuses to start with any other.
pub const REFERENCE_VERSION: &str = "vpc-cni-ipam/1";
/// Version text of our own file.
pub const OWN_VERSION: &str = "enid/1";

/// Both files as they are to be, and where they are not as they were when they were last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drafts<'a> {
    /// `enid.json`. Written first.
    pub own: Draft<'a>,
    /// `ipam.json`.
    pub reference: Draft<'a>,
}

/// Both files of one state, rendered whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// `ipam.json`: the allocations in the reference's format.
    pub reference_json: Vec<u8>,
    /// `enid.json`: everything else. Written first.
    pub own_json: Vec<u8>,
}

/// Why a journal file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Not JSON, or not of the shape.
    #[error("not a journal: {0}")]
    Corrupt(String),
    /// Of another version.
    #[error("version `{found}`, only `{expected}` can be read")]
    Version {
        /// What the file says.
        found: String,
        /// What we read.
        expected: &'static str,
    },
}

/// `ipam.json`, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceJournal {
    /// [`REFERENCE_VERSION`].
    pub version: String,
    /// Unordered for the reader; we write them sorted by address.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allocations: Vec<ReferenceAllocation>,
}

/// One allocation as the reference writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceAllocation {
    /// CNI network name.
    #[serde(rename = "networkName")]
    pub network_name: String,
    /// CNI container id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Link name in the pod.
    #[serde(rename = "ifName")]
    pub if_name: String,
    /// The address; absent for an IPv6 allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address of an allocation that we cannot serve; kept as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Nanoseconds since the Unix epoch.
    #[serde(rename = "allocationTimestamp", default)]
    pub allocation_timestamp: i64,
    /// The pod.
    #[serde(default)]
    pub metadata: ReferenceMetadata,
}

/// The pod as the reference writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceMetadata {
    /// Namespace, omitted when empty.
    #[serde(rename = "k8sPodNamespace", default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name, omitted when empty.
    #[serde(rename = "k8sPodName", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Interfaces of the pod; 0 (written by old versions, omitted) counts as 1.
    #[serde(rename = "interfacesCount", default, skip_serializing_if = "is_zero")]
    pub interfaces_count: u32,
}

impl ReferenceAllocation {
    /// The key.
    #[must_use]
    pub fn key(&self) -> AllocationKey {
        AllocationKey {
            network: self.network_name.clone(),
            container_id: self.container_id.clone(),
            ifname: self.if_name.clone(),
        }
    }

    /// The pod.
    #[must_use]
    pub fn pod(&self) -> PodRef {
        PodRef { namespace: self.metadata.namespace.clone(), name: self.metadata.name.clone() }
    }
}

/// `enid.json`, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnJournal {
    /// [`OWN_VERSION`].
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id` of the boot that the times below belong to.
    pub boot_id: String,
    /// Who this instance is, once known.
    pub facts: Option<InstanceFacts>,
    /// Resting or allocated addresses whose ENI is not known, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub homeless: Vec<AddressRecord>,
    /// Create calls that may have happened, sorted by token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<CreateRecord>,
    /// Keys whose allocation no kernel object can testify for (taken over from the reference without pod name).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwitnessed: Vec<AllocationKey>,
    /// Tombstones that were worked off and may still lie on disk, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones_done: Vec<AllocationKey>,
    /// Serial number of the next create call's token.
    #[serde(default)]
    pub next_serial: u64,
    /// What the adaptive policy remembers; absent while it has nothing to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveRecord>,
    /// Addresses given back a short time ago, which EC2 may still list, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unassigned: Vec<UnassignedRecord>,
    /// ENIs let go a short time ago, which EC2 may still show, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<DepartedRecord>,
    /// Until when, since boot, addresses that EC2 shows for the first time rest: an earlier journal was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_until_nanos: Option<u64>,
    /// Limits of the instance type, when the compiled-in table does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRecord>,
    /// The instance takes fewer ENIs than its type's limits say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_enis: Option<EniLimitRecord>,
    /// Subnets of the zone as their tags had them, sorted by id; what stands when EC2 does not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceRecord>,
    /// Custom networking: the API server's last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_network: Option<PodNetworkRecord>,
    /// ENIs of ours, sorted by id. The last field, so that a text can be written up to its elements.
    pub enis: Vec<EniRecord>,
}

/// What was said of the node's ENIConfig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkRecord {
    /// When it was first said, since boot.
    pub since_nanos: u64,
    /// The word.
    pub said: PodNetwork,
}

/// What was observed of this node's ADDs and ENIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveRecord {
    /// The most ADDs within the time of an assign call, in thousandths,
    pub peak_milli: u64,
    /// and when they came, since boot.
    pub peak_at_nanos: u64,
    /// The most ADDs within the time that an ENI takes, in thousandths,
    #[serde(default)]
    pub burst_milli: u64,
    /// and when they came, since boot.
    #[serde(default)]
    pub burst_at_nanos: u64,
    /// The longest assign call of late.
    #[serde(default)]
    pub call_nanos: u64,
    /// How long an ENI takes until it gives addresses out.
    pub lead_nanos: u64,
    /// When the first ADD came, since boot; absent: none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_add_nanos: Option<u64>,
}

/// An address or prefix that was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnassignedRecord {
    /// The address; of a prefix, the first.
    pub address: Ipv4Addr,
    /// The prefix, when a whole one was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Ipv4Net>,
    /// When, since boot.
    pub at_nanos: u64,
}

/// An ENI that was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepartedRecord {
    /// The ENI.
    pub eni_id: EniId,
    /// When, since boot.
    pub at_nanos: u64,
}

/// Limits of an instance type that the compiled-in table does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsRecord {
    /// Whose they are.
    pub instance_type: String,
    /// Its network cards, in index order.
    pub cards: Vec<CardRecord>,
    /// Index of the default card.
    pub default_card: u8,
    /// IPv4 slots of an ENI, its own address included.
    pub ipv4_per_eni: u16,
    /// Whether it takes /28 prefixes.
    pub takes_prefixes: bool,
    /// What the limits were guessed from; absent: EC2 told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<Guess>,
}

/// Limits of one network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardRecord {
    /// Its index.
    pub index: u8,
    /// ENIs it can hold.
    pub max_enis: u16,
}

/// What EC2's refusal to attach another ENI taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EniLimitRecord {
    /// ENIs that the instance takes.
    pub enis: u32,
    /// Until when that is believed, since boot.
    pub until_nanos: u64,
}

/// One subnet of the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceRecord {
    /// The subnet.
    pub subnet_id: SubnetId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Whether pods can be there.
    pub standing: PlaceStanding,
    /// Its tags, with custom networking; any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
}

/// What a subnet's tags say of it (`kubernetes.io/role/cni` and the cluster's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlaceStanding {
    /// New ENIs can be made there.
    Usable,
    /// Nothing new is made there; what is there serves.
    NotOffered,
    /// No new pod gets an address there, and free ones are given back.
    Excluded,
}

/// One ENI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EniRecord {
    /// The ENI.
    pub eni_id: EniId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// Block of the subnet, once known.
    pub subnet_cidr: Option<Ipv4Net>,
    /// Never a pool address.
    pub primary_address: Ipv4Addr,
    /// Position, held or reserved.
    pub device_index: DeviceIndex,
    /// The network card of that position; absent: card 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub network_card: u32,
    /// Its attachment, once known.
    pub attachment_id: Option<AttachmentId>,
    /// Where it is in life.
    pub stage: EniStage,
    /// Whether it was made for us (our tag): only then is it ever detached and deleted.
    pub created: bool,
    /// It is being deleted and never was attached: it may be so young that not every call knows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_attached: bool,
    /// Whether delete-on-termination is set.
    pub delete_on_termination: bool,
    /// Its single pool addresses, sorted.
    pub addresses: Vec<AddressRecord>,
    /// Its prefixes, sorted; absent in files of versions without prefixes. `addresses` and this are the last fields, in this order:
    /// `core/journal/own.rs` writes their elements itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixRecord>,
}

/// One /28 prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixRecord {
    /// The prefix.
    pub prefix: Ipv4Net,
    /// EC2 listed it no more while some of its addresses were in use: only those recorded are ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Addresses of it that are or were in use, sorted. Those not listed are free and were never used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRecord>,
}

/// Where an ENI is in life, as far as a restart must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EniStage {
    /// Created; an attach call may be under way.
    Attaching,
    /// Attached: configured anew after a restart.
    Attached,
    /// A detach call may be under way.
    Detaching,
    /// Detached; a delete call may be under way.
    Deleting,
}

/// One pool address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressRecord {
    /// The address.
    pub address: Ipv4Addr,
    /// Whether `ipam.json` should have an allocation of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allocated: bool,
    /// Whether an unassign call for it may be under way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// When it was last released, since boot; absent: never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_nanos: Option<u64>,
    /// Until when it cools, since boot; may have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooling_until_nanos: Option<u64>,
    /// Whether the kernel has forgotten its last owner (connections, neighbours) since then; otherwise it has to before
    /// anybody gets it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flushed: bool,
}

/// A create call that may have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateRecord {
    /// The client token, and the value of the token tag.
    pub token: String,
    /// Subnet asked for.
    pub subnet_id: SubnetId,
    /// Groups asked for.
    pub security_group_ids: Vec<SecurityGroupId>,
    /// The ENIConfig that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eni_config: Option<String>,
    /// Secondary addresses asked for.
    pub secondary_addresses: u32,
    /// Prefixes asked for, in their place; absent in files of versions without prefixes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefixes: u32,
    /// Position reserved.
    pub device_index: DeviceIndex,
    /// Creation time in the tag (RFC 3339): repeated calls must carry the same parameters.
    pub created_at: String,
}

/// Parses `ipam.json`.
///
/// # Errors
/// Not JSON of that shape, or another version.
pub fn parse_reference(bytes: &[u8]) -> Result<ReferenceJournal, JournalError> {
    let journal: ReferenceJournal = parse_json(bytes)?;
    check_version(&journal.version, REFERENCE_VERSION)?;
    Ok(journal)
}

/// Parses `enid.json`.
///
/// # Errors
/// Not JSON of that shape, or another version.
pub fn parse_own(bytes: &[u8]) -> Result<OwnJournal, JournalError> {
    // The version first: another version may have another shape, and that is what the operator must read.
    #[derive(Deserialize)]
    struct Head {
        version: String,
    }
    let head: Head = parse_json(bytes)?;
    check_version(&head.version, OWN_VERSION)?;
    parse_json(bytes)
}

fn parse_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, JournalError> {
    serde_json::from_slice(bytes).map_err(|error| JournalError::Corrupt(error.to_string()))
}

fn check_version(found: &str, expected: &'static str) -> Result<(), JournalError> {
    if found == expected { Ok(()) } else { Err(JournalError::Version { found: found.to_owned(), expected }) }
}

/// JSON and a newline, as the reference writes it.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("maps with text keys and plain fields always encode");
    bytes.push(b'\n');
    bytes
}

/// Go writes a nil slice as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<ReferenceAllocation>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde's skip_serializing_if asks for")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
