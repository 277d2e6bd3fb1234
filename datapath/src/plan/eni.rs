// SPDX-License-Identifier: Apache-2.0
//! An ENI's link, table and rule.
//!
//! | secondary ENI | why |
//! |---|---|
//! | up, MTU, rp_filter 2 | rp_filter 1 kills marked and asymmetric paths |
//! | its primary address, `noprefixroute`, and no other global address | the subnet must not be routed by this ENI from main |
//! | no kernel subnet route in main by this link | same, when the address was there before us |
//! | table: router/32 on the link, default via router | what leaves with this ENI's addresses leaves by it |
//! | rule 32765: from its primary address lookup table | answers of the ENI's own address |
//! | node ports served: link group, rule 1025 for its answers' mark | who asked at its own address is answered by it ([`super::answers`]). A link in somebody else's group stays there: it is asked at its own address in vain |
//! | layout `flat`: rule 1536 for its mark, one for each of its /28 (IPv6: /80) prefixes | pods on it leave by it, however many they are |
//! | IPv6, where its pods have it: table with the default via the VPC's router; the rules of both families | as for IPv4. The router's address is of the link, so it needs no route |
//! | IPv6: `accept_ra` 0, and no route in main that a router on it told of | main's default must be the primary ENI's |
//!
//! The rules by mark and prefix are proven before an address is given out that needs one, and stay as long as a pod of the node
//! is plumbed so. Those of a prefix that has been given back go, also when the prefix is another ENI's now: of two rules with
//! one selector the older wins. A rule by a mark of another mask is the node's table's, and goes after that ([`super::host`]).
//!
//! The primary ENI (device index 0 of network card 0) is the distribution's: only up, MTU and rp_filter. All that follows from where an
//! ENI is attached is in [`ids::Place`].
//!
//! On network cards but the first, distributions have the ENI's address in a rule and a table of their own already
//! (amazon-ec2-net-utils, which counts its tables as the reference does for these cards):
//!
//! | rules `from` the ENI's address that others have, before main's | what is done |
//! |---|---|
//! | none | rule 32765 of ours |
//! | one or several, one of them to the ENI's table | no rule of ours beside it; a route of the table that is right but for its protocol stays its owner's |
//! | one or several, none to the ENI's table | rule 32765 of ours, behind theirs: what they do not route leaves by this ENI |
//!
//! Others' rules stay, wherever they lead. Ours, and one of the reference's (it names no protocol), to another table goes, as on card 0.
//! The reference would also take the *table* that a single rule of others leads to for the ENI's, and write its routes there. Here the
//! table is the place's whatever rules there are: a foreign table's routes are its owner's, replacing its default breaks what it was made
//! for; pods would be sent by the routes that are in it besides; and a rule that comes or goes would put pods of one ENI into two tables.
//! With amazon-ec2-net-utils it is the same table either way. When such a rule or route goes, the next look of the repair (a minute) makes ours:
//! notifications of others' objects are not listened to.
//!
//! [`diff`] compares with what was read and is the only judge: no operations left is the proof that the ENI works as
//! far as the kernel is concerned. Routes and rules of the reference that are equal but for the protocol: rules are
//! taken as they are, routes are replaced in place (one message, no gap) so that they become ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::ids::{self, Place};
use super::model::{Address, Family, LinkRef, LinkSet, Mark, Op, Plan, Route, RouteScope, Rule, Sysctl};
use super::name::{LinkName, MacAddr, RouteTable};

/// The VPC's router of IPv6, the same on every ENI (VPC user guide, "Configure route tables"; fe80:ec2::1).
pub const IPV6_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);

/// How an ENI must be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSetup {
    /// Its MAC, by which its link is found.
    pub mac: MacAddr,
    /// Where it is attached.
    pub place: Place,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// Its subnet; the router is its first address + 1 (VPC user guide, "Subnet sizing").
    pub subnet: Ipv4Net,
    /// MTU (AWS_VPC_ENI_MTU).
    pub mtu: u32,
    /// How its pods' packets find it; `None`: each has a rule of its own (layout `classic`).
    pub steering: Option<Steering>,
    /// The mark of answers to who asked at its own address ([`super::answers::of_eni`]); `None`: it has none, or node ports are not
    /// served.
    pub answers: Option<Mark>,
    /// Whether its pods have IPv6 addresses.
    pub ipv6: bool,
}

