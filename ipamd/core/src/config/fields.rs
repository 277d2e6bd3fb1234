// SPDX-License-Identifier: Apache-2.0
//! Readers of whole settings: one function a setting that is more than one value or has rules of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::read::Reader;
use super::{
    AddressMode, Bind, CniFiles, Config, Layout, LogConfig, LogLevel, LogTarget, NatBlocks, PortChoice, Provisioning,
    SnatConfig, SubnetChoice, WarmTargets,
};
use crate::action::PREFIX_ADDRESSES;

const CUSTOM_NETWORKING: &str = "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG";
/// More addresses than any instance can hold; keeps sums far from overflow.
const MOST_ADDRESSES: u32 = 65_535;
/// More ENIs than any instance can hold.
const MOST_ENIS: u32 = 1_000;
/// EC2: 50 tags a resource (EC2 user guide, "Tag restrictions"); ours take up to six.
const MOST_ADDITIONAL_TAGS: usize = 44;
/// EC2 user guide, "Tag restrictions".
const LONGEST_TAG_KEY: usize = 127;
const LONGEST_TAG_VALUE: usize = 255;
/// Keys with this text belong to the daemon's own tags; the reference drops them too.
const RESERVED_TAG_TEXT: &str = "k8s.amazonaws.com";

pub(super) fn warm_targets(reader: &mut Reader<'_>) -> WarmTargets {
    let enis = reader.number("WARM_ENI_TARGET", 0, MOST_ENIS);
    let warm = reader.number("WARM_IP_TARGET", 0, MOST_ADDRESSES).unwrap_or(0);
    let minimum = reader.number("MINIMUM_IP_TARGET", 0, MOST_ADDRESSES).unwrap_or(0);
    if warm == 0 && minimum == 0 {
        // The reference takes 1 for an ENI target that is not set.
        enis.map_or(WarmTargets::Adaptive, WarmTargets::Enis)
    } else {
        WarmTargets::Addresses { warm, minimum }
    }
}

pub(super) fn address_mode(reader: &mut Reader<'_>, warm: WarmTargets) -> AddressMode {
    const WARM: &str = "WARM_PREFIX_TARGET";
    let warm_prefixes = reader.number(WARM, 0, MOST_ADDRESSES / PREFIX_ADDRESSES);
    if !reader.boolean("ENABLE_PREFIX_DELEGATION", false) {
        if let Some(warm_prefixes) = warm_prefixes.filter(|prefixes| *prefixes > 0) {
            reader.note(WARM, format!("{warm_prefixes} is accepted, but has no effect without prefix delegation"));
        }
        return AddressMode::SecondaryIps;
    }
    // The reference's entrypoint refuses to start then; with none of them set, too.
    if warm_prefixes == Some(0) && !matches!(warm, WarmTargets::Addresses { .. }) {
        let needs = "with ENABLE_PREFIX_DELEGATION one of WARM_PREFIX_TARGET, WARM_IP_TARGET and MINIMUM_IP_TARGET must \
                     be above 0, or all unset";
        reader.error(WARM, "0", needs);
    }
    AddressMode::Prefixes { warm_prefixes }
}

/// MTU of pods, and of the paths out of the VPC: no more than the ENIs'.
pub(super) fn mtus(reader: &mut Reader<'_>, eni_mtu: u32) -> (u32, Option<u32>) {
    const POD: &str = "POD_MTU";
    const EXTERNAL: &str = "ENID_EXTERNAL_MTU";
    let (pod, external) = (reader.number(POD, 576, 9001), reader.number(EXTERNAL, 576, 9001));
    if let Some(mtu) = pod.filter(|mtu| *mtu > eni_mtu) {
        reader.note(POD, format!("{mtu} is more than AWS_VPC_ENI_MTU: pods have the ENIs' {eni_mtu}"));
    }
    let pod = pod.map_or(eni_mtu, |mtu| mtu.min(eni_mtu));
    if let Some(mtu) = external.filter(|mtu| *mtu >= pod) {
        reader.note(EXTERNAL, format!("{mtu} is no less than the pods' MTU {pod}: no segment gets smaller by it"));
    }
    (pod, external)
}

