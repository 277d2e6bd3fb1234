// SPDX-License-Identifier: Apache-2.0
//! DEL by the real binary: successful within 2 s in every state (asserted by `silent_success`).
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests spoil the state folder and wait for the kernel")]

mod support;

use ipam_api::rpc::Refusal;
use serde_json::json;
use support::daemon::{Daemon, Mode};
use support::{Node, Sandbox, Space, exchange};

const SECONDARY: Mode = Mode::Serve { device_number: 2 };

/// A node with one pod on a secondary ENI, 10.0.1.10.
fn node_with_a_pod() -> (Node, Daemon, Space, Sandbox) {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    node.add(&sandbox).success();
    (node, daemon, pod, sandbox)
}

/// No route and no rule of the pod, and its host end silenced.
#[track_caller]
fn assert_taken_down(node: &Node) {
    let (routes, rules) = (node.space.ip("-4 route show table all"), node.space.ip("rule"));
    assert!(!routes.contains("10.0.1.10") && !rules.contains("10.0.1.10"), "{routes}{rules}");
    for link in node.links() {
        assert!(node.space.ip(&format!("link show {link}")).contains("group 57005"), "{link} is live");
    }
}

#[test]
fn a_del_takes_the_pod_down_and_may_come_three_times_the_last_without_a_namespace() {
    let (node, daemon, pod, sandbox) = node_with_a_pod();
    node.del(&sandbox).silent_success();
    assert_taken_down(&node);
    assert!(daemon.model().leases.is_empty());
    let request = daemon.model().dels[0].clone();
    assert_eq!((request.reason.as_str(), request.k8s_pod_uid.as_str()), ("PodDeleted", "uid-of-web-0"));

    node.del(&sandbox).silent_success();
    drop(pod);
    node.del(&Sandbox { netns: String::new(), ..sandbox.clone() }).silent_success();
    node.del(&sandbox).silent_success();
    assert!(node.tombstones().is_empty());
}

#[test]
fn with_the_daemon_dead_the_kernel_is_clean_and_a_tombstone_is_left() {
    let (node, daemon, _pod, sandbox) = node_with_a_pod();
    drop(daemon);
    node.del(&sandbox).silent_success();
    assert_taken_down(&node);
    let [tombstone] = node.tombstones().try_into().unwrap();
    assert!(tombstone["at"].as_u64().unwrap() > 1_700_000_000_000_000_000);
    let key = json!({"network": "aws-cni", "containerID": "c1", "ifName": "eth0", "at": tombstone["at"]});
    assert_eq!(tombstone, key);

    node.del(&sandbox).silent_success();
    assert_eq!(node.tombstones().len(), 1);

    // The daemon is back, and the sandbox too: its tombstone must not take the new network away.
    let _daemon = Daemon::start(&node.socket(), SECONDARY);
    node.add(&sandbox).success();
    assert!(node.tombstones().is_empty());
}

#[test]
fn a_hung_daemon_does_not_hold_a_del_up() {
    let (node, daemon, _pod, sandbox) = node_with_a_pod();
    daemon.set_mode(Mode::Hang);
    node.del(&sandbox).silent_success();
    assert_taken_down(&node);
    assert_eq!(node.tombstones().len(), 1);

    // As stopped by a signal: connections are taken by the kernel and never served.
    drop(daemon);
    std::fs::remove_file(node.socket()).unwrap();
    let _stopped = std::os::unix::net::UnixListener::bind(node.socket()).unwrap();
    node.del(&sandbox).silent_success();
}

#[test]
fn a_daemon_that_refuses_or_is_of_another_version_gets_a_tombstone() {
    let refusal = Refusal { code: "StateNotDurable".into(), cause: "disk full".into(), retry_after_ms: None };
    let (node, daemon, _pod, sandbox) = node_with_a_pod();
    for (mode, words) in [(Mode::Refuse(refusal), "StateNotDurable: disk full"), (Mode::OtherVersion, "do not match")] {
        daemon.set_mode(mode);
        node.del(&sandbox).silent_success();
        assert_eq!(node.tombstones().len(), 1);
        assert!(node.log().contains(words), "{}", node.log());
    }
    daemon.set_mode(SECONDARY);
    node.del(&sandbox).silent_success();
    assert!(node.tombstones().is_empty(), "a confirmed DEL settles it");
}

