// SPDX-License-Identifier: Apache-2.0
//! ADD by the real binary in namespaces of the test's own.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![expect(clippy::disallowed_methods, reason = "a daemon starts late")]

mod support;

use std::time::Duration;

use ipam_api::rpc::Refusal;
use serde_json::{Value, json};
use support::daemon::{Agent, Daemon, Mode};
use support::{Node, Sandbox, Space, exchange};

const PRIMARY: Mode = Mode::Serve { device_number: 0 };
const SECONDARY: Mode = Mode::Serve { device_number: 2 };

/// SHA-1("default.sample-pod"), first 11 digits: the reference's own test vector.
const SAMPLE_VETH: &str = "enicc21c2d7785";

#[test]
fn the_result_has_the_reference_s_form_in_every_version_and_del_may_be_repeated() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    for (index, version) in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
        let pod = Space::new();
        let sandbox = Sandbox::new(&format!("c{index}"), "sample-pod", &pod.path());
        let result = node.verb("ADD", &sandbox, &node.conf(version)).success();
        let mut ip = json!({"address": format!("10.0.1.{}/32", 10 + index), "interface": 1});
        if version.starts_with("0.") {
            ip["version"] = "4".into();
        }
        let interfaces = json!([
            {"name": SAMPLE_VETH},
            {"name": "eth0", "mac": "3", "sandbox": pod.path()},
            {"name": "dummycc21c2d7785", "mac": "0", "sandbox": "2"},
        ]);
        assert_eq!(result, json!({"cniVersion": version, "interfaces": interfaces, "ips": [ip]}));

        let mut conf = node.conf(version);
        conf["prevResult"] = result;
        node.verb("DEL", &sandbox, &conf).silent_success();
        node.verb("DEL", &sandbox, &conf).silent_success();
        assert!(daemon.model().leases.is_empty());
    }
}

#[test]
fn the_daemon_is_told_everything_that_the_runtime_told() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), PRIMARY);
    let pod = Space::new();
    node.add(&Sandbox::new("c1", "web-0", &pod.path())).success();
    let request = daemon.model().adds[0].clone();
    assert_eq!((request.k8s_pod_name.as_str(), request.k8s_pod_namespace.as_str()), ("web-0", "default"));
    assert_eq!((request.network_name.as_str(), request.container_id.as_str()), ("aws-cni", "c1"));
    assert_eq!((request.netns, request.if_name.as_str()), (pod.path(), "eth0"));
    assert_eq!((request.k8s_pod_infra_container_id.as_str(), request.client_version.as_str()), ("c1", ""));
    let left = request.wait_budget_ms.unwrap();
    assert!((15_000..=20_000).contains(&left), "{left}");
}

#[test]
fn packets_go_both_ways_between_pod_and_node_and_between_pods_of_both_enis() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), PRIMARY);
    let (first, second) = (Space::new(), Space::new());
    node.add(&Sandbox::new("c1", "first", &first.path())).success();
    daemon.set_mode(SECONDARY);
    node.add(&Sandbox::new("c2", "second", &second.path())).success();

    let node_socket = node.space.udp("10.0.0.1:7000");
    let (one, two) = (first.udp("10.0.1.10:7000"), second.udp("10.0.1.11:7000"));
    assert_eq!(exchange(&one, &node_socket), Some(("10.0.1.10".into(), "10.0.0.1".into())));
    assert_eq!(exchange(&node_socket, &two), Some(("10.0.0.1".into(), "10.0.1.11".into())));
    assert_eq!(exchange(&one, &two), Some(("10.0.1.10".into(), "10.0.1.11".into())));
    // A process in the pod reaches another one over localhost.
    assert!(exchange(&first.udp("127.0.0.1:7001"), &first.udp("127.0.0.1:7002")).is_some());
}

#[test]
fn only_a_pod_on_a_secondary_eni_gets_a_from_rule() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), PRIMARY);
    let (first, second) = (Space::new(), Space::new());
    node.add(&Sandbox::new("c1", "first", &first.path())).success();
    daemon.set_mode(SECONDARY);
    node.add(&Sandbox::new("c2", "second", &second.path())).success();
    let rules = node.space.ip("rule");
    let rule = |text: &str| rules.lines().filter(|line| line.contains(text)).count();
    assert_eq!((rule("512:\tfrom all to 10.0.1.10 lookup main"), rule("from 10.0.1.10 ")), (1, 0), "{rules}");
    assert_eq!(
        (rule("512:\tfrom all to 10.0.1.11 lookup main"), rule("1536:\tfrom 10.0.1.11 lookup 3")),
        (1, 1),
        "{rules}"
    );
}

