// SPDX-License-Identifier: Apache-2.0
//! EC2 and the kernel: the effect of each action, and what reads show.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::{FakeEni, World, attachment, failure, has};
use crate::action::{ActionKind, CLIENT_TOKEN_TAG, Fill, prefix_addresses};
use crate::event::{EniView, FailureClass, HeldAddress, KernelView, Outcome};
use crate::ids::{AttachmentId, BootTime, DeviceIndex, EniId, MacAddr, SubnetId};
use crate::store::prefix_of;
use crate::tags::{CLUSTER_TAG, INSTANCE_TAG};

impl World {
    /// EC2 and the kernel.
    pub(super) fn perform(&mut self, kind: &ActionKind) -> Outcome {
        match kind {
            ActionKind::CreateEni { .. } => self.create(kind),
            ActionKind::AttachEni { eni_id, device_index, .. } => self.attach(eni_id, *device_index),
            ActionKind::SetDeleteOnTermination { eni_id, .. } => self.terminate_with_instance(eni_id),
            ActionKind::Assign { eni_id, fill } => self.assign(eni_id, *fill),
            ActionKind::Unassign { eni_id, addresses, prefixes } => self.unassign(eni_id, addresses, prefixes),
            ActionKind::DetachEni { eni_id, attachment_id } => self.detach(eni_id, attachment_id),
            ActionKind::DeleteEni { eni_id } => self.delete(eni_id),
            ActionKind::DescribeEnis { also, tokens, .. } => self.describe(also, tokens),
            ActionKind::SetSecurityGroups { eni_id, security_group_ids } => {
                self.change(eni_id, |view| view.security_group_ids.clone_from(security_group_ids))
            }
            ActionKind::TagEni { eni_id, tags } => self.change(eni_id, |view| {
                view.tags.retain(|(key, _)| tags.iter().all(|(name, _)| name != key));
                view.tags.extend_from_slice(tags);
            }),
            ActionKind::DescribeLeakedEnis { cluster_name, .. } => self.describe_leaked(cluster_name.as_deref()),
            ActionKind::DescribeSubnets(query) => Outcome::SubnetsDescribed(self.describe_subnets(query)),
            ActionKind::ConfigureEni(plan) => match self.enis.get(&plan.eni_id) {
                Some(eni) if eni.view.attachment.is_some() && eni.link_at <= self.now.boot => {
                    self.proven.insert(plan.eni_id.clone());
                    self.steered.insert(plan.eni_id.clone(), plan.prefixes.iter().copied().collect());
                    Outcome::EniConfigured
                }
                _ => Outcome::Failed(failure(FailureClass::LinkMissing)),
            },
            ActionKind::DeconfigureEni(plan) => {
                self.proven.remove(&plan.eni_id);
                self.steered.remove(&plan.eni_id);
                Outcome::Done
            }
            ActionKind::ConfigureHost(_) | ActionKind::ForgetTombstone { .. } => Outcome::Done,
            ActionKind::FlushAddresses { until, .. } if *until < self.now.boot => {
                Outcome::Failed(failure(FailureClass::Kernel))
            }
            ActionKind::FlushAddresses { addresses, .. } => {
                let now = self.now.boot;
                let rested =
                    |address: &&Ipv4Addr| self.ledger.resting_until.get(*address).is_none_or(|until| *until <= now);
                let rested: Vec<Ipv4Addr> = addresses.iter().filter(rested).copied().collect();
                rested.iter().for_each(|address| {
                    self.ledger.unflushed.remove(address);
                });
                // What is on no ENI in service may still be tried by pods that mean another's.
                let in_service = |address: &&Ipv4Addr| {
                    self.enis.iter().any(|(id, eni)| self.proven.contains(id) && has(&eni.view, **address))
                };
                let in_service: Vec<Ipv4Addr> = addresses.iter().filter(in_service).copied().collect();
                self.ledger.fresh.retain(|address| !in_service.contains(address));
                Outcome::Done
            }
            ActionKind::Repair(plan) => Outcome::Repaired(Box::new(self.repair(plan))),
            ActionKind::ObserveKernel => Outcome::KernelObserved(self.kernel_view()),
            ActionKind::ListSandboxes => Outcome::SandboxesListed { ready: self.ready.clone() },
        }
    }

    pub(in crate::core::tests) fn kernel_view(&self) -> KernelView {
        KernelView {
            held: self
                .pods
                .iter()
                .map(|(key, address)| HeldAddress {
                    address: *address,
                    key: Some(key.clone()),
                    link: format!("eni{}", key.container_id),
                })
                .collect(),
            host_veths: Vec::new(),
            link_macs: Vec::new(),
        }
    }

    fn change(&mut self, id: &EniId, change: impl FnOnce(&mut EniView)) -> Outcome {
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        change(&mut eni.view);
        Outcome::Done
    }

