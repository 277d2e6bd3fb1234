// SPDX-License-Identifier: Apache-2.0
//! The real process on a node where nothing answers: no IMDS, no EC2, no links but `lo`. What must work then: the socket,
//! refusals with reasons, DELs, the journal's safety, start and stop.
//!
//! Every test has a network namespace and a state folder of its own and needs the right to make the former.

#![expect(clippy::disallowed_methods, reason = "starts the daemon, waits for it, and looks at its files")]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use ipam_api::Client;
use ipam_api::rpc::{AddNetworkReply, AddNetworkRequest, DelNetworkRequest};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::Value;

/// Longest wait for something that should be quick.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the test's thread, and what it starts, into a network namespace of its own.
#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn own_network() {
    // SAFETY: no CLONE_FILES, so no descriptor table is split.
    let result = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    result.expect("making a network namespace (these tests need root or `unshare -Urn`)");
}

/// A node's state folder; outlives the daemons that use it.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        own_network();
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipamd"));
        command
            .args(arguments)
            .env_clear()
            .env("AWS_VPC_K8S_CNI_BACKING_STORE", self.path("ipam.json"))
            .env("ENID_SOCKET", self.path("ipamd.sock"))
            .env("INTROSPECTION_BIND_ADDRESS", format!("unix:{}", self.path("introspection.sock").display()))
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
            .env("AWS_VPC_K8S_CNI_LOGLEVEL", "debug");
        command
    }

    /// Starts a daemon and waits until its socket answers.
    fn start(&self) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Daemon { child };
        let reply = self.client().del_network(del("nobody"), PATIENCE);
        assert!(reply.is_ok(), "{reply:?}\n{}", self.log());
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        Client::new(self.path("ipamd.sock"))
    }

    fn add(&self, container: &str, budget: Duration) -> AddNetworkReply {
        let request = AddNetworkRequest {
            container_id: container.to_owned(),
            if_name: "eth0".to_owned(),
            network_name: "aws-cni".to_owned(),
            ..AddNetworkRequest::default()
        };
        self.client().add_network(request, budget).unwrap()
    }

    fn status(&self) -> Value {
        let output = self.command(&["status", "-o", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As a person reads it.
    fn shown(&self) -> String {
        String::from_utf8(self.command(&["status"]).output().unwrap().stdout).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn del(container: &str) -> DelNetworkRequest {
    DelNetworkRequest {
        container_id: container.to_owned(),
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        ..DelNetworkRequest::default()
    }
}

/// Ends with the test.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn without_imds_it_serves_refuses_with_a_reason_inside_the_budget_and_shows_why() {
    let node = Node::new();
    let _daemon = node.start();
    assert_eq!(mode(&node.path("ipamd.sock")), 0o600);
    let started = Instant::now();
    let reply = node.add("c1", Duration::from_secs(2));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let refusal = reply.refusal.unwrap();
    assert!(!reply.success && refusal.code == "ImdsUnavailable", "{refusal:?}");
    let status = node.status();
    assert_eq!(status["serving"], false);
    let table = text(&node.command(&["status"]).output().unwrap());
    assert!(table.contains("serving  not yet") && table.contains("why "), "{table}");
    assert!(!node.path("ready").exists());
}

#[test]
fn sigterm_sends_who_waits_to_the_next_daemon_writes_the_journal_and_exits_with_0() {
    let node = Node::new();
    let daemon = node.start();
    let one_waits = || node.status()["waiters"].as_array().is_some_and(|waiters| waiters.len() == 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            node.client().add_network(
                AddNetworkRequest {
                    container_id: "c1".to_owned(),
                    if_name: "eth0".to_owned(),
                    network_name: "aws-cni".to_owned(),
                    ..AddNetworkRequest::default()
                },
                Duration::from_secs(8),
            )
        });
        eventually("the ADD waits", one_waits);
        let started = Instant::now();
        assert_eq!(daemon.end(Signal::TERM).code(), Some(0), "{}", node.log());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let next = node.start();
        eventually("the same ADD waits at the next daemon", one_waits);
        let reply = waiting.join().unwrap().unwrap();
        assert_ne!(reply.refusal.unwrap().code, "Stopping", "the next daemon has the word");
        assert_eq!(next.end(Signal::TERM).code(), Some(0));
    });
    let names = node.names();
    assert!(names.contains(&"enid.json".to_owned()) && names.contains(&"ipam.json".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    let journal = fs::read_to_string(node.path("ipam.json")).unwrap();
    assert!(journal.contains("vpc-cni-ipam/1"), "{journal}");
}

#[test]
fn after_kill_9_the_stale_socket_is_replaced() {
    let node = Node::new();
    let daemon = node.start();
    daemon.end(Signal::KILL);
    assert!(node.path("ipamd.sock").exists());
    let _daemon = node.start();
    assert!(node.client().del_network(del("c1"), Duration::from_secs(2)).unwrap().success);
}

#[test]
fn a_second_daemon_gives_up_and_the_first_goes_on() {
    let node = Node::new();
    let _daemon = node.start();
    let second = node.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("another ipamd holds"), "{}", text(&second));
    assert!(node.client().del_network(del("c1"), Duration::from_secs(2)).unwrap().success);
}

#[test]
fn a_corrupt_journal_is_set_aside_and_the_node_comes_up() {
    let node = Node::new();
    fs::write(node.path("ipam.json"), "{\"version\":").unwrap();
    fs::write(node.path("enid.json"), "not json").unwrap();
    let _daemon = node.start();
    let aside: Vec<_> = node.names().into_iter().filter(|name| name.contains(".corrupt-")).collect();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(node.log().contains("was set aside"), "{}", node.log());
}

#[test]
fn a_tombstone_is_worked_off_and_goes() {
    let node = Node::new();
    fs::create_dir(node.path("tombstones")).unwrap();
    let file = node.path("tombstones/ab.json");
    fs::write(&file, r#"{"network":"aws-cni","containerID":"c9","ifName":"eth0","at":1}"#).unwrap();
    let _daemon = node.start();
    eventually("the tombstone goes", || !file.exists());
}

#[test]
fn with_a_state_folder_that_cannot_be_written_adds_are_refused_and_dels_succeed() {
    let node = Node::new();
    // A folder in the place of the temporary file: every write of the journal fails.
    fs::create_dir(node.path("enid.json.tmp")).unwrap();
    let _daemon = node.start();
    let reply = node.add("c1", Duration::from_secs(2));
    let code = reply.refusal.unwrap().code;
    assert!(!reply.success && ["StateNotDurable", "ImdsUnavailable"].contains(&code.as_str()), "{code}");
    assert!(node.client().del_network(del("c1"), Duration::from_secs(2)).unwrap().success);
}

#[test]
fn all_mistakes_of_the_environment_are_listed_and_the_exit_code_is_64() {
    let node = Node::new();
    let output = node
        .command(&["run"])
        .env("WARM_ENI_TARGET", "many")
        .env("AWS_VPC_ENI_MTU", "12")
        .env("ENABLE_IPv6", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    for name in ["WARM_ENI_TARGET", "AWS_VPC_ENI_MTU", "ENABLE_IPv6"] {
        assert!(text(&output).contains(name), "{name}: {}", text(&output));
    }
}

#[test]
fn status_without_a_daemon_says_so() {
    let node = Node::new();
    let output = node.command(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("is ipamd running on this node?"), "{}", text(&output));
}

#[test]
fn cleanup_under_a_running_daemon_is_refused_and_names_the_lock() {
    let node = Node::new();
    let daemon = node.start();
    let output = node.command(&["cleanup-host"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("ipamd.lock: stop it first"), "{complaint}");
    drop(daemon);
    assert!(node.command(&["cleanup-host"]).output().unwrap().status.success());
}

#[test]
fn cleanup_of_a_clean_host_succeeds_even_with_a_wrong_environment() {
    let node = Node::new();
    let output = node.command(&["cleanup-host"]).env("WARM_ENI_TARGET", "many").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_the_start_noted_of_settings_is_in_the_status() {
    let node = Node::new();
    let log = fs::File::create(node.path("log")).unwrap();
    let mut command = node.command(&["run"]);
    command.env("ENABLE_NFTABLES", "false").stdout(Stdio::null()).stderr(log);
    let daemon = Daemon { child: command.spawn().unwrap() };
    assert!(node.client().del_network(del("nobody"), PATIENCE).is_ok(), "{}", node.log());
    let notes = node.status()["notes"].clone();
    let [note] = notes.as_array().unwrap().as_slice() else { panic!("{notes}") };
    assert!(note.as_str().unwrap().starts_with("ENABLE_NFTABLES: "), "{note}");
    let shown = node.shown();
    assert!(shown.contains("settings and files that need a look") && shown.contains("ENABLE_NFTABLES"), "{shown}");
    drop(daemon);
}
