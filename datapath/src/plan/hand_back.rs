// SPDX-License-Identifier: Apache-2.0
//! Live pods as the reference must find them, for a node that goes back to it: in layout `classic`, which is its own. Pure; reading
//! and writing is `apply::hand_back`'s.
//!
//! The kernel alone says where a pod belongs, so that a journal that is lost hinders nobody:
//!
//! | what the pod has | table of its ENI |
//! |---|---|
//! | a rule `from` its address | that rule's: layout `classic` already |
//! | a host veth in an ENI's link group | that ENI's |
//! | an address inside the block of a rule 1536 | that rule's |
//! | none of these | main: the primary ENI |
//!
//! Pods of the reference (no alias) are in its layout; they are left as they are.
//!
//! Invariant: every live pod with an alias is among the answer, with all of its addresses of the VPC.

use std::net::IpAddr;

use super::alias::VethAlias;
use super::eni;
use super::ids::{self, Place};
use super::name::RouteTable;
use super::pod::PodLayout;
use super::pods::{LivePod, NodeLink, NodeState};

/// All live pods of ours, as they are to be.
#[must_use]
pub fn pods(state: &NodeState) -> Vec<LivePod> {
    let live = state.links.iter().filter(|link| ![ids::DEAD_GROUP, ids::MAKING_GROUP].contains(&link.group));
    live.filter_map(|link| Some(live_pod(state, link, link.alias.as_ref()?))).collect()
}

fn live_pod(state: &NodeState, link: &NodeLink, alias: &VethAlias) -> LivePod {
    let addresses = alias.addresses.of_vpc();
    LivePod {
        owner: alias.owner.clone(),
        host_veth: Some(link.name.clone()),
        addresses,
        eni_table: addresses.iter().find_map(|address| table(state, link, address)),
        layout: PodLayout::Classic,
    }
}

/// `None`: main.
fn table(state: &NodeState, link: &NodeLink, address: IpAddr) -> Option<RouteTable> {
    let of_eni = || state.rules.iter().map(|(rule, _)| rule).filter(|rule| rule.priority == ids::PRIORITY_FROM_POD);
    let own = of_eni().find(|rule| rule.from == Some(address.into()) && rule.to.is_none());
    let of_group = || Place::with_numbers().find(|place| place.group() == Some(link.group)).map(Place::table);
    let of_prefix = || {
        let around = of_eni().filter(|rule| eni::is_steering(rule));
        around.filter(|rule| rule.from.is_some_and(|block| block.contains(&address))).find_map(|rule| rule.table)
    };
    own.and_then(|rule| rule.table).or_else(of_group).or_else(of_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::Mark;
    use crate::plan::{LinkName, PodAddresses, Rule};

    fn link(group: u32, address: [u8; 4], owner: Option<&str>) -> NodeLink {
        let addresses = PodAddresses::from(std::net::Ipv4Addr::from(address));
        NodeLink {
            index: 7,
            name: LinkName::new("eni0").unwrap(),
            mac: None,
            up: true,
            group,
            mtu: 9001,
            alias: owner.map(|owner| VethAlias { owner: owner.to_owned(), addresses }),
            is_bare_veth: owner.is_none(),
        }
    }

    fn rule(from: Option<&str>, mark: Option<u32>, table: u32) -> (Rule, u8) {
        let from = from.map(|block| block.parse().unwrap());
        let mark = mark.map(|value| Mark { value, mask: 0x7f });
        let template = Rule::from_pod(std::net::Ipv4Addr::LOCALHOST, Some(RouteTable(table)));
        (Rule { from, mark, ..template }, ids::PROTOCOL)
    }

    #[test]
    fn a_pod_s_eni_is_told_by_its_rule_its_link_group_or_its_prefix_and_is_the_primary_one_else() {
        let group = Place::new(0, 2).unwrap().group().unwrap();
        let rules =
            vec![rule(Some("10.0.0.5/32"), None, 2), rule(None, Some(2), 3), rule(Some("10.0.0.16/28"), None, 4)];
        for (group, address, table) in [
            (ids::DEFAULT_GROUP, [10, 0, 0, 5], Some(2)),
            (group, [10, 0, 0, 6], Some(3)),
            (ids::DEFAULT_GROUP, [10, 0, 0, 17], Some(4)),
            (ids::DEFAULT_GROUP, [10, 0, 0, 7], None),
        ] {
            let state = NodeState {
                links: vec![link(group, address, Some("n/c/e"))],
                rules: rules.clone(),
                ..Default::default()
            };
            let [pod] = pods(&state).try_into().unwrap();
            assert_eq!(pod.eni_table, table.map(RouteTable), "{address:?}");
            assert_eq!((pod.owner.as_str(), pod.layout), ("n/c/e", PodLayout::Classic));
        }
    }

    #[test]
    fn dead_pods_and_the_reference_s_are_not_touched() {
        let links = vec![link(ids::DEAD_GROUP, [10, 0, 0, 5], Some("n/c/e")), link(0, [10, 0, 0, 6], None)];
        assert!(pods(&NodeState { links, ..NodeState::default() }).is_empty());
    }
}
