// SPDX-License-Identifier: Apache-2.0
//! A node: a network namespace that is an EC2 instance's, the real daemon in it, and the runtime that calls the real plugin.
//!
//! It does what the operating system and the DaemonSet do (primary link by DHCP, sysctls, environment of the container) and
//! what operators do (start, kill, restart, ask for status, uninstall). EC2 and IMDS are reached at ports on its loopback,
//! off the fabric under test. What the daemon and the plugin do is theirs.
//!
//! Invariant: everything the daemon writes lies in the node's own folder, so nodes never share state.
//!
//! ```text
//! /run/enid/<name>/state/{ipamd.sock, ipam.json, enid.json, tombstones/}   ipamd.log   plugin.log
//! ```
#![expect(clippy::disallowed_methods, reason = "the harness makes folders and starts programs")]

mod api_server;
pub mod http;
mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

pub use kernel::Leftovers;

use crate::eventually::{NotYet, eventually};
use crate::fabric::{FabricError, router_of, sysctl};
use crate::netns::{Namespace, NetnsError};
use crate::process::{ProcessError, Program, Running};
use crate::sandbox::{Runtime, Sandbox, SandboxError};
use crate::tools::{ToolError, Tools, build_folder};
use crate::world::{World, WorldError};

/// Layout of all nodes' pods, where a test does not choose one: `make layouts`.
const LAYOUT: &str = "ENID_TEST_LAYOUT";

/// How long the daemon may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// How long what is under way may keep the witnesses of [`Node::check`] apart: a regular look of the daemon's repair, and a bit.
pub const AGREED: Duration = Duration::from_secs(80);

/// What a node could not do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A binary under test is not there.
    #[error("{} is not there: build it, or name it in {variable}", path.display())]
    NotBuilt {
        /// Environment variable that names it.
        variable: &'static str,
        /// Where it was looked for last.
        path: PathBuf,
    },
    /// A command of `ipamd` failed.
    #[error("`ipamd {arguments}` on {node}: {output}")]
    Command {
        /// What was asked.
        arguments: String,
        /// Which node.
        node: String,
        /// What it said.
        output: String,
    },
    /// A file or folder.
    #[error("{doing}")]
    File {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not become ready.
    #[error("the daemon of {node} is not ready: {cause}\nthe end of its log:\n{log}\n")]
    NotReady {
        /// Which node.
        node: String,
        /// The end of its log.
        log: String,
        /// What was waited for, and the last answer. Before the log, which is long.
        cause: NotYet,
    },
    /// The daemon.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The runtime.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// `ip` or `nft`.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// What rp_filter is on the host before anything of ours runs (kernel Documentation/networking/ip-sysctl.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpFilter {
    /// 0: no check.
    Off,
    /// 1: a packet must come in where an answer would go out. Many distributions.
    Strict,
    /// 2: its source must be reachable at all. systemd's default.
    #[default]
    Loose,
}

impl RpFilter {
    fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Strict => "1",
            Self::Loose => "2",
        }
    }
}

impl FromStr for RpFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Off, Self::Strict, Self::Loose];
        all.into_iter().find(|mode| mode.value() == text).ok_or("rp_filter is 0, 1 or 2")
    }
}

/// Where a node finds EC2 and IMDS: addresses on its own loopback.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    /// EC2.
    pub ec2: SocketAddrV4,
    /// IMDS.
    pub imds: SocketAddrV4,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name, of its namespace and folder too.
    pub name: String,
    /// Its network namespace.
    pub netns: Namespace,
    /// What calls the plugin.
    pub runtime: Runtime,
    tools: Tools,
    folder: PathBuf,
    ipamd: PathBuf,
    environment: BTreeMap<String, String>,
    daemon: Option<Running>,
    pods: AtomicUsize,
}

/// The namespace of an instance before it boots: sysctls as a distribution sets them, loopback up, no ENI.
///
/// # Errors
/// The kernel refuses.
pub fn instance_namespace(tools: &Tools, name: &str, rp_filter: RpFilter) -> Result<Namespace, NodeError> {
    let netns = Namespace::create(name)?;
    tools.ip(&netns, "link set lo up\n")?;
    sysctl(&netns, "net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default", "lo"] {
        sysctl(&netns, &format!("net/ipv4/conf/{scope}/rp_filter"), rp_filter.value())?;
    }
    Ok(netns)
}

