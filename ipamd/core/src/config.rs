// SPDX-License-Identifier: Apache-2.0
//! The configuration, parsed once: what every variable of the environment becomes.
//!
//! Decides which settings the daemon runs with, and refuses to start with any that would build another network than the
//! one asked for. It does not read the environment: [`parse`] takes a [`Source`]. All mistakes are returned together, so an
//! operator sees every one in one start.
//!
//! Invariant: every variable of the reference's table is a row of [`VARIABLES`]; a variable is honoured, or accepted
//! because it asks for what we do anyway, or accepted with a [`Note`], or refused by name. None is ignored in silence.
//!
//! Names, defaults and meanings are those of amazon-vpc-cni-k8s (README, "CNI Configuration Variables"); its shipped
//! manifest starts with notes only. What lies over the environment (classes of nodes, annotations of the Node) is [`Layers`]'; what of it
//! all may change while the daemon runs is [`LiveSettings`].

mod fields;
mod kubernetes;
mod layers;
mod live;
mod markdown;
mod nat_file;
mod parse;
mod proxy;
mod read;
mod settings_file;
mod shown;
mod subjects;
mod variable;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use kubernetes::{EniConfigKeys, KubernetesConfig, Taint};
pub use layers::{ANNOTATION, Layers, Origin, Resolved, read_annotations};
pub use live::LiveSettings;
pub use markdown::{configuration_page, markdown_table};
pub use nat_file::parse_nat_file;
pub use parse::parse;
pub use proxy::{Proxies, ProxyUrl, Route};
pub use settings_file::{Class, Fit, Mistake, NodeTraits, Selector, read_settings};
pub use shown::{ClassSnapshot, ConfigSnapshot, NodeSnapshot, VariableSnapshot};
pub use subjects::{Beside, Entry, SUBJECTS, Subject};
pub use variable::{Support, Variable, Verdict};
pub use variables::VARIABLES;

/// Where variables come from: the process environment in the daemon, a map in tests.
pub trait Source {
    /// The value of a variable; `None`: not set. An empty value counts as not set.
    fn get(&self, name: &str) -> Option<String>;
    /// Names of all variables that are set, any order: how unknown `ENID_…` variables are found.
    fn names(&self) -> Vec<String>;
}

impl Source for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// A setting that is accepted but does not do what it says; logged as a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The variable.
    pub variable: &'static str,
    /// What is different from what it asks for.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.variable, self.text)
    }
}

