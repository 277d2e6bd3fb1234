// SPDX-License-Identifier: Apache-2.0
//! The stand-in's rules in iptables mode, as kube-proxy has written them since 1.24.
//!
//! Held against 1.20.2 (`tests/kube_proxy.rs`). Alike: the jumps with their order and conditions, the marks, what each chain
//! does and in which order. Not alike, on purpose: 1.20 sends node ports with policy Local to KUBE-XLB chains and those with
//! policy Cluster straight to KUBE-SVC, where later releases have KUBE-EXT and KUBE-SVL. Not here: the jumps for health checks
//! and for load balancers' source ranges, the kubelet's KUBE-MARK-DROP, comments, the chains by which a flush is noticed.

use std::fmt::Write as _;

use super::stand_in::{TRANSPORTS, allowed, without_local_endpoints};
use super::{Policy, Service};

/// A jump from a chain of the kernel into one of its own.
pub(super) struct Jump {
    table: &'static str,
    from: &'static str,
    pub(super) to: &'static str,
    comment: &'static str,
    of_new_connections: bool,
}

impl Jump {
    /// A command on its table.
    pub(super) fn command(&self, words: &[&'static str]) -> Vec<&'static str> {
        [&["iptables", "-w", "-t", self.table], words].concat()
    }

    /// A command (`-C`, `-I`, `-D`) with its rule.
    pub(super) fn with_rule(&self, verb: &'static str) -> Vec<&'static str> {
        let state: &[_] = if self.of_new_connections { &["-m", "conntrack", "--ctstate", "NEW"] } else { &[] };
        let target = ["-m", "comment", "--comment", self.comment, "-j", self.to];
        self.command(&[&[verb, self.from], state, &target].concat())
    }
}

/// In the order in which it makes sure of them, each at the head of its chain.
pub(super) static JUMPS: [Jump; 8] = [
    jump("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", true),
    jump("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", true),
    jump("filter", "FORWARD", "KUBE-SERVICES", "kubernetes service portals", true),
    jump("filter", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals", true),
    jump("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", false),
    jump("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals", false),
    jump("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals", false),
    jump("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules", false),
];

const fn jump(
    table: &'static str,
    from: &'static str,
    to: &'static str,
    comment: &'static str,
    of_new_connections: bool,
) -> Jump {
    Jump { table, from, to, comment, of_new_connections }
}

/// Input of `iptables-restore --noflush`: chains that are named are emptied.
pub(super) fn rules(services: &[Service]) -> String {
    let mut nat = Table::new("nat", &["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]);
    nat.rule("KUBE-MARK-MASQ -j MARK --or-mark 0x4000");
    nat.rule("KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN");
    nat.rule("KUBE-POSTROUTING -j MARK --xor-mark 0x4000");
    nat.rule("KUBE-POSTROUTING -j MASQUERADE --random-fully");
    let mut filter = Table::new("filter", &["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD"]);
    for (number, service) in services.iter().enumerate() {
        for transport in TRANSPORTS {
            if service.endpoints.is_empty() {
                reject(&mut filter, service, transport);
            } else {
                serve(&mut nat, service, number, transport);
            }
            if let Some(port) = without_local_endpoints(service) {
                let port = format!("-p {transport} -m {transport} --dport {port}");
                filter.rule(&format!("KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL {port} -j DROP"));
            }
        }
    }
    nat.rule("KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");
    filter.rule("KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP");
    filter.rule("KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT");
    filter.rule("KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    filter.text() + &nat.text()
}

/// A Service that nobody serves.
fn reject(filter: &mut Table, service: &Service, transport: &str) {
    let port = |port: u16| format!("-p {transport} -m {transport} --dport {port} -j REJECT");
    filter.rule(&format!("KUBE-SERVICES -d {}/32 {}", service.address, port(service.port)));
    if let Some((node_port, _)) = service.node_port {
        filter.rule(&format!("KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL {}", port(node_port)));
    }
}

fn serve(nat: &mut Table, service: &Service, number: usize, transport: &str) {
    let name = format!("{number}-{}", transport.to_uppercase());
    let port = |port: u16| format!("-p {transport} -m {transport} --dport {port}");
    nat.rule(&format!("KUBE-SERVICES -d {}/32 {} -j KUBE-SVC-{name}", service.address, port(service.port)));
    nat.balance(&format!("KUBE-SVC-{name}"), &name, &allowed(service, Policy::Cluster));
    for (position, (endpoint, _)) in service.endpoints.iter().enumerate() {
        let chain = nat.chain(format!("KUBE-SEP-{name}-{position}"));
        nat.rule(&format!("{chain} -s {}/32 -j KUBE-MARK-MASQ", endpoint.ip()));
        nat.rule(&format!("{chain} -p {transport} -m {transport} -j DNAT --to-destination {endpoint}"));
    }
    let Some((node_port, policy)) = service.node_port else { return };
    let external = nat.chain(format!("KUBE-EXT-{name}"));
    nat.rule(&format!("KUBE-NODEPORTS {} -j {external}", port(node_port)));
    if policy == Policy::Cluster {
        nat.rule(&format!("{external} -j KUBE-MARK-MASQ"));
        nat.rule(&format!("{external} -j KUBE-SVC-{name}"));
        return;
    }
    // The node's own connections go anywhere.
    for target in ["KUBE-MARK-MASQ".to_owned(), format!("KUBE-SVC-{name}")] {
        nat.rule(&format!("{external} -m addrtype --src-type LOCAL -j {target}"));
    }
    let local = allowed(service, policy);
    if !local.is_empty() {
        nat.balance(&format!("KUBE-SVL-{name}"), &name, &local);
        nat.rule(&format!("{external} -j KUBE-SVL-{name}"));
    }
}

/// What is written of a table.
struct Table {
    name: &'static str,
    chains: String,
    rules: String,
}

impl Table {
    fn new(name: &'static str, chains: &[&str]) -> Self {
        let mut table = Self { name, chains: String::new(), rules: String::new() };
        for chain in chains {
            table.chain((*chain).to_owned());
        }
        table
    }

    fn chain(&mut self, chain: String) -> String {
        let _ = writeln!(self.chains, ":{chain} - [0:0]");
        chain
    }

    fn rule(&mut self, rule: &str) {
        let _ = writeln!(self.rules, "-A {rule}");
    }

    /// A chain that picks one of the endpoints at random.
    fn balance(&mut self, chain: &str, service: &str, endpoints: &[usize]) {
        self.chain(chain.to_owned());
        for (place, endpoint) in endpoints.iter().enumerate() {
            let odds = match u32::try_from(endpoints.len() - place) {
                Ok(left) if left > 1 => {
                    format!("-m statistic --mode random --probability {:.10} ", 1.0 / f64::from(left))
                }
                _ => String::new(),
            };
            self.rule(&format!("{chain} {odds}-j KUBE-SEP-{service}-{endpoint}"));
        }
    }

    fn text(&self) -> String {
        format!("*{}\n{}{}COMMIT\n", self.name, self.chains, self.rules)
    }
}