/// What DHCP does on the primary link: address, default route, MTU 9001 (EC2 user guide, "Network MTU").
///
/// # Errors
/// The link is not there, or the kernel refuses.
pub fn boot_primary_link(
    tools: &Tools,
    netns: &Namespace,
    address: Ipv4Addr,
    subnet: Ipv4Net,
) -> Result<(), NodeError> {
    let (router, length) = (router_of(subnet), subnet.prefix_len());
    let lines = format!(
        "link set eth0 mtu 9001 up\n\
         address add {address}/{length} broadcast + dev eth0\n\
         route add default via {router} dev eth0 proto dhcp src {address}\n"
    );
    Ok(tools.ip(netns, &lines)?)
}

/// What the daemon and the plugin may leave in the state folder.
pub const STATE_FILES: [&str; 11] = [
    "enid.json",
    "enid.json.tmp",
    "enid.sock",
    "hostports",
    "ipam.json",
    "ipam.json.tmp",
    "ipamd.lock",
    "ipamd.sock",
    "ready",
    "status.json",
    "tombstones",
];

impl Node {
    /// A node in `netns`, its daemon not started.
    ///
    /// # Errors
    /// A binary is not built, or its folder cannot be made.
    pub fn new(world: &World, netns: &Namespace, endpoints: Endpoints) -> Result<Self, NodeError> {
        let name = netns.name().to_owned();
        let folder = world.folder(&name)?;
        let state = world.folder(&format!("{name}/state"))?;
        let socket = state.join("ipamd.sock");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = BTreeMap::from(
            [
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
                ("MY_NODE_NAME", name.clone()),
                ("AWS_ENDPOINT_URL_EC2", format!("http://{}", endpoints.ec2)),
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", endpoints.imds)),
                ("AWS_VPC_K8S_CNI_BACKING_STORE", text(&state.join("ipam.json"))),
                ("AWS_VPC_K8S_CNI_LOGLEVEL", "debug".to_owned()),
                ("ENID_SOCKET", text(&socket)),
                ("ENABLE_IPv4", "true".to_owned()),
                ("RUST_BACKTRACE", "1".to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        // Every scenario can be lived in either layout of the pods.
        environment.extend(std::env::var(LAYOUT).ok().map(|layout| ("ENID_LAYOUT".to_owned(), layout)));
        let overrides: Map<String, Value> = [
            ("ipamdSocket", text(&socket)),
            ("stateDir", text(&state)),
            ("pluginLogFile", text(&folder.join("plugin.log"))),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
        let runtime = Runtime::new(&plugin_binary()?, netns, &overrides)?;
        let ipamd = daemon_binary()?;
        let (netns, tools) = (netns.clone(), world.tools.clone());
        Ok(Self { name, netns, runtime, tools, folder, ipamd, environment, daemon: None, pods: AtomicUsize::new(0) })
    }

    /// Sets a variable of the daemon's environment, from its next start on.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.insert(variable.to_owned(), value.to_owned());
    }

    /// Takes a variable out of the daemon's environment, from its next start on.
    pub fn unset(&mut self, variable: &str) {
        self.environment.remove(variable);
    }

    /// The daemon's and the plugin's executable.
    #[must_use]
    pub fn programs(&self) -> [PathBuf; 2] {
        [self.ipamd.clone(), self.runtime.plugin().to_owned()]
    }

    /// Takes another executable for the daemon, from its next start on.
    pub fn use_daemon(&mut self, path: &Path) {
        path.clone_into(&mut self.ipamd);
    }

    /// Puts another executable in the plugin's place.
    pub fn use_plugin(&mut self, path: &Path) {
        self.runtime = self.runtime.running(path);
    }

    /// A variable of the daemon's environment.
    #[must_use]
    pub fn variable(&self, variable: &str) -> Option<&str> {
        self.environment.get(variable).map(String::as_str)
    }

    /// The daemon's whole environment.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What is sent to this TCP port of the node's loopback is lost, without an answer, until the node ends.
    ///
    /// # Errors
    /// nft refuses.
    pub fn black_hole(&self, port: u16) -> Result<(), NodeError> {
        self.nft(&format!(
            "add table inet black-hole-{port}\n\
             add chain inet black-hole-{port} in {{ type filter hook input priority -400; }}\n\
             add rule inet black-hole-{port} in meta iif lo meta l4proto {{ tcp, udp }} th dport {port} drop\n"
        ))
    }

    /// The folder of the daemon's state.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("ipamd.log")
    }

    /// The plugin's log.
    #[must_use]
    pub fn plugin_log(&self) -> PathBuf {
        self.folder.join("plugin.log")
    }

    /// Starts the daemon; does not wait until it is ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<(), NodeError> {
        let (path, environment) = (self.ipamd.clone(), self.environment.clone());
        let program = Program { path, arguments: vec!["run".to_owned()], environment, log: self.log() };
        self.daemon = Some(Running::start(&self.netns, &program)?);
        Ok(())
    }

    /// Starts the daemon under a program that takes it as its last arguments and becomes it, such as `strace -D`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_under(&mut self, wrapper: &[String]) -> Result<(), NodeError> {
        let Some((program, arguments)) = wrapper.split_first() else { return self.start() };
        let mut arguments = arguments.to_vec();
        arguments.extend([self.ipamd.to_string_lossy().into_owned(), "run".to_owned()]);
        let program =
            Program { path: PathBuf::from(program), arguments, environment: self.environment.clone(), log: self.log() };
        self.daemon = Some(Running::start(&self.netns, &program)?);
        Ok(())
    }

