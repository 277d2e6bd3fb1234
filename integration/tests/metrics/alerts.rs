// SPDX-License-Identifier: Apache-2.0
//! Each alert rule lived with its fault: scraped and evaluated each second it fires before a pod has waited for a minute (that the daemon is
//! gone just after one), and no alert fires before the fault.
//!
//! | alert | fault |
//! |---|---|
//! | EnidNoAddress, EnidEc2Denied | the role may not make ENIs, and more pods come than there are addresses |
//! | EnidSubnetNearlyExhausted | somebody takes the rest of the subnet |
//! | EnidEc2Throttled | EC2 throws out every call |
//! | EnidEc2Unavailable | EC2 does not answer |
//! | EnidImdsUnavailable, EnidNotServing | a new node whose instance metadata answer with 503 |
//! | EnidEniStuck | an attached ENI's link does not come |
//! | EnidRepairContested | a program that deletes a rule ten times a second |
//! | EnidJournalNotDurable | the state folder's disk is full |
//! | EnidDown | a daemon that is stopped; Prometheus loses the target |
//! | EnidLoopStuck | a write to the journal that takes a minute |
//! | EnidMaxPodsTooHigh | kubelet takes 110 pods on an m5.large |
//! | EnidConntrackFilling | invented: the table's size is the whole machine's, and may not be changed by a test |
//! | EnidAllowanceExceeded | invented: there is no ENA driver in a namespace |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use integration::eventually::{RaisedOnDrop, pass};
use integration::kube_http::KubeApi;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::store::Key;
use integration::node::Node;
use integration::pods;
use integration::process::{Program, Running};
use integration::sandbox::NetnsPath;
use integration::strace::Strace;
use integration::topology::{Latency, READY, Topology, TopologySpec};
use serde_json::json;
use vpc_model::{Delivery, Fault, ImdsFault};

use crate::promtool::promtool;
use crate::record::{Record, WITHIN, alerts, rules};

/// Seconds of a well node before each fault.
const WELL: usize = 8;

fn build() -> Topology {
    Topology::build(&TopologySpec::one("m5.large")).unwrap()
}

/// A node that is well, and has been recorded as such.
fn well(topology: &mut Topology, settings: &[(&str, &str)]) -> Record {
    topology.start(settings).unwrap();
    let n1 = topology.node("n1");
    n1.wait_answers(READY).unwrap();
    // What a start does is not what is looked at.
    pass(Duration::from_secs(3));
    let mut record = Record::default();
    record.take(n1, WELL);
    record.fault_begins();
    record
}

/// Pods come one after the other, as kubelet starts them: what is refused is tried again with a new sandbox. Until the flag is raised.
fn pods_come(node: &Node, count: usize, done: &AtomicBool) {
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) && started.load(Ordering::Relaxed) < count {
                    let sandbox = node.next_sandbox().unwrap();
                    if node.runtime.add(&sandbox).is_ok() {
                        started.fetch_add(1, Ordering::Relaxed);
                        // It runs on until the world ends.
                        std::mem::forget(sandbox);
                    } else {
                        node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
                        pass(Duration::from_millis(500));
                    }
                }
            });
        }
    });
}

/// Records the fault for so long while more pods come than the node has addresses for.
fn with_pods(topology: &Topology, record: &mut Record, seconds: usize) {
    let n1 = topology.node("n1");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = RaisedOnDrop(&done);
        scope.spawn(|| pods_come(n1, 24, &done));
        record.take(n1, seconds);
    });
}

fn order(topology: &Topology, fault: Fault) {
    topology.emulator.with_model(|vpc, _| vpc.order_fault(fault));
}

#[test]
fn the_rules_are_valid_and_each_has_its_test() {
    let (content, said) = promtool(&["check", "rules", &rules().to_string_lossy()], "");
    assert!(content && said.contains("SUCCESS"), "{said}");
    let body = include_str!("alerts.rs").lines().skip_while(|line| line.starts_with("//")).collect::<String>();
    let untested: Vec<String> = alerts().into_iter().filter(|alert| !body.contains(&format!("\"{alert}\""))).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn on_a_well_node_whose_pods_come_and_go_no_alert_fires() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "4"), ("IP_COOLDOWN_PERIOD", "2")]);
    let n1 = topology.node("n1");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = RaisedOnDrop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                pods::end(n1, pods::start(n1, 14, 4, &AtomicUsize::new(0)).unwrap(), 4).unwrap();
            }
        });
        record.take(n1, 40);
    });
    for after in [0, 10, 20, 30, 40, WITHIN] {
        record.fires(after, &[]);
    }
}

