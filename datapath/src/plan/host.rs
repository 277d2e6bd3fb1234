// SPDX-License-Identifier: Apache-2.0
//! The node's own set-up: the mark rule, the rules of external service blocks, forwarding, the primary ENI's MTU and
//! rp_filter, the nft table; in layout `flat` also the rule to the table of pod routes and the marks of ENIs
//! ([`super::marks`]).
//!
//! Rules that are missing come before the table that marks packets for them, and those that are not needed any more go after it:
//! another mask of ENIs or of connections costs no live pod a packet, whichever is set up first, the node or its ENIs. But a rule of
//! connections' marks that would take the new marks of ENIs goes before the table.
//!
//! Where pods use IPv6 ([`Families`]) the same of it: forwarding, rules, an nft table of its own.
//!
//! What layout `flat` needs stays as long as a pod is plumbed so, whatever the layout is now: pods change layout one by one.
//!
//! [`diff`] is the only place that decides what to write: [`setup`] is its answer for an empty kernel, and `apply` calls
//! it once to write and once more to prove that nothing is left to write.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::answers;
use super::eni::{self, EniSetup, EniState};
use super::ids::{self, Place};
use super::marks::{self, Move};
use super::model::{Family, Mark, Op, Plan, Rule, Sysctl};
use super::name::{LinkName, MacAddr, RouteTable};
use super::nft::{NftBranch, NftChain, NftSet, NftTable};
use super::settings::Setting;
use super::snat;

pub use super::nft::{PortChoice, PortRange};

/// How pods are plumbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The reference's: a host route in main, a `to` rule and perhaps a `from` rule for each pod.
    #[default]
    Classic,
    /// A host route in [`ids::POD_TABLE`] for each pod; rules by ENI and prefix.
    Flat,
}

/// The families of pods' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only: of IPv6 nothing is written on the node, unless a pod is left that has it.
    #[default]
    V4,
    /// IPv4, and IPv6 out by the node's address (ENABLE_V6_EGRESS).
    V4AndEgress,
    /// IPv6 only.
    V6,
    /// IPv6, and IPv4 out by the node's address (ENABLE_V4_EGRESS).
    V6AndEgress,
    /// One of each.
    Both,
}

impl Families {
    /// Whether the node forwards IPv6 for pods.
    #[must_use]
    pub fn uses_ipv6(self) -> bool {
        self != Self::V4
    }

    /// Whether pods have IPv4 addresses of the VPC.
    #[must_use]
    pub fn has_ipv4_pods(self) -> bool {
        matches!(self, Self::V4 | Self::V4AndEgress | Self::Both)
    }

    /// Whether pods have IPv6 addresses of the VPC.
    #[must_use]
    pub fn has_ipv6_pods(self) -> bool {
        matches!(self, Self::V6 | Self::V6AndEgress | Self::Both)
    }

    /// The family in which pods only get out.
    #[must_use]
    pub fn egress(self) -> Option<Family> {
        match self {
            Self::V4AndEgress => Some(Family::V6),
            Self::V6AndEgress => Some(Family::V4),
            Self::V4 | Self::V6 | Self::Both => None,
        }
    }
}

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
    /// The only blocks that are translated (ENID_SNAT_INCLUDE_CIDRS); empty: all but the above.
    pub include_cidrs: Vec<Ipv4Net>,
    /// Blocks that every pod reaches by the main table (AWS_EXTERNAL_SERVICE_CIDRS).
    pub external_service_cidrs: Vec<Ipv4Net>,
    /// SNAT is done elsewhere (AWS_VPC_K8S_CNI_EXTERNALSNAT).
    pub external_snat: bool,
    /// Connections to the node's address may end in a pod (AWS_VPC_CNI_NODE_PORT_SUPPORT).
    pub serves_node_ports: bool,
    /// How SNAT chooses ports.
    pub port_choice: PortChoice,
    /// Of which (ENID_SNAT_PORT_RANGE); `None`: the kernel's.
    pub port_range: Option<PortRange>,
    /// The mark of traffic that leaves by the primary ENI.
    pub connmark: Mark,
    /// How pods are plumbed from now on.
    pub layout: Layout,
    /// Bits of the packet mark that are the ENIs'.
    pub eni_mark_mask: u32,
    /// Prefix of host veth names.
    pub veth_prefix: String,
    /// MTU of the primary ENI (AWS_VPC_ENI_MTU).
    pub mtu: u32,
    /// MTU of the paths that leave the VPC (ENID_EXTERNAL_MTU); `None`: not known, TCP is left alone.
    pub external_mtu: Option<u32>,
    /// Which families pods use.
    pub families: Families,
    /// The kernel does not look for a packet's socket before it routes the packet (DISABLE_TCP_EARLY_DEMUX). Otherwise its value is
    /// the node's, as it was found.
    pub disables_early_demux: bool,
    /// What is not translated inside the VPC is not tracked (ENID_NOTRACK).
    pub notrack: bool,
}

