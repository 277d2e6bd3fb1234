// SPDX-License-Identifier: Apache-2.0
//! The codes: one a cause, with the sentence that says what it means.
//!
//! A code is a promise: it is matched by alerts and looked up by people, so it is never renamed and never means something
//! else later. What has another remedy is another code. Numbers and remedies are in [`super::table`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident,)+) => {
        /// Stable code of a refusal, a degraded state, a repair. The text form is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum ReasonCode {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl ReasonCode {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The text form.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)+
                }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => concat!($($meaning,)+).trim_ascii(),)+
                }
            }
        }
    };
}

codes! {
    /// Every address that this instance type (or MAX_ENI) allows is taken.
    NodeFull,
    /// The subnet has no free address.
    SubnetExhausted,
    /// An ENI is being created or attached and will not be ready inside the caller's budget.
    EniPending,
    /// An attached ENI does not appear, or its link cannot be configured.
    EniStuck,
    /// EC2 throttles us, or our own bucket is empty.
    Ec2Throttled,
    /// EC2 refuses for lack of permission or credentials.
    Ec2Denied,
    /// EC2 cannot be reached, gives no answer, or answers with server errors.
    Ec2Unavailable,
    /// EC2 cannot be trusted: there is no certificate authority that could vouch for it.
    NoCertificateAuthorities,
    /// Instance metadata (IMDS) cannot be read, and the journal does not say instead who this node is.
    ImdsUnavailable,
    /// The state folder cannot be written.
    StateNotDurable,
    /// Nothing came free inside the caller's budget, and nothing else is wrong.
    BudgetSpent,
    /// All free addresses are cooling down.
    AllCooling,
    /// The daemon is still starting.
    Starting,
    /// The daemon is being stopped.
    Stopping,
    /// A DEL for the same sandbox came while its ADD was waiting, or its address was lost meanwhile.
    Superseded,
    /// The ENI limits of the instance type are not known.
    LimitsUnknown,
    /// No subnet of the zone is usable for pods by its tags.
    NoUsableSubnet,
    /// Custom networking: the node's ENIConfig is not there, cannot be read, or nobody has said yet which it is.
    EniConfigMissing,
    /// Custom networking: what the node's ENIConfig says cannot be used, wholly or in part.
    EniConfigFaulty,
    /// ENIs and addresses are someone else's business by configuration, and none that is here is free.
    ProvisioningDisabled,
    /// The kernel did not forget a released address's connections in time: it is given out all the same.
    AddressNotFlushed,
    /// The node's network was changed by someone else, and put back.
    HostRepaired,
    /// Someone else changes the node's network again and again.
    HostContested,
    /// What was left in the kernel of sandboxes that are gone was removed.
    OrphansSwept,
    /// The kernel's table of connections is nearly full: once it is, new connections of everybody on the node are dropped.
    ConntrackFilling,
    /// The kernel dropped packets or connections: its table of connections was full, or tuples clashed.
    ConntrackDropping,
    /// EC2 queues or drops packets, because the instance is over an allowance of its type.
    AllowanceExceeded,
    /// The node is cordoned, and its pool is not managed meanwhile.
    NodeCordoned,
    /// Addresses can be given again.
    AddressesAvailable,
    /// The file of settings, or an annotation of the Node that is one, has a mistake: what was there before holds.
    ConfigurationInvalid,
    /// The settings of this node are valid.
    ConfigurationValid,
    /// kubelet's max-pods is more than pods can have addresses here.
    MaxPodsTooHigh,
    /// kubelet's max-pods is no more than pods can have addresses here.
    MaxPodsFits,
    /// An ADD asks for what can never be served: a key with an empty part, or an interface on every network card.
    InvalidRequest,
    /// The host's own network (rules, tables, nftables) cannot be set up, and no address is given out before it is.
    HostSetupFailed,
    /// EC2 attaches no more ENIs than there are, fewer than the instance type's table says.
    AttachmentLimit,
    /// EC2 lets an ENI hold fewer addresses than the instance type's table says.
    AddressLimit,
    /// The subnet has no free /28 block, though it may have free addresses: prefixes wait, pods get single addresses.
    SubnetFragmented,
    /// EC2 will never take a request as it is: settings that cannot work together, or a mistake of the daemon's.
    Ec2Rejected,
    /// EC2 does not know an object that a call names: it is gone, or EC2 does not show it yet.
    Ec2NotFound,
    /// An object of EC2's is in another state than a call needs: in use, being detached, the instance is stopping.
    Ec2WrongState,
    /// The device index that an ENI was to be attached at has been taken by another ENI.
    DeviceIndexTaken,
    /// EC2 has seen the client token of a create call with other parameters.
    ClientTokenMismatch,
    /// An ENI that is here by the journal is not shown attached by EC2.
    EniNotListed,
    /// An address that is ours by the journal is not on its ENI by EC2.
    AddressNotListed,
    /// An address is free by the journal, but some link of the node has it: it is not given out until the kernel lets go.
    AddressHeld,
    /// A living pod has lost its host veth: its address stays its own, but it has no network until it is started anew.
    SandboxUnplugged,
    /// Prefix delegation is asked for, and the instance type takes no prefixes: pods get single addresses.
    PrefixesUnsupported,
    /// ENID_NOTRACK has no effect, because other settings need every connection tracked.
    NotrackIneffective,
    /// Addresses or an ENI that are too many are not given back, for somebody objects: the journal, the kernel or EC2.
    SurplusKept,
    /// The subnet of an attached ENI is excluded from pods by its tags: the ENI gives no address to new pods.
    SubnetExcluded,
    /// An allocation whose sandbox is gone was released, although no DEL came for it.
    OrphanReleased,
    /// An address that a pod's link has, and the journal did not know of, was adopted for that pod.
    AddressAdopted,
    /// A leaked ENI (ours, detached, nobody's) was deleted.
    LeakedEniDeleted,
    /// Something that is missing or wrong in the node's network cannot be put back.
    RepairFailed,
    /// The kernel refuses rules of an ENI's prefixes, or the removal of what an ENI had.
    KernelRefused,
    /// The state of the node's network or of its connections cannot be read from the kernel.
    KernelUnreadable,
    /// Notifications of the kernel were lost or cannot be had: changes are seen at the next look, not at once.
    KernelEventsLost,
    /// The container runtime does not say which sandboxes there are.
    RuntimeUnavailable,
    /// Connections and neighbours of released addresses cannot be flushed: the addresses wait for another try.
    FlushFailed,
    /// A file of the journal cannot be read, or makes no sense: its contents are found out anew.
    JournalUnreadable,
    /// What the state folder says is another instance's: it is forgotten.
    StateOfOtherInstance,
    /// The journal is of an earlier boot: its allocations and ENIs are read anew.
    JournalOfOtherBoot,
    /// Allocations of pods that have ended unseen (in a reboot, or before a takeover) were dropped.
    AllocationDropped,
    /// The journal binds one address to two sandboxes, or two addresses to one: the second is dropped.
    AllocationConflict,
    /// An IPv6 allocation of amazon-vpc-cni-k8s cannot be served, and was dropped.
    Ipv6AllocationDropped,
    /// One file of the journal calls an address allocated and the other does not: it rests for one cooldown.
    AllocationUnconfirmed,
    /// A small file of the state folder (tombstone, settings in force, settings of the node) is damaged or cannot be read.
    StateFileUnreadable,
    /// The folder of tombstones cannot be watched: a DEL that the plugin left there is found later.
    TombstonesUnwatched,
    /// The node was amazon-vpc-cni-k8s's until now: its allocations are taken over.
    TakenOver,
    /// Rules of amazon-vpc-cni-k8s in iptables-legacy may still be at work, out of the daemon's reach.
    LegacyRulesLeft,
    /// Rules that amazon-vpc-cni-k8s or portmap left in nf_tables or iptables cannot be removed.
    LeftoversRemain,
    /// The file that ENID_SETTINGS_FILE names is not there: no class of nodes applies.
    SettingsFileMissing,
    /// The file that ENID_SNAT_FILE names is not there: the variables' lists hold.
    SnatFileMissing,
    /// The file that ENID_SNAT_FILE names cannot be used: the lists stay as they were.
    SnatFileInvalid,
    /// A setting is accepted, but has no effect, or another than it seems to ask for.
    SettingIneffective,
    /// DISABLE_TCP_EARLY_DEMUX is set, and the sysctl cannot be written from where the daemon runs.
    EarlyDemuxOn,
    /// The link of an ENI is in a link group that is not ours: node ports asked for at its own address are not answered.
    LinkGroupForeign,
    /// Egress in the other IP family is asked for, and the node has no way out in it: pods get no egress address.
    EgressImpossible,
    /// A host port of a pod is not open: another pod has it, or the kernel refuses.
    HostPortClosed,
    /// Host ports cannot be looked at: what is lost of them stays lost until they can.
    HostPortsUnreadable,
    /// Host ends of detached pods cannot be deleted yet.
    VethsNotCollected,
    /// The introspection address cannot be listened on.
    IntrospectionUnavailable,
    /// The Kubernetes API server cannot be reached, or refuses a read or write: pods are served all the same.
    ApiServerUnavailable,
    /// This node's role may not sweep leaked ENIs: another node is to do it.
    SweepDenied,
    /// systemd cannot be told how the daemon does.
    SystemdNotTold,
    /// The network configuration list for the runtime cannot be written: the node does not become ready by us.
    ConflistNotWritten,
    /// The network configuration list that was there could not be used, and was set aside.
    ConflistReplaced,
    /// Another configuration sorts before ours, so the runtime uses that.
    ConflistShadowed,
    /// The daemon cannot start.
    StartFailed,
    /// The environment has a setting that cannot be used, and the daemon does not start with it.
    EnvironmentInvalid,
    /// A connection to the daemon's socket came to nothing: an unknown user, too many, or no gRPC.
    ConnectionRefused,
    /// The daemon no longer serves the plugin, or has met a mistake of its own, and ends to be started anew.
    DaemonAborted,
    /// Instance metadata gives no new keys: the old ones are used until they expire.
    CredentialsStale,
    /// The level of the log cannot be changed.
    LogLevelUnchanged,
    /// Plugin: nothing listens on the daemon's socket.
    DaemonUnreachable,
    /// Plugin: the daemon took the call and did not answer in time.
    DaemonSilent,
    /// Plugin: the daemon went away during the call.
    DaemonWentAway,
    /// Plugin: plugin and daemon are of different versions.
    VersionMismatch,
    /// Plugin: the daemon answered a call with an error instead of a reply, or with one that makes no sense.
    DaemonFailed,
    /// Plugin: the daemon refused without a reason, as amazon-vpc-cni-k8s's does.
    NoReasonGiven,
    /// Plugin: the daemon's answer is of a kind that this version of the plugin does not do.
    ReplyUnsupported,
    /// Plugin: the pod's link, routes or rules could not be made, and what was made is undone.
    PlumbingFailed,
    /// Plugin: another ADD or DEL of the same sandbox is in progress.
    SandboxBusy,
    /// Plugin: the pod's host ports could not be opened, and the ADD is undone.
    HostPortsFailed,
    /// Plugin: the network policy agent did not take the pod on, or could not be told of its end.
    PolicyAgentUnavailable,
    /// Plugin: parameters of the runtime (environment variables, a GC's list of what is attached) are missing or not valid.
    ParametersInvalid,
    /// Plugin: the network configuration cannot be used: not JSON, a key that is not valid, or one that is missing.
    NetworkConfigInvalid,
    /// Plugin: the network configuration is of a version of the CNI specification that the plugin does not speak.
    CniVersionUnsupported,
    /// Plugin: standard input or output could not be used.
    StdioFailed,
    /// Plugin: CHECK found that something of the pod's network is not as it was attached.
    NotAsAttached,
    /// Plugin: STATUS: no address has been proven on this node since it booted.
    NothingProven,
    /// Plugin: a GC, a DEL or an undone ADD could not take all of its garbage down: the daemon sweeps what is left.
    GarbageLeft,
    /// Plugin: the daemon has not confirmed a DEL: a tombstone is left for it to find.
    DelUnconfirmed,
    /// Plugin: the plugin made a mistake of its own and ended.
    PluginAborted,
    /// A code that this version does not know: who said it is of another version, whose documentation has it.
    UnknownCode,
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no reason code {0:?}")]
pub struct NoSuchCode(pub String);

impl FromStr for ReasonCode {
    type Err = NoSuchCode;

    fn from_str(text: &str) -> Result<Self, NoSuchCode> {
        Self::ALL.iter().copied().find(|code| code.name() == text).ok_or_else(|| NoSuchCode(text.to_owned()))
    }
}

/// Other versions have other codes: what they say must be readable all the same.
impl<'de> Deserialize<'de> for ReasonCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Self::UnknownCode))
    }
}
