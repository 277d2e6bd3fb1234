// SPDX-License-Identifier: Apache-2.0
//! What is translated follows the lists while the daemon runs: established connections go on, new ones are as the lists say now,
//! the table's rules stay. And many connections at once do not get in each other's way.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "writes the watched file, and keeps connections open for a time")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::counters::conntrack;
use integration::eventually::{eventually, pass};
use integration::netns::Namespace;
use integration::outside::{BEHIND_GATEWAY, Outside, PEER};
use integration::pods::{self, Pod};
use integration::topology::{Topology, TopologySpec};

/// The file is read every 5 s.
const NOTICED: Duration = Duration::from_secs(15);

/// An open connection, both ends.
struct Flow {
    pod: TcpStream,
    far: TcpStream,
}

impl Flow {
    fn open(pod: &Namespace, listener: &TcpListener) -> Self {
        let to = listener.local_addr().unwrap();
        let pod = pod.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap().unwrap();
        let (far, _) = listener.accept().unwrap();
        for end in [&pod, &far] {
            end.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        Self { pod, far }
    }

    /// Whose address the far end sees.
    fn seen(&self) -> Ipv4Addr {
        match self.far.peer_addr().unwrap().ip() {
            std::net::IpAddr::V4(address) => address,
            std::net::IpAddr::V6(address) => panic!("{address}"),
        }
    }

    fn exchange(&mut self) {
        let mut byte = [0; 1];
        self.pod.write_all(b"?").unwrap();
        self.far.read_exact(&mut byte).unwrap();
        self.far.write_all(b"!").unwrap();
        self.pod.read_exact(&mut byte).unwrap();
    }
}

fn on_secondary(topology: &Topology) -> Pod {
    let mut pods = pods::start(topology.node("n1"), 12, 6, &AtomicUsize::new(0)).unwrap();
    let at = pods.iter().position(|pod| !pod.on_primary()).unwrap();
    pods.swap_remove(at)
}

struct Bench {
    topology: Topology,
    pod: Pod,
    peer: TcpListener,
    gateway: TcpListener,
    file: PathBuf,
    node: Ipv4Addr,
    /// Where the listeners are.
    _outside: Outside,
}

impl Bench {
    fn new() -> Self {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        let outside = Outside::connect(&topology.world.tools, &topology.fabric).unwrap();
        let file = topology.node("n1").state_folder().join("snat.json");
        topology.start(&[("ENID_SNAT_FILE", file.to_str().unwrap())]).unwrap();
        let listen = |address| outside.netns.run(|| TcpListener::bind((address, 0))).unwrap().unwrap();
        let (peer, gateway) = (listen(PEER), listen(BEHIND_GATEWAY));
        let (pod, node) = (on_secondary(&topology), topology.instance("n1").unwrap().address);
        Self { topology, pod, peer, gateway, file, node, _outside: outside }
    }

    /// New connections to the peered VPC and behind the gateway are seen from these; `old` goes on all the time.
    fn wait_for(&self, old: &mut Flow, peer: Ipv4Addr, gateway: Ipv4Addr, within: Duration) {
        eventually("new connections follow the lists", within, || {
            old.exchange();
            let [to_peer, to_gateway] = [&self.peer, &self.gateway].map(|listener| {
                let mut flow = Flow::open(&self.pod.sandbox.netns, listener);
                flow.exchange();
                flow.seen()
            });
            if (to_peer, to_gateway) == (peer, gateway) { Ok(()) } else { Err(format!("{to_peer} {to_gateway}")) }
        })
        .unwrap();
    }

