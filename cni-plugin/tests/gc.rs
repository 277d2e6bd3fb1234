// SPDX-License-Identifier: Apache-2.0
//! GC by the real binary: what is on no list goes, and nothing else.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![expect(clippy::disallowed_methods, reason = "a sandbox grows old; reads the plugin's log")]

mod support;

use std::time::Duration;

use ipam_api::rpc::Attachment;
use serde_json::{Value, json};
use support::daemon::{Daemon, Mode};
use support::{Node, Run, Sandbox, Space};

const SECONDARY: Mode = Mode::Serve { device_number: 2 };
/// Nothing is too young.
const ALL_OLD: &[(&str, &str)] = &[("ENID_GC_SPARE_MS", "0")];

struct Bench {
    node: Node,
    daemon: Daemon,
    pods: Vec<(Space, Sandbox)>,
}

impl Bench {
    /// Pods `c1`, `c2`, … at 10.0.1.10, .11, …
    fn with_pods(count: usize) -> Self {
        let node = Node::enter();
        let daemon = Daemon::start(&node.socket(), SECONDARY);
        let pod = |number| {
            let space = Space::new();
            let sandbox = Sandbox::new(&format!("c{number}"), &format!("web-{number}"), &space.path());
            node.add(&sandbox).success();
            (space, sandbox)
        };
        let pods = (1..=count).map(pod).collect();
        Self { node, daemon, pods }
    }

    fn gc(&self, keep: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut conf = self.node.conf("1.1.0");
        conf["cni.dev/valid-attachments"] = attachments(keep);
        conf["cni.dev/attachments"] = attachments(keep);
        gc(&conf, environment)
    }

    fn lives(&self, place: usize) -> bool {
        let address = format!("10.0.1.{}", 10 + place);
        self.node.space.ip("-4 route show table all").contains(&address)
    }
}

fn attachments(containers: &[&str]) -> Value {
    containers.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect()
}

/// In the calling thread's namespace, the node's.
fn gc(conf: &Value, environment: &[(&str, &str)]) -> Run {
    let mut all = vec![("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")];
    all.extend(environment);
    support::start(&all, conf.to_string().as_bytes()).finish()
}

fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.into(), if_name: "eth0".into() }
}

#[test]
fn what_is_on_no_list_is_taken_down_and_the_daemon_is_told() {
    let bench = Bench::with_pods(3);
    bench.gc(&["c2", "unknown"], ALL_OLD).silent_success();
    assert_eq!([0, 1, 2].map(|place| bench.lives(place)), [false, true, false]);
    assert_eq!(bench.node.live_links().len(), 1);
    let rules = bench.node.space.ip("rule");
    assert!(rules.contains("10.0.1.11") && !rules.contains("10.0.1.10") && !rules.contains("10.0.1.12"), "{rules}");
    assert_eq!(bench.daemon.model().leases.keys().collect::<Vec<_>>(), ["aws-cni/c2/eth0"]);
    let request = bench.daemon.model().gcs[0].clone();
    assert_eq!(request.network_name, "aws-cni");
    assert_eq!(request.keep, [attachment("c2"), attachment("unknown")]);
    assert_eq!(request.gone, [attachment("c1"), attachment("c3")]);
    assert!(bench.node.tombstones().is_empty());

    let before = bench.node.space.everything();
    bench.gc(&["c2"], ALL_OLD).silent_success();
    assert_eq!(bench.node.space.everything(), before, "once more changes nothing");
    // And the DELs that come after all.
    for (_, sandbox) in &bench.pods {
        bench.node.del(sandbox).silent_success();
    }
}

#[test]
fn a_pod_that_was_added_after_the_list_was_made_is_spared_by_both() {
    let bench = Bench::with_pods(2);
    bench.gc(&["c1"], &[]).silent_success();
    assert!(bench.lives(0) && bench.lives(1));
    assert_eq!(bench.daemon.model().leases.len(), 2);
    let request = bench.daemon.model().gcs[0].clone();
    assert_eq!(request.keep, [attachment("c1"), attachment("c2")], "what was spared is told");
    assert_eq!((request.gone.len(), request.spare_younger_ms), (0, 60_000));
    bench.gc(&["c1"], &[("ENID_GC_SPARE_MS", "999999999")]).silent_success();
    assert_eq!(bench.daemon.model().gcs[1].spare_younger_ms, 60_000, "not longer");
}

