// SPDX-License-Identifier: Apache-2.0
//! kill -9 of plugin and daemon between their system calls, and what a runtime does afterwards.
//!
//! First an undisturbed run is written down; then for each place to cut (`integration::strace`) the same is done again and cut
//! off there. What runtimes do then: after an ADD that failed, DEL, and a new sandbox; a DEL that failed is repeated, at last
//! without the namespace; the daemon is started again.
//!
//! After each cut: journal, rules, routes, neighbours and tombstones hold what pods that live need and nothing else; DEL succeeds
//! and succeeds again; the next ADD works and gets no address that someone has or had a moment ago. At the end: no link is left,
//! and the pods that lived through it all are still reached.
//!
//! `make test` cuts at every call that could change something outside the process, at a start's every other, at ten of a first
//! start's; `make kill` (ENID_KILL=all) at every single call, and at a hundred of a first start's.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed; reads the clock and the state folder; prints what was cut"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use integration::eventually::{eventually, pass};
use integration::node::{Leftovers, Node, STATE_FILES};
use integration::pods::{self, Pod};
use integration::sandbox::{Added, NetnsPath, Sandbox};
use integration::strace::{Cut, Recording, Scope, Strace};
use integration::topology::{Latency, NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::Value;
use vpc_model::{InstanceId, InstanceState, Vpc};

/// Short, so that a small node lives through hundreds of pods; long enough to be noticed when it is not kept.
const COOLDOWN: Duration = Duration::from_secs(1);
/// Pods that live through everything.
const WITNESSES: usize = 3;
/// Far longer than a start takes under strace.
const START: Duration = Duration::from_secs(10);

/// Whether every single call is cut at.
fn thorough() -> bool {
    std::env::var_os("ENID_KILL").is_some_and(|value| value == "all")
}

fn scope() -> Scope {
    if thorough() { Scope::All } else { Scope::Outward }
}

/// A node with some pods, and what is known of the addresses of others.
struct Bench {
    topology: Topology,
    strace: Strace,
    witnesses: Vec<Pod>,
    /// What the kernel has for the witnesses.
    base: Leftovers,
    /// Since when an address may have been free, by the last DEL's begin.
    released: Mutex<BTreeMap<Ipv4Addr, Instant>>,
}

impl Bench {
    fn new() -> Self {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        let variables = [("IP_COOLDOWN_PERIOD", "1"), ("AWS_VPC_K8S_CNI_LOGLEVEL", "info")];
        topology.start(&variables).unwrap();
        let n1 = topology.node("n1");
        let witnesses = pods::start(n1, WITNESSES, 1, &AtomicUsize::new(0)).unwrap();
        let base = n1.leftovers().unwrap().of_pods();
        let strace = Strace::find().unwrap();
        Self { topology, strace, witnesses, base, released: Mutex::default() }
    }

    fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.topology.world.folder("recordings").unwrap().join(name)
    }

    /// An address was given to a pod: nobody has it, and it has rested.
    fn check_given(&self, added: &Added, cut: &Cut) {
        let address = added.address;
        assert!(self.witnesses.iter().all(|pod| pod.added.address != address), "{cut}: {address} was given twice");
        if let Some(since) = self.released.lock().unwrap().get(&address) {
            assert!(since.elapsed() >= COOLDOWN, "{cut}: {address} rested {:?} only", since.elapsed());
        }
    }

    /// The container ids in the journal, with their addresses.
    fn journal(&self) -> BTreeMap<String, Ipv4Addr> {
        let journal = fs::read(self.n1().state_folder().join("ipam.json")).unwrap();
        let journal: Value = serde_json::from_slice(&journal).unwrap();
        let entries = journal["allocations"].as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        entries.iter().map(|entry| (text(entry, "containerID"), text(entry, "ipv4").parse().unwrap())).collect()
    }

    fn del(&self, sandbox: &Sandbox, netns: NetnsPath, cut: &Cut) {
        if let Some(address) = self.journal().get(&sandbox.container_id) {
            self.released.lock().unwrap().insert(*address, Instant::now());
        }
        self.n1().runtime.del(sandbox, netns).unwrap_or_else(|error| panic!("{cut}: {error}"));
    }

    /// A pod comes, is reached, and goes.
    fn next_pod_works(&self, cut: &Cut) {
        let sandbox = self.n1().next_sandbox().unwrap();
        let added = self.n1().runtime.add(&sandbox).unwrap_or_else(|error| panic!("{cut}: the next ADD: {error}"));
        self.check_given(&added, cut);
        self.del(&sandbox, NetnsPath::Given, cut);
        self.del(&sandbox, NetnsPath::Empty, cut);
    }

    /// Only the witnesses have anything; links of dead sandboxes end with these.
    fn check_clean(&self, cut: &Cut) {
        let left = self.n1().leftovers().unwrap().of_pods();
        assert_eq!(left.rules, self.base.rules, "{cut}");
        assert_eq!(left.routes, self.base.routes, "{cut}");
        assert_eq!(left.neighbours, self.base.neighbours, "{cut}");
        let ids: BTreeSet<String> = self.witnesses.iter().map(|pod| pod.sandbox.container_id.clone()).collect();
        assert_eq!(self.journal().into_keys().collect::<BTreeSet<_>>(), ids, "{cut}: the journal");
        assert_eq!(self.tombstones(), Vec::<String>::new(), "{cut}: tombstones");
    }

    fn tombstones(&self) -> Vec<String> {
        names(&self.n1().state_folder().join("tombstones")).into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// Nothing of all the pods that came and went is left; those that stayed are reached.
    fn check_end(&self) {
        let folder = self.n1().state_folder().join("tombstones");
        for name in names(&folder) {
            // What killed plugins left half written is taken for that once it is old.
            let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
        }
        // What a killed plugin left half written goes with the daemon's own look at the folder, once a minute.
        let clean = eventually("nothing is left", Duration::from_secs(75), || {
            let left = self.n1().leftovers().map_err(|error| error.to_string())?.of_pods();
            let allocated = self.n1().number("/pool/allocated").map_err(|error| error.to_string())?;
            let tombstones = names(&folder);
            // No pod here has host ports: a file would be opened again by the daemon.
            let ports = names(&self.n1().state_folder().join("hostports"));
            if left == self.base && allocated == WITNESSES as u64 && tombstones.is_empty() && ports.is_empty() {
                return Ok(());
            }
            Err(format!("{left}; {allocated} allocated; tombstones {tombstones:?}; host ports {ports:?}"))
        });
        clean.unwrap();
        let mut others = names(&self.n1().state_folder());
        others.retain(|name| !STATE_FILES.contains(&name.as_str()));
        assert_eq!(others, Vec::<String>::new(), "in the state folder");
        for pod in &self.witnesses {
            pod.reached_from(&self.n1().netns).unwrap();
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// How many cuts were met, by name.
#[derive(Default)]
struct Report {
    met: BTreeMap<String, u32>,
    missed: Vec<String>,
}

impl Report {
    fn note(&mut self, cut: &Cut, met: bool) {
        if met {
            *self.met.entry(cut.call.clone()).or_default() += 1;
        } else {
            self.missed.push(format!("{} {}", cut.call, cut.nth));
        }
    }

    fn print(&self, what: &str, recording: &Recording, started: Instant) {
        let (calls, outward, hidden) = recording.counts();
        let met: u32 = self.met.values().sum();
        println!(
            "{what}: {calls} system calls, {outward} of them reach out ({hidden} hidden by another thread's); killed before {met} \
             in {:.1?}, {} not met {:?}\n  {:?}",
            started.elapsed(),
            self.missed.len(),
            self.missed,
            self.met
        );
        assert!(met > 0 && self.missed.len() * 4 <= met as usize, "the recording does not foretell the run");
    }
}

/// What follows a killed ADD.
#[derive(Clone, Copy)]
enum After {
    /// What every runtime does.
    Del,
    /// The same sandbox once more (`podman network reload`).
    Add,
}

#[test]
fn an_add_killed_at_any_call_leaves_nothing_after_its_del_and_can_be_repeated() {
    let bench = Bench::new();
    let file = bench.file("add");
    let sandbox = bench.n1().next_sandbox().unwrap();
    bench.n1().runtime.under(bench.strace.recording(&file)).add(&sandbox).unwrap();
    let none = Cut { call: "nothing".to_owned(), nth: 0 };
    bench.del(&sandbox, NetnsPath::Given, &none);
    drop(sandbox);
    let recording = Recording::read(&file).unwrap();
    let (mut report, started) = (Report::default(), Instant::now());
    for cut in recording.cuts(scope()) {
        for after in [After::Del, After::Add] {
            let sandbox = bench.n1().next_sandbox().unwrap();
            let killed = bench.n1().runtime.under(bench.strace.cutting(&cut)).add(&sandbox);
            report.note(&cut, killed.is_err());
            let first = bench.journal().get(&sandbox.container_id).copied();
            if let After::Add = after {
                let added = bench.n1().runtime.add(&sandbox).unwrap_or_else(|error| panic!("{cut}: again: {error}"));
                assert!(first.is_none_or(|first| first == added.address), "{cut}: {first:?}, then {}", added.address);
                let pod = Pod { sandbox, added };
                pod.reached_from(&bench.n1().netns).unwrap_or_else(|error| panic!("{cut}: {error}"));
                bench.del(&pod.sandbox, NetnsPath::Given, &cut);
                bench.del(&pod.sandbox, NetnsPath::Empty, &cut);
            } else {
                bench.del(&sandbox, NetnsPath::Given, &cut);
                bench.del(&sandbox, NetnsPath::Empty, &cut);
            }
            bench.check_clean(&cut);
        }
        bench.next_pod_works(&cut);
    }
    bench.check_end();
    report.print("ADD", &recording, started);
}

#[test]
fn a_del_killed_at_any_call_is_repeated_and_leaves_nothing() {
    let bench = Bench::new();
    let file = bench.file("del");
    let sandbox = bench.n1().next_sandbox().unwrap();
    bench.n1().runtime.add(&sandbox).unwrap();
    bench.n1().runtime.under(bench.strace.recording(&file)).del(&sandbox, NetnsPath::Given).unwrap();
    drop(sandbox);
    let recording = Recording::read(&file).unwrap();
    let (mut report, started) = (Report::default(), Instant::now());
    for cut in recording.cuts(scope()) {
        for repeated in [&[NetnsPath::Given, NetnsPath::Empty][..], &[NetnsPath::Empty]] {
            let sandbox = bench.n1().next_sandbox().unwrap();
            let added = bench.n1().runtime.add(&sandbox).unwrap();
            bench.check_given(&added, &cut);
            bench.released.lock().unwrap().insert(added.address, Instant::now());
            let killed = bench.n1().runtime.under(bench.strace.cutting(&cut)).del(&sandbox, NetnsPath::Given);
            report.note(&cut, killed.is_err());
            repeated.iter().for_each(|netns| bench.del(&sandbox, *netns, &cut));
            bench.check_clean(&cut);
        }
        bench.next_pod_works(&cut);
    }
    bench.check_end();
    report.print("DEL", &recording, started);
}

#[test]
fn a_del_without_a_daemon_killed_at_any_call_is_carried_out_in_the_end() {
    let mut bench = Bench::new();
    let file = bench.file("del-alone");
    let sandbox = bench.n1().next_sandbox().unwrap();
    bench.n1().runtime.add(&sandbox).unwrap();
    bench.topology.node_mut("n1").kill();
    bench.n1().runtime.under(bench.strace.recording(&file)).del(&sandbox, NetnsPath::Given).unwrap();
    drop(sandbox);
    let recording = Recording::read(&file).unwrap();
    // It connects ahead of its work, then tries again and again, and that is nothing new.
    let mut cuts = recording.cuts(Scope::Outward);
    cuts.retain(|cut| cut.call != "connect" || cut.nth <= 2);
    let (report, started) = (Mutex::new(Report::default()), Instant::now());
    // No more at one time than the node has addresses for.
    for cuts in cuts.chunks(16) {
        start_again(&mut bench);
        let pods = pods::start(bench.n1(), cuts.len(), 4, &AtomicUsize::new(0)).unwrap();
        bench.topology.node_mut("n1").kill();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(cut), Some(pod)) = (cuts.get(at), pods.get(at)) else { return };
                        let runtime = bench.n1().runtime.under(bench.strace.cutting(cut));
                        let killed = runtime.del(&pod.sandbox, NetnsPath::Given);
                        report.lock().unwrap().note(cut, killed.is_err());
                        // Some runtimes repeat it at once, some when they have the time.
                        if at.is_multiple_of(2) {
                            bench.n1().runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
                        }
                    }
                });
            }
        });
        start_again(&mut bench);
        for (pod, cut) in pods.iter().zip(cuts) {
            bench.del(&pod.sandbox, NetnsPath::Given, cut);
            bench.del(&pod.sandbox, NetnsPath::Empty, cut);
        }
        drop(pods);
        for cut in cuts.iter().take(1) {
            bench.check_clean(cut);
            bench.next_pod_works(cut);
        }
        pass(COOLDOWN);
    }
    bench.check_end();
    report.into_inner().unwrap().print("DEL without a daemon", &recording, started);
}

