// SPDX-License-Identifier: Apache-2.0
//! The table: which code is provoked how, where it must be seen then, and why not where not; and which cannot be provoked here.

/// Whether a code is to be seen at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    Yes,
    /// Why it makes no sense there.
    No(&'static str),
}

use Seen::{No, Yes};

/// One code.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) code: &'static str,
    /// How it is provoked.
    pub(crate) how: &'static str,
    pub(crate) cni: Seen,
    pub(crate) log: Seen,
    pub(crate) metric: Seen,
    pub(crate) event: Seen,
    pub(crate) status: Seen,
    /// The log is the plugin's.
    pub(crate) of_plugin: bool,
}

/// An ADD is refused with it.
const fn refusal(code: &'static str, how: &'static str) -> Row {
    Row { code, how, cni: Yes, log: Yes, metric: Yes, event: Yes, status: Yes, of_plugin: false }
}

/// The daemon says so, and ADDs go on or are refused for what comes of it.
const fn notice(code: &'static str, how: &'static str) -> Row {
    Row { cni: No("no ADD is refused for it"), ..refusal(code, how) }
}

const fn of_plugin(code: &'static str, how: &'static str) -> Row {
    const ALONE: Seen = No("the plugin's own word: the daemon does not hear it");
    Row { code, how, cni: Yes, log: Yes, metric: ALONE, event: ALONE, status: ALONE, of_plugin: true }
}

/// The same, before the plugin knows where its log is.
const fn unlogged(code: &'static str, how: &'static str) -> Row {
    Row { log: No("the configuration names the log, and was not read by then"), ..of_plugin(code, how) }
}

const fn condition(code: &'static str, how: &'static str) -> Row {
    const SHOWN: Seen = No("reason of a condition of the Node, which the scenario looks at");
    Row {
        code,
        how,
        cni: No("nothing is refused"),
        log: SHOWN,
        metric: SHOWN,
        event: SHOWN,
        status: SHOWN,
        of_plugin: false,
    }
}

const fn ends(code: &'static str, how: &'static str) -> Row {
    const NOBODY: Seen = No("there is no daemon that could be asked");
    Row { code, how, cni: NOBODY, log: NOBODY, metric: NOBODY, event: NOBODY, status: NOBODY, of_plugin: false }
}

