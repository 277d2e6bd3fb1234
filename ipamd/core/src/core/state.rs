// SPDX-License-Identifier: Apache-2.0
//! The smaller parts of the core's state: what is under way, what the kernel showed, subnets, shrinking.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::{Fill, HostPlan, prefix_addresses};
use crate::checkpoint::PlaceStanding as Standing;
use crate::event::{Failure, FailureClass, HeldAddress};
use crate::ids::{ActionId, BootTime, DeviceIndex, EniId, SecurityGroupId, SubnetId};
use crate::lifecycle::Try;
use crate::planner::Addresses;
use crate::reads::Read;
use crate::reason::{NoticeLevel, ReasonCode};
use crate::store::Slot;

/// An action under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) purpose: Purpose,
    pub(crate) since: BootTime,
    /// Whether it was told that it does not answer.
    pub(crate) told: bool,
}

/// What an action is for: where its outcome belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create { token: String, fill: Fill },
    Attach { eni_id: EniId, device_index: DeviceIndex },
    Termination { eni_id: EniId },
    Assign { eni_id: EniId, fill: Fill },
    Unassign { eni_id: EniId, fill: Fill },
    Deconfigure { eni_id: EniId },
    Detach { eni_id: EniId },
    Delete { eni_id: EniId },
    Configure { eni_id: EniId },
    Steer { eni_id: EniId },
    Describe,
    Subnet { subnet_id: SubnetId },
    Zone,
    PodSubnets { subnet_ids: Vec<SubnetId> },
    Groups { eni_id: EniId, groups: Vec<SecurityGroupId> },
    Tags { eni_id: EniId },
    Sweep,
    MarkLeaked { eni_id: EniId },
    DeleteLeaked { eni_id: EniId },
    Host,
    Repair,
    Observe,
    Sandboxes,
    Flush { addresses: usize },
}

impl Purpose {
    /// One word a kind, for the table of last failures.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Attach { .. } => "attach",
            Self::Termination { .. } => "delete-on-termination",
            Self::Assign { .. } => "assign",
            Self::Unassign { .. } => "unassign",
            Self::Deconfigure { .. } => "deconfigure",
            Self::Detach { .. } => "detach",
            Self::Delete { .. } => "delete",
            Self::Configure { .. } => "configure",
            Self::Steer { .. } => "steer",
            Self::Describe => "describe",
            Self::Subnet { .. } => "subnet",
            Self::Zone => "zone",
            Self::PodSubnets { .. } => "pod-subnets",
            Self::Groups { .. } => "security-groups",
            Self::Tags { .. } => "tags",
            Self::Sweep => "leaked-enis",
            Self::MarkLeaked { .. } => "mark-leaked",
            Self::DeleteLeaked { .. } => "delete-leaked",
            Self::Host => "host",
            Self::Repair => "repair",
            Self::Observe => "observe",
            Self::Sandboxes => "sandboxes",
            Self::Flush { .. } => "flush",
        }
    }

    /// The ENI that it is about, if it is about one that is there.
    pub(crate) fn eni_id(&self) -> Option<&EniId> {
        match self {
            Self::Attach { eni_id, .. }
            | Self::Termination { eni_id }
            | Self::Assign { eni_id, .. }
            | Self::Unassign { eni_id, .. }
            | Self::Deconfigure { eni_id }
            | Self::Detach { eni_id }
            | Self::Delete { eni_id }
            | Self::Configure { eni_id }
            | Self::Steer { eni_id }
            | Self::Groups { eni_id, .. }
            | Self::Tags { eni_id } => Some(eni_id),
            Self::Create { .. }
            | Self::Describe
            | Self::Subnet { .. }
            | Self::Zone
            | Self::PodSubnets { .. }
            | Self::Sweep
            | Self::MarkLeaked { .. }
            | Self::DeleteLeaked { .. }
            | Self::Host
            | Self::Repair
            | Self::Observe
            | Self::Sandboxes
            | Self::Flush { .. } => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { token, fill } => write!(f, "creating an ENI with {fill} ({token})"),
            Self::Attach { eni_id, device_index } => write!(f, "attaching {eni_id} at device index {}", device_index.0),
            Self::Termination { eni_id } => write!(f, "setting delete-on-termination of {eni_id}"),
            Self::Assign { eni_id, fill } => write!(f, "assigning {fill} to {eni_id}"),
            Self::Unassign { eni_id, fill } => write!(f, "unassigning {fill} from {eni_id}"),
            Self::Deconfigure { eni_id } => write!(f, "removing the kernel objects of {eni_id}"),
            Self::Detach { eni_id } => write!(f, "detaching {eni_id}"),
            Self::Delete { eni_id } => write!(f, "deleting {eni_id}"),
            Self::Configure { eni_id } => write!(f, "setting up the link of {eni_id}"),
            Self::Steer { eni_id } => write!(f, "bringing the rules of {eni_id}'s prefixes up to date"),
            Self::Describe => f.write_str("reading the instance's ENIs from EC2"),
            Self::Subnet { subnet_id } => write!(f, "reading {subnet_id} from EC2"),
            Self::Zone => f.write_str("reading the zone's subnets from EC2"),
            Self::PodSubnets { subnet_ids } => {
                let ids: Vec<&str> = subnet_ids.iter().map(SubnetId::as_str).collect();
                write!(f, "looking up {}, which the zone does not have", ids.join(", "))
            }
            Self::Groups { eni_id, .. } => write!(f, "setting the security groups of {eni_id}"),
            Self::Tags { eni_id } => write!(f, "adding tags to {eni_id}"),
            Self::Sweep => f.write_str("looking for leaked ENIs in EC2"),
            Self::MarkLeaked { eni_id } => write!(f, "marking {eni_id} as leaked"),
            Self::DeleteLeaked { eni_id } => write!(f, "deleting the leaked {eni_id}"),
            Self::Host => f.write_str("setting up the host's network"),
            Self::Repair => f.write_str("looking after the host's network"),
            Self::Observe => f.write_str("reading the kernel's state"),
            Self::Sandboxes => f.write_str("asking the container runtime for its sandboxes"),
            Self::Flush { addresses } => write!(f, "flushing connections and neighbours of {addresses} addresses"),
        }
    }
}

