// SPDX-License-Identifier: Apache-2.0
//! EC2's refusals: code, text, HTTP status.
//!
//! Decides how a refusal is spelt; when it is due is decided where the action is carried out. Texts are EC2's own where a
//! log of the real service has shown them, because clients match on some of them.
//!
//! Source: EC2 API reference, "Error codes"; texts also from issue reports with logs of the real service (cited in
//! README.md of this crate).

use std::net::Ipv4Addr;

use crate::ids::{AttachmentId, EniId, InstanceId};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Ec2Error {
    /// EC2's code, such as `InvalidParameterValue`.
    pub code: String,
    /// EC2's text.
    pub message: String,
}

/// The HTTP status that goes with a code: throttling and faults of the server are 5xx, everything else is the client's.
#[must_use]
pub fn http_status(code: &str) -> u16 {
    match code {
        "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
        "InternalError" | "InternalFailure" => 500,
        "UnauthorizedOperation" => 403,
        "AuthFailure" => 401,
        "DryRunOperation" => 412,
        _ => 400,
    }
}

impl Ec2Error {
    /// A refusal with this code and text.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("UnsupportedOperation", message)
    }

    pub(crate) fn eni_not_found(eni: &str) -> Self {
        Self::new("InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{eni}' does not exist"))
    }

    pub(crate) fn malformed(code: &str, id: &str) -> Self {
        Self::new(code, format!("Invalid id: \"{id}\""))
    }

    pub(crate) fn attachment_not_found(attachment: &AttachmentId) -> Self {
        Self::new("InvalidAttachmentID.NotFound", format!("The attachment ID '{attachment}' does not exist"))
    }

    pub(crate) fn instance_not_found(instance: &str) -> Self {
        Self::new("InvalidInstanceID.NotFound", format!("The instance ID '{instance}' does not exist"))
    }

    pub(crate) fn group_not_found(group: &str) -> Self {
        Self::new("InvalidGroup.NotFound", format!("The security group '{group}' does not exist"))
    }

    /// What calls that make or change an ENI say where Describe says [`Ec2Error::group_not_found`].
    pub(crate) fn security_group_id_not_found(group: &str) -> Self {
        Self::new("InvalidSecurityGroupID.NotFound", format!("The securityGroup ID '{group}' does not exist"))
    }

    pub(crate) fn group_of_other_vpc() -> Self {
        Self::new("InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")
    }

    pub(crate) fn interface_in_use(eni: &EniId) -> Self {
        Self::new("InvalidNetworkInterface.InUse", format!("Interface: [{eni}] in use."))
    }

    pub(crate) fn currently_in_use(eni: &EniId) -> Self {
        Self::value(format!("Network interface '{eni}' is currently in use."))
    }

    pub(crate) fn index_taken(instance: &InstanceId, index: u32) -> Self {
        Self::value(format!("Instance '{instance}' already has an interface attached at device index '{index}'."))
    }

    pub(crate) fn interface_count(count: u32, instance_type: &str) -> Self {
        Self::new("AttachmentLimitExceeded", format!("Interface count {count} exceeds the limit for {instance_type}"))
    }

    pub(crate) fn private_address_limit() -> Self {
        Self::new("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
    }

    pub(crate) fn no_free_addresses() -> Self {
        Self::new(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
        )
    }

    pub(crate) fn no_free_blocks() -> Self {
        Self::new(
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
        )
    }

    pub(crate) fn too_few_addresses_for_prefixes() -> Self {
        Self::value("There aren't sufficient free Ipv4 addresses or prefixes")
    }

    pub(crate) fn address_in_use() -> Self {
        Self::new("InvalidIPAddress.InUse", "The specified address is already in use.")
    }

    pub(crate) fn move_not_allowed(what: impl std::fmt::Display) -> Self {
        Self::value(format!("[{what}] assigned, but move is not allowed."))
    }

    pub(crate) fn outside_subnet(address: Ipv4Addr) -> Self {
        Self::value(format!("Address {address} does not fall within the subnet's address range"))
    }

    pub(crate) fn reserved_address(address: Ipv4Addr) -> Self {
        Self::value(format!("Address {address} is in subnet's reserved address range"))
    }

    pub(crate) fn not_assigned(eni: &EniId) -> Self {
        Self::value(format!("Some of the specified addresses are not assigned to interface {eni}"))
    }
}
