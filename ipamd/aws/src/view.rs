// SPDX-License-Identifier: Apache-2.0
//! The SDK's description of an ENI as the core's view of it.
//!
//! Invariant: what the core counts on is there or the conversion fails with the field's name; nothing is made up. One
//! exception, on purpose: an ENI without any IPv4 address (EFA-only, IPv6-only) gets the unspecified address as its
//! primary one, for it takes a slot of the instance although it never serves a pod.

use std::net::Ipv4Addr;

use aws_sdk_ec2::types::{NetworkInterface, NetworkInterfaceAttachment, Tag};
use ipamd_core::event::{AttachmentView, EniView};
use ipamd_core::ids::{DeviceIndex, EniId, SubnetId};

/// A field of EC2's answer that is missing or cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("EC2 describes {object} without a readable {field}: {value:?}")]
pub(crate) struct ViewError {
    pub(crate) object: String,
    pub(crate) field: &'static str,
    pub(crate) value: Option<String>,
}

fn parsed<T: std::str::FromStr>(object: &str, field: &'static str, value: Option<&str>) -> Result<T, ViewError> {
    value.and_then(|text| text.parse().ok()).ok_or_else(|| ViewError {
        object: object.to_owned(),
        field,
        value: value.map(str::to_owned),
    })
}

/// The core's view of one ENI.
pub(crate) fn eni(eni: &NetworkInterface) -> Result<EniView, ViewError> {
    let id: String = parsed("an ENI", "networkInterfaceId", eni.network_interface_id())?;
    let subnet: String = parsed(&id, "subnetId", eni.subnet_id())?;
    let (primary_address, secondary_addresses) = addresses(&id, eni)?;
    let prefixes = eni
        .ipv4_prefixes()
        .iter()
        .map(|prefix| parsed(&id, "ipv4Prefix", prefix.ipv4_prefix()))
        .collect::<Result<_, _>>()?;
    Ok(EniView {
        mac: parsed(&id, "macAddress", eni.mac_address())?,
        vpc_id: eni.vpc_id().map(Into::into),
        subnet_id: SubnetId(subnet),
        primary_address,
        secondary_addresses,
        prefixes,
        security_group_ids: eni.groups().iter().filter_map(|group| group.group_id()).map(Into::into).collect(),
        attachment: eni.attachment().map(|attachment| attachment_view(&id, attachment)).transpose()?,
        status: eni.status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
        interface_type: eni.interface_type().map_or("interface", |kind| kind.as_str()).to_owned(),
        foreign: is_foreign(eni),
        description: eni.description().unwrap_or_default().to_owned(),
        tags: tags(eni.tag_set()),
        eni_id: EniId(id),
    })
}

/// Whether it belongs to an AWS service, or to another account than the instance it is attached to.
fn is_foreign(eni: &NetworkInterface) -> bool {
    let instance_owner = eni.attachment().and_then(|attachment| attachment.instance_owner_id());
    let of_another_account = eni.owner_id().zip(instance_owner).is_some_and(|(owner, instance)| owner != instance);
    let managed = eni.operator().and_then(|operator| operator.managed());
    of_another_account || eni.requester_managed().unwrap_or(false) || managed.unwrap_or(false)
}

/// Tags with a key; one without a value has an empty one.
pub(crate) fn tags(tags: &[Tag]) -> Vec<(String, String)> {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// Primary address, and the others in EC2's order.
fn addresses(id: &str, eni: &NetworkInterface) -> Result<(Ipv4Addr, Vec<Ipv4Addr>), ViewError> {
    let mut primary = None;
    let mut secondary = Vec::new();
    for item in eni.private_ip_addresses() {
        let address = parsed(id, "privateIpAddress", item.private_ip_address())?;
        if item.primary().unwrap_or(false) { primary = Some(address) } else { secondary.push(address) }
    }
    if let Some(text) = eni.private_ip_address() {
        let address = parsed(id, "privateIpAddress", Some(text))?;
        primary.get_or_insert(address);
        secondary.retain(|other| *other != address);
    }
    Ok((primary.unwrap_or(Ipv4Addr::UNSPECIFIED), secondary))
}

fn attachment_view(id: &str, attachment: &NetworkInterfaceAttachment) -> Result<AttachmentView, ViewError> {
    let index = attachment.device_index().and_then(|index| u32::try_from(index).ok());
    let attachment_id: String = parsed(id, "attachmentId", attachment.attachment_id())?;
    Ok(AttachmentView {
        attachment_id: attachment_id.as_str().into(),
        device_index: DeviceIndex(index.ok_or_else(|| ViewError {
            object: id.to_owned(),
            field: "deviceIndex",
            value: attachment.device_index().map(|index| index.to_string()),
        })?),
        network_card: attachment.network_card_index().and_then(|card| u32::try_from(card).ok()).unwrap_or(0),
        instance_id: attachment.instance_id().map(Into::into),
        status: attachment.status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
        delete_on_termination: attachment.delete_on_termination().unwrap_or(false),
    })
}
