// SPDX-License-Identifier: Apache-2.0
//! A stand-in for kube-proxy: the rules that it keeps on a node for Services, in its three modes, and what it does with them.
//!
//! It is not kube-proxy. The rulesets are written from its documentation and the layout that its modes have on a node (chains
//! KUBE-SERVICES, KUBE-SVC, KUBE-EXT, KUBE-SEP, KUBE-MARK-MASQ, KUBE-POSTROUTING with mark 0x4000; table `ip kube-proxy`): the
//! same hooks, priorities, targets, marks and order, without health checks, session affinity and the firewall parts, and with
//! readable chain names. What matters to its neighbours on the node is all there: where DNAT happens, what is masqueraded, which
//! mark bits are used, and how a restart looks (its chains are emptied and written anew, or its table is replaced).
//!
//! | mode | tables | written by |
//! |---|---|---|
//! | iptables-legacy | nat of x_tables | `iptables-restore --noflush`, legacy |
//! | iptables-nft | table `ip nat` of nf_tables | `iptables-restore --noflush`, nft |
//! | nftables | table `ip kube-proxy` | one nft transaction |

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::netns::Namespace;
use crate::tools::{Iptables, ToolError, Tools};

/// kube-proxy's three modes without IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `--proxy-mode=iptables` on a host with iptables-legacy.
    IptablesLegacy,
    /// `--proxy-mode=iptables` on a host with iptables-nft.
    IptablesNft,
    /// `--proxy-mode=nftables`.
    Nftables,
}

impl Mode {
    /// All three.
    pub const ALL: [Self; 3] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nftables];
}

/// `externalTrafficPolicy`: where connections to the node port may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// To any endpoint, with the node's address as source.
    Cluster,
    /// To endpoints of this node, with the client's address as source.
    Local,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its cluster address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its node port and where that leads to.
    pub node_port: Option<(u16, Policy)>,
    /// Where it is served, and whether on this node.
    pub endpoints: Vec<(SocketAddrV4, bool)>,
}

/// What runs on a node.
#[derive(Debug)]
pub struct KubeProxy<'a> {
    tools: &'a Tools,
    node: &'a Namespace,
    mode: Mode,
}

impl<'a> KubeProxy<'a> {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(tools: &'a Tools, node: &'a Namespace, mode: Mode) -> Self {
        Self { tools, node, mode }
    }

    /// Writes all rules anew, as at its start and after every change: what was there of its own is replaced.
    ///
    /// # Errors
    /// A program is missing, or the kernel refuses.
    pub fn sync(&self, services: &[Service]) -> Result<(), ToolError> {
        match self.mode {
            Mode::Nftables => self.tools.nft(self.node, &nftables(services)),
            Mode::IptablesLegacy | Mode::IptablesNft => {
                let kind = self.kind();
                for (chain, position) in [("PREROUTING", "-I"), ("OUTPUT", "-I"), ("POSTROUTING", "-I")] {
                    let target = if chain == "POSTROUTING" { "KUBE-POSTROUTING" } else { "KUBE-SERVICES" };
                    // It makes sure of its jumps one by one, first of all.
                    let new = ["iptables", "-w", "-t", "nat", "-N", target];
                    let _ = Tools::iptables(self.node, kind, &new, "");
                    let rule = [chain, "-m", "comment", "--comment", "kubernetes", "-j", target];
                    let command = |verb| [&["iptables", "-w", "-t", "nat", verb][..], &rule].concat();
                    if Tools::iptables(self.node, kind, &command("-C"), "").is_err() {
                        Tools::iptables(self.node, kind, &command(position), "")?;
                    }
                }
                let arguments = ["iptables-restore", "--noflush", "-w"];
                Tools::iptables(self.node, kind, &arguments, &iptables(services)).map(drop)
            }
        }
    }

