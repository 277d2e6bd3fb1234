// SPDX-License-Identifier: Apache-2.0
//! Answers leave by the ENI that the request came in by, in every combination: pods on the primary and on secondary ENIs; node
//! ports with either policy, from inside the VPC, from a peered VPC and from the internet; a load balancer that targets pods;
//! a peered VPC; a transit gateway; SNAT by us or elsewhere; node ports served or not; both layouts. Node ports are asked for at the
//! primary ENI's address and, from inside the VPC and from a peered one, at that of the pod's own ENI and of another. No packet dies
//! of rp_filter.
//!
//! The fabric drops what leaves by the wrong ENI, so an answer proves its way. kube-proxy is a stand-in
//! (`integration::kube_proxy`), the other networks are one namespace (`integration::outside`).
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;

use integration::fabric::INTERNET_HOST;
use integration::kube_proxy::{KubeProxy as _, Mode, Policy, Service, StandIn};
use integration::netns::Namespace;
use integration::node::RpFilter;
use integration::outside::{BEHIND_GATEWAY, CLIENT, Outside, PEER};
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, ProbeError, Protocol, ask_from};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// How a request reaches a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By a node port of n1 at the address of one of its ENIs, asked from there.
    NodePort(Policy, Asker, At),
    /// By a node port of n1, served by a pod of n2.
    Elsewhere(Asker, At),
    /// By a load balancer, to the pod's own address.
    Balancer,
    /// From a peered VPC or through a transit gateway, to the pod's own address.
    Routed(Ipv4Addr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Vpc,
    Peer,
    Internet,
}

const ASKERS: [Asker; 3] = [Asker::Vpc, Asker::Peer, Asker::Internet];

/// The ENI whose own address is asked, by device index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At(u32);

/// Pods on a secondary ENI are on this one.
const POD_ENI: At = At(1);

/// The internet knows the primary ENI alone.
fn places(asker: Asker) -> Vec<At> {
    if asker == Asker::Internet { vec![At(0)] } else { vec![At(0), POD_ENI, At(2)] }
}

fn ways() -> Vec<Way> {
    let asked = ASKERS.into_iter().flat_map(|asker| places(asker).into_iter().map(move |at| (asker, at)));
    let node_ports = asked.flat_map(|(asker, at)| {
        let of_n1 = [Policy::Local, Policy::Cluster].map(|policy| Way::NodePort(policy, asker, at));
        of_n1.into_iter().chain([Way::Elsewhere(asker, at)])
    });
    node_ports.chain([Way::Balancer, Way::Routed(PEER), Way::Routed(BEHIND_GATEWAY)]).collect()
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    external_snat: bool,
    node_ports: bool,
}

/// One combination.
#[derive(Clone, Copy)]
struct Case {
    settings: Settings,
    on_primary: bool,
    way: Way,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let eni = if self.on_primary { "primary" } else { "secondary" };
        write!(f, "pod on a {eni} ENI, {:?}, {:?}", self.way, self.settings)
    }
}

impl Case {
    /// The one gap: who says that node ports are not served does not get the marks by which answers leave by another ENI than that of
    /// the pod (or the one that its answer comes back by, when it is on another node).
    fn is_answered(&self) -> bool {
        let answers = if self.on_primary { At(0) } else { POD_ENI };
        self.settings.node_ports
            || match self.way {
                Way::NodePort(_, _, at) => at == answers,
                Way::Elsewhere(_, at) => at == At(0),
                Way::Balancer | Way::Routed(_) => true,
            }
    }
}

struct Bench {
    topology: Topology,
    outside: Outside,
    /// Of n1 and n2: on the primary ENI, on a secondary one, each with a server.
    served: [[(Pod, EchoServer); 2]; 2],
    next_port: u16,
    is_flat: bool,
}

impl Bench {
    fn new(rp_filter: RpFilter, layout: &str) -> Self {
        let mut spec = TopologySpec::one("m5.large");
        spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
        for node in &mut spec.nodes {
            node.rp_filter = rp_filter;
        }
        let mut topology = Topology::build(&spec).unwrap();
        // Enough for three ENIs.
        topology.start(&[("ENID_LAYOUT", layout), ("MINIMUM_IP_TARGET", "20"), ("WARM_IP_TARGET", "1")]).unwrap();
        let outside = Outside::connect(&topology.world.tools, &topology.fabric).unwrap();
        let served = ["n1", "n2"].map(|name| {
            let mut pods = pods::start(topology.node(name), 12, 6, &AtomicUsize::new(0)).unwrap();
            [true, false].map(|primary| {
                let eni = if primary { 0 } else { POD_ENI.0 };
                let at = pods.iter().position(|pod| device_index(&topology, name, pod) == eni).unwrap();
                let pod = pods.swap_remove(at);
                let server = EchoServer::start(&pod.sandbox.netns).unwrap();
                (pod, server)
            })
        });
        Self { topology, outside, served, next_port: 30_000, is_flat: layout == "flat" }
    }

