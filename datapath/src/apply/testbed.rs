// SPDX-License-Identifier: Apache-2.0
//! Namespaces for tests: a node (the test's own thread), pods, routers. Made by the test, gone with it; the machine's own
//! namespace is never touched. Without the right to make them a test fails and says so.
//!
//! Read-back goes through `ip -j` and `nft`, programs that we did not write. They are those below `$ENID_TOOLS` (packages
//! unpacked by `scripts/tools.sh`) where there are some, else those on PATH.
#![expect(clippy::disallowed_methods, reason = "tests run ip and nft, read ENID_TOOLS and set sysctls")]

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::plan::pod::{PodAttachment, PodLayout};
use crate::plan::{LinkName, MacAddr, PodAddresses, RouteTable};

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Space(File);

#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn unshare_network() {
    // SAFETY: no CLONE_FILES, so no descriptor table is split.
    let result = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    result.expect("making a network namespace (these tests need root or `unshare -Urn`)");
}

impl Space {
    /// Puts the calling thread into a new namespace with `lo` up: the node's.
    pub(crate) fn enter_new() -> Self {
        unshare_network();
        let space = Self(File::open("/proc/thread-self/ns/net").unwrap());
        space.ip("link set lo up");
        space
    }

    /// A new namespace with `lo` down, as a runtime makes it.
    pub(crate) fn new() -> Self {
        std::thread::spawn(|| {
            unshare_network();
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        })
        .join()
        .unwrap()
    }

    /// A path that names it, as CNI_NETNS does.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
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
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        self.run(|| output(tool("bin/ip").args(&words)))
    }

    /// `ip -j …` as a value.
    pub(crate) fn ip_json(&self, words: &str) -> serde_json::Value {
        let text = self.ip(&format!("-j {words}"));
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
    }

    /// `nft` with these words; must succeed.
    pub(crate) fn nft(&self, words: &str) -> String {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        self.run(|| output(nft().args(&words)))
    }

    /// `nft -f -`; whether it succeeded.
    pub(crate) fn nft_text(&self, text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        self.run(|| output(nft().arg("-f").arg(file.path())))
    }

    /// Runs a plan's text, with `nft` and `sysctl` as functions: neither need be installed.
    pub(crate) fn shell(&self, script: &str) {
        let nft = nft();
        let library = nft.get_envs().find_map(|(_, value)| value).unwrap_or_default().to_string_lossy().into_owned();
        let program = nft.get_program().to_string_lossy().into_owned();
        let functions = format!(
            "nft() {{ LD_LIBRARY_PATH='{library}' command '{program}' \"$@\"; }}\n\
             sysctl() {{ key=${{2%%=*}}; echo \"${{2#*=}}\" > /proc/sys/$(echo \"$key\" | tr . /); }}\n"
        );
        self.run(|| output(Command::new("sh").args(["-e", "-c", &(functions + script)])));
    }

    /// Writes a file below /proc/sys/net.
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/net/{path}"), value).unwrap());
    }

    /// Reads one.
    pub(crate) fn sysctl_value(&self, path: &str) -> String {
        self.run(|| fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned())
    }

    /// The connections that it tracks.
    pub(crate) fn connections(&self) -> String {
        self.run(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap())
    }

    /// Everything that an attach can leave behind.
    pub(crate) fn dump(&self) -> String {
        // One `ip` for several lists: starting it costs more than they do.
        let lists = [
            ("-d", "link\n"),
            ("-4", "addr\nroute show table all\nrule\n"),
            ("-6", "addr show scope global\nroute show table all\nrule\n"),
            ("-N", "neigh show nud all\n"),
        ];
        // The kernel changes these by itself, later.
        let by_itself = ["inet6 fe80", "fe80::", "ff00::", "ff02::"];
        let is_settled = |line: &&str| !by_itself.iter().any(|part| line.contains(part));
        let settle = |line: &str| {
            let line = line.replace("state UNKNOWN", "state UP").replace(" tentative", "");
            // A worker of the kernel takes note of a carrier some time later.
            if !line.contains(",UP") {
                return line;
            }
            line.replace("NO-CARRIER,", "")
                .replace("state DOWN", "state UP")
                .replace("state LOWERLAYERDOWN", "state UP")
        };
        let dumps = lists.map(|(option, list)| {
            let text = self.ip_batch(option, list);
            text.lines().filter(is_settled).map(settle).collect::<Vec<_>>().join("\n")
        });
        dumps.join("\n---\n")
    }

    /// `ip` with an option and commands, one a line; all must succeed.
    fn ip_batch(&self, option: &str, commands: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), commands).unwrap();
        self.run(|| output(tool("bin/ip").args([option, "-batch"]).arg(file.path())))
    }

    /// A UDP socket in it that waits half a second at most.
    pub(crate) fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    /// Links two namespaces by a veth with these names and MACs, both ends up.
    pub(crate) fn link(&self, name: &str, mac: &str, other: &Self, other_name: &str) {
        let other_path = other.path().display().to_string();
        // ip takes names below /run/netns or a process; a descriptor of ours is given by moving.
        self.ip(&format!("link add {name} address {mac} type veth peer name {other_name}"));
        move_link(self, other_name, &other_path);
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }
}

