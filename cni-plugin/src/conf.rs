// SPDX-License-Identifier: Apache-2.0
//! The network configuration that the runtime writes to standard input, for one plugin of `10-aws.conflist`.
//!
//! | key | default | rule |
//! |---|---|---|
//! | `cniVersion` | 0.1.0 (the specification's) | one of [`VERSIONS`] that has the verb; a DEL takes any |
//! | `name` | required | the network's name: part of the allocation key |
//! | `vethPrefix` | `eni` | at most 4 characters |
//! | `mtu` | `"9001"` | text or number; one that is not a number in 576..=9001 counts as 9001, as in the reference |
//! | `ipamdSocket` | ENID_SOCKET, else the reference's | where the daemon listens |
//! | `stateDir` | `/var/run/aws-node` | tombstones and marks shared with the daemon |
//! | `pluginLogFile` | `/var/log/aws-routed-eni/plugin.log` | a path or `stderr`; `stdout` is the result's |
//! | `pluginLogLevel` | `debug` | `debug`, `info`, `warn`, `error`, in any case |
//! | `runtimeConfig.portMappings` | none | ports of the node that lead into the pod; keys in any case (`ports`) |
//! | `prevResult` | - | on a DEL: the addresses that the ADD returned; a CHECK needs it |
//! | `cni.dev/valid-attachments` | - | on a GC, which needs it: what the runtime says is there ([`keep`]) |
//!
//! Other keys are the reference's or other plugins' and tolerated. A key with the wrong type of value is code 7, naming
//! the key, but for a DEL only where it cannot do without; text that is no JSON object is code 6.

use std::net::IpAddr;
use std::path::PathBuf;

use datapath::plan::LinkName;
use datapath::plan::hostport::HostPort;
use datapath::plan::ids::DEFAULT_VETH_PREFIX;
use ipam_api::rpc::Attachment;
use serde_json::{Map, Value};

use crate::command::{Environment, Verb, is_identifier};
use crate::error::{CniError, Code};
use crate::reason::Reason;

/// Versions of the CNI specification that results are printed in, oldest first.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version of an error or a VERSION answer when the caller's is not known.
pub(crate) const LATEST: &str = "1.1.0";

const DEFAULT_STATE_DIR: &str = "/var/run/aws-node";
const DEFAULT_LOG_FILE: &str = "/var/log/aws-routed-eni/plugin.log";

/// Jumbo frames, the MTU inside a VPC (EC2 user guide, "Network maximum transmission unit").
const DEFAULT_MTU: u32 = 9001;
/// The least that IPv4 hosts must take (RFC 791), the reference's lower limit.
pub(crate) const SMALLEST_MTU: u32 = 576;

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTarget {
    /// A bounded file.
    File(PathBuf),
    /// Standard error, which runtimes put into their own log.
    Stderr,
}

/// How much is logged; a line is written if its level is at least this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    /// Decisions with their inputs.
    Debug,
    /// One line per call.
    Info,
    /// Degraded.
    Warn,
    /// Failed.
    Error,
}

/// One plugin's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetConf {
    /// `cniVersion`, as given.
    pub version: String,
    /// The network's name.
    pub name: String,
    /// Prefix of host veth names.
    pub veth_prefix: String,
    /// MTU of both ends of the veth.
    pub mtu: u32,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Folder shared with the daemon.
    pub state_dir: PathBuf,
    /// Where to log.
    pub log_target: LogTarget,
    /// How much to log.
    pub log_level: LogLevel,
    /// The pod asks for an interface on every network card, which this version does not do.
    pub wants_multi_nic: bool,
    /// Ports of the node that lead into the pod.
    pub host_ports: Vec<HostPort>,
    /// `prevResult`, as given; none but in a CHECK.
    pub previous: Option<Value>,
    /// Addresses of `prevResult`, whatever its version.
    pub previous_addresses: Vec<IpAddr>,
    /// What is there by the runtime's word; `None`: it does not say, and so but in a GC.
    pub keep: Option<Vec<Attachment>>,
}

/// The version of a configuration, whatever else is in it: for the answer to VERSION and for error objects.
pub(crate) fn version_of(keys: &Map<String, Value>) -> Option<String> {
    Some(keys.get("cniVersion")?.as_str()?.to_owned())
}

/// What is on standard input: code 6 when it is no JSON object.
pub(crate) fn keys(stdin: &[u8]) -> Result<Map<String, Value>, CniError> {
    let undecoded = |message| CniError::new(Code::Decode, Reason::NetworkConfigInvalid, message);
    let value: Value = serde_json::from_slice(stdin).map_err(|error| {
        undecoded("the network configuration on standard input is not JSON").because(error.to_string())
    })?;
    match value {
        Value::Object(keys) => Ok(keys),
        _ => Err(undecoded("the network configuration on standard input is not a JSON object")),
    }
}

