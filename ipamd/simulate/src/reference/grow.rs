// SPDX-License-Identifier: Apache-2.0
//! How the reference grows its pool: more on an attached ENI, or else one new ENI.
//!
//! ```text
//! room on an ENI? ─► Assign (all, or else one) ─► in the store
//!       none ──► slot free? ─► DescribeSubnets ─► Create ─► DescribeInstances ─► Attach ─► Modify ─► IMDS lists it ─► set up
//! ```
//! One ENI a round, one after the other; an ENI whose set-up fails stays attached until the reconcile finds it.
//!
//! Source: the reference (amazon-vpc-cni-k8s v1.23), `increaseDatastorePool`, `tryAllocateENI`, `AllocENI`, `WaitForENIAndIPsAttached`.

use std::time::Duration;

use ipamd_core::event::{EniView, Failure};
use ipnet::Ipv4Net;
use vpc_model::EniId;
use vpc_model::imds::ImdsEni;

use super::agent::{Agent, blocks, internal};
use super::decide::Mode;
use super::retry::{DETACH, NEW_ENI};
use super::wire::{self, NewEni};
use crate::answer;

/// How long nothing is asked for after a subnet was full.
const OUT_OF_SPACE: Duration = Duration::from_secs(120);
/// Between detach and delete.
const AFTER_DETACH: Duration = Duration::from_secs(2);
/// Codes that say that a subnet is full.
const NO_SPACE: [&str; 2] = ["InsufficientCidrBlocks", "InsufficientFreeAddressesInSubnet"];
/// The code that says that the store is behind.
const LIMIT_EXCEEDED: &str = "PrivateIpAddressLimitExceeded";

