// SPDX-License-Identifier: Apache-2.0
//! The node's own set-up: the mark rule, forwarding, the primary ENI's MTU and rp_filter, the nft table.
//!
//! [`diff`] is the only place that decides what to write: [`setup`] is its answer for an empty kernel, and `apply` calls
//! it once to write and once more to prove that nothing is left to write.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::eni::{self, EniSetup, EniState};
use super::ids;
use super::model::{Family, Mark, Op, Plan, Rule, Sysctl};
use super::name::{MacAddr, RouteTable};
use super::nft::{NftChain, NftTable};
use super::snat;

pub use super::nft::PortChoice;

/// How the node must be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSetup {
    /// MAC of the primary ENI.
    pub primary_mac: MacAddr,
    /// Its primary address: the node's, and the source of what leaves the VPC.
    pub primary_address: Ipv4Addr,
    /// All IPv4 blocks of the VPC; must not be empty unless `external_snat`.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// More blocks that keep the pod's address (AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS).
    pub exclude_cidrs: Vec<Ipv4Net>,
    /// SNAT is done elsewhere (AWS_VPC_K8S_CNI_EXTERNALSNAT).
    pub external_snat: bool,
    /// How SNAT chooses ports.
    pub port_choice: PortChoice,
    /// The mark of traffic that leaves by the primary ENI.
    pub connmark: Mark,
    /// Prefix of host veth names.
    pub veth_prefix: String,
    /// MTU of the primary ENI (AWS_VPC_ENI_MTU).
    pub mtu: u32,
}

impl HostSetup {
    /// The primary ENI as an ENI set-up: only MTU, up and rp_filter.
    #[must_use]
    pub fn primary_eni(&self) -> EniSetup {
        EniSetup {
            mac: self.primary_mac,
            device_index: 0,
            primary_address: self.primary_address,
            subnet: self.primary_address.into(),
            table: RouteTable::MAIN,
            mtu: self.mtu,
        }
    }

    /// The rule that sends marked traffic to main.
    #[must_use]
    pub fn mark_rule(&self) -> Rule {
        Rule {
            family: Family::V4,
            priority: ids::PRIORITY_MARK,
            from: None,
            to: None,
            mark: Some(Mark { value: self.connmark.value & self.connmark.mask, mask: self.connmark.mask }),
            table: Some(RouteTable::MAIN),
        }
    }
}

/// What was read of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// The primary ENI's link.
    pub primary: EniState,
    /// net.ipv4.ip_forward.
    pub ip_forward: bool,
    /// All rules of priority 1024, and whether each carries our protocol.
    pub mark_rules: Vec<(Rule, bool)>,
    /// Our nft table, if there is one.
    pub nft: Option<NftState>,
}

/// What was read of our nft table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftState {
    /// Name and blocks of its sets. `None` blocks: not an interval set of IPv4 addresses, or ranges that are no blocks.
    pub sets: Vec<(String, Option<Vec<Ipv4Net>>)>,
    /// Its chains, in any order.
    pub chains: Vec<NftChainState>,
}

/// What was read of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftChainState {
    /// Its name.
    pub name: String,
    /// `type hook priority policy` as numbers and words of the kernel; empty for a chain without a hook.
    pub hook: String,
    /// Comments of its rules, in order; an empty text for a rule without one.
    pub comments: Vec<String>,
}

impl NftChainState {
    /// The state in which a chain is as wanted.
    #[must_use]
    pub fn of(chain: &NftChain) -> Self {
        Self {
            name: chain.name.to_owned(),
            hook: hook_text(chain.kind.text(), chain.hook as u32, chain.priority, 1),
            comments: chain.rules.iter().map(super::nft::NftRule::comment).collect(),
        }
    }
}

/// One text for all that makes a base chain: type, hook number (NF_INET_*), priority, policy (1 accept, 0 drop).
#[must_use]
pub fn hook_text(kind: &str, hook: u32, priority: i32, policy: u32) -> String {
    format!("{kind} hook {hook} priority {priority} policy {policy}")
}

/// All writes, as for a kernel that has none of it.
#[must_use]
pub fn setup(host: &HostSetup) -> Plan {
    diff(host, &HostState::default())
}

/// The writes that are missing.
#[must_use]
pub fn diff(host: &HostSetup, state: &HostState) -> Plan {
    let mut ops = Vec::new();
    if !state.ip_forward {
        ops.push(Op::Sysctl(Sysctl { path: "net/ipv4/ip_forward".to_owned(), value: "1" }));
    }
    ops.extend(eni::diff(&host.primary_eni(), &state.primary).ops);
    let rule = host.mark_rule();
    // One of ours for another mark (AWS_VPC_K8S_CNI_CONNMARK was changed) would go on taking packets that bear it.
    let stale = state.mark_rules.iter().filter(|(found, is_ours)| *is_ours && *found != rule);
    ops.extend(stale.map(|(found, _)| Op::OwnRuleDelete(found.clone())));
    if !state.mark_rules.iter().any(|(found, _)| *found == rule) {
        ops.push(Op::RuleAdd(rule));
    }
    ops.extend(nft_diff(&snat::table(host), state.nft.as_ref()));
    Plan { ops }
}

/// Nothing, the set's elements, or the whole table.
fn nft_diff(wanted: &NftTable, found: Option<&NftState>) -> Option<Op> {
    let Some(found) = found else { return Some(Op::NftReplace(wanted.clone())) };
    let mut chains = found.chains.clone();
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    let mut wanted_chains: Vec<_> = wanted.chains.iter().map(NftChainState::of).collect();
    wanted_chains.sort_by(|a, b| a.name.cmp(&b.name));
    let set_names_agree = found.sets.iter().map(|(name, _)| name.as_str()).eq(wanted.set.iter().map(|set| set.name));
    if chains != wanted_chains || !set_names_agree {
        return Some(Op::NftReplace(wanted.clone()));
    }
    let found_blocks = found.sets.first().map(|(_, blocks)| blocks.as_ref());
    let wanted_blocks = wanted.set.as_ref().map(|set| Some(&set.blocks));
    (found_blocks != wanted_blocks).then(|| Op::NftSetReplace(wanted.clone()))
}

#[cfg(test)]
mod tests;
