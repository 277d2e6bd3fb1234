// SPDX-License-Identifier: Apache-2.0
//! EC2's answers read from their XML: ENIs, subnets, attachments, assigned addresses.
//!
//! Does what the SDK and the daemon's edge do with the same bytes (`ipamd/aws/src/view.rs`), and like them makes nothing up:
//! an answer without what it must hold is a failure.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipamd_core::event::{AttachmentView, EniView, SubnetView};
use ipamd_core::ids::{AttachmentId, DeviceIndex, EniId, InstanceId, SubnetId, VpcId};
use ipnet::Ipv4Net;
use roxmltree::{Document, Node};

/// An answer that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("EC2's answer has no readable {0}")]
pub struct Unreadable(pub String);

fn parse(xml: &str) -> Result<Document<'_>, Unreadable> {
    Document::parse(xml).map_err(|error| Unreadable(format!("XML ({error})")))
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name_of(name))
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text())
}

fn value<T: FromStr>(node: Node<'_, '_>, name: &str) -> Result<T, Unreadable> {
    text(node, name).and_then(|text| text.parse().ok()).ok_or_else(|| Unreadable(name.to_owned()))
}

fn items<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    child(node, name).into_iter().flat_map(|list| list.children().filter(|item| item.has_tag_name_of("item")))
}

/// Local names: every answer has EC2's namespace.
trait Named {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl Named for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

/// The ENIs of DescribeNetworkInterfaces, in EC2's order.
///
/// # Errors
/// A field that is missing or no value of its kind.
pub fn enis(xml: &str) -> Result<Vec<EniView>, Unreadable> {
    let document = parse(xml)?;
    items(document.root_element(), "networkInterfaceSet").map(eni).collect()
}

/// The token of the next page; `None`: this is the last.
///
/// # Errors
/// No XML.
pub fn next_token(xml: &str) -> Result<Option<String>, Unreadable> {
    let document = parse(xml)?;
    Ok(text(document.root_element(), "nextToken").filter(|token| !token.is_empty()).map(str::to_owned))
}

/// The ENI of CreateNetworkInterface.
///
/// # Errors
/// A field that is missing or no value of its kind.
pub fn created_eni(xml: &str) -> Result<EniView, Unreadable> {
    let document = parse(xml)?;
    let node = child(document.root_element(), "networkInterface");
    eni(node.ok_or_else(|| Unreadable("networkInterface".to_owned()))?)
}

fn eni(node: Node<'_, '_>) -> Result<EniView, Unreadable> {
    let primary_address = value(node, "privateIpAddress")?;
    let listed: Vec<Ipv4Addr> =
        items(node, "privateIpAddressesSet").map(|item| value(item, "privateIpAddress")).collect::<Result<_, _>>()?;
    Ok(EniView {
        eni_id: EniId(value(node, "networkInterfaceId")?),
        mac: value(node, "macAddress")?,
        vpc_id: text(node, "vpcId").map(Into::into),
        subnet_id: SubnetId(value(node, "subnetId")?),
        primary_address,
        secondary_addresses: listed.into_iter().filter(|address| *address != primary_address).collect(),
        prefixes: items(node, "ipv4PrefixSet").map(|item| value(item, "ipv4Prefix")).collect::<Result<_, _>>()?,
        security_group_ids: items(node, "groupSet").filter_map(|item| text(item, "groupId")).map(Into::into).collect(),
        attachment: child(node, "attachment").map(attachment).transpose()?,
        status: text(node, "status").unwrap_or_default().to_owned(),
        interface_type: text(node, "interfaceType").unwrap_or("interface").to_owned(),
        foreign: text(node, "requesterManaged") == Some("true")
            || child(node, "operator").and_then(|operator| text(operator, "managed")) == Some("true"),
        description: text(node, "description").unwrap_or_default().to_owned(),
        tags: tags(node),
    })
}

fn tags(node: Node<'_, '_>) -> Vec<(String, String)> {
    let pair = |item| Some((text(item, "key")?.to_owned(), text(item, "value").unwrap_or_default().to_owned()));
    items(node, "tagSet").filter_map(pair).collect()
}

fn attachment(node: Node<'_, '_>) -> Result<AttachmentView, Unreadable> {
    Ok(AttachmentView {
        attachment_id: AttachmentId(value(node, "attachmentId")?),
        device_index: DeviceIndex(value(node, "deviceIndex")?),
        network_card: value(node, "networkCardIndex").unwrap_or(0),
        instance_id: text(node, "instanceId").map(InstanceId::from),
        status: text(node, "status").unwrap_or_default().to_owned(),
        delete_on_termination: text(node, "deleteOnTermination") == Some("true"),
    })
}

/// The attachment id of AttachNetworkInterface.
///
/// # Errors
/// There is none.
pub fn attachment_id(xml: &str) -> Result<AttachmentId, Unreadable> {
    let document = parse(xml)?;
    Ok(AttachmentId(value(document.root_element(), "attachmentId")?))
}

/// What AssignPrivateIpAddresses added: addresses and prefixes.
///
/// # Errors
/// An item that is no address or prefix.
pub fn assigned(xml: &str) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>), Unreadable> {
    let document = parse(xml)?;
    let root = document.root_element();
    let addresses = items(root, "assignedPrivateIpAddressesSet").map(|item| value(item, "privateIpAddress"));
    let prefixes = items(root, "assignedIpv4PrefixSet").map(|item| value(item, "ipv4Prefix"));
    Ok((addresses.collect::<Result<_, _>>()?, prefixes.collect::<Result<_, _>>()?))
}

/// The subnets of DescribeSubnets.
///
/// # Errors
/// A field that is missing or no value of its kind.
pub fn subnets(xml: &str) -> Result<Vec<SubnetView>, Unreadable> {
    let document = parse(xml)?;
    items(document.root_element(), "subnetSet")
        .map(|node| {
            Ok(SubnetView {
                subnet_id: SubnetId(value(node, "subnetId")?),
                vpc_id: VpcId(value(node, "vpcId")?),
                cidr: value(node, "cidrBlock")?,
                available: value(node, "availableIpAddressCount")?,
                availability_zone: value(node, "availabilityZone")?,
                tags: tags(node),
            })
        })
        .collect()
}
