// SPDX-License-Identifier: Apache-2.0
//! systemd-udevd with the policy of distributions (`MACAddressPolicy=persistent`): it gives an address of its own to virtual
//! links whose MAC address nobody set. A pod's host end keeps its own, which the pod has as a permanent neighbour.

use integration::pods;
use integration::topology::{Topology, TopologySpec};
use serde_json::Value;

use crate::programs::{Distribution, Setup};

const LINK_FILE: &str = include_str!("../../../../deploy/systemd-networkd/10-enid.link");
/// A veth as anybody makes it, under a name that Enid's could have.
const CONTROL: &str = "eni0control";

fn start(topology: &Topology) -> Distribution {
    // Of which, and of the link's name, udev makes the address.
    let files = [("machine-id", "0123456789abcdef0123456789abcdef\n".to_owned())];
    let program = "/usr/lib/systemd/systemd-udevd";
    let setup = Setup { name: "udev", with_udev: true, files: &files, program, ready: "udevadm control --ping" };
    Distribution::start(topology, &setup)
}

/// A link's MAC address and how it came to it (NET_ADDR_* in include/uapi/linux/netdevice.h), when udev is through with it; and
/// the file that udev went by.
fn seen(udev: &Distribution, link: &str) -> (String, String, String) {
    udev.run("udevadm settle");
    let attribute = |name: &str| udev.run(&format!("cat /sys/class/net/{link}/{name}")).trim().to_owned();
    let property = "ID_NET_LINK_FILE";
    let file = udev.run(&format!("udevadm info --query=property --property={property} --value /sys/class/net/{link}"));
    (attribute("address"), attribute("addr_assign_type"), file.trim().to_owned())
}

fn control(topology: &Topology, udev: &Distribution) -> (String, String, String) {
    topology.node("n1").ip(&format!("link add {CONTROL} type veth peer name other\n")).unwrap();
    let found = seen(udev, CONTROL);
    topology.node("n1").ip(&format!("link del {CONTROL}\n")).unwrap();
    found
}

#[test]
fn udev_gives_no_pod_s_link_another_mac() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let udev = start(&topology);
    // It does to others what it is known for: an address that is the same each time the link is made.
    let (first, how, file) = control(&topology, &udev);
    assert_eq!((how.as_str(), file.as_str()), ("3", "/usr/lib/systemd/network/99-default.link"));
    assert_eq!(control(&topology, &udev).0, first);

    let n1 = topology.node("n1");
    let pod = pods::start(n1, 1, 1, &std::sync::atomic::AtomicUsize::new(0)).unwrap().remove(0);
    let (address, how, file) = seen(&udev, &pod.added.host_veth);
    assert_eq!((how.as_str(), file.as_str()), ("3", "/usr/lib/systemd/network/99-default.link"));
    let neighbours = ["neighbour", "show", "nud", "permanent"];
    let neighbours = topology.world.tools.ip_json(&pod.sandbox.netns, &neighbours).unwrap();
    assert_eq!(neighbours[0]["lladdr"], Value::from(address), "{neighbours}");
    pod.reached_from(&n1.netns).unwrap();
    assert_eq!(n1.status().unwrap()["repair"]["repaired"], Value::Array(Vec::new()));

    // With our file it leaves even those alone that have a chance address.
    udev.install("systemd/network/10-enid.link", LINK_FILE);
    udev.run("udevadm control --reload");
    let (_, how, file) = control(&topology, &udev);
    assert_eq!((how.as_str(), file.as_str()), ("1", "/etc/systemd/network/10-enid.link"));
}
