// SPDX-License-Identifier: Apache-2.0
//! An uninstall under living pods: what they send and get before and after, and what is left when they are gone.

use super::packets::{Net, Way, exchange};
use crate::apply::pod::{attach, detach};
use crate::apply::testbed::{Space, settle};
use crate::apply::{observe, uninstall};
use crate::plan::pod::{PodAttachment, PodDetachment};

fn of(pod: &PodAttachment) -> PodDetachment {
    PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() }
}

fn goes_on(way: Way) {
    let net = Net::plumbed_by("1", way);
    net.node.ip("rule add priority 1024 fwmark 0x1 lookup 99");
    let (living, dead) = (Space::new(), Space::new());
    let (pod, gone) = (way.on_secondary("s"), way.on_primary("p"));
    attach(&living.path(), &pod).unwrap();
    attach(&dead.path(), &gone).unwrap();
    settle(&living);
    let (router, internet) = (net.router.udp("10.0.0.1:7004"), net.internet.udp("198.51.100.9:7005"));
    let open = living.udp("0.0.0.0:7001");
    let talk = |socket: &std::net::UdpSocket| {
        let seen = [(&router, "10.0.0.1:7004"), (&internet, "198.51.100.9:7005")]
            .map(|(far, address)| exchange(socket, far, address).map(|seen| seen.to_string()));
        seen.map(|seen| seen.unwrap_or_else(|error| format!("{way:?}: {error}")))
    };
    let before = talk(&open);
    assert!(before[0].starts_with("10.0.1.7:") && before[1].starts_with("10.0.0.10:"), "{before:?}");
    detach(&of(&gone)).unwrap();

    let kept = uninstall::remove(uninstall::Counted::Dependent).unwrap();
    assert_eq!(talk(&open), before, "what was open goes on, from the same port too");
    let after = talk(&living.udp("0.0.0.0:7008"));
    assert!(after[0].starts_with("10.0.1.7:") && after[1].starts_with("10.0.0.10:"), "{after:?}");
    assert_eq!(exchange(&router, &open, "10.0.1.7:7001").unwrap().to_string(), "10.0.0.1:7004", "into the pod");
    assert_eq!(
        kept.pods.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("aws-cni/s-sandbox/eth0 10.0.1.7 ({})", pod.host_veth)]
    );
    let ours = observe::kernel("eni").unwrap().ours;
    assert!(ours.has_nft_table && kept.objects.contains(&"nft table ip enid".to_owned()), "{kept:?}");
    // The nft table, and the ENI's link group.
    let left = ours.rules.len() + ours.routes.len() + ours.addresses.len() + ours.neighbours.len() + 2;
    let group = || net.node.ip_json("link show eth1")[0]["group"].as_str().map(str::to_owned);
    assert_eq!(group().as_deref(), Some("58001"));
    assert_eq!(left, kept.objects.len(), "all that is left is told: {ours:?}, {kept:?}");
    assert_eq!(uninstall::remove(uninstall::Counted::Dependent).unwrap(), kept, "again");

    detach(&of(&pod)).unwrap();
    assert_eq!(uninstall::remove(uninstall::Counted::Dependent).unwrap(), uninstall::Kept::default());
    assert!(observe::kernel("eni").unwrap().ours.is_empty());
    assert!(net.node.ip("rule").contains("fwmark 0x1 lookup 99"));
    net.node.ip("rule del fwmark 0x1 lookup 99");
    assert_eq!(net.node.ip("rule").lines().count(), 3);
    assert!(!net.node.ip("addr show dev eth1").contains("10.0.1.20"));
    assert_eq!(group().as_deref(), Some("default"));
}

#[test]
fn living_pods_go_on_as_before_in_either_layout_and_nothing_is_left_once_they_are_gone() {
    for way in [Way::Classic, Way::Mark, Way::Prefix] {
        std::thread::scope(|scope| scope.spawn(|| goes_on(way)).join().unwrap());
    }
}

#[test]
fn enis_that_no_living_pod_is_on_go() {
    for way in [Way::Classic, Way::Mark] {
        let alone = || {
            let net = Net::plumbed_by("0", way);
            let sandbox = Space::new();
            attach(&sandbox.path(), &way.on_primary("p")).unwrap();
            settle(&sandbox);
            uninstall::remove(uninstall::Counted::Dependent).unwrap();
            let ours = observe::kernel("eni").unwrap().ours;
            assert_eq!((ours.addresses.len(), ours.routes.len()), (0, 1), "{ours:?}");
            assert!(!net.node.ip("addr show dev eth1").contains("10.0.1.20"));
            let (pod, internet) = (sandbox.udp("0.0.0.0:7001"), net.internet.udp("198.51.100.9:7005"));
            assert_eq!(exchange(&pod, &internet, "198.51.100.9:7005").unwrap().ip().to_string(), "10.0.0.10");
        };
        std::thread::scope(|scope| scope.spawn(alone).join().unwrap());
    }
}
