// SPDX-License-Identifier: Apache-2.0
//! NetworkManager on a machine without udev (with udev it leaves veths alone, by a rule of its own), with profiles for both ENIs:
//! what it takes away from the secondary one is put back, the primary one's is no loss. With our snippet it leaves host ends of
//! pods and secondary ENIs alone.

use std::time::{Duration, Instant};

use integration::eventually::eventually;
use serde_json::Value;

use crate::bed::{Bed, PATIENCE, PROMISE};
use crate::programs::{Distribution, Setup, primary_address, repaired, wait_nothing_missing};

const SNIPPET: &str = include_str!("../../../../deploy/NetworkManager/90-enid.conf");

fn profile(link: &str, address: &str) -> String {
    format!(
        "[connection]\nid={link}\ntype=ethernet\ninterface-name={link}\n[ethernet]\nmtu=9001\n\
         [ipv4]\nmethod=manual\naddress1={address}\n[ipv6]\nmethod=disabled\n"
    )
}

/// Starts it with both ENIs configured as an image would; the rest is left to its defaults.
fn start(bed: &Bed, eni: &str) -> Distribution {
    let (address, router) = primary_address(bed);
    let enis = bed.topology.enis("n1").unwrap();
    let second = enis.iter().find(|eni| eni.device_index == 1).unwrap().primary;
    let files = [
        ("NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\ndns=none\n".to_owned()),
        ("NetworkManager/system-connections/eth0.nmconnection", profile("eth0", &format!("{address},{router}"))),
        ("NetworkManager/system-connections/eni.nmconnection", profile(eni, &format!("{second}/24"))),
    ];
    let (program, ready) = ("NetworkManager --debug", "nmcli -g STATE general");
    let setup = Setup { name: "NetworkManager", with_udev: false, files: &files, program, ready };
    Distribution::start(&bed.topology, &setup)
}

/// Waits until what NetworkManager says of a link is so.
fn wait_for_state(manager: &Distribution, link: &str, is_so: impl Fn(&str) -> bool) {
    let seen = eventually(&format!("the state of {link}"), PATIENCE, || {
        let list = manager.run("nmcli -g DEVICE,STATE device");
        let state = list.lines().find_map(|line| line.strip_prefix(link)?.strip_prefix(':'));
        if state.is_some_and(&is_so) { Ok(()) } else { Err(list) }
    });
    seen.unwrap();
}

fn is_managed(state: &str) -> bool {
    state != "unmanaged"
}

/// What the pods see of their own network.
fn inside(bed: &Bed) -> Vec<Value> {
    let tools = &bed.topology.world.tools;
    let neighbours: &[&str] = &["neighbour", "show", "nud", "permanent"];
    let lists = [&["link", "show"], &["-4", "address", "show"][..], &["-4", "route", "show"], neighbours];
    let of = |pod: &integration::pods::Pod| lists.map(|list| tools.ip_json(&pod.sandbox.netns, list).unwrap());
    bed.pods.iter().flat_map(of).collect()
}

/// A command that takes something of ours away: how long until all of it is back.
fn blow(bed: &Bed, manager: &Distribution, command: &str) -> Duration {
    let before = repaired(bed);
    manager.run(command);
    let start = Instant::now();
    let counted = eventually("something was put back", PATIENCE, || {
        if repaired(bed) > before { Ok(()) } else { Err(format!("{:?}", bed.repaired())) }
    });
    counted.unwrap_or_else(|error| panic!("{command}: {error}"));
    wait_nothing_missing(bed).unwrap_or_else(|error| panic!("{command}: {error}\n{}", bed.log()));
    let took = start.elapsed();
    wait_for_packets(bed, command);
    took
}

fn wait_for_packets(bed: &Bed, after: &str) {
    let talk = eventually("pods talk", Duration::from_secs(1), || bed.packets());
    talk.unwrap_or_else(|error| panic!("{after}: {error}"));
}

#[test]
fn what_network_manager_takes_away_is_put_back_and_our_snippet_keeps_it_off() {
    let bed = Bed::build();
    let (pods, eni) = (inside(&bed), bed.eni_link());
    // As ENIs are called on images that number them.
    bed.n1().ip("link add eth1 type veth peer name other\n").unwrap();
    let manager = start(&bed, &eni);
    let veths: Vec<_> = bed.pods.iter().map(|pod| pod.added.host_veth.as_str()).collect();
    for link in veths.iter().chain([&eni.as_str(), &"eth0", &"eth1"]) {
        wait_for_state(&manager, link, is_managed);
    }
    for command in ["nmcli device reapply eth0", "nmcli connection up eth0"] {
        manager.run(command);
        wait_nothing_missing(&bed).unwrap_or_else(|error| panic!("{command}: {error}"));
        wait_for_packets(&bed, command);
    }
    let mut took = Vec::new();
    for verb in ["connection up", "device disconnect", "device connect", "connection up", "device disconnect"] {
        took.push(blow(&bed, &manager, &format!("nmcli {verb} {eni}")));
    }
    took.sort();
    assert!(took[took.len() / 2] <= PROMISE, "{took:?}");
    assert_eq!(inside(&bed), pods, "pods are untouched");
    keeps_off(&bed, &manager, &veths, &eni);
    assert_eq!(inside(&bed), pods, "pods are untouched");
}

/// With our snippet; and with its other line, for images that name links after their slots.
fn keeps_off(bed: &Bed, manager: &Distribution, veths: &[&str], eni: &str) {
    let install = |text: &str| {
        manager.install("NetworkManager/conf.d/90-enid.conf", text);
        manager.run("nmcli general reload");
    };
    // What others have said before us stays.
    manager.install("NetworkManager/conf.d/10-others.conf", "[keyfile]\nunmanaged-devices=interface-name:other\n");
    install(SNIPPET);
    wait_for_state(manager, "other", |state| state == "unmanaged");
    for link in veths.iter().chain([&"eth1"]) {
        wait_for_state(manager, link, |state| state == "unmanaged");
    }
    wait_for_state(manager, "eth0", |state| state == "connected");
    wait_for_state(manager, eni, is_managed);
    // The secondary ENI of this machine in place of the example's.
    let lines = SNIPPET.lines().filter(|line| !line.starts_with("unmanaged-devices"));
    let other: Vec<_> = lines
        .map(|line| line.strip_prefix("#unmanaged").map_or(line.to_owned(), |rest| format!("unmanaged{rest}")))
        .collect();
    install(&other.join("\n").replace("interface-name:ens6*", &format!("interface-name:{eni}")));
    for link in veths.iter().chain([&eni]) {
        wait_for_state(manager, link, |state| state == "unmanaged");
    }
    wait_for_state(manager, "eth0", |state| state == "connected");
    wait_nothing_missing(bed).unwrap();
    wait_for_packets(bed, "our snippet");
    // Without it as before.
    manager.run("rm /etc/NetworkManager/conf.d/90-enid.conf && nmcli general reload");
    for link in veths {
        wait_for_state(manager, link, is_managed);
    }
    wait_nothing_missing(bed).unwrap();
}
