// SPDX-License-Identifier: Apache-2.0
//! DescribeNetworkInterfaces, and the shape of an ENI in XML.
//!
//! Shows ENIs as they were `describe_ms` ago. An id that is asked for and not seen fails the whole call and only the first
//! one is named, as in EC2.
//!
//! Source: EC2 API reference, DescribeNetworkInterfaces (filters), NetworkInterface (fields).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::actions::check_eni_id;
use crate::error::Ec2Error;
use crate::ids::{EniId, SecurityGroupId};
use crate::params::{Filter, Params};
use crate::state::{Attachment, Eni};
use crate::timestamp;
use crate::vpc::Vpc;
use crate::xml::Xml;

use super::{Page, check_filters, passes, write_page};

const FILTERS: [&str; 34] = [
    "addresses.association.owner-id",
    "addresses.association.public-ip",
    "addresses.primary",
    "addresses.private-ip-address",
    "association.ip-owner-id",
    "association.public-ip",
    "association.public-dns-name",
    "attachment.attach-time",
    "attachment.attachment-id",
    "attachment.delete-on-termination",
    "attachment.device-index",
    "attachment.instance-id",
    "attachment.instance-owner-id",
    "attachment.status",
    "availability-zone",
    "availability-zone-id",
    "description",
    "group-id",
    "interface-type",
    "ipv6-addresses.ipv6-address",
    "mac-address",
    "network-interface-id",
    "operator.managed",
    "operator.principal",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "requester-id",
    "requester-managed",
    "source-dest-check",
    "status",
    "subnet-id",
    "tag-key",
    "vpc-id",
];

