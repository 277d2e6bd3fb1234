// SPDX-License-Identifier: Apache-2.0
//! EC2: runs one [`ActionKind`] and says how it ended.
//!
//! Does not decide, plan or remember: whether a call is made and what follows from its outcome is the core's. Which of its
//! calls may be repeated inside the SDK is fixed here: attach and assign-by-count never are (EC2 gives them no client
//! token), all others are.
//!
//! Invariants: `read_at` of a description is taken before its first request leaves; every page waits for the bucket; a
//! description that cannot be read whole is a failure, never a shorter list.
//!
//! Source: EC2 API reference; wire names and tokens in its service model.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Config;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::types::{NetworkInterfaceAttachmentChanges, ResourceType, Tag, TagSpecification};
use instance_limits::InstanceLimits;
use ipamd_core::action::{ActionKind, Fill, Priority, SubnetQuery};
use ipamd_core::ec2::Sent;
use ipamd_core::event::{Failure, FailureClass, Outcome, SubnetView};
use ipamd_core::ids::{AttachmentId, EniId, SecurityGroupId};
use ipnet::Ipv4Net;
use moka::future::Cache;

use crate::config::{ConnectError, Settings, sdk_config};
use crate::credentials::Sources;
use crate::intercept::{BucketInterceptor, ThrottledCallsAreNotRetried};
use crate::throttle::Throttle;
use crate::{limits, view};

pub(crate) mod dry_run;
mod failure;
mod reads;
use failure::{incomplete, not_ec2, own_bucket};

/// How long a subnet's count of free addresses is believed. Other nodes use the subnet too; it only sizes requests.
const SUBNET_TTL: Duration = Duration::from_secs(30);

/// Limits of an instance type do not change; asked for again in case AWS corrects them.
const INSTANCE_TYPE_TTL: Duration = Duration::from_secs(24 * 3600);

/// The EC2 edge. Cheap to clone; clones share buckets and caches.
#[derive(Clone, Debug)]
pub struct Ec2 {
    client: Client,
    throttle: Throttle,
    /// Of credentials; `None`: those of a test.
    sources: Option<Sources>,
    /// Of the action that is run; that of a look until one is.
    priority: Priority,
    subnets: Cache<SubnetQuery, Vec<SubnetView>>,
    instance_types: Cache<String, InstanceLimits>,
}

