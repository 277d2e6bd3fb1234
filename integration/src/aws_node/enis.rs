// SPDX-License-Identifier: Apache-2.0
//! The reference's ENIs: created, filled, attached and tagged by the calls that it makes, and the links that come of it.
//!
//! Calls: CreateNetworkInterface with description, tags and count; AttachNetworkInterface; ModifyNetworkInterfaceAttribute
//! (delete on termination); AssignPrivateIpAddresses and CreateTags for the primary ENI, which is tagged as managed, too.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_model::EniId;

use crate::emulator::text_of;
use crate::eventually::eventually;
use crate::topology::Topology;

use super::{AwsNodeError, Filling};

/// How long an ENI may take to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// An ENI of the reference's.
#[derive(Clone, Debug)]
pub struct AwsEni {
    /// `eni-…`
    pub id: String,
    /// Its link on the node.
    pub link: String,
    /// Its position on card 0.
    pub device_index: u32,
    /// Its own address.
    pub primary: Ipv4Addr,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// What it has for pods, in order: single addresses, or those inside its prefixes.
    pub addresses: Vec<Ipv4Addr>,
}

impl AwsEni {
    /// The route table that the reference gives it: main, else device index + 1.
    #[must_use]
    pub fn table(&self) -> u32 {
        if self.device_index == 0 { 254 } else { self.device_index + 1 }
    }
}

/// Makes and attaches them, and waits for their links.
pub(super) fn attach(topology: &Topology, node: &str, filling: Filling) -> Result<Vec<AwsEni>, AwsNodeError> {
    let instance = topology.instance(node)?;
    let primary = topology.enis(node)?.first().map(|eni| eni.id.clone()).unwrap_or_default();
    let per_eni = instance.addresses_per_eni.saturating_sub(1).to_string();
    let (secondaries, kind, counts) = match filling {
        Filling::Addresses(enis) => (enis, "SecondaryPrivateIpAddressCount", [per_eni.clone(), per_eni]),
        Filling::Prefixes(first, second) => (1, "Ipv4PrefixCount", [first.to_string(), second.to_string()]),
    };
    call(topology, "AssignPrivateIpAddresses", &[("NetworkInterfaceId", &primary), (kind, &counts[0])])?;
    let managed = [("Tag.1.Key", "node.k8s.amazonaws.com/instance_id"), ("Tag.1.Value", instance.id.as_str())];
    call(topology, "CreateTags", &[("ResourceId.1", primary.as_str()), managed[0], managed[1]])?;
    for index in 1..=secondaries {
        secondary(topology, node, &instance.id, index, (kind, &counts[1]))?;
    }
    let expected = usize::try_from(secondaries).unwrap_or_default() + 1;
    Ok(eventually("the ENIs of aws-node have links", PATIENCE, || {
        let enis = links(topology, node).map_err(|error| error.to_string())?;
        if enis.len() == expected { Ok(enis) } else { Err(format!("{} of {expected} have one", enis.len())) }
    })?)
}

fn secondary(
    topology: &Topology,
    node: &str,
    instance: &str,
    index: u32,
    count: (&str, &str),
) -> Result<(), AwsNodeError> {
    let subnet = topology.emulator.with_model(|vpc, _| vpc.instance_named(node).map(|found| found.subnet.clone()));
    let subnet = subnet.map(|subnet| subnet.as_str().to_owned()).unwrap_or_default();
    let description = format!("aws-K8S-{instance}");
    // Sorted by key, as it sends them.
    let created = call(
        topology,
        "CreateNetworkInterface",
        &[
            ("Description", description.as_str()),
            ("SubnetId", subnet.as_str()),
            count,
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", "node.k8s.amazonaws.com/createdAt"),
            ("TagSpecification.1.Tag.1.Value", "2026-08-21T09:30:00Z"),
            ("TagSpecification.1.Tag.2.Key", "node.k8s.amazonaws.com/instance_id"),
            ("TagSpecification.1.Tag.2.Value", instance),
        ],
    )?;
    let eni = text_of(&created, "networkInterfaceId").to_owned();
    let index = index.to_string();
    let available = || {
        let pending = topology
            .emulator
            .with_model(|vpc, _| vpc.eni(&EniId(eni.clone())).is_none_or(|eni| eni.state.name() == "pending"));
        if pending { Err("pending".to_owned()) } else { Ok(()) }
    };
    eventually("a new ENI is available", PATIENCE, available)?;
    let attached = call(
        topology,
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance), ("DeviceIndex", index.as_str())],
    )?;
    let attachment = text_of(&attached, "attachmentId").to_owned();
    call(
        topology,
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", eni.as_str()),
            ("Attachment.AttachmentId", attachment.as_str()),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    )?;
    Ok(())
}

/// The attached ENIs that have a link on the node, told by its MAC.
fn links(topology: &Topology, node: &str) -> Result<Vec<AwsEni>, AwsNodeError> {
    let on_node = topology.world.tools.ip_json(&topology.node(node).netns, &["link", "show"])?;
    let by_mac = |mac: &str| {
        let found = on_node.as_array()?.iter().find(|link| link["address"] == mac)?;
        found["ifname"].as_str().map(str::to_owned)
    };
    let enis = topology.enis(node)?;
    let found = enis.into_iter().filter_map(|eni| {
        let (mac, subnet) = topology.emulator.with_model(|vpc, _| {
            let known = vpc.eni(&EniId(eni.id.clone()))?;
            let subnet = vpc.subnets().find(|subnet| subnet.id == known.subnet)?;
            Some((known.mac.to_string(), subnet.cidr_block()))
        })?;
        let inside = eni.prefixes.iter().flat_map(|prefix| every_address(*prefix));
        Some(AwsEni {
            link: by_mac(&mac)?,
            id: eni.id,
            device_index: eni.device_index,
            primary: eni.primary,
            subnet,
            addresses: eni.secondary.iter().copied().chain(inside).collect(),
        })
    });
    Ok(found.collect())
}

/// All 16: the reference gives out the first and the last one, too.
fn every_address(prefix: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
}

fn call(topology: &Topology, action: &str, parameters: &[(&str, &str)]) -> Result<String, AwsNodeError> {
    let response = topology.emulator.ec2(action, parameters);
    if response.status == 200 {
        return Ok(response.body);
    }
    Err(AwsNodeError::Ec2 { action: action.to_owned(), answer: response.body })
}