/// How loud a failure is.
pub(crate) fn loudness(class: FailureClass) -> NoticeLevel {
    match class {
        FailureClass::Denied | FailureClass::Rejected => NoticeLevel::Error,
        FailureClass::PrefixesExhausted => NoticeLevel::Info,
        FailureClass::LinkMissing => NoticeLevel::Debug,
        FailureClass::Throttled
        | FailureClass::SubnetExhausted
        | FailureClass::AddressLimit
        | FailureClass::AttachmentLimit
        | FailureClass::DeviceIndexTaken
        | FailureClass::NotFound
        | FailureClass::WrongState
        | FailureClass::TokenMismatch
        | FailureClass::Transient
        | FailureClass::Unknown
        | FailureClass::Kernel => NoticeLevel::Warn,
    }
}

/// The last failure of a kind of action.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    pub(crate) what: String,
    pub(crate) failure: Failure,
    pub(crate) reason: ReasonCode,
    pub(crate) at: BootTime,
    /// Of which ENI; `None`: of none that there was, or of a right, which is every ENI's.
    pub(crate) eni_id: Option<EniId>,
    /// Since when the same has succeeded again.
    pub(crate) recovered: Option<BootTime>,
}

/// An attached ENI that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) device_index: DeviceIndex,
    pub(crate) network_card: u32,
    pub(crate) why: &'static str,
}

/// What the kernel showed last.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelWitness {
    pub(crate) held: BTreeMap<Ipv4Addr, HeldAddress>,
    /// When an observation is due that orphans wait for.
    pub(crate) orphans: bool,
}

/// The host's own set-up.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// What was last written; `None`: nothing yet.
    pub(crate) applied: Option<HostPlan>,
    /// What the call under way writes.
    pub(crate) writing: Option<HostPlan>,
    pub(crate) attempt: Try,
}

/// What is known of the zone's subnets as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    pub(crate) read: Read,
    /// A first description has come or failed, or an earlier run had its chance.
    pub(crate) known: bool,
    /// An ENI was asked for since the last description.
    pub(crate) used: bool,
    /// When it was last described for no other reason than that it had not been for long.
    pub(crate) idle_look: BootTime,
    /// Addresses in use in all its subnets, by whomever; `None`: never described.
    pub(crate) held: Option<u64>,
}