impl HostSetup {
    /// The primary ENI as an ENI set-up: only MTU, up and rp_filter.
    #[must_use]
    pub fn primary_eni(&self) -> EniSetup {
        EniSetup {
            mac: self.primary_mac,
            place: Place::PRIMARY,
            primary_address: self.primary_address,
            subnet: self.primary_address.into(),
            mtu: self.mtu,
            steering: None,
            answers: None,
            ipv6: false,
        }
    }

    /// The rule to the table of pod routes.
    #[must_use]
    pub fn pod_rule(family: Family) -> Rule {
        let table = Some(ids::POD_TABLE);
        Rule { family, priority: ids::PRIORITY_TO_POD, from: None, to: None, mark: None, table }
    }

    /// Whether any connection is ever marked.
    #[must_use]
    pub fn needs_mark(&self) -> bool {
        self.serves_node_ports || !self.external_snat
    }

    /// The rules of the node itself: marked traffic to main, external service blocks to main, all traffic to the table of pod
    /// routes first (layout `flat`). Those of IPv6, where pods use it, behind those of IPv4.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mark = Mark { value: self.connmark.value & self.connmark.mask, mask: self.connmark.mask };
        let rule = |family, priority, to: Option<Ipv4Net>, mark| Rule {
            family,
            priority,
            from: None,
            to: to.map(Into::into),
            mark,
            table: Some(RouteTable::MAIN),
        };
        let marked = |family| rule(family, ids::PRIORITY_MARK, None, Some(mark));
        let services = self.external_service_cidrs.iter();
        let services = services.map(|block| rule(Family::V4, ids::PRIORITY_EXTERNAL_SERVICE, Some(*block), None));
        let to_pods = |family| (self.layout == Layout::Flat).then(|| Self::pod_rule(family));
        let mut rules: Vec<_> = to_pods(Family::V4).into_iter().collect();
        rules.extend(self.needs_mark().then(|| marked(Family::V4)));
        rules.extend(services);
        if self.families.uses_ipv6() {
            rules.extend(to_pods(Family::V6));
            let may_be_marked = self.families.has_ipv6_pods() && self.serves_node_ports;
            rules.extend(may_be_marked.then(|| marked(Family::V6)));
        }
        rules
    }
}

/// What was read of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// The primary ENI's link.
    pub primary: EniState,
    /// net.ipv4.ip_forward.
    pub ip_forward: bool,
    /// net.ipv4.tcp_early_demux is 0, or the kernel has no such setting.
    pub early_demux_off: bool,
    /// What it was before us, when it is we who changed it in this boot.
    pub early_demux_found: Option<u32>,
    /// All rules of priorities 1024 and 1535 and those equal to [`HostSetup::pod_rule`], of both families, and the protocol of each.
    pub rules: Vec<(Rule, u8)>,
    /// The rules of ENIs' marks, and the protocol of each.
    pub mark_rules: Vec<(Rule, u8)>,
    /// Whether [`ids::POD_TABLE`] has a route: a pod is plumbed in layout `flat`.
    pub has_flat_pods: bool,
    /// Our nft table of IPv4, if there is one.
    pub nft: Option<NftState>,
    /// What is about IPv6.
    pub ipv6: Ipv6State,
}

/// What was read of the node's IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6State {
    /// net.ipv6.conf.all.forwarding is 1, or the kernel has no IPv6.
    pub forwards: bool,
    /// The primary ENI's link, when it takes routes from routers only as long as the node does not forward (`accept_ra` 1).
    pub hears_routers_as_host: Option<LinkName>,
    /// Whether a pod has an IPv6 address, by the alias of a live host veth.
    pub has_pods: bool,
    /// Our nft table of IPv6, if there is one.
    pub nft: Option<NftState>,
}

