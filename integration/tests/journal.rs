// SPDX-License-Identifier: Apache-2.0
//! Journals that the daemon did not leave like that: torn, of another version, the reference's, of another boot, on a full disk.
//!
//! Invariants: it starts; it tells, in its log and in its status; what a living pod has is never given to another, since the
//! kernel or EC2 is asked where the journal is silent; living pods can be deleted.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; changes files and measures"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::{Value, json};

const LIVING: usize = 5;

fn bench(cooldown: &str) -> (Topology, Vec<Pod>) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", cooldown)]).unwrap();
    let living = pods::start(topology.node("n1"), LIVING, 3, &AtomicUsize::new(0)).unwrap();
    (topology, living)
}

fn addresses(pods: &[Pod]) -> BTreeSet<Ipv4Addr> {
    pods.iter().map(|pod| pod.added.address).collect()
}

fn restart(node: &mut Node, damage: impl FnOnce(&Node)) {
    node.kill();
    damage(node);
    node.start().unwrap();
    node.wait_ready(READY).unwrap();
    // STATUS does not flap: it succeeds while the daemon of a node that was ready before is away for a moment.
    let answers = || node.status().map(drop).map_err(|error| error.to_string());
    eventually("the daemon answers", READY, answers).unwrap();
}

/// What the daemon says of the journal it found, in the status; the log has the same words.
fn told(node: &Node) -> Vec<String> {
    let status = node.status().unwrap();
    let lines = status["journal"].as_array().cloned().unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
    let log = fs::read_to_string(node.log()).unwrap();
    for line in &lines {
        let logged = serde_json::to_string(line).unwrap();
        assert!(log.contains(&logged), "the status says {line}, the log does not");
    }
    lines
}

fn assert_told(node: &Node, parts: &[&str]) {
    let lines = told(node);
    for part in parts {
        assert!(lines.iter().any(|line| line.contains(part)), "nothing of {part:?} in {lines:?}");
    }
}

/// New pods get addresses that the living ones do not have, and these are still reached.
fn more_pods_disturb_nobody(node: &Node, living: &[Pod], count: usize) {
    let more = pods::start(node, count, 2, &AtomicUsize::new(0)).unwrap();
    assert!(addresses(living).is_disjoint(&addresses(&more)), "a living pod's address was given to another");
    for pod in living.iter().chain(&more) {
        pod.reached_from(&node.netns).unwrap();
    }
    pods::end(node, more, 2).unwrap();
}

fn end(topology: &Topology, living: Vec<Pod>) {
    let n1 = topology.node("n1");
    assert_eq!(n1.number("/pool/allocated").unwrap(), living.len() as u64);
    n1.check().unwrap();
    pods::end(n1, living, 3).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
    let assigned: usize = topology.enis("n1").unwrap().iter().map(|eni| eni.secondary.len()).sum();
    assert_eq!(n1.number("/pool/total").unwrap(), assigned as u64, "the daemon has what EC2 assigned");
}

