// SPDX-License-Identifier: Apache-2.0
//! What a call of the plugin costs, in instructions, system calls and netlink messages: held to `budgets.toml`. Time is `make bench`'s,
//! and not a gate: a machine that is busy with other things must not turn a build red, and one that is fast must not hide what grew.
//!
//! The least of several calls counts: a call that waited a turn longer for the daemon, or read the rest of a list in another datagram,
//! has made more than it costs.
//!
//! And what the daemon writes for one pod: it must not grow with the pods that there are.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed; reads recordings and budgets; prints what was counted"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use integration::node::Node;
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::strace::Strace;
use integration::tools::Tools;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// Calls of each kind of which the least counts.
const ROUNDS: usize = 5;

/// What is added to a budget before a count is too much, in hundredths.
const TOLERANCE: u64 = 5;
/// How far below its budget a count may be before the budget means nothing any more.
const SLACK: u64 = 10;

/// Lines `name = number`.
fn budgets() -> BTreeMap<String, u64> {
    let text = include_str!("budgets.toml");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let entry = |line: &str| {
        let (name, number) = line.split_once(" = ").unwrap_or_else(|| panic!("`{line}` is no budget"));
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("`{line}` has no number")))
    };
    lines.map(entry).collect()
}

/// Holds counts to their budgets; says every one that does not fit.
fn hold(counts: &[(&str, u64)]) {
    let budgets = budgets();
    let mut wrong = Vec::new();
    for (name, count) in counts {
        let budget = budgets.get(*name).unwrap_or_else(|| panic!("no budget for {name}"));
        println!("{name}: {count}, budget {budget}");
        if *count > budget + budget * TOLERANCE / 100 {
            wrong.push(format!(
                "{name}: {count} is more than {TOLERANCE} % above the budget of {budget}: what came in?"
            ));
        } else if *count < budget - budget * SLACK / 100 {
            wrong.push(format!("{name}: {count} is more than {SLACK} % below the budget of {budget}: lower it"));
        }
    }
    assert!(wrong.is_empty(), "integration/tests/counts/budgets.toml:\n{}", wrong.join("\n"));
}

/// Whether instructions are comparable: another libc or processor has others.
fn has_counted_libc(plugin: &Path) -> bool {
    let program = fs::read(plugin).unwrap();
    // musl has none.
    let mark = b"GLIBC_TUNABLES";
    cfg!(target_arch = "x86_64") && program.windows(mark.len()).any(|window| window == mark)
}

/// The plugin in a node that does nothing else.
fn node() -> Topology {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    topology
}

/// The file that a wrapped call is written to.
fn file(topology: &Topology, name: &str) -> PathBuf {
    topology.world.folder("counts").unwrap().join(name)
}

/// One ADD and its DEL, each under its wrapper.
fn add_and_del(node: &Node, add: Vec<String>, del: Vec<String>) {
    let sandbox = node.next_sandbox().unwrap();
    node.runtime.under(add).add(&sandbox).unwrap();
    node.runtime.under(del).del(&sandbox, NetnsPath::Given).unwrap();
}

/// What callgrind counted.
fn instructions(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    total.unwrap_or_else(|| panic!("callgrind counted nothing in {}", file.display())).trim().parse().unwrap()
}

#[test]
fn an_add_and_a_del_execute_no_more_instructions_than_budgeted() {
    let callgrind = |file: &Path| {
        let mut words = Tools::valgrind().unwrap();
        words.extend(["--tool=callgrind".to_owned(), "-q".to_owned()]);
        words.push(format!("--callgrind-out-file={}", file.display()));
        words
    };
    let topology = node();
    let n1 = topology.node("n1");
    let files = ["add", "del"].map(|name| file(&topology, name));
    let mut least = [u64::MAX; 2];
    for _ in 0..ROUNDS {
        add_and_del(n1, callgrind(&files[0]), callgrind(&files[1]));
        least = [0, 1].map(|kind| least[kind].min(instructions(&files[kind])));
    }
    let counts = [("add.instructions", least[0]), ("del.instructions", least[1])];
    if has_counted_libc(n1.runtime.plugin()) {
        hold(&counts);
    } else {
        println!("NOT HELD to budgets, which are of static glibc on x86_64: {counts:?}");
    }
}

