// SPDX-License-Identifier: Apache-2.0
//! One look at a foreign EC2: its answers read into values, and the difference between two looks.
//!
//! Tolerant about what is there besides, strict about what is needed: a MAC or address that cannot be read is an error that
//! names the ENI.
//!
//! Worked example: yesterday ENI 1 held 10.0.1.10 and .11, today .10 and .12: `AddressUnassigned .11`, `AddressAssigned .12`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use roxmltree::{Document, Node};
use vpc_model::imds::{IMAGE_ID, ImdsEni, ImdsView};
use vpc_model::{Assigned, AttachedEni, EniId, FabricEvent, InstanceId, SecurityGroupId, SubnetId, VpcId};

use super::ForeignError;
use crate::imds_http::query::{items, text};

/// The XML texts of one look.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) instances: String,
    pub(super) enis: String,
    pub(super) subnets: String,
    pub(super) vpcs: String,
}

/// What one look showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    view: ImdsView,
    instance_name: String,
    /// By ENI id.
    source_dest_checks: BTreeMap<String, bool>,
}

impl Snapshot {
    pub(super) fn read(documents: &Documents, instance_id: &str, region: &str) -> Result<Self, ForeignError> {
        let instances = parse("DescribeInstances", &documents.instances)?;
        let enis = parse("DescribeNetworkInterfaces", &documents.enis)?;
        let subnets = parse("DescribeSubnets", &documents.subnets)?;
        let vpcs = parse("DescribeVpcs", &documents.vpcs)?;
        let reservations = items(instances.root_element(), &["reservationSet"]);
        let mut found = reservations.iter().flat_map(|reservation| items(*reservation, &["instancesSet"]));
        let instance = found.next().ok_or_else(|| missing(instance_id, "instancesSet", None))?;
        let places = Places::read(&subnets, &vpcs)?;
        let mut source_dest_checks = BTreeMap::new();
        let mut seen = Vec::new();
        for node in items(enis.root_element(), &["networkInterfaceSet"]) {
            if text(node, &["attachment", "status"]) == Some("attached") {
                let eni = places.eni(node)?;
                let checked = text(node, &["sourceDestCheck"]) != Some("false");
                source_dest_checks.insert(eni.eni_id.clone(), checked);
                seen.push(eni);
            }
        }
        let field = |field: &'static str, path: &[&str]| {
            text(instance, path).map(str::to_owned).ok_or_else(|| missing(instance_id, field, None))
        };
        let account = items(enis.root_element(), &["networkInterfaceSet"]);
        let account = account.first().and_then(|node| text(*node, &["ownerId"])).unwrap_or("000000000000");
        let view = ImdsView {
            instance_id: instance_id.to_owned(),
            instance_type: field("instanceType", &["instanceType"])?,
            image_id: text(instance, &["imageId"]).unwrap_or(IMAGE_ID).to_owned(),
            account_id: account.to_owned(),
            region: region.to_owned(),
            availability_zone: field("placement/availabilityZone", &["placement", "availabilityZone"])?,
            availability_zone_id: String::new(),
            hostname: text(instance, &["privateDnsName"]).unwrap_or_default().to_owned(),
            launched: text(instance, &["launchTime"]).unwrap_or_default().to_owned(),
            role: None,
            enis: seen,
        };
        Ok(Self { view, instance_name: name_tag(instance).unwrap_or(instance_id).to_owned(), source_dest_checks })
    }

    pub(super) fn imds_view(&self) -> ImdsView {
        self.view.clone()
    }

    /// What leads from `before` to this: first what is lost, then what is gained.
    pub(super) fn since(&self, before: Option<&Self>) -> Vec<FabricEvent> {
        let old: &[ImdsEni] = before.map(|before| before.view.enis.as_slice()).unwrap_or_default();
        let mut events = Vec::new();
        for gone in old.iter().filter(|eni| !self.view.enis.iter().any(|new| new.eni_id == eni.eni_id)) {
            events.push(FabricEvent::EniDetached {
                eni: EniId(gone.eni_id.clone()),
                instance: InstanceId(self.view.instance_id.clone()),
                mac: gone.mac,
            });
        }
        for eni in &self.view.enis {
            let Some(was) = old.iter().find(|was| was.eni_id == eni.eni_id) else { continue };
            let lost = assigned(was).into_iter().filter(|address| !assigned(eni).contains(address));
            let id = || EniId(eni.eni_id.clone());
            events.extend(lost.map(|address| FabricEvent::AddressUnassigned { eni: id(), address }));
        }
        for eni in &self.view.enis {
            let id = || EniId(eni.eni_id.clone());
            let Some(was) = old.iter().find(|was| was.eni_id == eni.eni_id) else {
                events.push(FabricEvent::EniAttached(Box::new(self.attached(eni))));
                continue;
            };
            let gained = assigned(eni).into_iter().filter(|address| !assigned(was).contains(address));
            events.extend(gained.map(|address| FabricEvent::AddressAssigned { eni: id(), address }));
            let enabled = self.is_checked(&eni.eni_id);
            if before.is_some_and(|before| before.is_checked(&eni.eni_id) != enabled) {
                events.push(FabricEvent::SourceDestCheckSet { eni: id(), enabled });
            }
            if eni.security_groups != was.security_groups {
                events.push(FabricEvent::SecurityGroupsSet { eni: id(), security_groups: groups(eni) });
            }
        }
        events
    }

    fn is_checked(&self, eni: &str) -> bool {
        self.source_dest_checks.get(eni).copied().unwrap_or(true)
    }

    fn attached(&self, eni: &ImdsEni) -> AttachedEni {
        AttachedEni {
            eni: EniId(eni.eni_id.clone()),
            instance: InstanceId(self.view.instance_id.clone()),
            instance_name: self.instance_name.clone(),
            device_index: eni.device_index,
            network_card: eni.network_card,
            mac: eni.mac,
            vpc: VpcId(eni.vpc_id.clone()),
            subnet: SubnetId(eni.subnet_id.clone()),
            subnet_cidr: eni.subnet_cidr,
            primary_address: eni.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED),
            secondary_addresses: eni.addresses.iter().skip(1).copied().collect(),
            prefixes: eni.prefixes.clone(),
            public_address: eni.public_address,
            source_dest_check: self.is_checked(&eni.eni_id),
            security_groups: groups(eni),
        }
    }
}

