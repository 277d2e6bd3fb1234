// SPDX-License-Identifier: Apache-2.0
//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use std::net::Ipv4Addr;

use vpc_model::{Assigned, FabricEvent};

use crate::common::{World, all, one};

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// EC2 user guide, "IP addresses per network interface per instance type": m5.large has 10 IPv4 addresses per interface,
/// m4.4xlarge 30.
#[test]
fn an_eni_holds_as_many_addresses_as_its_instance_type_says() {
    for (instance, secondaries) in [("large", 9), ("xen", 29)] {
        let mut world = World::new();
        let eni = world.primary(instance);
        let id = ("NetworkInterfaceId", eni.as_str());
        let more = (secondaries + 1).to_string();
        let (code, text) = world.refused("AssignPrivateIpAddresses", &[id, ("SecondaryPrivateIpAddressCount", &more)]);
        assert_eq!(code, "PrivateIpAddressLimitExceeded", "{instance}");
        assert_eq!(text, "Number of private addresses will exceed limit.");
        assert_eq!(world.secondaries(&eni).len(), 0, "all or nothing");
        let body =
            world.ok("AssignPrivateIpAddresses", &[id, ("SecondaryPrivateIpAddressCount", &secondaries.to_string())]);
        assert_eq!(all(&one(&body, "assignedPrivateIpAddressesSet"), "item").len(), secondaries);
        assert_eq!(world.refused("AssignPrivateIpAddresses", &[id, ("SecondaryPrivateIpAddressCount", "1")]).0, code);
    }
}

/// EC2 API reference, AssignPrivateIpAddresses: the answer names what this call added.
#[test]
fn the_answer_names_only_the_new_addresses() {
    let mut world = World::new();
    let eni = world.primary("large");
    let id = ("NetworkInterfaceId", eni.as_str());
    world.ok("AssignPrivateIpAddresses", &[id, ("PrivateIpAddress.1", "10.0.1.20")]);
    let body = world.ok("AssignPrivateIpAddresses", &[id, ("PrivateIpAddress.1", "10.0.1.21")]);
    assert_eq!(all(&body, "privateIpAddress"), ["10.0.1.21"]);
}

/// Texts: logs of the real service in public issue reports.
#[test]
fn named_addresses_are_checked() {
    let mut world = World::new();
    let eni = world.primary("large");
    let id = ("NetworkInterfaceId", eni.as_str());
    for (address, text) in [
        ("10.0.1.11", "[10.0.1.11] assigned, but move is not allowed."),
        ("10.0.2.7", "Address 10.0.2.7 does not fall within the subnet's address range"),
        ("10.0.1.2", "Address 10.0.1.2 is in subnet's reserved address range"),
    ] {
        let good = ("PrivateIpAddress.1", "10.0.1.50");
        let params = [id, good, ("PrivateIpAddress.2", address)];
        let (code, got) = world.refused("AssignPrivateIpAddresses", &params);
        assert_eq!((code.as_str(), got.as_str()), ("InvalidParameterValue", text));
    }
    assert_eq!(world.secondaries(&eni).len(), 0, "all or nothing");
    let both = [id, ("PrivateIpAddress.1", "10.0.1.50"), ("Ipv4PrefixCount", "1")];
    assert_eq!(world.refused("AssignPrivateIpAddresses", &both).0, "InvalidParameterCombination");
    assert_eq!(world.refused("AssignPrivateIpAddresses", &[id]).0, "MissingParameter");
}

/// EC2 user guide, "Multiple IP addresses": a secondary address can be moved with AllowReassignment.
#[test]
fn a_secondary_address_moves_when_it_may_and_a_primary_one_never() {
    let mut world = World::new();
    let (large, xen) = (world.primary("large"), world.primary("xen"));
    world
        .ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", large.as_str()), ("PrivateIpAddress.1", "10.0.1.30")]);
    world.vpc.advance(world.now);
    let to = ("NetworkInterfaceId", xen.as_str());
    let free = world.free("a");
    world.ok("AssignPrivateIpAddresses", &[to, ("PrivateIpAddress.1", "10.0.1.30"), ("AllowReassignment", "true")]);
    assert_eq!(world.secondaries(&large), Vec::<Ipv4Addr>::new());
    assert_eq!(world.secondaries(&xen), [ip("10.0.1.30")]);
    assert_eq!(world.free("a"), free);
    let address = Assigned::Address(ip("10.0.1.30"));
    assert_eq!(
        world.vpc.advance(world.now),
        [
            FabricEvent::AddressUnassigned { eni: large.clone(), address },
            FabricEvent::AddressAssigned { eni: xen.clone(), address },
        ]
    );
    let primary = [to, ("PrivateIpAddress.1", "10.0.1.10"), ("AllowReassignment", "true")];
    assert_eq!(world.refused("AssignPrivateIpAddresses", &primary).0, "InvalidParameterValue");
}

