// SPDX-License-Identifier: Apache-2.0
//! Settings of the node as they were before us: kept before they are changed, put back when nobody needs or chose otherwise.
#![expect(clippy::disallowed_methods, reason = "the ledger is a file, and the daemon's container is made by hand")]

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::host::{node, setup};
use crate::apply::eni;
use crate::apply::host::setup_with;
use crate::apply::ledger::Ledger;
use crate::apply::testbed::Space;
use crate::plan::eni::EniSetup;
use crate::plan::host::HostSetup;
use crate::plan::ids::Place;

const BOOT: &str = "this-boot";
/// The settings, as a distribution may have them, and as we need them.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("ipv4/ip_forward", "0", "1"),
    ("ipv4/conf/all/accept_redirects", "0", "0"),
    ("ipv4/tcp_early_demux", "1", "0"),
    ("ipv4/conf/eth0/rp_filter", "1", "2"),
];

struct Bed {
    node: Space,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self { node: node(), folder: tempfile::tempdir().unwrap() };
        SETTINGS.iter().for_each(|(path, before, _)| bed.node.sysctl(path, before));
        bed
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("settings")
    }

    /// As a daemon has it that has just been started.
    fn ledger(&self) -> Ledger {
        Ledger::open(&self.path(), BOOT).unwrap()
    }

    fn set_up(&self) {
        setup_with(&without_early_demux(), &mut self.ledger()).unwrap();
    }

    fn values(&self) -> [String; 4] {
        SETTINGS.map(|(path, ..)| self.node.sysctl_value(path))
    }

    fn put_back(&self, has_pods: bool) -> String {
        let told = self.ledger().put_back(has_pods).0;
        told.iter().map(|judged| format!("{judged}\n")).collect()
    }
}

fn without_early_demux() -> HostSetup {
    HostSetup { disables_early_demux: true, ..setup() }
}

#[test]
fn what_was_found_is_kept_and_put_back_when_no_pod_needs_it() {
    let bed = Bed::new();
    bed.set_up();
    let ours = SETTINGS.map(|(.., ours)| ours.to_owned());
    assert_eq!(bed.values(), ours);
    let kept = fs::read_to_string(bed.path()).unwrap();
    assert_eq!(kept.lines().count(), 5, "{kept}");
    bed.set_up();
    assert_eq!(fs::read_to_string(bed.path()).unwrap(), kept, "a restart finds ours, and keeps what was before");
    let told = bed.put_back(true);
    assert_eq!((bed.values(), fs::read_to_string(bed.path()).unwrap()), (ours, kept));
    assert_eq!(told.matches("which is still needed").count(), 4, "{told}");
    let told = bed.put_back(false);
    assert_eq!(bed.values(), SETTINGS.map(|(_, before, _)| before.to_owned()), "{told}");
    assert!(told.contains("put back: net.ipv4.ip_forward=0, as it was found; we had made it 1\n"), "{told}");
    assert!(!bed.path().exists());
    assert_eq!(bed.put_back(false), "", "again");
}

#[test]
fn what_somebody_else_chose_after_us_stays() {
    let bed = Bed::new();
    bed.set_up();
    bed.node.sysctl("ipv4/tcp_early_demux", "1");
    bed.node.sysctl("ipv4/conf/eth0/rp_filter", "0");
    let told = bed.put_back(false);
    assert_eq!(bed.values(), ["0", "0", "1", "0"]);
    assert!(told.contains("rp_filter@02:00:0a:00:00:0a=0, somebody else's choice; it was found 1"), "{told}");
    assert!(told.contains("left: net.ipv4.tcp_early_demux=1, as it was found\n"), "{told}");
}

#[test]
fn the_first_value_found_in_a_boot_is_the_one_that_is_put_back() {
    let bed = Bed::new();
    bed.set_up();
    bed.node.sysctl("ipv4/conf/eth0/rp_filter", "0");
    bed.set_up();
    assert_eq!(bed.values()[3], "2");
    bed.put_back(false);
    assert_eq!(bed.values()[3], "1");
}

#[test]
fn a_refused_write_forgets_no_earlier_value() {
    let bed = Bed::new();
    bed.set_up();
    bed.node.sysctl("ipv4/ip_forward", "0");
    in_a_container(|| setup_with(&without_early_demux(), &mut bed.ledger()).unwrap_err());
    bed.node.sysctl("ipv4/tcp_early_demux", "1");
    in_a_container(|| setup_with(&without_early_demux(), &mut bed.ledger()).unwrap_err());
    bed.set_up();
    bed.put_back(false);
    assert_eq!(bed.values(), SETTINGS.map(|(_, before, _)| before.to_owned()));
}