    /// The daemons with other settings: live pods go on.
    fn restart_with(&mut self, settings: Settings) {
        for node in &mut self.topology.nodes {
            assert!(node.stop());
        }
        let text = |flag: bool| if flag { "true" } else { "false" };
        let environment = [
            ("AWS_VPC_K8S_CNI_EXTERNALSNAT", text(settings.external_snat)),
            ("AWS_VPC_CNI_NODE_PORT_SUPPORT", text(settings.node_ports)),
        ];
        self.topology.start(&environment).unwrap();
        let table = if settings.external_snat { "external" } else { "own" };
        integration::eventually::eventually("the host is set up", std::time::Duration::from_secs(10), || {
            let rules =
                self.topology.world.tools.nft_json(&self.topology.node("n1").netns, &["list", "table", "ip", "enid"]);
            let text = rules.map_err(|error| error.to_string())?.to_string();
            let as_wanted = text.contains("source_address") != settings.external_snat
                && text.contains("connections to the node") == settings.node_ports
                && text.contains("eni_marks") == self.is_flat;
            if as_wanted { Ok(()) } else { Err(format!("{table}: {text}")) }
        })
        .unwrap();
    }

    fn server(&self, node: usize, case: Case) -> SocketAddrV4 {
        let (pod, server) = &self.served[node][usize::from(!case.on_primary)];
        SocketAddrV4::new(pod.added.address, server.port())
    }

    /// Asks over UDP and TCP; what the pod saw as source.
    fn ask(&mut self, case: Case) -> Result<Vec<Ipv4Addr>, ProbeError> {
        let port = self.next_port;
        self.next_port += 1;
        let (from, source, to) = match case.way {
            Way::NodePort(policy, asker, at) => self.node_port(port, policy, (asker, at), (self.server(0, case), true)),
            Way::Elsewhere(asker, at) => {
                self.node_port(port, Policy::Cluster, (asker, at), (self.server(1, case), false))
            }
            Way::Balancer => {
                let balanced = self.outside.balance(port, self.server(0, case)).unwrap();
                (self.outside.netns.clone(), CLIENT, balanced)
            }
            Way::Routed(address) => (self.outside.netns.clone(), address, self.server(0, case)),
        };
        let ask = |protocol| ask_patiently(&from, source, protocol, to, case.is_answered());
        Ok(vec![ask(Protocol::Udp)?, ask(Protocol::Tcp)?])
    }

    /// A Service with one endpoint at a node port of n1; who asks it, from which address, and where.
    fn node_port(
        &self,
        port: u16,
        policy: Policy,
        (asker, at): (Asker, At),
        endpoint: (SocketAddrV4, bool),
    ) -> (Namespace, Ipv4Addr, SocketAddrV4) {
        let n1 = self.topology.node("n1");
        let service = Service {
            address: Ipv4Addr::new(172, 20, 0, 1),
            port: 80,
            node_port: Some((port, policy)),
            endpoints: vec![endpoint],
        };
        StandIn::new(&self.topology.world.tools, &n1.netns, Mode::Nftables).sync(&[service]).unwrap();
        let facts = self.topology.instance("n1").unwrap();
        let public = facts.public_address.unwrap();
        let asked = SocketAddrV4::new(own_address(&self.topology, "n1", at), port);
        match asker {
            Asker::Vpc => {
                let n2 = self.topology.node("n2");
                (n2.netns.clone(), self.topology.instance("n2").unwrap().address, asked)
            }
            Asker::Peer => (self.outside.netns.clone(), PEER, asked),
            Asker::Internet => {
                (self.topology.fabric.internet().clone(), INTERNET_HOST, SocketAddrV4::new(public, port))
            }
        }
    }