/// Moves a link into the namespace at a path.
fn move_link(from: &Space, name: &str, path: &str) {
    let target = File::open(path).unwrap();
    from.run(|| {
        use netlink_packet_route::RouteNetlinkMessage;
        use netlink_packet_route::link::{LinkAttribute, LinkMessage};
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::NetNsFd(target.as_raw_fd())];
        let message = RouteNetlinkMessage::SetLink(message);
        let request = super::netlink::Request { message, flags: 0, doing: "moving a link".to_owned() };
        super::netlink::Socket::route().unwrap().request(request).unwrap();
    });
}

fn nft() -> Command {
    tool("usr/sbin/nft")
}

/// A program below ENID_TOOLS with the libraries there, or the one on PATH.
pub(crate) fn tool(path: &str) -> Command {
    let name = path.rsplit('/').next().unwrap_or(path);
    let tools = std::env::var_os("ENID_TOOLS").map(PathBuf::from).filter(|tools| tools.join(path).exists());
    let Some(tools) = tools else { return Command::new(name) };
    let libraries = ["usr/lib", "lib"].into_iter().filter_map(|folder| fs::read_dir(tools.join(folder)).ok()).flatten();
    let libraries = libraries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut command = Command::new(tools.join(path));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    command
}

fn output(command: &mut Command) -> String {
    let result = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; these tests need iproute2 and nft (on PATH, or unpacked at ENID_TOOLS)")
    });
    let error = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{command:?}: {} {error}", result.status);
    String::from_utf8(result.stdout).unwrap()
}

/// A pod named `name` with an address and, on a secondary ENI, its table.
pub(crate) fn pod(name: &str, address: impl Into<PodAddresses>, table: Option<u32>) -> PodAttachment {
    let owner = format!("aws-cni/{name}-sandbox/eth0");
    PodAttachment {
        host_veth: LinkName::host_veth("eni", "default", name, &owner).unwrap(),
        pod_link: LinkName::new("eth0").unwrap(),
        addresses: address.into(),
        mtu: 9001,
        eni_table: table.map(RouteTable),
        layout: PodLayout::Classic,
        host_mac: MacAddr::derived(&format!("{owner} host")),
        pod_mac: MacAddr::derived(&format!("{owner} pod")),
        owner,
    }
}

/// Fails with the lines that two dumps do not share.
#[track_caller]
pub(crate) fn assert_same(before: &str, after: &str, context: &str) {
    let only = |a: &str, b: &str, sign: &str| {
        let missing = a.lines().filter(|line| !b.lines().any(|other| other == *line));
        missing.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    assert!(before == after, "{context}:\n{}{}", only(before, after, "-"), only(after, before, "+"));
}

/// Waits for a worker of the kernel; no test waits for a thread of ours by time.
pub(crate) fn pause(nanoseconds: u32) {
    std::thread::sleep(Duration::from_nanos(nanoseconds.into()));
}

/// Whether the kernel is this version of Linux, or a later one.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Waits until the pod's link can send, on kernels where attach cannot make sure of it (before Linux 6.8).
pub(crate) fn settle(sandbox: &Space) {
    if kernel_is_at_least(6, 8) {
        return;
    }
    wait_for_carrier(sandbox, "eth0");
}

/// Waits until a worker of the kernel has taken note of a link's carrier.
pub(crate) fn wait_for_carrier(space: &Space, link: &str) {
    let is_up = (0..300).any(|_| {
        let found = space.ip(&format!("link show dev {link}")).contains("state UP");
        if !found {
            pause(10_000_000);
        }
        found
    });
    assert!(is_up, "{link} has no carrier after three seconds");
}