#[test]
fn a_refused_add_says_code_and_cause_and_leaves_nothing() {
    let node = Node::enter();
    let refusal =
        Refusal { code: "NodeFull".into(), cause: "27 of 27 addresses taken".into(), retry_after_ms: Some(3_000) };
    let _daemon = Daemon::start(&node.socket(), Mode::Refuse(refusal));
    let pod = Space::new();
    let before = (node.space.everything(), pod.everything());
    let run = node.add(&Sandbox::new("c1", "web-0", &pod.path()));
    assert_eq!(run.error(), (11, "NodeFull: 27 of 27 addresses taken (a retry can succeed in 3 s)".into()));
    assert_eq!(run.json()["cniVersion"], "1.0.0");
    assert_eq!((node.space.everything(), pod.everything()), before);
    assert!(node.log().contains("NodeFull"), "{}", node.log());
}

#[test]
fn the_budget_holds_with_a_dead_and_with_a_hung_daemon() {
    let node = Node::enter();
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let short = [("ENID_ADD_BUDGET_MS", "700")];
    let add = || node.start("ADD", &sandbox, &node.conf("1.0.0"), &short).finish();

    let run = add();
    let (code, message) = run.error();
    assert!(code == 11 && message.contains("the IPAM daemon is not there"), "{run:?}");
    assert!(run.took < Duration::from_millis(1_500), "{run:?}");

    let daemon = Daemon::start(&node.socket(), Mode::Hang);
    let run = add();
    let (code, message) = run.error();
    assert!(code == 11 && message.contains("did not answer in time"), "{run:?}");
    assert!(run.took < Duration::from_millis(1_500), "{run:?}");
    let left = daemon.model().adds[0].wait_budget_ms.unwrap();
    assert!((400..=700).contains(&left), "{left} ms on the wire");
    assert!(node.links().is_empty());
}

#[test]
fn an_add_waits_for_a_daemon_that_is_restarting() {
    let node = Node::enter();
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let running = node.start("ADD", &sandbox, &node.conf("1.0.0"), &[]);
    std::thread::sleep(Duration::from_millis(300));
    let daemon = Daemon::start(&node.socket(), PRIMARY);
    running.finish().success();
    assert!(daemon.model().adds[0].wait_budget_ms.unwrap() < 19_800);
}

#[test]
fn an_add_whose_plumbing_fails_gives_the_address_back_and_leaves_nothing() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let before = node.space.everything();
    let no_namespace = node.path("file");
    std::fs::File::create(&no_namespace).unwrap();
    for netns in [no_namespace.to_str().unwrap(), "/nowhere", "/proc/thread-self/ns/net"] {
        let run = node.add(&Sandbox::new("c1", "web-0", netns));
        let (code, message) = run.error();
        assert!(code == 999 && message.contains("plumbing the pod's network failed"), "{run:?}");
        assert!(run.json()["details"].as_str().unwrap().contains(netns), "{run:?}");
        assert_eq!(daemon.model().dels.last().unwrap().reason, "SetupNSFailed");
        assert!(daemon.model().leases.is_empty());
    }
    assert_eq!(node.space.everything(), before);
}

#[test]
fn replies_that_cannot_be_carried_out_are_refused_and_the_address_goes_back() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), Mode::Branch);
    let pod = Space::new();
    let run = node.add(&Sandbox::new("c1", "web-0", &pod.path()));
    assert!(run.error().1.contains("branch ENI"), "{run:?}");
    assert!(run.error().1.starts_with("ReplyUnsupported: "), "{run:?}");
    assert!(daemon.model().leases.is_empty() && node.links().is_empty());

    let mut conf = node.conf("1.0.0");
    conf["runtimeConfig"] =
        json!({"io.kubernetes.cri.pod-annotations": {"k8s.amazonaws.com/nicConfig": "multi-nic-attachment"}});
    let run = node.verb("ADD", &Sandbox::new("c1", "web-0", &pod.path()), &conf);
    assert_eq!(run.error().0, 7);
}