/// What is known of a subnet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subnet {
    pub(crate) cidr: Option<Ipv4Net>,
    /// What its tags say of it; `None`: the zone's last description does not have it.
    pub(crate) standing: Option<Standing>,
    /// Its tags as that description had them; kept with custom networking only, which may choose by them.
    pub(crate) tags: Vec<(String, String)>,
    /// Free addresses as EC2 last counted them, what was asked for since taken off; 0 when never described.
    pub(crate) free: u32,
    pub(crate) exhausted: Option<Exhausted>,
    /// Failures in a row, for the next hold-off; forgotten with the first success after one.
    pub(crate) exhaustions: u32,
    /// A DescribeSubnet under way.
    pub(crate) reading: Option<ActionId>,
    /// After a failed one: not before then.
    pub(crate) read_not_before: BootTime,
    pub(crate) read_attempts: u32,
    pub(crate) prefixes: PrefixSupply,
    /// What there was for us when it was last described.
    pub(crate) counted: Option<Counted>,
}

/// A subnet's addresses as EC2 counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Free ones,
    pub(crate) free: u32,
    /// and those that ENIs of ours held then, their primary ones too: what we hold later is of both.
    pub(crate) held: u32,
    /// When.
    pub(crate) at: BootTime,
}

/// What is known of a subnet's /28s. EC2 shows nobody how fragmented a subnet is: only asking tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrefixSupply {
    /// It had not even one: single addresses are used until then.
    pub(crate) refused_until: Option<BootTime>,
    /// It had fewer than were asked for: one at a time until then.
    pub(crate) rare_until: Option<BootTime>,
    /// Times it had not even one.
    pub(crate) refusals: u32,
}

/// A subnet that had no address left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// Nothing is asked of it before then,
    pub(crate) until: BootTime,
    /// or then, if a pod waits,
    pub(crate) sooner: BootTime,
    /// except what it was said to have left since; `None`: not known.
    pub(crate) left: Option<u32>,
    /// Whether it is to be asked how much it has left.
    pub(crate) ask: bool,
}

/// New ENIs are not asked for: what became of earlier ones says that nothing would come of it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// Times in a row, for the next one; forgotten when an ENI is attached.
    pub(crate) attempts: u32,
    pub(crate) until: BootTime,
    pub(crate) failure: Failure,
}

/// What is missing, noticed and not asked for yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growing {
    /// Since when slots of attached ENIs could be filled,
    pub(crate) refill_since: Option<BootTime>,
    /// and since when ENIs are missing.
    pub(crate) make_since: Option<BootTime>,
}

/// Giving addresses and ENIs back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shrinking {
    /// Since when something could go, this time or the times before that came to nothing.
    pub(crate) first: Option<BootTime>,
    /// Since when the surplus is watched.
    pub(crate) since: Option<BootTime>,
    /// The least surplus since then.
    pub(crate) floor: u32,
    /// Since when it goes, call by call: it has stood long enough.
    pub(crate) round: Option<BootTime>,
    /// Since when there has been room for more than is wanted, and the least of it.
    pub(crate) room: Option<(BootTime, Addresses)>,
    /// Addresses on their way out, one ENI at a time.
    pub(crate) job: Option<UnassignJob>,
    /// Unassign calls that were denied in a row.
    pub(crate) denials: u32,
    /// Not before then: the last attempt met resistance.
    pub(crate) not_before: BootTime,
}

/// Slots picked to be unassigned: single addresses or prefixes, never both.
#[derive(Clone, Debug)]
pub(crate) struct UnassignJob {
    pub(crate) eni_id: EniId,
    /// Prefixes, or single addresses as /32.
    pub(crate) blocks: Vec<Ipv4Net>,
    pub(crate) step: UnassignStep,
    /// EC2 must have been read since then, and since our last write to the ENI.
    pub(crate) ec2_since: BootTime,
    /// Whether a call may have taken them.
    pub(crate) asked: Asked,
}

/// What came of the calls of a job so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// None was made.
    Nothing,
    /// EC2 refused them, and had done nothing then.
    Refused(BootTime),
    /// The last one, or one before it, may have taken them: from then on a read that still lists one proves that none did. Before, the
    /// read may lag behind the call.
    Unclear(BootTime),
}