/// A setting that cannot be honoured; the daemon does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}=`{value}`: {problem}")]
pub struct ConfigError {
    /// The variable.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

/// Everything the daemon can be told. Built by [`parse`]; [`Config::default`] is an empty environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What slots of ENIs are filled with (`ENABLE_PREFIX_DELEGATION`).
    pub address_mode: AddressMode,
    /// How large the warm pool is. In prefix mode an ENI target gives way to [`AddressMode::Prefixes`]' own.
    pub warm: WarmTargets,
    /// Cap on ENIs, the primary one counted (`MAX_ENI`); `None`: the instance type's limit alone.
    pub max_enis: Option<u32>,
    /// Addresses at which warm targets stop growing the pool (`ENID_MAX_PODS`); waiting pods are served beyond it.
    pub max_pods: Option<u32>,
    /// How long a released address rests before another pod gets it (`IP_COOLDOWN_PERIOD`).
    pub cooldown: Duration,
    /// What happens to attached ENIs that carry neither our tag nor the no-manage tag (`MANAGE_UNTAGGED_ENI`).
    pub untagged_enis: UntaggedEnis,
    /// Name of the cluster, for tags (`CLUSTER_NAME`).
    pub cluster_name: Option<String>,
    /// Further tags of new ENIs (`ADDITIONAL_ENI_TAGS`).
    pub additional_eni_tags: BTreeMap<String, String>,
    /// Where new ENIs are made: in the zone's tagged subnets, in the primary ENI's alone (`ENABLE_SUBNET_DISCOVERY`), or in the
    /// ENIConfig's (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`).
    pub subnets: SubnetChoice,
    /// Whose business ENIs and addresses are (`DISABLE_NETWORK_RESOURCE_PROVISIONING`, `ENABLE_IMDS_ONLY_MODE`).
    pub provisioning: Provisioning,
    /// Whether the pool goes on growing and shrinking while the node is cordoned (`AWS_MANAGE_ENIS_NON_SCHEDULABLE`).
    pub provisions_when_cordoned: bool,
    /// How long an ENI must have been seen unattached before it is deleted as leaked (`ENID_LEAKED_ENI_AGE`); `None`: leaked
    /// ENIs are not looked for (`DISABLE_LEAKED_ENI_CLEANUP`).
    pub leaked_eni_age: Option<Duration>,
    /// Whether one ENI slot is kept for a trunk on types that take one (`ENABLE_POD_ENI`).
    pub keeps_trunk_slot: bool,
    /// How pods are plumbed (`ENID_LAYOUT`).
    pub layout: Layout,
    /// Bits of the packet mark that name a pod's ENI in layout `flat` (`ENID_ENI_MARK_MASK`).
    pub eni_mark_mask: u32,
    /// Source address translation of what leaves the VPC.
    pub snat: SnatConfig,
    /// MTU of every ENI (`AWS_VPC_ENI_MTU`).
    pub eni_mtu: u32,
    /// MTU of pods (`POD_MTU`); never more than `eni_mtu`: what is larger would die at the ENI.
    pub pod_mtu: u32,
    /// MTU of the paths that leave the VPC (`ENID_EXTERNAL_MTU`), to which the segments of pods' TCP connections are fitted;
    /// `None`: they are left alone.
    pub external_mtu: Option<u32>,
    /// Whether pods get out in IPv6 behind the node's address (`ENABLE_V6_EGRESS`).
    pub v6_egress: bool,
    /// Whether the kernel must not look for a packet's socket before it routes the packet (`DISABLE_TCP_EARLY_DEMUX`).
    pub disables_early_demux: bool,
    /// Traffic of pods inside the VPC that nobody translates is not tracked (`ENID_NOTRACK`); asked of [`Config::leaves_untracked`].
    pub notrack: bool,
    /// The cluster's own API as pods are told of it (`KUBERNETES_SERVICE_HOST`): one address of the Services' block, as a rule.
    pub service_host: Option<String>,
    /// The file of classes of nodes, watched (`ENID_SETTINGS_FILE`).
    pub settings_file: Option<PathBuf>,
    /// How the API server is reached, and what is written there.
    pub kubernetes: KubernetesConfig,
    /// First letters of host veth names (`AWS_VPC_K8S_CNI_VETHPREFIX`).
    pub veth_prefix: String,
    /// The journal in the reference's format (`AWS_VPC_K8S_CNI_BACKING_STORE`); ours and the tombstones lie beside it.
    pub journal: PathBuf,
    /// The plugin's socket (`ENID_SOCKET`).
    pub socket: PathBuf,
    /// Level and place of the log.
    pub log: LogConfig,
    /// Socket of the container runtime, asked by the CRI whether a sandbox still lives (`ENID_RUNTIME_ENDPOINT`); `None`: it is not
    /// asked.
    pub runtime: Option<PathBuf>,
    /// Where introspection is served; `None`: it is off.
    pub introspection: Option<Bind>,
    /// Whether introspection has the page for browsers (`ENID_PAGE`).
    pub page: bool,
    /// Where metrics are served; `None`: they are not (`DISABLE_METRICS`). The unspecified IPv6 address is every address of both families.
    pub metrics: Option<std::net::SocketAddr>,
    /// Time limit of one call to EC2, all its attempts included (`HTTP_TIMEOUT`).
    pub http_timeout: Duration,
    /// Base URL of EC2 (`AWS_EC2_ENDPOINT`, else `AWS_ENDPOINT_URL_EC2`, else `AWS_ENDPOINT_URL`); `None`: the region's own.
    pub ec2_endpoint: Option<String>,
    /// Base URL of IMDS (`AWS_EC2_METADATA_SERVICE_ENDPOINT`); `None`: the link-local one.
    pub imds_endpoint: Option<String>,
    /// PEM file of the certificate authorities that AWS's endpoints are trusted by (`AWS_CA_BUNDLE`); `None`: the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Through which proxies AWS's endpoints are reached (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub proxies: Proxies,
    /// What is laid down for the container runtime.
    pub cni: CniFiles,
    /// How the plugin is to ask the network policy agent (`NETWORK_POLICY_ENFORCING_MODE`), as it was written; `None`: not at all.
    pub policy_mode: Option<String>,
}