#[test]
fn an_old_sandbox_goes_and_a_young_one_stays_when_neither_is_on_the_list() {
    let mut bench = Bench::with_pods(1);
    std::thread::sleep(Duration::from_millis(3_500));
    let space = Space::new();
    let young = Sandbox::new("c2", "web-2", &space.path());
    bench.node.add(&young).success();
    bench.pods.push((space, young));
    bench.gc(&[], &[("ENID_GC_SPARE_MS", "3000")]).silent_success();
    assert_eq!([0, 1].map(|place| bench.lives(place)), [false, true]);
    let request = bench.daemon.model().gcs[0].clone();
    assert_eq!((request.keep, request.gone), (vec![attachment("c2")], vec![attachment("c1")]));
}

#[test]
fn a_list_that_is_null_says_nothing_and_takes_nothing_down() {
    let bench = Bench::with_pods(1);
    let before = bench.node.space.everything();
    let mut conf = bench.node.conf("1.1.0");
    conf["cni.dev/valid-attachments"] = Value::Null;
    gc(&conf, ALL_OLD).silent_success();
    conf["cni.dev/attachments"] = Value::Null;
    gc(&conf, ALL_OLD).silent_success();
    assert_eq!(bench.node.space.everything(), before);
    assert!(bench.daemon.model().gcs.is_empty(), "the daemon is not called");
    let log = std::fs::read_to_string(bench.node.path("plugin.log")).unwrap();
    assert_eq!(log.matches("list of what is there is null").count(), 2, "a warning each: {log}");

    conf["cni.dev/attachments"] = attachments(&[]);
    gc(&conf, ALL_OLD).silent_success();
    assert!(!bench.lives(0), "the other key has an empty list");
}

#[test]
fn a_list_that_names_less_than_half_is_warned_of() {
    let bench = Bench::with_pods(4);
    let warned = || std::fs::read_to_string(bench.node.path("plugin.log")).unwrap().contains("less than half");
    bench.gc(&["c1", "c2", "c3"], ALL_OLD).silent_success();
    assert!(!warned());
    bench.gc(&[], ALL_OLD).silent_success();
    assert!(warned());
}

#[test]
fn an_empty_list_takes_all_of_this_network_and_none_of_another() {
    let bench = Bench::with_pods(1);
    let other = Space::new();
    let mut conf = bench.node.conf("1.0.0");
    conf["name"] = "aws-cni-2".into();
    bench.node.verb("ADD", &Sandbox::new("x1", "other-0", &other.path()), &conf).success();
    bench.gc(&[], ALL_OLD).silent_success();
    assert_eq!([0, 1].map(|place| bench.lives(place)), [false, true]);
    assert_eq!(bench.daemon.model().leases.keys().collect::<Vec<_>>(), ["aws-cni-2/x1/eth0"]);
}

#[test]
fn either_key_keeps() {
    let bench = Bench::with_pods(3);
    let mut conf = bench.node.conf("1.1.0");
    conf["cni.dev/attachments"] = attachments(&["c1"]);
    conf["cni.dev/valid-attachments"] = attachments(&["c3"]);
    gc(&conf, ALL_OLD).silent_success();
    assert_eq!([0, 1, 2].map(|place| bench.lives(place)), [true, false, true]);
}

#[test]
fn with_the_daemon_gone_the_kernel_is_clean_and_tombstones_are_left() {
    let Bench { node, daemon, pods: _pods } = Bench::with_pods(2);
    drop(daemon);
    let mut conf = node.conf("1.1.0");
    conf["cni.dev/valid-attachments"] = attachments(&["c2"]);
    let run = gc(&conf, ALL_OLD);
    assert_eq!((run.exit_code, run.stdout.as_str()), (0, ""), "{run:?}");
    assert_eq!(node.live_links().len(), 1);
    let [tombstone] = node.tombstones().try_into().unwrap();
    assert_eq!(tombstone["containerID"], "c1");
}

#[test]
fn the_reference_s_daemon_is_told_by_a_del_each() {
    let bench = Bench::with_pods(3);
    bench.daemon.set_mode(Mode::Reference { is_full: false });
    bench.gc(&["c2"], ALL_OLD).silent_success();
    let dels: Vec<String> = bench.daemon.model().dels.iter().map(|del| del.container_id.clone()).collect();
    assert_eq!(dels, ["c1", "c3"]);
    assert_eq!(bench.daemon.model().leases.len(), 1);
    assert!(bench.node.tombstones().is_empty());
}

#[test]
fn an_allocation_whose_veth_is_gone_is_released_by_the_list() {
    let bench = Bench::with_pods(2);
    bench.node.space.ip(&format!("link del {}", bench.node.links()[0]));
    bench.gc(&[], ALL_OLD).silent_success();
    assert!(bench.daemon.model().leases.is_empty());
    let rules = bench.node.space.ip("rule");
    assert!(!rules.contains("10.0.1."), "what its address had is gone too: {rules}");
}