/// How packets of pods in layout `flat` find the table of their ENI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// The ENI's mark ([`super::marks::of_eni`]), for pods with single addresses.
    pub mark: Option<Mark>,
    /// The ENI's prefixes of either family, for pods inside them.
    pub prefixes: Vec<IpNet>,
}

/// What was read of an ENI. Links in it are `LinkRef::Mac` of the ENI where they are the ENI's own link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EniState {
    /// Whether it is up.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Its group.
    pub group: u32,
    /// rp_filter of the link itself.
    pub rp_filter: u8,
    /// rp_filter of all links; the higher of the two holds.
    pub rp_filter_all: u8,
    /// Global IPv4 addresses on the link.
    pub addresses: Vec<Address>,
    /// Unicast routes of the ENI's table; of IPv6 only where it is asked for.
    pub routes: Vec<Route>,
    /// Routes that the kernel made in main for the link's addresses, or of IPv6 by a router's word; those of the link itself not.
    pub kernel_routes: Vec<Route>,
    /// The link, when it hears routers.
    pub hears_routers: Option<LinkName>,
    /// Rules that ask for its primary address alone, of any priority, with the protocol of each.
    pub rules: Vec<(Rule, u8)>,
    /// Rules of priority 1536 by mark, or by a source that is more than one address, and those of 1025 by mark, of all ENIs, and
    /// whether each carries our protocol.
    pub steering_rules: Vec<(Rule, bool)>,
    /// Whether [`ids::POD_TABLE`] has a route: a pod is plumbed in layout `flat`.
    pub has_flat_pods: bool,
}

impl EniSetup {
    /// Whether this is the primary ENI.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.place.is_primary()
    }

    /// Its route table; main only for the primary ENI.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        self.place.table()
    }

    /// The subnet's router.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()).saturating_add(1))
    }

    /// The address with its subnet's prefix length.
    #[must_use]
    pub fn address(&self) -> Address {
        let prefix_len = self.subnet.prefix_len();
        let address = Ipv4Net::new(self.primary_address, prefix_len).unwrap_or_else(|_| self.primary_address.into());
        Address { address: address.into(), link: LinkRef::Mac(self.mac), without_prefix_route: true }
    }

    /// The table's routes, in the order in which they must be made.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let gateway = IpAddr::from(self.gateway());
        let route = |destination: IpNet, via, scope| Route {
            destination,
            via,
            link: LinkRef::Mac(self.mac),
            scope,
            table: self.table(),
            protocol: ids::PROTOCOL,
        };
        let mut routes = vec![
            route(gateway.into(), None, RouteScope::Link),
            route(Family::V4.everything(), Some(gateway), RouteScope::Universe),
        ];
        let by_ipv6 = || route(Family::V6.everything(), Some(IPV6_ROUTER.into()), RouteScope::Universe);
        routes.extend(self.ipv6.then(by_ipv6));
        routes
    }

    /// The rule of its answers, of each family, and those of layout `flat`.
    #[must_use]
    pub fn steering_rules(&self) -> Vec<Rule> {
        let rule =
            |priority, family, from, mark| Rule { family, priority, from, to: None, mark, table: Some(self.table()) };
        let families = || Family::ALL.into_iter().filter(|family| self.ipv6 || *family == Family::V4);
        let by_mark = |priority, mark: Option<Mark>| {
            mark.into_iter()
                .flat_map(move |mark| families().map(move |family| rule(priority, family, None, Some(mark))))
        };
        let answers = by_mark(ids::PRIORITY_ANSWER, self.answers);
        let Some(Steering { mark, prefixes }) = &self.steering else { return answers.collect() };
        let of_prefix = |prefix: &IpNet| rule(ids::PRIORITY_FROM_POD, Family::of(prefix.addr()), Some(*prefix), None);
        answers.chain(by_mark(ids::PRIORITY_FROM_POD, *mark)).chain(prefixes.iter().map(of_prefix)).collect()
    }

    /// The group its link must be in; `None`: none of ours.
    fn link_group(&self) -> Option<u32> {
        self.answers.and_then(|_| self.place.link_group())
    }

    /// Whether its link is in a group that somebody else has given it, where ours is needed: it stays, and the ENI is asked at its own
    /// address in vain.
    #[must_use]
    pub fn is_in_foreign_group(&self, state: &EniState) -> bool {
        self.link_group().is_some() && !may_take(state.group)
    }

    /// The rule for its primary address.
    #[must_use]
    pub fn rule(&self) -> Rule {
        Rule {
            family: Family::V4,
            priority: ids::PRIORITY_FROM_ENI,
            from: Some(IpAddr::from(self.primary_address).into()),
            to: None,
            mark: None,
            table: Some(self.table()),
        }
    }
}