/// What is laid down for the container runtime: the plugin, by the install step, and its configuration list, by the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniFiles {
    /// Folder of the plugin (`HOST_CNI_BIN_PATH`); `None`: the install step looks for it.
    pub bin_folder: Option<PathBuf>,
    /// Folder of the configuration list (`HOST_CNI_CONFDIR_PATH`); `None`: none is written.
    pub conf_folder: Option<PathBuf>,
    /// A list of one's own in place of ours (`ENID_CONFLIST_TEMPLATE`).
    pub template: Option<PathBuf>,
    /// The plugin's log, a path or `stderr` (`AWS_VPC_K8S_PLUGIN_LOG_FILE`).
    pub plugin_log: String,
    /// The plugin's log level, in upper case (`AWS_VPC_K8S_PLUGIN_LOG_LEVEL`).
    pub plugin_log_level: String,
    /// Whether the plugin `bandwidth` is in the list (`ENABLE_BANDWIDTH_PLUGIN`).
    pub has_bandwidth: bool,
    /// Whether the plugin `tuning` is in the list, which switches IPv6 off in pods (`DISABLE_POD_V6`).
    pub disables_pod_ipv6: bool,
}

impl Default for CniFiles {
    fn default() -> Self {
        Self {
            bin_folder: None,
            conf_folder: None,
            template: None,
            plugin_log: "/var/log/aws-routed-eni/plugin.log".to_owned(),
            plugin_log_level: "DEBUG".to_owned(),
            has_bandwidth: false,
            disables_pod_ipv6: false,
        }
    }
}

/// What slots of ENIs are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMode {
    /// Single addresses.
    SecondaryIps,
    /// /28 prefixes where the instance type and the subnet have them, single addresses elsewhere.
    Prefixes {
        /// Free prefixes to keep (`WARM_PREFIX_TARGET`), when no address target is set; `None`: not set either.
        warm_prefixes: Option<u32>,
    },
}

/// How large the warm pool is: one policy, never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarmTargets {
    /// No target is set: as many free addresses as come while an ENI is being made, by what was observed.
    Adaptive,
    /// Spare ENIs' worth of addresses (`WARM_ENI_TARGET`).
    Enis(u32),
    /// Spare /28 prefixes (`WARM_PREFIX_TARGET`): what takes the place of an ENI target in prefix mode.
    Prefixes(u32),
    /// Counts of addresses.
    Addresses {
        /// Free addresses to keep (`WARM_IP_TARGET`).
        warm: u32,
        /// Floor on all addresses held (`MINIMUM_IP_TARGET`).
        minimum: u32,
    },
}

/// Where new ENIs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetChoice {
    /// In the subnets of VPC and zone that their tags offer, the primary ENI's among them; excluded ones serve no new pod.
    Tagged,
    /// In the primary ENI's subnet; no subnet's tags are looked at.
    Primary,
    /// In those that the node's ENIConfig names (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`); the primary ENI gets no more addresses.
    EniConfig,
}

/// Whose business ENIs and addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// Ours: they are made, changed and given back.
    Full,
    /// Someone else's: what is there is served and what comes is followed, nothing of EC2's is changed.
    Disabled,
    /// Someone else's, and EC2 is not even asked: instance metadata tells what there is.
    ImdsOnly,
}

impl Provisioning {
    /// Whether EC2's objects may be changed.
    #[must_use]
    pub fn is_full(self) -> bool {
        self == Self::Full
    }
}

/// What happens to attached ENIs that carry neither our tag nor the no-manage tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntaggedEnis {
    /// Their addresses are used for pods; they are never detached.
    Used,
    /// They are left alone and only count against the limits.
    LeftAlone,
}

/// How pods are plumbed on the node's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The reference's: policy rules for each pod.
    Classic,
    /// Policy rules for the node, its ENIs and their prefixes, whatever the number of pods.
    #[default]
    Flat,
}

/// Source address translation of what leaves the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnatConfig {
    /// Someone else translates (`AWS_VPC_K8S_CNI_EXTERNALSNAT`): we do not.
    pub external: bool,
    /// Connections to the node's address that end in a pod are answered from that address
    /// (`AWS_VPC_CNI_NODE_PORT_SUPPORT`).
    pub serves_node_ports: bool,
    /// What may change while the daemon runs: what the file below says, the variables' values until then.
    pub blocks: NatBlocks,
    /// The file that is watched for it (`ENID_SNAT_FILE`).
    pub file: Option<PathBuf>,
    /// How source ports are chosen (`AWS_VPC_K8S_CNI_RANDOMIZESNAT`).
    pub port_choice: PortChoice,
    /// The first and the last of them (`ENID_SNAT_PORT_RANGE`); `None`: the kernel's own.
    pub port_range: Option<(u16, u16)>,
    /// Mark of connections that belong to the primary ENI (`AWS_VPC_K8S_CNI_CONNMARK`); value and mask.
    pub connmark: u32,
}

