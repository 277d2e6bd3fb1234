// SPDX-License-Identifier: Apache-2.0
//! The pages' `ipamd` commands that ask the daemon, on an emulated node with a pod: each is answered. And the files that they say are
//! there, with the modes that they say.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use integration::eventually::pass;
use integration::node::{Node, NodeError};
use integration::process::tail;
use integration::sandbox::{Added, NetnsPath, Sandbox};
use integration::topology::{READY, Topology, TopologySpec};

use crate::commands::{Kind, arguments, kind, shown};
use crate::markdown::root;

/// How long a command that follows must go on until it is believed.
const FOLLOWED: Duration = Duration::from_secs(1);

/// A node with a pod.
fn started() -> (Topology, Sandbox, Added) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let node = topology.node("n1");
    node.wait_ready(READY).unwrap();
    let sandbox = node.next_sandbox().unwrap();
    let added = node.runtime.add(&sandbox).unwrap();
    (topology, sandbox, added)
}

#[test]
fn every_command_that_asks_the_daemon_is_answered() {
    let (topology, sandbox, added) = started();
    let node = topology.node("n1");
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.tar").display().to_string();
    let stands_for = |word: &str| match word {
        "NAMESPACE/POD" => format!("{}/{}", sandbox.namespace, sandbox.name),
        "NAMESPACE" => sandbox.namespace.clone(),
        "POD" => sandbox.name.clone(),
        "ADDRESS" => added.address.to_string(),
        "bundle.tar" => bundle.clone(),
        word => word.to_owned(),
    };
    let (mut faults, mut count) = (Vec::new(), 0);
    for shown in shown() {
        let Some(words) = arguments(&shown.command) else { continue };
        if kind(&words) != Kind::OnNode {
            continue;
        }
        count += 1;
        let words: Vec<String> = words.iter().map(|word| stands_for(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let fault = if words.contains(&"--follow") {
            followed(node, &words)
        } else {
            // The error has the daemon's log behind it.
            let first = |error: NodeError| error.to_string().lines().next().unwrap_or_default().to_owned();
            node.ask(&words).map(|_| ()).map_err(first)
        };
        if let Err(fault) = fault {
            faults.push(format!("{}: {fault}", shown.place));
        }
    }
    println!("{count} commands were asked of the daemon");
    assert!(count > 10 && faults.is_empty(), "{count} asked:\n{}", faults.join("\n"));
    node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
}

/// A command that follows goes on, until it is ended.
fn followed(node: &Node, words: &[&str]) -> Result<(), String> {
    let (mut running, log) = node.begin(words, "followed.log").map_err(|error| error.to_string())?;
    pass(FOLLOWED);
    if running.has_ended() {
        return Err(format!("ipamd {}: {}", words.join(" "), tail(&log, 5)));
    }
    running.kill();
    Ok(())
}

#[test]
fn the_files_of_the_state_folder_are_those_that_the_pages_name_and_roots_alone() {
    let (topology, sandbox, _) = started();
    let node = topology.node("n1");
    node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(node.state_folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(page.contains(&format!("`/var/run/aws-node/{name}")), "docs/operations.md does not name {name}");
        let found = entry.metadata().unwrap();
        let is_ours = found.file_type().is_socket() || name.ends_with(".json") || name.ends_with(".json.tmp");
        let mode = found.permissions().mode() & 0o777;
        assert!(!is_ours || mode == 0o600, "{name} has mode {mode:o}");
        names.push(name);
    }
    for name in ["ipam.json", "enid.json", "ipamd.sock", "enid.sock", "ready", "ipamd.lock"] {
        assert!(names.iter().any(|it| it == name), "no {name} in {names:?}");
    }
}
