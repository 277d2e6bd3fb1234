// SPDX-License-Identifier: Apache-2.0
//! EC2's error codes as kinds of failure that a decision can use.
//!
//! Decides by code; by message only for `InvalidParameterValue`, which carries several unrelated meanings, and only by
//! the fixed part of the texts that real EC2 was seen to send. It does not decide what to do about a failure (core).
//!
//! Invariant: a server-side error on a call that must not be repeated ([`Sent::Once`]) is `Unknown`, not `Transient`: EC2
//! may have done it.
//!
//! Source: EC2 API reference, "Error codes", and public logs of the reference (amazon-vpc-cni-k8s) for the texts.

use crate::event::FailureClass;

/// What a call may have done when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: it only reads.
    Read,
    /// Something, but repeating is harmless: it has a client token, or ends in a state.
    Repeatable,
    /// Something, and repeating could do it twice: assign by count, attach.
    Once,
}

/// What `InvalidParameterValue` can mean, by the fixed part of its text, and the class that follows. Any other text is
/// [`FailureClass::Rejected`].
const INVALID_PARAMETER_TEXTS: &[(&str, FailureClass)] = &[
    // Delete of an ENI whose detach is not finished: later.
    ("is currently in use", FailureClass::WrongState),
    // Attach: another index.
    ("already has an interface attached at device index", FailureClass::DeviceIndexTaken),
    // Prefixes, and the subnet has too few addresses in all.
    ("There aren't sufficient free Ipv4 addresses or prefixes", FailureClass::PrefixesExhausted),
    // Unassign: done before, as a description will show.
    ("Some of the specified addresses are not assigned to interface", FailureClass::NotFound),
    // Assign of a named address that another ENI has.
    ("assigned, but move is not allowed", FailureClass::WrongState),
    // A named address or prefix that no repetition makes right.
    ("does not fall within the subnet's address range", FailureClass::Rejected),
    ("is in subnet's reserved address range", FailureClass::Rejected),
    // Unassign of the primary address: our view of the ENI is wrong.
    ("cannot be unassigned", FailureClass::Rejected),
    // A value of the wrong form or range: a bug of ours.
    ("for parameter", FailureClass::Rejected),
];