    /// Takes away what is its own, as `kube-proxy --cleanup` does.
    ///
    /// # Errors
    /// A program is missing, or the kernel refuses.
    pub fn clean_up(&self) -> Result<(), ToolError> {
        match self.mode {
            Mode::Nftables => self.tools.nft(self.node, "table ip kube-proxy\ndelete table ip kube-proxy\n"),
            Mode::IptablesLegacy | Mode::IptablesNft => {
                let run = |words: &[&str]| {
                    Tools::iptables(self.node, self.kind(), &[&["iptables", "-w", "-t", "nat"], words].concat(), "")
                };
                for (chain, target) in
                    [("PREROUTING", "KUBE-SERVICES"), ("OUTPUT", "KUBE-SERVICES"), ("POSTROUTING", "KUBE-POSTROUTING")]
                {
                    run(&["-D", chain, "-m", "comment", "--comment", "kubernetes", "-j", target])?;
                }
                let listing = run(&["-S"])?;
                let chains = listing.lines().filter_map(|line| line.strip_prefix("-N KUBE-"));
                let chains: Vec<String> = chains.map(|name| format!("KUBE-{name}")).collect();
                chains.iter().try_for_each(|chain| run(&["-F", chain]).map(drop))?;
                chains.iter().try_for_each(|chain| run(&["-X", chain]).map(drop))
            }
        }
    }

    fn kind(&self) -> Iptables {
        if self.mode == Mode::IptablesLegacy { Iptables::Legacy } else { Iptables::Nft }
    }
}

/// Of a Service's endpoints those that a policy allows, by position.
fn allowed(service: &Service, policy: Policy) -> Vec<usize> {
    let is_allowed = |is_local: bool| policy == Policy::Cluster || is_local;
    let endpoints = service.endpoints.iter().enumerate();
    endpoints.filter(|(_, (_, is_local))| is_allowed(*is_local)).map(|(position, _)| position).collect()
}

const TRANSPORTS: [&str; 2] = ["tcp", "udp"];

/// Input of `iptables-restore --noflush`: chains that are named are emptied.
fn iptables(services: &[Service]) -> String {
    let mut chains = vec!["KUBE-SERVICES".to_owned(), "KUBE-NODEPORTS".to_owned()];
    chains.extend(["KUBE-POSTROUTING", "KUBE-MARK-MASQ"].map(str::to_owned));
    let mut rules = String::from(
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n",
    );
    for (number, service) in services.iter().enumerate() {
        for transport in TRANSPORTS {
            let name = format!("{number}-{}", transport.to_uppercase());
            let (vip, port) = (service.address, service.port);
            let matching = format!("-d {vip}/32 -p {transport} -m {transport} --dport {port}");
            let _ = writeln!(rules, "-A KUBE-SERVICES {matching} -j KUBE-SVC-{name}");
            balance(&mut chains, &mut rules, &format!("KUBE-SVC-{name}"), &name, &allowed(service, Policy::Cluster));
            for (position, (endpoint, _)) in service.endpoints.iter().enumerate() {
                let chain = format!("KUBE-SEP-{name}-{position}");
                let _ = writeln!(rules, "-A {chain} -s {}/32 -j KUBE-MARK-MASQ", endpoint.ip());
                let _ = writeln!(rules, "-A {chain} -p {transport} -m {transport} -j DNAT --to-destination {endpoint}");
                chains.push(chain);
            }
            let Some((node_port, policy)) = service.node_port else { continue };
            let _ = writeln!(
                rules,
                "-A KUBE-NODEPORTS -p {transport} -m {transport} --dport {node_port} -j KUBE-EXT-{name}"
            );
            if policy == Policy::Cluster {
                let _ = writeln!(rules, "-A KUBE-EXT-{name} -j KUBE-MARK-MASQ\n-A KUBE-EXT-{name} -j KUBE-SVC-{name}");
                chains.push(format!("KUBE-EXT-{name}"));
            } else {
                balance(&mut chains, &mut rules, &format!("KUBE-EXT-{name}"), &name, &allowed(service, policy));
            }
        }
    }
    rules += "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";
    let chains: String = chains.iter().map(|chain| format!(":{chain} - [0:0]\n")).collect();
    format!("*nat\n{chains}{rules}COMMIT\n")
}

