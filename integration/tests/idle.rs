// SPDX-License-Identifier: Apache-2.0
//! A node on which nothing happens: what the daemon does all the same.

#![expect(clippy::disallowed_methods, reason = "reads what the kernel and the log say")]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::pass;
use integration::kube_http::KubeApi;
use integration::pods;
use integration::topology::{READY, Topology, TopologySpec};

/// What was started with the daemon has ended by then: looks at EC2 and the kernel, the first writes to the API server.
const SETTLED: Duration = Duration::from_secs(110);

/// Times a thread was woken in a minute, all threads together: some ten for the one look at kernel and metadata, for which all wake at
/// once, and as many again where two of them fall into this minute.
const WAKE_UPS: u64 = 22;

/// Lines of the log in a minute.
const LINES: usize = 10;

/// How often each thread has waited for something since it began, by name.
fn waits(pid: u32) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs").flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let name = field("Name:").unwrap_or_default().to_owned();
        let count: u64 = field("voluntary_ctxt_switches:").and_then(|count| count.parse().ok()).unwrap_or(0);
        *found.entry(name).or_default() += count;
    }
    found
}

#[test]
fn an_idle_daemon_is_hardly_woken_says_little_and_asks_ec2_nothing() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let api = KubeApi::default();
    topology.introduce(&api).unwrap();
    topology.serve_api(&api).unwrap();
    topology.start(&[("AWS_VPC_K8S_CNI_LOGLEVEL", "info")]).unwrap();
    topology.node("n1").wait_answers(READY).unwrap();
    let pods = pods::start(topology.node("n1"), 3, 3, &AtomicUsize::new(0)).unwrap();
    pass(SETTLED);
    let pid = topology.node_mut("n1").daemon().expect("a daemon").pid();
    let log = topology.node("n1").log();
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let calls = || topology.emulator.with_model(|vpc, _| vpc.calls().len());
    let before = (waits(pid), lines(), calls());
    pass(Duration::from_secs(60));
    let after = (waits(pid), lines(), calls());
    // Threads of one name are summed: fewer than before when one has ended.
    let woken: BTreeMap<_, _> =
        after.0.iter().map(|(name, count)| (name, count.saturating_sub(*before.0.get(name).unwrap_or(&0)))).collect();
    let total: u64 = woken.values().sum();
    println!("woken in a minute: {woken:?}; lines: {}; calls: {:?} -> {:?}", after.1 - before.1, before.2, after.2);
    assert_eq!(before.2, after.2, "EC2 was asked");
    assert!(after.1 - before.1 <= LINES, "{}", integration::process::tail(&log, 30));
    assert!(total <= WAKE_UPS, "{woken:?}");
    drop(pods);
}
