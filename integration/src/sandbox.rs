// SPDX-License-Identifier: Apache-2.0
//! Sandboxes, and the runtime that calls the CNI plugin for them: environment and standard input as containerd gives them.
//!
//! What runtimes do and this does too: CNI_ARGS in an order that changes from call to call (a Go map), the network
//! configuration of one plugin out of `10-aws.conflist` with name, version and (on DEL) `prevResult` put in, a netns path
//! `/var/run/netns/cni-<uuid>`, a second DEL with that path empty, a new container id at every retry. The plugin runs in the
//! node's namespace. It does not keep a cache or retry: a test says what it wants.
//!
//! Source: the CNI specification 1.1.0 and containerd's go-cni, traced.
#![expect(clippy::disallowed_methods, reason = "the harness starts the plugin and times it")]

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Map, Value, json};

use crate::netns::{Namespace, NetnsError};
use crate::tools::{ToolError, Tools};

/// The configuration that is installed on nodes.
const CONFLIST: &str = include_str!("../../deploy/10-aws.conflist");

/// No call may take longer: an ADD's budget is 20 s, a DEL's 2 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// What went wrong around a call; what the plugin itself refuses is a [`Refused`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The plugin refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be run, hung, or answered what the specification does not allow.
    #[error("{verb} of sandbox {container_id}: {problem}")]
    Broken {
        /// ADD, DEL, …
        verb: &'static str,
        /// Which.
        container_id: String,
        /// What.
        problem: String,
    },
    /// A namespace cannot be made or entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The loopback link cannot be set up.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// `10-aws.conflist` or the random source cannot be read.
    #[error("{doing}")]
    Setup {
        /// What.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The plugin's error object (CNI specification, "Error").
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CNI error {code}: {message}; {details}")]
pub struct Refused {
    /// Such as 11, try again later.
    pub code: u64,
    /// What kubelet shows.
    pub message: String,
    /// The causes.
    pub details: String,
    /// How long the call took.
    pub took: Duration,
}

impl SandboxError {
    /// The plugin's own refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refused> {
        if let Self::Refused(refused) = self { Some(refused) } else { None }
    }
}

/// A pod's sandbox, plumbed or not.
#[derive(Debug)]
pub struct Sandbox {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// 64 hex digits.
    pub container_id: String,
    uid: String,
    /// Its network namespace.
    pub netns: Namespace,
    /// The last ADD's result, as printed: `prevResult` of a DEL.
    result: Mutex<Option<Value>>,
}

/// An ADD's result.
#[derive(Clone, Debug)]
pub struct Added {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Name of the host veth.
    pub host_veth: String,
    /// The route table that the result names.
    pub table: u32,
    /// The result as printed.
    pub result: Value,
    /// How long the call took.
    pub took: Duration,
}

impl Sandbox {
    /// A new sandbox with a namespace of its own, loopback up (the runtime's own `loopback` plugin).
    ///
    /// # Errors
    /// The namespace cannot be made.
    pub fn create(tools: &Tools, name: &str) -> Result<Self, SandboxError> {
        let uid = uuid()?;
        let container_id = format!("{}{}", uuid()?, uuid()?).replace('-', "");
        let netns = Namespace::create(&format!("cni-{}", uuid()?))?;
        tools.ip(&netns, "link set lo up\n")?;
        let (namespace, name) = ("default".to_owned(), name.to_owned());
        Ok(Self { namespace, name, container_id, uid, netns, result: Mutex::default() })
    }

    /// The address of the last ADD that worked.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.as_ref().and_then(address_of)
    }

    /// CNI_ARGS as containerd passes it, in an order that is another one each time.
    ///
    /// # Errors
    /// There is no random source.
    pub fn cni_args(&self) -> Result<String, SandboxError> {
        let mut pairs = [
            "IgnoreUnknown=1".to_owned(),
            format!("K8S_POD_NAMESPACE={}", self.namespace),
            format!("K8S_POD_NAME={}", self.name),
            format!("K8S_POD_INFRA_CONTAINER_ID={}", self.container_id),
            format!("K8S_POD_UID={}", self.uid),
        ];
        let random = uuid()?;
        let digits: Vec<u8> = random.bytes().collect();
        for (last, digit) in (1..pairs.len()).rev().zip(digits) {
            pairs.swap(last, usize::from(digit) % (last + 1));
        }
        Ok(pairs.join(";"))
    }

    /// The last ADD's result, as printed.
    #[must_use]
    pub fn last_result(&self) -> Option<Value> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a result into the runtime's cache that another plugin has printed: `prevResult` of the calls that follow.
    pub fn remember(&self, result: Value) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

