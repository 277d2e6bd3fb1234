// SPDX-License-Identifier: Apache-2.0
//! The daemon as a container that may make only some system calls: those of containerd's default profile (`RuntimeDefault`), as the
//! chart's pod has it, and those that the systemd unit leaves it. All that it does beside a pod is done: pods on two ENIs, their ends, a
//! repair, a scrape, `ipamd check`, a stop and a start from the journal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicUsize;

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods;
use integration::runtimes::busybox;
use integration::runtimes::containerd::{Containerd, Line};
use integration::runtimes::runc::{Container, ContainerSpec, Runc};
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::{Value, json};

/// As in the chart.
const CAPABILITIES: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

const UNIT: &str = include_str!("../../../deploy/systemd/enid-ipamd.service");

/// The namespaces' flags of clone(2), CLONE_NEWNS to CLONE_NEWNET.
const NAMESPACES: u64 = 0x7e02_0000;
/// PROT_WRITE and PROT_EXEC.
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// A node whose daemon is such a container.
struct Bed {
    runc: Runc,
    spec: ContainerSpec,
    topology: Topology,
}

impl Bed {
    /// `profile`: which system calls.
    fn new(capabilities: &[&'static str], profile: impl FnOnce(&Topology) -> Option<Value>) -> Self {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        topology.node_mut("n1").set("WARM_IP_TARGET", "1");
        let seccomp = profile(&topology);
        let node = topology.node("n1");
        let root = topology.world.folder("n1/root").unwrap();
        let state = node.state_folder();
        let [ipamd, _] = node.programs();
        let mut shown = libraries(&root);
        // The authorities that a TLS client wants to know of, also one that talks plain HTTP here.
        let authorities = (PathBuf::from("/etc/ssl/certs"), "/etc/ssl/certs".to_owned());
        shown.extend([(ipamd, "/ipamd".to_owned()), (busybox().unwrap(), "/busybox".to_owned()), authorities]);
        let spec = ContainerSpec {
            root,
            command: ["/ipamd", "run"].map(str::to_owned).into(),
            environment: node.environment().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            capabilities: capabilities.to_vec(),
            seccomp,
            mounts: vec![(state.clone(), state.display().to_string())],
            shown,
        };
        Self { runc: Runc::start(&topology.world, node).unwrap(), spec, topology }
    }

    fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    fn start(&self, name: &str) -> Container {
        let container = self.runc.start_container(name, &self.spec).unwrap();
        let ready = eventually("STATUS succeeds", READY, || {
            let status = self.n1().runtime.status();
            status.map(drop).map_err(|error| format!("{error}; {}", container.log_tail(30)))
        });
        ready.unwrap_or_else(|error| panic!("{error}"));
        container
    }

    /// A call that needs no right, which both profiles refuse: a user namespace of one's own. Without a profile it is made.
    fn has_a_filter(&self) {
        let mut spec = self.spec.clone();
        spec.command = ["/busybox", "unshare", "-U", "/busybox", "true"].map(str::to_owned).into();
        let refused = self.runc.run("refused", &spec).unwrap_err().to_string();
        assert!(refused.contains("unshare"), "{refused}");
        spec.seccomp = None;
        self.runc.run("allowed", &spec).unwrap();
    }

    /// What the kernel says of the daemon of this container: 2 is a filter (proc(5)).
    fn is_filtered(&self, name: &str, capabilities: u32) {
        let status = self.runc.exec(name, &["/busybox", "cat", "/proc/1/status"]).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!((field("Name:"), field("NoNewPrivs:")), (Some("ipamd"), Some("1")), "{status}");
        assert_eq!(field("Seccomp:"), Some(if self.spec.seccomp.is_some() { "2" } else { "0" }), "{status}");
        assert_eq!(field("CapEff:"), Some(format!("{capabilities:016x}").as_str()), "{status}");
    }

    /// What a daemon does, start to stop and start again.
    fn lives(&self, capabilities: u32) {
        let mut container = self.start("first");
        self.is_filtered("first", capabilities);
        let n1 = self.n1();
        let mut all = pods::start(n1, 12, 6, &AtomicUsize::new(0)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(self.topology.enis("n1").unwrap().len(), 2);
        let kept = all.split_off(6);
        pods::end(n1, all, 6).unwrap();
        // Connections and neighbours are flushed before an address is anybody's again.
        self.wait("/pool/allocated", 6);
        n1.ip("rule del priority 1536\n").unwrap();
        let repaired =
            eventually("the rule is back", READY, || match n1.status().unwrap()["repair"]["repaired"].as_array() {
                Some(repaired) if !repaired.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            });
        repaired.unwrap();
        let reached = |kept: &[pods::Pod]| {
            for pod in kept {
                pod.reached_from(&n1.netns).unwrap();
            }
        };
        reached(&kept);
        let scraped = self.runc.exec("first", &["/busybox", "wget", "-qO-", "http://127.0.0.1:61678/metrics"]).unwrap();
        assert!(scraped.contains("ipamd_conntrack_entries") && scraped.contains("process_"), "{scraped}");
        n1.check().unwrap();
        self.runc.stop("first", &mut container).unwrap();
        let second = self.start("second");
        reached(&kept);
        self.wait("/pool/allocated", 6);
        for container in [&container, &second] {
            let log = container.log_tail(10_000);
            assert!(!log.contains("Operation not permitted") && !log.contains("Permission denied"), "{log}");
        }
    }

    fn wait(&self, pointer: &str, number: u64) {
        let seen = eventually(pointer, READY, || match self.n1().number(pointer) {
            Ok(found) if found == number => Ok(()),
            found => Err(format!("{found:?}")),
        });
        seen.unwrap();
    }
}

/// What a program that is no static one is loaded with: the host's, to be shown; links in `root` as the host has them.
fn libraries(root: &Path) -> Vec<(PathBuf, String)> {
    let mut shown = Vec::new();
    for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64"] {
        match std::fs::read_link(folder) {
            Ok(target) => std::os::unix::fs::symlink(target, root.join(&folder[1..])).unwrap(),
            Err(_) if Path::new(folder).is_dir() => shown.push((PathBuf::from(folder), folder.to_owned())),
            Err(_) => {}
        }
    }
    shown
}

/// containerd's default profile, as it writes it itself.
fn default_of(line: Line, capabilities: &[&str], topology: &Topology) -> Value {
    Containerd::start(&topology.world, topology.node("n1"), line).unwrap().default_seccomp(capabilities).unwrap()
}

#[test]
fn under_the_default_seccomp_profile_of_containerd_1_the_daemon_does_all_that_it_does() {
    let bed = Bed::new(&CAPABILITIES, |topology| Some(default_of(Line::One, &CAPABILITIES, topology)));
    bed.has_a_filter();
    bed.lives(0x3000);
}

/// Without NET_RAW, which the reference has: nothing needs it.
#[test]
fn under_that_of_containerd_2_it_does_so_without_net_raw() {
    let bed = Bed::new(&["NET_ADMIN"], |topology| Some(default_of(Line::Two, &["NET_ADMIN"], topology)));
    bed.has_a_filter();
    bed.lives(0x1000);
}

#[test]
fn with_the_system_calls_that_the_systemd_unit_leaves_it_does_so_too() {
    let bed = Bed::new(&["NET_ADMIN"], |_| Some(of_the_unit(UNIT)));
    bed.has_a_filter();
    bed.lives(0x1000);
}

/// The unit's filter as a profile: the lines that systemd makes one of (systemd.exec(5)), but for those of real-time scheduling and of
/// set-user-id bits.
fn of_the_unit(unit: &str) -> Value {
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    for (key, value) in
        [("RestrictNamespaces", "yes"), ("MemoryDenyWriteExecute", "yes"), ("SystemCallArchitectures", "native")]
    {
        assert_eq!(line(key), value, "{key}");
    }
    let mut names = members(line("SystemCallFilter"));
    names
        .retain(|name| !["clone", "clone3", "mmap", "mprotect", "setns", "socket", "unshare"].contains(&name.as_str()));
    assert!(names.len() > 200 && names.iter().all(|name| !name.starts_with('@')), "{names:?}");
    let allow =
        |names: Vec<String>, argument: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": argument});
    let one = |name: &str, argument: Value| allow(vec![name.to_owned()], json!([argument]));
    let masked = |index: u32, mask: u64, value: u64| json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"});
    let mut calls = vec![allow(names, json!([])), one("clone", masked(0, NAMESPACES, 0))];
    calls.extend([0, WRITE, EXECUTE].map(|only| one("mmap", masked(2, WRITE | EXECUTE, only))));
    calls.push(one("mprotect", masked(2, EXECUTE, 0)));
    let families = line("RestrictAddressFamilies").split_whitespace().map(|family| match family {
        "AF_UNIX" => 1,
        "AF_INET" => 2,
        "AF_INET6" => 10,
        "AF_NETLINK" => 16,
        other => panic!("{other}"),
    });
    calls.extend(families.map(|family| one("socket", json!({"index": 0, "value": family, "op": "SCMP_CMP_EQ"}))));
    // ENOSYS, as systemd answers: the C library then takes clone.
    calls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": calls})
}

/// The system calls of a set, as systemd's own program lists it.
fn members(set: &str) -> Vec<String> {
    let packages = std::env::var_os("ENID_NETWORK_MANAGERS").map(PathBuf::from).unwrap_or_default();
    let unpacked = packages.join("usr/bin/systemd-analyze");
    let program = if unpacked.is_file() { unpacked.as_path() } else { Path::new("/usr/bin/systemd-analyze") };
    let libraries = packages.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", format!("{0}:{0}/systemd", libraries.display())).args(["syscall-filter", set]);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.flat_map(|word| if word.starts_with('@') { members(word) } else { vec![word.to_owned()] }).collect()
}
