// SPDX-License-Identifier: Apache-2.0
//! Which actions there are, which parameters each takes, and how a request names a thing.
//!
//! The table of parameter names is the wire's (`N` is a list's number): it is what makes a misspelt parameter an error.
//! What an action does is in the file of its subject.
//!
//! Source: EC2 service model 2016-11-15 (names on the wire differ from the names of SDK members).

use crate::create::no_subnet;
use crate::error::Ec2Error;
use crate::ids::{AttachmentId, EniId, InstanceId, SecurityGroupId, SubnetId, VpcId};
use crate::params::Params;
use crate::state::{Eni, Instance, Subnet};
use crate::vpc::Vpc;
use crate::xml::Xml;
use std::time::Duration;

/// Whether an action is known.
pub(crate) enum Known {
    /// With these parameters.
    Yes(&'static [&'static str]),
    /// EC2 has it, the model does not.
    NotModelled,
    /// EC2 does not have it.
    No,
}

/// Actions of EC2 that a node's IPAM can be expected to try and that are not modelled.
const NOT_MODELLED: [&str; 5] = [
    "AssignIpv6Addresses",
    "UnassignIpv6Addresses",
    "AssociateTrunkInterface",
    "DisassociateTrunkInterface",
    "DescribeTrunkInterfaceAssociations",
];

const CREATE: [&str; 26] = [
    "SubnetId",
    "Description",
    "SecurityGroupId.N",
    "PrivateIpAddress",
    "PrivateIpAddresses.N.PrivateIpAddress",
    "PrivateIpAddresses.N.Primary",
    "SecondaryPrivateIpAddressCount",
    "Ipv4PrefixCount",
    "Ipv4Prefix.N.Ipv4Prefix",
    "Ipv6AddressCount",
    "Ipv6Addresses.N.Ipv6Address",
    "Ipv6Addresses.N.IsPrimaryIpv6",
    "Ipv6PrefixCount",
    "Ipv6Prefix.N.Ipv6Prefix",
    "EnablePrimaryIpv6",
    "InterfaceType",
    "ConnectionTrackingSpecification.TcpEstablishedTimeout",
    "ConnectionTrackingSpecification.UdpStreamTimeout",
    "ConnectionTrackingSpecification.UdpTimeout",
    "TagSpecification.N.ResourceType",
    "TagSpecification.N.Tag.N.Key",
    "TagSpecification.N.Tag.N.Value",
    "ClientToken",
    "Operator.Principal",
    "AssociatePublicIpAddress",
    "DryRun",
];
const MODIFY: [&str; 14] = [
    "NetworkInterfaceId",
    "Attachment.AttachmentId",
    "Attachment.DeleteOnTermination",
    "Attachment.DefaultEnaQueueCount",
    "Attachment.EnaQueueCount",
    "SourceDestCheck.Value",
    "SecurityGroupId.N",
    "Description.Value",
    "EnablePrimaryIpv6",
    "ConnectionTrackingSpecification.TcpEstablishedTimeout",
    "ConnectionTrackingSpecification.UdpStreamTimeout",
    "ConnectionTrackingSpecification.UdpTimeout",
    "EnaSrdSpecification.EnaSrdEnabled",
    "AssociatePublicIpAddress",
];
const RESERVE: [&str; 7] = [
    "SubnetId",
    "Cidr",
    "ReservationType",
    "Description",
    "TagSpecification.N.ResourceType",
    "TagSpecification.N.Tag.N.Key",
    "TagSpecification.N.Tag.N.Value",
];
const ASSIGN: [&str; 6] = [
    "NetworkInterfaceId",
    "PrivateIpAddress.N",
    "SecondaryPrivateIpAddressCount",
    "Ipv4Prefix.N",
    "Ipv4PrefixCount",
    "AllowReassignment",
];

