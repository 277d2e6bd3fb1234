// SPDX-License-Identifier: Apache-2.0
//! Readers that see a part of the truth (reports: amazon-vpc-cni-k8s #1967, #3824, #3887).

use vpc_model::Hidden;

use crate::common::{World, all};

#[test]
fn what_is_hidden_from_describe_is_there_for_every_other_call_and_for_imds() {
    let mut world = World::new();
    let eni = world.create("a", &[("SecondaryPrivateIpAddressCount", "3")]);
    world.attach(&eni, "large", 1);
    world.pass(std::time::Duration::from_secs(1));
    let addresses = world.secondaries(&eni);
    let hidden = Hidden { addresses: addresses[..1].iter().copied().collect(), ..Hidden::default() };
    world.vpc.hide_from_describe(hidden);
    assert_eq!(world.secondaries(&eni), addresses[1..]);
    let mac = world.vpc.eni(&eni).unwrap().mac;
    let listed = world.meta("large", &format!("network/interfaces/macs/{mac}/local-ipv4s"));
    assert!(listed.contains(&addresses[0].to_string()), "{listed}");

    world.vpc.hide_from_describe(Hidden { enis: [eni.clone()].into(), ..Hidden::default() });
    let id = world.instance("large");
    let filter = [("Filter.1.Name", "attachment.instance-id"), ("Filter.1.Value.1", id.as_str())];
    let body = world.ok("DescribeNetworkInterfaces", &filter);
    assert_eq!(all(&body, "networkInterfaceId").len(), 1, "the primary ENI is left: {body}");
    let (code, _) = world.refused("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    let params = [("NetworkInterfaceId", eni.as_str()), ("SecondaryPrivateIpAddressCount", "1")];
    world.ok("AssignPrivateIpAddresses", &params);
    world.vpc.hide_from_describe(Hidden::default());
    assert_eq!(world.secondaries(&eni).len(), 4);
}

#[test]
fn imds_can_leave_out_parts_or_say_something_else_and_what_was_read_is_known() {
    let mut world = World::new();
    let eni = world.create("a", &[("Ipv4PrefixCount", "1")]);
    world.attach(&eni, "large", 1);
    world.pass(std::time::Duration::from_secs(1));
    let (mac, prefix) = {
        let eni = world.vpc.eni(&eni).unwrap();
        (eni.mac, eni.prefixes[0])
    };
    let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/ipv4-prefix");
    assert_eq!(world.imds("large", &path), (200, prefix.to_string()));
    world.vpc.hide_from_imds(Hidden { prefixes: [prefix].into(), ..Hidden::default() });
    assert_eq!(world.imds("large", &path).0, 404, "a list without entries is no path");
    world.vpc.hide_from_imds(Hidden { enis: [eni].into(), ..Hidden::default() });
    assert!(!world.meta("large", "network/interfaces/macs/").contains(&mac.to_string()));
    world.vpc.set_imds_text(&path, Some("10.0.1".to_owned()));
    assert_eq!(world.imds("large", &path), (200, "10.0.1".to_owned()));
    assert_eq!(world.vpc.imds_reads().filter(|read| **read == path).count(), 3);
}
