// SPDX-License-Identifier: Apache-2.0
//! What a new node says that cannot find out who it is, what it has, or what it may have.

use integration::topology::{NodeSpec, Subnet};
use vpc_model::{Delivery, Fault, ImdsFault};

use crate::bed::{Bed, refusal};

#[test]
fn metadata_that_does_not_answer() {
    let mut bed = Bed::new(1, "m5.large");
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 503, count: None };
    bed.topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
    bed.launch("n1", &[]);
    let refused = bed.refused_with("n1", "ImdsUnavailable", 2_000);
    bed.shows("n1", "ImdsUnavailable", Some(&refused));
    let refused = refusal(bed.node("n1").runtime.status().unwrap_err());
    assert_eq!(refused.code, 50);
    bed.shows("n1", "NothingProven", Some(&refused));
}

#[test]
fn ec2_that_has_not_answered_yet() {
    let mut bed = Bed::new(1, "m5.large");
    bed.order(Fault { delivery: Delivery::Hang, ..Fault::always("DescribeNetworkInterfaces", "InternalError") });
    bed.launch("n1", &[]);
    let refused = bed.refused_with("n1", "Starting", 1_500);
    bed.shows("n1", "Starting", Some(&refused));
}

#[test]
fn an_instance_type_that_nobody_knows() {
    let node = NodeSpec { limits_of: Some("m5.large".to_owned()), ..NodeSpec::new("n1", "m99.large", Subnet::A) };
    let mut bed = Bed::of(vec![node], |_| {});
    bed.order(Fault::always("DescribeInstanceTypes", "UnauthorizedOperation"));
    bed.launch("n1", &[]);
    bed.shows("n1", "LimitsUnknown", None);
}
