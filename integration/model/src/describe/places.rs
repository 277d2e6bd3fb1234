// SPDX-License-Identifier: Apache-2.0
//! DescribeSubnets, DescribeVpcs, DescribeSecurityGroups.
//!
//! Shows them as they are: only ENIs lag.
//!
//! Source: EC2 API reference, DescribeSubnets, DescribeVpcs, DescribeSecurityGroups (filters and fields).

use crate::error::Ec2Error;
use crate::ids::{SecurityGroupId, VpcId};
use crate::params::Params;
use crate::state::{SecurityGroup, Subnet, VpcRecord};
use crate::vpc::Vpc;
use crate::xml::Xml;

use super::{Page, check_filters, passes, write_page};

const SUBNET_FILTERS: [&str; 12] = [
    "availability-zone",
    "availabilityZone",
    "availability-zone-id",
    "available-ip-address-count",
    "cidr-block",
    "cidr",
    "cidrBlock",
    "owner-id",
    "state",
    "subnet-id",
    "tag-key",
    "vpc-id",
];
const VPC_FILTERS: [&str; 8] = [
    "cidr",
    "cidr-block-association.cidr-block",
    "cidr-block-association.state",
    "is-default",
    "owner-id",
    "state",
    "tag-key",
    "vpc-id",
];
const GROUP_FILTERS: [&str; 6] = ["description", "group-id", "group-name", "owner-id", "tag-key", "vpc-id"];