fn start_again(bench: &mut Bench) {
    let n1 = bench.topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
}

/// Starts the daemon to be killed at `cut`; whether it was met before the start was over.
fn start_killed(node: &mut Node, strace: &Strace, cut: &Cut) -> bool {
    node.start_under(&strace.cutting(cut)).unwrap();
    let end = Instant::now() + START;
    let ready = loop {
        let ended = node.daemon().is_none_or(|daemon| daemon.has_ended());
        if ended || Instant::now() > end {
            break ended;
        }
        if node.runtime.status().is_ok() {
            // What it does right after that belongs to it, too.
            pass(Duration::from_millis(300));
            break node.daemon().is_none_or(|daemon| daemon.has_ended());
        }
        pass(Duration::from_millis(10));
    };
    node.kill();
    ready
}

/// Writes down an undisturbed start, up to shortly after it is ready.
fn record_start(node: &mut Node, strace: &Strace, file: &Path) -> Recording {
    node.start_under(&strace.recording(file)).unwrap();
    node.wait_ready(READY).unwrap();
    pass(Duration::from_millis(200));
    node.kill();
    pass(Duration::from_millis(50));
    Recording::read(file).unwrap()
}

/// A DEL that got as far as its tombstone while the daemon was away: it connects ahead of its work on the kernel, and again after it.
fn del_without_daemon(bench: &Bench, sandbox: &Sandbox) {
    let connect = Cut { call: "connect".to_owned(), nth: 2 };
    assert!(bench.n1().runtime.under(bench.strace.cutting(&connect)).del(sandbox, NetnsPath::Given).is_err());
    let folder = bench.n1().state_folder().join("tombstones");
    fs::create_dir_all(&folder).unwrap();
    let tombstone = serde_json::json!({
        "network": "aws-cni", "containerID": sandbox.container_id, "ifName": "eth0", "at": 1,
    });
    fs::write(folder.join("del.json"), tombstone.to_string()).unwrap();
}