#[test]
fn files_torn_at_any_place_are_told_and_cost_no_living_pod_its_address() {
    let (mut topology, living) = bench("0");
    for eighths in 0..8 {
        for files in [&["ipam.json"][..], &["enid.json"], &["ipam.json", "enid.json"]] {
            // A whole line less its end is the last of the torn ones.
            let cut = |bytes: &[u8]| if eighths == 7 { bytes.len() - 2 } else { bytes.len() * eighths / 8 };
            restart(topology.node_mut("n1"), |node| {
                for file in files {
                    let path = node.state_folder().join(file);
                    let bytes = fs::read(&path).unwrap();
                    fs::write(&path, &bytes[..cut(&bytes)]).unwrap();
                }
            });
            let n1 = topology.node("n1");
            let parts: Vec<String> = files.iter().map(|file| format!("{file} cannot be used")).collect();
            assert_told(n1, &parts.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(n1.number("/pool/allocated").unwrap(), LIVING as u64, "cut at {eighths}/8 of {files:?}");
        }
    }
    let n1 = topology.node_mut("n1");
    more_pods_disturb_nobody(n1, &living, 3);
    let corrupt = fs::read_dir(n1.state_folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let corrupt = corrupt.filter(|name| name.to_string_lossy().contains(".corrupt-")).count();
    assert!(corrupt > 0, "what could not be used is kept");
    restart(n1, |_| {});
    assert_eq!(told(n1), Vec::<String>::new(), "after an ordinary start there is nothing to tell");
    end(&topology, living);
}

#[test]
fn files_of_another_version_are_told_kept_and_not_believed() {
    let (mut topology, living) = bench("0");
    let other = |text: &str, version: &str| {
        let mut file: Value = serde_json::from_str(text).unwrap();
        file["version"] = version.into();
        file.to_string()
    };
    restart(topology.node_mut("n1"), |node| {
        for (file, version) in [("ipam.json", "vpc-cni-ipam/2"), ("enid.json", "enid/9")] {
            let path = node.state_folder().join(file);
            fs::write(&path, other(&fs::read_to_string(&path).unwrap(), version)).unwrap();
        }
    });
    let n1 = topology.node("n1");
    assert_told(n1, &["version `enid/9`, only `enid/1` can be read", "version `vpc-cni-ipam/2`"]);
    more_pods_disturb_nobody(n1, &living, 3);
    let ours: Value = serde_json::from_slice(&fs::read(n1.state_folder().join("ipam.json")).unwrap()).unwrap();
    assert_eq!(ours["version"], "vpc-cni-ipam/1");
    end(&topology, living);
}

/// A node taken over from the reference: its journal, its host veths (no alias), nothing else of ours.
#[test]
fn the_references_own_journal_is_taken_over_with_its_living_pods() {
    let (mut topology, living) = bench("0");
    restart(topology.node_mut("n1"), |node| {
        let allocations: Vec<Value> = living
            .iter()
            .rev()
            .map(|pod| {
                json!({
                    "networkName": "aws-cni", "containerID": pod.sandbox.container_id, "ifName": "eth0",
                    "ipv4": pod.added.address, "allocationTimestamp": 1_725_000_000_000_000_000_i64,
                    "metadata": {
                        "k8sPodNamespace": pod.sandbox.namespace, "k8sPodName": pod.sandbox.name, "interfacesCount": 1,
                    },
                })
            })
            .collect();
        let journal = json!({ "version": "vpc-cni-ipam/1", "allocations": allocations });
        node.lose_state().unwrap();
        fs::write(node.state_folder().join("ipam.json"), format!("{journal}\n")).unwrap();
        for pod in &living {
            node.ip(&format!("link set dev {} alias \"\"\n", pod.added.host_veth)).unwrap();
        }
    });
    let n1 = topology.node_mut("n1");
    assert_eq!(told(n1), Vec::<String>::new(), "a take-over is nothing out of the ordinary");
    assert_eq!(n1.number("/pool/allocated").unwrap(), LIVING as u64);
    more_pods_disturb_nobody(n1, &living, 3);
    restart(n1, |_| {});
    let journal: Value = serde_json::from_slice(&fs::read(n1.state_folder().join("ipam.json")).unwrap()).unwrap();
    let kept: BTreeSet<(String, i64)> = journal["allocations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["containerID"].as_str().unwrap().to_owned(), entry["allocationTimestamp"].as_i64().unwrap())
        })
        .collect();
    let expected = living.iter().map(|pod| (pod.sandbox.container_id.clone(), 1_725_000_000_000_000_000));
    assert_eq!(kept, expected.collect(), "written back as it was, for the way back");
    end(&topology, living);
}

/// What a reboot does to a node whose state folder survives it: another boot id, and a kernel without anything of ours.
fn reboot(node: &Node, pods: &[Pod]) {
    for pod in pods {
        node.ip(&format!("link delete {}\n", pod.added.host_veth)).unwrap();
    }
    node.ask(&["cleanup-host"]).unwrap();
    let path = node.state_folder().join("enid.json");
    let mut journal: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    journal["bootId"] = "00000000-0000-4000-8000-000000000000".into();
    fs::write(&path, journal.to_string()).unwrap();
    fs::write(node.state_folder().join("ready"), "00000000-0000-4000-8000-000000000000\n").unwrap();
}

#[test]
fn after_a_reboot_the_old_allocations_are_dropped_and_told_their_addresses_rest_and_every_eni_stays() {
    let (mut topology, old) = bench("3");
    let enis: Vec<String> = topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect();
    let n1 = topology.node_mut("n1");
    let mut started = Instant::now();
    restart(n1, |node| {
        reboot(node, &old);
        started = Instant::now();
    });
    let young = pods::start(n1, LIVING, 1, &AtomicUsize::new(0)).unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "pods were served after {took:?}");
    assert_told(n1, &["of boot 00000000", &format!("{LIVING} allocations of another boot were dropped")]);
    assert!(addresses(&young).is_disjoint(&addresses(&old)), "the cluster may still send to the old pods");
    assert_eq!(n1.number("/pool/allocated").unwrap(), LIVING as u64);
    // The runtime finds its old sandboxes after the reboot and deletes them.
    for pod in &old {
        n1.runtime.del(&pod.sandbox, NetnsPath::Empty).unwrap();
    }
    let rested = eventually("the old addresses are free again", Duration::from_secs(8), || {
        let status = n1.status().map_err(|error| error.to_string())?;
        let free = status["addresses"].as_array().into_iter().flatten().filter(|entry| entry["state"] == "free");
        let free: BTreeSet<String> = free.filter_map(|entry| Some(entry["address"].as_str()?.to_owned())).collect();
        let missing: Vec<_> =
            addresses(&old).iter().map(ToString::to_string).filter(|old| !free.contains(old)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not")) }
    });
    rested.unwrap();
    for pod in &young {
        pod.reached_from(&n1.netns).unwrap();
    }
    let kept: BTreeSet<String> = topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect();
    assert!(enis.iter().all(|eni| kept.contains(eni)), "{enis:?}, then {kept:?}");
    end(&topology, young);
}

#[test]
fn a_disk_that_is_full_at_the_start_keeps_living_pods_and_heals() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let state = topology.node("n1").state_folder();
    topology.world.small_disk(&state, 256 << 10).unwrap();
    topology.start(&[]).unwrap();
    let living = pods::start(topology.node("n1"), LIVING, 3, &AtomicUsize::new(0)).unwrap();
    let filler = state.join("filler");
    restart(topology.node_mut("n1"), |_| {
        // The daemon's second copies would be room for its first write.
        ["ipam.json.tmp", "enid.json.tmp"].into_iter().for_each(|name| drop(fs::remove_file(state.join(name))));
        assert!(fs::write(&filler, vec![0; 256 << 10]).is_err(), "the disk is full now");
    });
    let n1 = topology.node("n1");
    assert_eq!(n1.number("/pool/allocated").unwrap(), LIVING as u64);
    let status = n1.status().unwrap();
    assert_eq!(status["why"]["boundBy"], "StateNotDurable", "{}", status["why"]);
    for pod in &living {
        pod.reached_from(&n1.netns).unwrap();
    }
    fs::remove_file(&filler).unwrap();
    more_pods_disturb_nobody(n1, &living, 2);
    end(&topology, living);
}
