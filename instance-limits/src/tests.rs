// SPDX-License-Identifier: Apache-2.0
use super::*;

#[path = "generate.rs"]
mod generate;

#[path = "describe.rs"]
mod describe;

mod capacity;
mod merging;

fn limits(instance_type: &str) -> &'static InstanceLimits {
    lookup(instance_type).unwrap_or_else(|| panic!("{instance_type} is in the table"))
}

#[test]
fn the_table_is_what_the_csv_says() {
    let fresh = generate::table(include_str!("../data/instance-limits.csv")).expect("the shipped CSV is well formed");
    assert_eq!(fresh, include_str!("table.rs"), "run `make limits` and commit src/table.rs");
}

#[test]
fn every_type_of_the_csv_is_found_and_sorted() {
    let names: Vec<&str> = all().map(|(name, _)| name).collect();
    assert_eq!(names.len(), include_str!("../data/instance-limits.csv").lines().count() - 1);
    assert!(names.is_sorted());
    assert!(names.iter().all(|name| lookup(name).is_some()));
}

#[test]
fn rows_are_usable() {
    for (name, limits) in all() {
        assert!(!limits.cards.is_empty(), "{name}");
        assert!(limits.card(limits.default_card).is_some_and(|card| card.max_enis > 0), "{name}");
        assert!(limits.ipv4_per_eni >= 1, "{name}");
    }
}

#[test]
fn an_unknown_type_is_none() {
    for name in ["", "m5", "m5.larg", "m5.largee", "zz9.large", "M5.LARGE"] {
        assert_eq!(lookup(name), None, "{name}");
    }
}

/// Max pods of <https://github.com/awslabs/amazon-eks-ami> `eni-max-pods.txt`: ENIs, slots, max pods.
#[test]
fn max_pods_are_those_of_the_eks_ami() {
    for (name, enis, slots, pods) in [
        ("t3.small", 3, 4, 11),
        ("m5.large", 3, 10, 29),
        ("m4.4xlarge", 8, 30, 234),
        ("m5.24xlarge", 15, 50, 737),
        ("t3.nano", 2, 2, 4),
        ("p4d.24xlarge", 15, 50, 737),
    ] {
        let limits = limits(name);
        assert_eq!(limits.max_enis_on_default_card(), enis, "{name}");
        assert_eq!(u32::from(limits.ipv4_per_eni), slots, "{name}");
        assert_eq!(max_pods_secondary_ips(limits), pods, "{name}");
    }
}

/// <https://docs.aws.amazon.com/eks/latest/userguide/cni-increase-ip-addresses.html>: 110 below 30 vCPUs, else 250.
#[test]
fn prefix_mode_is_capped_at_the_recommendation() {
    for (name, pods) in [
        ("m5.large", Some(110)),
        ("t3.nano", Some(2 * 16 + 2)),
        ("m5.8xlarge", Some(250)),
        ("m4.4xlarge", None), // Xen takes no prefixes
    ] {
        assert_eq!(max_pods_prefixes(limits(name)), pods, "{name}");
    }
}

#[test]
fn a_type_with_several_cards_has_the_sum_and_each_card() {
    let limits = limits("p4d.24xlarge");
    assert_eq!(limits.max_enis(), 60);
    assert_eq!(limits.cards.iter().map(|card| card.max_enis).collect::<Vec<_>>(), [15, 15, 15, 15]);
    assert_eq!(limits.card(3).map(|card| card.max_enis), Some(15));
    assert_eq!(limits.card(4), None);
}

#[test]
fn trunking_has_three_values() {
    assert_eq!(limits("m5.large").trunking, Trunking::Supported { branch_enis: 9 });
    assert_eq!(limits("t3.small").trunking, Trunking::Unsupported);
    assert!(all().any(|(_, limits)| limits.trunking == Trunking::Unknown));
}

#[test]
fn a_malformed_csv_is_refused_with_its_line_and_column() {
    let header = include_str!("../data/instance-limits.csv").lines().next().expect("a header");
    for (row, complaint) in [
        ("x.large,3,10", "line 2: 3 columns, expected 13"),
        ("x.large,three,10,10,1,0:3,0,nitro,false,true,9,2,C", "line 2: max_enis `three`"),
        ("x.large,4,10,10,1,0:3,0,nitro,false,true,9,2,C", "with 4 ENIs in all"),
        ("x.large,3,10,10,1,0:3,0,kvm,false,true,9,2,C", "hypervisor `kvm`"),
        ("x.large,3,10,10,1,0=3,0,nitro,false,true,9,2,C", "is not index:max"),
    ] {
        let error = generate::table(&format!("{header}\n{row}\n")).expect_err(row);
        assert!(error.contains(complaint), "{error}");
    }
    assert!(generate::table("name\n").is_err());
}