/// What was read of our nft table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftState {
    /// Name and blocks of its sets, in any order. `None` blocks: not an interval set of addresses of the table's family; what
    /// is in it is not looked at.
    pub sets: Vec<(String, Option<Vec<IpNet>>)>,
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

    /// The same of a branch.
    #[must_use]
    pub fn of_branch(branch: &NftBranch) -> Self {
        let comments = branch.rules.iter().map(super::nft::NftRule::comment).collect();
        Self { name: branch.name.to_owned(), hook: String::new(), comments }
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
    let layout = if state.has_flat_pods { Layout::Flat } else { host.layout };
    // A pod that has IPv6 keeps it, whatever pods are to have from now on.
    let is_kept = state.ipv6.has_pods && !host.families.uses_ipv6();
    let families = if is_kept { Families::V4AndEgress } else { host.families };
    let host = &HostSetup { layout, families, ..host.clone() };
    let mut ops = Vec::new();
    if !state.ip_forward {
        ops.push(Setting::IpForward.to(1));
    }
    if host.families.uses_ipv6() {
        ops.extend(ipv6_forwarding(&state.ipv6));
    }
    ops.extend(eni::diff(&host.primary_eni(), &state.primary).ops);
    let Move { missing, stale } = Move::of(host, &state.mark_rules);
    // As long as the old table gives ENIs their marks, no rule that would take those may come; and none may be left that would take
    // the new ones. Connections that such a rule was for are lost either way: the new table knows another mark.
    let old_marks = || state.mark_rules.iter().filter_map(|(rule, _)| rule.mark);
    let mask = host.eni_mark_mask;
    let marks_of = |place| [marks::of_eni(mask, place), answers::of_eni(mask, place)];
    let new_marks = || Place::with_numbers().flat_map(marks_of).flatten();
    let (late, early): (Vec<_>, Vec<_>) =
        missing_rules(host, &state.rules).into_iter().partition(|rule| takes(rule, old_marks()));
    ops.extend(missing.into_iter().chain(early).map(Op::RuleAdd));
    let (first, last): (Vec<_>, Vec<_>) =
        stale_rules(host, &state.rules).into_iter().partition(|op| is_removal_of(op, |rule| takes(rule, new_marks())));
    ops.extend(first);
    ops.extend(nft_diff(&snat::table(host), state.nft.as_ref()));
    match (snat::table_of_ipv6(host), &state.ipv6.nft) {
        (Some(wanted), found) => ops.extend(nft_diff(&wanted, found.as_ref())),
        (None, Some(_)) => ops.push(Op::NftDelete(Family::V6, ids::NFT_TABLE)),
        (None, None) => {}
    }
    ops.extend(late.into_iter().map(Op::RuleAdd));
    ops.extend(last);
    ops.extend(stale.into_iter().map(Op::OwnRuleDelete));
    // Nothing depends on it, so nothing waits behind it.
    ops.extend(early_demux_diff(host, state));
    Plan { ops }
}

/// A node that forwards IPv6 forgets the routes it has from routers and takes no more, unless the link says otherwise
/// (`accept_ra`, kernel `Documentation/networking/ip-sysctl.rst`): that goes first. A link on which the kernel hears no router at
/// all (0: systemd-networkd hears them itself) stays as it is.
#[must_use]
pub fn ipv6_forwarding(state: &Ipv6State) -> Vec<Op> {
    let path = |link| format!("net/ipv6/conf/{link}/accept_ra");
    let link = state.hears_routers_as_host.as_ref();
    let hears = link.map(|link| Op::Sysctl(Sysctl { path: path(link), value: "2".to_owned() }));
    // The kernel makes it the default of new links, too: each host veth would have to be set back, which waits for RTNL.
    let of_new_links =
        || Op::Sysctl(Sysctl { path: "net/ipv6/conf/default/forwarding".to_owned(), value: "0".to_owned() });
    let forwards = (!state.forwards).then(|| [Setting::Ipv6Forwarding.to(1), of_new_links()]);
    hears.into_iter().chain(forwards.into_iter().flatten()).collect()
}