/// What is set and can do nothing beside another setting.
pub(super) fn note_idle(reader: &mut Reader<'_>, config: &Config) {
    let flat = config.layout == Layout::Flat;
    let full = config.provisioning.is_full();
    let addresses = matches!(config.warm, WarmTargets::Addresses { .. });
    let by_prefixes = matches!(config.address_mode, AddressMode::Prefixes { .. });
    let nameless = config.kubernetes.node_name.is_none();
    let custom = config.subnets == SubnetChoice::EniConfig;
    const NO_CONFLIST: &str = "without HOST_CNI_CONFDIR_PATH: no configuration list is written";
    let usual = CniFiles::default();
    let other_log = config.cni.plugin_log != usual.plugin_log;
    let other_level = config.cni.plugin_log_level != usual.plugin_log_level;
    for (name, idle, because) in [
        ("ENID_ENI_MARK_MASK", !flat, "in layout classic, which marks no pod"),
        ("ENID_LEAKED_ENI_AGE", config.leaked_eni_age.is_none(), "with DISABLE_LEAKED_ENI_CLEANUP"),
        ("INTROSPECTION_BIND_ADDRESS", config.introspection.is_none(), "with DISABLE_INTROSPECTION"),
        ("ENID_PAGE", config.introspection.is_none() && config.page, "with DISABLE_INTROSPECTION"),
        ("METRICS_BIND_ADDRESS", config.metrics.is_none(), "with DISABLE_METRICS"),
        ("ENID_CONFLIST_TEMPLATE", config.cni.conf_folder.is_none(), NO_CONFLIST),
        ("AWS_VPC_K8S_PLUGIN_LOG_FILE", config.cni.conf_folder.is_none() && other_log, NO_CONFLIST),
        ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", config.cni.conf_folder.is_none() && other_level, NO_CONFLIST),
        ("ENABLE_BANDWIDTH_PLUGIN", config.cni.conf_folder.is_none() && config.cni.has_bandwidth, NO_CONFLIST),
        ("DISABLE_POD_V6", config.cni.conf_folder.is_none() && config.cni.disables_pod_ipv6, NO_CONFLIST),
        ("ADDITIONAL_ENI_TAGS", !full, "where ENIs are someone else's to make"),
        (CUSTOM_NETWORKING, custom && !full, "where ENIs are someone else's to make"),
        ("ENI_CONFIG_ANNOTATION_DEF", !custom, "without AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
        ("ENI_CONFIG_LABEL_DEF", !custom, "without AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
        ("ANNOTATE_POD_IP", config.kubernetes.annotates_pods && nameless, "without MY_NODE_NAME"),
        ("ENID_STARTUP_TAINT", nameless, "without MY_NODE_NAME"),
        ("ENID_FULL_TAINT", nameless, "without MY_NODE_NAME"),
        ("ENID_EXTENDED_RESOURCE", nameless, "without MY_NODE_NAME"),
        ("WARM_ENI_TARGET", addresses, "with WARM_IP_TARGET or MINIMUM_IP_TARGET"),
        ("WARM_PREFIX_TARGET", addresses && by_prefixes, "with WARM_IP_TARGET or MINIMUM_IP_TARGET"),
    ] {
        if idle && reader.text(name).is_some() {
            reader.note(name, format!("has no effect {because}"));
        }
    }
}

/// Settings that would leave every pod without an address together.
pub(super) fn refuse_clashes(reader: &mut Reader<'_>, config: &Config) {
    let nameless = config.kubernetes.node_name.is_none() && config.provisioning.is_full();
    if config.subnets == SubnetChoice::EniConfig && nameless {
        let value = reader.text(CUSTOM_NETWORKING).unwrap_or_default();
        let problem =
            "needs MY_NODE_NAME: the Node says which ENIConfig is meant, and without it no pod would get an address";
        reader.error(CUSTOM_NETWORKING, &value, problem);
    }
    if config.subnets == SubnetChoice::EniConfig && config.max_enis == Some(1) && config.provisioning.is_full() {
        let problem = "with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG no pod would get an address: the only ENI is the primary one, which \
                       serves the node; 2 or more is allowed";
        reader.error("MAX_ENI", "1", problem);
    }
}

pub(super) fn max_enis(reader: &mut Reader<'_>) -> Option<u32> {
    reader.number("MAX_ENI", 1, MOST_ENIS)
}

pub(super) fn max_pods(reader: &mut Reader<'_>) -> Option<u32> {
    reader.number("ENID_MAX_PODS", 1, MOST_ADDRESSES)
}

/// Metadata-only mode implies that nothing is provisioned, as in the reference.
pub(super) fn provisioning(reader: &mut Reader<'_>) -> Provisioning {
    let disabled = reader.boolean("DISABLE_NETWORK_RESOURCE_PROVISIONING", false);
    if reader.boolean("ENABLE_IMDS_ONLY_MODE", false) {
        Provisioning::ImdsOnly
    } else if disabled {
        Provisioning::Disabled
    } else {
        Provisioning::Full
    }
}

/// Custom networking goes before discovery, as in the reference.
pub(super) fn subnets(reader: &mut Reader<'_>) -> SubnetChoice {
    let discovers = reader.boolean("ENABLE_SUBNET_DISCOVERY", true);
    if reader.boolean(CUSTOM_NETWORKING, false) {
        SubnetChoice::EniConfig
    } else if discovers {
        SubnetChoice::Tagged
    } else {
        SubnetChoice::Primary
    }
}

/// From 5 s, which no attach of a new ENI outlives on a quiet account, to a day.
pub(super) fn leaked_eni_age(reader: &mut Reader<'_>, default: Option<Duration>) -> Option<Duration> {
    let disabled = reader.boolean("DISABLE_LEAKED_ENI_CLEANUP", false);
    let seconds = reader.number("ENID_LEAKED_ENI_AGE", 5, 86_400);
    let age = seconds.map_or(default, |seconds| Some(Duration::from_secs(u64::from(seconds))));
    age.filter(|_| !disabled)
}

pub(super) fn layout(reader: &mut Reader<'_>, default: Layout) -> Layout {
    const NAME: &str = "ENID_LAYOUT";
    match reader.text(NAME).as_deref() {
        None => default,
        Some("classic") => Layout::Classic,
        Some("flat") => Layout::Flat,
        Some(other) => {
            reader.error(NAME, other, "classic or flat is allowed");
            default
        }
    }
}

/// Packet marks of others on Kubernetes nodes, by their defaults: who marks so, and which bits.
const MARKS_OF_OTHERS: [(&str, u32); 3] = [("kube-proxy", 0xc000), ("Calico", 0xffff_0000), ("Cilium", 0x0f00)];

/// Fewest bits that are looked for: marks for 15 ENIs. Pods on ENIs beyond what a mask holds are plumbed as in layout classic.
const FEWEST_MARK_BITS: u32 = 4;
/// Most: marks for more ENIs than an instance can have.
const MOST_MARK_BITS: u32 = 7;

/// One run of bits that overlaps nothing of ours; where others' defaults are, they may have been moved. Not set: bits that are
/// clear of the connection mark, whatever that is, for it is a setting of the reference's.
pub(super) fn eni_mark_mask(reader: &mut Reader<'_>, default: u32, connmark: u32) -> u32 {
    const NAME: &str = "ENID_ENI_MARK_MASK";
    const CONNMARK: &str = "AWS_VPC_K8S_CNI_CONNMARK";
    let free = free_marks(connmark);
    if reader.text(NAME).is_none() && free.is_none() {
        let problem = format!("leaves no bits for the marks of ENIs; fewer bits are allowed, or {NAME} beside them");
        reader.error(CONNMARK, &format!("{connmark:#x}"), problem);
    }
    let mask = reader.mark(NAME, free.unwrap_or(default));
    let text = reader.text(NAME).unwrap_or_else(|| format!("{mask:#x}"));
    let run = mask >> mask.trailing_zeros();
    if run & run.wrapping_add(1) != 0 {
        reader.error(NAME, &text, "bits next to each other are allowed, such as 0x7f or 0x3f00");
    }
    if reader.text(NAME).is_some() && mask & connmark != 0 {
        reader.error(NAME, &text, format!("overlaps {CONNMARK}={connmark:#x}: bits that are only its own are allowed"));
    }
    for (owner, bits) in MARKS_OF_OTHERS {
        if mask & bits != 0 {
            let shared = mask & bits;
            reader.note(NAME, format!("{text} shares the bits {shared:#x} with what {owner} uses by default"));
        }
    }
    mask
}

/// The longest run of bits, the lowest of equal ones, that is clear of `taken` and of as many others' marks as can be: those of
/// who is least often beside us are used first. `None`: there is no room anywhere.
fn free_marks(taken: u32) -> Option<u32> {
    let owners = |names: &[&str]| {
        MARKS_OF_OTHERS.iter().filter(|(owner, _)| names.contains(owner)).fold(0, |all, (_, bits)| all | bits)
    };
    let avoided = [&["kube-proxy", "Calico", "Cilium"][..], &["kube-proxy", "Calico"], &["kube-proxy"], &[]];
    avoided.into_iter().find_map(|names| longest_run(!(taken | owners(names))))
}

fn longest_run(free: u32) -> Option<u32> {
    let run = |shift: u32| (shift, (free >> shift).trailing_ones().min(MOST_MARK_BITS));
    // Of equal ones `max_by_key` gives the last.
    let (shift, bits) = (0..u32::BITS).rev().map(run).max_by_key(|(_, bits)| *bits)?;
    (bits >= FEWEST_MARK_BITS).then(|| ((1 << bits) - 1) << shift)
}

/// Settings of a translation that someone else does.
const WITHOUT_SNAT: [&str; 4] = [
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
    "ENID_SNAT_INCLUDE_CIDRS",
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
    "ENID_SNAT_PORT_RANGE",
];

pub(super) fn snat(reader: &mut Reader<'_>) -> SnatConfig {
    let external = reader.boolean("AWS_VPC_K8S_CNI_EXTERNALSNAT", false);
    if external {
        for name in WITHOUT_SNAT {
            if reader.text(name).is_some() {
                reader.note(name, "has no effect with AWS_VPC_K8S_CNI_EXTERNALSNAT: we do not translate");
            }
        }
    }
    SnatConfig {
        external,
        serves_node_ports: reader.boolean("AWS_VPC_CNI_NODE_PORT_SUPPORT", true),
        blocks: NatBlocks {
            exclude: reader.cidrs("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"),
            include: reader.cidrs("ENID_SNAT_INCLUDE_CIDRS"),
            external_services: reader.cidrs("AWS_EXTERNAL_SERVICE_CIDRS"),
        },
        file: optional_path(reader, "ENID_SNAT_FILE"),
        port_choice: port_choice(reader),
        port_range: port_range(reader),
        connmark: reader.mark("AWS_VPC_K8S_CNI_CONNMARK", 0x80),
    }
}

fn port_choice(reader: &mut Reader<'_>) -> PortChoice {
    const NAME: &str = "AWS_VPC_K8S_CNI_RANDOMIZESNAT";
    match reader.text(NAME).as_deref() {
        None | Some("prng") => PortChoice::Prng,
        Some("hashrandom") => PortChoice::HashRandom,
        Some("none") => PortChoice::None,
        Some(other) => {
            reader.error(NAME, other, "prng, hashrandom or none is allowed");
            PortChoice::Prng
        }
    }
}

/// `first-last`, both included.
fn port_range(reader: &mut Reader<'_>) -> Option<(u16, u16)> {
    const NAME: &str = "ENID_SNAT_PORT_RANGE";
    let text = reader.text(NAME)?;
    let ports =
        text.split_once('-').and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    let range = ports.filter(|(first, last)| *first >= 1 && first <= last);
    if range.is_none() {
        reader.error(NAME, &text, "two ports from 1 to 65535 such as 10000-60999, the lower one first, are allowed");
    }
    range
}

pub(super) fn policy_mode(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "NETWORK_POLICY_ENFORCING_MODE";
    let mode = reader.text(NAME)?;
    if matches!(mode.to_ascii_lowercase().as_str(), "none" | "standard" | "strict") {
        return Some(mode);
    }
    reader.error(NAME, &mode, "none, standard or strict is allowed");
    None
}

/// What is laid down for the runtime. The plugin takes `fatal` for no level; the reference's manifests may have it.
pub(super) fn cni_files(reader: &mut Reader<'_>, default: CniFiles) -> CniFiles {
    const LOG: &str = "AWS_VPC_K8S_PLUGIN_LOG_FILE";
    const LEVEL: &str = "AWS_VPC_K8S_PLUGIN_LOG_LEVEL";
    let plugin_log = match reader.text(LOG).as_deref() {
        None => default.plugin_log,
        Some("stderr") => "stderr".to_owned(),
        Some("stdout") => {
            let problem = "the plugin's standard output belongs to its contract; a path or stderr is allowed";
            reader.error(LOG, "stdout", problem);
            default.plugin_log
        }
        Some(_) => path(reader, LOG, PathBuf::from(&default.plugin_log)).display().to_string(),
    };
    let level = reader.text(LEVEL);
    let plugin_log_level = match level.as_deref().map(str::to_ascii_uppercase) {
        None => default.plugin_log_level,
        Some(level) if matches!(level.as_str(), "DEBUG" | "INFO" | "WARN" | "ERROR") => level,
        Some(level) if level == "FATAL" => "ERROR".to_owned(),
        Some(_) => {
            reader.error(LEVEL, level.as_deref().unwrap_or_default(), "debug, info, warn, error or fatal is allowed");
            default.plugin_log_level
        }
    };
    CniFiles {
        bin_folder: optional_path(reader, "HOST_CNI_BIN_PATH"),
        conf_folder: optional_path(reader, "HOST_CNI_CONFDIR_PATH"),
        template: optional_path(reader, "ENID_CONFLIST_TEMPLATE"),
        plugin_log,
        plugin_log_level,
        has_bandwidth: reader.boolean("ENABLE_BANDWIDTH_PLUGIN", false),
        disables_pod_ipv6: reader.boolean("DISABLE_POD_V6", false),
    }
}

/// Names are the prefix and 11 hex digits in at most 15 bytes (IFNAMSIZ), and must not look like the host's own links.
pub(super) fn veth_prefix(reader: &mut Reader<'_>, default: &str) -> String {
    const NAME: &str = "AWS_VPC_K8S_CNI_VETHPREFIX";
    let Some(prefix) = reader.text(NAME) else { return default.to_owned() };
    let letters = prefix.len() <= 4 && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !letters || matches!(prefix.as_str(), "eth" | "lo" | "vlan") {
        reader.error(NAME, &prefix, "at most 4 letters or digits are allowed, and not eth, lo or vlan");
        return default.to_owned();
    }
    prefix
}

pub(super) fn path(reader: &mut Reader<'_>, name: &str, default: PathBuf) -> PathBuf {
    optional_path(reader, name).unwrap_or(default)
}

/// A path, or as the kubelet has it: `unix://` and a path.
pub(super) fn runtime(reader: &mut Reader<'_>) -> Option<PathBuf> {
    const NAME: &str = "ENID_RUNTIME_ENDPOINT";
    let text = reader.text(NAME)?;
    let path = text.strip_prefix("unix://").unwrap_or(&text);
    if !path.starts_with('/') {
        reader.error(
            NAME,
            &text,
            "an absolute path of a socket is allowed, also as unix:///run/containerd/containerd.sock",
        );
        return None;
    }
    Some(PathBuf::from(path))
}

pub(super) fn optional_path(reader: &mut Reader<'_>, name: &str) -> Option<PathBuf> {
    let text = reader.text(name)?;
    let path = PathBuf::from(&text);
    if !path.is_absolute() {
        reader.error(name, &text, "an absolute path is allowed");
        return None;
    }
    Some(path)
}

pub(super) fn log(reader: &mut Reader<'_>, default: LogConfig) -> LogConfig {
    const LEVEL: &str = "AWS_VPC_K8S_CNI_LOGLEVEL";
    let text = reader.text(LEVEL);
    let level = match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => default.level,
        Some("debug") => LogLevel::Debug,
        Some("info") => LogLevel::Info,
        Some("warn") => LogLevel::Warn,
        Some("error" | "fatal") => LogLevel::Error,
        Some(_) => {
            reader.error(LEVEL, text.as_deref().unwrap_or_default(), "debug, info, warn, error or fatal is allowed");
            default.level
        }
    };
    const FILE: &str = "AWS_VPC_K8S_CNI_LOG_FILE";
    let target = match reader.text(FILE).as_deref() {
        None => default.target,
        Some("stdout") => LogTarget::Stdout,
        Some("stderr") => LogTarget::Stderr,
        Some(_) => LogTarget::File(path(reader, FILE, PathBuf::new())),
    };
    LogConfig { level, target }
}

pub(super) fn introspection(reader: &mut Reader<'_>, default: Option<Bind>) -> Option<Bind> {
    const NAME: &str = "INTROSPECTION_BIND_ADDRESS";
    let disabled = reader.boolean("DISABLE_INTROSPECTION", false);
    let bind = match reader.text(NAME) {
        None => default,
        Some(text) => match (text.strip_prefix("unix:"), SocketAddr::from_str(&text)) {
            (Some(path), _) if path.starts_with('/') => Some(Bind::Unix(PathBuf::from(path))),
            (None, Ok(address)) => Some(Bind::Tcp(address)),
            (Some(_), _) | (None, Err(_)) => {
                reader.error(NAME, &text, "address:port or unix:/path is allowed");
                default
            }
        },
    };
    if disabled { None } else { bind }
}

/// Where metrics are served: `:port` is every address of the host, as in Go.
pub(super) fn metrics(reader: &mut Reader<'_>, default: Option<SocketAddr>) -> Option<SocketAddr> {
    const NAME: &str = "METRICS_BIND_ADDRESS";
    let disabled = reader.boolean("DISABLE_METRICS", false);
    let bind = match reader.text(NAME) {
        None => default,
        Some(text) => {
            let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.clone() };
            let address = SocketAddr::from_str(&whole).ok();
            if address.is_none() {
                reader.error(NAME, &text, "address:port or :port is allowed");
            }
            address.or(default)
        }
    };
    if disabled { None } else { bind }
}