impl Vpc {
    pub(crate) fn describe_network_interfaces(&self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &FILTERS)?;
        let lag = Duration::from_millis(self.settings.lags.describe_ms);
        let ids = params.list("NetworkInterfaceId");
        ids.iter().try_for_each(|id| check_eni_id(id))?;
        let seen = self.candidates(&ids, &filters, now, lag);
        let seen: Vec<Cow<'_, Eni>> = seen.into_iter().filter_map(|eni| self.blindness.describe.shown(eni)).collect();
        if let Some(missing) = ids.iter().find(|id| !seen.iter().any(|eni| eni.id.as_str() == id.as_str())) {
            return Err(Ec2Error::eni_not_found(missing));
        }
        let entries = seen
            .into_iter()
            .filter(|eni| eni.odd.as_ref().is_none_or(|odd| !odd.hidden_from_describe))
            .filter(|eni| passes(&filters, &eni.tags, |name| self.eni_values(eni, name)))
            .map(|eni| (eni.id.0.clone(), eni))
            .collect();
        let page = Page::with_ids("NetworkInterfaceId");
        write_page(params, "networkInterfaceSet", entries, &page, |xml, eni| self.write_eni(xml, &eni))
    }

    /// The ENIs of these ids, or those that can pass the filters, sorted by id: by id or instance they are looked up, and
    /// only other filters look at every ENI.
    fn candidates(&self, ids: &[String], filters: &[Filter], now: Duration, lag: Duration) -> Vec<&Eni> {
        let by_id = |ids: &[String]| -> Vec<&Eni> {
            let ids: BTreeSet<EniId> = ids.iter().map(|id| EniId::from(id.as_str())).collect();
            ids.iter().filter_map(|id| self.enis.seen_one(id, now, lag)).collect()
        };
        if !ids.is_empty() {
            return by_id(ids);
        }
        let named = |name| filters.iter().find(|filter| filter.name == name && filter.is_literal());
        if let Some(filter) = named("network-interface-id") {
            return by_id(&filter.values);
        }
        match named("attachment.instance-id").map(|filter| filter.values.as_slice()) {
            Some([instance]) => self.enis.seen_of_instance(&instance.as_str().into(), now, lag),
            _ => self.enis.seen(now, lag).collect(),
        }
    }

    /// What an ENI has under the name of a filter.
    fn eni_values(&self, eni: &Eni, name: &str) -> Vec<String> {
        let one = |value: String| vec![value];
        if let Some(name) = name.strip_prefix("attachment.") {
            return eni.attachment().map(|attachment| self.attachment_values(attachment, name)).unwrap_or_default();
        }
        match name {
            "addresses.association.owner-id" | "association.ip-owner-id" => {
                eni.public.map(|_| self.account_id.clone()).into_iter().collect()
            }
            "addresses.association.public-ip" | "association.public-ip" => {
                eni.public.iter().map(ToString::to_string).collect()
            }
            "association.public-dns-name" => eni.public.iter().map(|address| self.public_dns_name(*address)).collect(),
            "addresses.primary" => {
                let primary = eni.primary.is_some().then(|| "true".to_owned());
                let secondary = (!eni.secondaries.is_empty()).then(|| "false".to_owned());
                primary.into_iter().chain(secondary).collect()
            }
            "addresses.private-ip-address" => eni.addresses().map(|address| address.to_string()).collect(),
            "availability-zone" => one(eni.availability_zone.clone()),
            "availability-zone-id" => one(self.zone_id(&eni.availability_zone)),
            "description" => one(eni.description.clone()),
            "group-id" => eni.security_groups.iter().map(ToString::to_string).collect(),
            "interface-type" => one(eni.interface_type.name().to_owned()),
            "mac-address" => one(eni.mac.to_string()),
            "network-interface-id" => one(eni.id.to_string()),
            "operator.managed" | "requester-managed" => one("false".to_owned()),
            "owner-id" => one(self.account_id.clone()),
            "private-dns-name" => eni.primary.map(|address| self.private_dns_name(address)).into_iter().collect(),
            "private-ip-address" => eni.primary.iter().map(ToString::to_string).collect(),
            "source-dest-check" => one(eni.source_dest_check.to_string()),
            "status" => one(eni.state.name().to_owned()),
            "subnet-id" => one(eni.subnet.to_string()),
            "vpc-id" => one(eni.vpc.to_string()),
            _ => Vec::new(),
        }
    }

    /// What an attachment has under the rest of a filter's name.
    pub(super) fn attachment_values(&self, attachment: &Attachment, name: &str) -> Vec<String> {
        vec![match name {
            "attach-time" => timestamp::iso(self.unix_seconds(attachment.attach_time)),
            "attachment-id" => attachment.id.to_string(),
            "delete-on-termination" => attachment.delete_on_termination.to_string(),
            "device-index" => attachment.device_index.to_string(),
            "instance-id" => attachment.instance.to_string(),
            "instance-owner-id" => self.account_id.clone(),
            "status" => attachment.phase.name().to_owned(),
            _ => return Vec::new(),
        }]
    }

    /// The fields of an ENI as Create and Describe show them.
    pub(crate) fn write_eni(&self, xml: &mut Xml, eni: &Eni) {
        self.write_eni_core(xml, eni);
        xml.leaf("availabilityZone", &eni.availability_zone);
        xml.leaf("availabilityZoneId", self.zone_id(&eni.availability_zone));
        xml.leaf("requesterManaged", eni.odd.as_ref().is_some_and(|odd| odd.requester_managed));
        if let Some(operator) = eni.odd.as_ref().and_then(|odd| odd.operator.as_ref()) {
            xml.element("operator", |xml| {
                xml.leaf("managed", true);
                xml.leaf("principal", operator);
            });
        }
        xml.tags(&eni.tags);
        if let Some(attachment) = eni.attachment() {
            self.write_attachment(xml, attachment, true);
        }
    }

    /// The fields that DescribeInstances shows as well.
    pub(super) fn write_eni_core(&self, xml: &mut Xml, eni: &Eni) {
        let odd = eni.odd.as_deref();
        let (vpc, subnet) = match odd.and_then(|odd| odd.elsewhere.as_ref()) {
            Some((vpc, subnet)) => (vpc.as_str(), subnet.as_str()),
            None => (eni.vpc.as_str(), eni.subnet.as_str()),
        };
        xml.leaf("networkInterfaceId", &eni.id);
        xml.leaf("subnetId", subnet);
        xml.leaf("vpcId", vpc);
        xml.leaf("description", &eni.description);
        xml.leaf("ownerId", odd.and_then(|odd| odd.owner.as_ref()).unwrap_or(&self.account_id));
        xml.leaf("status", eni.state.name());
        xml.leaf("macAddress", eni.mac);
        let shows_ipv4 = odd.is_none_or(|odd| !odd.without_ipv4);
        if let Some(primary) = eni.primary.filter(|_| shows_ipv4) {
            xml.leaf("privateIpAddress", primary);
            xml.leaf("privateDnsName", self.private_dns_name(primary));
        }
        xml.leaf("sourceDestCheck", eni.source_dest_check);
        let kind = odd.and_then(|odd| odd.interface_type.as_deref());
        xml.leaf("interfaceType", kind.unwrap_or_else(|| eni.interface_type.name()));
        self.write_groups(xml, &eni.security_groups);
        xml.list("privateIpAddressesSet", eni.addresses().filter(|_| shows_ipv4), |xml, address| {
            let primary = eni.primary == Some(address);
            xml.leaf("privateIpAddress", address);
            xml.leaf("privateDnsName", self.private_dns_name(address));
            xml.leaf("primary", primary);
            if primary {
                self.write_association(xml, eni);
            }
        });
        if !eni.prefixes.is_empty() {
            xml.list("ipv4PrefixSet", &eni.prefixes, |xml, prefix| xml.leaf("ipv4Prefix", prefix));
        }
        let ipv6 = odd.and_then(|odd| odd.ipv6);
        xml.list("ipv6AddressesSet", ipv6, |xml, address| xml.leaf("ipv6Address", address));
        self.write_association(xml, eni);
    }

    fn write_association(&self, xml: &mut Xml, eni: &Eni) {
        if let Some(public) = eni.public {
            xml.element("association", |xml| {
                xml.leaf("publicIp", public);
                xml.leaf("publicDnsName", self.public_dns_name(public));
                xml.leaf("ipOwnerId", "amazon");
            });
        }
    }

    pub(crate) fn write_attachment(&self, xml: &mut Xml, attachment: &Attachment, whole: bool) {
        xml.element("attachment", |xml| {
            xml.leaf("attachmentId", &attachment.id);
            if whole {
                xml.leaf("instanceId", &attachment.instance);
                xml.leaf("instanceOwnerId", &self.account_id);
            }
            xml.leaf("deviceIndex", attachment.device_index);
            xml.leaf("networkCardIndex", attachment.network_card);
            xml.leaf("status", attachment.phase.name());
            xml.leaf("attachTime", timestamp::iso(self.unix_seconds(attachment.attach_time)));
            xml.leaf("deleteOnTermination", attachment.delete_on_termination);
        });
    }

    pub(crate) fn write_groups(&self, xml: &mut Xml, groups: &[SecurityGroupId]) {
        xml.list("groupSet", groups, |xml, id| {
            xml.leaf("groupId", id);
            xml.leaf("groupName", self.group_name(id));
        });
    }

    pub(super) fn group_name(&self, id: &SecurityGroupId) -> String {
        self.security_groups.get(id).map(|group| group.name.clone()).unwrap_or_default()
    }

    /// `ip-10-0-1-5.ec2.internal` in us-east-1, `ip-10-0-1-5.eu-west-1.compute.internal` elsewhere.
    pub(crate) fn private_dns_name(&self, address: Ipv4Addr) -> String {
        let [a, b, c, d] = address.octets();
        let domain = if self.region == "us-east-1" {
            "ec2.internal".to_owned()
        } else {
            format!("{}.compute.internal", self.region)
        };
        format!("ip-{a}-{b}-{c}-{d}.{domain}")
    }

    fn public_dns_name(&self, address: Ipv4Addr) -> String {
        let [a, b, c, d] = address.octets();
        let domain =
            if self.region == "us-east-1" { "compute-1".to_owned() } else { format!("{}.compute", self.region) };
        format!("ec2-{a}-{b}-{c}-{d}.{domain}.amazonaws.com")
    }

    /// `us-east-1a` is `use1-az1`, `eu-west-1c` is `euw1-az3`.
    pub(crate) fn zone_id(&self, zone: &str) -> String {
        let letter = zone.bytes().last().unwrap_or(b'a').saturating_sub(b'a').saturating_add(1);
        let mut parts = self.region.split('-');
        let continent = parts.next().unwrap_or_default();
        let direction = parts.next().and_then(|part| part.get(..1)).unwrap_or_default();
        format!("{continent}{direction}{}-az{letter}", parts.next().unwrap_or_default())
    }

    /// An ENI as a reader of Describe sees it.
    #[must_use]
    pub fn described(&self, id: &EniId, now: Duration) -> Option<&Eni> {
        let lag = Duration::from_millis(self.settings.lags.describe_ms);
        self.enis.seen_one(id, now, lag)
    }
}