impl Vpc {
    pub(crate) fn describe_subnets(&self, params: &Params) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &SUBNET_FILTERS)?;
        let ids = params.list("SubnetId");
        ids.iter().try_for_each(|id| self.subnet_param(id).map(|_| ()))?;
        let entries = self
            .subnets
            .values()
            .filter(|subnet| ids.is_empty() || ids.contains(&subnet.id.0))
            .filter(|subnet| passes(&filters, &subnet.tags, |name| self.subnet_values(subnet, name)))
            .map(|subnet| (subnet.id.0.clone(), subnet))
            .collect();
        write_page(params, "subnetSet", entries, &Page::with_ids("SubnetId"), |xml, subnet| {
            self.write_subnet(xml, subnet);
        })
    }

    fn subnet_values(&self, subnet: &Subnet, name: &str) -> Vec<String> {
        vec![match name {
            "availability-zone" | "availabilityZone" => subnet.availability_zone.clone(),
            "availability-zone-id" => self.zone_id(&subnet.availability_zone),
            "available-ip-address-count" => subnet.free_addresses().to_string(),
            "cidr-block" | "cidr" | "cidrBlock" => subnet.cidr_block().to_string(),
            "owner-id" => self.account_id.clone(),
            "state" => "available".to_owned(),
            "subnet-id" => subnet.id.to_string(),
            "vpc-id" => subnet.vpc.to_string(),
            _ => return Vec::new(),
        }]
    }

    fn write_subnet(&self, xml: &mut Xml, subnet: &Subnet) {
        xml.leaf("subnetId", &subnet.id);
        xml.leaf("state", "available");
        xml.leaf("vpcId", &subnet.vpc);
        xml.leaf("ownerId", &self.account_id);
        xml.leaf("cidrBlock", subnet.cidr_block());
        xml.leaf("availableIpAddressCount", subnet.free_addresses());
        xml.leaf("availabilityZone", &subnet.availability_zone);
        xml.leaf("availabilityZoneId", self.zone_id(&subnet.availability_zone));
        xml.leaf("defaultForAz", false);
        xml.leaf("mapPublicIpOnLaunch", false);
        xml.leaf("assignIpv6AddressOnCreation", false);
        xml.leaf("ipv6Native", false);
        xml.list("ipv6CidrBlockAssociationSet", [(); 0], |_, ()| {});
        xml.tags(&subnet.tags);
    }

    pub(crate) fn describe_vpcs(&self, params: &Params) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &VPC_FILTERS)?;
        let ids = params.list("VpcId");
        if let Some(missing) = ids.iter().find(|id| !self.vpcs.contains_key(&VpcId::from(id.as_str()))) {
            let text = format!("The vpc ID '{missing}' does not exist");
            return Err(Ec2Error::new("InvalidVpcID.NotFound", text));
        }
        let entries = self
            .vpcs
            .values()
            .filter(|vpc| ids.is_empty() || ids.contains(&vpc.id.0))
            .filter(|vpc| passes(&filters, &vpc.tags, |name| self.vpc_values(vpc, name)))
            .map(|vpc| (vpc.id.0.clone(), vpc))
            .collect();
        write_page(params, "vpcSet", entries, &Page::with_ids("VpcId"), |xml, vpc| self.write_vpc(xml, vpc))
    }

    fn vpc_values(&self, vpc: &VpcRecord, name: &str) -> Vec<String> {
        match name {
            "cidr" => vpc.cidr_blocks.iter().take(1).map(ToString::to_string).collect(),
            "cidr-block-association.cidr-block" => vpc.cidr_blocks.iter().map(ToString::to_string).collect(),
            "cidr-block-association.state" => vec!["associated".to_owned()],
            "is-default" => vec!["false".to_owned()],
            "owner-id" => vec![self.account_id.clone()],
            "state" => vec!["available".to_owned()],
            "vpc-id" => vec![vpc.id.to_string()],
            _ => Vec::new(),
        }
    }

    fn write_vpc(&self, xml: &mut Xml, vpc: &VpcRecord) {
        xml.leaf("vpcId", &vpc.id);
        xml.leaf("ownerId", &self.account_id);
        xml.leaf("state", "available");
        if let Some(primary) = vpc.cidr_blocks.first() {
            xml.leaf("cidrBlock", primary);
        }
        let associations = vpc.cidr_blocks.iter().enumerate();
        xml.list("cidrBlockAssociationSet", associations, |xml, (at, block)| {
            xml.leaf("associationId", vpc.id.as_str().replacen("vpc-", &format!("vpc-cidr-assoc-{at}"), 1));
            xml.leaf("cidrBlock", block);
            xml.element("cidrBlockState", |xml| xml.leaf("state", "associated"));
        });
        xml.list("ipv6CidrBlockAssociationSet", [(); 0], |_, ()| {});
        xml.leaf("isDefault", false);
        xml.leaf("instanceTenancy", "default");
        xml.tags(&vpc.tags);
    }

    pub(crate) fn describe_security_groups(&self, params: &Params) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &GROUP_FILTERS)?;
        let (ids, names) = (params.list("GroupId"), params.list("GroupName"));
        if let Some(missing) = ids.iter().find(|id| !self.security_groups.contains_key(&SecurityGroupId((*id).clone())))
        {
            return Err(Ec2Error::group_not_found(missing));
        }
        let entries = self
            .security_groups
            .values()
            .filter(|group| ids.is_empty() || ids.contains(&group.id.0))
            .filter(|group| names.is_empty() || names.contains(&group.name))
            .filter(|group| passes(&filters, &group.tags, |name| self.group_values(group, name)))
            .map(|group| (group.id.0.clone(), group))
            .collect();
        let page = Page::with_ids("GroupId");
        write_page(params, "securityGroupInfo", entries, &page, |xml, group| {
            xml.leaf("groupId", &group.id);
            xml.leaf("groupName", &group.name);
            xml.leaf("groupDescription", description(group));
            xml.leaf("ownerId", &self.account_id);
            xml.leaf("vpcId", &group.vpc);
            xml.list("ipPermissions", [(); 0], |_, ()| {});
            xml.list("ipPermissionsEgress", [(); 0], |_, ()| {});
            xml.tags(&group.tags);
        })
    }

    fn group_values(&self, group: &SecurityGroup, name: &str) -> Vec<String> {
        vec![match name {
            "description" => description(group).to_owned(),
            "group-name" => group.name.clone(),
            "group-id" => group.id.to_string(),
            "owner-id" => self.account_id.clone(),
            "vpc-id" => group.vpc.to_string(),
            _ => return Vec::new(),
        }]
    }
}

/// The VPC's own group has EC2's text; the topology gives none for others.
fn description(group: &SecurityGroup) -> &str {
    if group.name == "default" { "default VPC security group" } else { &group.name }
}
