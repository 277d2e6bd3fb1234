// SPDX-License-Identifier: Apache-2.0
//! CHECK by the real binary: true after an ADD with the daemon gone, and every single object that is taken away is named.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests wait for the plugin's second look")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::daemon::{Daemon, Mode};
use support::{Node, Run, Sandbox, Space};

const SECONDARY: Mode = Mode::Serve { device_number: 2 };

/// A node whose daemon has gone after it gave a pod an address on a secondary ENI, with that ENI's default route.
struct Bench {
    node: Node,
    pod: Space,
    sandbox: Sandbox,
    result: Value,
    address: String,
    host_veth: String,
}

impl Bench {
    fn new() -> Self {
        let node = Node::enter();
        node.space.ip("route add default dev lo table 3");
        Self::on(node, 10)
    }

    /// The pod has the address 10.0.1.`last_octet`.
    fn on(node: Node, last_octet: u8) -> Self {
        Self::speaking("1.0.0", node, last_octet)
    }

    /// The same, added in this version of the specification.
    fn speaking(version: &str, node: Node, last_octet: u8) -> Self {
        let daemon = Daemon::start(&node.socket(), SECONDARY);
        daemon.model().give_next(last_octet);
        let pod = Space::new();
        let sandbox = Sandbox::new(&format!("c{last_octet}"), &format!("web-{last_octet}"), &pod.path());
        let result = node.verb("ADD", &sandbox, &node.conf(version)).success();
        drop(daemon);
        let address = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/32").to_owned();
        let host_veth = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
        Self { node, pod, sandbox, result, address, host_veth }
    }

    fn conf(&self, version: &str) -> Value {
        let mut conf = self.node.conf(version);
        conf["prevResult"] = self.result.clone();
        conf
    }

    fn check(&self) -> Run {
        self.node.verb("CHECK", &self.sandbox, &self.conf("1.0.0"))
    }

    /// The words with this pod's names in them.
    fn names(&self, words: &str) -> String {
        words.replace("VETH", &self.host_veth).replace("ADDRESS", &self.address)
    }
}

fn details(run: &Run) -> String {
    assert_eq!(run.error().0, 101, "{run:?}");
    run.json()["details"].as_str().unwrap().to_owned()
}

#[test]
fn a_check_is_true_after_the_add_in_every_version_with_the_daemon_gone() {
    let (mut node, mut pods) = (Node::enter(), Vec::new());
    node.space.ip("route add default dev lo table 3");
    for (last_octet, version) in (10..).zip(["0.4.0", "1.0.0", "1.1.0"]) {
        let bench = Bench::speaking(version, node, last_octet);
        assert_eq!(bench.result["cniVersion"], version);
        let before = bench.node.space.everything();
        let run = bench.node.verb("CHECK", &bench.sandbox, &bench.conf(version));
        run.silent_success();
        assert!(run.took < Duration::from_millis(900), "no second look: {run:?}");
        assert_eq!(bench.node.space.everything(), before, "nothing is written");
        // Its veth stays: one that goes would look like a write.
        pods.push(bench.pod);
        node = bench.node;
    }
}

#[test]
fn a_route_or_an_address_too_many_is_no_difference() {
    let bench = Bench::new();
    bench.node.space.ip(&bench.names("route add ADDRESS/32 dev VETH table 158001"));
    bench.node.space.ip(&bench.names("rule add priority 512 to ADDRESS lookup 158002"));
    bench.pod.ip("addr add fd12::5/64 dev eth0 nodad");
    let mut conf = bench.conf("1.0.0");
    conf["prevResult"]["ips"].as_array_mut().unwrap().push(json!({"address": "fd12::5/64", "interface": 1}));
    let run = bench.node.verb("CHECK", &bench.sandbox, &conf);
    run.silent_success();
    assert!(run.took < Duration::from_millis(900), "no second look: {run:?}");
}

