// SPDX-License-Identifier: Apache-2.0
//! The node's files and neighbours: state folder, plugin, the runtime's folder of lists, who holds the plugin's socket, and programs
//! that configure networks too.

#![expect(clippy::disallowed_methods, reason = "looks at files, and at whether a folder can be written")]

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ipamd_core::Config;
use ipamd_core::conflist::{self, PLUGIN};

use super::super::plugin;
use super::Finding;
use crate::edge::host::state_folder;
use crate::edge::lock::InstanceLock;
use crate::edge::{conflist as edge, place};
use crate::telemetry::chain;

/// TMPFS_MAGIC (statfs(2)).
const TMPFS: u64 = 0x0102_1994;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![state(state_folder(config))];
    findings.push(installed(&plugin::folder(config.cni.bin_folder.as_deref()).join(PLUGIN)));
    findings.extend(config.cni.conf_folder.as_deref().into_iter().flat_map(|folder| lists(folder, config)));
    findings.push(daemon(config));
    findings.extend(managers(Path::new("/")));
    findings
}

/// Whether files can be made in a folder, or the folder itself.
fn writable(folder: &Path) -> Result<(), String> {
    let nearest = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let probe = nearest.join(format!(".enid-doctor-{}", std::process::id()));
    let tried = fs::File::create(&probe).and_then(|_| fs::remove_file(&probe));
    tried.map_err(|error| format!("{} cannot be written: {error}", nearest.display()))
}

fn state(folder: &Path) -> Finding {
    const CHECK: &str = "state folder";
    let shown = folder.display();
    if let Err(why) = writable(folder) {
        return Finding::fail(
            CHECK,
            why,
            format!("mount {shown} writable, or name another journal (AWS_VPC_K8S_CNI_BACKING_STORE)"),
        );
    }
    let nearest = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let is_tmpfs = rustix::fs::statfs(nearest).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS));
    if is_tmpfs {
        Finding::ok(CHECK, format!("{shown} is writable and in memory"))
    } else {
        let found = format!("{shown} is on a disk: each ADD waits for its writes");
        Finding::warn(CHECK, found, "a folder on a tmpfs, such as below /run: nothing in it needs to survive a boot")
    }
}

fn installed(path: &Path) -> Finding {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let (check, shown) = ("plugin", path.display());
    let install = "run `ipamd install`";
    match place::read(path) {
        Ok(None) => match writable(path.parent().unwrap_or(path)) {
            Ok(()) => Finding::ok(check, format!("{shown} is not there yet: `ipamd install` puts it there")),
            Err(why) => Finding::fail(
                check,
                why,
                "name a folder that the runtime looks into, and that can be written (HOST_CNI_BIN_PATH)",
            ),
        },
        Ok(Some(bytes)) => match plugin::version(&bytes) {
            Some(version) if version == OURS => {
                Finding::ok(check, format!("{shown} is of version {version}, as the daemon"))
            }
            Some(version) => {
                Finding::warn(check, format!("{shown} is of version {version}, the daemon of {OURS}"), install)
            }
            None => {
                Finding::warn(check, format!("{shown} is another program, such as amazon-vpc-cni-k8s' plugin"), install)
            }
        },
        Err(error) => Finding::fail(check, chain(&error), install),
    }
}

fn lists(folder: &Path, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "conflist";
    let shown = folder.display();
    if !folder.is_dir() {
        return vec![Finding::warn(CHECK, format!("{shown} is not there"), "make it: the daemon waits for it")];
    }
    if let Err(why) = writable(folder) {
        return vec![Finding::fail(
            CHECK,
            why,
            format!("mount {shown} writable for the daemon, which writes {} into it", conflist::NAME),
        )];
    }
    let before = edge::before_ours(folder);
    let mut findings: Vec<Finding> = before
        .iter()
        .map(|name| {
            Finding::warn(
                CHECK,
                format!("{} comes before {}", folder.join(name).display(), conflist::NAME),
                edge::shadowed(folder, name),
            )
        })
        .collect();
    let wanted = match edge::wanted(config) {
        Ok(wanted) => wanted,
        Err(error) => {
            let todo = "mend the template, or take ENID_CONFLIST_TEMPLATE away: until then the daemon writes no list";
            findings.push(Finding::fail(CHECK, chain(&error), todo));
            return findings;
        }
    };
    let path = folder.join(conflist::NAME);
    let found = place::read(&path).ok().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let merged = found.map(|text| conflist::merged(&wanted, &text));
    match merged {
        Some(Err(reason)) => {
            let found = format!("{} is no list of {PLUGIN}: {reason}", path.display());
            findings.push(Finding::warn(CHECK, found, "nothing: the daemon sets it aside and writes its own"));
        }
        Some(Ok(merged)) if !merged.others.is_empty() => {
            let others = merged.others.join(", ");
            findings.push(Finding::ok(CHECK, format!("{} has {others} besides ours, and keeps them", path.display())));
        }
        Some(Ok(_)) | None if before.is_empty() => {
            findings.push(Finding::ok(CHECK, format!("{shown} is writable, and nothing in it comes before ours")));
        }
        Some(Ok(_)) | None => {}
    }
    findings
}