#[test]
fn a_daemon_that_lost_its_state_does_not_keep_the_kernel_from_being_cleaned() {
    let (node, daemon, _pod, sandbox) = node_with_a_pod();
    daemon.model().leases.clear();
    node.del(&sandbox).silent_success();
    assert_taken_down(&node);

    let (_, reference) = (drop(daemon), Daemon::start(&node.socket(), Mode::Reference { is_full: false }));
    node.del(&sandbox).silent_success();
    assert_eq!(reference.model().dels.len(), 1);
}

#[test]
fn an_unknown_container_is_a_success() {
    let node = Node::enter();
    let _daemon = Daemon::start(&node.socket(), SECONDARY);
    node.del(&Sandbox::new("never-added", "web-0", "")).silent_success();
    node.del(&Sandbox { args: String::new(), ..Sandbox::new("never-added", "", "") }).silent_success();
    node.del(&Sandbox { args: "nonsense;;=;a=b".into(), ..Sandbox::new("never-added", "", "") }).silent_success();
}

#[test]
fn a_late_del_does_not_touch_the_next_owner_of_the_address() {
    let (node, daemon, old_pod, old) = node_with_a_pod();
    node.del(&old).silent_success();
    drop(old_pod);
    daemon.model().give_next(10);
    let pod = Space::new();
    let sandbox = Sandbox::new("c2", "web-1", &pod.path());
    let result = node.add(&sandbox).success();
    assert_eq!(result["ips"][0]["address"], "10.0.1.10/32");
    // The kernel takes the old namespace, and the dead link with it, down when it comes to it.
    let ends = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while node.links().len() > 1 && std::time::Instant::now() < ends {
        std::thread::yield_now();
    }
    let before = node.space.everything();

    let mut conf = node.conf("1.0.0");
    conf["prevResult"] = json!({"ips": [{"address": "10.0.1.10/32", "interface": 1}]});
    let late = Sandbox { netns: String::new(), ..old };
    node.verb("DEL", &late, &conf).silent_success();
    // And while the daemon is away, when prevResult is all there is.
    drop(daemon);
    node.verb("DEL", &late, &conf).silent_success();
    assert_eq!(node.space.everything(), before);
    assert!(exchange(&pod.udp("10.0.1.10:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn a_late_del_does_not_touch_the_next_pod_of_the_same_name() {
    let (node, _daemon, _old_pod, old) = node_with_a_pod();
    let pod = Space::new();
    let new = Sandbox::new("c2", "web-0", &pod.path());
    node.add(&new).success();
    let before = node.space.everything();
    node.del(&Sandbox { netns: String::new(), ..old }).silent_success();
    assert_eq!(node.space.everything(), before);
    assert!(exchange(&pod.udp("10.0.1.11:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn a_del_without_the_arguments_of_its_add_takes_the_pod_down_by_what_the_daemon_says() {
    let (node, _daemon, _pod, sandbox) = node_with_a_pod();
    node.del(&Sandbox { args: String::new(), ..sandbox }).silent_success();
    assert_taken_down(&node);
}

#[test]
fn a_pod_of_the_reference_is_taken_down_by_what_its_result_says_while_the_daemon_is_away() {
    let node = Node::enter();
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "sample-pod", &pod.path());
    // What the reference's plugin makes on the host: no alias, no protocol of ours.
    node.space.ip("link add enicc21c2d7785 type veth peer name tmp0");
    node.space.ip("link set enicc21c2d7785 up");
    node.space.ip("route add 10.0.1.10/32 dev enicc21c2d7785 scope link");
    node.space.ip("rule add to 10.0.1.10 priority 512 lookup main");
    node.space.ip("rule add from 10.0.1.10 priority 1536 lookup 3");
    let mut conf = node.conf("0.4.0");
    conf["prevResult"] = json!({
        "cniVersion": "0.4.0",
        "interfaces": [
            {"name": "enicc21c2d7785"},
            {"name": "eth0", "mac": "3", "sandbox": pod.path()},
            {"name": "dummycc21c2d7785", "mac": "0", "sandbox": "2"},
        ],
        "ips": [{"version": "4", "address": "10.0.1.10/32", "interface": 1}],
    });
    node.verb("DEL", &sandbox, &conf).silent_success();
    let (routes, rules) = (node.space.ip("-4 route show table all"), node.space.ip("rule"));
    assert!(!routes.contains("10.0.1.10") && !rules.contains("10.0.1.10"), "{routes}{rules}");
}

#[test]
fn a_state_folder_that_cannot_be_written_does_not_fail_a_del() {
    let (node, daemon, _pod, sandbox) = node_with_a_pod();
    drop(daemon);
    std::fs::write(node.path("tombstones"), "a file where the folder should be").unwrap();
    node.del(&sandbox).silent_success();
    assert_taken_down(&node);
    assert!(node.log().contains("could not be left"), "{}", node.log());
}

#[test]
fn a_del_while_its_add_is_waiting_ends_and_the_add_gets_an_error() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), Mode::Hang);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let add = node.start("ADD", &sandbox, &node.conf("1.0.0"), &[("ENID_ADD_BUDGET_MS", "2500")]);
    while daemon.model().adds.is_empty() {
        std::thread::yield_now();
    }
    daemon.set_mode(SECONDARY);
    node.del(&sandbox).silent_success();
    assert_eq!(add.finish().error().0, 11);
    assert!(node.links().is_empty());
}

#[test]
fn an_add_that_was_killed_at_any_moment_leaves_nothing_that_its_del_does_not_find() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let before = node.space.everything();
    // An ADD takes some milliseconds; kills fall all over it.
    for round in 0..40u64 {
        let pod = Space::new();
        let sandbox = Sandbox::new(&format!("c{round}"), "web-0", &pod.path());
        let add = node.start("ADD", &sandbox, &node.conf("1.0.0"), &[]);
        std::thread::sleep(std::time::Duration::from_micros(round * 400));
        add.kill();
        node.del(&sandbox).silent_success();
        assert!(daemon.model().leases.is_empty());
        let (routes, rules) = (node.space.ip("-4 route show table all"), node.space.ip("rule"));
        assert!(!routes.contains("10.0.1.") && !rules.contains("10.0.1."), "{routes}{rules}");
    }
    let ends = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !node.links().is_empty() && std::time::Instant::now() < ends {
        std::thread::yield_now();
    }
    assert_eq!(node.space.everything(), before);
}

#[test]
fn a_del_at_the_same_time_as_the_add_of_its_successor_hurts_neither() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let conf = node.conf("1.0.0");
    for round in 0..20u64 {
        let (old_pod, new_pod) = (Space::new(), Space::new());
        let old = Sandbox::new(&format!("old{round}"), "db-0", &old_pod.path());
        let new = Sandbox::new(&format!("new{round}"), "db-0", &new_pod.path());
        let old_address = node.add(&old).success()["ips"][0]["address"].as_str().unwrap().replace("/32", "");
        let running = [node.start("DEL", &old, &conf, &[]), node.start("ADD", &new, &conf, &[])];
        let [del, add] = running.map(support::Running::finish);
        del.silent_success();
        let address = add.success()["ips"][0]["address"].as_str().unwrap().replace("/32", "");
        assert!(exchange(&new_pod.udp(&format!("{address}:7000")), &node.space.udp("10.0.0.1:7000")).is_some());
        let (routes, rules) = (node.space.ip("-4 route show table main"), node.space.ip("rule"));
        let count = |text: &str, address: &str| {
            text.split_whitespace().filter(|word| word.trim_end_matches("/32") == address).count()
        };
        assert_eq!((count(&routes, &address), count(&rules, &address)), (1, 2), "round {round}: {routes}{rules}");
        assert_eq!(
            (count(&routes, &old_address), count(&rules, &old_address)),
            (0, 0),
            "round {round}: {routes}{rules}"
        );
        assert_eq!(daemon.model().leases.len(), 1);
        node.del(&new).silent_success();
    }
}
