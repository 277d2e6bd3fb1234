// SPDX-License-Identifier: Apache-2.0
//! The stand-in's rules in nftables mode.
//!
//! Without the checks of load balancers' source ranges (a chain at the hooks of `filter-prerouting` and `filter-output`) and
//! of addresses of the Services' range that no Service has. Node ports are served on every address, as with
//! `--nodeport-addresses=0.0.0.0/0`.
//!
//! Source: Kubernetes documentation, "Virtual IPs and Service Proxies"; kube-proxy's `pkg/proxy/nftables/README.md`.

use std::fmt::Write as _;

use super::stand_in::{TRANSPORTS, allowed, without_local_endpoints};
use super::{Policy, Service};

/// Every base chain, with the priority it has: filters look before DNAT but for the last, which looks after it.
const BASE: &str = "\
chain filter-prerouting {
 type filter hook prerouting priority -110; policy accept;
}
chain filter-input {
 type filter hook input priority -110; policy accept;
 ct state new jump nodeport-endpoints-check
 ct state new jump service-endpoints-check
}
chain filter-forward {
 type filter hook forward priority -110; policy accept;
 ct state new jump service-endpoints-check
 ct state new jump cluster-ips-check
}
chain filter-output {
 type filter hook output priority -110; policy accept;
 ct state new jump service-endpoints-check
}
chain filter-output-post-dnat {
 type filter hook output priority -90; policy accept;
 ct state new jump cluster-ips-check
}
chain nat-prerouting {
 type nat hook prerouting priority -100; policy accept;
 jump services
}
chain nat-output {
 type nat hook output priority -100; policy accept;
 jump services
}
chain nat-postrouting {
 type nat hook postrouting priority 100; policy accept;
 jump masquerading
}
";

/// What the base chains jump to.
const COMMON: &str = "\
chain mark-for-masquerade {
 meta mark set meta mark | 0x4000
}
chain masquerading {
 meta mark & 0x4000 == 0 return
 meta mark set meta mark ^ 0x4000
 masquerade fully-random
}
chain reject-chain {
 reject
}
chain service-endpoints-check {
 ip daddr . meta l4proto . th dport vmap @no-endpoint-services
}
chain nodeport-endpoints-check {
 ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports
}
chain cluster-ips-check {
 ip daddr @cluster-ips reject
}
chain services {
 ip daddr . meta l4proto . th dport vmap @service-ips
 fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
}
";

/// One transaction that replaces table `ip kube-proxy`.
pub(super) fn rules(services: &[Service]) -> String {
    let (mut chains, mut by_address, mut by_node_port) = (String::new(), Elements::default(), Elements::default());
    let mut addresses = Vec::new();
    for (number, service) in services.iter().enumerate() {
        addresses.push(service.address.to_string());
        for transport in TRANSPORTS {
            let name = format!("{number}-{transport}");
            let is_served = !service.endpoints.is_empty();
            let goto = |chain: &str| if is_served { format!("{chain}-{name}") } else { "reject-chain".to_owned() };
            let place = format!("{} . {transport} . {}", service.address, service.port);
            by_address.add(is_served, &place, &goto("service"));
            if let Some((node_port, _)) = service.node_port {
                by_node_port.add(is_served, &format!("{transport} . {node_port}"), &goto("external"));
            }
            if let Some(port) = without_local_endpoints(service) {
                by_node_port.unserved.push(format!("{transport} . {port} : drop"));
            }
            if is_served {
                serve(&mut chains, service, &name, transport);
            }
        }
    }
    let address = "type ipv4_addr . inet_proto . inet_service : verdict";
    let port = "type inet_proto . inet_service : verdict";
    let sets = [
        container("set cluster-ips", "type ipv4_addr", &addresses),
        container("map service-ips", address, &by_address.served),
        container("map service-nodeports", port, &by_node_port.served),
        container("map no-endpoint-services", address, &by_address.unserved),
        container("map no-endpoint-nodeports", port, &by_node_port.unserved),
    ];
    format!(
        "table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {{\n{}{chains}{COMMON}{BASE}}}\n",
        sets.concat()
    )
}

/// Elements of two verdict maps: Services that are served, and those that are not.
#[derive(Default)]
struct Elements {
    served: Vec<String>,
    unserved: Vec<String>,
}

impl Elements {
    fn add(&mut self, is_served: bool, place: &str, target: &str) {
        let elements = if is_served { &mut self.served } else { &mut self.unserved };
        elements.push(format!("{place} : goto {target}"));
    }
}

fn container(name: &str, content: &str, elements: &[String]) -> String {
    let elements =
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }}\n", elements.join(", ")) };
    format!("{name} {{\n {content}\n{elements}}}\n")
}

fn serve(chains: &mut String, service: &Service, name: &str, transport: &str) {
    pick(chains, &format!("service-{name}"), "", name, &allowed(service, Policy::Cluster));
    for (position, (endpoint, _)) in service.endpoints.iter().enumerate() {
        let _ = writeln!(
            chains,
            "chain endpoint-{name}-{position} {{\n ip saddr {} jump mark-for-masquerade\n \
             meta l4proto {transport} dnat to {endpoint}\n}}",
            endpoint.ip()
        );
    }
    let external = format!("external-{name}");
    match service.node_port {
        None => {}
        Some((_, Policy::Cluster)) => {
            let _ = writeln!(chains, "chain {external} {{\n jump mark-for-masquerade\n goto service-{name}\n}}");
        }
        Some((_, policy)) => {
            // The node's own connections go anywhere.
            let own =
                format!(" fib saddr type local jump mark-for-masquerade\n fib saddr type local goto service-{name}\n");
            pick(chains, &external, &own, name, &allowed(service, policy));
        }
    }
}

/// A chain that picks one of the endpoints at random, after `first`.
fn pick(chains: &mut String, chain: &str, first: &str, service: &str, endpoints: &[usize]) {
    let cases =
        endpoints.iter().enumerate().map(|(place, endpoint)| format!("{place} : goto endpoint-{service}-{endpoint}"));
    let cases = cases.collect::<Vec<_>>().join(", ");
    let count = endpoints.len();
    let rule = if count == 0 { String::new() } else { format!(" numgen random mod {count} vmap {{ {cases} }}\n") };
    let _ = writeln!(chains, "chain {chain} {{\n{first}{rule}}}");
}
