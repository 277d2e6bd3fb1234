// SPDX-License-Identifier: Apache-2.0
//! An address that is given to the next pod at once, with no cooldown, is clean: what was on its way to the last pod does not
//! reach the next one, though the kernel knew the way.
//!
//! ```text
//! client pod ── SYN to 172.20.0.1:80 ──► node: DNAT to A:8080, remembered ──► pod with A, silent
//!            ── the same SYN, 1 s later ──► node: the rule is gone, what is remembered counts ──► whoever has A now
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; waits for packets in real time"
)]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integration::netns::Namespace;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::tools::Tools;
use integration::topology::{Topology, TopologySpec};

const SERVICE: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const PORT: u16 = 8080;
/// A client repeats its SYN after 1, 3 and 7 s (tcp(7), tcp_syn_retries).
const REPEATS: Duration = Duration::from_millis(4_500);

/// A node with no address left: what a pod leaves is what the next one gets.
struct Bench {
    topology: Topology,
    pods: Vec<Pod>,
}

impl Bench {
    fn new() -> Self {
        let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        topology.start(&[("IP_COOLDOWN_PERIOD", "0"), ("MAX_ENI", "1")]).unwrap();
        let pods = pods::start(topology.node("n1"), 9, 3, &AtomicUsize::new(0)).unwrap();
        Self { topology, pods }
    }

    fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    /// A Service of one pod, as kube-proxy makes it.
    fn serve(&self, address: Ipv4Addr) {
        let chain = "type nat hook prerouting priority -100; policy accept;";
        let rule = format!("ip daddr {SERVICE} tcp dport 80 dnat to {address}:{PORT}");
        self.n1().nft(&format!("table ip service {{ chain pre {{ {chain} {rule}; }}; }}")).unwrap();
    }

    /// Its pod is gone: no rule leads there.
    fn stop_serving(&self) {
        self.n1().nft("flush chain ip service pre").unwrap();
    }

    /// The node's connections that name an address.
    fn connections(&self, address: Ipv4Addr) -> Vec<String> {
        let named = [format!("src={address} "), format!("dst={address} ")];
        let table = self.n1().netns.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
        let is_named = |line: &&str| named.iter().any(|name| line.contains(name.as_str()));
        table.unwrap().lines().filter(is_named).map(str::to_owned).collect()
    }
}

/// Tries to connect to the Service from a pod until `REPEATS` are over.
fn begin_connecting(from: &Namespace) -> JoinHandle<bool> {
    let from = from.clone();
    std::thread::spawn(move || {
        let service = SocketAddr::from((SERVICE, 80));
        from.run(|| TcpStream::connect_timeout(&service, REPEATS + Duration::from_secs(1)).is_ok()).unwrap()
    })
}

fn listen(pod: &Namespace) -> TcpListener {
    let listener = pod.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Whether somebody comes before the repeats are over.
fn is_reached(listener: &TcpListener) -> bool {
    let end = Instant::now() + REPEATS;
    while Instant::now() < end {
        match listener.accept() {
            Ok(_) => return true,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn eventually(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(3);
    while !is_so() {
        assert!(Instant::now() < end, "it did not become so in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_meant_for_the_last_pod_does_not_reach_the_next_one_of_its_address() {
    let mut bench = Bench::new();
    let (victim, client) = (bench.pods.pop().unwrap(), bench.pods.pop().unwrap());
    let address = victim.added.address;
    let tools = Tools::find().unwrap();
    // It answers nothing, so that the connection stays half open.
    tools.ip(&victim.sandbox.netns, "route del default").unwrap();
    bench.serve(address);
    let connecting = begin_connecting(&client.sandbox.netns);
    eventually(|| bench.connections(address).iter().any(|line| line.contains("SYN_SENT")));
    bench.stop_serving();
    bench.n1().ip(&format!("neigh replace {address} lladdr 02:00:00:00:00:07 dev eth0 nud stale")).unwrap();

    bench.n1().runtime.del(&victim.sandbox, NetnsPath::Given).unwrap();
    let sandbox = bench.n1().next_sandbox().unwrap();
    let next = bench.n1().runtime.add(&sandbox).unwrap();
    assert_eq!(next.address, address, "the only one left, at once");
    let listener = listen(&sandbox.netns);
    assert_eq!(bench.connections(address), Vec::<String>::new(), "given out clean");
    let neighbours = tools.ip_json(&bench.n1().netns, &["neigh", "show", "to", &address.to_string(), "dev", "eth0"]);
    assert_eq!(neighbours.unwrap(), serde_json::json!([]));
    assert!(!is_reached(&listener), "a SYN for the last pod reached the next one");
    assert!(!connecting.join().unwrap());
}

#[test]
fn without_a_release_what_the_kernel_remembers_leads_the_repeated_syn_to_the_pod() {
    let mut bench = Bench::new();
    let (victim, client) = (bench.pods.pop().unwrap(), bench.pods.pop().unwrap());
    let address = victim.added.address;
    let tools = Tools::find().unwrap();
    tools.ip(&victim.sandbox.netns, "route del default").unwrap();
    bench.serve(address);
    let connecting = begin_connecting(&client.sandbox.netns);
    eventually(|| bench.connections(address).iter().any(|line| line.contains("SYN_SENT")));
    bench.stop_serving();
    let listener = listen(&victim.sandbox.netns);
    tools.ip(&victim.sandbox.netns, "route add default via 169.254.1.1 dev eth0 onlink").unwrap();
    assert!(is_reached(&listener), "the twin: the way is remembered although no rule shows it");
    assert!(connecting.join().unwrap());
}

#[test]
fn pods_that_run_keep_their_connections_when_others_go() {
    let mut bench = Bench::new();
    let (server, client) = (bench.pods.pop().unwrap(), bench.pods.pop().unwrap());
    bench.serve(server.added.address);
    let listener = listen(&server.sandbox.netns);
    let connecting = begin_connecting(&client.sandbox.netns);
    assert!(is_reached(&listener) && connecting.join().unwrap());
    let before = bench.connections(server.added.address).len();
    assert!(before > 0);
    let others = std::mem::take(&mut bench.pods);
    pods::end(bench.n1(), others, 4).unwrap();
    // As many ADDs as there were DELs succeed only when every address was flushed.
    pods::start(bench.n1(), 7, 4, &AtomicUsize::new(0)).unwrap();
    assert!(bench.connections(server.added.address).len() >= before);
}