/// All writes, as for a link that has none of it.
#[must_use]
pub fn setup(eni: &EniSetup) -> Plan {
    diff(eni, &EniState::default())
}

/// The writes that are missing; empty is the proof.
#[must_use]
pub fn diff(eni: &EniSetup, state: &EniState) -> Plan {
    let mut ops = Vec::new();
    ops.extend(link_diff(eni, state).map(Op::LinkSet));
    if !eni.is_primary() {
        ops.extend(address_diff(eni, state));
        ops.extend(state.hears_routers.iter().filter(|_| eni.ipv6).map(deafen));
        let is_lent = is_table_of_others(eni, &state.rules);
        let is_there = |wanted: &Route| {
            let is_same = |found: &Route| Route { protocol: wanted.protocol, ..found.clone() } == *wanted;
            state.routes.iter().any(|found| if is_lent { is_same(found) } else { found == wanted })
        };
        ops.extend(eni.routes().into_iter().filter(|route| !is_there(route)).map(Op::RouteReplace));
        ops.extend(rule_diff(eni, state, is_lent));
        ops.extend(steering_diff(eni, state));
    }
    Plan { ops }
}

fn deafen(link: &LinkName) -> Op {
    Op::Sysctl(Sysctl { path: format!("net/ipv6/conf/{link}/accept_ra"), value: "0".to_owned() })
}

/// A rule of this address to another table (the ENI was attached elsewhere) is as good as none.
fn rule_diff(eni: &EniSetup, state: &EniState, is_lent: bool) -> Vec<Op> {
    let wanted = eni.rule();
    let is_stale = |(found, protocol): &&(Rule, u8)| {
        found.from == wanted.from && *found != wanted && may_go(eni, found, *protocol)
    };
    let mut ops: Vec<_> = state.rules.iter().filter(is_stale).map(|found| removal(eni, found)).collect();
    if !is_lent && !state.rules.iter().any(|(found, _)| *found == wanted) {
        ops.push(Op::RuleAdd(wanted));
    }
    ops
}

/// Whether somebody else's rule leads the ENI's address to the ENI's table before main is asked.
fn is_table_of_others(eni: &EniSetup, rules: &[(Rule, u8)]) -> bool {
    let wanted = eni.rule();
    eni.place.is_shared_with_distribution()
        && rules.iter().any(|(found, protocol)| {
            found.priority <= wanted.priority
                && *protocol != ids::PROTOCOL
                && !may_go(eni, found, *protocol)
                && *found == Rule { priority: found.priority, ..wanted.clone() }
        })
}

/// Whether a rule of an ENI's address is one that we may remove: of our priority, and where others have theirs, too, ours or the
/// reference's, which names no protocol.
fn may_go(eni: &EniSetup, rule: &Rule, protocol: u8) -> bool {
    let is_of_others = eni.place.is_shared_with_distribution() && ![ids::PROTOCOL, 0].contains(&protocol);
    rule.priority == ids::PRIORITY_FROM_ENI && !is_of_others
}

/// With the protocol where another's rule may be the same but for that.
fn removal(eni: &EniSetup, (rule, protocol): &(Rule, u8)) -> Op {
    if eni.place.is_shared_with_distribution() && *protocol == ids::PROTOCOL {
        Op::OwnRuleDelete(rule.clone())
    } else {
        Op::RuleDelete(rule.clone())
    }
}

/// The removal of the rule for an ENI's primary address, when the ENI goes.
#[must_use]
pub fn rule_removal(eni: &EniSetup, rules: &[(Rule, u8)]) -> Vec<Op> {
    let wanted = eni.rule();
    let own = rules.iter().filter(|(found, protocol)| *found == wanted && may_go(eni, found, *protocol));
    own.map(|found| removal(eni, found)).collect()
}

/// Whether a rule asks for an ENI's primary address and nothing else.
#[must_use]
pub fn is_of_address(rule: &Rule, eni: &EniSetup) -> bool {
    (rule.family, rule.from, rule.to, rule.mark) == (Family::V4, eni.rule().from, None, None)
}