#[test]
fn what_was_kept_in_another_boot_means_nothing() {
    let bed = Bed::new();
    bed.set_up();
    let mut next = Ledger::open(&bed.path(), "next-boot").unwrap();
    assert!(next.put_back(false).0.is_empty());
    assert_eq!(bed.values(), SETTINGS.map(|(.., ours)| ours.to_owned()));
    bed.node.sysctl("ipv4/ip_forward", "0");
    setup_with(&without_early_demux(), &mut next).unwrap();
    let kept = fs::read_to_string(bed.path()).unwrap();
    assert!(kept.starts_with("boot next-boot\n") && !kept.contains("rp_filter"), "{kept}");
}

#[test]
fn early_demux_is_left_alone_until_it_is_asked_off_and_comes_back_when_it_is_not_any_more() {
    let bed = Bed::new();
    let mut ledger = bed.ledger();
    let early_demux = || bed.values()[2].clone();
    for value in ["0", "1"] {
        bed.node.sysctl("ipv4/tcp_early_demux", value);
        setup_with(&setup(), &mut ledger).unwrap();
        assert_eq!(early_demux(), value, "nobody asked");
    }
    setup_with(&without_early_demux(), &mut ledger).unwrap();
    assert_eq!(early_demux(), "0");
    setup_with(&setup(), &mut bed.ledger()).unwrap();
    assert_eq!(early_demux(), "1");
    bed.node.sysctl("ipv4/tcp_early_demux", "0");
    setup_with(&setup(), &mut bed.ledger()).unwrap();
    assert_eq!(early_demux(), "0", "it is somebody else's now");
}

#[test]
fn the_primary_eni_set_up_by_itself_is_kept_too_and_another_is_not() {
    let bed = Bed::new();
    let primary = setup().primary_eni();
    eni::setup_with(&primary, &mut bed.ledger()).unwrap();
    assert_eq!(bed.values()[3], "2");
    let kept = fs::read_to_string(bed.path()).unwrap();
    assert_eq!(kept, format!("boot {BOOT}\nrp_filter@02:00:0a:00:00:0a found 1 written 2\n"));
    bed.put_back(false);
    assert_eq!(bed.values()[3], "1");
    let secondary = EniSetup { place: Place::new(0, 1).unwrap(), ..primary };
    eni::setup_with(&secondary, &mut bed.ledger()).unwrap();
    assert_eq!(bed.values()[3], "2");
    assert!(!bed.path().exists());
}

#[test]
fn what_cannot_be_kept_is_not_changed() {
    let bed = Bed::new();
    let nowhere = bed.folder.path().join("no-such-folder/settings");
    let error = setup_with(&setup(), &mut Ledger::open(&nowhere, BOOT).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("writing ") && error.to_string().contains("no-such-folder"), "{error}");
    assert_eq!(bed.values(), SETTINGS.map(|(_, before, _)| before.to_owned()));
}

#[test]
fn a_damaged_file_names_itself_and_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings");
    fs::write(&path, "boot this-boot\nnet.ipv4.ip_forward found").unwrap();
    let error = Ledger::open(&path, BOOT).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{} is damaged", path.display())), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("line 2 "), "{error:?}");
}

/// Runs `f` where /proc/sys is read-only, as in a container that is not privileged.
fn in_a_container<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            make_settings_read_only();
            f()
        });
        inside.join().unwrap()
    })
}

#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn make_settings_read_only() {
    // SAFETY: no CLONE_FILES, so no descriptor table is split.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount_bind("/proc/sys", "/proc/sys").unwrap();
    mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
}

#[test]
fn where_settings_are_read_only_the_error_says_what_to_run_on_the_node_and_what_is_made_there_is_not_ours() {
    let bed = Bed::new();
    let error = in_a_container(|| setup_with(&without_early_demux(), &mut bed.ledger()).unwrap_err());
    assert_eq!(
        error.to_string(),
        "net.ipv4.ip_forward is 0, must be 1, and cannot be written from here: run `sysctl -w net.ipv4.ip_forward=1` on \
         the node"
    );
    assert!(!bed.path().exists(), "nothing was changed");
    // Its administrator does so.
    bed.node.sysctl("ipv4/ip_forward", "1");
    let set_up = || setup_with(&without_early_demux(), &mut bed.ledger()).unwrap();
    let written = in_a_container(set_up).to_string();
    assert!(written.contains("rp_filter") && !written.contains("early_demux"), "{written}");
    assert!(in_a_container(set_up).is_empty(), "nor is it counted as put right, look by look");
    assert_eq!(
        bed.values()[2],
        "1",
        "and for what cannot be had, but is nothing that pods wait for, the node is set up all the same"
    );
    bed.node.sysctl("ipv4/tcp_early_demux", "0");
    in_a_container(|| bed.set_up());
    assert_eq!(bed.values()[3], "2", "by netlink");
    let told = in_a_container(|| bed.put_back(false));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!((bed.values()[0].as_str(), bed.values()[3].as_str()), ("1", "1"));
}
