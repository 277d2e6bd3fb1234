// SPDX-License-Identifier: Apache-2.0
//! Two nodes: n1 as aws-node has left it, with live pods that talk; n2 is Enid's from the start.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::aws_node::checker::{Expected, HostState};
use integration::aws_node::{AwsNode, Filling, Spec};
use integration::eventually::eventually;
use integration::fabric::INTERNET_HOST;
use integration::flows::{Listening, Path, Tally};
use integration::netns::Namespace;
use integration::node::Node;
use integration::pods::{self, Pod, one_of_each};
use integration::tools::Iptables;
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::Value;

/// The reference's own default is 30 s, which what it let go of last rests after a takeover, too.
pub(crate) const COOLDOWN: &str = "2";

/// Of EC2's actions those that change something.
const WRITES: [&str; 8] = [
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "ModifyNetworkInterfaceAttribute",
    "CreateTags",
];

/// Three ENIs, which are all that the instance takes, with all their addresses: nothing has to be asked of EC2.
pub(crate) const ADDRESSES: Spec =
    Spec { filling: Filling::Addresses(2), iptables: Iptables::Nft, on_primary: 4, on_secondary: 3 };
/// A prefix and two: as warm as the settings want it.
pub(crate) const PREFIXES: Spec =
    Spec { filling: Filling::Prefixes(1, 2), iptables: Iptables::Nft, on_primary: 4, on_secondary: 4 };

pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) aws: AwsNode,
    pub(crate) far: Vec<Pod>,
}

impl Bed {
    pub(crate) fn build(spec: &Spec) -> Self {
        let mut topology_spec = TopologySpec::one("m5.large");
        topology_spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
        let mut topology = Topology::build(&topology_spec).unwrap();
        let n2 = topology.node_mut("n2");
        n2.start().unwrap();
        n2.wait_ready(READY).unwrap();
        let far = pods::start(n2, 2, 2, &AtomicUsize::new(0)).unwrap();
        let aws = AwsNode::leave(&topology, "n1", spec).unwrap();
        let n1 = topology.node_mut("n1");
        n1.set("IP_COOLDOWN_PERIOD", COOLDOWN);
        if matches!(spec.filling, Filling::Prefixes(..)) {
            n1.set("ENABLE_PREFIX_DELEGATION", "true");
            n1.set("WARM_PREFIX_TARGET", "1");
        }
        let bed = Self { topology, aws, far };
        bed.assert_as_the_reference_has_them(&bed.aws.pods);
        bed
    }

    pub(crate) fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    pub(crate) fn host_state(&self) -> HostState {
        HostState::read(&self.topology.world.tools, &self.n1().netns).unwrap()
    }

    /// The reference's own assertions about each of these pods.
    pub(crate) fn assert_as_the_reference_has_them(&self, pods: &[Pod]) {
        let state = self.host_state();
        for pod in pods {
            let expected = Expected {
                host_veth: &pod.added.host_veth,
                address: pod.added.address,
                on_secondary: !pod.on_primary(),
                mtu: 9001,
            };
            state.is_set_up(&expected).unwrap();
        }
    }

    /// Starts the daemon, and waits until it has taken over `pods` pods.
    pub(crate) fn take_over(&mut self, pods: usize) {
        let n1 = self.topology.node_mut("n1");
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        self.wait_taken_over(pods);
    }

    pub(crate) fn wait_taken_over(&self, pods: usize) {
        let taken = eventually("the pods are taken over and what the reference left in nft is gone", READY, || {
            let allocated = self.n1().number("/pool/allocated").map_err(|error| error.to_string())?;
            let left = self.chains_of_the_reference();
            if allocated == pods as u64 && left.is_empty() { Ok(()) } else { Err(format!("{allocated}, {left:?}")) }
        });
        taken.unwrap_or_else(|error| panic!("{error}\n{}", integration::process::tail(&self.n1().log(), 30)));
    }

    /// Chains and tables of the reference's in nf_tables.
    pub(crate) fn chains_of_the_reference(&self) -> Vec<String> {
        let ruleset = self.topology.world.tools.nft_json(&self.n1().netns, &["list", "chains"]).unwrap();
        let chains = ruleset["nftables"].as_array().into_iter().flatten().map(|object| &object["chain"]);
        let theirs = |chain: &&Value| {
            chain["table"] == "aws-cni" || chain["name"].as_str().is_some_and(|name| name.starts_with("AWS-"))
        };
        chains.filter(theirs).map(|chain| format!("{} {}", chain["table"], chain["name"])).collect()
    }