/// A chain that picks one of the endpoints at random.
fn balance(chains: &mut Vec<String>, rules: &mut String, chain: &str, service: &str, endpoints: &[usize]) {
    chains.push(chain.to_owned());
    for (place, endpoint) in endpoints.iter().enumerate() {
        let left = endpoints.len() - place;
        let odds = if left == 1 {
            String::new()
        } else {
            let left = u32::try_from(left).map_or(1.0, f64::from);
            format!("-m statistic --mode random --probability {:.10} ", 1.0 / left)
        };
        let _ = writeln!(rules, "-A {chain} {odds}-j KUBE-SEP-{service}-{endpoint}");
    }
}

/// One transaction that replaces table `ip kube-proxy`.
fn nftables(services: &[Service]) -> String {
    let (mut chains, mut by_address, mut by_node_port) = (String::new(), Vec::new(), Vec::new());
    for (number, service) in services.iter().enumerate() {
        for transport in TRANSPORTS {
            let name = format!("{number}-{transport}");
            by_address.push(format!("{} . {transport} . {} : goto service-{name}", service.address, service.port));
            pick(&mut chains, &format!("service-{name}"), &name, &allowed(service, Policy::Cluster));
            for (position, (endpoint, _)) in service.endpoints.iter().enumerate() {
                let _ = writeln!(
                    chains,
                    "chain endpoint-{name}-{position} {{\n ip saddr {} jump mark-for-masquerade\n \
                     meta l4proto {transport} dnat to {endpoint}\n}}",
                    endpoint.ip()
                );
            }
            let Some((node_port, policy)) = service.node_port else { continue };
            by_node_port.push(format!("{transport} . {node_port} : goto external-{name}"));
            if policy == Policy::Cluster {
                let _ =
                    writeln!(chains, "chain external-{name} {{\n jump mark-for-masquerade\n goto service-{name}\n}}");
            } else {
                pick(&mut chains, &format!("external-{name}"), &name, &allowed(service, policy));
            }
        }
    }
    let elements = |elements: &[String]| {
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }}\n", elements.join(", ")) }
    };
    format!(
        "table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {{\n\
         chain mark-for-masquerade {{\n meta mark set meta mark | 0x4000\n}}\n{chains}\
         map service-ips {{\n type ipv4_addr . inet_proto . inet_service : verdict\n{}}}\n\
         map service-nodeports {{\n type inet_proto . inet_service : verdict\n{}}}\n\
         chain services {{\n ip daddr . meta l4proto . th dport vmap @service-ips\n \
         fib daddr type local meta l4proto . th dport vmap @service-nodeports\n}}\n\
         chain masquerading {{\n meta mark & 0x4000 == 0 return\n meta mark set meta mark ^ 0x4000\n masquerade fully-random\n}}\n\
         chain nat-prerouting {{\n type nat hook prerouting priority -100; policy accept;\n jump services\n}}\n\
         chain nat-output {{\n type nat hook output priority -100; policy accept;\n jump services\n}}\n\
         chain nat-postrouting {{\n type nat hook postrouting priority 100; policy accept;\n jump masquerading\n}}\n}}\n",
        elements(&by_address),
        elements(&by_node_port),
    )
}

/// A chain that picks one of the endpoints at random.
fn pick(chains: &mut String, chain: &str, service: &str, endpoints: &[usize]) {
    let cases =
        endpoints.iter().enumerate().map(|(place, endpoint)| format!("{place} : goto endpoint-{service}-{endpoint}"));
    let cases = cases.collect::<Vec<_>>().join(", ");
    let count = endpoints.len();
    let rule = if count == 0 { String::new() } else { format!(" numgen random mod {count} vmap {{ {cases} }}\n") };
    let _ = writeln!(chains, "chain {chain} {{\n{rule}}}");
}
