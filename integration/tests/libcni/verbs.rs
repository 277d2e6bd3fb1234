// SPDX-License-Identifier: Apache-2.0
//! Each verb, by itself.

use std::net::Ipv4Addr;

use integration::go_callers::libcni::Outcome;
use integration::sandbox::Sandbox;
use integration::topology::{READY, Topology};

use crate::bed::{calls, node, of_version, ready_node, shipped, wait_allocated, with_list};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The pod's address as libcni reads it, and the same as its result has it.
fn address(outcome: &Outcome) -> Ipv4Addr {
    let of = |value: &serde_json::Value| value["ips"][0]["address"].as_str().unwrap().to_owned();
    assert_eq!(of(&outcome.result), of(&outcome.parsed));
    of(&outcome.parsed).strip_suffix("/32").unwrap().parse().unwrap()
}

fn is_of_the_node(topology: &Topology, address: Ipv4Addr) -> bool {
    topology.enis("n1").unwrap().iter().any(|eni| eni.secondary.contains(&address))
}

#[test]
fn in_every_version_a_pod_comes_is_what_the_result_says_and_goes_twice() {
    let topology = ready_node(&[]);
    let n1 = topology.node("n1");
    for version in VERSIONS {
        let libcni = of_version(&topology, version);
        assert_eq!(libcni.validate().unwrap().capabilities.len(), 2, "{version}");
        assert_eq!(libcni.version().unwrap().supported, VERSIONS, "{version}");
        let sandbox = n1.next_sandbox().unwrap();
        let outcome = libcni.add(&sandbox).unwrap();
        assert_eq!((outcome.version.as_str(), outcome.result["cniVersion"].as_str()), (version, Some(version)));
        let pod = address(&outcome);
        assert!(is_of_the_node(&topology, pod), "{version}: {pod}");
        // The result's own words, checked against the kernel: the host's link and the pod's, and which of them has the address.
        let interfaces = outcome.parsed["interfaces"].as_array().unwrap();
        let index = usize::try_from(outcome.parsed["ips"][0]["interface"].as_u64().unwrap()).unwrap();
        let in_pod = topology.world.tools.ip_json(&sandbox.netns, &["-4", "address", "show", "dev", "eth0"]).unwrap();
        assert_eq!(
            (interfaces[index]["name"].as_str(), in_pod[0]["addr_info"][0]["local"].as_str()),
            (Some("eth0"), Some(pod.to_string().as_str()))
        );
        assert_eq!(interfaces[index]["sandbox"].as_str(), sandbox.netns.path().to_str(), "{version}");
        let links = n1.leftovers().unwrap().links;
        assert_eq!(Some(links[0].as_str()), interfaces[0]["name"].as_str(), "{version}: {links:?}");
        match libcni.check(&sandbox) {
            Ok(_) => assert!(version >= "0.4.0", "CHECK came with 0.4.0"),
            Err(error) => assert!(version < "0.4.0" && error.of_plugin().is_none(), "{version}: {error}"),
        }
        assert!(libcni.cached(&sandbox).is_file());
        libcni.del(&sandbox).unwrap();
        assert!(!libcni.cached(&sandbox).exists());
        libcni.del(&sandbox).unwrap();
        wait_allocated(&topology, 0);
        let left = n1.leftovers().unwrap().of_pods();
        assert!(left.rules.is_empty() && left.routes.is_empty(), "{version}: {left}");
    }
    let dels = calls(&topology).into_iter().filter(|(verb, _)| verb == "DEL").count();
    assert_eq!(dels, 2 * VERSIONS.len());
}

#[test]
fn the_list_as_it_is_shipped_is_spoken_in_its_newest_version() {
    let topology = ready_node(&[]);
    let libcni = shipped(&topology);
    libcni.validate().unwrap();
    let sandbox = topology.node("n1").next_sandbox().unwrap();
    let outcome = libcni.add(&sandbox).unwrap();
    assert_eq!((outcome.version.as_str(), outcome.result["cniVersion"].as_str()), ("1.1.0", Some("1.1.0")));
    libcni.check(&sandbox).unwrap();
    libcni.status().unwrap();
    // Again, as podman's `network reload` does after its DEL, or a runtime that was killed before it had the answer: the same pod.
    assert_eq!(address(&libcni.add(&sandbox).unwrap()), address(&outcome));
    libcni.del(&sandbox).unwrap();
    wait_allocated(&topology, 0);
}