/// Blocks of subnets and VPCs, by id.
struct Places {
    subnets: BTreeMap<String, Ipv4Net>,
    vpcs: BTreeMap<String, Vec<Ipv4Net>>,
}

impl Places {
    fn read(subnets: &Document<'_>, vpcs: &Document<'_>) -> Result<Self, ForeignError> {
        let mut places = Self { subnets: BTreeMap::new(), vpcs: BTreeMap::new() };
        for subnet in items(subnets.root_element(), &["subnetSet"]) {
            let id: String = field(subnet, "a subnet", "subnetId")?;
            let block = field(subnet, &id, "cidrBlock")?;
            places.subnets.insert(id, block);
        }
        for vpc in items(vpcs.root_element(), &["vpcSet"]) {
            let id: String = field(vpc, "a VPC", "vpcId")?;
            let mut blocks: Vec<Ipv4Net> = vec![field(vpc, &id, "cidrBlock")?];
            for association in items(vpc, &["cidrBlockAssociationSet"]) {
                let block = field(association, &id, "cidrBlock")?;
                if !blocks.contains(&block) {
                    blocks.push(block);
                }
            }
            places.vpcs.insert(id, blocks);
        }
        Ok(places)
    }

    fn eni(&self, node: Node<'_, '_>) -> Result<ImdsEni, ForeignError> {
        let eni_id: String = field(node, "an ENI", "networkInterfaceId")?;
        let subnet_id: String = field(node, &eni_id, "subnetId")?;
        let vpc_id: String = field(node, &eni_id, "vpcId")?;
        let subnet_cidr =
            *self.subnets.get(&subnet_id).ok_or_else(|| missing(&eni_id, "subnetId", Some(&subnet_id)))?;
        let primary: Ipv4Addr = field(node, &eni_id, "privateIpAddress")?;
        let mut addresses = vec![primary];
        for address in items(node, &["privateIpAddressesSet"]) {
            let address = field(address, &eni_id, "privateIpAddress")?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut prefixes = Vec::new();
        for prefix in items(node, &["ipv4PrefixSet"]) {
            prefixes.push(field(prefix, &eni_id, "ipv4Prefix")?);
        }
        let mut security_groups = Vec::new();
        for group in items(node, &["groupSet"]) {
            let name = text(group, &["groupName"]).unwrap_or_default().to_owned();
            security_groups.push((field(group, &eni_id, "groupId")?, name));
        }
        let attachment = crate::imds_http::query::child(node, "attachment");
        let attachment = attachment.ok_or_else(|| missing(&eni_id, "attachment", None))?;
        Ok(ImdsEni {
            mac: field(node, &eni_id, "macAddress")?,
            device_index: field(attachment, &eni_id, "deviceIndex")?,
            network_card: text(attachment, &["networkCardIndex"]).and_then(|card| card.parse().ok()).unwrap_or(0),
            subnet_id,
            subnet_cidr,
            vpc_cidrs: self.vpcs.get(&vpc_id).cloned().unwrap_or_default(),
            vpc_id,
            security_groups,
            addresses,
            prefixes,
            public_address: text(node, &["association", "publicIp"]).and_then(|address| address.parse().ok()),
            eni_id,
        })
    }
}

fn parse<'a>(action: &'static str, text: &'a str) -> Result<Document<'a>, ForeignError> {
    Document::parse(text).map_err(|error| ForeignError::NotXml(action, error))
}

fn missing(what: &str, field: &'static str, text: Option<&str>) -> ForeignError {
    ForeignError::Field { what: what.to_owned(), field, text: text.map(str::to_owned) }
}

fn field<T: FromStr>(node: Node<'_, '_>, what: &str, name: &'static str) -> Result<T, ForeignError> {
    let text = text(node, &[name]);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| missing(what, name, text))
}

fn name_tag<'a>(instance: Node<'a, '_>) -> Option<&'a str> {
    let tags = items(instance, &["tagSet"]);
    let named = tags.iter().find(|tag| text(**tag, &["key"]) == Some("Name"))?;
    text(*named, &["value"])
}

/// Secondary addresses and prefixes.
fn assigned(eni: &ImdsEni) -> Vec<Assigned> {
    let addresses = eni.addresses.iter().skip(1).copied().map(Assigned::Address);
    addresses.chain(eni.prefixes.iter().copied().map(Assigned::Prefix)).collect()
}

fn groups(eni: &ImdsEni) -> Vec<SecurityGroupId> {
    eni.security_groups.iter().map(|(id, _)| SecurityGroupId(id.clone())).collect()
}

#[cfg(test)]
mod tests;