    /// Whose address the pod must see.
    fn source(&self, case: Case) -> Ipv4Addr {
        let address = |name| self.topology.instance(name).unwrap().address;
        let client = |asker| match asker {
            Asker::Vpc => address("n2"),
            Asker::Peer => PEER,
            Asker::Internet => INTERNET_HOST,
        };
        match case.way {
            Way::NodePort(Policy::Local, asker, _) => client(asker),
            Way::NodePort(Policy::Cluster, ..) | Way::Elsewhere(..) => address("n1"),
            Way::Balancer => CLIENT,
            Way::Routed(address) => address,
        }
    }

    /// TcpExt IPReversePathFilter of both nodes (`/proc/net/netstat`).
    fn reverse_path_drops(&self) -> u64 {
        self.topology
            .nodes
            .iter()
            .map(|node| integration::counters::netstat(&node.netns, "IPReversePathFilter").unwrap())
            .sum()
    }
}

/// The device index of the ENI that a pod is on.
fn device_index(topology: &Topology, node: &str, pod: &Pod) -> u32 {
    let enis = topology.enis(node).unwrap();
    enis.iter().find(|eni| eni.secondary.contains(&pod.added.address)).unwrap().device_index
}

/// The own address of an ENI.
fn own_address(topology: &Topology, node: &str, at: At) -> Ipv4Addr {
    topology.enis(node).unwrap().iter().find(|eni| eni.device_index == at.0).unwrap().primary
}

/// Silence is asked again where an answer must come: a busy machine may be late.
fn ask_patiently(
    from: &Namespace,
    source: Ipv4Addr,
    protocol: Protocol,
    to: SocketAddrV4,
    patiently: bool,
) -> Result<Ipv4Addr, ProbeError> {
    let tries = if patiently { 4 } else { 1 };
    let mut last = ask_from(from, source, protocol, to);
    for _ in 1..tries {
        if !matches!(last, Err(ProbeError::Silence { .. })) {
            break;
        }
        last = ask_from(from, source, protocol, to);
    }
    last.map(|seen| *seen.ip())
}

fn all_combinations(rp_filter: RpFilter, layout: &str) {
    let mut bench = Bench::new(rp_filter, layout);
    let drops = bench.topology.fabric.drops().unwrap();
    let (mut asked, mut lost) = (0, 0);
    for (external_snat, node_ports) in [(false, true), (true, true), (true, false), (false, false)] {
        let settings = Settings { external_snat, node_ports };
        bench.restart_with(settings);
        for on_primary in [true, false] {
            for way in ways() {
                let case = Case { settings, on_primary, way };
                asked += 1;
                match bench.ask(case) {
                    Ok(seen) => {
                        assert!(case.is_answered(), "{case}: answered");
                        let source = bench.source(case);
                        assert_eq!(seen, [source, source], "{case}");
                    }
                    Err(error) => {
                        assert!(!case.is_answered(), "{case}: {error}");
                        lost += 1;
                    }
                }
            }
        }
        // Pods still reach the others themselves, with the address that the settings say.
        for (pod, _) in &bench.served[0] {
            let server = EchoServer::start_at(&bench.outside.netns, PEER).unwrap();
            let to = SocketAddrV4::new(PEER, server.port());
            let node = bench.topology.instance("n1").unwrap().address;
            let wanted = if external_snat { pod.added.address } else { node };
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let seen = ask_patiently(&pod.sandbox.netns, Ipv4Addr::UNSPECIFIED, protocol, to, true).unwrap();
                assert_eq!(seen, wanted, "{settings:?} {protocol}");
            }
        }
        assert_eq!(bench.reverse_path_drops(), 0, "{settings:?}");
        if node_ports {
            assert_eq!(
                bench.topology.fabric.drops().unwrap().since(&drops).to_string(),
                "nothing dropped",
                "{settings:?}"
            );
        }
    }
    // Without node ports: a pod on the primary ENI in vain at two others, 8 times and 4 through n2; one on a secondary at two others
    // than its own, 6 and 4 times, and through n2 at two, 4 times.
    assert_eq!((asked, lost), (4 * 2 * 24, 2 * (12 + 14)));
}

#[test]
fn answers_leave_by_the_eni_of_the_request_in_every_combination() {
    all_combinations(RpFilter::Loose, "classic");
}

#[test]
fn and_on_a_host_that_began_with_strict_rp_filter() {
    all_combinations(RpFilter::Strict, "classic");
}

#[test]
fn and_in_layout_flat() {
    all_combinations(RpFilter::Strict, "flat");
}
