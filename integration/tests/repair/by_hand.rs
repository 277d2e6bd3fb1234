// SPDX-License-Identifier: Apache-2.0
//! Blows by hand, one after the other, with pods that live through all of them.

use std::time::Duration;

use integration::eventually::{eventually, pass};

use crate::bed::{Bed, PATIENCE, PROMISE};

/// The kernel's own rules, which a flush takes too.
const KERNEL_RULES: &str = "rule add priority 32766 lookup main\nrule add priority 32767 lookup default\n";

fn blows(bed: &Bed) -> Vec<(String, &'static str)> {
    let eni = bed.eni_link();
    let [primary, secondary] = bed.two_pods();
    let table = bed.pod_table();
    let (veth, other) = (&secondary.added.host_veth, &primary.added.host_veth);
    let address = bed.topology.enis("n1").unwrap().iter().find(|eni| eni.device_index == 1).unwrap().primary;
    vec![
        (format!("rule flush\n{KERNEL_RULES}"), "rule missing"),
        ("route flush table 2\n".to_owned(), "route missing"),
        (format!("route flush table {table} proto 158\n"), "route missing"),
        (format!("address flush to {address} dev {eni}\n"), "address missing"),
        (format!("link set {eni} down\n"), "link down"),
        (format!("link set {eni} down\nlink set {eni} up\n"), "route missing"),
        (format!("link set {eni} mtu 1500\n"), "link changed"),
        (format!("link set {veth} down\n"), "link down"),
        (format!("link set {veth} group 5\n"), "link changed"),
        (format!("link set {eni} group 0\n"), "link changed"),
        (format!("link set {veth} address 02:11:22:33:44:55\n"), "link changed"),
        (format!("neighbour flush dev {veth} nud permanent\n"), "neighbour missing"),
        (
            format!("neighbour replace {} lladdr 02:11:22:33:44:66 dev {other} nud permanent\n", primary.added.address),
            "neighbour missing",
        ),
        (format!("route replace {}/32 dev eth0 table {table}\n", secondary.added.address), "route changed"),
        (format!("address add 10.9.9.9/24 dev {eni}\n"), "address stale"),
    ]
}

#[test]
fn whatever_is_done_by_hand_is_put_back_and_pods_talk() {
    let bed = Bed::build();
    let mut took = Vec::new();
    for (blow, kind) in blows(&bed) {
        let before = bed.repaired().into_iter().find(|(found, _)| found == kind).map_or(0, |(_, count)| count);
        bed.n1().ip(&blow).unwrap();
        took.push(bed.wait_whole().unwrap_or_else(|error| panic!("{blow}: {error}\n{}", bed.log())));
        eventually("pods talk", Duration::from_secs(1), || bed.packets())
            .unwrap_or_else(|error| panic!("{blow}: {error}"));
        let after = bed.repaired().into_iter().find(|(found, _)| found == kind).map_or(0, |(_, count)| count);
        assert!(after > before, "{blow}: {kind} was not counted: {:?}", bed.repaired());
        // One after the other, less than a fight.
        pass(Duration::from_secs(5));
    }
    bed.n1().nft("flush ruleset\n").unwrap();
    took.push(bed.wait_whole().unwrap());
    eventually("pods talk", Duration::from_secs(1), || bed.packets()).unwrap();
    pass(Duration::from_secs(6));
    bed.n1().nft("delete chain ip enid dead_pods\n").unwrap();
    took.push(bed.wait_whole().unwrap());
    took.sort();
    assert!(took[took.len() / 2] <= PROMISE, "{took:?}");
    assert!(bed.log().contains("HostRepaired"), "a repair has its code in the log");
}

#[test]
fn an_eni_under_another_name_serves_on() {
    let bed = Bed::build();
    let eni = bed.eni_link();
    bed.n1().ip(&format!("link set {eni} down\nlink set {eni} name renamed\n")).unwrap();
    let back = eventually("the ENI works under its new name", Duration::from_secs(10), || {
        let state = bed.state();
        let route = state
            .iter()
            .any(|line| line.starts_with("route") && line.contains("\"default\"") && line.contains("\"renamed\""));
        if route { bed.packets() } else { Err("no default route by it".to_owned()) }
    });
    back.unwrap();
    bed.n1().ip(&format!("link set renamed down\nlink set renamed name {eni}\n")).unwrap();
    bed.wait_whole().unwrap();
}

#[test]
fn what_is_none_of_ours_is_left_as_it_is() {
    let bed = Bed::build();
    let foreign = "rule add priority 700 to 10.77.0.1 lookup main\nrule add priority 512 to 10.77.0.2 lookup main\n\
                   route add 10.77.0.3/32 dev lo table 99\nroute add 10.77.0.4/32 dev eth0\n";
    bed.n1().ip(foreign).unwrap();
    bed.n1().nft("add table ip theirs\nadd chain ip theirs input { type filter hook input priority 0; }\n").unwrap();
    let before: Vec<_> = bed.state().difference(&bed.whole).cloned().collect();
    assert_eq!(before.len(), 4, "{before:?}");
    bed.n1()
        .ip(&format!("rule del priority 1536\nroute del {} table {}\n", bed.pods[0].added.address, bed.pod_table()))
        .unwrap();
    // A look now, and one that is due anyway.
    let back = eventually("what is ours is back", PATIENCE, || {
        if bed.whole.is_subset(&bed.state()) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    back.unwrap();
    bed.wait_look_by_itself();
    let after: Vec<_> = bed.state().difference(&bed.whole).cloned().collect();
    assert_eq!(after, before);
    assert!(bed.whole.is_subset(&bed.state()));
    bed.n1().nft("list table ip theirs\n").unwrap();
}

#[test]
fn what_was_told_among_more_than_a_socket_holds_is_found_all_the_same() {
    let bed = Bed::build();
    // More notifications than a socket holds; among them one rule of ours goes.
    let noise: String = (0..60_000)
        .map(|n| format!("rule add priority {0} to 10.9.9.9\nrule del priority {0}\n", 40_000 + n % 1_000))
        .collect();
    bed.n1().ip(&format!("{noise}rule del priority 1536\n{noise}")).unwrap();
    bed.wait_whole().unwrap();
    bed.packets().unwrap();
}
