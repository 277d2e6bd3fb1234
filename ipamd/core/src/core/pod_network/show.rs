// SPDX-License-Identifier: Apache-2.0
//! Custom networking as it is shown: the word that holds, and what each entry of it comes to.

use crate::ids::{BootTime, SubnetId};
use crate::pod_network::PodSubnet;
use crate::snapshot::{PodNetworkSnapshot, PodSubnetSnapshot};

use super::super::Core;
use super::super::show::millis;
use super::Verdict;

impl Core {
    pub(in crate::core) fn show_pod_network(&self, now: BootTime) -> Option<PodNetworkSnapshot> {
        if !self.has_pod_network() {
            return None;
        }
        let policy = self.pod_policy();
        let subnets = policy.map_or(&[][..], |policy| &policy.subnets);
        Some(PodNetworkSnapshot {
            eni_config: self.pod_networking.said.as_ref().map(|said| said.eni_config().clone()),
            for_ms: millis(now.since(self.pod_networking.since)),
            security_group_ids: policy.and(self.groups_of_new_eni()).unwrap_or_default().to_vec(),
            subnets: subnets.iter().flat_map(|subnet| self.show_pod_subnet(subnet, now)).collect(),
            problem: self.why_no_pod_network(now).map(|refusal| refusal.cause),
        })
    }

    fn show_pod_subnet(&self, subnet: &PodSubnet, now: BootTime) -> Vec<PodSubnetSnapshot> {
        let blank = |standing: String| PodSubnetSnapshot {
            subnet_id: None,
            entry: subnet.which.to_string(),
            order: subnet.order,
            weight: subnet.weight.get(),
            free: None,
            enis: 0,
            standing,
        };
        let usable = |id: SubnetId| {
            let known = self.subnets.get(&id);
            let rests = known.and_then(|known| known.exhausted).filter(|exhausted| now < exhausted.until);
            let standing = rests.map_or_else(
                || "usable".to_owned(),
                |exhausted| format!("exhausted, asked again in {} s", exhausted.until.since(now).as_secs()),
            );
            let free = known.filter(|known| known.standing.is_some()).map(|known| known.free);
            PodSubnetSnapshot { free, enis: self.secondary_enis_in(&id), subnet_id: Some(id), ..blank(standing) }
        };
        match self.verdict(subnet) {
            Verdict::Usable(ids) => ids.into_iter().map(usable).collect(),
            Verdict::Unchecked => vec![blank("not looked up yet".to_owned())],
            Verdict::Faulty(text) => vec![blank(text)],
        }
    }
}
