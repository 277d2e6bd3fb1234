// SPDX-License-Identifier: Apache-2.0
//! What EC2 answers to calls of growth: each class of error is a code of its own. Every one has a node of its own, so that none is
//! in another's back-off.

use std::sync::atomic::AtomicUsize;

use integration::pods;
use vpc_model::{AttachFault, AttachFaultKind, Delivery, Fault};

use crate::bed::Bed;

/// Codes of EC2's to AssignPrivateIpAddresses, and ours; whether an ADD is refused with it.
const ASSIGN: [(&str, &str, bool); 8] = [
    ("RequestLimitExceeded", "Ec2Throttled", true),
    ("UnauthorizedOperation", "Ec2Denied", true),
    ("InsufficientFreeAddressesInSubnet", "SubnetExhausted", true),
    ("InternalError", "Ec2Unavailable", true),
    ("UnsupportedOperation", "Ec2Rejected", true),
    ("InvalidNetworkInterfaceID.NotFound", "Ec2NotFound", true),
    ("IncorrectInstanceState", "Ec2WrongState", true),
    ("PrivateIpAddressLimitExceeded", "AddressLimit", false),
];

/// The node has one address to spare, and cannot get another.
#[test]
fn an_address_that_cannot_be_assigned() {
    let mut bed = Bed::new(ASSIGN.len(), "m5.large");
    for (number, (answer, code, is_refused)) in ASSIGN.into_iter().enumerate() {
        let name = format!("n{}", number + 1);
        bed.start(&name, &[("MAX_ENI", "1"), ("WARM_IP_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "300")]);
        bed.order(Fault::always("AssignPrivateIpAddresses", answer));
        if is_refused {
            let refused = bed.refused_with(&name, code, 3_000);
            bed.shows(&name, code, Some(&refused));
        } else {
            while bed.try_add(&name, 3_000).is_ok() {}
            bed.shows(&name, code, None);
        }
        bed.topology.node_mut(&name).kill();
        bed.clear_faults();
    }
}

#[test]
fn an_assign_call_that_does_not_answer() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[("MAX_ENI", "1"), ("WARM_IP_TARGET", "1")]);
    bed.order(Fault { delivery: Delivery::Hang, ..Fault::always("AssignPrivateIpAddresses", "InternalError") });
    let refused = bed.refused_with("n1", "BudgetSpent", 2_000);
    bed.shows("n1", "BudgetSpent", Some(&refused));
}

/// Codes of EC2's to a call, its text, and ours; whether an ADD is refused with it.
const MAKE: [(&str, &str, &str, &str, bool); 3] = [
    ("AttachNetworkInterface", "AttachmentLimitExceeded", "", "AttachmentLimit", true),
    ("CreateNetworkInterface", "IdempotentParameterMismatch", "", "ClientTokenMismatch", true),
    (
        "AttachNetworkInterface",
        "InvalidParameterValue",
        "Instance already has an interface attached at device index '1'.",
        "DeviceIndexTaken",
        false,
    ),
];

#[test]
fn an_eni_that_cannot_be_made() {
    let mut bed = Bed::new(MAKE.len(), "m5.large");
    for (number, (action, answer, text, code, is_refused)) in MAKE.into_iter().enumerate() {
        let name = format!("n{}", number + 1);
        let message = (!text.is_empty()).then(|| text.to_owned());
        bed.order(Fault { message, ..Fault::always(action, answer) });
        bed.start(&name, &[("MAX_ENI", "2"), ("WARM_IP_TARGET", "1")]);
        pods::start(bed.node(&name), 9, 3, &AtomicUsize::new(0)).unwrap();
        if is_refused {
            let refused = bed.refused_with(&name, code, 3_000);
            bed.shows(&name, code, Some(&refused));
        } else {
            bed.shows(&name, code, None);
        }
        bed.topology.node_mut(&name).kill();
        bed.clear_faults();
    }
}

#[test]
fn an_eni_that_is_not_attached_and_one_that_does_not_appear() {
    let mut bed = Bed::new(2, "m5.large");
    for (name, kind, code) in
        [("n1", AttachFaultKind::NeverAttached, "EniPending"), ("n2", AttachFaultKind::NoLink, "EniStuck")]
    {
        let instance = Some(bed.topology.instance(name).unwrap().id);
        let fault = AttachFault { instance, count: None, kind };
        bed.topology.emulator.with_model(|vpc, _| vpc.order_attach_fault(fault));
        bed.start(name, &[("MAX_ENI", "2"), ("WARM_IP_TARGET", "1")]);
        pods::start(bed.node(name), 9, 3, &AtomicUsize::new(0)).unwrap();
        let refused = bed.refused_with(name, code, 3_000);
        bed.shows(name, code, Some(&refused));
    }
}

#[test]
fn a_pod_s_address_that_somebody_unassigns() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[("MAX_ENI", "1"), ("WARM_IP_TARGET", "1")]);
    let pod = pods::start(bed.node("n1"), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0);
    assert!(bed.topology.node_mut("n1").stop());
    let eni = bed.topology.enis("n1").unwrap().remove(0).id;
    let address = pod.added.address.to_string();
    bed.ec2("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", &eni), ("PrivateIpAddress.1", &address)]);
    bed.launch("n1", &[]);
    bed.shows("n1", "AddressNotListed", None);
}
