// SPDX-License-Identifier: Apache-2.0
//! The binary's edges: parameters, standard input, VERSION, STATUS. Needs no namespace.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "tests write and read the state folder")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::daemon::{Daemon, Mode};
use support::{Node, Run, Sandbox, start};

fn run(environment: &[(&str, &str)], stdin: &[u8]) -> Run {
    start(environment, stdin).finish()
}

#[test]
fn without_a_verb_it_says_what_it_is_and_does_not_wait_for_input() {
    let run = run(&[], b"");
    let (code, message) = run.error();
    assert!(code == 4 && message.contains("CNI_COMMAND is not set"), "{run:?}");
    assert_eq!(run.stderr, "");
}

#[test]
fn all_missing_parameters_are_named_at_once_in_the_caller_s_version() {
    let run = run(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "e/0")], br#"{"cniVersion": "0.4.0", "name": "aws-cni"}"#);
    let (code, message) = run.error();
    assert_eq!((code, &run.json()["cniVersion"]), (4, &"0.4.0".into()));
    for words in ["CNI_CONTAINERID is missing", "CNI_NETNS is missing", "CNI_IFNAME=\"e/0\" must be"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn verbs_are_refused_in_versions_that_do_not_have_them() {
    let environment = |verb| {
        [("CNI_COMMAND", verb), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")]
    };
    for (verb, versions) in [("CHECK", &["0.3.0", "0.3.1"][..]), ("GC", &["0.3.0", "0.4.0", "1.0.0"])] {
        for version in versions {
            let conf = json!({"cniVersion": version, "name": "aws-cni", "prevResult": {}, "cni.dev/attachments": []});
            let run = run(&environment(verb), conf.to_string().as_bytes());
            let (code, message) = run.error();
            assert!(code == 1 && message.contains(verb) && message.contains(version), "{run:?}");
        }
    }
}

#[test]
fn a_gc_without_its_list_or_with_a_strange_element_is_an_error_that_names_it() {
    let gc = |key: &str, list: serde_json::Value| {
        let conf = json!({"cniVersion": "1.1.0", "name": "aws-cni", "pluginLogFile": "stderr", key: list});
        run(&[("CNI_COMMAND", "GC")], conf.to_string().as_bytes())
    };
    let good = json!({"containerID": "c1", "ifname": "eth0"});
    for (key, list, words) in [
        ("other", json!([]), "`cni.dev/valid-attachments`"),
        ("cni.dev/valid-attachments", json!({}), "cni.dev/valid-attachments"),
        ("cni.dev/valid-attachments", json!([good, {"containerID": "c2"}]), "cni.dev/valid-attachments[1]"),
        ("cni.dev/attachments", json!([{"containerID": 7, "ifname": "eth0"}]), "cni.dev/attachments[0]"),
        ("cni.dev/attachments", json!([good, good, "c3/eth0"]), "cni.dev/attachments[2]"),
        ("cni.dev/attachments", json!([{"containerID": "", "ifname": "eth0"}]), "cni.dev/attachments[0]"),
    ] {
        let run = gc(key, list);
        let (code, message) = run.error();
        assert!(code == 7 && message.contains(words), "{run:?}");
    }
}

#[test]
fn garbage_on_standard_input_is_an_error_object_and_nothing_else() {
    let environment =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];
    for stdin in [&b""[..], b"garbage", b"\xff\xfe", b"[1, 2]", b"{\"cniVersion\": \"1.0.0\""] {
        let run = run(&environment, stdin);
        assert_eq!(run.error().0, 6, "{run:?}");
        assert_eq!(run.stderr, "");
    }
    let huge = vec![b' '; 5 * 1024 * 1024];
    assert_eq!(run(&environment, &huge).error().0, 5);
}

#[test]
fn a_malformed_key_is_named() {
    let node = Node::without_network();
    let sandbox = Sandbox::new("c1", "web-0", "/nowhere");
    for (key, value) in [("vethPrefix", json!("toolong")), ("pluginLogFile", json!("stdout")), ("name", json!(7))] {
        let mut conf = node.conf("1.0.0");
        conf[key] = value;
        let run = node.verb("ADD", &sandbox, &conf);
        let (code, message) = run.error();
        assert!(code == 7 && message.contains(key), "{run:?}");
    }
    let run = node.verb("ADD", &sandbox, &node.conf("0.2.0"));
    assert_eq!(run.error().0, 1, "{run:?}");
    let strange = Sandbox { args: "WHAT=ever".into(), ..sandbox };
    let run = node.verb("ADD", &strange, &node.conf("1.0.0"));
    assert!(run.error().0 == 4 && run.error().1.contains("WHAT"), "{run:?}");
}

#[test]
fn version_lists_what_is_supported_whatever_is_on_standard_input() {
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let podman =
        [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "dummy"), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "dummy")];
    for (stdin, version) in
        [(&br#"{"cniVersion":"0.4.0"}"#[..], "0.4.0"), (b"", "1.1.0"), (br#"{"cniVersion":"9"}"#, "1.1.0")]
    {
        let answer = run(&podman, stdin).success();
        assert_eq!(answer, json!({"cniVersion": version, "supportedVersions": supported}));
    }
}

fn status(node: &Node, version: &str) -> Run {
    // All that containerd gives.
    start(&[("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")], node.conf(version).to_string().as_bytes())
        .finish()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn millis_since_boot() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds).as_millis().try_into().unwrap()
}