/// Every code that is provoked.
pub(crate) const ROWS: &[Row] = &[
    // The pool.
    refusal("NodeFull", "MAX_ENI=1 on an m5.large, a tenth pod"),
    refusal("AllCooling", "one of the nine ends, its address cools for five minutes"),
    refusal("NodeCordoned", "the node is cordoned while all is taken"),
    condition("AddressesAvailable", "a node with free addresses"),
    Row {
        event: No("the runtime gave the sandbox up itself: nobody is to be told"),
        ..refusal("Superseded", "a DEL while the ADD of the same sandbox waits")
    },
    Row {
        cni: No("the plugin sends no such request; the answer on the wire has it"),
        ..refusal("InvalidRequest", "an AddNetwork without a container id")
    },
    notice("SubnetFragmented", "prefix delegation, and EC2 has no free /28"),
    notice("PrefixesUnsupported", "prefix delegation on an m4.large"),
    refusal("NoUsableSubnet", "the primary ENI's subnet is tagged kubernetes.io/role/cni=0, no other is offered"),
    Row { event: No("it is meant so: told, not warned of"), ..notice("SubnetExcluded", "the same") },
    refusal("ProvisioningDisabled", "DISABLE_NETWORK_RESOURCE_PROVISIONING on a node without addresses"),
    refusal("EniConfigMissing", "custom networking without the ENIConfig"),
    refusal("EniConfigFaulty", "an ENIConfig with a subnet that is not there"),
    // EC2 and metadata.
    refusal("Ec2Throttled", "AssignPrivateIpAddresses: RequestLimitExceeded"),
    refusal("Ec2Denied", "AssignPrivateIpAddresses: UnauthorizedOperation"),
    refusal("SubnetExhausted", "AssignPrivateIpAddresses: InsufficientFreeAddressesInSubnet"),
    refusal("Ec2Unavailable", "AssignPrivateIpAddresses: InternalError"),
    refusal("Ec2Rejected", "AssignPrivateIpAddresses: UnsupportedOperation"),
    refusal("Ec2NotFound", "AssignPrivateIpAddresses: InvalidNetworkInterfaceID.NotFound"),
    refusal("Ec2WrongState", "AssignPrivateIpAddresses: IncorrectInstanceState"),
    refusal("BudgetSpent", "AssignPrivateIpAddresses does not answer, and the ADD has two seconds"),
    Row {
        cni: No("EC2's word is believed, and the node is full with what it has: NodeFull"),
        ..notice("AddressLimit", "AssignPrivateIpAddresses: PrivateIpAddressLimitExceeded")
    },
    refusal("AttachmentLimit", "AttachNetworkInterface: AttachmentLimitExceeded"),
    refusal("ClientTokenMismatch", "CreateNetworkInterface: IdempotentParameterMismatch"),
    notice("DeviceIndexTaken", "AttachNetworkInterface: the device index is taken"),
    refusal("EniPending", "an attachment that stays `attaching`"),
    refusal("EniStuck", "an attached ENI whose link never comes"),
    refusal("ImdsUnavailable", "a new node whose metadata answers 503"),
    refusal("Starting", "a new node whose DescribeNetworkInterfaces has not answered yet"),
    notice("LimitsUnknown", "an instance type of no table, DescribeInstanceTypes denied"),
    notice("AddressNotListed", "somebody unassigns a pod's address"),
    // State.
    refusal("StateNotDurable", "the disk of the state folder is full"),
    notice("JournalUnreadable", "ipam.json is garbage at a start"),
    notice("AddressAdopted", "the same, with a pod that lives"),
    notice("StateFileUnreadable", "a tombstone is garbage"),
    notice("JournalOfOtherBoot", "enid.json has another boot's id"),
    notice("AllocationDropped", "the same, for a pod that has lost its link"),
    notice("AllocationUnconfirmed", "ipam.json is lost, enid.json is not, the pod's link is gone"),
    notice("StateOfOtherInstance", "enid.json has another instance's id"),
    ends("StartFailed", "a second daemon on one node"),
    ends("EnvironmentInvalid", "WARM_IP_TARGET=many"),
    // The node's network.
    notice("HostRepaired", "ip rule flush"),
    notice("HostContested", "the same again and again"),
    Row {
        event: No("nothing is wrong any more, nor was: told, not warned of"),
        ..notice("OrphansSwept", "rules of a plugin that was killed half-way through a DEL")
    },
    notice("OrphanReleased", "a pod's link is removed, no DEL comes"),
    notice("AddressHeld", "a link of somebody else's has a free address"),
    notice("RuntimeUnavailable", "ENID_RUNTIME_ENDPOINT leads nowhere, and a pod's link is removed"),
    // Settings.
    notice("SettingsFileMissing", "ENID_SETTINGS_FILE names no file"),
    notice("SnatFileMissing", "ENID_SNAT_FILE names no file"),
    notice("SnatFileInvalid", "the file is no JSON"),
    notice("SettingIneffective", "WARM_PREFIX_TARGET without prefix delegation"),
    notice("NotrackIneffective", "ENID_NOTRACK where Services lie in the VPC"),
    notice("SystemdNotTold", "NOTIFY_SOCKET leads nowhere"),
    notice("ConflistNotWritten", "HOST_CNI_CONFDIR_PATH is no folder"),
    notice("IntrospectionUnavailable", "somebody listens at its address"),
    notice("ApiServerUnavailable", "the right to patch nodes/status is missing"),
    notice("EgressImpossible", "ENABLE_V6_EGRESS on a node without IPv6"),
    notice("ConfigurationInvalid", "a file of settings with a mistake"),
    condition("ConfigurationValid", "the mistake is corrected"),
    Row { event: Yes, ..condition("MaxPodsTooHigh", "kubelet's max-pods is 110 on an m5.large") },
    condition("MaxPodsFits", "it is 29"),
    // The plugin.
    of_plugin("PlumbingFailed", "CNI_NETNS names no namespace"),
    unlogged("ParametersInvalid", "CNI_IFNAME=lo"),
    unlogged("NetworkConfigInvalid", "a port mapping that is a text"),
    unlogged("CniVersionUnsupported", "cniVersion 9.9.9"),
    of_plugin("NotAsAttached", "the pod's link is removed before a CHECK"),
    of_plugin("HostPortsFailed", "two pods ask for one host port"),
    of_plugin("PolicyAgentUnavailable", "NETWORK_POLICY_ENFORCING_MODE, and no agent"),
    of_plugin("DaemonSilent", "the daemon is stopped by SIGSTOP"),
    of_plugin("DaemonUnreachable", "the daemon is not there"),
    Row { cni: No("a DEL does not fail for it"), ..of_plugin("DelUnconfirmed", "a DEL without the daemon") },
    of_plugin("NothingProven", "STATUS on a node whose metadata does not answer"),
];

