// SPDX-License-Identifier: Apache-2.0
//! The core's EC2 actions as calls, and their answers as outcomes: the counterpart of `ipamd/aws/src/ec2.rs`.
//!
//! An action is one call, but for a description, which asks by instance, then by id, then by token, and is whole or failed.
//! It does not retry (the client), and what an error code means is `ipamd_core::ec2`.
//!
//! Invariant: `read_at` of a description is taken when the action starts.

use std::collections::BTreeSet;

use ipamd_core::BootTime;
use ipamd_core::action::{ActionKind, CLIENT_TOKEN_TAG, Fill, SubnetQuery};
use ipamd_core::ec2::Sent;
use ipamd_core::event::{EniView, Failure, FailureClass, Outcome};
use ipamd_core::ids::{EniId, InstanceId, VpcId};
use ipamd_core::tags::{CLUSTER_TAG, INSTANCE_TAG};

use crate::answer::{self, Unreadable};
use crate::client::Ec2Call;

/// Values of one filter (EC2 API reference: 200 in one request).
const FILTER_VALUES: usize = 200;

/// An action of EC2's under way.
#[derive(Debug)]
pub(crate) struct Operation {
    action: &'static str,
    goal: Goal,
}

/// What its answer is read as.
#[derive(Debug)]
enum Goal {
    Create,
    Attach,
    Assign,
    Subnets,
    Leaked(Leaked),
    /// Nothing in the answer matters; an object that is gone is done too, when `gone_is_done`.
    Done {
        gone_is_done: bool,
    },
    Describe(Describe),
}

/// A description made of several calls.
#[derive(Debug)]
struct Describe {
    read_at: BootTime,
    found: Vec<EniView>,
    /// Ids that were asked for and, once the first call has answered, are asked for by filter.
    also: Vec<EniId>,
    tokens: Vec<String>,
}

/// Unattached ENIs, and which of the instances that they were made for are there.
#[derive(Debug, Default)]
struct Leaked {
    /// `None`: the first call has not answered.
    found: Option<Vec<EniView>>,
    /// Instances that are still to be asked for.
    makers: Vec<String>,
    living: BTreeSet<InstanceId>,
}

/// What comes next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one value a call, moved once")]
pub(crate) enum Next {
    Call(Ec2Call),
    Ended(Outcome),
}

impl Operation {
    /// Starts an action; `None`: it is not one of EC2's.
    pub(crate) fn start(kind: &ActionKind, now: BootTime) -> Option<(Self, Ec2Call)> {
        let (call, goal) = match kind {
            ActionKind::CreateEni { .. } => (create(kind)?, Goal::Create),
            ActionKind::AttachEni { .. } => (attach(kind)?, Goal::Attach),
            ActionKind::SetDeleteOnTermination { eni_id, attachment_id } => {
                let call = Ec2Call::new("ModifyNetworkInterfaceAttribute", Sent::Repeatable)
                    .with("NetworkInterfaceId", eni_id)
                    .with("Attachment.AttachmentId", attachment_id)
                    .with("Attachment.DeleteOnTermination", true);
                (call, Goal::Done { gone_is_done: false })
            }
            ActionKind::Assign { eni_id, fill } => {
                let call = Ec2Call::new("AssignPrivateIpAddresses", Sent::Once).with("NetworkInterfaceId", eni_id);
                (filled(call, *fill), Goal::Assign)
            }
            ActionKind::Unassign { eni_id, addresses, prefixes } => {
                let call = Ec2Call::new("UnassignPrivateIpAddresses", Sent::Repeatable)
                    .with("NetworkInterfaceId", eni_id)
                    .with_list("PrivateIpAddress", addresses)
                    .with_list("Ipv4Prefix", prefixes);
                (call, Goal::Done { gone_is_done: false })
            }
            ActionKind::SetSecurityGroups { eni_id, security_group_ids } => {
                let call = Ec2Call::new("ModifyNetworkInterfaceAttribute", Sent::Repeatable)
                    .with("NetworkInterfaceId", eni_id)
                    .with_list("SecurityGroupId", security_group_ids);
                (call, Goal::Done { gone_is_done: false })
            }
            ActionKind::TagEni { eni_id, tags } => {
                let call = Ec2Call::new("CreateTags", Sent::Repeatable).with("ResourceId.1", eni_id);
                (call.with_tags("Tag", tags), Goal::Done { gone_is_done: false })
            }
            ActionKind::DetachEni { attachment_id, .. } => {
                let call = Ec2Call::new("DetachNetworkInterface", Sent::Repeatable).with("AttachmentId", attachment_id);
                (call, Goal::Done { gone_is_done: true })
            }
            ActionKind::DeleteEni { eni_id } => {
                let call = Ec2Call::new("DeleteNetworkInterface", Sent::Repeatable).with("NetworkInterfaceId", eni_id);
                (call, Goal::Done { gone_is_done: true })
            }
            ActionKind::DescribeEnis { instance_id, also, tokens } => {
                let describe = Describe { read_at: now, found: Vec::new(), also: also.clone(), tokens: tokens.clone() };
                (described_by("attachment.instance-id", [instance_id]), Goal::Describe(describe))
            }
            ActionKind::DescribeSubnets(query) => (subnets(query), Goal::Subnets),
            ActionKind::DescribeLeakedEnis { vpc_id, cluster_name } => {
                (leaked(vpc_id, cluster_name.as_deref()), Goal::Leaked(Leaked::default()))
            }
            ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost(_)
            | ActionKind::Repair(_)
            | ActionKind::ObserveKernel
            | ActionKind::ListSandboxes
            | ActionKind::FlushAddresses { .. }
            | ActionKind::ForgetTombstone { .. } => return None,
        };
        Some((Self { action: call.action, goal }, call))
    }