/// First of the names that is set; must look like a URL.
pub(super) fn url(reader: &mut Reader<'_>, names: &[&str]) -> Option<String> {
    let mut chosen = None;
    for name in names {
        let Some(text) = reader.text(name) else { continue };
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            reader.error(
                name,
                &super::proxy::without_user(&text),
                "a URL that starts with http:// or https:// is allowed",
            );
        } else if chosen.is_none() {
            chosen = Some(text);
        }
    }
    chosen
}

pub(super) fn additional_tags(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    const NAME: &str = "ADDITIONAL_ENI_TAGS";
    let Some(text) = reader.text(NAME) else { return BTreeMap::new() };
    let Ok(mut tags) = serde_json::from_str::<BTreeMap<String, String>>(&text) else {
        reader.error(NAME, &text, "a JSON object of texts such as {\"team\":\"a\"} is allowed");
        return BTreeMap::new();
    };
    let reserved: Vec<String> = tags.keys().filter(|key| key.contains(RESERVED_TAG_TEXT)).cloned().collect();
    for key in reserved {
        reader.note(NAME, format!("the tag {key} is left out: keys with {RESERVED_TAG_TEXT} are the daemon's own"));
        tags.remove(&key);
    }
    let fits = |(key, value): (&String, &String)| {
        !key.is_empty() && key.len() <= LONGEST_TAG_KEY && value.len() <= LONGEST_TAG_VALUE && !key.starts_with("aws:")
    };
    if tags.len() > MOST_ADDITIONAL_TAGS || !tags.iter().all(fits) {
        reader.error(
            NAME,
            &text,
            format!(
                "at most {MOST_ADDITIONAL_TAGS} tags are allowed, keys of 1 to {LONGEST_TAG_KEY} bytes that do not start with \
                 aws:, values of at most {LONGEST_TAG_VALUE} bytes"
            ),
        );
        return BTreeMap::new();
    }
    tags
}
