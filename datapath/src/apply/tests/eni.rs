// SPDX-License-Identifier: Apache-2.0
//! ENI set-up: written, proven, not written twice; removed.

use crate::apply::eni;
use crate::apply::testbed::{Space, assert_same, pause, tool, wait_for_carrier};
use crate::plan::MacAddr;
use crate::plan::eni::EniSetup;
use crate::plan::ids::Place;

const MAC: &str = "02:00:0a:00:01:14";

fn secondary() -> EniSetup {
    EniSetup {
        mac: MAC.parse::<MacAddr>().unwrap(),
        place: Place::new(0, 1).unwrap(),
        primary_address: "10.0.1.20".parse().unwrap(),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: 9001,
        steering: None,
        answers: None,
        ipv6: false,
    }
}

/// A node whose `eth1` has the ENI's MAC, down, MTU 1500.
fn node() -> Space {
    let node = Space::enter_new();
    node.ip(&format!("link add eth1 address {MAC} mtu 1500 type veth peer name far mtu 9001"));
    node.ip("link set far up");
    node
}

#[test]
fn a_secondary_eni_is_set_up_from_nothing() {
    let node = node();
    node.sysctl("ipv4/conf/eth1/rp_filter", "1");
    eni::setup(&secondary()).unwrap();
    let link = &node.ip_json("-d addr show dev eth1")[0];
    assert_eq!(link["mtu"], 9001);
    let address = link["addr_info"].as_array().unwrap().iter().find(|info| info["family"] == "inet").unwrap();
    assert_eq!(address["local"], "10.0.1.20");
    assert_eq!(address["prefixlen"], 24);
    assert_eq!(address["noprefixroute"], true);
    let routes = node.ip("-4 route show table 2");
    assert_eq!(
        routes.lines().map(str::trim).collect::<Vec<_>>(),
        ["default via 10.0.1.1 dev eth1 proto 158", "10.0.1.1 dev eth1 proto 158 scope link"]
    );
    assert_eq!(node.ip("-4 route show table main").trim(), "");
    assert!(node.ip("rule").contains("32765:\tfrom 10.0.1.20 lookup 2 proto 158"));
    assert_eq!(node.sysctl_value("ipv4/conf/eth1/rp_filter"), "2");
}

#[test]
fn what_is_right_already_is_not_written_again() {
    let node = node();
    eni::setup(&secondary()).unwrap();
    // `ip monitor` would see every write, also one that changes nothing.
    wait_for_carrier(&node, "eth1");
    wait_for_carrier(&node, "far");
    let before = node.dump();
    let monitor = Monitor::start(&node);
    eni::setup(&secondary()).unwrap();
    assert_eq!(monitor.finish(&node), "");
    assert_same(&before, &node.dump(), "second set-up");
}

/// `ip monitor`, until a marker appears.
struct Monitor(std::process::Child);

impl Monitor {
    fn start(node: &Space) -> Self {
        let child = node.run(|| {
            let mut command = tool("bin/ip");
            command.args(["monitor", "link", "address", "route", "rule", "neigh"]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        });
        pause(200_000_000);
        Self(child)
    }

    /// What was seen before the marker.
    fn finish(mut self, node: &Space) -> String {
        use std::io::{BufRead, BufReader};
        node.ip("route add unreachable 192.0.2.77/32");
        let mut seen = String::new();
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if line.contains("192.0.2.77") {
                break;
            }
            if !line.contains("fe80") && !line.contains("ff0") && !line.contains("lft") {
                seen.push_str(&line);
            }
        }
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        node.ip("route del unreachable 192.0.2.77/32");
        seen
    }
}

#[test]
fn rp_filter_is_effectively_loose_whatever_it_was() {
    for all in ["0", "1", "2"] {
        for own in ["0", "1", "2"] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let node = node();
                    node.sysctl("ipv4/conf/all/rp_filter", all);
                    node.sysctl("ipv4/conf/eth1/rp_filter", own);
                    eni::setup(&secondary()).unwrap();
                    let own_after: u8 = node.sysctl_value("ipv4/conf/eth1/rp_filter").parse().unwrap();
                    assert_eq!(own_after.max(all.parse().unwrap()), 2, "all {all}, own {own}");
                    assert_eq!(node.sysctl_value("ipv4/conf/all/rp_filter"), all);
                });
            });
        }
    }
}