    /// Handles of the table's rules: they change when the table is made anew.
    fn handles(&self) -> Vec<u64> {
        let node = self.topology.node("n1");
        let table = self.topology.world.tools.nft_json(&node.netns, &["-a", "list", "table", "ip", "enid"]).unwrap();
        let items = table["nftables"].as_array().unwrap();
        items.iter().filter_map(|item| item["rule"]["handle"].as_u64()).collect()
    }
}

#[test]
fn lists_change_under_traffic_and_established_connections_go_on() {
    let mut bench = Bench::new();
    let (own, node) = (bench.pod.added.address, bench.node);
    let mut translated = Flow::open(&bench.pod.sandbox.netns, &bench.peer);
    bench.wait_for(&mut translated, node, node, NOTICED);
    let handles = bench.handles();
    let pid = bench.topology.node_mut("n1").daemon().unwrap().pid();

    std::fs::write(&bench.file, r#"{"exclude": ["172.31.0.0/16"]}"#).unwrap();
    bench.wait_for(&mut translated, own, node, NOTICED);
    assert_eq!(translated.seen(), node, "its source stays");
    let mut direct = Flow::open(&bench.pod.sandbox.netns, &bench.peer);

    // A mistake changes nothing, and is told.
    std::fs::write(&bench.file, r#"{"exclude": ["172.31.0.0/99"]}"#).unwrap();
    eventually("the mistake is told", NOTICED, || {
        let log = std::fs::read_to_string(bench.topology.node("n1").log()).unwrap();
        if log.contains("exclude: `172.31.0.0/99`") { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .unwrap();
    bench.wait_for(&mut translated, own, node, NOTICED);

    std::fs::write(&bench.file, r#"{"include": ["172.31.0.0/16"], "external_services": ["192.168.7.0/24"]}"#).unwrap();
    bench.wait_for(&mut translated, node, own, NOTICED);
    direct.exchange();
    assert_eq!(direct.seen(), own);
    let rules = bench.topology.world.tools.ip_json(&bench.topology.node("n1").netns, &["rule", "list"]).unwrap();
    let services = rules.as_array().unwrap().iter().filter(|rule| rule["priority"] == 1535);
    assert_eq!(services.map(|rule| rule["dst"].to_string()).collect::<Vec<_>>(), ["\"192.168.7.0\""]);

    std::fs::remove_file(&bench.file).unwrap();
    bench.wait_for(&mut translated, node, node, NOTICED);
    translated.exchange();
    direct.exchange();
    assert_eq!(bench.handles(), handles, "only elements of sets were written");
    assert_eq!(bench.topology.node_mut("n1").daemon().unwrap().pid(), pid);
    assert_eq!(bench.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

#[test]
fn a_new_block_of_the_vpc_is_picked_up_in_about_a_minute() {
    let bench = Bench::new();
    let (own, node) = (bench.pod.added.address, bench.node);
    let mut translated = Flow::open(&bench.pod.sandbox.netns, &bench.gateway);
    bench.wait_for(&mut translated, node, node, NOTICED);
    bench.topology.emulator.with_model(|vpc, _| {
        let id = vpc.vpcs().next().unwrap().id.clone();
        vpc.associate_cidr_block(&id, "10.200.0.0/16".parse().unwrap()).unwrap();
    });
    bench.wait_for(&mut translated, node, own, Duration::from_secs(90));
    assert_eq!(translated.seen(), node);
}

/// So long are connections opened, and so many by each of four pods a second. All in all 30,000 of the 64,512 ports of one
/// address towards one destination are taken: nothing is free again before conntrack's 30 s for UDP without an answer.
const STORM: Duration = Duration::from_secs(3);
const PACE: u64 = 2_500;

#[test]
fn a_storm_of_connections_to_one_destination_loses_none() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    let outside = Outside::connect(&topology.world.tools, &topology.fabric).unwrap();
    topology.start(&[("ENID_SNAT_PORT_RANGE", "1024-65535")]).unwrap();
    let pods = pods::start(topology.node("n1"), 12, 6, &AtomicUsize::new(0)).unwrap();
    let far = outside.netns.run(|| UdpSocket::bind((PEER, 0))).unwrap().unwrap();
    let to = SocketAddrV4::new(PEER, far.local_addr().unwrap().port());
    far.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (opened, heard, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                heard.fetch_add(u64::from(far.recv_from(&mut buffer).is_ok()), Ordering::Relaxed);
            }
        });
        for pod in &pods[..4] {
            scope.spawn(|| {
                pod.sandbox.netns.run(|| {
                    let mut sent = 0u64;
                    while started.elapsed() < STORM {
                        if u128::from(sent) * 1_000 > started.elapsed().as_millis() * u128::from(PACE) {
                            pass(Duration::from_millis(1));
                            continue;
                        }
                        sent += 1;
                        // A socket of its own: a source port of its own, a connection for conntrack.
                        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                        socket.send_to(b"storm", to).unwrap();
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                })
            });
        }
        scope.spawn(|| {
            pass(STORM + Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
        });
    });
    let (opened, heard) = (opened.into_inner(), heard.into_inner());
    let rate = opened / STORM.as_secs();
    println!("{opened} connections, {rate} a second, {heard} heard");
    let node = &topology.node("n1").netns;
    let counters = ["insert_failed", "drop", "early_drop"].map(|name| conntrack(node, name).unwrap());
    assert_eq!(counters, [0, 0, 0], "insert_failed, drop, early_drop at {rate} connections a second");
    assert!(opened > 5_000, "{opened}: this was no storm");
}
