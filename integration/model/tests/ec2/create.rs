// SPDX-License-Identifier: Apache-2.0
//! CreateNetworkInterface and DeleteNetworkInterface.

use crate::common::{World, all, one};

/// EC2 API reference, CreateNetworkInterface: the answer holds the ENI, pending, with its addresses; the default group is
/// used when none is named.
#[test]
fn a_new_eni_is_pending_and_holds_what_was_asked_for() {
    let mut world = World::new();
    let subnet = world.subnet("a");
    let body = world.ok(
        "CreateNetworkInterface",
        &[("SubnetId", subnet.as_str()), ("SecondaryPrivateIpAddressCount", "9"), ("Description", "aws-K8S-i-1")],
    );
    assert_eq!(one(&body, "status"), "pending");
    assert_eq!(one(&body, "description"), "aws-K8S-i-1");
    assert_eq!(all(&one(&body, "privateIpAddressesSet"), "item").len(), 10);
    assert_eq!(all(&body, "groupName"), ["default"]);
    assert_eq!(all(&body, "attachment"), Vec::<String>::new());
    let address = one(&body, "privateIpAddress");
    assert_eq!(one(&body, "privateDnsName"), format!("ip-{}.ec2.internal", address.replace('.', "-")));
    assert_eq!(world.free("a"), 251 - 2 - 10);
    let id = one(&body, "networkInterfaceId");
    let seen = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", &id)]);
    assert_eq!(one(&seen, "status"), "available");
}

#[test]
fn a_refused_create_takes_no_address() {
    let mut world = World::new();
    let subnet = world.subnet("tiny");
    let before = world.free("tiny");
    assert_eq!(before, 11, "VPC user guide: a /28 has 11 usable addresses");
    let (code, _) = world
        .refused("CreateNetworkInterface", &[("SubnetId", subnet.as_str()), ("SecondaryPrivateIpAddressCount", "11")]);
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    assert_eq!(world.free("tiny"), before);
    world.create("tiny", &[("SecondaryPrivateIpAddressCount", "10")]);
    assert_eq!(world.free("tiny"), 0);
}

/// EC2 developer guide, "Ensuring idempotency".
#[test]
fn the_same_client_token_makes_one_eni_and_others_parameters_are_refused() {
    let mut world = World::new();
    let first = world.create("a", &[("ClientToken", "t-1"), ("SecondaryPrivateIpAddressCount", "2")]);
    let again = world.create("a", &[("ClientToken", "t-1"), ("SecondaryPrivateIpAddressCount", "2")]);
    assert_eq!(first, again);
    let subnet = world.subnet("a");
    let params = [("SubnetId", subnet.as_str()), ("ClientToken", "t-1"), ("SecondaryPrivateIpAddressCount", "3")];
    assert_eq!(world.refused("CreateNetworkInterface", &params).0, "IdempotentParameterMismatch");
    assert_ne!(
        world.create("a", &[("ClientToken", "T-1"), ("SecondaryPrivateIpAddressCount", "2")]),
        first,
        "case-sensitive"
    );
}

#[test]
fn a_client_token_of_a_refused_create_can_be_used_again() {
    let mut world = World::new();
    let subnet = world.subnet("tiny");
    let params = [("SubnetId", subnet.as_str()), ("ClientToken", "t"), ("SecondaryPrivateIpAddressCount", "11")];
    world.refused("CreateNetworkInterface", &params);
    world.create("tiny", &[("ClientToken", "t")]);
}

/// EC2 user guide, "Prefix delegation"; VPC user guide, "Subnet sizing": a /26 has four /28s, of which the first holds
/// reserved addresses and the last the broadcast address.
#[test]
fn prefixes_are_aligned_and_run_out_before_addresses_do() {
    let mut world = World::new();
    let subnet = world.subnet("quarter");
    let body = world.ok(
        "CreateNetworkInterface",
        &[("SubnetId", subnet.as_str()), ("PrivateIpAddress", "10.0.4.4"), ("Ipv4PrefixCount", "2")],
    );
    let mut prefixes = all(&body, "ipv4Prefix");
    prefixes.sort();
    assert_eq!(prefixes, ["10.0.4.16/28", "10.0.4.32/28"]);
    assert_eq!(world.free("quarter"), 59 - 1 - 32);
    let (code, _) = world.refused("CreateNetworkInterface", &[("SubnetId", subnet.as_str()), ("Ipv4PrefixCount", "1")]);
    assert_eq!(code, "InsufficientCidrBlocks", "26 addresses are free, but no /28");
    let (code, text) =
        world.refused("CreateNetworkInterface", &[("SubnetId", subnet.as_str()), ("Ipv4PrefixCount", "2")]);
    assert_eq!(code, "InvalidParameterValue", "fewer than 32 addresses are free");
    assert_eq!(text, "There aren't sufficient free Ipv4 addresses or prefixes");
}

#[test]
fn a_named_prefix_is_never_given_an_address_of() {
    let mut world = World::new();
    let eni = world.create("quarter", &[("Ipv4Prefix.1.Ipv4Prefix", "10.0.4.16/28")]);
    let eni = world.vpc.eni(&eni).unwrap();
    assert!(!eni.prefixes[0].contains(&eni.primary.unwrap()));
}

#[test]
fn a_deleted_eni_is_gone_and_its_addresses_are_free() {
    let mut world = World::new();
    let before = world.free("a");
    let eni = world.create("a", &[("SecondaryPrivateIpAddressCount", "4")]);
    world.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]);
    assert_eq!(world.free("a"), before);
    let (code, text) = world.refused("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(text, format!("The networkInterface ID '{eni}' does not exist"));
}
