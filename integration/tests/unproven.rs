// SPDX-License-Identifier: Apache-2.0
//! ENIs whose link comes late, or whose setting up fails in the kernel: no pod gets an address of one before it works.
//!
//! That an ENI works is shown by packets from another node, right after the ADD: the fabric carries them by the pod's ENI.
//! Kernel calls fail by strace's injection into the daemon's one thread that makes them; nothing in the daemon knows of it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads /proc and the clock"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::process::{Program, Running};
use integration::sandbox::NetnsPath;
use integration::strace::Strace;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use vpc_model::{AttachFault, AttachFaultKind};

/// Pods that the primary ENI of an m5.large has addresses for.
const PRIMARY: usize = 9;

fn two_nodes(instance_type: &str) -> Topology {
    let mut spec = TopologySpec::one(instance_type);
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    Topology::build(&spec).unwrap()
}

/// Starts the daemon of n1 alone: n2 is only where packets come from.
fn start(topology: &mut Topology, environment: &[(&str, &str)]) {
    let n1 = topology.node_mut("n1");
    environment.iter().for_each(|(variable, value)| n1.set(variable, value));
    n1.start().unwrap();
    n1.wait_ready(Duration::from_secs(20)).unwrap();
}

/// One pod more, reached from the other node as soon as its ADD is answered; `None`: refused, with a code to retry.
fn pod_that_works(topology: &Topology) -> Option<Pod> {
    let (n1, n2) = (topology.node("n1"), topology.node("n2"));
    let sandbox = n1.next_sandbox().unwrap();
    match n1.runtime.add(&sandbox) {
        Ok(added) => {
            let pod = Pod { sandbox, added };
            let reached = pod.reached_from(&n2.netns);
            reached.unwrap_or_else(|error| panic!("{} was given and does not work: {error}", pod.added.address));
            Some(pod)
        }
        Err(error) => {
            assert!(error.refusal().is_some_and(|refused| refused.code == 11), "{error}");
            n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
            None
        }
    }
}

#[test]
fn links_that_come_at_once_after_twelve_and_after_thirty_seconds_serve_when_they_are_there_and_no_pod_before() {
    let mut topology = two_nodes("m5.xlarge");
    for late in [0, 12_000, 30_000] {
        let fault = AttachFault { instance: None, count: Some(1), kind: AttachFaultKind::LateLink(late) };
        topology.emulator.with_model(|vpc, _| vpc.order_attach_fault(fault));
    }
    start(&mut topology, &[("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "56")]);
    let began = Instant::now();
    let mut pods = Vec::new();
    let mut first_of = BTreeMap::new();
    // 4 ENIs of 14 addresses: the last one's come half a minute later.
    while pods.len() < 56 {
        assert!(began.elapsed() < Duration::from_secs(90), "{} pods only", pods.len());
        if let Some(pod) = pod_that_works(&topology) {
            first_of.entry(pod.added.table).or_insert_with(|| began.elapsed());
            pods.push(pod);
        }
    }
    let waited: Vec<Duration> = first_of.values().copied().collect();
    assert_eq!(waited.len(), 4, "{first_of:?}");
    assert!(waited.iter().any(|waited| *waited > Duration::from_secs(25)), "no link was late: {first_of:?}");
}

/// The thread that makes the daemon's kernel calls.
fn kernel_thread(node: &mut Node) -> u32 {
    let pid = node.daemon().unwrap().pid();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let named = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "host");
    let thread = threads.into_iter().find(named).expect("a thread called host");
    thread.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// From now on the daemon's messages to the kernel fail, as `when` says; until the result is dropped.
fn fail_kernel_calls(topology: &mut Topology, when: &str) -> Running {
    let log = topology.world.folder("strace").unwrap().join("log");
    let n1 = topology.node_mut("n1");
    let thread = kernel_thread(n1);
    let words = Strace::find().unwrap().failing(thread, "sendto", ("ENOBUFS", when));
    let (path, arguments) = (PathBuf::from(&words[0]), words[1..].to_vec());
    let program = Program { path, arguments, environment: BTreeMap::new(), log };
    let running = Running::start(&n1.netns, &program).unwrap();
    let status = format!("/proc/{}/task/{thread}/status", n1.daemon().unwrap().pid());
    let traced = eventually("strace is attached", Duration::from_secs(5), || {
        let status = fs::read_to_string(&status).map_err(|error| error.to_string())?;
        let tracer = status.lines().find(|line| line.starts_with("TracerPid:")).unwrap_or_default();
        if tracer.ends_with("\t0") { Err(running.log_tail(3)) } else { Ok(()) }
    });
    traced.unwrap();
    running
}

#[test]
fn an_eni_that_the_kernel_refuses_to_set_up_gives_out_nothing_until_it_does_and_the_others_serve() {
    let mut topology = two_nodes("m5.large");
    start(&mut topology, &[("WARM_IP_TARGET", "0"), ("MINIMUM_IP_TARGET", "9"), ("IP_COOLDOWN_PERIOD", "1")]);
    let mut pods: Vec<Pod> = (0..PRIMARY).map(|_| pod_that_works(&topology).expect("an address")).collect();
    assert!(pods.iter().all(Pod::on_primary));

    let failing = fail_kernel_calls(&mut topology, "1+");
    assert!(pod_that_works(&topology).is_none(), "an ENI that cannot be set up gave an address");
    let status = topology.node("n1").ask(&["status"]).unwrap();
    assert!(status.contains("ENOBUFS") || status.contains("No buffer space"), "the cause is not told:\n{status}");
    assert!(topology.enis("n1").unwrap().len() > 1, "it was attached");
    // What the proven ENI has goes round.
    let freed = pods.pop().unwrap();
    topology.node("n1").runtime.del(&freed.sandbox, NetnsPath::Given).unwrap();
    pass(Duration::from_secs(1));
    let again = pod_that_works(&topology).expect("the address that was given back");
    assert_eq!(again.added.address, freed.added.address);

    drop(failing);
    let served = eventually("the ENI serves once the kernel takes it", Duration::from_secs(60), || {
        pod_that_works(&topology).ok_or_else(|| "refused".to_owned())
    });
    assert!(!served.unwrap().on_primary());
}

#[test]
fn a_message_to_the_kernel_that_fails_once_delays_an_eni_and_no_pod_gets_an_address_that_does_not_work() {
    let mut hit = 0;
    for nth in 1..=14 {
        let mut topology = two_nodes("m5.large");
        start(&mut topology, &[("WARM_IP_TARGET", "0"), ("MINIMUM_IP_TARGET", "9")]);
        let n1 = topology.node("n1");
        let _full = pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).unwrap();
        let _failing = fail_kernel_calls(&mut topology, &nth.to_string());
        let began = Instant::now();
        let served = eventually("the second ENI serves", Duration::from_secs(60), || {
            pod_that_works(&topology).ok_or_else(|| "refused".to_owned())
        });
        assert!(!served.unwrap().on_primary());
        let log = fs::read_to_string(topology.node("n1").log()).unwrap();
        hit += usize::from(log.contains("No buffer space"));
        assert!(began.elapsed() < Duration::from_secs(30), "message {nth}: {:?}", began.elapsed());
    }
    assert!(hit >= 8, "only {hit} messages failed where it was noticed");
}