    fn describe_leaked(&self, cluster: Option<&str>) -> Outcome {
        let has = |view: &EniView, key: &str, value: Option<&str>| {
            view.tags.iter().any(|(name, there)| name == key && value.is_none_or(|value| value == there))
        };
        let leaked = self.enis.values().map(|eni| &eni.view).filter(|view| {
            view.status == "available"
                && has(view, INSTANCE_TAG, None)
                && cluster.is_none_or(|name| has(view, CLUSTER_TAG, Some(name)))
        });
        Outcome::LeakedEnisDescribed { enis: leaked.cloned().collect(), living: self.living.clone() }
    }

    fn create(&mut self, kind: &ActionKind) -> Outcome {
        let ActionKind::CreateEni { subnet_id, security_group_ids, fill, client_token: token, description, tags } =
            kind
        else {
            unreachable!("only called for a create")
        };
        let fill = *fill;
        if let Some(eni) = self.tokens.get(token).and_then(|id| self.enis.get(id)) {
            return Outcome::EniCreated(eni.view.clone());
        }
        if self.free_in(subnet_id).len() <= fill.addresses() as usize {
            return Outcome::Failed(failure(lacking(fill)));
        }
        let Some((addresses, prefixes)) = self.take_from_subnet(subnet_id, fill) else {
            return Outcome::Failed(failure(lacking(fill)));
        };
        assert!(tags.iter().any(|(name, value)| name == CLIENT_TOKEN_TAG && value == token));
        let primary = self.free_in(subnet_id).pop_first().expect("counted");
        let number = self.next_eni;
        self.next_eni += 1;
        let mut view = self.blank_view(EniId(format!("eni-{number}")), primary);
        let [_, _, high, low] = number.to_be_bytes();
        view.mac = MacAddr([2, 0, 0, 1, high, low]);
        view.tags.clone_from(tags);
        view.description.clone_from(description);
        view.security_group_ids.clone_from(security_group_ids);
        view.subnet_id = subnet_id.clone();
        (view.secondary_addresses, view.prefixes) = (addresses, prefixes);
        self.tokens.insert(token.to_owned(), view.eni_id.clone());
        self.enis.insert(view.eni_id.clone(), FakeEni { view: view.clone(), link_at: BootTime::default() });
        Outcome::EniCreated(view)
    }

    pub(super) fn attached(&self) -> impl Iterator<Item = &FakeEni> {
        self.enis.values().filter(|eni| eni.view.attachment.is_some())
    }

    fn attach(&mut self, id: &EniId, index: DeviceIndex) -> Outcome {
        let taken = self
            .attached()
            .any(|eni| eni.view.attachment.as_ref().is_some_and(|attachment| attachment.device_index == index));
        let full = self.attached().count() >= self.max_enis;
        let link_at = self.now.boot + self.link_delay;
        let per_eni = self.per_eni;
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        let class = if eni.view.attachment.is_some() {
            FailureClass::WrongState
        } else if eni.view.secondary_addresses.len() + eni.view.prefixes.len() > per_eni {
            FailureClass::AddressLimit
        } else if full {
            FailureClass::AttachmentLimit
        } else if taken {
            FailureClass::DeviceIndexTaken
        } else {
            let attachment = attachment(id, index);
            let attachment_id = attachment.attachment_id.clone();
            eni.view.attachment = Some(attachment);
            eni.view.status = "in-use".into();
            eni.link_at = link_at;
            return Outcome::EniAttached { attachment_id };
        };
        Outcome::Failed(failure(class))
    }

    fn terminate_with_instance(&mut self, id: &EniId) -> Outcome {
        match self.enis.get_mut(id).and_then(|eni| eni.view.attachment.as_mut()) {
            Some(attachment) => {
                attachment.delete_on_termination = true;
                Outcome::Done
            }
            None => Outcome::Failed(failure(FailureClass::NotFound)),
        }
    }

