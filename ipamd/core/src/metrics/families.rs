// SPDX-License-Identifier: Apache-2.0
//! Every family that `/metrics` can have, once. What is not in [`ALL`] is not served; docs/metrics.md, the alert rules and the
//! dashboard are held to it by tests.
//!
//! Ours begin with `ipamd_` and have base units. The reference's are here under its names where the meaning is the same, so that
//! dashboards and amazon-vpc-cni-k8s' metrics helper go on working; [`LEFT_OUT`] says which are not, and why.

/// Upper bounds of buckets, in seconds, ascending; `+Inf` is implied.
pub type Buckets = &'static [f64];

/// What kind a family is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, until the daemon starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram(Buckets),
    /// Sum and count only.
    Summary,
}

impl Kind {
    /// As the format spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A family of series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// Of an ADD: a warm one takes milliseconds, one that waits for an ENI seconds, and none more than 20 s.
const OF_ADD: Buckets = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// Of a write to the journal, which lies in memory.
const OF_WRITE: Buckets = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];
/// Of a call to EC2.
const OF_CALL: Buckets = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Of an ENI's states: an attachment takes seconds, service hours.
const OF_STATE: Buckets = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0];
/// The default buckets of Prometheus' clients, which the reference's start-up histograms have.
const DEFAULT: Buckets = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! families {
    ($($constant:ident = $kind:expr, $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family =
                Family { name: $name, kind: $kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    ADDRESSES = Kind::Gauge, "ipamd_addresses" ["state", "eni_id"]
        "Addresses of an ENI by state: used, free, cooling (released a moment ago, or being forgotten by the kernel), held (in use by the kernel without an allocation of ours), leaving (being given back), coming.";
    POOL_ADDRESSES = Kind::Gauge, "ipamd_pool_addresses" ["state"]
        "Addresses of the node by state, as in ipamd_addresses; coming has those of ENIs that are not made yet, too.";
    POOL_TARGET = Kind::Gauge, "ipamd_pool_target_addresses" []
        "Free addresses that the node is to keep by its settings and by what was observed.";
    POOL_SHORTFALL = Kind::Gauge, "ipamd_pool_shortfall_addresses" []
        "Addresses missing to the target that nothing under way will bring.";
    POOL_SURPLUS = Kind::Gauge, "ipamd_pool_surplus_addresses" []
        "Addresses above the target.";
    ENIS = Kind::Gauge, "ipamd_enis" ["state"]
        "ENIs by state: requested, attaching, configuring, ready, draining, detaching, deleting; other: attached and left alone.";
    ENI_OLDEST = Kind::Gauge, "ipamd_eni_oldest_seconds" ["state"]
        "For how long the ENI that is longest in a state that should pass has been in it; 0: none is.";
    ENIS_MAX = Kind::Gauge, "ipamd_enis_max" []
        "ENIs that the node may have: the instance type's, MAX_ENI, those of others taken off.";
    CAPACITY = Kind::Gauge, "ipamd_capacity_pods" ["kind"]
        "Pods that can have an address of their own: limit (by type and settings), now (with what the subnets had when last seen).";
    SUBNET_FREE = Kind::Gauge, "ipamd_subnet_free_addresses" ["subnet_id"]
        "Free addresses of a subnet as EC2 last counted them.";
    SUBNET_AGE = Kind::Gauge, "ipamd_subnet_read_age_seconds" ["subnet_id"]
        "How old that count is.";
    SUBNET_EXHAUSTED = Kind::Gauge, "ipamd_subnet_exhausted" ["subnet_id"]
        "1 while the subnet is left alone because it had nothing to give.";
    ADD_DURATION = Kind::Histogram(OF_ADD), "ipamd_add_duration_seconds" ["phase", "code"]
        "ADDs by phase (address: until one was found or refused; journal: writing it down; total) and end: ok, or the reason of the refusal.";
    DEL_DURATION = Kind::Histogram(OF_ADD), "ipamd_del_duration_seconds" ["phase", "code"]
        "DELs by phase, as ADDs; code is always ok: a DEL is not refused.";
    ADD_WAITING = Kind::Gauge, "ipamd_add_waiting" []
        "ADDs that wait for an address.";
    ADD_OLDEST_WAIT = Kind::Gauge, "ipamd_add_oldest_wait_seconds" []
        "For how long the first of them has waited.";
    ADD_POSSIBLE = Kind::Gauge, "ipamd_add_possible" []
        "1 while an ADD that comes now would get an address in time, as far as is known.";
    REASON = Kind::Counter, "ipamd_reason_total" ["code"]
        "How often a reason was given: refusals, and what the log said with a code.";
    REASON_ACTIVE = Kind::Gauge, "ipamd_reason_active" ["code"]
        "1 while the reason holds: ADDs would be refused with it, or it binds the pool or degrades the node.";
    EC2_CALLS = Kind::Counter, "ipamd_ec2_calls_total" ["action", "outcome"]
        "Calls to EC2 by how they ended: ok, throttled, denied, exhausted (no free address, prefix or place), gone (or in another state), unavailable, unknown (it may have happened), rejected.";
    EC2_DURATION = Kind::Histogram(OF_CALL), "ipamd_ec2_call_duration_seconds" ["action"]
        "How long calls to EC2 took, with the client's own retries.";
    EC2_THROTTLED = Kind::Counter, "ipamd_ec2_throttled_total" ["action", "by"]
        "Requests that were held back: by ec2, which threw them out, or by our own bucket, which let them wait.";
    ENI_STATE_DURATION = Kind::Histogram(OF_STATE), "ipamd_eni_state_duration_seconds" ["state"]
        "How long ENIs were in a state that they have left.";
    JOURNAL_WRITES = Kind::Counter, "ipamd_journal_writes_total" ["outcome"]
        "Writes of the journal: ok, failed.";
    JOURNAL_DURATION = Kind::Histogram(OF_WRITE), "ipamd_journal_write_duration_seconds" []
        "How long they took.";
    REPAIRS = Kind::Counter, "ipamd_repairs_total" ["object", "reason"]
        "Objects in the kernel that others changed and that were put right.";
    ORPHANS = Kind::Counter, "ipamd_orphans_swept_total" []
        "Objects of sandboxes that are gone, removed from the kernel.";
    CONTESTED = Kind::Gauge, "ipamd_repair_contested" []
        "1 while somebody changes what is ours again and again.";
    LOOKS = Kind::Counter, "ipamd_kernel_looks_total" []
        "Times everything in the kernel was looked at.";
    DRIFT = Kind::Counter, "ipamd_drift_total" []
        "Times an ENI or an address in use was missing in EC2's word.";
    DRIFT_ADDRESSES = Kind::Gauge, "ipamd_drift_addresses" []
        "Addresses in use that EC2 does not show now.";
    DRIFT_ENIS = Kind::Gauge, "ipamd_drift_enis" []
        "ENIs that EC2 does not show now.";
    CONNTRACK = Kind::Gauge, "ipamd_conntrack_entries" []
        "Connections that the kernel tracks, read every 30 to 90 s.";
    CONNTRACK_MAX = Kind::Gauge, "ipamd_conntrack_entries_max" []
        "The most that it tracks.";
    CONNTRACK_LOST = Kind::Counter, "ipamd_conntrack_lost_total" ["why"]
        "What the kernel lost of connections: insert_failed, dropped, early_dropped.";
    ALLOWANCE = Kind::Counter, "ipamd_eni_allowance_exceeded_total" ["eni_id", "allowance"]
        "Packets of an ENI that EC2 queued or dropped because the instance was over an allowance: bw_in, bw_out, pps, conntrack, linklocal. Counted by the ENA driver since the link came.";
    EVENTS_DROPPED = Kind::Counter, "ipamd_events_dropped_total" []
        "Kubernetes events and the like that were given up.";
    LOOP_AGE = Kind::Gauge, "ipamd_loop_age_seconds" []
        "How far the daemon's loop is behind the time by which it had to turn; 0 while it waits as it should.";
    SERVING = Kind::Gauge, "ipamd_serving" []
        "1 once an address of this boot was proven.";
    API_SERVER = Kind::Gauge, "ipamd_api_server_connected" []
        "1 while the Kubernetes API server is watched.";
    SNAPSHOT = Kind::Gauge, "ipamd_snapshot_answered" []
        "0 when the loop did not answer this scrape in time: all that comes from the state is missing then.";
    BUILD = Kind::Gauge, "ipamd_build_info" ["version"]
        "1, with the daemon's version.";
    PROCESS_CPU = Kind::Counter, "process_cpu_seconds_total" []
        "Processor time of the daemon, user and system.";
    PROCESS_FDS = Kind::Gauge, "process_open_fds" []
        "File descriptors that the daemon has open.";
    PROCESS_MAX_FDS = Kind::Gauge, "process_max_fds" []
        "The most that it may have open.";
    PROCESS_MEMORY = Kind::Gauge, "process_resident_memory_bytes" []
        "Memory of the daemon that is in RAM.";
    PROCESS_VIRTUAL = Kind::Gauge, "process_virtual_memory_bytes" []
        "Memory that the daemon has mapped.";
    PROCESS_START = Kind::Gauge, "process_start_time_seconds" []
        "When the daemon started, in seconds since the Unix epoch.";
    R_ENI_ALLOCATED = Kind::Gauge, "awscni_eni_allocated" []
        "ENIs of the node that serve pods or will.";
    R_ENI_MAX = Kind::Gauge, "awscni_eni_max" []
        "As ipamd_enis_max.";
    R_IP_MAX = Kind::Gauge, "awscni_ip_max" []
        "Addresses for pods that as many ENIs can hold.";
    R_TOTAL = Kind::Gauge, "awscni_total_ip_addresses" []
        "Addresses of the node, in every state.";
    R_ASSIGNED = Kind::Gauge, "awscni_assigned_ip_addresses" []
        "Addresses that pods have.";
    R_PREFIXES = Kind::Gauge, "awscni_total_ipv4_prefixes" []
        "Prefixes of the node.";
    R_PER_ENI = Kind::Gauge, "awscni_assigned_ip_per_eni" ["eni"]
        "Addresses of an ENI that pods have.";
    R_ADD = Kind::Counter, "awscni_add_ip_req_count" []
        "ADDs asked for.";
    R_DEL = Kind::Counter, "awscni_del_ip_req_count" ["reason"]
        "DELs asked for: PodDeleted, SetupNSFailed, other.";
    R_NO_ADDRESS = Kind::Counter, "awscni_no_available_ip_addresses" []
        "ADDs that were refused for want of an address.";
    R_LATENCY = Kind::Summary, "awscni_aws_api_latency_ms" ["api", "error", "status"]
        "How long calls to EC2 took, in milliseconds; status is HTTP's, empty without an answer.";
    R_API_ERRORS = Kind::Counter, "awscni_aws_api_error_count" ["api", "error"]
        "Calls to EC2 that failed, by EC2's error code.";
    R_EC2_REQUESTS = Kind::Counter, "awscni_ec2api_req_count" ["fn"]
        "Calls to EC2.";
    R_EC2_ERRORS = Kind::Counter, "awscni_ec2api_error_count" ["fn"]
        "Calls to EC2 that failed.";
    R_FORCED_ENIS = Kind::Counter, "awscni_force_removed_enis" []
        "Always 0: an ENI with pods is never removed.";
    R_FORCED_IPS = Kind::Counter, "awscni_force_removed_ips" []
        "Always 0: an address that a pod has is never removed.";
    R_STARTUP = Kind::Histogram(DEFAULT), "awscni_ipamd_startup_duration_seconds" ["success", "with_api_server", "failure_reason"]
        "From the start of the daemon until the plugin is served; one that fails ends without a metric.";
    R_BUILD = Kind::Gauge, "awscni_build_info" ["version", "goversion"]
        "1, with the daemon's version; no Go.";
}

/// Actions of EC2 that the daemon calls: values of `action`. A test compares them with the source of the EC2 edge.
pub const EC2_ACTIONS: [&str; 11] = [
    "AssignPrivateIpAddresses",
    "AttachNetworkInterface",
    "CreateNetworkInterface",
    "CreateTags",
    "DeleteNetworkInterface",
    "DescribeInstanceTypes",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "UnassignPrivateIpAddresses",
];

/// The reference's families that are not served, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "awscni_assigned_ip_per_cidr",
        "a series for every address that a pod ever had; `ipamd_addresses` has them by ENI and state",
    ),
    (
        "awscni_ipamd_error_count",
        "its label names functions of the reference's source; `ipamd_reason_total` has reasons",
    ),
    (
        "awscni_ipamd_action_inprogress",
        "one of its four loops runs or does not; here calls overlap: `ipamd_enis`, `ipamd_pool_addresses{state=\"coming\"}`",
    ),
    (
        "awscni_reconcile_count",
        "its label names functions of the reference's source; `ipamd_drift_total` and `ipamd_repairs_total`",
    ),
    ("awscni_pod_eni_error_count", "there are no branch ENIs"),
    ("awscni_aws_utils_error_count", "there is no such layer; `ipamd_ec2_calls_total` has every failure"),
    (
        "awscni_ipamd_node_initialization_duration_seconds",
        "the node is set up while pods are served; `ipamd_serving` says when it could be",
    ),
    ("awscni_connmark_backend", "it is always nf_tables"),
    ("awscni_connmark_reconcile_total", "`ipamd_kernel_looks_total` and `ipamd_repairs_total` have it for all rules"),
    ("go_*", "there is no Go"),
];
