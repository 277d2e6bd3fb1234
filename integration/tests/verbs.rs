// SPDX-License-Identifier: Apache-2.0
//! CHECK and GC by the real plugin and daemon on a whole node.
//!
//! CHECK: true after every ADD in both layouts and at both ends of the specification's versions, with the daemon up and gone; what the
//! daemon repairs within a second is no difference, and what nobody repairs is named. (Object by object: the plugin's own tests.)
//! GC: what is on no list goes from kernel and journal, and nothing else; cut off anywhere, with the daemon gone, and beside ADDs.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the state folder"
)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::{NetnsPath, Sandbox};
use integration::strace::{Recording, Scope, Strace};
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::Value;

/// More than the primary ENI of an m5.large has.
const TWO_ENIS: usize = 12;
/// Nothing is too young for a GC.
const ALL_OLD: Option<Duration> = Some(Duration::ZERO);

fn one_node(environment: &[(&str, &str)]) -> Topology {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let mut variables = vec![("IP_COOLDOWN_PERIOD", "0")];
    variables.extend(environment);
    topology.start(&variables).unwrap();
    topology
}

fn start(node: &Node, count: usize) -> Vec<Pod> {
    pods::start(node, count, 4, &AtomicUsize::new(0)).unwrap()
}

fn sandboxes(pods: &[Pod]) -> Vec<&Sandbox> {
    pods.iter().map(|pod| &pod.sandbox).collect()
}

/// The container ids in the journal.
fn journal(node: &Node) -> BTreeSet<String> {
    let journal = fs::read(node.state_folder().join("ipam.json")).unwrap();
    let journal: Value = serde_json::from_slice(&journal).unwrap();
    let entries = journal["allocations"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["containerID"].as_str().unwrap().to_owned()).collect()
}

fn ids<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeSet<String> {
    pods.into_iter().map(|pod| pod.sandbox.container_id.clone()).collect()
}

fn tombstones(node: &Node) -> usize {
    let entries = fs::read_dir(node.state_folder().join("tombstones")).into_iter().flatten();
    entries.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
}

fn pods_are_as_attached(layout: &str) {
    let mut topology = one_node(&[("ENID_LAYOUT", layout)]);
    let pods = start(topology.node("n1"), TWO_ENIS);
    let oldest = topology.node("n1").runtime.speaking("0.4.0");
    let by_oldest = topology.node("n1").next_sandbox().unwrap();
    assert_eq!(oldest.add(&by_oldest).unwrap().result["cniVersion"], "0.4.0");
    oldest.check(&by_oldest).unwrap();
    assert!(pods.iter().any(Pod::on_primary) && !pods.iter().all(Pod::on_primary), "pods of two ENIs");
    let check_all = |node: &Node| {
        for pod in &pods {
            for version in ["0.4.0", "1.0.0", "1.1.0"] {
                let took = node.runtime.speaking(version).check(&pod.sandbox).unwrap();
                assert!(took < Duration::from_secs(1), "{version}: a second look: {took:?}");
            }
        }
    };
    check_all(topology.node("n1"));
    topology.node("n1").check().unwrap();
    topology.node_mut("n1").kill();
    check_all(topology.node("n1"));
    topology.node("n1").check_without_daemon().unwrap();
}

#[test]
fn check_is_true_for_pods_of_every_eni_in_layout_flat_whether_the_daemon_is_there_or_not() {
    pods_are_as_attached("flat");
}

#[test]
fn check_is_true_for_pods_of_every_eni_in_layout_classic_whether_the_daemon_is_there_or_not() {
    pods_are_as_attached("classic");
}

#[test]
fn check_waits_for_a_repair_and_names_what_nobody_repairs() {
    let mut topology = one_node(&[("ENID_LAYOUT", "flat")]);
    let pods = start(topology.node("n1"), TWO_ENIS);
    let n1 = topology.node("n1");
    let pod = pods.iter().find(|pod| !pod.on_primary()).unwrap();
    // Older than what repair leaves to the ADD.
    std::thread::sleep(Duration::from_secs(3));
    let route = format!("{} dev {}", pod.added.address, pod.added.host_veth);
    n1.ip(&format!("route del {route} table 158000\n")).unwrap();
    n1.runtime.check(&pod.sandbox).unwrap();

    topology.node_mut("n1").kill();
    let n1 = topology.node("n1");
    let named = |what: &str| {
        let error = n1.runtime.check(&pod.sandbox).unwrap_err();
        let refused = error.refusal().unwrap();
        assert_eq!(refused.code, 101, "{refused}");
        assert!(refused.details.contains(what), "{what}: {refused}");
    };
    n1.ip(&format!("route del {route} table 158000\n")).unwrap();
    named(&format!("ip route add {}/32 dev {}", pod.added.address, pod.added.host_veth));
    n1.ip(&format!("route add {route} scope link table 158000 proto 158\n")).unwrap();
    n1.runtime.check(&pod.sandbox).unwrap();
    n1.ip("rule del priority 512\n").unwrap();
    named("ip rule add priority 512 from all lookup 158000");
    n1.ip("rule add priority 512 lookup 158000 protocol 158\n").unwrap();
    n1.ip(&format!("route flush table {}\n", pod.added.table)).unwrap();
    named("to a table with a default route");
}