impl NetConf {
    /// Reads for `verb`: a DEL takes any version and prints nothing, CHECK came with 0.4.0, STATUS and GC with 1.1.0.
    pub(crate) fn read(keys: &Map<String, Value>, verb: Verb, environment: Environment<'_>) -> Result<Self, CniError> {
        let version = text(keys, "cniVersion")?.unwrap_or("0.1.0").to_owned();
        check_version(&version, verb)?;
        let name = text(keys, "name")?.unwrap_or_default();
        if !is_identifier(name) {
            return Err(invalid("name", "a letter or digit, then letters, digits, `_`, `.`, `-`", &name.into()));
        }
        let socket = text(keys, "ipamdSocket")?.map(str::to_owned).or_else(|| environment("ENID_SOCKET"));
        Ok(Self {
            version,
            name: name.to_owned(),
            veth_prefix: needed(veth_prefix(keys), DEFAULT_VETH_PREFIX.to_owned(), verb)?,
            mtu: needed(mtu(keys), DEFAULT_MTU, verb)?,
            socket: socket.unwrap_or_else(|| ipam_api::DEFAULT_SOCKET.to_owned()).into(),
            state_dir: text(keys, "stateDir")?.unwrap_or(DEFAULT_STATE_DIR).into(),
            log_target: needed(log_target(keys), LogTarget::File(DEFAULT_LOG_FILE.into()), verb)?,
            log_level: needed(log_level(keys), LogLevel::Debug, verb)?,
            wants_multi_nic: wants_multi_nic(keys),
            host_ports: needed(ports::host_ports(keys), Vec::new(), verb)?,
            previous: keys.get("prevResult").filter(|result| verb == Verb::Check && result.is_object()).cloned(),
            previous_addresses: previous_addresses(keys),
            keep: if verb == Verb::Gc { keep::attachments(keys)? } else { None },
        })
    }

    /// Both at once.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(stdin: &[u8], verb: Verb, environment: Environment<'_>) -> Result<Self, CniError> {
        Self::read(&keys(stdin)?, verb, environment)
    }

    /// A host veth's name without the prefix.
    pub(crate) fn hash_of(&self, host_veth: &LinkName) -> String {
        // Not by what it begins with: a prefix such as `c` may be the first digit, too.
        host_veth.as_str().get(self.veth_prefix.len()..).unwrap_or_default().to_owned()
    }
}

fn check_version(version: &str, verb: Verb) -> Result<(), CniError> {
    let accepted: &[&str] = match verb {
        Verb::Del | Verb::Version => return Ok(()),
        Verb::Status | Verb::Gc => &["1.1.0"],
        Verb::Check => VERSIONS.split_at(2).1,
        Verb::Add => &VERSIONS,
    };
    if accepted.contains(&version) {
        return Ok(());
    }
    let message = format!("cniVersion {version} of the network configuration does not do for {}", verb.name());
    Err(CniError::new(Code::IncompatibleVersion, Reason::CniVersionUnsupported, message)
        .because(format!("supported: {}", accepted.join(", "))))
}

/// A DEL takes the default for a key that is not valid, if it can do without: a slip of the pen in the configuration must
/// not keep every pod of the node from ending. The pod is found by its key and address then.
fn needed<T>(read: Result<T, CniError>, default: T, verb: Verb) -> Result<T, CniError> {
    if verb == Verb::Del { Ok(read.unwrap_or(default)) } else { read }
}

/// The text of a key; `None` when it is not there (JSON null counts as not there).
fn text<'a>(keys: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, CniError> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(key, "a text", other)),
    }
}

fn invalid(key: &str, expected: &str, found: &Value) -> CniError {
    let message = format!("`{key}` of the network configuration must be {expected}, not {found}");
    CniError::new(Code::Config, Reason::NetworkConfigInvalid, message)
}

fn veth_prefix(keys: &Map<String, Value>) -> Result<String, CniError> {
    let prefix = text(keys, "vethPrefix")?.filter(|prefix| !prefix.is_empty());
    let prefix = prefix.unwrap_or(DEFAULT_VETH_PREFIX);
    // The length and the characters are checked as part of a name.
    match LinkName::host_veth(prefix, "namespace", "pod", "") {
        Ok(_) => Ok(prefix.to_owned()),
        Err(_) => Err(invalid("vethPrefix", "at most 4 characters of a link name", &prefix.into())),
    }
}

fn mtu(keys: &Map<String, Value>) -> Result<u32, CniError> {
    let given = match keys.get("mtu") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Some(other) => return Err(invalid("mtu", "a number or the text of one", other)),
    };
    Ok(given.filter(|mtu| (SMALLEST_MTU..=DEFAULT_MTU).contains(mtu)).unwrap_or(DEFAULT_MTU))
}

fn log_target(keys: &Map<String, Value>) -> Result<LogTarget, CniError> {
    match text(keys, "pluginLogFile")?.filter(|file| !file.is_empty()) {
        None => Ok(LogTarget::File(DEFAULT_LOG_FILE.into())),
        Some("stderr") => Ok(LogTarget::Stderr),
        Some("stdout") => Err(invalid("pluginLogFile", "a path or `stderr`", &"stdout".into())),
        Some(path) => Ok(LogTarget::File(path.into())),
    }
}

fn log_level(keys: &Map<String, Value>) -> Result<LogLevel, CniError> {
    let Some(given) = text(keys, "pluginLogLevel")?.filter(|level| !level.is_empty()) else {
        return Ok(LogLevel::Debug);
    };
    match given.to_ascii_lowercase().as_str() {
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" | "fatal" => Ok(LogLevel::Error),
        _ => Err(invalid("pluginLogLevel", "debug, info, warn or error", &given.into())),
    }
}

/// The annotation that the runtime passes on when the capability is declared; any other value of it means nothing.
fn wants_multi_nic(keys: &Map<String, Value>) -> bool {
    let annotations = keys.get("runtimeConfig").and_then(|config| config.get("io.kubernetes.cri.pod-annotations"));
    let wanted = annotations.and_then(|annotations| annotations.get("k8s.amazonaws.com/nicConfig"));
    wanted.and_then(Value::as_str) == Some("multi-nic-attachment")
}

/// Lenient: a DEL must not fail for a result that some older plugin wrote.
fn previous_addresses(keys: &Map<String, Value>) -> Vec<IpAddr> {
    let ips = keys.get("prevResult").and_then(|result| result.get("ips")).and_then(Value::as_array);
    let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
    ips.map(|ips| ips.iter().filter_map(address).collect()).unwrap_or_default()
}

mod keep;
mod ports;
#[cfg(test)]
mod tests;