#[test]
fn an_address_moved_behind_the_back_is_really_moved_and_can_come_back() {
    let mut world = World::new();
    let (large, xen) = (world.primary("large"), world.primary("xen"));
    world
        .ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", large.as_str()), ("PrivateIpAddress.1", "10.0.1.30")]);
    let (free, now) = (world.free("a"), world.now);
    world.vpc.move_address_behind_back(&large, &xen, ip("10.0.1.30"), now).unwrap();
    assert_eq!((world.secondaries(&large).len(), world.secondaries(&xen).len()), (0, 1));
    assert!(world.vpc.move_address_behind_back(&large, &xen, ip("10.0.1.30"), now).is_err());
    world.vpc.move_address_behind_back(&xen, &large, ip("10.0.1.30"), now).unwrap();
    assert_eq!(world.secondaries(&large), [ip("10.0.1.30")]);
    assert_eq!(world.free("a"), free);
    let primary = world.vpc.move_address_behind_back(&large, &xen, ip("10.0.1.10"), now);
    assert!(primary.is_err(), "the primary address never changes");
}

#[test]
fn what_is_not_assigned_cannot_be_unassigned_and_the_primary_address_neither() {
    let mut world = World::new();
    let eni = world.primary("large");
    let id = ("NetworkInterfaceId", eni.as_str());
    world.ok("AssignPrivateIpAddresses", &[id, ("PrivateIpAddress.1", "10.0.1.30")]);
    let params = [id, ("PrivateIpAddress.1", "10.0.1.30"), ("PrivateIpAddress.2", "10.0.1.31")];
    let (code, text) = world.refused("UnassignPrivateIpAddresses", &params);
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(text, format!("Some of the specified addresses are not assigned to interface {eni}"));
    assert_eq!(world.secondaries(&eni), [ip("10.0.1.30")], "all or nothing");
    assert_eq!(world.refused("UnassignPrivateIpAddresses", &[id, ("PrivateIpAddress.1", "10.0.1.10")]).0, code);
    world.ok("UnassignPrivateIpAddresses", &params[..2]);
    assert_eq!(world.secondaries(&eni), Vec::<Ipv4Addr>::new());
}

/// EC2 user guide, "Prefix delegation": Nitro only; each prefix takes one slot and sixteen addresses.
#[test]
fn prefixes_take_a_slot_each_and_need_nitro() {
    let mut world = World::new();
    let (large, xen) = (world.primary("large"), world.primary("xen"));
    let on_large = ("NetworkInterfaceId", large.as_str());
    let free = world.free("a");
    let body = world.ok("AssignPrivateIpAddresses", &[on_large, ("Ipv4PrefixCount", "9")]);
    assert_eq!(all(&one(&body, "assignedIpv4PrefixSet"), "ipv4Prefix").len(), 9);
    assert_eq!(world.free("a"), free - 9 * 16);
    let (code, _) = world.refused("AssignPrivateIpAddresses", &[on_large, ("SecondaryPrivateIpAddressCount", "1")]);
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
    let on_xen = ("NetworkInterfaceId", xen.as_str());
    assert_eq!(
        world.refused("AssignPrivateIpAddresses", &[on_xen, ("Ipv4PrefixCount", "1")]).0,
        "UnsupportedOperation"
    );
    let prefix = world.vpc.eni(&large).unwrap().prefixes[0].to_string();
    world.ok("UnassignPrivateIpAddresses", &[on_large, ("Ipv4Prefix.1", &prefix)]);
    assert_eq!(world.free("a"), free - 8 * 16);
    let inside = prefix.replace("/28", "");
    world.ok("AssignPrivateIpAddresses", &[on_xen, ("PrivateIpAddress.1", &inside)]);
    assert_eq!(
        world.refused("AssignPrivateIpAddresses", &[on_large, ("Ipv4Prefix.1", &prefix)]).0,
        "InvalidParameterValue"
    );
}

/// EC2 user guide, "Multiple IP addresses": assigning works whether the ENI is attached or not, and addresses stay with it.
#[test]
fn a_detached_eni_can_be_given_addresses_which_come_with_its_link() {
    let mut world = World::new();
    let eni = world.create("a", &[]);
    world.vpc.advance(world.now);
    world.ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", "10.0.1.40")]);
    assert_eq!(world.vpc.advance(world.now), [], "no link, nothing to do");
    world.attach(&eni, "large", 1);
    let events = world.vpc.advance(world.now);
    assert!(
        matches!(&events[..], [FabricEvent::EniAttached(attached)] if attached.secondary_addresses == [ip("10.0.1.40")]),
        "{events:?}"
    );
}