impl Ec2 {
    /// A client for the EC2 of `region`, with the credentials chain of the environment. Calls nothing yet.
    pub async fn connect(settings: &Settings, region: &str) -> Result<Self, ConnectError> {
        let (shared, sources) = sdk_config(settings, region).await?;
        let mut config = aws_sdk_ec2::config::Builder::from(&shared);
        if let Some(endpoint) = &settings.ec2_endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self { sources: Some(sources), ..Self::new(config, settings) })
    }

    /// The source of the credentials that signed last; `None`: nothing was signed.
    #[must_use]
    pub fn credentials_source(&self) -> Option<String> {
        self.sources.as_ref().and_then(Sources::in_use)
    }

    pub(crate) fn new(config: aws_sdk_ec2::config::Builder, settings: &Settings) -> Self {
        let throttle = Throttle::new(settings.clock).watched_by(settings.watcher.clone());
        let config =
            config.interceptor(BucketInterceptor::new(throttle.clone())).retry_classifier(ThrottledCallsAreNotRetried);
        Self {
            client: Client::from_conf(config.build()),
            throttle,
            sources: None,
            priority: Priority::Describe,
            subnets: Cache::builder().max_capacity(64).time_to_live(SUBNET_TTL).build(),
            instance_types: Cache::builder().max_capacity(8).time_to_live(INSTANCE_TYPE_TTL).build(),
        }
    }

    /// Runs one action of EC2's. Kernel actions are not ours: they end as `Rejected`.
    pub async fn run(&self, priority: Priority, kind: &ActionKind) -> Outcome {
        let edge = Self { priority, ..self.clone() };
        edge.dispatch(kind).await.unwrap_or_else(Outcome::Failed)
    }

    async fn dispatch(&self, kind: &ActionKind) -> Result<Outcome, Failure> {
        match kind {
            ActionKind::CreateEni { .. } => self.create(kind).await,
            ActionKind::AttachEni { .. } => self.attach(kind).await,
            ActionKind::SetDeleteOnTermination { eni_id, attachment_id } => {
                self.delete_on_termination(eni_id, attachment_id).await
            }
            ActionKind::Assign { eni_id, fill } => self.assign(eni_id, *fill).await,
            ActionKind::Unassign { eni_id, addresses, prefixes } => self.unassign(eni_id, addresses, prefixes).await,
            ActionKind::SetSecurityGroups { eni_id, security_group_ids } => {
                self.security_groups(eni_id, security_group_ids).await
            }
            ActionKind::TagEni { eni_id, tags } => self.tag(eni_id, tags).await,
            ActionKind::DetachEni { attachment_id, .. } => self.detach(attachment_id).await,
            ActionKind::DeleteEni { eni_id } => self.delete(eni_id).await,
            ActionKind::DescribeEnis { instance_id, also, tokens } => self.describe(instance_id, also, tokens).await,
            ActionKind::DescribeSubnets(query) => self.subnets(query).await,
            ActionKind::DescribeLeakedEnis { vpc_id, cluster_name } => {
                self.leaked(vpc_id, cluster_name.as_deref()).await
            }
            ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost(_)
            | ActionKind::Repair(_)
            | ActionKind::ObserveKernel
            | ActionKind::ListSandboxes
            | ActionKind::FlushAddresses { .. }
            | ActionKind::ForgetTombstone { .. } => Err(not_ec2(kind)),
        }
    }

    /// The limits of an instance type (DescribeInstanceTypes), for one that the compiled-in table lacks.
    pub async fn instance_limits(&self, instance_type: &str) -> Result<InstanceLimits, Failure> {
        self.instance_types
            .try_get_with_by_ref(instance_type, self.fetch_instance_limits(instance_type))
            .await
            .map_err(Arc::unwrap_or_clone)
    }

    async fn fetch_instance_limits(&self, instance_type: &str) -> Result<InstanceLimits, Failure> {
        let action = "DescribeInstanceTypes";
        self.turn(action).await?;
        let call = self.client.describe_instance_types().instance_types(instance_type.into());
        let answer = self.sent(action, Sent::Read, call.send()).await?;
        let info = answer.instance_types().first();
        info.and_then(limits::from_ec2).ok_or_else(|| incomplete(action, format!("no limits for {instance_type}")))
    }

    async fn turn(&self, action: &'static str) -> Result<(), Failure> {
        self.throttle.turn(action, self.priority).await.map_err(|wait| own_bucket(action, wait))
    }

    async fn create(&self, kind: &ActionKind) -> Result<Outcome, Failure> {
        let ActionKind::CreateEni { subnet_id, security_group_ids, fill, client_token, description, tags } = kind
        else {
            return Err(not_ec2(kind));
        };
        let action = "CreateNetworkInterface";
        self.turn(action).await?;
        let specification = of_new_eni(tags);
        let (addresses, prefixes) = counts(*fill);
        let call = self
            .client
            .create_network_interface()
            .subnet_id(subnet_id.as_str())
            .set_groups(Some(security_group_ids.iter().map(ToString::to_string).collect()))
            .set_secondary_private_ip_address_count(addresses)
            .set_ipv4_prefix_count(prefixes)
            .description(description)
            .client_token(client_token)
            .tag_specifications(specification);
        let answer = self.sent(action, Sent::Repeatable, call.send()).await?;
        let eni = answer.network_interface().ok_or_else(|| incomplete(action, "no ENI in the answer".to_owned()))?;
        let view = view::eni(eni).map_err(|error| incomplete(action, error.to_string()))?;
        Ok(Outcome::EniCreated(view))
    }

    async fn attach(&self, kind: &ActionKind) -> Result<Outcome, Failure> {
        let ActionKind::AttachEni { eni_id: eni, instance_id: instance, device_index: index, network_card } = kind
        else {
            return Err(not_ec2(kind));
        };
        let action = "AttachNetworkInterface";
        self.turn(action).await?;
        let call = self
            .client
            .attach_network_interface()
            .network_interface_id(eni.as_str())
            .instance_id(instance.as_str())
            .device_index(wire_count(index.0))
            // Always sent: without it EC2 has taken another card's index for this one's on multi-card types.
            .network_card_index(wire_count(*network_card))
            .customize()
            .config_override(never_retried());
        let answer = self.sent(action, Sent::Once, call.send()).await?;
        let id = answer.attachment_id().ok_or_else(|| incomplete(action, "no attachment id".to_owned()))?;
        Ok(Outcome::EniAttached { attachment_id: id.into() })
    }

    async fn delete_on_termination(&self, eni: &EniId, attachment: &AttachmentId) -> Result<Outcome, Failure> {
        let action = "ModifyNetworkInterfaceAttribute";
        self.turn(action).await?;
        let changes = NetworkInterfaceAttachmentChanges::builder()
            .attachment_id(attachment.as_str())
            .delete_on_termination(true)
            .build();
        let call =
            self.client.modify_network_interface_attribute().network_interface_id(eni.as_str()).attachment(changes);
        self.sent(action, Sent::Repeatable, call.send()).await?;
        Ok(Outcome::Done)
    }

    async fn assign(&self, eni: &EniId, fill: Fill) -> Result<Outcome, Failure> {
        let action = "AssignPrivateIpAddresses";
        self.turn(action).await?;
        let (addresses, prefixes) = counts(fill);
        let call = self
            .client
            .assign_private_ip_addresses()
            .network_interface_id(eni.as_str())
            .set_secondary_private_ip_address_count(addresses)
            .set_ipv4_prefix_count(prefixes)
            .customize()
            .config_override(never_retried());
        let answer = self.sent(action, Sent::Once, call.send()).await?;
        let addresses = answer.assigned_private_ip_addresses().iter().map(|item| item.private_ip_address());
        let prefixes = answer.assigned_ipv4_prefixes().iter().map(|item| item.ipv4_prefix());
        let unreadable = || incomplete(action, "an assigned address or prefix that is none".to_owned());
        Ok(Outcome::Assigned {
            addresses: parsed(addresses).ok_or_else(unreadable)?,
            prefixes: parsed(prefixes).ok_or_else(unreadable)?,
        })
    }

    async fn unassign(&self, eni: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) -> Result<Outcome, Failure> {
        let action = "UnassignPrivateIpAddresses";
        self.turn(action).await?;
        let call = self
            .client
            .unassign_private_ip_addresses()
            .network_interface_id(eni.as_str())
            .set_private_ip_addresses(texts(addresses))
            .set_ipv4_prefixes(texts(prefixes))
            .customize()
            // A refusal is believed, addresses serve again at once: it must not hide an earlier attempt that took effect.
            .config_override(never_retried());
        self.sent(action, Sent::Repeatable, call.send()).await?;
        Ok(Outcome::Done)
    }

    async fn security_groups(&self, eni: &EniId, groups: &[SecurityGroupId]) -> Result<Outcome, Failure> {
        let action = "ModifyNetworkInterfaceAttribute";
        self.turn(action).await?;
        let call = self
            .client
            .modify_network_interface_attribute()
            .network_interface_id(eni.as_str())
            .set_groups(texts(groups));
        self.sent(action, Sent::Repeatable, call.send()).await?;
        Ok(Outcome::Done)
    }

    async fn tag(&self, eni: &EniId, tags: &[(String, String)]) -> Result<Outcome, Failure> {
        let action = "CreateTags";
        self.turn(action).await?;
        let call = self.client.create_tags().resources(eni.as_str()).set_tags(Some(sdk_tags(tags)));
        self.sent(action, Sent::Repeatable, call.send()).await?;
        Ok(Outcome::Done)
    }

    async fn detach(&self, attachment: &AttachmentId) -> Result<Outcome, Failure> {
        let action = "DetachNetworkInterface";
        self.turn(action).await?;
        let call = self.client.detach_network_interface().attachment_id(attachment.as_str()).customize();
        // As for unassigning: an ENI that may be gone must not serve again on the word of a second attempt.
        let call = call.config_override(never_retried());
        gone_is_done(self.sent(action, Sent::Repeatable, call.send()).await.map(drop))
    }

    async fn delete(&self, eni: &EniId) -> Result<Outcome, Failure> {
        let action = "DeleteNetworkInterface";
        self.turn(action).await?;
        let call = self.client.delete_network_interface().network_interface_id(eni.as_str());
        gone_is_done(self.sent(action, Sent::Repeatable, call.send()).await.map(drop))
    }
}