    /// The running daemon; `None` before the first start and after an end.
    pub fn daemon(&mut self) -> Option<&mut Running> {
        self.daemon.as_mut()
    }

    /// Ends the daemon by SIGTERM; whether it ended by itself, with success.
    pub fn stop(&mut self) -> bool {
        self.daemon.take().is_some_and(|mut daemon| daemon.stop(GRACE))
    }

    /// Ends the daemon by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Waits until the plugin's STATUS says that an ADD could succeed.
    ///
    /// # Errors
    /// It is not ready in time; the end of the daemon's log is in the error.
    pub fn wait_ready(&self, within: Duration) -> Result<(), NodeError> {
        let ready = eventually("STATUS succeeds", within, || match self.runtime.status() {
            Ok(_) => Ok(Ok(())),
            Err(error) if self.daemon.as_ref().is_none_or(Running::has_ended) => Ok(Err(error.to_string())),
            Err(error) => Err(error.to_string()),
        });
        let ended = |last| NotYet { what: "the daemon has ended before STATUS succeeded".to_owned(), within, last };
        ready.and_then(|ready| ready.map_err(ended)).map_err(|cause| NodeError::NotReady {
            node: self.name.clone(),
            log: crate::process::tail(&self.log(), 40),
            cause,
        })
    }

