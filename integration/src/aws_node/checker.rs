// SPDX-License-Identifier: Apache-2.0
//! What the reference asserts about a node's pods, asked of the kernel by `ip`: the host-state checker of its own suites
//! (`test/agent/cmd/networking/tester/network.go` of v1.23), and what its daemon would restore from a checkpoint.
//!
//! | of a pod | must be |
//! |---|---|
//! | host veth, named by hash | there, up, of the MTU |
//! | rules to or from the address with table main | exactly one |
//! | routes to the address, of table main | exactly one, by that veth |
//! | on a secondary ENI: rules with another table | exactly one; that table's first route is a default with a gateway, its second the route to that gateway on the same link |
//! | torn down | no rule, no route (the veth goes with the sandbox, which the caller may still have) |

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde_json::Value;

use crate::netns::Namespace;
use crate::tools::Tools;

/// A pod as the suites describe one.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its host veth.
    pub host_veth: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it is on a secondary ENI.
    pub on_secondary: bool,
    /// MTU of the veth.
    pub mtu: u64,
}

/// One reading of a node.
#[derive(Debug)]
pub struct HostState {
    rules: Vec<Value>,
    routes: Vec<Value>,
    links: Vec<Value>,
}

impl HostState {
    /// Reads it.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn read(tools: &Tools, node: &Namespace) -> Result<Self, String> {
        let read = |arguments: &[&str]| {
            let value = tools.ip_json(node, arguments).map_err(|error| error.to_string())?;
            Ok::<_, String>(value.as_array().cloned().unwrap_or_default())
        };
        Ok(Self {
            rules: read(&["-4", "rule", "show"])?,
            routes: read(&["-4", "route", "show", "table", "all"])?,
            links: read(&["link", "show"])?,
        })
    }

    /// Whether the pod is set up as the reference sets one up.
    ///
    /// # Errors
    /// The first assertion that does not hold.
    pub fn is_set_up(&self, pod: &Expected<'_>) -> Result<(), String> {
        let Expected { host_veth, address, on_secondary, mtu } = *pod;
        let failed = |what: &str| Err(format!("{address} ({host_veth}): {what}"));
        let Some(link) = self.links.iter().find(|link| link["ifname"] == host_veth) else {
            return failed("no host veth");
        };
        if !is_up(link) || link["mtu"] != mtu {
            return failed(&format!("its host veth is not up or has another MTU: {link}"));
        }
        let (main, other): (Vec<&Value>, Vec<&Value>) =
            self.rules_of(address).into_iter().partition(|rule| rule["table"] == "main");
        if main.len() != 1 {
            return failed(&format!("{} rules with table main: {main:?}", main.len()));
        }
        let routes = self.routes_to(address);
        if routes.len() != 1 || routes[0]["dev"] != host_veth {
            return failed(&format!("not one route by its veth: {routes:?}"));
        }
        if !on_secondary {
            return if other.is_empty() { Ok(()) } else { failed(&format!("rules of another ENI: {other:?}")) };
        }
        let [rule] = other.as_slice() else { return failed(&format!("{} rules with a table", other.len())) };
        let table: Vec<&Value> = self.routes.iter().filter(|route| route["table"] == rule["table"]).collect();
        let [default, gateway, ..] = table.as_slice() else { return failed(&format!("its table has {table:?}")) };
        let good = default["dst"] == "default"
            && default["gateway"].is_string()
            && gateway["dst"] == default["gateway"]
            && gateway["dev"] == default["dev"];
        if good { Ok(()) } else { failed(&format!("its table begins with {default}, {gateway}")) }
    }

    /// Whether nothing of the pod's is left. The link goes with the sandbox, which the caller may still have.
    ///
    /// # Errors
    /// What is left.
    pub fn is_torn_down(&self, address: Ipv4Addr) -> Result<(), String> {
        let (rules, routes) = (self.rules_of(address), self.routes_to(address));
        if rules.is_empty() && routes.is_empty() { Ok(()) } else { Err(format!("{address}: {rules:?} {routes:?}")) }
    }

    fn rules_of(&self, address: Ipv4Addr) -> Vec<&Value> {
        let text = address.to_string();
        // A length is printed when it is not that of one address: a block that begins with this one is another matter.
        let names = |rule: &Value, end: &str| rule[end] == text.as_str() && rule[format!("{end}len")].is_null();
        self.rules.iter().filter(|rule| names(rule, "src") || names(rule, "dst")).collect()
    }

    /// In whatever table: one that the reference does not look into would be one too many.
    fn routes_to(&self, address: Ipv4Addr) -> Vec<&Value> {
        let text = address.to_string();
        self.routes.iter().filter(|route| route["dst"] == text.as_str() && route["type"] != "local").collect()
    }

    /// What its daemon would restore: entries with a pod are kept while a link's name ends in the pod's suffix, those without
    /// always; each is matched to an address of an ENI. Container id -> address.
    ///
    /// # Errors
    /// What makes its daemon refuse to start, or drop an entry: another version, a field that it does not write, an address twice or on
    /// no ENI, no link.
    pub fn would_restore(
        &self,
        checkpoint: &[u8],
        on_enis: &BTreeSet<Ipv4Addr>,
    ) -> Result<BTreeMap<String, Ipv4Addr>, String> {
        let checkpoint: Checkpoint = serde_json::from_slice(checkpoint).map_err(|error| error.to_string())?;
        if checkpoint.version != "vpc-cni-ipam/1" {
            return Err(format!("version {}", checkpoint.version));
        }
        let (mut restored, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for entry in checkpoint.allocations {
            let Allocation { network_name, if_name, container_id, ipv4, metadata, .. } = entry;
            if network_name.is_empty() || if_name.is_empty() || container_id.is_empty() {
                return Err(format!("{ipv4} has an incomplete key"));
            }
            if !seen.insert(ipv4) || !on_enis.contains(&ipv4) {
                return Err(format!("{ipv4} of {container_id} is there twice, or on no ENI"));
            }
            if !metadata.name.is_empty() {
                let names = super::script::PodNames::new(&metadata.namespace, &metadata.name);
                let suffix = names.host_veth.trim_start_matches("eni").to_owned();
                let is_there = |link: &Value| link["ifname"].as_str().is_some_and(|name| name.ends_with(&suffix));
                if !self.links.iter().any(is_there) {
                    return Err(format!("{ipv4} of {}/{} has no link", metadata.namespace, metadata.name));
                }
            }
            restored.insert(container_id, ipv4);
        }
        Ok(restored)
    }
}

/// Its checkpoint, and nothing else in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    version: String,
    allocations: Vec<Allocation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Allocation {
    network_name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    if_name: String,
    ipv4: Ipv4Addr,
    #[serde(rename = "allocationTimestamp")]
    _timestamp: i64,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(rename = "k8sPodNamespace", default)]
    namespace: String,
    #[serde(rename = "k8sPodName", default)]
    name: String,
    #[serde(rename = "interfacesCount", default)]
    _interfaces: u32,
}

/// Whether a link of `ip -j` is up.
fn is_up(link: &Value) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"))
}
