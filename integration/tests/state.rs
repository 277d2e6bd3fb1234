// SPDX-License-Identifier: Apache-2.0
//! The daemon's state: a disk that is full, files that are broken, files that are gone.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; breaks files"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};

#[test]
fn a_full_disk_refuses_adds_with_its_reason_lets_dels_through_and_heals() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let state = topology.node("n1").state_folder();
    topology.world.small_disk(&state, 1 << 20).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    let mut running = pods::start(n1, 3, 3, &AtomicUsize::new(0)).unwrap();

    let filler = state.join("filler");
    assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "the disk is full now");
    // The files have room for some pods more; when it is taken they have to be written anew.
    let (sandbox, error) = loop {
        let sandbox = n1.next_sandbox().unwrap();
        match n1.runtime.add(&sandbox) {
            Ok(added) => running.push(Pod { sandbox, added }),
            Err(error) => break (sandbox, error),
        }
        assert!(running.len() < 12, "the journal is on a full disk, and outgrows its room");
    };
    let refused = error.refusal().unwrap();
    assert_eq!(refused.code, 11, "{refused}");
    assert!(refused.to_string().contains("StateNotDurable"), "{refused}");
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    let victim = running.pop().unwrap();
    let took = n1.runtime.del(&victim.sandbox, NetnsPath::Given).unwrap();
    assert!(took < Duration::from_secs(2), "a DEL on a full disk took {took:?}");
    for pod in &running {
        pod.reached_from(&n1.netns).unwrap();
    }

    fs::remove_file(&filler).unwrap();
    let more = pods::start(n1, 2, 1, &AtomicUsize::new(0)).unwrap();
    let addresses: BTreeSet<_> = running.iter().chain(&more).map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), running.len() + 2);
    assert_eq!(n1.number("/pool/allocated").unwrap(), addresses.len() as u64);
}

/// Pods run, the daemon dies, `damage` happens to its state, it comes back: no living pod's address is given to another,
/// and living pods can be deleted.
fn survives_damage(damage: impl Fn(&Path)) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "0")]).unwrap();
    let living = pods::start(topology.node("n1"), 6, 3, &AtomicUsize::new(0)).unwrap();
    let n1 = topology.node_mut("n1");
    n1.kill();
    damage(&n1.state_folder());
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let more = pods::start(n1, 6, 3, &AtomicUsize::new(0)).unwrap();
    let addresses: BTreeSet<_> = living.iter().chain(&more).map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), 12, "a living pod's address was given to another");
    for pod in living.iter().chain(&more) {
        pod.reached_from(&n1.netns).unwrap();
    }
    pods::end(n1, living, 3).unwrap();
    pods::end(n1, more, 3).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
}

#[test]
fn living_pods_keep_their_addresses_when_the_journal_is_cut_off_in_the_middle() {
    survives_damage(|state| {
        for file in ["ipam.json", "enid.json"] {
            let bytes = fs::read(state.join(file)).unwrap();
            fs::write(state.join(file), &bytes[..bytes.len() / 2]).unwrap();
        }
    });
}

#[test]
fn living_pods_keep_their_addresses_when_the_journal_is_garbage() {
    survives_damage(|state| {
        for file in ["ipam.json", "enid.json"] {
            fs::write(state.join(file), [0xff, 0x00, b'{', 0x80]).unwrap();
        }
    });
}

#[test]
fn living_pods_keep_their_addresses_when_the_journal_is_empty() {
    survives_damage(|state| {
        for file in ["ipam.json", "enid.json"] {
            fs::write(state.join(file), "").unwrap();
        }
    });
}

#[test]
fn living_pods_keep_their_addresses_when_the_state_folder_was_emptied() {
    survives_damage(|state| {
        for file in ["ipam.json", "enid.json"] {
            fs::remove_file(state.join(file)).unwrap();
        }
    });
}
