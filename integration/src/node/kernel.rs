// SPDX-License-Identifier: Apache-2.0
//! What is left of Enid on a node: read with `ip` and `nft`, not with Enid's own code.
//!
//! An object is ours by its mark, not by resemblance: route protocol 158 on rules and routes, table `ip enid`, host veths by
//! prefix, permanent neighbours (nobody else makes any on these nodes), addresses on links other than the primary one.

use std::fmt;

use serde_json::Value;

use crate::netns::Namespace;
use crate::tools::{ToolError, Tools};

/// Protocol number on Enid's rules and routes (ARCHITECTURE.md, kernel objects).
const PROTOCOL: &str = "158";

/// Prefix of host veths (the reference's AWS_VPC_K8S_CNI_VETHPREFIX default).
const VETH_PREFIX: &str = "eni";

/// Objects of Enid's on a node, as `ip` and `nft` print them, shortened. All empty: nothing is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Policy rules.
    pub rules: Vec<String>,
    /// Routes, of all tables.
    pub routes: Vec<String>,
    /// Host veths.
    pub links: Vec<String>,
    /// Permanent neighbours.
    pub neighbours: Vec<String>,
    /// Addresses on links other than `lo` and the primary one.
    pub addresses: Vec<String>,
    /// nft tables.
    pub tables: Vec<String>,
}

impl Leftovers {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What belongs to pods and not to the host's own set-up: empty when the last pod is gone.
    #[must_use]
    pub fn of_pods(&self) -> Self {
        let pods = |rules: &[String]| {
            // One address is a pod's; everything, a mark or a prefix is the node's or an ENI's (layout flat).
            let to_pod = |rule: &str| rule.starts_with("512:") && !rule.contains(" to - ");
            let from_pod =
                |rule: &str| rule.starts_with("1536: from ") && !rule.contains(" from all ") && !rule.contains('/');
            let of_pod = |rule: &&String| to_pod(rule) || from_pod(rule);
            rules.iter().filter(of_pod).cloned().collect()
        };
        let routes =
            self.routes.iter().filter(|route| route.contains(&format!("dev {VETH_PREFIX}"))).cloned().collect();
        let (links, neighbours) = (self.links.clone(), self.neighbours.clone());
        Self { rules: pods(&self.rules), routes, links, neighbours, ..Self::default() }
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let kinds = [
            ("rules", &self.rules),
            ("routes", &self.routes),
            ("links", &self.links),
            ("neighbours", &self.neighbours),
            ("addresses", &self.addresses),
            ("nft tables", &self.tables),
        ];
        let mut separator = "";
        for (kind, objects) in kinds.into_iter().filter(|(_, objects)| !objects.is_empty()) {
            let shown = objects.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(" | ");
            let more = if objects.len() > 5 { " | …" } else { "" };
            write!(f, "{separator}{} {kind} ({shown}{more})", objects.len())?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Reads the node's kernel.
pub(super) fn leftovers(tools: &Tools, node: &Namespace) -> Result<Leftovers, ToolError> {
    let mut rules = list(tools.ip_json(node, &["rule", "show"])?);
    rules.extend(list(tools.ip_json(node, &["-6", "rule", "show"])?));
    let routes = list(tools.ip_json(node, &["route", "show", "table", "all"])?);
    let links = list(tools.ip_json(node, &["link", "show"])?);
    let neighbours = list(tools.ip_json(node, &["neighbour", "show", "nud", "permanent"])?);
    let addresses = list(tools.ip_json(node, &["-4", "address", "show"])?);
    let tables = tools.nft_json(node, &["list", "tables"])?;
    let name = |link: &Value| text(link, "ifname");
    Ok(Leftovers {
        rules: rules.iter().filter(|rule| ours(rule)).map(rule_line).collect(),
        routes: routes.iter().filter(|route| ours(route)).map(route_line).collect(),
        links: links.iter().map(name).filter(|link| link.starts_with(VETH_PREFIX)).collect(),
        neighbours: neighbours
            .iter()
            .map(|entry| format!("{} dev {}", text(entry, "dst"), text(entry, "dev")))
            .collect(),
        addresses: addresses
            .iter()
            .filter(|link| !["lo", "eth0"].contains(&name(link).as_str()))
            .flat_map(addresses_of)
            .collect(),
        tables: list(tables["nftables"].clone())
            .iter()
            .map(|object| &object["table"])
            .filter(|table| table["name"] == "enid")
            .map(|table| format!("{} enid", text(table, "family")))
            .collect(),
    })
}

fn ours(object: &Value) -> bool {
    text(object, "protocol") == PROTOCOL
}

fn rule_line(rule: &Value) -> String {
    let priority = &rule["priority"];
    let length = rule["srclen"].as_u64().map(|length| format!("/{length}")).unwrap_or_default();
    format!("{priority}: from {}{length} to {} lookup {}", text(rule, "src"), text(rule, "dst"), text(rule, "table"))
}

fn route_line(route: &Value) -> String {
    format!("{} dev {} table {}", text(route, "dst"), text(route, "dev"), text(route, "table"))
}

fn addresses_of(link: &Value) -> Vec<String> {
    let addresses = link["addr_info"].as_array().map(Vec::as_slice).unwrap_or_default();
    addresses.iter().map(|address| format!("{} dev {}", text(address, "local"), text(link, "ifname"))).collect()
}

fn list(value: Value) -> Vec<Value> {
    if let Value::Array(list) = value { list } else { Vec::new() }
}

/// A field as text; `-` when it is not there.
fn text(object: &Value, field: &str) -> String {
    match &object[field] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
