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
//!
//! The primary ENI (device index 0) is the distribution's: only up, MTU and rp_filter.
//!
//! [`diff`] compares with what was read and is the only judge: no operations left is the proof that the ENI works as
//! far as the kernel is concerned. Routes and rules of the reference that are equal but for the protocol: rules are
//! taken as they are, routes are replaced in place (one message, no gap) so that they become ours.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::ids;
use super::model::{Address, Family, LinkRef, LinkSet, Op, Plan, Route, RouteScope, Rule};
use super::name::{MacAddr, RouteTable};

/// How an ENI must be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSetup {
    /// Its MAC, by which its link is found.
    pub mac: MacAddr,
    /// Position on the card; 0 is the primary ENI.
    pub device_index: u32,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// Its subnet; the router is its first address + 1 (VPC user guide, "Subnet sizing").
    pub subnet: Ipv4Net,
    /// Its route table; never main unless it is the primary ENI.
    pub table: RouteTable,
    /// MTU (AWS_VPC_ENI_MTU).
    pub mtu: u32,
}

/// What was read of an ENI. Links in it are `LinkRef::Mac` of the ENI where they are the ENI's own link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EniState {
    /// Whether it is up.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
    /// rp_filter of the link itself.
    pub rp_filter: u8,
    /// rp_filter of all links; the higher of the two holds.
    pub rp_filter_all: u8,
    /// Global IPv4 addresses on the link.
    pub addresses: Vec<Address>,
    /// Unicast routes of the ENI's table.
    pub routes: Vec<Route>,
    /// Routes that the kernel made in main for the link's addresses.
    pub kernel_routes: Vec<Route>,
    /// Rules of priority 32765.
    pub rules: Vec<Rule>,
}

impl EniSetup {
    /// Whether this is the primary ENI.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.device_index == 0
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
    pub fn routes(&self) -> [Route; 2] {
        let gateway = IpAddr::from(self.gateway());
        let route = |destination: IpNet, via, scope| Route {
            destination,
            via,
            link: LinkRef::Mac(self.mac),
            scope,
            table: self.table,
            protocol: ids::PROTOCOL,
        };
        [
            route(gateway.into(), None, RouteScope::Link),
            route(Family::V4.everything(), Some(gateway), RouteScope::Universe),
        ]
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
            table: Some(self.table),
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
        ops.extend(eni.routes().into_iter().filter(|route| !state.routes.contains(route)).map(Op::RouteReplace));
        let rule = eni.rule();
        // A rule of this address to another table (the ENI was at another device index) is as good as none.
        let stale = state.rules.iter().filter(|found| found.from == rule.from && **found != rule);
        ops.extend(stale.cloned().map(Op::RuleDelete));
        if !state.rules.contains(&rule) {
            ops.push(Op::RuleAdd(rule));
        }
    }
    Plan { ops }
}

fn link_diff(eni: &EniSetup, state: &EniState) -> Option<LinkSet> {
    let effective = state.rp_filter.max(state.rp_filter_all);
    let set = LinkSet {
        mtu: (state.mtu != eni.mtu).then_some(eni.mtu),
        up: !state.up,
        rp_filter: (effective != ids::RP_FILTER_LOOSE).then_some(ids::RP_FILTER_LOOSE),
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
