// SPDX-License-Identifier: Apache-2.0
//! A stand-in for kube-proxy: the rules that it keeps on a node for Services, in its three modes, and what it does with them.
//!
//! It is not kube-proxy. Hooks, priorities, jumps, marks, targets and order are its; health checks, session affinity and load
//! balancers are not there, and chains have readable names. What matters to its neighbours on the node is all there: where
//! DNAT happens, what is masqueraded, dropped and refused, which mark bits are used, and how a restart looks (its chains are
//! emptied and written anew, or its table is replaced). What differs from the program is said in `iptables` and `nftables`.
//!
//! | mode | tables | written by |
//! |---|---|---|
//! | iptables-legacy | nat, filter of x_tables | `iptables-restore --noflush`, legacy |
//! | iptables-nft | tables `ip nat`, `ip filter` of nf_tables | `iptables-restore --noflush`, nft |
//! | nftables | table `ip kube-proxy` | one nft transaction |

use crate::netns::Namespace;
use crate::tools::{Iptables, Tools};

use super::{KubeProxy, KubeProxyError, Mode, Policy, Service, iptables, nftables};

/// The stand-in on a node.
#[derive(Debug)]
pub struct StandIn<'a> {
    tools: &'a Tools,
    node: &'a Namespace,
    mode: Mode,
}

impl<'a> StandIn<'a> {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(tools: &'a Tools, node: &'a Namespace, mode: Mode) -> Self {
        Self { tools, node, mode }
    }

    /// Of iptables; `None`: it writes nftables.
    fn kind(&self) -> Option<Iptables> {
        match self.mode {
            Mode::IptablesLegacy => Some(Iptables::Legacy),
            Mode::IptablesNft => Some(Iptables::Nft),
            Mode::Nftables => None,
        }
    }
}

impl KubeProxy for StandIn<'_> {
    /// Writes all rules anew, as at its start and after every change: what was there of its own is replaced.
    fn sync(&mut self, services: &[Service]) -> Result<(), KubeProxyError> {
        let Some(kind) = self.kind() else { return Ok(self.tools.nft(self.node, &nftables::rules(services))?) };
        // It makes sure of its jumps one by one, first of all.
        for jump in &iptables::JUMPS {
            // A chain that is there already.
            let _ = Tools::iptables(self.node, kind, &jump.command(&["-N", jump.to]), "");
            if Tools::iptables(self.node, kind, &jump.with_rule("-C"), "").is_err() {
                Tools::iptables(self.node, kind, &jump.with_rule("-I"), "")?;
            }
        }
        let arguments = ["iptables-restore", "--noflush", "-w"];
        Tools::iptables(self.node, kind, &arguments, &iptables::rules(services))?;
        Ok(())
    }

    /// There is no program.
    fn stop(&mut self) {}

    fn clean_up(&mut self) -> Result<(), KubeProxyError> {
        let Some(kind) = self.kind() else {
            return Ok(self.tools.nft(self.node, "table ip kube-proxy\ndelete table ip kube-proxy\n")?);
        };
        for jump in &iptables::JUMPS {
            Tools::iptables(self.node, kind, &jump.with_rule("-D"), "")?;
        }
        for table in ["filter", "nat"] {
            let run = |words: &[&str]| {
                Tools::iptables(self.node, kind, &[&["iptables", "-w", "-t", table], words].concat(), "")
            };
            let listing = run(&["-S"])?;
            let chains = listing.lines().filter_map(|line| line.strip_prefix("-N KUBE-"));
            let chains: Vec<String> = chains.map(|name| format!("KUBE-{name}")).collect();
            chains.iter().try_for_each(|chain| run(&["-F", chain]).map(drop))?;
            chains.iter().try_for_each(|chain| run(&["-X", chain]).map(drop))?;
        }
        Ok(())
    }
}

/// Of a Service's endpoints those that a policy allows, by position.
pub(super) fn allowed(service: &Service, policy: Policy) -> Vec<usize> {
    let is_allowed = |is_local: bool| policy == Policy::Cluster || is_local;
    let endpoints = service.endpoints.iter().enumerate();
    endpoints.filter(|(_, (_, is_local))| is_allowed(*is_local)).map(|(position, _)| position).collect()
}

/// The node port of a Service whose policy leaves it no endpoint on this node, though it is served elsewhere.
pub(super) fn without_local_endpoints(service: &Service) -> Option<u16> {
    let (port, policy) = service.node_port?;
    (!service.endpoints.is_empty() && allowed(service, policy).is_empty()).then_some(port)
}

pub(super) const TRANSPORTS: [&str; 2] = ["tcp", "udp"];
