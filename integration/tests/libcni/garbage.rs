// SPDX-License-Identifier: Apache-2.0
//! GC: libcni's half, a DEL for each attachment of its cache that is not kept, and the plugin's, for those that no cache has.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use integration::go_callers::libcni::Libcni;
use integration::probe::{EchoServer, reach_both};
use integration::sandbox::Sandbox;
use integration::topology::Topology;

use crate::bed::{calls, of_version, ready_node, shipped, wait_allocated};

/// Nothing is too young for a GC.
const ALL_OLD: Option<Duration> = Some(Duration::ZERO);

fn add(topology: &Topology, libcni: &Libcni, count: usize) -> Vec<Sandbox> {
    let started = (0..count).map(|_| {
        let sandbox = topology.node("n1").next_sandbox().unwrap();
        libcni.add(&sandbox).unwrap();
        sandbox
    });
    started.collect()
}

/// From the node, by packets of TCP and UDP; and as CHECK sees it.
fn are_well(topology: &Topology, libcni: &Libcni, pods: &[Sandbox]) {
    for pod in pods {
        let cached = fs::read_to_string(libcni.cached(pod)).unwrap();
        let cached: serde_json::Value = serde_json::from_str(&cached).unwrap();
        let address =
            cached["result"]["ips"][0]["address"].as_str().unwrap().strip_suffix("/32").unwrap().parse().unwrap();
        let server = EchoServer::start(&pod.netns).unwrap();
        reach_both(&topology.node("n1").netns, std::net::SocketAddrV4::new(address, server.port())).unwrap();
        libcni.check(pod).unwrap();
    }
}

/// The containers that the plugin was told to detach.
fn detached(topology: &Topology) -> BTreeSet<String> {
    calls(topology).into_iter().filter(|(verb, _)| verb == "DEL").map(|(_, container)| container).collect()
}

fn gcs(topology: &Topology) -> usize {
    calls(topology).iter().filter(|(verb, _)| verb == "GC").count()
}

fn ids(pods: &[Sandbox]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod.container_id.clone()).collect()
}

#[test]
fn what_is_not_kept_is_detached_from_the_cache_then_collected_and_what_is_kept_lives_on() {
    let topology = ready_node(&[]);
    let libcni = shipped(&topology);
    let (kept, dropped) = (add(&topology, &libcni, 3), add(&topology, &libcni, 2));
    wait_allocated(&topology, 5);
    libcni.gc(&kept.iter().collect::<Vec<_>>(), ALL_OLD).unwrap();
    assert_eq!((detached(&topology), gcs(&topology)), (ids(&dropped), 1));
    wait_allocated(&topology, 3);
    assert!(dropped.iter().all(|pod| !libcni.cached(pod).exists()));
    are_well(&topology, &libcni, &kept);
    // The addresses that came back serve again.
    let later = add(&topology, &libcni, 2);
    are_well(&topology, &libcni, &later);
}

#[test]
fn what_the_cache_has_lost_only_the_plugin_s_own_gc_can_free_and_does() {
    let topology = ready_node(&[]);
    let libcni = shipped(&topology);
    let (kept, lost) = (add(&topology, &libcni, 2), add(&topology, &libcni, 2));
    for pod in &lost {
        fs::remove_file(libcni.cached(pod)).unwrap();
    }
    // A version without GC: libcni sends its DELs, and there are none.
    of_version(&topology, "1.0.0").gc(&[], ALL_OLD).unwrap();
    assert_eq!((detached(&topology).len(), gcs(&topology)), (0, 0));
    wait_allocated(&topology, 4);
    libcni.gc(&kept.iter().collect::<Vec<_>>(), ALL_OLD).unwrap();
    assert_eq!((detached(&topology).len(), gcs(&topology)), (0, 1));
    wait_allocated(&topology, 2);
    are_well(&topology, &libcni, &kept);
    let left = topology.node("n1").leftovers().unwrap().of_pods();
    assert_eq!(left.routes.len(), 2, "{left}");
    // The DEL that may come after all.
    for pod in &lost {
        libcni.del(pod).unwrap();
    }
    wait_allocated(&topology, 2);
}

#[test]
fn an_empty_list_empties_the_node_and_young_pods_are_spared_by_the_plugin_s_half_only() {
    let topology = ready_node(&[]);
    let libcni = shipped(&topology);
    let (cached, lost) = (add(&topology, &libcni, 2), add(&topology, &libcni, 1));
    fs::remove_file(libcni.cached(&lost[0])).unwrap();
    libcni.gc(&[], None).unwrap();
    assert_eq!(detached(&topology), ids(&cached));
    wait_allocated(&topology, 1);
    libcni.gc(&[], ALL_OLD).unwrap();
    wait_allocated(&topology, 0);
}

#[test]
fn a_list_that_is_null_or_not_there_takes_down_what_libcni_itself_detaches_and_no_more() {
    let topology = ready_node(&[]);
    let libcni = shipped(&topology);
    let (first, second, lost) = (add(&topology, &libcni, 1), add(&topology, &libcni, 1), add(&topology, &libcni, 1));
    for pod in second.iter().chain(&lost) {
        fs::rename(libcni.cached(pod), topology.node("n1").state_folder().join(&pod.container_id)).unwrap();
    }
    libcni.gc_with("null", ALL_OLD).unwrap();
    wait_allocated(&topology, 2);
    fs::rename(topology.node("n1").state_folder().join(&second[0].container_id), libcni.cached(&second[0])).unwrap();
    let error = libcni.gc_with("none", ALL_OLD).unwrap_err();
    let refused = error.of_plugin().unwrap_or_else(|| panic!("{error}"));
    assert!(refused.code == 7 && refused.msg.contains("cni.dev/valid-attachments"), "{refused:?}");
    wait_allocated(&topology, 1);
    assert_eq!(detached(&topology), ids(&first).union(&ids(&second)).cloned().collect());
}
