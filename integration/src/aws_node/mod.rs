// SPDX-License-Identifier: Apache-2.0
//! A node as aws-node (amazon-vpc-cni-k8s v1.23) leaves it, with pods that live: what a takeover begins with and a way back ends in.
//!
//! Nothing of Enid makes any of it. ENIs are made by EC2 calls with the reference's description and tags; links, routes and rules by
//! `ip`, its chains by `iptables` and `nft`, its checkpoint and the runtime's cached results as text ([`script`]). What must then be
//! true of a pod is asked by [`checker`], written from what the reference's own suites assert.
//!
//! ```text
//! EC2: ENIs, addresses, tags ─► links ─► SetupHostNetwork, ENI set-up ─► per pod: veth, routes, rules ─► ipam.json, results
//! ```
#![expect(clippy::disallowed_methods, reason = "writes the reference's checkpoint")]

pub mod checker;
mod enis;
pub mod script;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::eventually::NotYet;
use crate::fabric::{FabricError, sysctl};
use crate::node::NodeError;
use crate::pods::Pod;
use crate::sandbox::{Added, SandboxError};
use crate::tools::{Iptables, ToolError, Tools};
use crate::topology::{Topology, TopologyError};

pub use enis::AwsEni;
pub use script::Entry;

/// How its ENIs are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Every ENI with all the single addresses that it takes; this many secondary ENIs.
    Addresses(u32),
    /// The primary ENI with the first number of /28 prefixes, one secondary ENI with the second.
    Prefixes(u32, u32),
}

/// A node to be left by aws-node.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its pool.
    pub filling: Filling,
    /// The kind of `iptables` in its image: with the legacy one its connection marks are iptables rules, too.
    pub iptables: Iptables,
    /// Live pods on the primary ENI.
    pub on_primary: usize,
    /// Live pods on each secondary ENI.
    pub on_secondary: usize,
}

/// It cannot be made so.
#[derive(Debug, thiserror::Error)]
pub enum AwsNodeError {
    /// EC2 refused.
    #[error("EC2 refused {action}: {answer}")]
    Ec2 {
        /// What was asked.
        action: String,
        /// Its answer.
        answer: String,
    },
    /// A file.
    #[error("writing {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link that does not come.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// `ip`, `nft` or `iptables`.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A setting.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// A sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// What aws-node has left.
#[derive(Debug)]
pub struct AwsNode {
    /// Its ENIs by device index, the primary one first.
    pub enis: Vec<AwsEni>,
    /// Its live pods, with the results that the runtime has cached.
    pub pods: Vec<Pod>,
    /// The entries of its checkpoint.
    pub entries: Vec<Entry>,
    iptables: Iptables,
}

impl AwsNode {
    /// Makes `node` so; its daemon must never have run.
    ///
    /// # Errors
    /// EC2, the kernel or a program refuses.
    pub fn leave(topology: &Topology, node: &str, spec: &Spec) -> Result<Self, AwsNodeError> {
        let enis = enis::attach(topology, node, spec.filling)?;
        let mut left = Self { enis, pods: Vec::new(), entries: Vec::new(), iptables: spec.iptables };
        left.set_up_host(topology, node)?;
        for at in 0..left.enis.len() {
            let count = if at == 0 { spec.on_primary } else { spec.on_secondary };
            let addresses: Vec<Ipv4Addr> = left.enis[at].addresses.iter().copied().take(count).collect();
            for address in addresses {
                let pod = left.add(topology, node, at, address)?;
                left.pods.push(pod);
            }
        }
        left.write_checkpoint(topology, node)?;
        Ok(left)
    }

    /// What its daemon does at every start (SetupHostNetwork, then every secondary ENI).
    ///
    /// # Errors
    /// The kernel or a program refuses.
    pub fn set_up_host(&self, topology: &Topology, node: &str) -> Result<(), AwsNodeError> {
        let (netns, tools) = (&topology.node(node).netns, &topology.world.tools);
        for (name, value) in script::SYSCTLS {
            sysctl(netns, name, value)?;
        }
        // Deleted and made again at every start; the first time there is none.
        let _ = tools.ip(netns, script::MARK_RULE_DELETE);
        tools.ip(netns, script::MARK_RULE_ADD)?;
        let primary = topology.instance(node)?.address;
        let restore = |text: &str| Tools::iptables(netns, self.iptables, &["iptables-restore", "--noflush"], text);
        restore(&script::iptables(self.iptables, primary))?;
        if self.iptables == Iptables::Nft {
            tools.nft(netns, script::NATIVE_TABLE)?;
        }
        for eni in self.enis.iter().skip(1) {
            // What is not there yet cannot be deleted, which the reference does not mind either.
            for line in script::eni_removals(eni).lines() {
                let _ = tools.ip(netns, line);
            }
            tools.ip(netns, &script::eni(eni))?;
        }
        Ok(())
    }

    /// A pod as its plugin attaches one: the veth, both sides' routes and rules, and the result that the runtime caches.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&mut self, topology: &Topology, node: &str, eni: usize, address: Ipv4Addr) -> Result<Pod, AwsNodeError> {
        let n = topology.node(node);
        let sandbox = n.next_sandbox()?;
        let pod = script::PodNames::new(&sandbox.namespace, &sandbox.name);
        let (tools, table) = (&topology.world.tools, self.enis[eni].table());
        tools.ip(&sandbox.netns, &script::pod_link(&pod, &n.name))?;
        for (name, value) in [("accept_ra", "0"), ("accept_redirects", "1"), ("forwarding", "0")] {
            // A kernel without IPv6 has none of them.
            let _ = sysctl(&n.netns, &format!("net/ipv6/conf/{}/{name}", pod.host_veth), value);
        }
        n.ip(&format!("link set {} up\n", pod.host_veth))?;
        tools.ip(&sandbox.netns, &script::pod_side(&pod, address))?;
        n.ip(&script::host_side(&pod, address, table))?;
        let result = script::result(&pod, address, table, self.enis[eni].device_index, sandbox.netns.name());
        sandbox.remember(result.clone());
        self.entries.push(Entry::new(&sandbox, address));
        let added = Added { address, host_veth: pod.host_veth, table, result, took: Default::default() };
        Ok(Pod { sandbox, added })
    }

    /// A pod's end as its plugin has it: deletes exactly what it expects to be there, so it fails where something is missing.
    ///
    /// # Errors
    /// A rule or route that the reference would look for is not there.
    pub fn delete(topology: &Topology, node: &str, pod: &Pod) -> Result<(), AwsNodeError> {
        Ok(topology.node(node).ip(&script::host_side_removals(
            &pod.added.host_veth,
            pod.added.address,
            pod.added.table,
        ))?)
    }

    /// Writes `ipam.json` with all entries.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_checkpoint(&self, topology: &Topology, node: &str) -> Result<(), AwsNodeError> {
        let path = topology.node(node).state_folder().join("ipam.json");
        write(&path, &script::checkpoint(&self.entries))
    }
}

fn write(path: &Path, text: &str) -> Result<(), AwsNodeError> {
    fs::write(path, text).map_err(|source| AwsNodeError::File { path: path.display().to_string(), source })
}
