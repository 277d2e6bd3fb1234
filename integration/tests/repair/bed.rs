// SPDX-License-Identifier: Apache-2.0
//! A node with pods on both of its ENIs, a pod on another node, a host on the internet; and what the node's kernel looks like.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::eventually;
use integration::fabric::INTERNET_HOST;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, Protocol, reach};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::Value;

/// Longest that anything may take; the promise of a second is kept by the middle of all that was measured, on machines that do
/// other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const PROMISE: Duration = Duration::from_secs(1);
/// The kernel is looked at once a minute whatever was heard.
const BY_ITSELF: Duration = Duration::from_secs(70);

/// Everything of the node that Enid makes, and how long it may differ.
pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) pods: Vec<Pod>,
    pub(crate) whole: BTreeSet<String>,
    far: EchoServer,
    far_address: Ipv4Addr,
    _far_pod: Pod,
    outside: EchoServer,
    public: Option<Ipv4Addr>,
}

impl Bed {
    pub(crate) fn build() -> Self {
        let mut spec = TopologySpec::one("m5.large");
        spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
        let mut topology = Topology::build(&spec).unwrap();
        topology.start(&[("WARM_IP_TARGET", "2"), ("MINIMUM_IP_TARGET", "16")]).unwrap();
        let pods = pods::start(topology.node("n1"), 12, 6, &AtomicUsize::new(0)).unwrap();
        let far_pod = pods::start(topology.node("n2"), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0);
        let far = EchoServer::start(&far_pod.sandbox.netns).unwrap();
        let outside = EchoServer::start(topology.fabric.internet()).unwrap();
        let public = topology.instance("n1").unwrap().public_address;
        let far_address = far_pod.added.address;
        let mut bed =
            Self { topology, pods, whole: BTreeSet::new(), far, far_address, _far_pod: far_pod, outside, public };
        bed.packets().unwrap();
        // Young pods are not looked at.
        integration::eventually::pass(Duration::from_secs(3));
        bed.whole = bed.state();
        bed
    }

    pub(crate) fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    /// The secondary ENI's link.
    pub(crate) fn eni_link(&self) -> String {
        let routes = self.topology.world.tools.ip_json(&self.n1().netns, &["route", "show", "table", "2"]).unwrap();
        routes[0]["dev"].as_str().unwrap().to_owned()
    }