/// The kind of failure behind EC2's error `code` and `message`.
#[must_use]
pub fn classify(code: &str, message: &str, sent: Sent) -> FailureClass {
    match code {
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "ThrottledException" | "SlowDown" => {
            FailureClass::Throttled
        }
        "Unavailable" | "ServiceUnavailable" | "InternalError" | "InternalFailure" => match sent {
            Sent::Once => FailureClass::Unknown,
            Sent::Read | Sent::Repeatable => FailureClass::Transient,
        },
        "ConcurrentTagAccess" => FailureClass::Transient,
        "UnauthorizedOperation"
        | "AuthFailure"
        | "InvalidClientTokenId"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "AccessDenied"
        | "OptInRequired"
        | "Blocked"
        | "PendingVerification" => FailureClass::Denied,
        "IdempotentParameterMismatch" => FailureClass::TokenMismatch,
        "InsufficientFreeAddressesInSubnet" => FailureClass::SubnetExhausted,
        "InsufficientCidrBlocks" => FailureClass::PrefixesExhausted,
        "PrivateIpAddressLimitExceeded" | "InvalidInterface.IpAddressLimitExceeded" => FailureClass::AddressLimit,
        "AttachmentLimitExceeded" => FailureClass::AttachmentLimit,
        "InvalidNetworkInterface.InUse"
        | "IncorrectState"
        | "IncorrectInstanceState"
        | "InvalidInstanceID"
        | "OperationNotPermitted"
        | "Resource.AlreadyAssigned"
        | "InvalidIPAddress.InUse" => FailureClass::WrongState,
        "InvalidParameterValue" => INVALID_PARAMETER_TEXTS
            .iter()
            .find(|(text, _)| message.contains(text))
            .map_or(FailureClass::Rejected, |(_, class)| *class),
        code if code.ends_with(".NotFound") => FailureClass::NotFound,
        _ => FailureClass::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass::{
        AddressLimit, AttachmentLimit, Denied, DeviceIndexTaken, NotFound, PrefixesExhausted, Rejected,
        SubnetExhausted, Throttled, TokenMismatch, Transient, Unknown, WrongState,
    };

    /// Codes and texts of the EC2 API reference and of public logs of real EC2.
    const TABLE: &[(&str, &str, Sent, FailureClass)] = &[
        ("RequestLimitExceeded", "Request limit exceeded.", Sent::Once, Throttled),
        ("Unavailable", "", Sent::Read, Transient),
        ("InternalError", "An internal error has occurred", Sent::Repeatable, Transient),
        ("InternalError", "An internal error has occurred", Sent::Once, Unknown),
        ("UnauthorizedOperation", "You are not authorized to perform this operation.", Sent::Once, Denied),
        ("AuthFailure", "AWS was not able to validate the provided access credentials", Sent::Once, Denied),
        ("RequestExpired", "Request has expired.", Sent::Read, Denied),
        ("IdempotentParameterMismatch", "", Sent::Repeatable, TokenMismatch),
        ("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID 'eni-x' does not exist", Sent::Once, NotFound),
        ("InvalidAttachmentID.NotFound", "", Sent::Repeatable, NotFound),
        ("InvalidNetworkInterfaceId.Malformed", "", Sent::Once, Rejected),
        ("InvalidNetworkInterface.InUse", "Interface: [eni-x] in use.", Sent::Once, WrongState),
        ("InvalidParameterValue", "Network interface 'eni-x' is currently in use.", Sent::Repeatable, WrongState),
        (
            "InvalidParameterValue",
            "Instance 'i-x' already has an interface attached at device index '1'.",
            Sent::Once,
            DeviceIndexTaken,
        ),
        (
            "InvalidParameterValue",
            "There aren't sufficient free Ipv4 addresses or prefixes",
            Sent::Once,
            PrefixesExhausted,
        ),
        (
            "InvalidParameterValue",
            "Some of the specified addresses are not assigned to interface eni-x",
            Sent::Repeatable,
            NotFound,
        ),
        ("InvalidParameterValue", "[10.0.1.5] assigned, but move is not allowed.", Sent::Once, WrongState),
        ("InvalidParameterValue", "Address 10.0.1.1 is in subnet's reserved address range", Sent::Once, Rejected),
        (
            "InvalidParameterValue",
            "Address 10.9.1.1 does not fall within the subnet's address range",
            Sent::Once,
            Rejected,
        ),
        (
            "InvalidParameterValue",
            "The primary IP address 10.0.1.10 of interface eni-x cannot be unassigned",
            Sent::Repeatable,
            Rejected,
        ),
        ("InvalidParameterValue", "Value (-1) for parameter deviceIndex is invalid.", Sent::Once, Rejected),
        ("InvalidParameterValue", "A text that nobody has seen yet", Sent::Once, Rejected),
        ("InvalidParameterCombination", "You may not attach a network interface …", Sent::Once, Rejected),
        ("AttachmentLimitExceeded", "Interface count 4 exceeds the limit for m5.large", Sent::Once, AttachmentLimit),
        ("OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.", Sent::Once, WrongState),
        ("IncorrectInstanceState", "", Sent::Once, WrongState),
        ("InvalidInstanceID.NotFound", "", Sent::Once, NotFound),
        ("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.", Sent::Once, AddressLimit),
        (
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
            Sent::Repeatable,
            SubnetExhausted,
        ),
        (
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
            Sent::Once,
            PrefixesExhausted,
        ),
        ("InvalidSubnetID.NotFound", "", Sent::Repeatable, NotFound),
        ("SecurityGroupsPerInterfaceLimitExceeded", "", Sent::Repeatable, Rejected),
        ("ConcurrentTagAccess", "", Sent::Repeatable, Transient),
        ("UnsupportedOperation", "", Sent::Once, Rejected),
        ("SomethingNew", "", Sent::Once, Rejected),
    ];

    #[test]
    fn each_meaning_of_invalid_parameter_value_is_told_apart_and_shown_by_a_real_text() {
        assert!(INVALID_PARAMETER_TEXTS.len() >= 8);
        for (text, class) in INVALID_PARAMETER_TEXTS {
            let shown =
                TABLE.iter().find(|(code, message, ..)| *code == "InvalidParameterValue" && message.contains(text));
            let (_, message, _, expected) = shown.unwrap_or_else(|| panic!("no example of {text}"));
            let meanings = INVALID_PARAMETER_TEXTS.iter().filter(|(other, _)| message.contains(other));
            assert_eq!((meanings.count(), expected), (1, class), "{message}");
        }
    }

    #[test]
    fn every_documented_code_has_its_class() {
        for (code, message, sent, class) in TABLE {
            assert_eq!(classify(code, message, *sent), *class, "{code}: {message} ({sent:?})");
        }
    }
}
