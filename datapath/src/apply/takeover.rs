// SPDX-License-Identifier: Apache-2.0
//! What there is on a node of the reference's that a takeover meets: read, and nothing written.

use super::error::ApplyError;
use super::netlink::Socket;
use super::{nftables, repair};
use crate::plan::host::is_mark_rule;
use crate::plan::pods::address_of_rule;
use crate::plan::{Op, Rule, ids};

/// Names of the reference's links of branch ENIs begin so.
const BRANCH_LINKS: &str = "vlan.eth.";

/// Priorities of the kernel's own rules (`fib_default_rules_init`, `net/ipv4/fib_rules.c`).
const OF_THE_KERNEL: [u32; 3] = [0, 32_766, 32_767];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the daemon will take away of the reference's in nf_tables, as nft commands.
    pub leftovers: Vec<String>,
    /// Whether iptables-legacy has tables, whoever made them.
    pub has_legacy_tables: bool,
    /// Links of branch ENIs.
    pub branch_links: Vec<String>,
    /// Rules that are neither the kernel's, nor ours, nor such as the reference makes, as commands.
    pub foreign_rules: Vec<String>,
    /// Marks of the reference's rules for marked packets.
    pub marks: Vec<u32>,
}

/// Reads it all.
///
/// # Errors
/// The kernel cannot be read.
pub fn observe() -> Result<Found, ApplyError> {
    let state = repair::observe(&mut Socket::route()?)?;
    let names = repair::names(&state);
    let others = || state.rules.iter().filter(|(_, protocol)| *protocol != ids::PROTOCOL).map(|(rule, _)| rule);
    let of_marks = others().filter(|rule| is_mark_rule(rule)).filter_map(|rule| rule.mark);
    let foreign = others().filter(|rule| !OF_THE_KERNEL.contains(&rule.priority) && !is_of_reference(rule));
    Ok(Found {
        leftovers: nftables::leftovers::find(&mut Socket::netfilter()?)?,
        has_legacy_tables: nftables::leftovers::has_legacy_tables(),
        branch_links: names.values().map(ToString::to_string).filter(|name| name.starts_with(BRANCH_LINKS)).collect(),
        foreign_rules: foreign.map(|rule| Op::RuleAdd(rule.clone()).to_string()).collect(),
        marks: of_marks.map(|mark| mark.mask).collect(),
    })
}

/// Such a rule becomes ours, or is a pod's or an ENI's.
fn is_of_reference(rule: &Rule) -> bool {
    is_mark_rule(rule) || rule.priority == ids::PRIORITY_EXTERNAL_SERVICE || address_of_rule(rule).is_some()
}
