// SPDX-License-Identifier: Apache-2.0
//! DescribeInstances.
//!
//! Shows instances as they are and their ENIs as they were `describe_ms` ago.
//!
//! Source: EC2 API reference, DescribeInstances (filters), Instance and InstanceNetworkInterface (fields: no tags, no zone,
//! and no instance id in the attachment).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Ec2Error;
use crate::ids::InstanceId;
use crate::params::Params;
use crate::state::{Eni, Instance};
use crate::timestamp;
use crate::vpc::Vpc;
use crate::xml::Xml;

use super::{Page, check_filters, passes, write_page};

const FILTERS: [&str; 22] = [
    "availability-zone",
    "instance-id",
    "instance-state-code",
    "instance-state-name",
    "instance-type",
    "instance.group-id",
    "ip-address",
    "network-interface.addresses.primary",
    "network-interface.addresses.private-ip-address",
    "network-interface.attachment.attachment-id",
    "network-interface.attachment.device-index",
    "network-interface.attachment.status",
    "network-interface.mac-address",
    "network-interface.network-interface-id",
    "network-interface.status",
    "network-interface.subnet-id",
    "network-interface.vpc-id",
    "owner-id",
    "private-ip-address",
    "subnet-id",
    "tag-key",
    "vpc-id",
];

impl Vpc {
    pub(crate) fn describe_instances(&self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &FILTERS)?;
        let ids = params.list("InstanceId");
        for id in &ids {
            if !InstanceId::is_well_formed(id) {
                return Err(Ec2Error::malformed("InvalidInstanceID.Malformed", id));
            }
            if !self.instances.contains_key(&InstanceId::from(id.as_str())) {
                return Err(Ec2Error::instance_not_found(id));
            }
        }
        let lag = Duration::from_millis(self.settings.lags.describe_ms);
        let mut entries = Vec::new();
        let named: BTreeSet<InstanceId> = ids.iter().map(|id| InstanceId::from(id.as_str())).collect();
        let all = || self.instances.values().collect::<Vec<_>>();
        let of_ids = || named.iter().filter_map(|id| self.instances.get(id)).collect::<Vec<_>>();
        for instance in if ids.is_empty() { all() } else { of_ids() } {
            let mut own = self.enis.seen_of_instance(&instance.id, now, lag);
            own.sort_by_key(|eni| eni.attachment().map(|a| (a.network_card, a.device_index)));
            if passes(&filters, &instance.tags, |name| self.instance_values(instance, &own, name)) {
                entries.push((instance.id.0.clone(), (instance, own)));
            }
        }
        let page = Page::with_ids("InstanceId");
        write_page(params, "reservationSet", entries, &page, |xml, (instance, enis)| {
            xml.leaf("reservationId", instance.id.as_str().replacen("i-", "r-", 1));
            xml.leaf("ownerId", &self.account_id);
            xml.list("instancesSet", [instance], |xml, instance| self.write_instance(xml, instance, &enis));
        })
    }

    fn instance_values(&self, instance: &Instance, enis: &[&Eni], name: &str) -> Vec<String> {
        if let Some(name) = name.strip_prefix("network-interface.") {
            return enis.iter().flat_map(|eni| self.interface_values(eni, name)).collect();
        }
        let primary = enis.first();
        let (code, state) = instance.state.code_and_name();
        match name {
            "availability-zone" => vec![instance.availability_zone.clone()],
            "instance-id" => vec![instance.id.to_string()],
            "instance-state-code" => vec![code.to_string()],
            "instance-state-name" => vec![state.to_owned()],
            "instance-type" => vec![instance.instance_type.clone()],
            "instance.group-id" => {
                primary.map(|eni| eni.security_groups.iter().map(ToString::to_string).collect()).unwrap_or_default()
            }
            "ip-address" => primary.and_then(|eni| eni.public).iter().map(ToString::to_string).collect(),
            "owner-id" => vec![self.account_id.clone()],
            "private-ip-address" => primary.iter().filter_map(|eni| Some(eni.primary?.to_string())).collect(),
            "subnet-id" => vec![instance.subnet.to_string()],
            "vpc-id" => vec![instance.vpc.to_string()],
            _ => Vec::new(),
        }
    }

    fn interface_values(&self, eni: &Eni, name: &str) -> Vec<String> {
        if let Some(name) = name.strip_prefix("attachment.") {
            return eni.attachment().map(|attachment| self.attachment_values(attachment, name)).unwrap_or_default();
        }
        match name {
            "addresses.primary" => vec!["true".to_owned()],
            "addresses.private-ip-address" => eni.addresses().map(|address| address.to_string()).collect(),
            "mac-address" => vec![eni.mac.to_string()],
            "network-interface-id" => vec![eni.id.to_string()],
            "status" => vec![eni.state.name().to_owned()],
            "subnet-id" => vec![eni.subnet.to_string()],
            "vpc-id" => vec![eni.vpc.to_string()],
            _ => Vec::new(),
        }
    }

    fn write_instance(&self, xml: &mut Xml, instance: &Instance, enis: &[&Eni]) {
        let (code, state) = instance.state.code_and_name();
        xml.leaf("instanceId", &instance.id);
        xml.leaf("instanceType", &instance.instance_type);
        xml.leaf("imageId", crate::imds::IMAGE_ID);
        xml.element("instanceState", |xml| {
            xml.leaf("code", code);
            xml.leaf("name", state);
        });
        xml.leaf("launchTime", timestamp::iso(self.unix_seconds(instance.launched)));
        xml.element("placement", |xml| {
            xml.leaf("availabilityZone", &instance.availability_zone);
            xml.leaf("tenancy", "default");
        });
        xml.leaf("architecture", "x86_64");
        xml.leaf("vpcId", &instance.vpc);
        xml.leaf("subnetId", &instance.subnet);
        if let Some(primary) = enis.first() {
            if let Some(address) = primary.primary {
                xml.leaf("privateIpAddress", address);
                xml.leaf("privateDnsName", self.private_dns_name(address));
            }
            xml.leaf("sourceDestCheck", primary.source_dest_check);
            if let Some(public) = primary.public {
                xml.leaf("ipAddress", public);
            }
            self.write_groups(xml, &primary.security_groups);
        }
        xml.list("networkInterfaceSet", enis, |xml, eni| {
            self.write_eni_core(xml, eni);
            if let Some(attachment) = eni.attachment() {
                self.write_attachment(xml, attachment, false);
            }
        });
        xml.tags(&instance.tags);
    }
}
