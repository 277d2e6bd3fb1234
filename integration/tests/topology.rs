// SPDX-License-Identifier: Apache-2.0
//! Emulator and fabric together, without a daemon: what EC2 answers is what packets do.

use std::time::Duration;

use integration::eventually::eventually;
use integration::fabric::DropReason;
use integration::node::RpFilter;
use integration::probe::{EchoServer, Protocol, ask, ask_from};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The text between the first `<name>` and `</name>`.
fn field(xml: &str, name: &str) -> String {
    let after = xml.split(&format!("<{name}>")).nth(1);
    after.and_then(|rest| rest.split(&format!("</{name}>")).next()).unwrap_or_default().to_owned()
}

/// The router's link to an ENI: `v` and the last 13 digits of its id.
fn router_link(eni: &str) -> String {
    format!("v{}", &eni[eni.len() - 13..])
}

#[test]
fn an_eni_that_is_attached_by_the_api_appears_in_the_guest_with_its_mac_and_carries_its_addresses() {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    spec.nodes[1].rp_filter = RpFilter::Off;
    let topology = Topology::build(&spec).unwrap();
    let (n1, n2) = (topology.node("n1"), topology.node("n2"));

    let subnet = field(
        &topology
            .emulator
            .ec2("DescribeSubnets", &[("Filter.1.Name", "cidr-block"), ("Filter.1.Value.1", "10.0.2.0/23")])
            .body,
        "subnetId",
    );
    let created = topology
        .emulator
        .ec2("CreateNetworkInterface", &[("SubnetId", &subnet), ("SecondaryPrivateIpAddressCount", "2")]);
    assert_eq!(created.status, 200, "{}", created.body);
    let (eni, mac) = (field(&created.body, "networkInterfaceId"), field(&created.body, "macAddress"));
    let instance = topology.instance("n2").unwrap().id;
    let attached = topology.emulator.ec2(
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", &eni), ("InstanceId", &instance), ("DeviceIndex", "1")],
    );
    assert_eq!(attached.status, 200, "{}", attached.body);

    let link = eventually("the link appears", Duration::from_secs(3), || {
        let links = topology.world.tools.ip_json(&n2.netns, &["link", "show", "dev", "ens5"]);
        links.map_err(|error| error.to_string())
    });
    let link = link.unwrap();
    assert_eq!(link[0]["address"], mac.as_str());
    assert_eq!((&link[0]["operstate"], &link[0]["mtu"]), (&"DOWN".into(), &1500.into()));

    let facts = topology.enis("n2").unwrap().remove(1);
    let pod: Ipv4Addr = facts.secondary[0];
    n2.ip(&format!("link set ens5 up\naddress add {pod}/32 dev lo\n")).unwrap();
    // The kernel drops what is sent in the moment before both ends have noticed the carrier.
    for (netns, link) in [(&n2.netns, "ens5".to_owned()), (topology.fabric.router(), router_link(&eni))] {
        let carrier = eventually("the carrier is noticed", Duration::from_secs(3), || {
            let links = topology.world.tools.ip_json(netns, &["link", "show", "dev", &link]);
            let state = links.map_err(|error| error.to_string())?[0]["operstate"].to_string();
            if state == "\"UP\"" { Ok(()) } else { Err(state) }
        });
        carrier.unwrap();
    }
    let server = EchoServer::start_at(&n2.netns, pod).unwrap();
    let from = topology.instance("n1").unwrap().address;
    // It arrives; the answer leaves by the primary ENI, as nobody has set up routes for the second one, and dies.
    ask(&n1.netns, Protocol::Udp, SocketAddrV4::new(pod, server.port())).unwrap_err();
    assert_eq!(topology.fabric.drops().unwrap().of(DropReason::WrongSource, pod), 1);

    n2.ip(&format!(
        "rule add from {pod} lookup 2\nroute add 10.0.2.1 dev ens5 scope link table 2\nroute add default via 10.0.2.1 dev ens5 table 2\n"
    ))
    .unwrap();
    let seen = ask_from(&n1.netns, from, Protocol::Udp, SocketAddrV4::new(pod, server.port())).unwrap();
    assert_eq!(*seen.ip(), from);

    let unassigned = topology
        .emulator
        .ec2("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", &eni), ("PrivateIpAddress.1", &pod.to_string())]);
    assert_eq!(unassigned.status, 200, "{}", unassigned.body);
    ask(&n1.netns, Protocol::Udp, SocketAddrV4::new(pod, server.port())).unwrap_err();
    assert_eq!(topology.fabric.drops().unwrap().of(DropReason::NoDestination, pod), 1);
}