#[test]
fn status_is_an_error_until_an_address_is_proven_in_this_boot() {
    let node = Node::without_network();
    let daemon = Daemon::start(&node.socket(), Mode::Serve { device_number: 0 });
    let (code, message) = status(&node, "1.1.0").error();
    assert!(code == 50 && message.contains("no pod address has been proven"), "{message}");
    std::fs::write(node.path("ready"), "another boot").unwrap();
    assert_eq!(status(&node, "1.1.0").error().0, 50);
    std::fs::write(node.path("ready"), boot_id() + "\n").unwrap();
    status(&node, "1.1.0").silent_success();
    assert_eq!(status(&node, "1.0.0").error().0, 1, "STATUS came with 1.1.0");

    // A pool that is full changes nothing.
    daemon.set_mode(Mode::Reference { is_full: true });
    status(&node, "1.1.0").silent_success();
}

#[test]
fn status_tells_an_absent_daemon_after_60_s_and_forgets_it_when_it_is_back() {
    let node = Node::without_network();
    std::fs::write(node.path("ready"), boot_id()).unwrap();
    status(&node, "1.1.0").silent_success();
    let now = millis_since_boot();
    let absence =
        json!({"bootID": boot_id(), "since_ms": now.saturating_sub(61_000), "seen_ms": now.saturating_sub(5_000)});
    std::fs::write(node.path("status.json"), absence.to_string()).unwrap();
    assert!(now > 61_000, "this test needs a machine that has been up for a minute: it is {now} ms");
    let (code, message) = status(&node, "1.1.0").error();
    assert!(code == 50 && message.contains("has not answered for"), "{message}");
    let _daemon = Daemon::start(&node.socket(), Mode::Serve { device_number: 0 });
    status(&node, "1.1.0").silent_success();
    assert!(!node.path("status.json").exists());
}

#[test]
fn status_answers_within_50_ms_even_when_the_daemon_hangs() {
    let node = Node::without_network();
    std::fs::write(node.path("ready"), boot_id()).unwrap();
    let _stopped = std::os::unix::net::UnixListener::bind(node.socket()).unwrap();
    let fastest =
        (0..10).map(|_| status(&node, "1.1.0")).inspect(Run::silent_success).map(|run| run.took).min().unwrap();
    // The fastest of ten: the machine that runs the tests may be busy.
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[test]
fn the_log_is_json_lines_with_the_sandbox_in_each() {
    let node = Node::without_network();
    let _daemon = Daemon::start(&node.socket(), Mode::Reference { is_full: true });
    assert_eq!(node.add(&Sandbox::new("c1", "web-0", "/nowhere")).error().0, 11);
    let log = node.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["container_id"] == "c1" && line["verb"] == "ADD"), "{log}");
    assert!(lines.iter().any(|line| line["level"] == "error"), "{log}");
}