/// Who answers at the plugin's socket.
fn daemon(config: &Config) -> Finding {
    const CHECK: &str = "daemon";
    let socket = config.socket.display();
    match UnixStream::connect(&config.socket) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            Finding::ok(CHECK, format!("nobody listens at {socket}: the place is free"))
        }
        Err(error) => Finding::warn(CHECK, format!("{socket}: {error}"), "look who has it"),
        Ok(_) if InstanceLock::of_no_daemon(state_folder(config)).is_err() => {
            Finding::ok(CHECK, format!("ipamd runs and listens at {socket}"))
        }
        Ok(_) => {
            let todo =
                "stop it first (on EKS: replace the DaemonSet aws-node); Enid takes over its pods and its journal";
            Finding::fail(CHECK, format!("another daemon listens at {socket}, such as amazon-vpc-cni-k8s"), todo)
        }
    }
}

/// A program that configures networks too, by its state in /run while it runs, the folders of its configuration, and what our
/// file there says.
const MANAGERS: [(&str, &str, &[&str], &str, &str); 2] = [
    (
        "systemd-networkd",
        "run/systemd/netif/state",
        &["etc/systemd/networkd.conf.d", "run/systemd/networkd.conf.d", "usr/lib/systemd/networkd.conf.d"],
        "ManageForeignRoutingPolicyRules=no",
        "deploy/systemd-networkd/90-enid.conf",
    ),
    (
        "NetworkManager",
        "run/NetworkManager/NetworkManager.pid",
        &["etc/NetworkManager/conf.d", "run/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d"],
        "unmanaged-devices",
        "deploy/NetworkManager/90-enid.conf",
    ),
];

fn managers(root: &Path) -> Vec<Finding> {
    const CHECK: &str = "network managers";
    let mut findings = Vec::new();
    for (name, state, folders, says, ours) in MANAGERS {
        if !root.join(state).exists() {
            continue;
        }
        let is_told = folders.iter().any(|folder| any_file_says(&root.join(folder), says));
        findings.push(if is_told {
            Finding::ok(CHECK, format!("{name} runs, and is told to leave alone what is not its own"))
        } else {
            let found =
                format!("{name} runs, and is not told what is Enid's: it may take rules, routes and addresses away");
            Finding::warn(
                CHECK,
                found,
                format!("install {ours} (README, \"Beside systemd-networkd and NetworkManager\")"),
            )
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "neither systemd-networkd nor NetworkManager runs"));
    }
    findings
}

fn any_file_says(folder: &Path, says: &str) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files = files.filter(|path: &PathBuf| path.extension().is_some_and(|end| end == "conf"));
    files.any(|path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(says))))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_network_manager_that_is_not_told_is_named_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(managers(root.path())[0].level, Level::Ok);
        for (name, state, folders, _, ours) in MANAGERS {
            let state = root.path().join(state);
            fs::create_dir_all(state.parent().unwrap()).unwrap();
            fs::write(state, "").unwrap();
            let finding = managers(root.path()).into_iter().find(|finding| finding.found.contains(name)).unwrap();
            assert_eq!(finding.level, Level::Warn);
            assert!(finding.todo.unwrap().contains(ours));
            let folder = root.path().join(folders[0]);
            fs::create_dir_all(&folder).unwrap();
            let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(ours);
            fs::copy(shipped, folder.join("90-enid.conf")).unwrap();
            let finding = managers(root.path()).into_iter().find(|finding| finding.found.contains(name)).unwrap();
            assert_eq!(finding.level, Level::Ok, "{}", finding.found);
        }
    }

    #[test]
    fn a_plugin_that_is_not_ours_or_of_another_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PLUGIN);
        assert_eq!(installed(&path).level, Level::Ok);
        let line = |version: &str| format!("\0aws-cni of Enid, version {version}\n\0");
        for (text, level) in [
            ("reference".to_owned(), Level::Warn),
            (line("0.0.1"), Level::Warn),
            (line(env!("CARGO_PKG_VERSION")), Level::Ok),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(installed(&path).level, level);
        }
    }
}