    /// Waits until the daemon answers those who ask for its status: a moment after an ADD could succeed.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_answers(&self, within: Duration) -> Result<(), NotYet> {
        eventually("the daemon answers", within, || self.status().map(drop).map_err(|error| error.to_string()))
    }

    /// `ipamd status -o json`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn status(&self) -> Result<Value, NodeError> {
        let text = self.ask(&["status", "-o", "json"])?;
        serde_json::from_str(&text).map_err(|error| self.failed("status -o json", &format!("{error}: {text}")))
    }

    /// A number of the status by JSON pointer, such as `/pool/free`.
    ///
    /// # Errors
    /// The daemon does not answer, or the status has no such number.
    pub fn number(&self, pointer: &str) -> Result<u64, NodeError> {
        let status = self.status()?;
        let number = status.pointer(pointer).and_then(Value::as_u64);
        number.ok_or_else(|| self.failed("status -o json", &format!("no number at {pointer}: {status}")))
    }

    /// Runs a command of `ipamd` on the node, as an operator would: its standard output.
    ///
    /// # Errors
    /// It failed.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, NodeError> {
        let output = self.said(arguments, &[])?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Err(self.failed(&arguments.join(" "), said.trim()))
    }

    /// The same, with variables besides, and whatever comes of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn said(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output, NodeError> {
        let mut command = Command::new(&self.ipamd);
        command.args(arguments).env_clear().envs(&self.environment).envs(variables.iter().copied());
        let output = self.netns.run(|| command.output())?;
        output.map_err(|error| self.failed(&arguments.join(" "), &error.to_string()))
    }

    /// Starts a command of `ipamd` that goes on until it is ended; what it says goes to a file of the node's folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&self, arguments: &[&str], file: &str) -> Result<(Running, PathBuf), NodeError> {
        let log = self.folder.join(file);
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let program =
            Program { path: self.ipamd.clone(), arguments, environment: self.environment.clone(), log: log.clone() };
        Ok((Running::start(&self.netns, &program)?, log))
    }

    /// `ipamd check`, until it finds nothing: journal, kernel, EC2, metadata and, where it may be asked, the runtime agree. Asks EC2 for
    /// a description each time. Kernel, EC2 and metadata must have been compared, but for EC2 where the settings forbid to ask it.
    ///
    /// # Errors
    /// They do not for [`AGREED`]: what it said last, with each difference.
    pub fn check(&self) -> Result<(), NotYet> {
        self.check_by(&["check", "-o", "json"])
    }

    /// The same while no daemon runs, by the files of its journal.
    ///
    /// # Errors
    /// As of [`Node::check`].
    pub fn check_without_daemon(&self) -> Result<(), NotYet> {
        self.check_by(&["check", "--without-daemon", "-o", "json"])
    }

    fn check_by(&self, words: &[&str]) -> Result<(), NotYet> {
        let agree = || {
            let text = self.ask(words).map_err(|error| error.to_string())?;
            let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let witnesses = answer["witnesses"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_heard = |name: &&str| {
                let found = witnesses.iter().find(|found| found["witness"] == **name);
                found.is_some_and(|found| found["isCompared"] == true || found["isUnwanted"] == true)
            };
            let is_consistent = answer["isConsistent"] == true && ["kernel", "EC2", "IMDS"].iter().all(is_heard);
            if is_consistent { Ok(()) } else { Err(text) }
        };
        eventually("journal, kernel, EC2 and metadata agree", AGREED, agree)
    }

    /// A new sandbox on this node, not plumbed yet.
    ///
    /// # Errors
    /// Its namespace cannot be made.
    pub fn sandbox(&self, pod: &str) -> Result<Sandbox, NodeError> {
        Ok(Sandbox::create(&self.tools, pod)?)
    }

    /// A new sandbox of a pod whose name no other has had on this node: names make host veth names, and the pod that comes
    /// later under a name takes the link of the one before.
    ///
    /// # Errors
    /// Its namespace cannot be made.
    pub fn next_sandbox(&self) -> Result<Sandbox, NodeError> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        self.sandbox(&format!("{}-pod-{number}", self.name))
    }

    /// Runs `ip` commands on the node.
    ///
    /// # Errors
    /// One failed.
    pub fn ip(&self, lines: &str) -> Result<(), NodeError> {
        Ok(self.tools.ip(&self.netns, lines)?)
    }

    /// Loads nft commands on the node.
    ///
    /// # Errors
    /// nft refuses.
    pub fn nft(&self, commands: &str) -> Result<(), NodeError> {
        Ok(self.tools.nft(&self.netns, commands)?)
    }

    /// What there is on the node that only Enid makes.
    ///
    /// # Errors
    /// The kernel cannot be read.
    pub fn leftovers(&self) -> Result<Leftovers, NodeError> {
        Ok(kernel::leftovers(&self.tools, &self.netns)?)
    }

    /// Empties the node's folder of state: a machine that has just booted has none.
    ///
    /// # Errors
    /// It cannot be emptied.
    pub fn lose_state(&self) -> Result<(), NodeError> {
        let state = self.state_folder();
        let failed = |source| NodeError::File { doing: format!("emptying {}", state.display()), source };
        for entry in fs::read_dir(&state).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed)?;
        }
        Ok(())
    }

    fn failed(&self, arguments: &str, output: &str) -> NodeError {
        let (arguments, output) = (arguments.to_owned(), output.to_owned());
        NodeError::Command { arguments, node: self.name.clone(), output }
    }
}

/// `ENID_IPAMD`, else `ipamd` as cargo builds it beside this program.
///
/// # Errors
/// It is not built.
pub fn daemon_binary() -> Result<PathBuf, NodeError> {
    binary("ENID_IPAMD", &["debug/ipamd"])
}

/// `ENID_CNI_PLUGIN`, else the static one that `make` builds, else cargo's.
///
/// # Errors
/// It is not built.
pub fn plugin_binary() -> Result<PathBuf, NodeError> {
    binary("ENID_CNI_PLUGIN", &["enid/aws-cni", "debug/aws-cni"])
}

pub(crate) fn binary(variable: &'static str, built: &[&str]) -> Result<PathBuf, NodeError> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let build = build_folder().unwrap_or_default();
    let candidates: Vec<PathBuf> =
        named.map_or_else(|| built.iter().map(|path| build.join(path)).collect(), |path| vec![path]);
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| NodeError::NotBuilt { variable, path: candidates.last().cloned().unwrap_or_default() })
}