/// Delete and detach of what is gone already have done their work.
fn gone_is_done(answer: Result<(), Failure>) -> Result<Outcome, Failure> {
    match answer {
        Err(failure) if failure.class != FailureClass::NotFound => Err(failure),
        _ => Ok(Outcome::Done),
    }
}

fn never_retried() -> aws_sdk_ec2::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

/// The tags that a new ENI is made with.
fn of_new_eni(tags: &[(String, String)]) -> TagSpecification {
    TagSpecification::builder().resource_type(ResourceType::NetworkInterface).set_tags(Some(sdk_tags(tags))).build()
}

fn sdk_tags(tags: &[(String, String)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// A list parameter; `None` when it is empty, for EC2 refuses two lists of which one should not be there.
fn texts<T: ToString>(items: &[T]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect())
}

fn parsed<'a, T: std::str::FromStr>(texts: impl Iterator<Item = Option<&'a str>>) -> Option<Vec<T>> {
    texts.map(|text| text?.parse().ok()).collect()
}

/// The two count parameters, of which EC2 takes one.
fn counts(fill: Fill) -> (Option<i32>, Option<i32>) {
    match fill {
        Fill::Addresses(0) | Fill::Prefixes(0) => (None, None),
        Fill::Addresses(count) => (Some(wire_count(count)), None),
        Fill::Prefixes(count) => (None, Some(wire_count(count))),
    }
}

/// Counts travel as signed numbers; none of ours comes near the limit.
fn wire_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
