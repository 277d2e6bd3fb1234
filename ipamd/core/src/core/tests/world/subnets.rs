// SPDX-License-Identifier: Apache-2.0
//! The zone's subnets: their free addresses and tags, and what DescribeSubnets shows of them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::World;
use super::ec2::whole_prefixes;
use crate::action::SubnetQuery;
use crate::event::{Event, SubnetView};
use crate::ids::SubnetId;
use crate::pod_network::{PodNetwork, PodSubnetRef};

/// A subnet besides the primary ENI's.
#[derive(Clone, Debug)]
pub(in crate::core::tests) struct Sibling {
    cidr: Ipv4Net,
    pub(in crate::core::tests) free: BTreeSet<Ipv4Addr>,
    pub(in crate::core::tests) tags: Vec<(String, String)>,
}

pub(in crate::core::tests) fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl World {
    /// A subnet 10.0.<third>.0/24 called `id`, with so many free addresses.
    pub(in crate::core::tests) fn add_subnet(&mut self, id: &str, third: u8, free: u8, pairs: &[(&str, &str)]) {
        let base = Ipv4Addr::new(10, 0, third, 0);
        let free = (0..free).map(|host| Ipv4Addr::from(u32::from(base) + 10 + u32::from(host))).collect();
        let sibling = Sibling { cidr: Ipv4Net::new_assert(base, 24), free, tags: tags(pairs) };
        self.siblings.insert(id.into(), sibling);
    }

    pub(super) fn free_in(&mut self, subnet_id: &SubnetId) -> &mut BTreeSet<Ipv4Addr> {
        match self.siblings.get_mut(subnet_id) {
            Some(sibling) => &mut sibling.free,
            None => &mut self.subnet_free,
        }
    }

    /// Leaves only so many addresses in the subnet.
    pub(in crate::core::tests) fn squeeze_subnet(&mut self, left: usize) {
        self.subnet_free.append(&mut self.squeezed);
        while self.subnet_free.len() > left {
            self.squeezed.extend(self.subnet_free.pop_last());
        }
    }

    /// Someone takes one address of every /28 that is free as a whole: none is left to be handed out.
    pub(in crate::core::tests) fn fragment_subnet(&mut self) {
        for prefix in whole_prefixes(&self.subnet_free) {
            let address = Ipv4Addr::from(u32::from(prefix.network()) + 7);
            self.subnet_free.remove(&address);
            self.spoiled.insert(address);
        }
    }

    /// They give so many of them back, the highest first: the lower blocks have single addresses of ours by then.
    pub(in crate::core::tests) fn mend_subnet(&mut self, count: usize) {
        let back: Vec<Ipv4Addr> = self.spoiled.iter().rev().copied().take(count).collect();
        for address in back {
            self.spoiled.remove(&address);
            self.subnet_free.insert(address);
        }
    }

    pub(super) fn describe_subnets(&self, query: &SubnetQuery) -> Vec<SubnetView> {
        let view = |id: &SubnetId, cidr: Ipv4Net, free: usize, tags: &[(String, String)]| SubnetView {
            subnet_id: id.clone(),
            vpc_id: self.facts.vpc_id.clone(),
            cidr,
            available: u32::try_from(free).expect("small"),
            availability_zone: self.facts.availability_zone.clone(),
            tags: tags.to_vec(),
        };
        let primary = view(&self.facts.subnet_id, self.facts.subnet_cidr, self.subnet_free.len(), &self.subnet_tags);
        let others =
            self.siblings.iter().map(|(id, sibling)| view(id, sibling.cidr, sibling.free.len(), &sibling.tags));
        let mut views: Vec<SubnetView> = others.chain([primary]).collect();
        match query {
            SubnetQuery::Id(id) => views.retain(|view| view.subnet_id == *id),
            SubnetQuery::Named(ids) => {
                views.extend(self.elsewhere.iter().cloned());
                views.retain(|view| ids.contains(&view.subnet_id));
            }
            SubnetQuery::Zone { .. } if self.zone_hidden => views.clear(),
            SubnetQuery::Zone { .. } => {}
        }
        views
    }

    /// The API server says something of the node's ENIConfig.
    pub(in crate::core::tests) fn say(&mut self, said: PodNetwork) {
        self.opened = self.named_by(&said);
        self.feed(Event::PodNetworkChanged(said));
    }

    pub(super) fn named_by(&self, said: &PodNetwork) -> BTreeSet<SubnetId> {
        let PodNetwork::Policy(policy) = said else { return BTreeSet::new() };
        let named = policy.subnets.iter().flat_map(|subnet| match &subnet.which {
            PodSubnetRef::Id(id) => vec![id.clone()],
            PodSubnetRef::Tags(wanted) => {
                let has = |tags: &[(String, String)]| {
                    wanted.iter().all(|(key, value)| tags.contains(&(key.clone(), value.clone())))
                };
                self.siblings.iter().filter(|(_, sibling)| has(&sibling.tags)).map(|(id, _)| id.clone()).collect()
            }
            PodSubnetRef::Faulty { .. } => Vec::new(),
        });
        named.collect()
    }

    /// Subnets of the attached secondary ENIs, sorted.
    pub(in crate::core::tests) fn subnets_in_use(&self) -> Vec<String> {
        let secondary = self.attached().filter(|eni| eni.view.eni_id != self.facts.primary_eni_id);
        let mut subnets: Vec<String> = secondary.map(|eni| eni.view.subnet_id.to_string()).collect();
        subnets.sort();
        subnets
    }
}