    fn assign(&mut self, id: &EniId, fill: Fill) -> Outcome {
        let Some(eni) = self.enis.get(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        // Of which instance, before it is attached?
        let limit = eni.view.attachment.as_ref().map_or(usize::MAX, |_| self.per_eni);
        if eni.view.secondary_addresses.len() + eni.view.prefixes.len() + fill.slots() as usize > limit {
            return Outcome::Failed(failure(FailureClass::AddressLimit));
        }
        let subnet_id = eni.view.subnet_id.clone();
        let Some((addresses, prefixes)) = self.take_from_subnet(&subnet_id, fill) else {
            return Outcome::Failed(failure(lacking(fill)));
        };
        if let Some(eni) = self.enis.get_mut(id) {
            eni.view.secondary_addresses.extend(&addresses);
            eni.view.prefixes.extend(&prefixes);
        }
        Outcome::Assigned { addresses, prefixes }
    }

    fn take_from_subnet(&mut self, subnet_id: &SubnetId, fill: Fill) -> Option<(Vec<Ipv4Addr>, Vec<Ipv4Net>)> {
        let taken = self.pick_from_subnet(subnet_id, fill)?;
        let inside = taken.1.iter().flat_map(|prefix| prefix_addresses(*prefix));
        self.ledger.fresh.extend(taken.0.iter().copied().chain(inside));
        Some(taken)
    }

    /// All of it or nothing, the lowest first.
    fn pick_from_subnet(&mut self, subnet_id: &SubnetId, fill: Fill) -> Option<(Vec<Ipv4Addr>, Vec<Ipv4Net>)> {
        let free = self.free_in(subnet_id);
        match fill {
            Fill::Addresses(count) => {
                let count = count as usize;
                let enough = free.len() >= count;
                enough.then(|| ((0..count).filter_map(|_| free.pop_first()).collect(), Vec::new()))
            }
            Fill::Prefixes(count) => {
                let prefixes: Vec<Ipv4Net> = whole_prefixes(free).into_iter().take(count as usize).collect();
                if prefixes.len() < count as usize {
                    return None;
                }
                for address in prefixes.iter().flat_map(|prefix| prefix_addresses(*prefix)) {
                    free.remove(&address);
                }
                Some((Vec::new(), prefixes))
            }
        }
    }

    fn unassign(&mut self, id: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) -> Outcome {
        assert!(addresses.is_empty() != prefixes.is_empty(), "one kind a call");
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        if !addresses.iter().all(|address| eni.view.secondary_addresses.contains(address))
            || !prefixes.iter().all(|prefix| eni.view.prefixes.contains(prefix))
        {
            return Outcome::Failed(failure(FailureClass::WrongState));
        }
        eni.view.secondary_addresses.retain(|address| !addresses.contains(address));
        eni.view.prefixes.retain(|prefix| !prefixes.contains(prefix));
        let subnet_id = eni.view.subnet_id.clone();
        self.free_in(&subnet_id).extend(addresses);
        self.free_in(&subnet_id).extend(prefixes.iter().flat_map(|prefix| prefix_addresses(*prefix)));
        Outcome::Done
    }

    fn detach(&mut self, id: &EniId, attachment_id: &AttachmentId) -> Outcome {
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        if eni.view.attachment.as_ref().is_none_or(|attachment| attachment.attachment_id != *attachment_id) {
            return Outcome::Failed(failure(FailureClass::NotFound));
        }
        eni.view.attachment = None;
        eni.view.status = "available".into();
        Outcome::Done
    }

    fn delete(&mut self, id: &EniId) -> Outcome {
        match self.enis.get(id) {
            None => Outcome::Failed(failure(FailureClass::NotFound)),
            Some(eni) if eni.view.attachment.is_some() => Outcome::Failed(failure(FailureClass::WrongState)),
            Some(eni) => {
                let view = eni.view.clone();
                let inside = view.prefixes.iter().flat_map(|prefix| prefix_addresses(*prefix));
                self.free_in(&view.subnet_id).extend(view.secondary_addresses.iter().copied().chain(inside));
                self.free_in(&view.subnet_id).insert(view.primary_address);
                self.enis.remove(id);
                Outcome::Done
            }
        }
    }

    /// For a few seconds reads show what is true now.
    pub(in crate::core::tests) fn lag(&mut self) {
        self.lag_for(8);
    }

    /// The same for so many seconds.
    pub(in crate::core::tests) fn lag_for(&mut self, seconds: u64) {
        self.has_lagged = true;
        self.lagging = Some((self.now.boot + Duration::from_secs(seconds), self.enis.clone()));
    }

    fn describe(&self, also: &[EniId], tokens: &[String]) -> Outcome {
        let wanted = |view: &EniView| {
            view.attachment.is_some()
                || also.contains(&view.eni_id)
                || view.tags.iter().any(|(name, value)| name == CLIENT_TOKEN_TAG && tokens.contains(value))
        };
        let lagging = self.lagging.as_ref().filter(|(until, _)| self.now.boot < *until).map(|(_, enis)| enis);
        let shown = lagging.unwrap_or(&self.enis);
        let views = shown.values().map(|eni| &eni.view).filter(|view| wanted(view));
        let enis = views.filter_map(|view| self.hidden.of(view)).collect();
        Outcome::EnisDescribed { enis, read_at: self.now.boot }
    }
}

/// The /28s that are free as a whole.
pub(super) fn whole_prefixes(free: &BTreeSet<Ipv4Addr>) -> Vec<Ipv4Net> {
    let mut prefixes: Vec<Ipv4Net> = free.iter().map(|address| prefix_of(*address)).collect();
    prefixes.dedup();
    prefixes.retain(|prefix| prefix_addresses(*prefix).all(|address| free.contains(&address)));
    prefixes
}

/// What EC2 says when a subnet does not have what is asked of it.
fn lacking(fill: Fill) -> FailureClass {
    match fill {
        Fill::Addresses(_) => FailureClass::SubnetExhausted,
        Fill::Prefixes(_) => FailureClass::PrefixesExhausted,
    }
}