#[test]
fn what_later_plugins_have_added_is_theirs() {
    let bench = Bench::new();
    bench.pod.ip("link set eth0 mtu 1400");
    let mut conf = bench.conf("1.1.0");
    let interfaces = conf["prevResult"]["interfaces"].as_array_mut().unwrap();
    interfaces.push(json!({"name": "bwp0123456789", "mac": "02:00:00:00:00:01"}));
    interfaces.push(json!({"name": "istio", "sandbox": bench.sandbox.netns, "mtu": 1500}));
    conf["prevResult"]["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.1/24", "interface": 4}));
    bench.node.verb("CHECK", &bench.sandbox, &conf).silent_success();

    conf["prevResult"]["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.9/32", "interface": 1}));
    let run = bench.node.verb("CHECK", &bench.sandbox, &conf);
    assert!(details(&run).contains("has not the address 192.0.2.9"), "{run:?}");
}

#[test]
fn without_a_result_that_names_the_pod_a_check_is_an_error_of_the_configuration() {
    let bench = Bench::new();
    let with = |result: Value| {
        let mut conf = bench.conf("1.0.0");
        conf["prevResult"] = result;
        bench.node.verb("CHECK", &bench.sandbox, &conf)
    };
    for (result, words) in [
        (Value::Null, "`prevResult`"),
        (json!("x"), "`prevResult`"),
        (json!({"ips": 7}), "`ips` that are no list"),
        (json!({"interfaces": {}}), "`interfaces` that are no list"),
        (json!({"ips": [{"address": "10.0.1"}]}), "no address in"),
        (json!({"interfaces": [{"name": "eth1"}], "ips": [{"address": "10.0.1.10/32", "interface": 0}]}), "of eth0"),
    ] {
        let run = with(result);
        let (code, message) = run.error();
        assert!(code == 7 && message.contains(words), "{words}: {run:?}");
    }
}

/// Where something is taken away.
#[derive(Clone, Copy)]
enum At {
    Node,
    Pod,
}

/// What is taken away by `ip`, and what the difference says.
const DAMAGE: [(At, &str, &[&str]); 17] = [
    (At::Node, "rule del priority 512 to ADDRESS", &["rule missing: ip rule add", "to ADDRESS"]),
    (At::Node, "route del ADDRESS/32", &["route missing: ip route add ADDRESS"]),
    (At::Node, "neigh del ADDRESS dev VETH", &["neighbour missing: ip neigh replace ADDRESS", "dev VETH"]),
    (At::Node, "link set VETH down", &["link down: ip link set dev VETH up", "route missing"]),
    (At::Node, "link set VETH address 02:00:00:00:00:09", &["link changed: ip link set dev VETH address"]),
    (At::Node, "link set VETH alias somebody", &["no live host veth of aws-cni/"]),
    (At::Node, "link set VETH group 57005", &["no live host veth of aws-cni/"]),
    (At::Node, "link set VETH mtu 1400", &["the MTU of eth0 in the pod is 9001", "1400"]),
    (At::Node, "route flush table 3", &["packets from ADDRESS go by table 3, which has no default route"]),
    (At::Pod, "addr del ADDRESS/32 dev eth0", &["in the pod, address missing: ip addr add ADDRESS/32 dev eth0"]),
    (At::Pod, "route del default", &["in the pod, route missing: ip route add default via 169.254.1.1 dev eth0"]),
    (At::Pod, "route del 169.254.1.1", &["in the pod, route missing: ip route add 169.254.1.1/32 dev eth0"]),
    (At::Pod, "neigh del 169.254.1.1 dev eth0", &["in the pod, neighbour missing: ip neigh replace 169.254.1.1"]),
    (
        At::Pod,
        "neigh replace 169.254.1.1 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        &["in the pod, neighbour changed: ip neigh replace 169.254.1.1"],
    ),
    (At::Pod, "link set eth0 down", &["in the pod, link down: ip link set dev eth0 up"]),
    (At::Pod, "link set eth0 address 02:00:00:00:00:09", &["in the pod, link changed: ip link set dev eth0 address"]),
    (At::Pod, "link del eth0", &["no live host veth", "in the pod, there is no link eth0"]),
];

