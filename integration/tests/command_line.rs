// SPDX-License-Identifier: Apache-2.0
//! The command line on a node with the real daemon: what each command says, as text of whatever width and as JSON, and its exit codes;
//! that `check` finds what is planted, `why` explains a refusal, `events --follow` goes over a restart, and no secret is in a bundle.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads what was written, and runs a shell")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::Value;

/// An m5.large with one ENI, all its addresses here from the start.
const ONE_ENI: [(&str, &str); 3] = [("MAX_ENI", "1"), ("WARM_IP_TARGET", "3"), ("IP_COOLDOWN_PERIOD", "1")];
/// An ADD is young for 2 s.
const OLD: Duration = Duration::from_millis(2_200);

fn node_with_pods(settings: &[(&str, &str)], count: usize) -> (Topology, Vec<Pod>) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(settings).unwrap();
    let n1 = topology.node("n1");
    n1.wait_answers(READY).unwrap();
    let pods = pods::start(n1, count, 3, &AtomicUsize::new(0)).unwrap();
    (topology, pods)
}

/// Exit code, standard output and standard error.
fn said(node: &Node, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = node.said(arguments, variables).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(node: &Node, arguments: &[&str]) -> Value {
    let (code, text, errors) = said(node, &[arguments, &["-o", "json"]].concat(), &[]);
    assert_eq!(code, 0, "{arguments:?}: {text}{errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[test]
fn every_command_answers_in_text_that_fits_and_in_json() {
    let (topology, pods) = node_with_pods(&[("WARM_IP_TARGET", "2")], 3);
    let n1 = topology.node("n1");
    let (address, pod) = (pods[0].added.address.to_string(), format!("default/{}", pods[0].sandbox.name));
    let commands: [(&[&str], &str); 11] = [
        (&["status"], "pool"),
        (&["pods"], &address),
        (&["enis"], "Ready for"),
        (&["why", &pod], &address),
        (&["why", &address], &pod),
        (&["why", "no-address"], "a pod that comes now gets an address"),
        (&["events"], "added"),
        (&["config"], "WARM_IP_TARGET"),
        (&["limits"], "m5.large, Nitro"),
        (&["reasons", "NodeFull"], "do       "),
        (&["check"], "nothing differs"),
    ];
    for (arguments, part) in commands {
        let (code, text, errors) = said(n1, arguments, &[]);
        assert!(code == 0 && text.contains(part), "{arguments:?} {code}: {text}{errors}");
        for columns in ["60", "100"] {
            let (_, text, _) = said(n1, arguments, &[("COLUMNS", columns), ("LANG", "C.UTF-8")]);
            let most = columns.parse().unwrap();
            let long = text.lines().find(|line| line.chars().count() > most);
            assert_eq!(long, None, "{arguments:?} at {columns}: {text}");
        }
        if arguments != ["events"] {
            json(n1, arguments);
        }
    }
    assert_eq!(json(n1, &["pods", "--namespace", "default"]).as_array().unwrap().len(), 3);
    assert_eq!(json(n1, &["pods", "--namespace", "other"]).as_array().unwrap().len(), 0);
    assert_eq!(json(n1, &["enis"])["enis"][0]["deviceIndex"], 0);
    let (_, text, _) = said(n1, &["events", "-o", "json", "--pod", &pod], &[]);
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().any(|record| record["kind"] == "added" && record["address"] == address.as_str()), "{text}");
    let (_, bars, _) = said(n1, &["status"], &[("LANG", "C.UTF-8")]);
    assert!(bars.contains("███") && bars.contains("█ used"), "{bars}");
    let (_, bars, _) = said(n1, &["status"], &[("LANG", "C"), ("TERM", "xterm")]);
    assert!(bars.contains("###") && bars.is_ascii(), "no colours and no letters beyond ASCII: {bars}");
}

#[test]
fn wrong_words_are_64_and_what_cannot_be_done_is_1_and_both_say_what_to_do() {
    let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let n1 = topology.node("n1");
    for (arguments, code, part) in [
        (&["staus"][..], 64, "is it `status`?"),
        (&["status", "--frob"], 64, "ipamd status --help"),
        (&["why"], 64, "why needs WHAT"),
        (&["events", "--level", "loud"], 64, "debug, info, warn, error"),
        (&["reasons", "NodeFul"], 1, "is it `NodeFull`?"),
        (&["limits", "m5.larg"], 1, "is it m5.large"),
        (&["limits"], 1, "name a type"),
        (&["status"], 1, "enid.sock"),
        (&["status", "--address", "unix:/nonexistent"], 1, "/nonexistent"),
        (&["check"], 1, "AWS_VPC_K8S_CNI_BACKING_STORE"),
        (&["events", "--follow"], 1, "is ipamd running on this node?"),
        (&["probe", "live"], 1, "is ipamd running"),
    ] {
        let (found, text, errors) = said(n1, arguments, &[]);
        assert!(found == code && errors.contains(part), "{arguments:?} {found}: {text}{errors}");
    }
    for arguments in
        [&["--help"][..], &["help", "check"], &["status", "--help"], &["man"], &["limits", "--all"], &["version"]]
    {
        assert_eq!(said(n1, arguments, &[]).0, 0, "{arguments:?}");
    }
}

#[test]
fn a_shell_completes_commands_options_and_values() {
    let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let (_, script, _) = said(topology.node("n1"), &["completions", "bash"], &[]);
    let completed = |words: &[&str]| {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let ask = format!(
            "set -eu\n{script}\nCOMP_WORDS=(ipamd {line}) COMP_CWORD={}\n_ipamd\necho \"${{COMPREPLY[@]}}\"",
            words.len()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed(&["sta"]), "status");
    assert_eq!(completed(&["check", "--str"]), "--strict");
    assert_eq!(completed(&["events", "--level", "w"]), "warn");
    assert_eq!(completed(&["status", "-o", ""]), "json");
    assert_eq!(completed(&["reasons", "NodeFu"]), "NodeFull");
    assert!(completed(&["probe", ""]).starts_with("--help live ready"));
}

#[test]
fn why_tells_a_refused_pod_s_code_cause_and_what_to_do() {
    let (topology, pods) = node_with_pods(&ONE_ENI, 9);
    let n1 = topology.node("n1");
    let unlucky = n1.sandbox("unlucky").unwrap();
    n1.runtime.add(&unlucky).unwrap_err();
    let (_, remedy, _) = said(n1, &["reasons", "NodeFull", "-o", "json"], &[]);
    let remedy = serde_json::from_str::<Value>(&remedy).unwrap()["remedy"].as_str().unwrap().to_owned();
    for what in ["default/unlucky", "unlucky", "no-address"] {
        let (code, text, errors) = said(n1, &["why", what], &[]);
        assert!(code == 0 && text.contains("[NodeFull]") && text.contains(&remedy), "{what} {code}: {text}{errors}");
    }
    let answer = json(n1, &["why", "unlucky"]);
    let records = answer["records"].as_array().unwrap();
    assert!(records.iter().any(|record| record["kind"] == "refused" && record["code"] == "NodeFull"), "{answer}");
    assert_eq!(json(n1, &["why", "no-address"])["supply"]["code"], "NodeFull");
    let (_, status, _) = said(n1, &["status"], &[]);
    assert!(status.contains("reasons that hold now") && status.contains("NodeFull"), "{status}");
    let (code, _, errors) = said(n1, &["why", "never-was"], &[]);
    assert!(code == 1 && errors.contains("kubectl get pod"), "{errors}");
    drop(pods);
}

/// What `check` says: its exit code, and kind and object of each mismatch.
fn checked(node: &Node) -> (i32, Vec<(String, String)>) {
    let (code, text, errors) = said(node, &["check", "-o", "json"], &[]);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    let mismatches = answer["differences"].as_array().unwrap().iter().filter(|found| found["weight"] == "mismatch");
    let text = |found: &Value, name: &str| found[name].as_str().unwrap().to_owned();
    (code, mismatches.map(|found| (text(found, "kind"), text(found, "object"))).collect())
}

fn has(found: &[(String, String)], kind: &str, object: &str) -> bool {
    found.iter().any(|(of, about)| of == kind && about.contains(object))
}

#[test]
fn check_finds_what_is_planted_in_ec2_and_in_the_kernel_and_nothing_before_and_after() {
    let (topology, pods) = node_with_pods(&[("WARM_IP_TARGET", "2")], 3);
    let n1 = topology.node("n1");
    pass(OLD);
    assert_eq!(checked(n1), (0, Vec::new()));
    let eni = topology.enis("n1").unwrap().remove(0);

    // Somebody else's address on our ENI: known at the next read of EC2.
    let foreign = "10.0.1.250";
    let wanted = [("NetworkInterfaceId", eni.id.as_str()), ("PrivateIpAddress.1", foreign)];
    let assigned = topology.emulator.ec2("AssignPrivateIpAddresses", &wanted);
    assert_eq!(assigned.status, 200, "{}", assigned.body);
    let (code, found) = checked(n1);
    assert!(code == 1 && has(&found, "address-not-known", foreign), "{found:?}");
    let wanted = [("NetworkInterfaceId", eni.id.as_str()), ("PrivateIpAddress.1", foreign)];
    topology.emulator.ec2("UnassignPrivateIpAddresses", &wanted);

    // A pod's own address, taken away behind our back.
    let lost = pods[0].added.address.to_string();
    let wanted = [("NetworkInterfaceId", eni.id.as_str()), ("PrivateIpAddress.1", lost.as_str())];
    let unassigned = topology.emulator.ec2("UnassignPrivateIpAddresses", &wanted);
    assert_eq!(unassigned.status, 200, "{}", unassigned.body);
    let (code, found) = checked(n1);
    assert!(code == 1 && has(&found, "address-not-assigned", &lost), "{found:?}");
    let (_, text, _) = said(n1, &["check"], &[]);
    let line = text
        .lines()
        .find(|line| line.starts_with("DIFFERS") && line.contains(&lost))
        .unwrap_or_else(|| panic!("{text}"));
    for part in ["journal says it is of default/", "EC2 says it is not assigned", "; do: "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    topology.emulator.ec2("AssignPrivateIpAddresses", &wanted);

    // A pod's host veth is gone.
    n1.ip(&format!("link delete {}\n", pods[1].added.host_veth)).unwrap();
    let (code, found) = checked(n1);
    assert!(code == 1 && has(&found, "pod-without-veth", &pods[1].added.address.to_string()), "{found:?}");
    n1.runtime.del(&pods[1].sandbox, NetnsPath::Given).unwrap();

    n1.check().unwrap();
}

#[test]
fn without_a_daemon_check_reads_its_journal_and_finds_a_route_that_is_gone() {
    let (mut topology, pods) = node_with_pods(&[("WARM_IP_TARGET", "2"), ("ENID_LAYOUT", "flat")], 3);
    topology.node_mut("n1").kill();
    let n1 = topology.node("n1");
    pass(OLD);
    let (code, text, errors) = said(n1, &["check"], &[]);
    assert!(code == 1 && text.contains("no daemon runs") && text.contains("nothing differs"), "{code}: {text}{errors}");
    assert!(
        errors.lines().last().is_some_and(|last| last.starts_with("ipamd: no daemon runs on this node")),
        "{errors}"
    );
    let (code, text, errors) = said(n1, &["check", "--without-daemon"], &[]);
    assert!(code == 0 && text.contains("no daemon runs") && errors.is_empty(), "{code}: {text}{errors}");
    let (code, text, _) = said(n1, &["check", "-o", "json"], &[]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &answer["isConsistent"], &answer["isDaemonRunning"]),
        (1, &Value::Bool(false), &Value::Bool(false))
    );
    let address = pods[0].added.address;
    n1.ip(&format!("route delete {address}/32 table 158000\n")).unwrap();
    let (code, found) = checked(n1);
    assert!(code == 1 && has(&found, "pod-route", &address.to_string()), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
    // The daemon puts it back.
    topology.node_mut("n1").start().unwrap();
    let n1 = topology.node("n1");
    n1.wait_answers(READY).unwrap();
    n1.check().unwrap();
    pods[0].reached_from(&n1.netns).unwrap();
}

#[test]
fn a_check_without_ec2_says_so_and_is_only_strict_when_asked() {
    let (topology, _pods) = node_with_pods(&[("WARM_IP_TARGET", "2")], 2);
    let n1 = topology.node("n1");
    pass(OLD);
    let nowhere = [("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9")];
    let (code, text, errors) = said(n1, &["check"], &nowhere);
    assert!(code == 0 && text.contains("EC2      not compared: "), "{code}: {text}{errors}");
    assert!(text.contains("nothing differs among what was compared"), "{text}");
    let (code, text, errors) = said(n1, &["check", "--strict"], &nowhere);
    assert!(code == 1 && errors.contains("could not be compared"), "{code}: {text}{errors}");
    let (_, text, _) = said(n1, &["check", "--strict", "-o", "json"], &nowhere);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["isConsistent"], false, "{text}");
}

#[test]
fn events_are_followed_over_a_restart_of_the_daemon() {
    let (mut topology, _pods) = node_with_pods(&[("WARM_IP_TARGET", "3")], 1);
    let n1 = topology.node("n1");
    let (mut follower, log) = n1.begin(&["events", "--follow", "--level", "info"], "events.log").unwrap();
    let sees = |text: String| {
        let seen = eventually("the follower sees it", Duration::from_secs(20), || {
            let found = fs::read_to_string(&log).unwrap();
            if found.contains(&text) { Ok(()) } else { Err(found) }
        });
        seen.unwrap_or_else(|error| panic!("{text}: {error}"));
    };
    let second = pods::start(n1, 1, 1, &AtomicUsize::new(1)).unwrap().remove(0);
    sees(second.added.address.to_string());
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let n1 = topology.node("n1");
    let third = pods::start(n1, 1, 1, &AtomicUsize::new(2)).unwrap().remove(0);
    sees("the daemon was started anew".to_owned());
    sees(format!("default/{}", third.sandbox.name));
    sees(third.added.address.to_string());
    // All that the new daemon has told, from its first record on.
    let (_, told, _) = said(n1, &["events", "--level", "info"], &[]);
    told.lines().for_each(|line| sees(line.to_owned()));
    assert!(!follower.has_ended());
    follower.kill();
    // Each record once.
    let text = fs::read_to_string(&log).unwrap();
    let of_second = text.lines().filter(|line| line.contains(" added ") && line.contains(&second.sandbox.name)).count();
    assert_eq!(of_second, 1, "{text}");
}

/// Planted in the environment of the command, and of the node's files.
const SECRETS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "AKIAPLANTED000000001"),
    ("AWS_SECRET_ACCESS_KEY", "planted/secret+access/key"),
    ("AWS_SESSION_TOKEN", "planted-session-token"),
    ("HTTPS_PROXY", "http://user:planted-password@127.0.0.1:9"),
    ("DATABASE_PASSWORD", "planted-database-password"),
];

fn bundle(node: &Node, path: &Path) -> (String, Vec<u8>) {
    let (code, text, errors) = said(node, &["support-bundle", "--output", path.to_str().unwrap()], &SECRETS);
    assert_eq!(code, 0, "{text}{errors}");
    let bytes = fs::read(path).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut manifest = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("MANIFEST") {
            std::io::Read::read_to_string(&mut entry, &mut manifest).unwrap();
        }
    }
    for (name, secret) in SECRETS {
        let secret = secret.trim_start_matches("http://").split('@').next().unwrap();
        let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "the value of {name} is in the bundle");
    }
    assert!(!bytes.windows(7).any(|window| window == b"planted"), "something planted is in the bundle");
    (manifest, bytes)
}