#[test]
fn what_a_distribution_did_to_the_link_is_put_right() {
    let node = node();
    node.ip("link set eth1 up");
    // cloud-init and DHCP clients: the subnet route of the secondary ENI in main steals traffic of the primary one.
    node.ip("addr add 10.0.1.20/24 dev eth1");
    node.ip("addr add 10.0.1.99/24 dev eth1");
    node.ip("route add default via 10.0.1.1 dev eth1 table 2 onlink");
    node.ip("rule add priority 32765 from 10.0.1.20 lookup 7");
    node.ip("rule add priority 32765 from 10.0.9.20 lookup 7");
    assert!(node.ip("-4 route show table main").contains("10.0.1.0/24"));
    eni::setup(&secondary()).unwrap();
    assert_eq!(node.ip("-4 route show table main").trim(), "");
    let addresses = node.ip("-4 addr show dev eth1");
    assert!(addresses.contains("10.0.1.20/24") && !addresses.contains("10.0.1.99"), "{addresses}");
    assert_eq!(node.ip("-4 route show table 2").lines().count(), 2);
    let rules = node.ip("rule list priority 32765");
    assert!(rules.contains("from 10.0.1.20 lookup 2") && !rules.contains("from 10.0.1.20 lookup 7"), "{rules}");
    assert!(rules.contains("from 10.0.9.20 lookup 7"), "another ENI's rule stays: {rules}");
}

#[test]
fn a_rule_of_the_reference_is_taken_as_it_is() {
    let node = node();
    node.ip("rule add priority 32765 from 10.0.1.20 lookup 2");
    eni::setup(&secondary()).unwrap();
    assert_eq!(node.ip("rule list priority 32765").lines().count(), 1);
}

#[test]
fn an_eni_whose_link_is_not_there_yet_can_be_told_apart() {
    let _node = Space::enter_new();
    let error = eni::setup(&secondary()).unwrap_err();
    assert!(error.is_link_missing());
    assert_eq!(error.to_string(), format!("no link has the MAC {MAC}"));
}

#[test]
fn the_primary_eni_gets_mtu_and_rp_filter_only() {
    let node = node();
    node.ip("addr add 10.0.0.10/24 dev eth1");
    node.ip("addr add 10.0.0.11/24 dev eth1");
    node.ip("link set eth1 up");
    node.ip("route add default via 10.0.0.1");
    let routes = node.ip("-4 route show table all");
    let primary = EniSetup { place: Place::PRIMARY, ..secondary() };
    eni::setup(&primary).unwrap();
    assert_eq!(node.ip("-4 route show table all"), routes);
    assert!(node.ip("link show dev eth1").contains("mtu 9001"));
    assert_eq!(node.sysctl_value("ipv4/conf/eth1/rp_filter"), "2");
    assert_eq!(node.ip("rule").lines().count(), 3);
    eni::remove(&primary).unwrap();
    assert!(node.ip("-4 addr show dev eth1").contains("10.0.0.10/24"));
}

#[test]
fn an_mtu_that_the_link_refuses_is_an_error_in_the_kernel_s_words() {
    let _node = node();
    let error = eni::setup(&EniSetup { mtu: 70_000, ..secondary() }).unwrap_err();
    assert!(error.to_string().contains("mtu 70000"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("mtu"), "{error:?}");
}

#[test]
fn a_removed_eni_leaves_its_link_only_and_may_be_removed_again() {
    let node = node();
    eni::setup(&secondary()).unwrap();
    eni::remove(&secondary()).unwrap();
    assert_eq!(node.ip("-4 route show table main").trim(), "");
    assert!(!node.ip("rule").contains("32765"));
    assert!(!node.ip("-4 addr show dev eth1").contains("inet"));
    assert!(!node.ip("-4 route show table all").contains("eth1"));
    eni::remove(&secondary()).unwrap();
    node.ip("rule add priority 32765 from 10.0.1.20 lookup 2");
    node.ip("link del eth1");
    eni::remove(&secondary()).unwrap();
    assert!(!node.ip("rule").contains("32765"));
}

#[test]
fn a_vlan_with_the_same_mac_is_not_the_eni() {
    let node = node();
    // A bridge repeats the MAC of its port, as a VLAN repeats that of the card below it.
    node.ip(&format!("link add aaa address {MAC} type bridge"));
    eni::setup(&secondary()).unwrap();
    assert!(node.ip("-4 addr show dev eth1").contains("10.0.1.20"));
    assert!(!node.ip("-4 addr show dev aaa").contains("10.0.1.20"));
}

#[test]
fn the_plan_s_own_text_does_the_same_when_a_shell_runs_it() {
    let node = node();
    node.sysctl("ipv4/conf/eth1/rp_filter", "0");
    node.shell(&crate::plan::eni::setup(&secondary()).to_string());
    wait_for_carrier(&node, "eth1");
    wait_for_carrier(&node, "far");
    let before = node.dump();
    let monitor = Monitor::start(&node);
    eni::setup(&secondary()).unwrap();
    assert_eq!(monitor.finish(&node), "", "the set-up found something to write after the text had run");
    assert_same(&before, &node.dump(), "after the text");
}