    /// Takes the answer to its call.
    pub(crate) fn answered(&mut self, answer: Result<String, Failure>) -> Next {
        let ended = answer.and_then(|xml| self.read(&xml).map_err(|error| self.incomplete(&error)));
        match (ended, &self.goal) {
            (Ok(next), _) => next,
            (Err(failure), Goal::Done { gone_is_done: true }) if failure.class == FailureClass::NotFound => {
                Next::Ended(Outcome::Done)
            }
            (Err(failure), _) => Next::Ended(Outcome::Failed(failure)),
        }
    }

    fn read(&mut self, xml: &str) -> Result<Next, Unreadable> {
        Ok(Next::Ended(match &mut self.goal {
            Goal::Create => Outcome::EniCreated(answer::created_eni(xml)?),
            Goal::Attach => Outcome::EniAttached { attachment_id: answer::attachment_id(xml)? },
            Goal::Assign => {
                let (addresses, prefixes) = answer::assigned(xml)?;
                Outcome::Assigned { addresses, prefixes }
            }
            Goal::Subnets => {
                let mut subnets = answer::subnets(xml)?;
                subnets.sort_by(|a, b| a.subnet_id.cmp(&b.subnet_id));
                Outcome::SubnetsDescribed(subnets)
            }
            Goal::Leaked(leaked) => return leaked.read(xml),
            Goal::Done { .. } => Outcome::Done,
            Goal::Describe(describe) => return describe.read(xml),
        }))
    }

    /// An answer that lacks what it must have: for a write, nobody knows what it did.
    fn incomplete(&self, error: &Unreadable) -> Failure {
        let reads = self.action.starts_with("Describe");
        let class = if reads { FailureClass::Transient } else { FailureClass::Unknown };
        let message = format!("{}: {error}", self.action);
        Failure { class, code: "UnreadableAnswer".to_owned(), message, retry_after: None }
    }
}

impl Describe {
    fn read(&mut self, xml: &str) -> Result<Next, Unreadable> {
        self.found.extend(answer::enis(xml)?);
        // A filter, not ids: an id that EC2 does not know fails the whole call, a filter value leaves it out.
        self.also.retain(|id| self.found.iter().all(|eni| eni.eni_id != *id));
        if !self.also.is_empty() {
            let ids = self.also.drain(..self.also.len().min(FILTER_VALUES));
            return Ok(Next::Call(described_by("network-interface-id", ids)));
        }
        if !self.tokens.is_empty() {
            let tokens = self.tokens.drain(..self.tokens.len().min(FILTER_VALUES));
            return Ok(Next::Call(described_by(&format!("tag:{CLIENT_TOKEN_TAG}"), tokens)));
        }
        let mut enis = std::mem::take(&mut self.found);
        enis.sort_by(|a, b| a.eni_id.cmp(&b.eni_id));
        enis.dedup_by(|a, b| a.eni_id == b.eni_id);
        Ok(Next::Ended(Outcome::EnisDescribed { enis, read_at: self.read_at }))
    }
}