#[test]
fn a_support_bundle_has_what_there_is_and_no_secret_with_and_without_a_daemon() {
    let (mut topology, _pods) = node_with_pods(&[("WARM_IP_TARGET", "2")], 2);
    let conf = topology.world.folder("net.d").unwrap();
    let list =
        r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"x","apiToken":"planted-token","note":"stays"}]}"#;
    fs::write(conf.join("99-x.conflist"), list).unwrap();
    fs::write(conf.join("x.kubeconfig"), "client-key-data: planted").unwrap();
    let n1 = topology.node_mut("n1");
    n1.set("HOST_CNI_CONFDIR_PATH", conf.to_str().unwrap());
    n1.set("AWS_VPC_K8S_PLUGIN_LOG_FILE", &n1.plugin_log().to_string_lossy());
    let n1 = topology.node("n1");
    let folder = topology.world.folder("bundles").unwrap();
    let (manifest, bytes) = bundle(n1, &folder.join("up.tar"));
    for part in [
        "daemon/status.json",
        "daemon/events.json",
        "daemon/metrics.txt",
        "check.json",
        "doctor.json",
        "plan-host.txt",
        "kernel/links.txt",
        "kernel/nft.txt",
        "files/ipam.json",
        "files/enid.json",
        "files/net.d/99-x.conflist",
        "logs/plugin.log",
        "environment.txt",
        "versions.txt",
    ] {
        let line = manifest
            .lines()
            .find(|line| line.starts_with(&format!("{part}: ")))
            .unwrap_or_else(|| panic!("{part}: {manifest}"));
        assert!(line.ends_with(" bytes") && !line.ends_with(": 0 bytes"), "{line}");
    }
    assert!(
        bytes.windows(5).any(|window| window == b"stays") && manifest.contains("x.kubeconfig: not had"),
        "{manifest}"
    );
    let (code, _, errors) = said(n1, &["support-bundle", "-o", folder.join("up.tar").to_str().unwrap()], &[]);
    assert!(code == 1 && errors.contains("--output"), "never over another file: {errors}");
    // The daemon is down, and its settings have a mistake besides.
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.set("MAX_ENI", "none");
    let (manifest, _) = bundle(topology.node("n1"), &folder.join("down.tar"));
    assert!(manifest.contains("daemon/status.json: not had: no daemon answers"), "{manifest}");
    for part in ["configuration-mistakes.txt", "kernel/routes.txt", "files/ipam.json"] {
        assert!(manifest.contains(&format!("{part}: ")), "{part}: {manifest}");
    }
}
