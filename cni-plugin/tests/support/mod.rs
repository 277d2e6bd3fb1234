// SPDX-License-Identifier: Apache-2.0
//! What the process tests share: namespaces made for the test ([`Space`]), a daemon that is a small stateful model served
//! by `ipam_api::server` ([`daemon`]), and the real binary run as a runtime would ([`Node`]).
//!
//! The test's own thread is moved into a new network namespace, the node's; the machine's is never touched. Without the
//! right to do so a test fails and says so.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests start the plugin and ip, and measure how long calls take")]

pub(crate) mod daemon;

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde_json::{Value, json};

/// A network namespace, kept by its open file.
#[derive(Debug)]
pub(crate) struct Space(File);

#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn unshare_network() -> Space {
    // SAFETY: without CLONE_FILES no descriptor table is split.
    let result = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    result.expect("making a network namespace (these tests need root, or `unshare -Urn` around them)");
    Space(File::open("/proc/thread-self/ns/net").unwrap())
}

impl Space {
    /// A new namespace with `lo` down, as a runtime makes one.
    pub(crate) fn new() -> Self {
        std::thread::spawn(unshare_network).join().unwrap()
    }

    /// A path that names it to other processes, as CNI_NETNS does. Gone when `self` is.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `f` on a thread inside.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                f()
            });
            inside.join().unwrap()
        })
    }

    /// `ip` with these words; must succeed.
    pub(crate) fn ip(&self, words: &str) -> String {
        self.run(|| {
            let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip (iproute2) is needed");
            assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Everything that a failed ADD could leave behind.
    pub(crate) fn everything(&self) -> String {
        let lists = ["-d link", "-4 addr", "-4 route show table all", "rule", "-4 neigh show nud all"];
        lists.map(|list| settled(&self.ip(list))).join("\n")
    }

    /// A UDP socket in it; reads wait half a second at most.
    pub(crate) fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }
}

/// Without the state and flags of a link (`state UNKNOWN`, `<NO-CARRIER,UP>`), which the kernel settles by itself a
/// moment after the link is made.
fn settled(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with('<')).collect();
    while let Some(position) = words.iter().position(|word| *word == "state") {
        words.drain(position..(position + 2).min(words.len()));
    }
    words.join(" ")
}

/// Sends a datagram each way; the addresses that the two ends saw, or `None` if one did not arrive.
pub(crate) fn exchange(from: &UdpSocket, to: &UdpSocket) -> Option<(String, String)> {
    let mut buffer = [0; 16];
    from.send_to(b"ping", to.local_addr().unwrap()).ok()?;
    let (_, seen_there) = to.recv_from(&mut buffer).ok()?;
    to.send_to(b"pong", seen_there).ok()?;
    let (_, seen_here) = from.recv_from(&mut buffer).ok()?;
    Some((seen_there.ip().to_string(), seen_here.ip().to_string()))
}

/// A node: its namespace, which the test's thread is in, and its state folder.
pub(crate) struct Node {
    pub(crate) space: Space,
    pub(crate) folder: tempfile::TempDir,
}

/// What a run of the plugin brought.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    /// Standard output as JSON; there must be some.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The result of a success.
    #[track_caller]
    pub(crate) fn success(&self) -> Value {
        assert_eq!(self.exit_code, 0, "{self:?}");
        self.json()
    }

    /// A success that prints nothing, within 2 s.
    #[track_caller]
    pub(crate) fn silent_success(&self) {
        assert_eq!((self.exit_code, self.stdout.as_str()), (0, ""), "{self:?}");
        assert!(self.took < Duration::from_secs(2), "{self:?}");
    }

    /// Code and message of an error object.
    #[track_caller]
    pub(crate) fn error(&self) -> (u64, String) {
        assert_eq!(self.exit_code, 1, "{self:?}");
        let json = self.json();
        (json["code"].as_u64().unwrap(), json["msg"].as_str().unwrap().to_owned())
    }
}

/// The parameters of one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) args: String,
}

impl Sandbox {
    pub(crate) fn new(container_id: &str, pod: &str, netns: &str) -> Self {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container_id};\
             K8S_POD_UID=uid-of-{pod}"
        );
        Self { container_id: container_id.into(), netns: netns.into(), args }
    }
}

impl Node {
    /// Moves the calling thread into a namespace of its own with `lo` up and the address 10.0.0.1.
    pub(crate) fn enter() -> Self {
        let space = unshare_network();
        space.ip("link set lo up");
        space.ip("addr add 10.0.0.1/32 dev lo");
        // /proc/sys/net is the calling thread's namespace.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        Self { space, folder: tempfile::tempdir().unwrap() }
    }

    /// A folder without a namespace, for verbs that touch no network.
    pub(crate) fn without_network() -> Self {
        Self { space: Space(File::open("/dev/null").unwrap()), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("ipamd.sock")
    }

    /// The plugin's part of the network configuration.
    pub(crate) fn conf(&self, version: &str) -> Value {
        json!({
            "cniVersion": version,
            "name": "aws-cni",
            "type": "aws-cni",
            "vethPrefix": "eni",
            "mtu": "9001",
            "ipamdSocket": self.socket(),
            "stateDir": self.folder.path(),
            "pluginLogFile": self.path("plugin.log"),
            "pluginLogLevel": "DEBUG",
        })
    }

    pub(crate) fn add(&self, sandbox: &Sandbox) -> Run {
        self.verb("ADD", sandbox, &self.conf("1.0.0"))
    }

    pub(crate) fn del(&self, sandbox: &Sandbox) -> Run {
        self.verb("DEL", sandbox, &self.conf("1.0.0"))
    }

    pub(crate) fn verb(&self, verb: &str, sandbox: &Sandbox, conf: &Value) -> Run {
        self.start(verb, sandbox, conf, &[]).finish()
    }

    /// Starts a verb as a runtime does.
    pub(crate) fn start(&self, verb: &str, sandbox: &Sandbox, conf: &Value, more: &[(&str, &str)]) -> Running {
        let mut environment = vec![
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &sandbox.container_id),
            ("CNI_NETNS", &sandbox.netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &sandbox.args),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        environment.extend(more);
        start(&environment, conf.to_string().as_bytes())
    }

    /// Names of the links in the node's namespace other than `lo`.
    pub(crate) fn links(&self) -> Vec<String> {
        self.links_where(|_| true)
    }

    /// Those that are not in the dead group. The dead go when the kernel has taken their pod's namespace down.
    pub(crate) fn live_links(&self) -> Vec<String> {
        self.links_where(|link| link["group"] != "57005")
    }

    fn links_where(&self, is_wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.space.ip("-j link")).unwrap();
        let wanted = list.as_array().unwrap().iter().filter(|link| link["ifname"] != "lo" && is_wanted(link));
        wanted.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn tombstones(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.path("tombstones")) else { return Vec::new() };
        entries.map(|entry| serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap()).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("plugin.log")).unwrap_or_default()
    }
}

/// A plugin that runs.
pub(crate) struct Running {
    child: std::process::Child,
    started: Instant,
}

/// Starts the binary with this environment and nothing else of ours.
pub(crate) fn start(environment: &[(&str, &str)], stdin: &[u8]) -> Running {
    let started = Instant::now();
    let mut child = Command::new(binary())
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that does not read may be gone already.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin);
    Running { child, started }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aws-cni"))
}

impl Running {
    /// SIGKILL; it may have ended before.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn finish(self) -> Run {
        let output = self.child.wait_with_output().unwrap();
        Run {
            exit_code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap().trim_end().to_owned(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: self.started.elapsed(),
        }
    }
}