#[test]
fn gc_releases_what_is_on_no_list_and_nothing_else() {
    let topology = one_node(&[]);
    let n1 = topology.node("n1");
    let mut living = start(n1, 6);
    let base = n1.leftovers().unwrap().of_pods();
    let dead = start(n1, 4);
    n1.runtime.gc(&sandboxes(&living), ALL_OLD).unwrap();
    assert_eq!(journal(n1), ids(&living));
    let left = n1.leftovers().unwrap().of_pods();
    assert_eq!((&left.rules, &left.routes, &left.neighbours), (&base.rules, &base.routes, &base.neighbours));
    assert_eq!(tombstones(n1), 0);
    for pod in &living {
        pod.reached_from(&n1.netns).unwrap();
        n1.runtime.check(&pod.sandbox).unwrap();
    }
    // The DELs that come after all, and new pods with the addresses that came free.
    pods::end(n1, dead, 2).unwrap();
    living.extend(start(n1, 4));
    for pod in &living {
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn gc_with_a_list_from_before_an_add_spares_the_new_pod() {
    let topology = one_node(&[]);
    let n1 = topology.node("n1");
    let old = start(n1, 2);
    let list = sandboxes(&old);
    let new = start(n1, 2);
    n1.runtime.gc(&list, None).unwrap();
    assert_eq!(journal(n1), ids(old.iter().chain(&new)));
    for pod in old.iter().chain(&new) {
        pod.reached_from(&n1.netns).unwrap();
        n1.runtime.check(&pod.sandbox).unwrap();
    }
}

#[test]
fn gc_beside_adds_takes_none_of_them() {
    let topology = one_node(&[]);
    let n1 = topology.node("n1");
    let old = start(n1, 2);
    let list = sandboxes(&old);
    let new = std::thread::scope(|scope| {
        let adds = scope.spawn(|| start(n1, 12));
        while !adds.is_finished() {
            n1.runtime.gc(&list, None).unwrap();
        }
        adds.join().unwrap()
    });
    for pod in old.iter().chain(&new) {
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn gc_without_a_daemon_is_carried_out_when_it_is_back() {
    let mut topology = one_node(&[]);
    let living = start(topology.node("n1"), 3);
    let dead = start(topology.node("n1"), 3);
    topology.node_mut("n1").kill();
    let n1 = topology.node_mut("n1");
    n1.runtime.gc(&sandboxes(&living), ALL_OLD).unwrap();
    assert_eq!(tombstones(n1), 3);
    assert_eq!(journal(n1), ids(living.iter().chain(&dead)), "nobody has told the journal yet");
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let settled = eventually("the daemon has found the tombstones", Duration::from_secs(15), || {
        let (held, left) = (journal(n1), tombstones(n1));
        if held == ids(&living) && left == 0 { Ok(()) } else { Err(format!("{held:?}, {left} tombstones")) }
    });
    settled.unwrap();
    for pod in &living {
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn a_gc_killed_at_any_call_is_made_up_for_by_the_next() {
    let topology = one_node(&[]);
    let n1 = topology.node("n1");
    let living = start(n1, 2);
    let base = n1.leftovers().unwrap().of_pods();
    let strace = Strace::find().unwrap();
    let file = topology.world.folder("recordings").unwrap().join("gc");
    let dead = start(n1, 2);
    n1.runtime.under(strace.recording(&file)).gc(&sandboxes(&living), ALL_OLD).unwrap();
    drop(dead);
    let recording = Recording::read(&file).unwrap();
    let (mut met, started) = (0, Instant::now());
    let cuts = recording.cuts(Scope::Outward);
    for cut in &cuts {
        let dead = start(n1, 2);
        met += usize::from(n1.runtime.under(strace.cutting(cut)).gc(&sandboxes(&living), ALL_OLD).is_err());
        n1.runtime.gc(&sandboxes(&living), ALL_OLD).unwrap_or_else(|error| panic!("{cut}: {error}"));
        // What the kernel had shown alive when it was looked at last is left to the runtime's DEL, or to the rule for orphans.
        let in_journal = journal(n1);
        assert!(in_journal.is_superset(&ids(&living)), "{cut}");
        let left = n1.leftovers().unwrap().of_pods();
        assert_eq!(
            (&left.rules, &left.routes, &left.neighbours),
            (&base.rules, &base.routes, &base.neighbours),
            "{cut}"
        );
        for pod in &dead {
            n1.runtime.del(&pod.sandbox, NetnsPath::Empty).unwrap_or_else(|error| panic!("{cut}: {error}"));
        }
        assert_eq!(journal(n1), ids(&living), "{cut}");
        assert_eq!(tombstones(n1), 0, "{cut}");
        for pod in &living {
            n1.runtime.check(&pod.sandbox).unwrap_or_else(|error| panic!("{cut}: {error}"));
        }
    }
    assert!(met * 2 > cuts.len(), "{met} of {} cuts were met in {:?}", cuts.len(), started.elapsed());
    for pod in &living {
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn two_dels_in_a_row_work_in_every_version_with_its_own_result_and_without_a_namespace() {
    let topology = one_node(&[]);
    let n1 = topology.node("n1");
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let runtime = n1.runtime.speaking(version);
        for second in [NetnsPath::Given, NetnsPath::Empty] {
            let sandbox = n1.next_sandbox().unwrap();
            let added = runtime.add(&sandbox).unwrap();
            assert_eq!(added.result["cniVersion"], version);
            for netns in [NetnsPath::Given, second] {
                runtime.del(&sandbox, netns).unwrap_or_else(|error| panic!("{version}: {error}"));
            }
        }
    }
    assert_eq!(journal(n1), BTreeSet::new());
}