/// The parameters of an action.
pub(crate) fn known(action: &str) -> Known {
    Known::Yes(match action {
        "CreateNetworkInterface" => &CREATE,
        "DeleteNetworkInterface" => &["NetworkInterfaceId"],
        "AttachNetworkInterface" => &["NetworkInterfaceId", "InstanceId", "DeviceIndex", "NetworkCardIndex"],
        "DetachNetworkInterface" => &["AttachmentId", "Force"],
        "ModifyNetworkInterfaceAttribute" => &MODIFY,
        "DescribeNetworkInterfaceAttribute" => &["NetworkInterfaceId", "Attribute"],
        "AssignPrivateIpAddresses" => &ASSIGN,
        "UnassignPrivateIpAddresses" => &["NetworkInterfaceId", "PrivateIpAddress.N", "Ipv4Prefix.N"],
        "DescribeNetworkInterfaces" => &[
            "NetworkInterfaceId.N",
            "Filter.N.Name",
            "Filter.N.Value.N",
            "MaxResults",
            "NextToken",
            "IncludeManagedResources",
        ],
        "DescribeInstances" => &["InstanceId.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        "DescribeInstanceTypes" => &["InstanceType.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        "DescribeSubnets" => &["SubnetId.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        "CreateSubnetCidrReservation" => &RESERVE,
        "DeleteSubnetCidrReservation" => &["SubnetCidrReservationId"],
        "GetSubnetCidrReservations" => &["SubnetId", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        "DescribeVpcs" => &["VpcId.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        "DescribeSecurityGroups" => {
            &["GroupId.N", "GroupName.N", "Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"]
        }
        "CreateTags" | "DeleteTags" => &["ResourceId.N", "Tag.N.Key", "Tag.N.Value"],
        "DescribeTags" => &["Filter.N.Name", "Filter.N.Value.N", "MaxResults", "NextToken"],
        other if NOT_MODELLED.contains(&other) => return Known::NotModelled,
        _ => return Known::No,
    })
}

impl Vpc {
    /// Carries out an action whose parameters are known to be its own.
    pub(crate) fn act(&mut self, action: &str, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        if params.has("ConnectionTrackingSpecification") || params.has("EnaSrdSpecification") {
            return Err(Ec2Error::unsupported("Connection tracking and ENA settings are not part of this model."));
        }
        self.refuse_new_ids(params, now)?;
        match action {
            "CreateNetworkInterface" => self.create_network_interface(params, now),
            "DeleteNetworkInterface" => self.delete_network_interface(params, now),
            "AttachNetworkInterface" => self.attach_network_interface(params, now),
            "DetachNetworkInterface" => self.detach_network_interface(params, now),
            "ModifyNetworkInterfaceAttribute" => self.modify_network_interface_attribute(params, now),
            "DescribeNetworkInterfaceAttribute" => self.describe_network_interface_attribute(params),
            "AssignPrivateIpAddresses" => self.assign_private_ip_addresses(params, now),
            "UnassignPrivateIpAddresses" => self.unassign_private_ip_addresses(params, now),
            "DescribeNetworkInterfaces" => self.describe_network_interfaces(params, now),
            "DescribeInstances" => self.describe_instances(params, now),
            "DescribeInstanceTypes" => Self::describe_instance_types(params),
            "DescribeSubnets" => self.describe_subnets(params),
            "CreateSubnetCidrReservation" => self.create_subnet_cidr_reservation(params),
            "DeleteSubnetCidrReservation" => self.delete_subnet_cidr_reservation(params),
            "GetSubnetCidrReservations" => self.get_subnet_cidr_reservations(params),
            "DescribeVpcs" => self.describe_vpcs(params),
            "DescribeSecurityGroups" => self.describe_security_groups(params),
            "CreateTags" => self.create_tags(params, now),
            "DeleteTags" => self.delete_tags(params, now),
            "DescribeTags" => self.describe_tags(params, now),
            other => {
                Err(Ec2Error::new("InvalidAction", format!("The action {other} is not valid for this web service.")))
            }
        }
    }

    /// Eventual consistency of ids: an ENI made less than `new_id_ms` ago is unknown to the calls that name it.
    fn refuse_new_ids(&self, params: &Params, now: Duration) -> Result<(), Ec2Error> {
        let Some(id) = params.text("NetworkInterfaceId") else { return Ok(()) };
        let lag = Duration::from_millis(self.settings.lags.new_id_ms);
        match self.enis.get(&EniId::from(id)) {
            Some(eni) if eni.created + lag > now => Err(Ec2Error::eni_not_found(id)),
            _ => Ok(()),
        }
    }

    /// The ENI that a parameter names.
    pub(crate) fn eni_param(&self, params: &Params, name: &str) -> Result<&Eni, Ec2Error> {
        let id = params.required(name)?;
        check_eni_id(id)?;
        self.enis.get(&EniId::from(id)).ok_or_else(|| Ec2Error::eni_not_found(id))
    }

    /// The ENI that has this attachment.
    pub(crate) fn attachment_param(&self, params: &Params, name: &str) -> Result<&Eni, Ec2Error> {
        let id = params.required(name)?;
        if !AttachmentId::is_well_formed(id) {
            return Err(Ec2Error::malformed("InvalidNetworkInterfaceAttachmentId.Malformed", id));
        }
        let id = AttachmentId::from(id);
        self.enis.of_attachment(&id).ok_or_else(|| Ec2Error::attachment_not_found(&id))
    }

    /// The instance that a parameter names.
    pub(crate) fn instance_param(&self, params: &Params, name: &str) -> Result<&Instance, Ec2Error> {
        let id = params.required(name)?;
        if !InstanceId::is_well_formed(id) {
            return Err(Ec2Error::malformed("InvalidInstanceID.Malformed", id));
        }
        self.instances.get(&InstanceId::from(id)).ok_or_else(|| Ec2Error::instance_not_found(id))
    }

    /// The subnet of this id.
    pub(crate) fn subnet_param(&self, id: &str) -> Result<&Subnet, Ec2Error> {
        self.subnets.get(&SubnetId::from(id)).ok_or_else(|| no_subnet(id))
    }

    /// `SecurityGroupId.N`, all of this VPC and not too many.
    pub(crate) fn groups_param(&self, params: &Params, vpc: &VpcId) -> Result<Vec<SecurityGroupId>, Ec2Error> {
        let mut groups = Vec::new();
        for id in params.list("SecurityGroupId") {
            let id = SecurityGroupId(id);
            match self.security_groups.get(&id) {
                Some(group) if group.vpc == *vpc => {}
                Some(_) => return Err(Ec2Error::group_of_other_vpc()),
                None => return Err(Ec2Error::security_group_id_not_found(id.as_str())),
            }
            if !groups.contains(&id) {
                groups.push(id);
            }
        }
        let quota = self.settings.quotas.security_groups_per_interface;
        if groups.len() > usize::try_from(quota).unwrap_or(usize::MAX) {
            let text = format!("The maximum number of security groups per interface, {quota}, has been reached.");
            return Err(Ec2Error::new("SecurityGroupsPerInterfaceLimitExceeded", text));
        }
        Ok(groups)
    }
}

/// Refuses a text that is not the id of an ENI.
pub(crate) fn check_eni_id(id: &str) -> Result<(), Ec2Error> {
    if EniId::is_well_formed(id) { Ok(()) } else { Err(Ec2Error::malformed("InvalidNetworkInterfaceId.Malformed", id)) }
}
