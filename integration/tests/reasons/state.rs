// SPDX-License-Identifier: Apache-2.0
//! What is wrong with what the daemon keeps: a disk that is full, files that are damaged, of another boot, of another instance.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use integration::node::Node;
use integration::pods::{self, Pod};

use crate::bed::Bed;

#[test]
fn a_disk_that_is_full() {
    let mut bed = Bed::new(1, "m5.large");
    let state = bed.node("n1").state_folder();
    bed.topology.world.small_disk(&state, 1 << 20).unwrap();
    bed.start("n1", &[]);
    assert!(fs::write(state.join("filler"), vec![0; 1 << 20]).is_err(), "the disk is full now");
    // What has room in the files needs none on the disk.
    bed.shows("n1", "StateNotDurable", Some(&bed.refused_with("n1", "StateNotDurable", 2_000)));
}

fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) {
    let before = fs::read_to_string(path).unwrap();
    let after = change(&before);
    assert_ne!(before, after, "{} is as it was: {before}", path.display());
    fs::write(path, after).unwrap();
}

fn two_pods(bed: &Bed) -> Vec<Pod> {
    pods::start(bed.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap()
}

fn unplug(node: &Node, pod: &Pod) {
    node.ip(&format!("link del {}\n", pod.added.host_veth)).unwrap();
}

#[test]
fn a_journal_and_a_tombstone_that_are_garbage() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[]);
    let _pods = two_pods(&bed);
    bed.restart("n1", |node| {
        let state = node.state_folder();
        for file in ["ipam.json", "enid.json"] {
            fs::write(state.join(file), "{").unwrap();
        }
        fs::create_dir_all(state.join(ipam_api::state::TOMBSTONES)).unwrap();
        fs::write(state.join(ipam_api::state::TOMBSTONES).join("0a1b.json"), "{").unwrap();
    });
    for code in ["JournalUnreadable", "AddressAdopted", "StateFileUnreadable"] {
        bed.shows("n1", code, None);
    }
}

#[test]
fn a_journal_of_another_boot_and_one_of_another_instance() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[]);
    let pods = two_pods(&bed);
    let boot = fs::read_to_string(ipam_api::state::BOOT_ID).unwrap().trim().to_owned();
    bed.restart("n1", |node| {
        unplug(node, &pods[0]);
        let other = "00000000-0000-4000-8000-000000000000";
        rewrite(&node.state_folder().join("enid.json"), |text| text.replace(&boot, other));
    });
    for code in ["JournalOfOtherBoot", "AllocationDropped"] {
        bed.shows("n1", code, None);
    }
    let instance = bed.topology.instance("n1").unwrap().id;
    let journal = bed.node("n1").state_folder().join("enid.json");
    bed.wait("n1", "the journal names the instance", || match fs::read_to_string(&journal) {
        Ok(text) if text.contains(&instance) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bed.restart("n1", |node| {
        rewrite(&node.state_folder().join("enid.json"), |text| text.replace(&instance, "i-00000000000000bad"));
    });
    bed.shows("n1", "StateOfOtherInstance", None);
}

#[test]
fn an_allocation_that_one_file_alone_has() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[]);
    let pods = two_pods(&bed);
    bed.restart("n1", |node| {
        unplug(node, &pods[0]);
        fs::remove_file(node.state_folder().join("ipam.json")).unwrap();
    });
    bed.shows("n1", "AllocationUnconfirmed", None);
}

/// What ends says its code in the last words that it has: the log on its standard output, or its complaint.
#[test]
fn a_daemon_that_cannot_start() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[]);
    let said = bed.node("n1").ask(&["run"]).unwrap_err().to_string();
    assert!(said.contains("\"code\":\"StartFailed\""), "{said}");
    bed.shows("n1", "StartFailed", None);
    bed.topology.node_mut("n1").set("WARM_IP_TARGET", "many");
    let said = bed.node("n1").ask(&["run"]).unwrap_err().to_string();
    assert!(said.contains("EnvironmentInvalid") && said.contains("WARM_IP_TARGET"), "{said}");
    bed.shows("n1", "EnvironmentInvalid", None);
}