#[test]
fn every_object_that_is_taken_away_is_named() {
    let mut bench = Bench::new();
    for (last_octet, (at, damage, words)) in (10..).zip(DAMAGE) {
        bench.check().silent_success();
        let space = match at {
            At::Node => &bench.node.space,
            At::Pod => &bench.pod,
        };
        space.ip(&bench.names(damage));
        let run = bench.check();
        let details = details(&run);
        for words in words {
            assert!(details.contains(&bench.names(words)), "{damage}: {words}: {details}");
        }
        assert!(run.took < Duration::from_millis(1_900), "{run:?}");
        // A new pod on the same node; the ENI's route too.
        bench.node.del(&bench.sandbox).silent_success();
        bench.node.space.ip("route replace default dev lo table 3");
        bench = Bench::on(bench.node, last_octet + 1);
    }
}

#[test]
fn all_differences_are_named_at_once() {
    let bench = Bench::new();
    bench.node.space.ip(&bench.names("rule del priority 512 to ADDRESS"));
    bench.node.space.ip(&bench.names("neigh del ADDRESS dev VETH"));
    bench.pod.ip("route del default");
    let run = bench.check();
    let details = details(&run);
    assert_eq!(details.split("; ").count(), 3, "{details}");
    assert!(run.error().1.contains("3 differences"), "{run:?}");
}

#[test]
fn what_is_put_back_within_a_second_is_no_difference() {
    let bench = Bench::new();
    bench.node.space.ip(&bench.names("route del ADDRESS/32"));
    let running = bench.node.start("CHECK", &bench.sandbox, &bench.conf("1.0.0"), &[]);
    std::thread::sleep(Duration::from_millis(400));
    bench.node.space.ip(&bench.names("route add ADDRESS/32 dev VETH scope link proto 158"));
    running.finish().silent_success();
}

#[test]
fn a_namespace_that_is_gone_is_a_difference() {
    let bench = Bench::new();
    let gone = Sandbox { netns: "/run/netns/gone".into(), ..bench.sandbox.clone() };
    let run = bench.node.verb("CHECK", &gone, &bench.conf("1.0.0"));
    assert!(details(&run).contains("network namespace /run/netns/gone"), "{run:?}");
}

/// As `amazon-vpc-cni-k8s` plumbs it: no alias, no protocol, and neighbours inside the pod only.
#[test]
fn a_pod_of_the_reference_is_checked_by_what_it_has() {
    let node = Node::enter();
    let pod = Space::new();
    let inode = pod.path();
    for words in [
        format!("link add enicc21c2d7785 type veth peer name eth0 netns {inode}"),
        "link set enicc21c2d7785 up".to_owned(),
        "route add 10.0.1.7/32 dev enicc21c2d7785 scope link".to_owned(),
        "rule add priority 512 to 10.0.1.7 lookup main".to_owned(),
    ] {
        node.space.ip(&words);
    }
    let links: Value = serde_json::from_str(&node.space.ip("-j link show enicc21c2d7785")).unwrap();
    let mac = links[0]["address"].as_str().unwrap();
    for words in [
        "link set eth0 up".to_owned(),
        "addr add 10.0.1.7/32 dev eth0".to_owned(),
        "route add 169.254.1.1 dev eth0 scope link".to_owned(),
        "route add default via 169.254.1.1 dev eth0".to_owned(),
        format!("neigh add 169.254.1.1 lladdr {mac} dev eth0 nud permanent"),
    ] {
        pod.ip(&words);
    }
    let sandbox = Sandbox::new("old", "elsewhere", &pod.path());
    let mut conf = node.conf("1.0.0");
    conf["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "enicc21c2d7785"},
            {"name": "eth0", "mac": "254", "sandbox": sandbox.netns},
            {"name": "dummycc21c2d7785", "mac": "0", "sandbox": "0"},
        ],
        "ips": [{"address": "10.0.1.7/32", "interface": 1}],
    });
    node.verb("CHECK", &sandbox, &conf).silent_success();
    node.space.ip("rule del priority 512");
    let run = node.verb("CHECK", &sandbox, &conf);
    assert!(details(&run).contains("rule missing"), "{run:?}");
}