#[test]
fn pods_without_addresses_and_a_role_without_rights() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "1")]);
    order(&topology, Fault::always("CreateNetworkInterface", "UnauthorizedOperation"));
    with_pods(&topology, &mut record, 30);
    record.was_quiet();
    record.fires(WITHIN, &["EnidEc2Denied", "EnidNoAddress"]);
}

#[test]
fn a_subnet_without_addresses() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "1")]);
    topology.emulator.exhaust(&topology.emulator.subnet_id("a"));
    with_pods(&topology, &mut record, 30);
    record.was_quiet();
    record.fires(WITHIN, &["EnidNoAddress", "EnidSubnetNearlyExhausted"]);
}

#[test]
fn an_ec2_that_throws_every_call_out() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "1")]);
    order(&topology, Fault::always("*", "RequestLimitExceeded"));
    with_pods(&topology, &mut record, 45);
    record.was_quiet();
    record.fires(WITHIN, &["EnidEc2Throttled", "EnidNoAddress"]);
}

#[test]
fn an_ec2_that_does_not_answer() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "1")]);
    order(&topology, Fault { delivery: Delivery::Hang, ..Fault::always("*", "InternalError") });
    with_pods(&topology, &mut record, 50);
    record.was_quiet();
    record.fires(WITHIN, &["EnidEc2Unavailable", "EnidNoAddress"]);
}

#[test]
fn instance_metadata_that_do_not_answer() {
    let mut topology = build();
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 503, count: None };
    topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
    topology.node_mut("n1").start().unwrap();
    let n1 = topology.node("n1");
    n1.wait_answers(READY).unwrap();
    let mut record = Record::default();
    record.take(n1, 50);
    record.fires(WITHIN, &["EnidImdsUnavailable", "EnidNotServing"]);
}

#[test]
fn an_eni_that_does_not_come() {
    let attach = Duration::from_secs(300);
    let latency = Latency { attach, ..Latency::default() };
    let mut topology = Topology::build(&TopologySpec { latency, ..TopologySpec::one("m5.large") }).unwrap();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "1"), ("MAX_ENI", "2")]);
    let n1 = topology.node("n1");
    // One more than the primary ENI has, so that another is attached; this one's ADD is not waited for.
    let pods = pods::start(n1, 9, 3, &AtomicUsize::new(0)).unwrap();
    record.take(n1, 40);
    record.was_quiet();
    record.fires(WITHIN, &["EnidEniStuck"]);
    drop(pods);
}

#[test]
fn somebody_who_changes_the_network_again_and_again() {
    let mut topology = build();
    let mut record = well(&mut topology, &[("WARM_IP_TARGET", "2"), ("MINIMUM_IP_TARGET", "16")]);
    let n1 = topology.node("n1");
    // On both ENIs, so that there is the rule; young pods are not looked at.
    let pods = pods::start(n1, 12, 6, &AtomicUsize::new(0)).unwrap();
    record.take(n1, 4);
    record.fault_begins();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = RaisedOnDrop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Gone already is fine.
                let _ = n1.ip("rule del priority 1536\n");
                pass(Duration::from_millis(100));
            }
        });
        record.take(n1, 40);
    });
    record.was_quiet();
    record.fires(WITHIN, &["EnidRepairContested"]);
    drop(pods);
}

#[test]
fn a_journal_on_a_full_disk() {
    let mut topology = build();
    let state = topology.node("n1").state_folder();
    topology.world.small_disk(&state, 1 << 20).unwrap();
    let mut record = well(&mut topology, &[]);
    assert!(std::fs::write(state.join("filler"), vec![0; 1 << 20]).is_err(), "the disk is full now");
    with_pods(&topology, &mut record, 20);
    record.was_quiet();
    record.fires(WITHIN, &["EnidJournalNotDurable", "EnidNoAddress"]);
}

/// Calls of the daemon's loop that look like `call` take so long, until the result is dropped.
fn stall(topology: &mut Topology, call: &str, time: Duration) -> Running {
    let log = topology.world.folder("strace").unwrap().join("log");
    let n1 = topology.node_mut("n1");
    // The loop is on the first thread.
    let thread = n1.daemon().unwrap().pid();
    let words = Strace::find().unwrap().stalling(thread, call, time);
    let (path, arguments) = (PathBuf::from(&words[0]), words[1..].to_vec());
    let program = Program { path, arguments, environment: BTreeMap::new(), log };
    let running = Running::start(&n1.netns, &program).unwrap();
    pass(Duration::from_secs(1));
    running
}