/// What is missing comes before what is stale goes: pods may be using either.
fn steering_diff(eni: &EniSetup, state: &EniState) -> Vec<Op> {
    let mut wanted = eni.steering_rules();
    if eni.is_in_foreign_group(state) {
        wanted.retain(|rule| !is_answer(rule));
    }
    let is_there = |rule: &&Rule| !state.steering_rules.iter().any(|(found, _)| found == *rule);
    let mut ops: Vec<_> = wanted.iter().filter(is_there).cloned().map(Op::RuleAdd).collect();
    let selector = |rule: &Rule| (rule.priority, rule.family, rule.from, rule.mark);
    let same_selector = |a: &Rule, b: &Rule| selector(a) == selector(b);
    let mask_of_pods = eni.steering.as_ref().map(|steering| steering.mark.map(|mark| mark.mask));
    let mask_of_answers = eni.answers.map(|mark| Some(mark.mask));
    let is_stale = |found: &Rule| {
        let own_mask = if is_answer(found) { mask_of_answers } else { mask_of_pods };
        if found.mark.is_some_and(|mark| own_mask.is_some_and(|own| own != Some(mark.mask))) {
            return false;
        }
        let is_unused = is_answer(found) || eni.steering.is_some() || !state.has_flat_pods;
        let of_this_eni = found.table == Some(eni.table()) && is_unused;
        !wanted.contains(found) && (of_this_eni || wanted.iter().any(|rule| same_selector(rule, found)))
    };
    let stale = state.steering_rules.iter().filter(|(found, is_ours)| *is_ours && is_stale(found));
    ops.extend(stale.map(|(found, _)| Op::OwnRuleDelete(found.clone())));
    ops
}

/// Whether a rule is one that [`EniState::steering_rules`] holds.
#[must_use]
pub fn is_of_eni(rule: &Rule) -> bool {
    is_answer(rule) || is_steering(rule)
}

/// Whether a rule is one of answers.
#[must_use]
pub fn is_answer(rule: &Rule) -> bool {
    rule.priority == ids::PRIORITY_ANSWER && (rule.from, rule.to) == (None, None) && rule.mark.is_some()
}

/// Whether a rule is one by which pods in layout `flat` find their ENI.
#[must_use]
pub fn is_steering(rule: &Rule) -> bool {
    let by_source = rule.from.is_some_and(|from| from.prefix_len() < from.max_prefix_len()) && rule.mark.is_none();
    let by_mark = rule.from.is_none() && rule.mark.is_some();
    rule.priority == ids::PRIORITY_FROM_POD && rule.to.is_none() && (by_source || by_mark)
}

/// Whether a link of this group may be put into another: it is in none, or in one of ours, also of another place.
fn may_take(group: u32) -> bool {
    group == ids::DEFAULT_GROUP || ids::is_eni_link_group(group)
}

fn link_diff(eni: &EniSetup, state: &EniState) -> Option<LinkSet> {
    let effective = state.rp_filter.max(state.rp_filter_all);
    let set = LinkSet {
        mtu: (state.mtu != eni.mtu).then_some(eni.mtu),
        up: !state.up,
        rp_filter: (effective != ids::RP_FILTER_LOOSE).then_some(ids::RP_FILTER_LOOSE),
        group: match eni.link_group() {
            Some(group) => Some(group).filter(|group| *group != state.group && may_take(state.group)),
            None => ids::is_eni_link_group(state.group).then_some(ids::DEFAULT_GROUP),
        },
        ..LinkSet::of(LinkRef::Mac(eni.mac))
    };
    (set != LinkSet::of(LinkRef::Mac(eni.mac))).then_some(set)
}

fn address_diff(eni: &EniSetup, state: &EniState) -> Vec<Op> {
    let wanted = eni.address();
    let is_wanted = |found: &&Address| found.address == wanted.address;
    let mut ops: Vec<_> =
        state.addresses.iter().filter(|found| !is_wanted(found)).cloned().map(Op::AddressDelete).collect();
    // An address that is there without the flag stays: taking it away would cut what uses it. Its subnet route goes.
    if !state.addresses.iter().any(|found| is_wanted(&found)) {
        ops.push(Op::AddressAdd(wanted));
    }
    ops.extend(state.kernel_routes.iter().cloned().map(Op::RouteDelete));
    ops
}

#[cfg(test)]
mod tests;