    /// What EC2 was asked to change of n1's, call by call.
    pub(crate) fn writes(&self) -> Vec<String> {
        let instance = self.topology.instance("n1").unwrap().id;
        let enis: Vec<String> = self.topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect();
        let is_of_n1 = |value: &str| value == instance || enis.iter().any(|eni| eni == value);
        self.topology.emulator.with_model(|vpc, _| {
            let writes = vpc.calls().filter(|call| WRITES.contains(&call.action.as_str()));
            let of_n1 = writes.filter(|call| call.parameters.iter().any(|(_, value)| is_of_n1(value)));
            of_n1.map(|call| format!("{} {:?}", call.action, call.parameters)).collect()
        })
    }

    /// All addresses of n1's ENIs that pods can have, as EC2 has them now.
    pub(crate) fn on_enis(&self) -> BTreeSet<Ipv4Addr> {
        let enis = self.topology.enis("n1").unwrap();
        let inside = |prefix: &ipnet::Ipv4Net| {
            (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from).collect::<Vec<_>>()
        };
        let prefixes = enis.iter().flat_map(|eni| &eni.prefixes).flat_map(inside);
        enis.iter().flat_map(|eni| eni.secondary.iter().copied()).chain(prefixes).collect()
    }

    /// While a daemon answers at n1's socket, as aws-node's would: n2's.
    pub(crate) fn as_if_a_daemon_answered<T>(&mut self, look: impl FnOnce(&Self) -> T) -> T {
        let [own, other] =
            ["n1", "n2"].map(|name| self.topology.node(name).variable("ENID_SOCKET").unwrap().to_owned());
        self.topology.node_mut("n1").set("ENID_SOCKET", &other);
        let seen = look(self);
        self.topology.node_mut("n1").set("ENID_SOCKET", &own);
        seen
    }

    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        fs::read(self.n1().state_folder().join("ipam.json")).unwrap()
    }

    /// Established on every kind of path, from and to a pod of every ENI: pods of another ENI and of n2, both nodes, the internet.
    pub(crate) fn paths(&self, pods: &[Pod]) -> Vec<Path> {
        let facts = ["n1", "n2"].map(|name| self.topology.instance(name).unwrap());
        let of_enis = one_of_each(pods);
        let mut paths = Vec::new();
        let mut open = |name: String, from: &Namespace, to: &Namespace, address: Ipv4Addr| {
            let server = Listening::start(to, address).unwrap();
            let to = SocketAddrV4::new(address, server.port());
            paths.push(Path::open(&name, from, to, server).unwrap_or_else(|error| panic!("{name}: {error}")));
        };
        for (at, pod) in of_enis.iter().enumerate() {
            let (netns, table) = (&pod.sandbox.netns, pod.added.table);
            let (next, far) = (of_enis[(at + 1) % of_enis.len()], &self.far[0]);
            open(format!("table {table}: to a pod of the next ENI"), netns, &next.sandbox.netns, next.added.address);
            open(format!("table {table}: to a pod of n2"), netns, &far.sandbox.netns, far.added.address);
            open(format!("table {table}: from a pod of n2"), &far.sandbox.netns, netns, pod.added.address);
            open(format!("table {table}: from its node"), &self.n1().netns, netns, pod.added.address);
            open(format!("table {table}: to n2"), netns, &self.topology.node("n2").netns, facts[1].address);
            open(format!("table {table}: to the internet"), netns, self.topology.fabric.internet(), INTERNET_HOST);
        }
        paths
    }
}

/// Prints them; no connection has ended, and none lost a byte.
#[expect(clippy::print_stdout, reason = "how much was sent belongs to the result")]
pub(crate) fn assert_connections_live(tallies: &[Tally]) {
    for tally in tallies {
        println!("{tally}");
    }
    assert!(tallies.iter().all(|tally| tally.sent > 100), "too few datagrams to tell");
    let broken: Vec<_> = tallies.iter().filter(|tally| tally.tcp != (0, None)).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The same, and not one datagram was lost.
pub(crate) fn assert_nothing_lost(tallies: &[Tally]) {
    assert_connections_live(tallies);
    let broken: Vec<_> = tallies.iter().filter(|tally| !tally.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Long enough that looks at the network which follow a start find nothing to do.
pub(crate) const A_WHILE: Duration = Duration::from_millis(1_500);
