// SPDX-License-Identifier: Apache-2.0
//! Instance type x mode. Rows of AWS's are those of `max-pods-calculator.sh` (<https://github.com/awslabs/amazon-eks-ami>) for CNI
//! versions from 1.9 on, those of `eni-max-pods.txt` there, and the EKS user guide's
//! (<https://docs.aws.amazon.com/eks/latest/userguide/choosing-instance-type.html>: m5.large 29, with custom networking 20, with
//! prefixes 110).

use super::limits;
use crate::{Capacity, Use, lookup, near};

const SINGLE: Use = Use { prefixes: false, max_enis: None, idle_enis: 0 };
const PREFIXES: Use = Use { prefixes: true, ..SINGLE };
const CUSTOM: Use = Use { idle_enis: 1, ..SINGLE };
const BOTH: Use = Use { idle_enis: 1, ..PREFIXES };

/// The calculator's answers: type, plain, custom networking, prefixes, prefixes and custom networking.
const CALCULATOR: [(&str, [u32; 4]); 14] = [
    ("m5.large", [29, 20, 110, 110]),
    ("d3.xlarge", [10, 8, 110, 98]),
    ("d3.2xlarge", [18, 14, 110, 110]),
    ("d3.4xlarge", [38, 29, 110, 110]),
    ("d3.8xlarge", [59, 40, 250, 250]),
    ("d3en.8xlarge", [78, 59, 250, 250]),
    ("g5g.xlarge", [58, 44, 110, 110]),
    ("c5.18xlarge", [250, 250, 250, 250]),
    ("trn1.32xlarge", [247, 198, 250, 250]),
    ("m1.medium", [12, 7, 12, 7]),
    ("m4.large", [20, 11, 20, 11]),
    ("t1.micro", [4, 3, 4, 3]),
    ("t2.small", [11, 8, 11, 8]),
    ("t2.large", [35, 24, 35, 24]),
];

#[test]
fn recommended_pods_are_those_of_the_eks_calculator() {
    for (name, wanted) in CALCULATOR {
        let limits = limits(name);
        let got = [SINGLE, CUSTOM, PREFIXES, BOTH].map(|how| Capacity::of(limits, how).recommended(limits.vcpus));
        assert_eq!(got, wanted, "{name}");
    }
}

/// Rows of `eni-max-pods.txt`.
#[test]
fn all_pods_with_single_addresses_are_those_of_the_eks_ami() {
    for (name, pods) in [
        ("g4dn.metal", 737),
        ("i3en.6xlarge", 234),
        ("hs1.8xlarge", 234),
        ("m3.2xlarge", 118),
        ("m4.16xlarge", 234),
        ("m5.16xlarge", 737),
        ("m5n.2xlarge", 58),
        ("t3.small", 11),
    ] {
        assert_eq!(Capacity::of(limits(name), SINGLE).max_pods(), pods, "{name}");
    }
}

/// Worked by hand from the formula: type, use, ENIs, addresses, what is said of it.
#[test]
fn addresses_follow_mode_cap_and_idle_enis() {
    let capped = |max| Use { max_enis: Some(max), ..SINGLE };
    for (name, how, enis, addresses, text) in [
        ("m5.large", SINGLE, 3, 27, "3 ENIs x 9 addresses"),
        ("m5.large", PREFIXES, 3, 432, "3 ENIs x 9 prefixes x 16"),
        ("m5.large", CUSTOM, 2, 18, "2 ENIs x 9 addresses"),
        ("m5.large", capped(1), 1, 9, "1 ENI x 9 addresses"),
        ("m5.large", capped(9), 3, 27, "3 ENIs x 9 addresses"),
        ("m5.large", Use { idle_enis: 1, ..capped(2) }, 1, 9, "1 ENI x 9 addresses"),
        ("m5.large", Use { idle_enis: 3, ..SINGLE }, 0, 0, "0 ENIs x 9 addresses"),
        ("m5.large", Use { idle_enis: 4, ..PREFIXES }, 0, 0, "0 ENIs x 9 prefixes x 16"),
        ("t3.nano", PREFIXES, 2, 32, "2 ENIs x 1 prefixes x 16"),
        ("m4.4xlarge", PREFIXES, 8, 232, "8 ENIs x 29 addresses"),
        ("m5.metal", PREFIXES, 15, 11_760, "15 ENIs x 49 prefixes x 16"),
        ("p4d.24xlarge", SINGLE, 15, 735, "15 ENIs x 49 addresses"),
    ] {
        let capacity = Capacity::of(limits(name), how);
        assert_eq!((capacity.enis, capacity.addresses()), (enis, addresses), "{name} {how:?}");
        assert_eq!((capacity.max_pods(), capacity.to_string()), (addresses + 2, text.to_owned()), "{name} {how:?}");
    }
}

#[test]
fn no_use_of_any_type_gives_more_than_all_of_it() {
    for (name, limits) in crate::all() {
        let all = Capacity::of(limits, PREFIXES).addresses();
        for how in [SINGLE, CUSTOM, BOTH, Use { max_enis: Some(2), ..PREFIXES }, Use { idle_enis: 7, ..SINGLE }] {
            let capacity = Capacity::of(limits, how);
            assert!(capacity.addresses() <= all && capacity.recommended(limits.vcpus) <= 250, "{name} {how:?}");
        }
    }
}

#[test]
fn a_name_with_a_mistake_leads_to_those_that_may_be_meant() {
    for (wrong, meant) in [
        ("m5.larg", "m5.large"),
        ("m5large", "m5.large"),
        ("M5.Large", "m5.large"),
        ("t3.smal", "t3.small"),
        ("c5.18xlrage", "c5.18xlarge"),
    ] {
        assert_eq!(lookup(wrong), None);
        assert_eq!(near(wrong).first().copied(), Some(meant), "{wrong}: {:?}", near(wrong));
        assert!(near(wrong).len() <= 5);
    }
    assert_eq!(near("pentium"), [""; 0]);
    assert_eq!(near(""), [""; 0]);
}
