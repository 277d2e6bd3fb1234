// SPDX-License-Identifier: Apache-2.0
//! Subnet CIDR reservations, and prefixes where there are none left.

use std::time::Duration;

use ipnet::Ipv4Net;

use crate::common::{World, all, one};

fn reserve(world: &mut World, subnet: &str, cidr: &str, kind: &str) -> String {
    let subnet = world.subnet(subnet);
    let params = [("SubnetId", subnet.as_str()), ("Cidr", cidr), ("ReservationType", kind)];
    one(&world.ok("CreateSubnetCidrReservation", &params), "subnetCidrReservationId")
}

fn prefixes_of(body: &str) -> Vec<Ipv4Net> {
    all(body, "ipv4Prefix").iter().map(|text| text.parse().unwrap()).collect()
}

/// VPC user guide, "Subnet CIDR reservations".
#[test]
fn prefixes_are_taken_from_their_reservation_first_and_single_addresses_never() {
    let mut world = World::new();
    let reserved: Ipv4Net = "10.0.1.64/26".parse().unwrap();
    reserve(&mut world, "a", "10.0.1.64/26", "prefix");
    let (large, free) = (world.primary("large"), world.free("a"));
    let id = ("NetworkInterfaceId", large.as_str());
    let body = world.ok("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "4")]);
    assert!(prefixes_of(&body).iter().all(|prefix| reserved.contains(prefix)), "{body}");
    let body = world.ok("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "1")]);
    assert!(!reserved.contains(&prefixes_of(&body)[0]), "the reservation is used up: {body}");
    assert_eq!(world.free("a"), free - 80);
    let eni = world.create("a", &[("SecondaryPrivateIpAddressCount", "28")]);
    assert!(world.secondaries(&eni).iter().all(|address| !reserved.contains(address)));
}

#[test]
fn what_is_reserved_for_explicit_requests_is_given_only_to_them() {
    let mut world = World::new();
    reserve(&mut world, "quarter", "10.0.4.16/28", "explicit");
    let subnet = world.subnet("quarter");
    let count = [("SubnetId", subnet.as_str()), ("PrivateIpAddress", "10.0.4.4"), ("Ipv4PrefixCount", "2")];
    assert_eq!(world.refused("CreateNetworkInterface", &count).0, "InsufficientCidrBlocks");
    let single = [("SubnetId", subnet.as_str()), ("SecondaryPrivateIpAddressCount", "43")];
    assert_eq!(world.refused("CreateNetworkInterface", &single).0, "InsufficientFreeAddressesInSubnet", "43 are left");
    world.create("quarter", &[("PrivateIpAddress", "10.0.4.20")]);
    world.create("quarter", &[("SecondaryPrivateIpAddressCount", "42")]);
    assert_eq!(world.free("quarter"), 15, "all of them reserved");
}

#[test]
fn a_reservation_takes_nothing_from_those_who_have_it_and_its_end_gives_it_back() {
    let mut world = World::new();
    let eni = world.create("quarter", &[("PrivateIpAddress", "10.0.4.20")]);
    let id = reserve(&mut world, "quarter", "10.0.4.16/28", "prefix");
    assert_eq!(world.vpc.eni(&eni).unwrap().primary, Some("10.0.4.20".parse().unwrap()));
    let two = world.create("quarter", &[("PrivateIpAddress", "10.0.4.4"), ("Ipv4PrefixCount", "1")]);
    assert_eq!(world.vpc.eni(&two).unwrap().prefixes, ["10.0.4.32/28".parse::<Ipv4Net>().unwrap()]);
    let body = world.ok("DeleteSubnetCidrReservation", &[("SubnetCidrReservationId", &id)]);
    assert_eq!(one(&one(&body, "deletedSubnetCidrReservation"), "cidr"), "10.0.4.16/28");
    world.create("quarter", &[("SecondaryPrivateIpAddressCount", "40")]);
    let code = world.refused("DeleteSubnetCidrReservation", &[("SubnetCidrReservationId", &id)]).0;
    assert_eq!(code, "InvalidSubnetCidrReservationID.NotFound");
}

#[test]
fn reservations_lie_inside_their_subnet_and_do_not_overlap() {
    let mut world = World::new();
    let id = reserve(&mut world, "a", "10.0.1.64/27", "prefix");
    let subnet = world.subnet("a");
    for (cidr, kind) in [
        ("10.0.1.64/26", "explicit"),
        ("10.0.1.80/28", "prefix"),
        ("10.0.0.0/23", "explicit"),
        ("10.0.2.0/28", "explicit"),
        ("10.0.1.65/28", "prefix"),
        ("10.0.1.128/29", "prefix"),
        ("10.0.1.128/28", "both"),
    ] {
        let params = [("SubnetId", subnet.as_str()), ("Cidr", cidr), ("ReservationType", kind)];
        world.pass(Duration::from_secs(1));
        assert_eq!(world.refused("CreateSubnetCidrReservation", &params).0, "InvalidParameterValue", "{cidr} {kind}");
    }
    world.pass(Duration::from_secs(10));
    reserve(&mut world, "a", "10.0.1.128/29", "explicit");
    let body = world.ok("GetSubnetCidrReservations", &[("SubnetId", subnet.as_str())]);
    assert_eq!(all(&one(&body, "subnetIpv4CidrReservationSet"), "item").len(), 2);
    let filter = [("SubnetId", subnet.as_str()), ("Filter.1.Name", "reservationType"), ("Filter.1.Value.1", "prefix")];
    let body = world.ok("GetSubnetCidrReservations", &filter);
    assert_eq!(all(&body, "subnetCidrReservationId"), [id]);
    // EC2 developer guide, "Request throttling": 5 at once, 1 a second.
    let params = [("SubnetId", subnet.as_str())];
    let codes: Vec<String> = (0..6).map(|_| world.refused("CreateSubnetCidrReservation", &params).0).collect();
    assert_eq!(codes.last().map(String::as_str), Some("RequestLimitExceeded"));
}

#[test]
fn a_topology_can_have_reservations_and_a_wrong_one_is_refused() {
    for (cidr, fits) in [("10.0.0.16/28", true), ("10.0.1.16/28", false)] {
        let config = serde_json::json!({
            "vpcs": [{"name": "v", "cidr_blocks": ["10.0.0.0/16"]}],
            "subnets": [{"name": "a", "vpc": "v", "cidr_block": "10.0.0.0/24",
                         "cidr_reservations": [{"cidr": cidr, "reservation_type": "prefix"}]}],
        });
        let made = vpc_model::Vpc::new(serde_json::from_value(config).unwrap(), 1);
        assert_eq!(made.as_ref().is_ok_and(|vpc| vpc.subnet_named("a").unwrap().reservations().len() == 1), fits);
    }
}

/// Issue reports of the reference (amazon-vpc-cni-k8s #1836, #3105): too few whole /28s, and too few addresses in all.
#[test]
fn prefixes_are_refused_in_two_forms_and_none_is_given_then() {
    let mut world = World::new();
    // One address in the middle of thirteen of the fourteen /28s that a /24 can give.
    for number in 1..14 {
        world.create("other-zone", &[("PrivateIpAddress", &format!("10.0.3.{}", number * 16 + 8))]);
    }
    let eni = world.create("other-zone", &[("PrivateIpAddress", "10.0.3.4")]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let free = world.free("other-zone");
    let (code, text) = world.refused("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "2")]);
    assert_eq!(code, "InsufficientCidrBlocks");
    assert_eq!(text, "The specified subnet does not have enough free cidr blocks to satisfy the request.");
    assert_eq!(world.free("other-zone"), free, "all or nothing");
    world.ok("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "1")]);
    let (code, text) = world.refused("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "14")]);
    assert_eq!(code, "InvalidParameterValue", "{} addresses are free, 224 are wanted", world.free("other-zone"));
    assert_eq!(text, "There aren't sufficient free Ipv4 addresses or prefixes");
    world.ok("AssignPrivateIpAddresses", &[id, ("SecondaryPrivateIpAddressCount", "100")]);
}