/// `/metrics` goes on, and says so.
#[test]
fn a_loop_that_waits_for_a_disk() {
    let mut topology = build();
    let mut record = well(&mut topology, &[]);
    let stalled = stall(&mut topology, "/^rename", Duration::from_secs(50));
    let n1 = topology.node("n1");
    let sandbox = n1.next_sandbox().unwrap();
    std::thread::scope(|scope| {
        // Its journal entry is what the loop waits for; the plugin gives up after its budget.
        scope.spawn(|| n1.runtime.add(&sandbox).map(drop));
        record.take(n1, 38);
    });
    assert_eq!(record.last("ipamd_snapshot_answered"), Some(0.0));
    assert!(record.last("ipamd_loop_age_seconds").is_some_and(|age| age > 15.0));
    assert_eq!(record.last("ipamd_add_waiting"), None, "what comes from the state is missing");
    record.was_quiet();
    record.fires(38, &["EnidLoopStuck"]);
    drop(stalled);
}

/// A restart takes less than the minute. It fires for as long as the daemon is gone, and also where its target went with it.
#[test]
fn a_daemon_that_is_gone() {
    let mut topology = build();
    let mut record = well(&mut topology, &[]);
    assert!(topology.node_mut("n1").stop());
    record.take(topology.node("n1"), 5);
    record.was_quiet();
    record.fires(50, &[]);
    record.fires(WITHIN + 5, &["EnidDown"]);
    record.fires(40 * 60, &["EnidDown"]);
    record.forget();
    record.fires(50, &[]);
    record.fires(WITHIN + 5, &["EnidDown"]);
    record.fires(20 * 60, &[]);
}

#[test]
fn a_kubelet_that_takes_more_pods_than_can_have_addresses() {
    let mut topology = build();
    let api = KubeApi::default();
    topology.introduce(&api).unwrap();
    let capacity = json!({ "status": { "capacity": { "pods": "110" } } });
    api.patch(&Key::node("n1"), Part::Status, &Patch::merge(capacity)).unwrap();
    topology.serve_api(&api).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    n1.wait_answers(READY).unwrap();
    let mut record = Record::default();
    record.take(n1, 20);
    record.fires(WITHIN, &["EnidMaxPodsTooHigh"]);
}

/// The real figures of a well node, and a table that fills in a minute; and counters as ENA's driver has them.
#[test]
fn a_full_table_of_connections_and_packets_over_an_allowance_as_they_would_be_told() {
    let mut topology = build();
    let mut record = well(&mut topology, &[]);
    let n1 = topology.node("n1");
    // The table is first read when the host thread wakes.
    record.take(n1, 30);
    let most = record.last("ipamd_conntrack_entries_max").expect("the kernel's table of connections");
    record.invent("ipamd_conntrack_entries", (0..).map(|second| (most * 0.03 * f64::from(second)).min(most)));
    record.fires(20, &[]);
    record.fires(29, &["EnidConntrackFilling"]);
    let enis: BTreeSet<String> = topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect();
    let eni = enis.first().unwrap();
    let series = format!("ipamd_eni_allowance_exceeded_total{{eni_id=\"{eni}\",allowance=\"linklocal\"}}");
    record.invent(&series, (0..).map(|second| if second < 25 { 4711.0 } else { 4712.0 }));
    record.fires(24, &[]);
    record.fires(29, &["EnidAllowanceExceeded", "EnidConntrackFilling"]);
}

/// Packets that are queued now and then are no fault, and neither is a subnet that nobody has counted for hours.
#[test]
fn packets_that_are_queued_for_long_and_a_subnet_that_was_counted_lately_as_they_would_be_told() {
    let mut topology = build();
    let mut record = well(&mut topology, &[]);
    record.take(topology.node("n1"), 2);
    record.hold(1500);
    let exceeded =
        |allowance: &str| format!("ipamd_eni_allowance_exceeded_total{{eni_id=\"eni-1\",allowance=\"{allowance}\"}}");
    record.invent(&exceeded("pps"), (0..).map(|second| if second < 100 { 7.0 } else { 50_007.0 }));
    record.invent(&exceeded("bw_in"), (0..).map(|second: u32| f64::from(second.saturating_sub(500)) * 10.0));
    for quiet in [110, 399, 410, 700, 890] {
        record.fires(quiet, &[]);
    }
    record.fires(920, &["EnidAllowanceExceeded"]);

    let subnet = topology.emulator.subnet_id("a");
    let of_subnet = |family: &str| format!("{family}{{subnet_id=\"{subnet}\"}}");
    let (free, age) = (of_subnet("ipamd_subnet_free_addresses"), of_subnet("ipamd_subnet_read_age_seconds"));
    assert!(record.last(&free).is_some_and(|free| free > 16.0) && record.last(&age).is_some());
    record.invent(&free, std::iter::repeat(15.0));
    record.invent(&age, (0..).map(|second| if second < 400 { 1_800.0 } else { f64::from(second) - 400.0 }));
    record.fires(399, &[]);
    record.fires(430, &["EnidSubnetNearlyExhausted"]);
}
