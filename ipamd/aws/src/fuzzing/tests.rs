// SPDX-License-Identifier: Apache-2.0
//! Right answers, and what mutations make of them: in every `cargo test`, without a fuzzer.

use ipamd_core::event::FailureClass;

use super::ec2::{Call, Ended, answered};
use super::imds::Item;
use super::mutator::Mutator;
use super::{block_on, ec2, imds};
use crate::ec2::tests::{ATTACHED, answer_xml, eni_xml, error_xml};

#[path = "../../../../fuzz/replay.rs"]
mod replay;

/// An answer that is right.
fn right(call: Call) -> String {
    answer_xml(call.action_name(), &content(call))
}

/// What is in a right answer.
fn content(call: Call) -> String {
    let fresh = eni_xml(
        "eni-2",
        11,
        "<status>pending</status><ipv4PrefixSet><item><ipv4Prefix>10.0.1.32/28</ipv4Prefix></item></ipv4PrefixSet>",
    );
    match call {
        Call::Enis => {
            let attached = eni_xml("eni-1", 10, ATTACHED);
            format!("<networkInterfaceSet><item>{attached}</item><item>{fresh}</item></networkInterfaceSet>")
        }
        Call::Subnets => {
            let subnet = "<subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><cidrBlock>10.0.1.0/24</cidrBlock>\
                <availableIpAddressCount>200</availableIpAddressCount><availabilityZone>us-east-1a</availabilityZone>\
                <tagSet><item><key>kubernetes.io/role/cni</key><value>1</value></item></tagSet>";
            format!("<subnetSet><item>{subnet}</item></subnetSet>")
        }
        Call::Assign => {
            let assigned = "<networkInterfaceId>eni-1</networkInterfaceId><assignedPrivateIpAddressesSet><item>\
                <privateIpAddress>10.0.1.120</privateIpAddress></item></assignedPrivateIpAddressesSet>\
                <assignedIpv4PrefixSet><item><ipv4Prefix>10.0.1.48/28</ipv4Prefix></item></assignedIpv4PrefixSet>";
            assigned.to_owned()
        }
        Call::Attach => "<attachmentId>eni-attach-1</attachmentId>".to_owned(),
        Call::Create => format!("<networkInterface>{fresh}</networkInterface>"),
        Call::Types => {
            let info = "<instanceType>m9.large</instanceType><hypervisor>nitro</hypervisor><bareMetal>false</bareMetal>\
                <networkInfo><maximumNetworkInterfaces>3</maximumNetworkInterfaces>\
                <ipv4AddressesPerInterface>10</ipv4AddressesPerInterface><ipv6AddressesPerInterface>10</ipv6AddressesPerInterface>\
                <defaultNetworkCardIndex>0</defaultNetworkCardIndex><networkCards><item><networkCardIndex>0</networkCardIndex>\
                <maximumNetworkInterfaces>3</maximumNetworkInterfaces></item></networkCards></networkInfo>";
            format!("<instanceTypeSet><item>{info}</item></instanceTypeSet>")
        }
    }
}

#[test]
fn the_answers_are_right_before_they_are_spoilt() {
    for call in Call::ALL {
        let ended = block_on(answered(call, 200, right(call).as_bytes()));
        assert!(!matches!(ended, Ended::Failed(_)), "{call:?}: {ended:?}");
    }
    let whole = super::imds::edge(None);
    assert_eq!(block_on(whole.facts()).unwrap().vpc_cidrs.len(), 2);
    assert_eq!(block_on(whole.enis(&"i-1".into())).unwrap()[0].prefixes.len(), 2);
}

#[test]
fn answers_of_ec2_that_are_spoilt_are_failures_of_the_right_kind_or_say_what_they_say() {
    let errors = [
        ("RequestLimitExceeded", "Request limit exceeded."),
        ("InvalidParameterValue", "Network interface 'eni-1' is currently in use."),
        ("InternalError", "An internal error has occurred"),
        ("InsufficientFreeAddressesInSubnet", "no"),
        ("UnauthorizedOperation", "You are not authorized to perform this operation."),
    ];
    let mut mutator = Mutator::new();
    for _ in 0..Mutator::rounds() {
        let call = Call::ALL[mutator.below(Call::ALL.len())];
        let (code, message) = errors[mutator.below(errors.len())];
        let (status, text) = match mutator.below(4) {
            0 => (400, error_xml(code, message)),
            1 => (503, error_xml(code, message)),
            _ => (200, right(call)),
        };
        let head = format!("{} {status}\n", call.word());
        ec2(&[head.as_bytes(), &mutator.change(&text)].concat());
    }
}

/// Of a list the SDK's reader takes what comes before the place that it cannot read, and says nothing: only of what must be there we hear.
#[test]
fn a_success_that_cannot_be_read_may_have_happened() {
    let body = right(Call::Attach).replace("eni-attach-1", "eni-\0attach-1");
    let ended = block_on(answered(Call::Attach, 200, body.as_bytes()));
    let Ended::Failed(failure) = ended else { panic!("{ended:?}") };
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Unknown, "UnreadableAnswer"), "{failure:?}");
}

#[test]
fn items_of_metadata_that_are_spoilt_are_failures_that_name_them_or_say_what_they_say() {
    let items: Vec<Item> = Item::all().collect();
    let mut mutator = Mutator::new();
    for _ in 0..Mutator::rounds() / 5 {
        let item = items[mutator.below(items.len())];
        let head = format!("{}\n", item.name());
        imds(&[head.as_bytes(), &mutator.change(item.right())].concat());
    }
}

#[test]
fn the_corpus_holds() {
    replay::corpus("ec2", ec2);
    replay::corpus("imds", imds);
}