#[test]
fn a_daemon_killed_at_any_call_of_its_start_loses_no_pod_and_the_next_start_finishes_the_work() {
    let mut bench = Bench::new();
    let file = bench.file("start");
    bench.topology.node_mut("n1").kill();
    let strace = bench.strace.clone();
    let recording = record_start(bench.topology.node_mut("n1"), &strace, &file);
    let every = if thorough() { 1 } else { 2 };
    let (mut report, started) = (Report::default(), Instant::now());
    start_again(&mut bench);
    for cut in recording.cuts(scope()).iter().step_by(every) {
        let sandbox = bench.n1().next_sandbox().unwrap();
        let added = bench.n1().runtime.add(&sandbox).unwrap();
        bench.check_given(&added, cut);
        bench.topology.node_mut("n1").kill();
        bench.released.lock().unwrap().insert(added.address, Instant::now());
        del_without_daemon(&bench, &sandbox);
        let met = start_killed(bench.topology.node_mut("n1"), &strace, cut);
        report.note(cut, met);
        start_again(&mut bench);
        let worked_off = eventually("the tombstone is worked off", Duration::from_secs(10), || {
            let left = bench.tombstones();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        worked_off.unwrap_or_else(|error| panic!("{cut}: {error}"));
        bench.check_clean(cut);
        bench.del(&sandbox, NetnsPath::Empty, cut);
        bench.next_pod_works(cut);
    }
    bench.check_end();
    report.print("start with pods and a tombstone", &recording, started);
}

/// Every cut on a node of its own, which has nothing: the first start sets the host up, fills the primary ENI and makes another.
#[test]
fn a_daemon_killed_at_any_call_of_its_first_start_leaves_no_eni_behind() {
    let cuts_wanted = if thorough() { 100 } else { 10 };
    let ms = Duration::from_millis;
    let mut spec =
        TopologySpec { nodes: Vec::new(), latency: Latency { call: ms(20), attach: ms(100), detach: ms(50) } };
    let subnet = |number: usize| if number.is_multiple_of(3) { Subnet::A } else { Subnet::B };
    spec.nodes.extend((0..=cuts_wanted).map(|number| NodeSpec::new(&format!("k{number}"), "m5.large", subnet(number))));
    let mut topology = Topology::build(&spec).unwrap();
    let strace = Strace::find().unwrap();
    let file = topology.world.folder("recordings").unwrap().join("first-start");
    let mut nodes = std::mem::take(&mut topology.nodes).into_iter();
    let mut first = nodes.next().unwrap();
    first.set("WARM_ENI_TARGET", "2");
    first.start_under(&strace.recording(&file)).unwrap();
    first.wait_ready(READY).unwrap();
    settled(&topology, &first, 2);
    first.kill();
    pass(ms(50));
    let recording = Recording::read(&file).unwrap();
    let cuts = recording.cuts(Scope::Outward);
    let (mut report, started) = (Report::default(), Instant::now());
    for (number, mut node) in nodes.enumerate() {
        let cut = &cuts[number * cuts.len() / cuts_wanted];
        node.set("WARM_ENI_TARGET", "2");
        report.note(cut, start_killed(&mut node, &strace, cut));
        node.start().unwrap();
        node.wait_ready(READY).unwrap_or_else(|error| panic!("{cut}: {error}"));
        let sandbox = node.next_sandbox().unwrap();
        node.runtime.add(&sandbox).unwrap_or_else(|error| panic!("{cut}: {error}"));
        // One pod, and so not two whole ENIs free any more.
        settled(&topology, &node, 3);
        node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        node.kill();
        terminate(&topology, &node);
    }
    report.print("first start", &recording, started);
}

/// The instance goes, and its ENIs with it: the subnets hold no more than a dozen nodes at one time.
fn terminate(topology: &Topology, node: &Node) {
    let id = InstanceId(topology.instance(&node.name).unwrap().id);
    let terminated = |vpc: &mut Vpc, now| vpc.set_instance_state(&id, InstanceState::Terminated, now);
    topology.emulator.with_model(terminated).unwrap();
    let gone = eventually("its ENIs are gone", Duration::from_secs(5), || {
        let left = topology.emulator.with_model(|vpc, _| vpc.enis().filter(|eni| eni.attachment().is_none()).count());
        if left == 0 { Ok(()) } else { Err(format!("{left} ENIs unattached")) }
    });
    gone.unwrap_or_else(|error| panic!("{}: {error}", node.name));
}

/// The node has its primary ENI and warm ones, all full, the daemon knows it, all go with the instance, and
/// none lies about.
fn settled(topology: &Topology, node: &Node, enis_wanted: usize) {
    let settled = eventually("full ENIs and no other", Duration::from_secs(20), || {
        let enis = topology.enis(&node.name).map_err(|error| error.to_string())?;
        let held: Vec<usize> = enis.iter().map(|eni| eni.secondary.len()).collect();
        let total = node.number("/pool/total").map_err(|error| error.to_string())?;
        let unattached = topology.unattached_enis();
        let stays = |vpc: &mut Vpc, _| {
            vpc.enis().filter(|eni| eni.attachment().is_some_and(|at| !at.delete_on_termination)).count()
        };
        let staying = topology.emulator.with_model(stays);
        if staying > 0 {
            return Err(format!("{staying} ENIs would outlive the instance"));
        }
        let full = held.len() == enis_wanted && held.iter().all(|held| *held == 9);
        if full && total == 9 * held.len() as u64 && unattached == 0 {
            return Ok(());
        }
        Err(format!("ENIs with {held:?} addresses, {total} known, {unattached} ENIs unattached"))
    });
    settled.unwrap_or_else(|error| panic!("{}: {error}", node.name));
}
