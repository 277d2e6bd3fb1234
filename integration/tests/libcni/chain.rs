// SPDX-License-Identifier: Apache-2.0
//! Other plugins after ours in a list: Debian's `tuning` and `bandwidth` read our result and hand it on.

use integration::go_callers::libcni::Libcni;
use integration::probe::{EchoServer, reach_both};
use integration::topology::Topology;
use serde_json::json;

use crate::bed::{calls, ready_node, wait_allocated, with_list};

const SYSCTL: &str = "net.ipv4.conf.eth0.arp_notify";

fn chained(topology: &Topology, version: &str) -> Libcni {
    let tuning = json!({"type": "tuning", "sysctl": {SYSCTL: "1"}});
    let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
    with_list(topology, &format!("chained-{version}"), version, &[tuning, bandwidth])
}

#[test]
fn plugins_chained_after_ours_are_given_our_result_and_their_verbs_work() {
    let topology = ready_node(&[]);
    let n1 = topology.node("n1");
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let libcni = chained(&topology, version);
        libcni.validate().unwrap();
        let sandbox = n1.next_sandbox().unwrap();
        let outcome = libcni.add(&sandbox).unwrap_or_else(|error| panic!("{version}: {error}"));
        // Ours, unchanged by those who hand it on, and bandwidth's link besides.
        assert_eq!(outcome.result["cniVersion"], version);
        let interfaces = outcome.parsed["interfaces"].as_array().unwrap();
        let host_veth = interfaces[0]["name"].as_str().unwrap();
        assert!(host_veth.starts_with("eni") && interfaces[1]["name"] == "eth0", "{interfaces:?}");
        assert_eq!(outcome.parsed["ips"][0]["interface"], 1);
        // tuning has done its work in the pod, bandwidth its on our host veth, which it knows by our result.
        let sysctl = sandbox.netns.run(|| std::fs::read_to_string(format!("/proc/sys/{}", SYSCTL.replace('.', "/"))));
        assert_eq!(sysctl.unwrap().unwrap().trim(), "1", "{version}");
        let link = topology.world.tools.ip_json(&n1.netns, &["link", "show", "dev", host_veth]).unwrap();
        assert_eq!(link[0]["qdisc"], "tbf", "{version}: {link}");
        let address =
            outcome.parsed["ips"][0]["address"].as_str().unwrap().strip_suffix("/32").unwrap().parse().unwrap();
        let server = EchoServer::start(&sandbox.netns).unwrap();
        reach_both(&n1.netns, std::net::SocketAddrV4::new(address, server.port())).unwrap();
        libcni.check(&sandbox).unwrap_or_else(|error| panic!("{version}: {error}"));
        libcni.status().unwrap();
        libcni.del(&sandbox).unwrap();
        libcni.del(&sandbox).unwrap();
        wait_allocated(&topology, 0);
    }
}

#[test]
fn a_chain_that_fails_behind_us_is_taken_down_by_the_runtime_s_del() {
    let topology = ready_node(&[]);
    let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.not-there": "1"}});
    let libcni = with_list(&topology, "failing", "1.1.0", &[tuning]);
    let sandbox = topology.node("n1").next_sandbox().unwrap();
    let error = libcni.add(&sandbox).unwrap_err();
    assert!(error.to_string().contains("not-there"), "{error}");
    wait_allocated(&topology, 1);
    assert!(!libcni.cached(&sandbox).exists(), "libcni has no result to give back");
    libcni.del(&sandbox).unwrap();
    wait_allocated(&topology, 0);
    let calls = calls(&topology);
    let of_pod = calls.iter().filter(|(_, container)| *container == sandbox.container_id);
    assert_eq!(of_pod.map(|(verb, _)| verb.as_str()).collect::<Vec<_>>(), ["ADD", "DEL"]);
    let left = topology.node("n1").leftovers().unwrap().of_pods();
    assert!(left.routes.is_empty() && left.rules.is_empty(), "{left}");
}