#[test]
fn what_is_not_valid_is_refused_before_anything_is_called() {
    let topology = node();
    let old = of_version(&topology, "0.2.0");
    let unknown = old.validate().unwrap_err();
    assert!(unknown.to_string().contains("0.2.0"), "{unknown}");
    let missing = with_list(&topology, "missing", "1.0.0", &[serde_json::json!({"type": "not-there"})]);
    let missing = missing.validate().unwrap_err();
    assert!(missing.to_string().contains("not-there"), "{missing}");
    // By ADD nothing has been validated: the plugin refuses the version itself, and libcni reads its error.
    let n1 = topology.node("n1");
    let refused = old.add(&n1.next_sandbox().unwrap()).unwrap_err();
    let refused = refused.of_plugin().unwrap_or_else(|| panic!("{refused}"));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.msg.contains("0.2.0") && refused.details.contains("1.1.0"), "{refused:?}");
}

#[test]
fn an_add_that_is_refused_says_code_reason_and_cause() {
    let topology = ready_node(&[("MAX_ENI", "1")]);
    let n1 = topology.node("n1");
    let libcni = shipped(&topology);
    let full: Vec<Sandbox> = (0..9).map(|_| n1.next_sandbox().unwrap()).collect();
    for sandbox in &full {
        libcni.add(sandbox).unwrap();
    }
    let one_too_many = n1.next_sandbox().unwrap();
    let error = libcni.add(&one_too_many).unwrap_err();
    let refused = error.of_plugin().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(refused.msg.starts_with("NodeFull: "), "{refused:?}");
    assert!(refused.details.contains("NodeFull"), "{refused:?}");
    assert!(!libcni.cached(&one_too_many).exists());
    // What a runtime does then; and a pod that goes makes room.
    libcni.del(&one_too_many).unwrap();
    libcni.del(&full[0]).unwrap();
    libcni.add(&one_too_many).unwrap();
}

#[test]
fn check_names_the_rule_that_somebody_has_deleted() {
    let mut topology = ready_node(&[("ENID_LAYOUT", "classic")]);
    let sandbox = topology.node("n1").next_sandbox().unwrap();
    let lists = ["0.4.0", "1.0.0", "1.1.0"].map(|version| of_version(&topology, version));
    for libcni in &lists {
        libcni.add(&sandbox).unwrap();
        libcni.check(&sandbox).unwrap();
    }
    // It would put the rule back.
    topology.node_mut("n1").kill();
    let n1 = topology.node("n1");
    let objects = n1.leftovers().unwrap().of_pods();
    assert_eq!(objects.rules.len(), 1, "of the primary ENI: to the pod only: {objects}");
    n1.ip("rule del priority 512\n").unwrap();
    let pod = objects.routes[0].split(' ').next().unwrap();
    for libcni in &lists {
        let error = libcni.check(&sandbox).unwrap_err();
        let refused = error.of_plugin().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(refused.code, 101, "{refused:?}");
        let rule = format!("ip rule add priority 512 from all to {pod}");
        assert!(refused.details.contains(&rule), "{rule}: {refused:?}");
    }
}

#[test]
fn status_is_an_error_before_the_first_proven_address_and_none_after() {
    let mut topology = node();
    let libcni = shipped(&topology);
    let error = libcni.status().unwrap_err();
    let refused = error.of_plugin().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(refused.code, 50, "{refused:?}");
    assert!(refused.msg.contains("proven"), "{refused:?}");
    topology.node_mut("n1").start().unwrap();
    topology.node("n1").wait_ready(READY).unwrap();
    libcni.status().unwrap();
    libcni.add(&topology.node("n1").next_sandbox().unwrap()).unwrap();
    // Of a version without STATUS libcni asks nobody.
    topology.node_mut("n1").kill();
    of_version(&topology, "1.0.0").status().unwrap();
}