/// Whether a DEL names the network namespace: containerd repeats a DEL without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetnsPath {
    /// `CNI_NETNS` is the sandbox's.
    Given,
    /// `CNI_NETNS` is empty.
    Empty,
}

/// A node's container runtime: what calls the plugin.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Put before the plugin on its command line, such as strace.
    wrapper: Vec<String>,
    plugin: PathBuf,
    node: Namespace,
    configuration: Map<String, Value>,
}

impl Runtime {
    /// A runtime on `node` that runs `plugin`; `overrides` are keys of the plugin's configuration, such as `ipamdSocket`.
    ///
    /// # Errors
    /// `10-aws.conflist` has no plugin `aws-cni`.
    pub fn new(plugin: &Path, node: &Namespace, overrides: &Map<String, Value>) -> Result<Self, SandboxError> {
        let broken = |doing| SandboxError::Setup { doing, source: io::ErrorKind::InvalidData.into() };
        let list: Value = serde_json::from_str(CONFLIST).map_err(|_| broken("10-aws.conflist is not JSON"))?;
        let plugins = list["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = plugins.iter().find(|plugin| plugin["type"] == "aws-cni").and_then(Value::as_object);
        let mut configuration = ours.ok_or_else(|| broken("10-aws.conflist has no plugin of type aws-cni"))?.clone();
        configuration.insert("name".to_owned(), list["name"].clone());
        configuration.insert("cniVersion".to_owned(), list["cniVersion"].clone());
        configuration.insert("runtimeConfig".to_owned(), json!({ "io.kubernetes.cri.pod-annotations": {} }));
        configuration.extend(overrides.clone());
        Ok(Self { wrapper: Vec::new(), plugin: plugin.to_owned(), node: node.clone(), configuration })
    }

    /// The whole of `10-aws.conflist` with this node's overrides in it, for a runtime that reads it from a file.
    ///
    /// # Errors
    /// The shipped file is not JSON.
    pub fn conflist(&self) -> Result<Value, SandboxError> {
        let broken =
            |_| SandboxError::Setup { doing: "10-aws.conflist is not JSON", source: io::ErrorKind::InvalidData.into() };
        let mut list: Value = serde_json::from_str(CONFLIST).map_err(broken)?;
        let plugins = list["plugins"].as_array_mut().into_iter().flatten();
        for plugin in plugins.filter(|plugin| plugin["type"] == "aws-cni").filter_map(Value::as_object_mut) {
            for (key, value) in &self.configuration {
                // What a runtime puts in by itself.
                if !["name", "cniVersion", "runtimeConfig"].contains(&key.as_str()) {
                    plugin.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(list)
    }

    /// The plugin's executable.
    #[must_use]
    pub fn plugin(&self) -> &Path {
        &self.plugin
    }

    /// The same runtime with another executable as its plugin.
    #[must_use]
    pub fn running(&self, plugin: &Path) -> Self {
        Self { plugin: plugin.to_owned(), ..self.clone() }
    }

    /// The same runtime, running the plugin under a program that takes it as its last argument.
    #[must_use]
    pub fn under(&self, wrapper: Vec<String>) -> Self {
        Self { wrapper, ..self.clone() }
    }

    /// The same runtime, passing these `portMappings` on with each call.
    #[must_use]
    pub fn with_ports(&self, mappings: Value) -> Self {
        let mut other = self.clone();
        if let Some(config) = other.configuration.get_mut("runtimeConfig").and_then(Value::as_object_mut) {
            config.insert("portMappings".to_owned(), mappings);
        }
        other
    }

    /// The same runtime, speaking another version of the specification.
    #[must_use]
    pub fn speaking(&self, version: &str) -> Self {
        let mut other = self.clone();
        other.configuration.insert("cniVersion".to_owned(), version.into());
        other
    }

    /// ADD.
    ///
    /// # Errors
    /// The plugin refuses, or breaks the specification.
    pub fn add(&self, sandbox: &Sandbox) -> Result<Added, SandboxError> {
        let (output, took) = self.call("ADD", sandbox, NetnsPath::Given, None)?;
        let result = answer("ADD", sandbox, &output, took)?;
        let broken = |what: &str| broken("ADD", sandbox, format!("the result has no {what}: {result}"));
        let address = address_of(&result).ok_or_else(|| broken("IPv4 address"))?;
        let host_veth = result["interfaces"][0]["name"].as_str().ok_or_else(|| broken("host interface"))?.to_owned();
        // The reference reports the route table in the container interface's mac field; 0 and 254 are main.
        let table = result["interfaces"][1]["mac"].as_str().and_then(|mac| mac.parse().ok());
        let table = table.ok_or_else(|| broken("route table"))?;
        *sandbox.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.clone());
        Ok(Added { address, host_veth, table, result, took })
    }

    /// DEL, with the last ADD's result as `prevResult`. Returns how long it took.
    ///
    /// # Errors
    /// The plugin refuses, or breaks the specification.
    pub fn del(&self, sandbox: &Sandbox, netns: NetnsPath) -> Result<Duration, SandboxError> {
        self.call_with_result("DEL", sandbox, netns)
    }

    /// CHECK, with the last ADD's result as `prevResult`.
    ///
    /// # Errors
    /// The pod's network is not as it was attached.
    pub fn check(&self, sandbox: &Sandbox) -> Result<Duration, SandboxError> {
        self.call_with_result("CHECK", sandbox, NetnsPath::Given)
    }

    /// GC at version 1.1.0, with these sandboxes on the list, under both names that the list has. `spare_younger`: how young a
    /// sandbox must be to be spared; `None`: the plugin's own time.
    ///
    /// # Errors
    /// The plugin refuses, or could not take all down.
    pub fn gc(&self, keep: &[&Sandbox], spare_younger: Option<Duration>) -> Result<Duration, SandboxError> {
        let attachment = |sandbox: &&Sandbox| json!({ "containerID": sandbox.container_id, "ifname": "eth0" });
        let list: Value = keep.iter().map(attachment).collect();
        let mut command = self.command("GC");
        if let Some(spare) = spare_younger {
            command.env("ENID_GC_SPARE_MS", spare.as_millis().to_string());
        }
        let lists = ["cni.dev/valid-attachments", "cni.dev/attachments"].map(|key| (key.to_owned(), list.clone()));
        self.call_without_sandbox("running GC", &mut command, lists)
    }

    /// STATUS, at version 1.1.0, where it begins; the environment holds only command and path.
    ///
    /// # Errors
    /// The plugin is not ready.
    pub fn status(&self) -> Result<Duration, SandboxError> {
        self.call_without_sandbox("running STATUS", &mut self.command("STATUS"), [])
    }

    /// Begins an ADD, to be killed while it waits.
    ///
    /// # Errors
    /// The plugin cannot be started.
    pub fn begin_add(&self, sandbox: &Sandbox) -> Result<BegunAdd, SandboxError> {
        let mut command = self.command_for("ADD", sandbox, NetnsPath::Given)?;
        let input = Value::Object(self.configuration.clone()).to_string();
        let begun = self.node.run(|| {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            Ok(child)
        })?;
        begun.map(BegunAdd).map_err(|error: io::Error| broken("ADD", sandbox, error.to_string()))
    }

    /// What a call runs in the node's namespace and what it is given on standard input, for whoever starts and times it: an ADD, or
    /// another verb with the last ADD's result.
    ///
    /// # Errors
    /// There is no random source.
    pub fn prepared(&self, verb: &str, sandbox: &Sandbox) -> Result<(Command, String), SandboxError> {
        let mut configuration = self.configuration.clone();
        if let Some(previous) = sandbox.last_result().filter(|_| verb != "ADD") {
            configuration.insert("prevResult".to_owned(), previous);
        }
        Ok((self.command_for(verb, sandbox, NetnsPath::Given)?, Value::Object(configuration).to_string()))
    }

    fn command(&self, verb: &str) -> Command {
        let mut words = self.wrapper.iter().map(Path::new).chain([self.plugin.as_path()]);
        let mut command = Command::new(words.next().unwrap_or(&self.plugin));
        command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("CNI_COMMAND", verb);
        command.env("CNI_PATH", self.plugin.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn command_for(&self, verb: &str, sandbox: &Sandbox, netns: NetnsPath) -> Result<Command, SandboxError> {
        let mut command = self.command(verb);
        let path = match netns {
            NetnsPath::Given => format!("/var/run/netns/{}", sandbox.netns.name()),
            NetnsPath::Empty => String::new(),
        };
        command.env("CNI_CONTAINERID", &sandbox.container_id).env("CNI_NETNS", path).env("CNI_IFNAME", "eth0");
        command.env("CNI_ARGS", sandbox.cni_args()?);
        Ok(command)
    }

    /// A verb of the node's, at version 1.1.0, with further keys in the configuration.
    fn call_without_sandbox(
        &self,
        doing: &'static str,
        command: &mut Command,
        keys: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Duration, SandboxError> {
        let mut configuration = self.configuration.clone();
        configuration.insert("cniVersion".to_owned(), "1.1.0".into());
        configuration.extend(keys);
        let setup = |source| SandboxError::Setup { doing, source };
        let (output, took) = self.exchange(command, &configuration)?.map_err(setup)?;
        if output.status.success() {
            return Ok(took);
        }
        let no_object = || setup(io::Error::new(io::ErrorKind::InvalidData, "it answered no error object"));
        Err(refusal(&output.stdout, took).map_or_else(no_object, SandboxError::Refused))
    }

    /// A verb of a sandbox's that prints nothing, with the last ADD's result as `prevResult`.
    fn call_with_result(
        &self,
        verb: &'static str,
        sandbox: &Sandbox,
        netns: NetnsPath,
    ) -> Result<Duration, SandboxError> {
        let previous = sandbox.last_result();
        let (output, took) = self.call(verb, sandbox, netns, previous.as_ref())?;
        if output.status.success() {
            return Ok(took);
        }
        answer(verb, sandbox, &output, took).map(|_| took)
    }

    fn call(
        &self,
        verb: &'static str,
        sandbox: &Sandbox,
        netns: NetnsPath,
        previous: Option<&Value>,
    ) -> Result<(Output, Duration), SandboxError> {
        let mut configuration = self.configuration.clone();
        if let Some(previous) = previous {
            configuration.insert("prevResult".to_owned(), previous.clone());
        }
        let mut command = self.command_for(verb, sandbox, netns)?;
        let ran = self.exchange(&mut command, &configuration)?;
        ran.map_err(|error| broken(verb, sandbox, error.to_string()))
    }

    fn exchange(
        &self,
        command: &mut Command,
        configuration: &Map<String, Value>,
    ) -> Result<io::Result<(Output, Duration)>, NetnsError> {
        let input = Value::Object(configuration.clone()).to_string();
        self.node.run(|| {
            let start = Instant::now();
            let output = run(command, &input)?;
            Ok((output, start.elapsed()))
        })
    }
}

/// An ADD under way.
#[derive(Debug)]
pub struct BegunAdd(Child);

impl BegunAdd {
    /// SIGKILL: its connection to the daemon closes.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(mut self) -> io::Result<()> {
        if let Some(status) = self.0.try_wait()? {
            return Err(io::Error::other(format!("the ADD has ended before it could be killed: {status}")));
        }
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for BegunAdd {
    fn drop(&mut self) {
        // Killed and waited for already, or by this.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command to its end; one that hangs is killed and an error.
pub(crate) fn run(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.spawn()?;
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended before it had read everything; its answer says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    let wait = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    // Results are a few hundred bytes, far below what a pipe holds, so it can end before it is read.
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&wait))?;
    if ended == 0 {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    if ended == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("the plugin hung for {PATIENCE:?}")));
    }
    Ok(output)
}

/// The result on standard output, or the error object.
fn answer(verb: &'static str, sandbox: &Sandbox, output: &Output, took: Duration) -> Result<Value, SandboxError> {
    if !output.status.success() {
        return Err(refusal(&output.stdout, took).map_or_else(
            || {
                let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                broken(
                    verb,
                    sandbox,
                    format!("{} without an error object; stdout `{out}`, stderr `{err}`", output.status),
                )
            },
            SandboxError::Refused,
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| broken(verb, sandbox, format!("the result is not JSON: {error}")))
}

fn refusal(stdout: &[u8], took: Duration) -> Option<Refused> {
    let error: Value = serde_json::from_slice(stdout).ok()?;
    Some(Refused {
        code: error["code"].as_u64()?,
        message: error["msg"].as_str()?.to_owned(),
        details: error["details"].as_str().unwrap_or_default().to_owned(),
        took,
    })
}

fn broken(verb: &'static str, sandbox: &Sandbox, problem: impl fmt::Display) -> SandboxError {
    SandboxError::Broken { verb, container_id: sandbox.container_id.clone(), problem: problem.to_string() }
}

/// Address of a result of version 0.3.0 or later: `ips[0].address`, `10.0.1.7/32`.
fn address_of(result: &Value) -> Option<Ipv4Addr> {
    result["ips"][0]["address"].as_str()?.split('/').next()?.parse().ok()
}

/// A random UUID (random(4), `/proc/sys/kernel/random/uuid`).
fn uuid() -> Result<String, SandboxError> {
    let mut text = String::new();
    fs::File::open("/proc/sys/kernel/random/uuid")
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|source| SandboxError::Setup { doing: "reading a random UUID", source })?;
    Ok(text.trim().to_owned())
}
