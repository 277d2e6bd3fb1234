// SPDX-License-Identifier: Apache-2.0
//! The reference's EC2 calls with their parameters, and what only it reads from the answers.
//!
//! Source: EC2 API reference; parameters as the reference (amazon-vpc-cni-k8s v1.23) sends them.

use std::collections::BTreeSet;

use ipamd_core::ec2::Sent;
use ipnet::Ipv4Net;
use roxmltree::{Document, Node};

use super::decide::Mode;
use crate::client::Ec2Call;
use ipamd_core::event::SubnetView;

/// Tag with the instance's id, on every ENI that is managed.
pub(super) const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag with the time of creation; here in seconds of the simulation, which nobody else reads.
pub(super) const CREATED_TAG: &str = "node.k8s.amazonaws.com/createdAt";
/// Tag that says whether a subnet serves pods.
const ROLE_TAG: &str = "kubernetes.io/role/cni";
/// What the descriptions of its ENIs begin with.
pub(super) const DESCRIPTION: &str = "aws-K8S-";

/// What a new ENI is created with.
#[derive(Clone, Debug)]
pub(super) struct NewEni<'a> {
    pub(super) instance: &'a str,
    pub(super) groups: &'a [String],
    pub(super) mode: Mode,
    pub(super) amount: u32,
    pub(super) created: String,
    /// The SDK gives every call one.
    pub(super) token: String,
}

pub(super) fn create(new: &NewEni<'_>, subnet: &str) -> Ec2Call {
    let tags = [(CREATED_TAG.to_owned(), new.created.clone()), (INSTANCE_TAG.to_owned(), new.instance.to_owned())];
    Ec2Call::new("CreateNetworkInterface", Sent::Repeatable)
        .with("SubnetId", subnet)
        .with("Description", format!("{DESCRIPTION}{}", new.instance))
        .with_list("SecurityGroupId", new.groups)
        .with(count_name(new.mode), new.amount)
        .with_eni_tags(&tags)
        .with("ClientToken", &new.token)
}

pub(super) fn attach(eni: &str, instance: &str, device: u32) -> Ec2Call {
    Ec2Call::new("AttachNetworkInterface", Sent::Once)
        .with("NetworkInterfaceId", eni)
        .with("InstanceId", instance)
        .with("DeviceIndex", device)
        .with("NetworkCardIndex", 0)
}

pub(super) fn delete_on_termination(eni: &str, attachment: &str) -> Ec2Call {
    Ec2Call::new("ModifyNetworkInterfaceAttribute", Sent::Repeatable)
        .with("NetworkInterfaceId", eni)
        .with("Attachment.AttachmentId", attachment)
        .with("Attachment.DeleteOnTermination", true)
}

pub(super) fn security_groups(eni: &str, groups: &[String]) -> Ec2Call {
    Ec2Call::new("ModifyNetworkInterfaceAttribute", Sent::Repeatable)
        .with("NetworkInterfaceId", eni)
        .with_list("SecurityGroupId", groups)
}

pub(super) fn assign(eni: &str, mode: Mode, amount: u32) -> Ec2Call {
    Ec2Call::new("AssignPrivateIpAddresses", Sent::Once).with("NetworkInterfaceId", eni).with(count_name(mode), amount)
}

/// One call for addresses or for prefixes.
pub(super) fn unassign(eni: &str, blocks: &[Ipv4Net]) -> Ec2Call {
    let call = Ec2Call::new("UnassignPrivateIpAddresses", Sent::Repeatable).with("NetworkInterfaceId", eni);
    match blocks.first() {
        Some(first) if first.prefix_len() < 32 => call.with_list("Ipv4Prefix", blocks),
        _ => call.with_list("PrivateIpAddress", blocks.iter().map(Ipv4Net::addr)),
    }
}

pub(super) fn detach(attachment: &str) -> Ec2Call {
    Ec2Call::new("DetachNetworkInterface", Sent::Repeatable).with("AttachmentId", attachment)
}

pub(super) fn delete(eni: &str) -> Ec2Call {
    Ec2Call::new("DeleteNetworkInterface", Sent::Repeatable).with("NetworkInterfaceId", eni)
}

pub(super) fn create_tag(eni: &str, key: &str, value: &str) -> Ec2Call {
    Ec2Call::new("CreateTags", Sent::Repeatable)
        .with("ResourceId.1", eni)
        .with("Tag.1.Key", key)
        .with("Tag.1.Value", value)
}

pub(super) fn describe_enis(ids: impl IntoIterator<Item = impl ToString>) -> Ec2Call {
    Ec2Call::new("DescribeNetworkInterfaces", Sent::Read).with_list("NetworkInterfaceId", ids)
}

/// Available ENIs of the VPC with the instance tag: what may have leaked.
pub(super) fn describe_available(vpc: &str) -> Ec2Call {
    Ec2Call::new("DescribeNetworkInterfaces", Sent::Read)
        .with_filter("tag-key", [INSTANCE_TAG])
        .with_filter("status", ["available"])
        .with_filter("vpc-id", [vpc])
        .with("MaxResults", 1_000)
}

pub(super) fn describe_subnets(vpc: &str, zone: &str) -> Ec2Call {
    Ec2Call::new("DescribeSubnets", Sent::Read).with_filter("vpc-id", [vpc]).with_filter("availability-zone", [zone])
}

pub(super) fn describe_instance(instance: &str) -> Ec2Call {
    Ec2Call::new("DescribeInstances", Sent::Read).with("InstanceId.1", instance)
}

fn count_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Addresses => "SecondaryPrivateIpAddressCount",
        Mode::Prefixes => "Ipv4PrefixCount",
    }
}

/// Whether new ENIs may go to this subnet (subnet discovery, no cluster name).
pub(super) fn is_usable(subnet: &SubnetView, primary: &str) -> bool {
    match subnet.tags.iter().find(|(key, _)| key == ROLE_TAG) {
        Some((_, role)) => role != "0" && !role.is_empty(),
        None => subnet.subnet_id.as_str() == primary,
    }
}

/// Device indexes in use on network card 0, of a DescribeInstances answer. An answer that is not XML says nothing.
pub(super) fn device_indexes(xml: &str) -> BTreeSet<u32> {
    let Ok(document) = Document::parse(xml) else { return BTreeSet::new() };
    let named = |node: &Node<'_, '_>, name: &str| node.is_element() && node.tag_name().name() == name;
    let text = |node: Node<'_, '_>, name| node.children().find(|child| named(child, name))?.text().map(str::to_owned);
    let attachments = document.descendants().filter(|node| named(node, "attachment"));
    let of_card_0 = attachments.filter(|node| text(*node, "networkCardIndex").is_none_or(|card| card == "0"));
    of_card_0.filter_map(|node| text(node, "deviceIndex")?.parse().ok()).collect()
}