    /// Table of the pods' routes: that of the layout which the run is about.
    pub(crate) fn pod_table(&self) -> &'static str {
        if self.n1().variable("ENID_LAYOUT") == Some("classic") { "main" } else { "158000" }
    }

    /// A pod on the primary ENI, and one on the secondary.
    pub(crate) fn two_pods(&self) -> [&Pod; 2] {
        [true, false].map(|primary| self.pods.iter().find(|pod| pod.on_primary() == primary).unwrap())
    }

    /// Both reach a pod of another node with their own address and the internet with the node's, and are reached by the node.
    pub(crate) fn packets(&self) -> Result<(), String> {
        for pod in self.two_pods() {
            let from = &pod.sandbox.netns;
            let far = SocketAddrV4::new(self.far_address, self.far.port());
            let seen = reach(from, Protocol::Udp, far).map_err(|error| error.to_string())?;
            if seen != pod.added.address {
                return Err(format!("{} is seen as {seen}", pod.added.address));
            }
            let outside = SocketAddrV4::new(INTERNET_HOST, self.outside.port());
            let seen = reach(from, Protocol::Udp, outside).map_err(|error| error.to_string())?;
            if Some(seen) != self.public {
                return Err(format!("{} is seen on the internet as {seen}", pod.added.address));
            }
            pod.reached_from(&self.n1().netns).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What of the kernel must be there: rules, routes, permanent neighbours, addresses, links, our nft table.
    pub(crate) fn state(&self) -> BTreeSet<String> {
        let node = self.n1();
        let tools = &self.topology.world.tools;
        let list = |words: &[&str]| match tools.ip_json(&node.netns, words).unwrap() {
            Value::Array(list) => list,
            other => panic!("{other}"),
        };
        let pick = |kind: &str, object: &Value, fields: &[&str]| {
            let texts = fields.iter().map(|field| object[*field].to_string());
            format!("{kind} {}", texts.collect::<Vec<_>>().join(" "))
        };
        let mut state = BTreeSet::new();
        let rule = ["priority", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "table"];
        state.extend(list(&["rule", "show"]).iter().map(|found| pick("rule", found, &rule)));
        let route = ["type", "dst", "gateway", "dev", "table", "scope"];
        let routes = list(&["-4", "route", "show", "table", "all"]);
        state.extend(routes.iter().filter(|found| found["table"] != "local").map(|found| pick("route", found, &route)));
        let neighbour = ["dst", "dev", "lladdr"];
        let neighbours = list(&["-4", "neighbour", "show", "nud", "permanent"]);
        state.extend(neighbours.iter().map(|found| pick("neighbour", found, &neighbour)));
        for link in list(&["-d", "address", "show"]) {
            let up = link["flags"].as_array().unwrap().contains(&Value::from("UP"));
            state.insert(format!("{} {up}", pick("link", &link, &["ifindex", "address", "mtu", "group", "ifalias"])));
            let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
            let v4 = addresses.iter().filter(|address| address["family"] == "inet");
            state.extend(
                v4.map(|found| format!("{} {}", pick("address", found, &["local", "prefixlen"]), link["ifindex"])),
            );
        }
        state.extend(self.nft_lines());
        state
    }

    fn nft_lines(&self) -> Vec<String> {
        let tools = &self.topology.world.tools;
        let Ok(listing) = tools.nft_json(&self.n1().netns, &["list", "table", "ip", "enid"]) else {
            return vec!["nft: no table".to_owned()];
        };
        let objects = listing["nftables"].as_array().cloned().unwrap_or_default();
        objects.iter().map(|object| format!("nft {}", without_counts(object))).collect()
    }

    /// How long it takes until everything is as before; what differs if it does not come back.
    pub(crate) fn wait_whole(&self) -> Result<Duration, String> {
        let start = Instant::now();
        eventually("the node's network is as it was", PATIENCE, || {
            let (now, whole) = (self.state(), &self.whole);
            let missing: Vec<_> = whole.difference(&now).take(5).collect();
            let more: Vec<_> = now.difference(whole).take(5).collect();
            if missing.is_empty() && more.is_empty() {
                Ok(())
            } else {
                Err(format!("missing {missing:?}, new {more:?}"))
            }
        })
        .map_err(|error| error.to_string())?;
        Ok(start.elapsed())
    }

    /// Until the daemon has looked at the kernel once more, of which nobody has told it anything.
    pub(crate) fn wait_look_by_itself(&self) {
        let looks = || self.n1().number("/repair/looks").map_err(|error| error.to_string());
        let before = looks().unwrap();
        let looked = eventually("a look that is due anyway", BY_ITSELF, || match looks()? {
            looks if looks > before => Ok(()),
            looks => Err(format!("{looks} looks")),
        });
        looked.unwrap();
    }

    /// How often something was put right, by `object reason`.
    pub(crate) fn repaired(&self) -> Vec<(String, u64)> {
        let status = self.n1().status().unwrap();
        let list = status["repair"]["repaired"].as_array().cloned().unwrap_or_default();
        let name =
            |entry: &Value| format!("{} {}", entry["object"].as_str().unwrap(), entry["reason"].as_str().unwrap());
        list.iter().map(|entry| (name(entry), entry["count"].as_u64().unwrap())).collect()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.n1().log()).unwrap()
    }
}

/// An object of nft without what changes by itself or with every load.
fn without_counts(object: &Value) -> Value {
    match object {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !["handle", "packets", "bytes"].contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), without_counts(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_counts).collect()),
        other => other.clone(),
    }
}