fn link_index(space: &Space, name: &str) -> Value {
    let links: Value = serde_json::from_str(&space.ip(&format!("-j link show {name}"))).unwrap();
    links[0]["ifindex"].clone()
}

#[test]
fn a_second_add_for_a_living_pod_returns_the_same_and_does_not_touch_it() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let first = node.add(&sandbox).success();
    let index = link_index(&pod, "eth0");
    let before = (node.space.everything(), pod.everything());
    assert_eq!(node.add(&sandbox).success(), first);
    assert_eq!(link_index(&pod, "eth0"), index);
    assert_eq!((node.space.everything(), pod.everything()), before);

    // One that fails keeps its hands off the living pod's address too.
    let elsewhere = Sandbox { netns: "/nowhere".into(), ..sandbox.clone() };
    assert_eq!(node.add(&elsewhere).error().0, 999);
    assert!(daemon.model().dels.is_empty() && daemon.model().leases.len() == 1);
    assert!(exchange(&pod.udp("10.0.1.10:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn a_second_add_for_a_living_pod_is_one_though_the_prefix_was_changed_since() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "sample-pod", &pod.path());
    let mut conf = node.conf("1.0.0");
    conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let first = node.verb("ADD", &sandbox, &conf).success();
    let before = (node.space.everything(), pod.everything());
    let with_prefix = |prefix: &str| {
        let mut conf = conf.clone();
        conf["vethPrefix"] = prefix.into();
        conf
    };
    assert_eq!(node.verb("ADD", &sandbox, &with_prefix("abc")).success(), first, "with the name that it has");
    assert_eq!((node.space.everything(), pod.everything()), before);

    // Whatever fails, the address stays the pod's.
    let elsewhere = Sandbox { netns: "/nowhere".into(), ..sandbox.clone() };
    assert_eq!(node.verb("ADD", &elsewhere, &with_prefix("abc")).error().0, 999);
    node.space.ip("rule del from 10.0.1.10 priority 1536");
    node.space.ip("link add vlacc21c2d7785 type bridge");
    assert_eq!(node.verb("ADD", &sandbox, &with_prefix("vla")).error().0, 999);
    assert!(daemon.model().dels.is_empty() && daemon.model().leases.len() == 1);
    assert!(node.log().contains("the sandbox lives"), "{}", node.log());

    // One that lacks something is made anew.
    let again = node.verb("ADD", &sandbox, &with_prefix("abc")).success();
    assert_eq!(again["interfaces"][0]["name"], "abccc21c2d7785");
    assert!(!node.live_links().contains(&SAMPLE_VETH.to_owned()), "{:?}", node.live_links());
    assert!(exchange(&pod.udp("10.0.1.10:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
    node.verb("DEL", &sandbox, &with_prefix("abc")).silent_success();
    assert!(daemon.model().leases.is_empty());
}

#[test]
fn two_adds_for_one_sandbox_at_once_make_one_network() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    for round in 0..5 {
        let pod = Space::new();
        let sandbox = Sandbox::new(&format!("c{round}"), &format!("web-{round}"), &pod.path());
        let running: Vec<_> = (0..4).map(|_| node.start("ADD", &sandbox, &node.conf("1.0.0"), &[])).collect();
        let results: Vec<_> = running.into_iter().map(|running| running.finish().success()).collect();
        assert!(results.iter().all(|result| result == &results[0]), "{results:?}");
        assert_eq!((node.live_links().len(), daemon.model().leases.len()), (1, 1));
        let address = format!("10.0.1.{}:7000", 10 + round);
        assert!(exchange(&pod.udp(&address), &node.space.udp("10.0.0.1:7000")).is_some());
        node.del(&sandbox).silent_success();
    }
}

#[test]
fn an_add_that_finds_its_pod_half_plumbed_completes_it() {
    let node = Node::enter();
    let _daemon = Daemon::start(&node.socket(), SECONDARY);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let first = node.add(&sandbox).success();
    node.space.ip("rule del from 10.0.1.10 priority 1536");
    assert_eq!(node.add(&sandbox).success(), first);
    assert!(node.space.ip("rule").contains("from 10.0.1.10 lookup 3"));
    assert!(exchange(&pod.udp("10.0.1.10:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn a_recreated_pod_of_the_same_name_takes_the_name_of_one_whose_del_never_came() {
    let node = Node::enter();
    let _daemon = Daemon::start(&node.socket(), SECONDARY);
    let (old, new) = (Space::new(), Space::new());
    node.add(&Sandbox::new("c1", "sample-pod", &old.path())).success();
    node.add(&Sandbox::new("c2", "sample-pod", &new.path())).success();
    assert_eq!(node.links(), [SAMPLE_VETH]);
    assert!(exchange(&new.udp("10.0.1.11:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn a_reload_as_podman_does_it_works_on_the_same_namespace() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), SECONDARY);
    let pod = Space::new();
    let sandbox = Sandbox { args: "IgnoreUnknown=1;K8S_POD_NAME=a".into(), ..Sandbox::new("c1", "a", &pod.path()) };
    node.add(&sandbox).success();
    node.del(&sandbox).silent_success();
    assert!(daemon.model().leases.is_empty());
    node.add(&sandbox).success();
    assert!(exchange(&pod.udp("10.0.1.11:7000"), &node.space.udp("10.0.0.1:7000")).is_some());
}

#[test]
fn sandboxes_without_any_arguments_get_links_of_their_own() {
    let node = Node::enter();
    let _daemon = Daemon::start(&node.socket(), PRIMARY);
    let (first, second) = (Space::new(), Space::new());
    for (container_id, pod) in [("c1", &first), ("c2", &second)] {
        let sandbox = Sandbox { args: String::new(), ..Sandbox::new(container_id, "", &pod.path()) };
        node.add(&sandbox).success();
    }
    assert_eq!(node.links().len(), 2);
}

#[test]
fn the_reference_s_daemon_serves_too() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), Mode::Reference { is_full: false });
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    let result = node.add(&sandbox).success();
    assert_eq!((&result["interfaces"][1]["mac"], &result["interfaces"][2]["sandbox"]), (&"2".into(), &"1".into()));
    node.del(&sandbox).silent_success();
    // "datastore: unknown pod" is a success there.
    node.del(&sandbox).silent_success();
    assert!(node.tombstones().is_empty());

    daemon.set_mode(Mode::Reference { is_full: true });
    let run = node.add(&sandbox);
    assert!(run.error().0 == 11 && run.error().1.contains("gave no reason"), "{run:?}");
    assert!(run.error().1.starts_with("NoReasonGiven: "), "{run:?}");
}

#[test]
fn a_daemon_of_another_version_is_named_as_the_cause() {
    let node = Node::enter();
    let _daemon = Daemon::start(&node.socket(), Mode::OtherVersion);
    let pod = Space::new();
    let run = node.add(&Sandbox::new("c1", "web-0", &pod.path()));
    assert!(run.error().0 == 11 && run.error().1.contains("different versions"), "{run:?}");
    assert!(run.error().1.starts_with("VersionMismatch: "), "{run:?}");
    assert!(run.json()["details"].as_str().unwrap().contains("wrong client version"), "{run:?}");
}

#[test]
fn the_policy_agent_is_told_when_the_daemon_names_a_mode_and_without_it_the_add_is_taken_back() {
    let node = Node::enter();
    let daemon = Daemon::start(&node.socket(), Mode::Policy);
    let pod = Space::new();
    let sandbox = Sandbox::new("c1", "web-0", &pod.path());
    pod.ip("link set lo up");
    let before = (node.space.everything(), pod.everything());
    let short = [("ENID_ADD_BUDGET_MS", "900")];
    let run = node.start("ADD", &sandbox, &node.conf("1.0.0"), &short).finish();
    assert!(run.error().0 == 11 && run.error().1.contains("network policy agent"), "{run:?}");
    assert!(daemon.model().leases.is_empty());
    assert_eq!((node.space.everything(), pod.everything()), before);

    let agent = Agent::default();
    let _serving = agent.start(&node.path("npa.sock"));
    node.add(&sandbox).success();
    let enforced = agent.enforced.lock().unwrap()[0].clone();
    assert_eq!((enforced.k8s_pod_name.as_str(), enforced.network_policy_mode.as_str()), ("web-0", "standard"));
    assert_eq!(enforced.interface_count, 1);
    node.del(&sandbox).silent_success();
    assert_eq!(agent.deleted.lock().unwrap()[0].k8s_pod_namespace, "default");
}