/// Every other code of docs/reasons.md, and why. Behind a colon: where its cause is lived, with or without a word of the code; "no test": nowhere.
pub(crate) const UNPROVOKED: &[(&str, &str)] = &[
    ("Stopping", "between daemon and plugin, which asks the next daemon: ipamd/tests/daemon.rs"),
    ("UnknownCode", "between versions: ipamd-core reason::tests"),
    ("AddressNotFlushed", "a kernel whose conntrack cannot be written for 10 s: core::tests::flush"),
    ("FlushFailed", "the same"),
    ("ConntrackFilling", "the table's size is the machine's, not the namespace's: core::tracked"),
    ("ConntrackDropping", "the same"),
    ("AllowanceExceeded", "counters that only the driver of a real ENA device has: core::allowances"),
    ("HostSetupFailed", "a kernel that refuses nftables: core::tests::failures"),
    ("RepairFailed", "a kernel that refuses single objects: core::tests::repair"),
    ("KernelRefused", "the same: core::tests::failures"),
    ("KernelUnreadable", "a kernel that does not answer netlink; no test"),
    ("TombstonesUnwatched", "the kernel's instances of inotify are the whole machine's"),
    ("KernelEventsLost", "an overflow of netlink's buffer: core::tests::repair"),
    ("EniNotListed", "a detachment that the guest does not see: core::tests::drift"),
    ("SurplusKept", "an address that the kernel has when it is to go: core::tests::witness"),
    ("SandboxUnplugged", "takes a runtime that has the sandbox, and a minute: integration/tests/runtimes"),
    ("LeakedEniDeleted", "takes an ENI's age twice: integration/tests/places.rs"),
    ("SweepDenied", "takes an election: integration/tests/kubernetes/sweeper.rs"),
    ("NoCertificateAuthorities", "takes a host without certificates: integration/tests/credentials/authorities.rs"),
    ("CredentialsStale", "takes keys that expire: integration/tests/credentials"),
    ("AllocationConflict", "a journal that contradicts itself: ipamd-core restore::tests"),
    ("Ipv6AllocationDropped", "a node of an IPv6 cluster: ipamd-core restore::tests"),
    ("TakenOver", "takes a node of the reference's: integration/tests/takeover"),
    ("LegacyRulesLeft", "takes iptables-legacy in the kernel: integration/tests/takeover"),
    ("LeftoversRemain", "a kernel that refuses a delete; no test"),
    ("EarlyDemuxOn", "takes a read-only /proc/sys where the setting is on; no test"),
    ("LinkGroupForeign", "told at an ENI's set-up: integration/tests/nodeport.rs has the group"),
    ("HostPortClosed", "a port that another pod took while the daemon was away; no test"),
    ("HostPortsUnreadable", "a folder or kernel that cannot be read; no test"),
    ("VethsNotCollected", "a kernel that refuses a delete; no test"),
    ("DaemonAborted", "a mistake of the daemon's own"),
    ("LogLevelUnchanged", "tracing refuses a filter, which it does not"),
    ("ConnectionRefused", "a peer of another user: ipam-api/tests"),
    ("ConflistReplaced", "takes files of others in the runtime's folder: integration/tests/install"),
    ("ConflistShadowed", "the same"),
    ("DaemonWentAway", "the daemon ends in the middle of a call: cni-plugin/src/error.rs"),
    ("VersionMismatch", "a daemon of another version: cni-plugin/tests/add.rs"),
    ("DaemonFailed", "a daemon that answers nonsense: cni-plugin/tests/add.rs"),
    ("NoReasonGiven", "the reference's daemon: cni-plugin/tests/add.rs"),
    ("ReplyUnsupported", "an answer of the reference's daemon: cni-plugin/tests/add.rs"),
    ("SandboxBusy", "two ADDs of one sandbox of which both plumb; no test"),
    ("StdioFailed", "more configuration than may be read; no test"),
    ("GarbageLeft", "a kernel that refuses deletes; no test"),
    ("PluginAborted", "a mistake of the plugin's own"),
];

/// The row of a code.
pub(crate) fn row(code: &str) -> &'static Row {
    ROWS.iter().find(|row| row.code == code).unwrap_or_else(|| panic!("{code} has no row"))
}