impl Agent {
    /// One round of growth.
    pub(super) async fn grow(&self) -> Result<(), Failure> {
        if self.now() < self.state.borrow().out_of_space_until {
            return Ok(());
        }
        match self.grow_attached().await {
            Ok(true) => {
                self.acted();
                return Ok(());
            }
            Ok(false) => {}
            Err(failure) if NO_SPACE.contains(&failure.code.as_str()) => {
                let mut state = self.state.borrow_mut();
                state.out_of_space_until = state.now + OUT_OF_SPACE;
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
        let (counts, enis) = {
            let state = self.state.borrow();
            (state.store.counts(), state.store.enis().len())
        };
        let amount = self.rules.wanted(counts).min(self.rules.slots_per_eni);
        let slot = u32::try_from(enis).is_ok_and(|enis| enis < self.rules.max_enis);
        if slot && amount > 0 {
            match self.grow_by_eni(amount).await {
                Ok(()) => self.acted(),
                Err(failure) if NO_SPACE.contains(&failure.code.as_str()) => {
                    let mut state = self.state.borrow_mut();
                    state.out_of_space_until = state.now + OUT_OF_SPACE;
                }
                // Logged, no more.
                Err(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn acted(&self) {
        let mut state = self.state.borrow_mut();
        state.last_action = state.now;
    }

    /// Asks for more on the first ENI with room. Whether the store grew.
    async fn grow_attached(&self) -> Result<bool, Failure> {
        let (counts, roomy) = {
            let state = &mut *self.state.borrow_mut();
            (state.store.counts(), state.store.with_room(self.rules.slots_per_eni, &mut state.dice))
        };
        let wanted = self.rules.wanted(counts);
        if wanted == 0 {
            return Ok(false);
        }
        let mut full = None;
        for (eni, room) in roomy {
            match self.assign(&eni, wanted.min(room)).await {
                Err(failure) if NO_SPACE.contains(&failure.code.as_str()) => full = Some(failure),
                outcome => return outcome.map(|()| true),
            }
        }
        full.map_or(Ok(false), Err)
    }

    async fn assign(&self, eni: &EniId, amount: u32) -> Result<(), Failure> {
        let call = |amount| self.desk.ec2(wire::assign(eni.as_str(), self.rules.mode, amount));
        let outcome = match call(amount).await {
            Err(failure) if failure.code != LIMIT_EXCEEDED => call(1).await,
            outcome => outcome,
        };
        let added = match outcome {
            Ok(xml) => {
                let (addresses, prefixes) = answer::assigned(&xml).map_err(|error| internal(&error.to_string()))?;
                addresses.into_iter().map(Ipv4Net::from).chain(prefixes).collect()
            }
            Err(failure) if failure.code == LIMIT_EXCEEDED => self.described_blocks(eni).await?,
            Err(failure) => return Err(failure),
        };
        let mut state = self.state.borrow_mut();
        added.into_iter().for_each(|block| state.store.add_block(eni, block));
        Ok(())
    }

    /// What EC2 says an ENI holds.
    pub(super) async fn described_blocks(&self, eni: &EniId) -> Result<Vec<Ipv4Net>, Failure> {
        let described = self.describe(eni).await?;
        let singles = described.secondary_addresses.into_iter().map(Ipv4Net::from);
        Ok(singles.chain(described.prefixes).collect())
    }

    async fn describe(&self, eni: &EniId) -> Result<EniView, Failure> {
        let xml = self.desk.ec2(wire::describe_enis([eni])).await?;
        let enis = answer::enis(&xml).map_err(|error| internal(&error.to_string()))?;
        enis.into_iter().next().ok_or_else(|| internal("EC2 described no ENI"))
    }

    async fn grow_by_eni(&self, amount: u32) -> Result<(), Failure> {
        let eni = self.create(amount).await?;
        self.attach(&eni).await?;
        let listed = self.wait_for_imds(&eni, amount).await?;
        self.set_up(&listed).await
    }

    /// Creates an ENI in the first usable subnet that takes it.
    async fn create(&self, amount: u32) -> Result<EniId, Failure> {
        let identity = &self.identity;
        let token = format!("{:016x}", self.state.borrow_mut().dice.next_u64());
        let new = NewEni {
            instance: &identity.instance,
            groups: &identity.groups,
            mode: self.rules.mode,
            amount,
            created: self.now().as_secs().to_string(),
            token: token.clone(),
        };
        let described = self.desk.ec2(wire::describe_subnets(&identity.vpc, &identity.zone)).await;
        let mut subnets = match described {
            Ok(xml) => answer::subnets(&xml).map_err(|error| internal(&error.to_string()))?,
            Err(_) => Vec::new(),
        };
        subnets.sort_by_key(|subnet| std::cmp::Reverse(subnet.available));
        let usable = subnets.iter().filter(|subnet| wire::is_usable(subnet, &identity.subnet));
        let mut ids: Vec<&str> = usable.map(|subnet| subnet.subnet_id.as_str()).collect();
        if subnets.is_empty() {
            ids.push(&identity.subnet);
        }
        let mut last = internal("no subnet is usable");
        for (at, subnet) in ids.into_iter().enumerate() {
            let new = NewEni { token: format!("{token}-{at}"), ..new.clone() };
            match self.desk.ec2(wire::create(&new, subnet)).await {
                Ok(xml) => {
                    let created = answer::created_eni(&xml).map_err(|error| internal(&error.to_string()))?;
                    return Ok(EniId::from(created.eni_id.as_str()));
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Attaches at the lowest free index; what cannot be attached is deleted.
    async fn attach(&self, eni: &EniId) -> Result<(), Failure> {
        let instance = &self.identity.instance;
        let attached = match self.desk.ec2(wire::describe_instance(instance)).await {
            Ok(xml) => {
                let taken = wire::device_indexes(&xml);
                let free = (0..100).find(|index| !taken.contains(index)).unwrap_or(0);
                self.desk.ec2(wire::attach(eni.as_str(), instance, free)).await
            }
            Err(failure) => Err(failure),
        };
        let xml = match attached {
            Ok(xml) => xml,
            Err(failure) => {
                let _ = self.delete(eni.as_str()).await;
                return Err(failure);
            }
        };
        let attachment = answer::attachment_id(&xml).map_err(|error| internal(&error.to_string()))?;
        let kept = self.desk.ec2(wire::delete_on_termination(eni.as_str(), attachment.as_str())).await;
        if let Err(failure) = kept {
            self.release(eni).await;
            return Err(failure);
        }
        Ok(())
    }

    /// Detaches and deletes an ENI.
    pub(super) async fn release(&self, eni: &EniId) {
        let Ok(described) = self.describe(eni).await else { return };
        let Some(attachment) = described.attachment else { return };
        if self.retried(DETACH, &wire::detach(attachment.attachment_id.as_str())).await.is_ok() {
            self.desk.sleep(AFTER_DETACH).await;
            let _ = self.delete(eni.as_str()).await;
        }
    }

    /// Polls IMDS until it lists the ENI with what was asked for, or at the end with anything at all.
    async fn wait_for_imds(&self, eni: &EniId, amount: u32) -> Result<ImdsEni, Failure> {
        let of_mode = |listed: &ImdsEni| match self.rules.mode {
            Mode::Addresses => listed.addresses.len().saturating_sub(1),
            Mode::Prefixes => listed.prefixes.len(),
        };
        let wanted = usize::try_from(amount).unwrap_or(usize::MAX);
        let mut attempt = 1;
        loop {
            let view = self.desk.imds().await;
            let listed = view.ok().and_then(|view| view.enis.into_iter().find(|one| one.eni_id == eni.as_str()));
            let wait = NEW_ENI.wait(attempt, &mut self.state.borrow_mut().dice);
            match (listed, wait) {
                (Some(listed), _) if of_mode(&listed) >= wanted => return Ok(listed),
                (_, Some(wait)) => self.desk.sleep(wait).await,
                (Some(listed), None) if !blocks(&listed).is_empty() => return Ok(listed),
                (_, None) => return Err(internal("IMDS does not list the new ENI")),
            }
            attempt += 1;
        }
    }
}