/// System calls of a recording, and those of them that talk to the kernel's network.
fn calls(file: &Path) -> (u64, u64) {
    let text = fs::read_to_string(file).unwrap();
    let (mut all, mut netlink) = (0, 0);
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        let is_name = call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name || call == "execve" {
            continue;
        }
        all += 1;
        let is_message = ["sendto", "sendmsg", "recvfrom", "recvmsg"].contains(&call);
        netlink += u64::from(is_message && arguments.contains("NETLINK"));
    }
    (all, netlink)
}

#[test]
fn an_add_and_a_del_make_no_more_system_calls_than_budgeted() {
    let strace = Strace::find().unwrap();
    // With what a descriptor is, so that netlink is told from the daemon's socket.
    let recording = |file: &Path| {
        let mut words = strace.recording(file);
        words.push("-yy".to_owned());
        words
    };
    let topology = node();
    let files = ["add", "del"].map(|name| file(&topology, name));
    let mut least = [(u64::MAX, u64::MAX); 2];
    for _ in 0..ROUNDS {
        add_and_del(topology.node("n1"), recording(&files[0]), recording(&files[1]));
        for (least, file) in least.iter_mut().zip(&files) {
            let (all, netlink) = calls(file);
            *least = (least.0.min(all), least.1.min(netlink));
        }
    }
    let [(add, add_netlink), (del, del_netlink)] = least;
    hold(&[
        ("add.system-calls", add),
        ("add.netlink", add_netlink),
        ("del.system-calls", del),
        ("del.netlink", del_netlink),
    ]);
}

/// Bytes that the daemon has written so far, to whatever it was.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap_or_else(|| panic!("no wchar in {text}")).parse().unwrap()
}

/// The least that the daemon writes for one ADD and its DEL: journal, answers, log.
fn written_for_a_pod(node: &Node, pid: u32) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..PAIRS {
        let sandbox = node.next_sandbox().unwrap();
        let before = written(pid);
        node.runtime.add(&sandbox).unwrap();
        node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        least = least.min(written(pid) - before);
    }
    least
}

/// The node's pods, while their number is looked at.
const FEW: usize = 10;
const MANY: usize = 300;
/// A prefix in the journal, twice: as it was before, too.
const PREFIX_BYTES: u64 = 6 * 2_048;
/// Of so many ADDs and DELs the one counts that wrote least: a journal that has outgrown its room is written whole now and then.
const PAIRS: usize = 20;

#[test]
fn the_daemon_writes_no_more_for_a_pod_beside_300_others_than_beside_10() {
    let nodes = vec![NodeSpec::new("n1", "m5.4xlarge", Subnet::C)];
    let spec = TopologySpec { nodes, ..TopologySpec::one("m5.4xlarge") };
    let mut topology = Topology::build(&spec).unwrap();
    let variables = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "3"), ("IP_COOLDOWN_PERIOD", "1")];
    topology.start(&variables).unwrap();
    let pid = topology.node_mut("n1").daemon().unwrap().pid();
    let n1 = topology.node("n1");
    let started = AtomicUsize::new(0);
    let mut living = pods::start(n1, FEW, 2, &started).unwrap();
    let few = written_for_a_pod(n1, pid);
    living.extend(pods::start(n1, MANY - FEW, 4, &started).unwrap());
    let many = written_for_a_pod(n1, pid);
    println!("{few} bytes beside {FEW} pods, {many} beside {MANY}");
    // Of a prefix, all of its addresses that have been used are written.
    assert!(many <= few + PREFIX_BYTES, "{few} bytes beside {FEW} pods, {many} beside {MANY}");
    pods::end(n1, living, 4).unwrap();
}