impl Leaked {
    fn read(&mut self, xml: &str) -> Result<Next, Unreadable> {
        let mut enis = answer::enis(xml)?;
        if self.found.is_none() {
            let makers = enis.iter().flat_map(|eni| &eni.tags).filter(|(key, _)| key == INSTANCE_TAG);
            let makers: BTreeSet<String> = makers.map(|(_, maker)| maker.clone()).collect();
            self.makers = makers.into_iter().collect();
            enis.sort_by(|a, b| a.eni_id.cmp(&b.eni_id));
            self.found = Some(enis);
        } else {
            let attachments = enis.into_iter().filter_map(|eni| eni.attachment);
            self.living.extend(attachments.filter_map(|attachment| attachment.instance_id));
        }
        if !self.makers.is_empty() {
            let makers = self.makers.drain(..self.makers.len().min(FILTER_VALUES));
            let call = described_by("attachment.instance-id", makers);
            return Ok(Next::Call(call.with_filter("attachment.device-index", [0])));
        }
        let enis = self.found.take().unwrap_or_default();
        Ok(Next::Ended(Outcome::LeakedEnisDescribed { enis, living: std::mem::take(&mut self.living) }))
    }
}

fn described_by(filter: &str, values: impl IntoIterator<Item = impl ToString>) -> Ec2Call {
    Ec2Call::new("DescribeNetworkInterfaces", Sent::Read).with_filter(filter, values).with("MaxResults", 1_000)
}

fn subnets(query: &SubnetQuery) -> Ec2Call {
    let call = Ec2Call::new("DescribeSubnets", Sent::Read);
    match query {
        SubnetQuery::Id(id) => call.with_filter("subnet-id", [id]),
        SubnetQuery::Named(ids) => call.with_filter("subnet-id", ids),
        SubnetQuery::Zone { vpc_id, availability_zone } => {
            call.with_filter("vpc-id", [vpc_id]).with_filter("availability-zone", [availability_zone])
        }
    }
}

fn leaked(vpc_id: &VpcId, cluster_name: Option<&str>) -> Ec2Call {
    let call =
        described_by("tag-key", [INSTANCE_TAG]).with_filter("status", ["available"]).with_filter("vpc-id", [vpc_id]);
    match cluster_name {
        Some(name) => call.with_filter(&format!("tag:{CLUSTER_TAG}"), [name]),
        None => call,
    }
}

/// The two count parameters, of which EC2 takes one.
fn filled(call: Ec2Call, fill: Fill) -> Ec2Call {
    match fill {
        Fill::Addresses(0) | Fill::Prefixes(0) => call,
        Fill::Addresses(count) => call.with("SecondaryPrivateIpAddressCount", count),
        Fill::Prefixes(count) => call.with("Ipv4PrefixCount", count),
    }
}

fn attach(kind: &ActionKind) -> Option<Ec2Call> {
    let ActionKind::AttachEni { eni_id, instance_id, device_index, network_card } = kind else { return None };
    let call = Ec2Call::new("AttachNetworkInterface", Sent::Once)
        .with("NetworkInterfaceId", eni_id)
        .with("InstanceId", instance_id)
        .with("DeviceIndex", device_index.0)
        .with("NetworkCardIndex", network_card);
    Some(call)
}

fn create(kind: &ActionKind) -> Option<Ec2Call> {
    let ActionKind::CreateEni { subnet_id, security_group_ids, fill, client_token, description, tags } = kind else {
        return None;
    };
    let call = Ec2Call::new("CreateNetworkInterface", Sent::Repeatable)
        .with("SubnetId", subnet_id)
        .with_list("SecurityGroupId", security_group_ids)
        .with("Description", description)
        .with("ClientToken", client_token)
        .with_eni_tags(tags);
    Some(filled(call, *fill))
}