fn is_removal_of(op: &Op, is_meant: impl Fn(&Rule) -> bool) -> bool {
    matches!(op, Op::OwnRuleDelete(rule) | Op::RuleDelete(rule) if is_meant(rule))
}

/// Whether a rule would take packets that have one of these marks.
fn takes(rule: &Rule, mut marks: impl Iterator<Item = Mark>) -> bool {
    rule.mark.is_some_and(|own| marks.any(|mark| mark.value & own.mask == own.value))
}

fn missing_rules(host: &HostSetup, found: &[(Rule, u8)]) -> Vec<Rule> {
    host.rules().into_iter().filter(|rule| !found.iter().any(|(found, _)| found == rule)).collect()
}

/// Off when that is asked for; else as it was found, if it is we who changed it.
fn early_demux_diff(host: &HostSetup, state: &HostState) -> Option<Op> {
    let value = match state.early_demux_found {
        _ if host.disables_early_demux => (!state.early_demux_off).then_some(0),
        found => found.filter(|found| state.early_demux_off && *found != 0),
    };
    value.map(|value| Setting::TcpEarlyDemux.to(value))
}

/// Rules of ours that are not wanted any more (AWS_VPC_K8S_CNI_CONNMARK or a list was changed) go, and so do the
/// reference's rules of external service blocks: priority 1535 is its for them, and it deletes all to main there, too. It
/// names no protocol in its rules; one with a protocol is somebody else's and stays.
fn stale_rules(host: &HostSetup, found: &[(Rule, u8)]) -> Vec<Op> {
    let wanted = host.rules();
    let removal = |(rule, protocol): &(Rule, u8)| {
        let is_reference = *protocol == 0
            && Rule { to: None, ..rule.clone() }
                == Rule {
                    family: Family::V4,
                    priority: ids::PRIORITY_EXTERNAL_SERVICE,
                    from: None,
                    to: None,
                    mark: None,
                    table: Some(RouteTable::MAIN),
                };
        if wanted.contains(rule) {
            None
        } else if *protocol == ids::PROTOCOL {
            Some(Op::OwnRuleDelete(rule.clone()))
        } else {
            is_reference.then(|| Op::RuleDelete(rule.clone()))
        }
    };
    found.iter().filter_map(removal).collect()
}

/// Nothing, the elements of sets, or the whole table. With memories always the whole: what may be forgotten depends on the sets.
fn nft_diff(wanted: &NftTable, found: Option<&NftState>) -> Option<Op> {
    let Some(found) = found else { return Some(Op::NftReplace(wanted.clone())) };
    let mut chains = found.chains.clone();
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    let branches = wanted.branches.iter().map(NftChainState::of_branch);
    let mut wanted_chains: Vec<_> = wanted.chains.iter().map(NftChainState::of).chain(branches).collect();
    wanted_chains.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeMap<_, _> = found.sets.iter().map(|(name, blocks)| (name.as_str(), blocks.is_some())).collect();
    let sets = wanted.sets.iter().map(|set| (set.name, true));
    let wanted_names: BTreeMap<_, _> = sets.chain(wanted.memories.iter().map(|memory| (memory.name, false))).collect();
    if chains != wanted_chains || names != wanted_names {
        return Some(Op::NftReplace(wanted.clone()));
    }
    let is_there =
        |set: &NftSet| found.sets.iter().any(|(name, blocks)| name == set.name && blocks.as_ref() == Some(&set.blocks));
    let sets: Vec<_> = wanted.sets.iter().filter(|set| !is_there(set)).cloned().collect();
    if sets.is_empty() {
        None
    } else if wanted.memories.is_empty() {
        Some(Op::NftSetReplace(NftTable { sets, chains: Vec::new(), branches: Vec::new(), ..wanted.clone() }))
    } else {
        Some(Op::NftReplace(wanted.clone()))
    }
}

/// Whether it is the rule for marked packets, whoever made it: the reference's has another mask, perhaps, and no protocol.
pub(crate) fn is_mark_rule(rule: &Rule) -> bool {
    rule.priority == ids::PRIORITY_MARK && rule.mark.is_some() && rule.table == Some(RouteTable::MAIN)
}

#[cfg(test)]
mod tests;