impl Asked {
    /// From when on a read that lists an address proves that no call has taken it.
    pub(crate) fn listing_counts_from(self) -> Option<BootTime> {
        match self {
            Self::Nothing => None,
            Self::Refused(from) | Self::Unclear(from) => Some(from),
        }
    }
}

impl UnassignJob {
    /// Whether its addresses can still be put back: no call was made that may have taken them.
    pub(crate) fn can_stop(&self) -> bool {
        matches!(self.step, UnassignStep::Witnessing(_)) && self.asked == Asked::Nothing
    }

    /// What it takes.
    pub(crate) fn slot(&self) -> Slot {
        if self.blocks.iter().all(|block| block.prefix_len() == block.max_prefix_len()) {
            Slot::Single
        } else {
            Slot::Prefix
        }
    }

    /// What, and how many.
    pub(crate) fn fill(&self) -> Fill {
        self.slot().fill(u32::try_from(self.blocks.len()).unwrap_or(u32::MAX))
    }

    /// Every pool address that goes with it.
    pub(crate) fn pool_addresses(&self) -> Vec<Ipv4Addr> {
        self.blocks.iter().flat_map(|block| addresses_in(*block)).collect()
    }
}

/// The pool addresses of a prefix, or of a single address given as /32.
pub(crate) fn addresses_in(block: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let whole = block.prefix_len() < block.max_prefix_len();
    prefix_addresses(block).take(if whole { usize::MAX } else { 1 })
}

/// Where an unassign job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnassignStep {
    /// Waiting for the kernel and EC2 to be read since then.
    Witnessing(BootTime),
    Running,
    /// It failed: a read since then tells what is left.
    Resolving(BootTime),
}

/// What is here by our journal and was not shown by EC2. ENIs say so themselves (`Eni::missing_since`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift {
    /// Addresses in use.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// How often an ENI or an address in use went missing since the start.
    pub(crate) found: u64,
}

/// The journal cannot be written.
#[derive(Clone, Debug)]
pub(crate) struct Undurable {
    /// Tried again then.
    pub(crate) until: BootTime,
    pub(crate) message: String,
}

impl Shrinking {
    /// Nothing is too much, or what was is needed: the next surplus has to stand anew.
    pub(crate) fn rest(&mut self) {
        (self.first, self.since, self.round) = (None, None, None);
    }

    /// How long a denied unassign call rests, longer each time in a row: 2 to 32 min. Nobody's address hangs on it.
    pub(crate) fn denied(&mut self) -> Duration {
        let rest = Duration::from_secs(120) * 2_u32.pow(self.denials.min(4));
        self.denials = self.denials.saturating_add(1);
        rest
    }

    /// The surplus is watched anew from now on.
    pub(crate) fn watch(&mut self, surplus: u32, now: BootTime) {
        (self.since, self.floor, self.round) = (Some(now), surplus, None);
    }
}

/// Why an ENI on its way out is left alone.
pub(crate) const BEING_DETACHED: &str = "being detached";
/// How long a surplus must have stood before anything goes.
pub(crate) const SURPLUS_STANDS: Duration = Duration::from_secs(30);
/// A subnet that had no /28 is asked for one again after so long; a jitter of up to a quarter is added.
pub(crate) const PREFIX_PROBE: Duration = Duration::from_secs(600);
/// How long a lagging read may still show what we gave back (the reference's cache of freed addresses).
pub(crate) const LAG: Duration = Duration::from_secs(60);
/// An allocation whose host veth has been gone for so long is an orphan.
pub(crate) const ORPHAN_AFTER: Duration = Duration::from_secs(60);
/// No runtime is at work on a sandbox's network for longer: the kubelet gives it four minutes.
pub(crate) const MADE_WITHIN: Duration = Duration::from_secs(300);
/// How often the kernel is read while orphans are suspected.
pub(crate) const ORPHAN_LOOK: Duration = Duration::from_secs(20);
/// From one reading of the kernel, whoever asked for it, to one that nobody asks for at least: that goes with repair's next look.
pub(crate) const OBSERVED_APART: Duration = Duration::from_secs(30);
/// How often EC2 is read when nothing happens; a jitter of up to a quarter is added.
pub(crate) const VERIFY_EVERY: Duration = Duration::from_secs(3_600);
/// How long after a call without an answer EC2 is asked what came of it: a describe may lag behind.
pub(crate) const RESOLVE_AFTER: Duration = Duration::from_secs(2);