/// Lists of blocks that decide what becomes of what pods send. All in network form, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatBlocks {
    /// Destinations outside the VPC that are reached untranslated (`AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`).
    pub exclude: Vec<Ipv4Net>,
    /// The only destinations that are reached translated (`ENID_SNAT_INCLUDE_CIDRS`), the VPC's and excluded ones left out;
    /// empty: all others.
    pub include: Vec<Ipv4Net>,
    /// Destinations that every pod reaches by the main table (`AWS_EXTERNAL_SERVICE_CIDRS`).
    pub external_services: Vec<Ipv4Net>,
}

/// How source ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChoice {
    /// Fully random.
    Prng,
    /// Random by hash.
    HashRandom,
    /// The kernel's default: the same port where possible.
    None,
}

/// Level and place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least level that is written (`AWS_VPC_K8S_CNI_LOGLEVEL`).
    pub level: LogLevel,
    /// Where to (`AWS_VPC_K8S_CNI_LOG_FILE`).
    pub target: LogTarget,
}

/// Log levels of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything but packets.
    Debug,
    /// State transitions.
    Info,
    /// Degraded.
    Warn,
    /// The operator must act. `fatal` means the same.
    Error,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// TCP.
    Tcp(std::net::SocketAddr),
    /// A Unix socket (`unix:/path`).
    Unix(PathBuf),
}

impl Config {
    /// Whether plain traffic inside a VPC of these blocks is left untracked.
    #[must_use]
    pub fn leaves_untracked(&self, vpc_cidrs: &[Ipv4Net]) -> bool {
        self.notrack && self.everything_is_tracked_because(vpc_cidrs).is_none()
    }

    /// Why `ENID_NOTRACK` must not take effect where it is asked for: not where a Service's address lies in a block of the VPC,
    /// or may: what is sent to it would pass for plain, and never reach a pod. Not where Amazon's network policy agent is told of
    /// pods: it forgets the flows that conntrack does not list.
    #[must_use]
    pub fn everything_is_tracked_because(&self, vpc_cidrs: &[Ipv4Net]) -> Option<String> {
        if !self.notrack {
            return None;
        }
        if let Some(mode) = &self.policy_mode {
            return Some(format!(
                "NETWORK_POLICY_ENFORCING_MODE is {mode}, and the network policy agent takes flows that are not tracked for ended"
            ));
        }
        let host = self.service_host.as_ref()?;
        match host.parse::<std::net::Ipv4Addr>() {
            Ok(address) => vpc_cidrs.iter().find(|block| block.contains(&address)).map(|block| {
                format!(
                    "{host} (KUBERNETES_SERVICE_HOST) lies in {block}, a block of the VPC, and what pods send to a Service there \
                     would not be translated"
                )
            }),
            Err(_) => Some(format!(
                "KUBERNETES_SERVICE_HOST is {host}, which is no IPv4 address and does not show whether Services lie in a block \
                 of the VPC; what pods send to one there would not be translated: set it to the address of the Service kubernetes"
            )),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address_mode: AddressMode::SecondaryIps,
            warm: WarmTargets::Adaptive,
            max_enis: None,
            max_pods: None,
            cooldown: Duration::from_secs(30),
            untagged_enis: UntaggedEnis::Used,
            cluster_name: None,
            additional_eni_tags: BTreeMap::new(),
            subnets: SubnetChoice::Tagged,
            provisioning: Provisioning::Full,
            provisions_when_cordoned: false,
            leaked_eni_age: Some(Duration::from_secs(300)),
            keeps_trunk_slot: false,
            layout: Layout::default(),
            eni_mark_mask: 0x7f,
            snat: SnatConfig {
                external: false,
                serves_node_ports: true,
                blocks: NatBlocks::default(),
                file: None,
                port_choice: PortChoice::Prng,
                port_range: None,
                connmark: 0x80,
            },
            eni_mtu: 9001,
            pod_mtu: 9001,
            external_mtu: None,
            v6_egress: false,
            disables_early_demux: false,
            notrack: false,
            service_host: None,
            runtime: None,
            settings_file: None,
            kubernetes: KubernetesConfig::default(),
            veth_prefix: "eni".to_owned(),
            journal: PathBuf::from("/var/run/aws-node/ipam.json"),
            socket: PathBuf::from("/var/run/aws-node/ipamd.sock"),
            log: LogConfig { level: LogLevel::Info, target: LogTarget::Stderr },
            introspection: Some(Bind::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 61679)))),
            page: true,
            metrics: Some(std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 61678))),
            http_timeout: Duration::from_secs(10),
            ec2_endpoint: None,
            imds_endpoint: None,
            ca_bundle: None,
            proxies: Proxies::default(),
            cni: CniFiles::default(),
            policy_mode: None,
        }
    }
}
