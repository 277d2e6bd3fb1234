// SPDX-License-Identifier: Apache-2.0
//! What the node's role may do: each call tried with `DryRun`, which changes nothing. For `ipamd doctor`; the daemon never asks.
//!
//! EC2 looks at a role's rights on the very objects that are named, so real ones are. A policy that allows a call only on ENIs that
//! carry our tags may deny it on the primary one, which does not.
//!
//! Source: EC2 API reference, "DryRun": `DryRunOperation` when it is allowed, `UnauthorizedOperation` when not. Of the calls that we
//! make AssignPrivateIpAddresses and UnassignPrivateIpAddresses have no such parameter.

use std::error::Error;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{NetworkInterfaceAttachmentChanges, Tag};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use ipamd_core::ec2::Sent;
use ipamd_core::event::Failure;
use ipamd_core::ids::{AttachmentId, EniId, InstanceId, SubnetId};

use super::Ec2;

/// Calls that are tried, as IAM names them after `ec2:`.
pub const TRIED: [&str; 9] = [
    "DescribeNetworkInterfaces",
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "CreateTags",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "DescribeSubnets",
    "DescribeInstanceTypes",
];

/// What the calls are tried on: the instance's primary ENI.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its primary ENI.
    pub eni_id: EniId,
    /// The attachment of that; `None`: not known, and what changes it is not tried.
    pub attachment_id: Option<AttachmentId>,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// What the daemon tags new ENIs with: a policy may ask for it.
    pub tags: Vec<(String, String)>,
}

/// What EC2 says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The role may.
    Allowed,
    /// The role may not.
    Denied(Failure),
    /// EC2 said something else, or nothing.
    Unclear(Failure),
    /// There is nothing to try it on, or no dry run of it.
    NotTried,
}

impl Ec2 {
    /// Whether one of [`TRIED`] is allowed.
    pub async fn may(&self, action: &'static str, on: &Subject) -> Verdict {
        if let Err(failure) = self.turn(action).await {
            return Verdict::Unclear(failure);
        }
        let (client, eni) = (&self.client, on.eni_id.as_str());
        match action {
            "DescribeNetworkInterfaces" => {
                self.verdict(action, client.describe_network_interfaces().dry_run(true).send().await)
            }
            "CreateNetworkInterface" => {
                let call = client.create_network_interface().subnet_id(on.subnet_id.as_str());
                let call = call.tag_specifications(super::of_new_eni(&on.tags));
                self.verdict(action, call.dry_run(true).send().await)
            }
            "AttachNetworkInterface" => {
                let call = client.attach_network_interface().network_interface_id(eni).device_index(1);
                self.verdict(action, call.instance_id(on.instance_id.as_str()).dry_run(true).send().await)
            }
            "ModifyNetworkInterfaceAttribute" => {
                let Some(attachment) = &on.attachment_id else { return Verdict::NotTried };
                let changes = NetworkInterfaceAttachmentChanges::builder()
                    .attachment_id(attachment.as_str())
                    .delete_on_termination(true)
                    .build();
                let call = client.modify_network_interface_attribute().network_interface_id(eni).attachment(changes);
                self.verdict(action, call.dry_run(true).send().await)
            }
            "CreateTags" => {
                let tag = Tag::builder().key("enid-doctor").value("dry-run").build();
                self.verdict(action, client.create_tags().resources(eni).tags(tag).dry_run(true).send().await)
            }
            "DetachNetworkInterface" => {
                let Some(attachment) = &on.attachment_id else { return Verdict::NotTried };
                let call = client.detach_network_interface().attachment_id(attachment.as_str());
                self.verdict(action, call.dry_run(true).send().await)
            }
            "DeleteNetworkInterface" => {
                let call = client.delete_network_interface().network_interface_id(eni);
                self.verdict(action, call.dry_run(true).send().await)
            }
            "DescribeSubnets" => self.verdict(action, client.describe_subnets().dry_run(true).send().await),
            "DescribeInstanceTypes" => {
                self.verdict(action, client.describe_instance_types().dry_run(true).send().await)
            }
            _ => Verdict::NotTried,
        }
    }

    fn verdict<T, E>(&self, action: &'static str, answer: Result<T, SdkError<E, HttpResponse>>) -> Verdict
    where
        E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
    {
        match answer.map_err(|error| self.failed(action, Sent::Read, error)) {
            Ok(_) => Verdict::Allowed,
            Err(failure) if failure.code == "DryRunOperation" => Verdict::Allowed,
            Err(failure) if failure.code == "UnauthorizedOperation" => Verdict::Denied(failure),
            Err(failure) => Verdict::Unclear(failure),
        }
    }
}
