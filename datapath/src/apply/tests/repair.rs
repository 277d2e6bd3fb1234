// SPDX-License-Identifier: Apache-2.0
//! Passes of repair and the notifications that lead to them, in namespaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::apply::netlink::SENDS;
use crate::apply::pod::{attach, detach};
use crate::apply::repair::{Desired, Pass, pass};
use crate::apply::testbed::{Space, assert_same, pod};
use crate::apply::watch::{Changes, Watcher};
use crate::apply::{fault, garbage, observe};
use crate::plan::eni::EniSetup;
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodDetachment, PodLayout};
use crate::plan::pods::LivePod;
use crate::plan::repair::{Fault, Object};
use crate::plan::{MacAddr, answers, ids};

const ENI_MAC: &str = "02:00:0a:00:01:14";

/// A node with a secondary ENI and two pods, one on it.
struct Bed {
    node: Space,
    pods: Vec<(Space, PodAttachment)>,
    desired: Desired,
}

fn live(pod: &PodAttachment) -> LivePod {
    LivePod {
        owner: pod.owner.clone(),
        host_veth: Some(pod.host_veth.clone()),
        addresses: pod.addresses,
        eni_table: pod.eni_table,
        layout: pod.layout,
    }
}

impl Bed {
    fn build() -> Self {
        let node = Space::enter_new();
        node.ip(&format!("link add eth1 address {ENI_MAC} mtu 1500 type veth peer name far mtu 9001"));
        node.ip("link set far up");
        let pods = [("a", Ipv4Addr::new(10, 0, 1, 7), Some(2)), ("b", Ipv4Addr::new(10, 0, 0, 8), None)];
        let pods: Vec<_> =
            pods.into_iter().map(|(name, address, table)| (Space::new(), pod(name, address, table))).collect();
        for (space, pod) in &pods {
            attach(&space.path(), pod).unwrap();
        }
        let eni = EniSetup {
            mac: ENI_MAC.parse::<MacAddr>().unwrap(),
            place: Place::new(0, 1).unwrap(),
            primary_address: "10.0.1.20".parse().unwrap(),
            subnet: "10.0.1.0/24".parse().unwrap(),
            mtu: 9001,
            steering: None,
            answers: answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 1).unwrap()),
            ipv6: false,
        };
        let desired = Desired {
            host: None,
            enis: vec![eni],
            pods: pods.iter().map(|(_, pod)| live(pod)).collect(),
            spared: BTreeSet::from([Ipv4Addr::new(10, 0, 1, 20).into()]),
            sweep: BTreeSet::new(),
        };
        let bed = Self { node, pods, desired };
        bed.pass();
        bed
    }

    #[track_caller]
    fn pass(&self) -> Pass {
        let pass = pass(&self.desired).unwrap();
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        pass
    }

    /// Everything, in an order that does not tell which of two rules is the older.
    fn state(&self) -> String {
        let mut lines: Vec<_> = self.node.dump().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }

    /// Damage, one pass, everything as before; and a second pass finds nothing.
    #[track_caller]
    fn hurt(&self, commands: &[&str]) -> Vec<(Object, Fault)> {
        let before = self.state();
        for command in commands {
            self.node.ip(command);
        }
        let repaired = self.pass();
        let again = self.pass();
        assert!(again.repairs.is_empty() && again.swept.is_empty(), "{:?}", again.repairs);
        assert_same(&before, &self.state(), &commands.join("; "));
        repaired.repairs.iter().map(|repair| (repair.object, repair.fault)).collect()
    }
}

#[test]
fn a_node_that_is_right_is_not_written_to() {
    let bed = Bed::build();
    let mut watcher = Watcher::start().unwrap();
    let pass = bed.pass();
    assert_eq!((pass.repairs.len(), pass.swept.len(), pass.orphans.len()), (0, 0, 0));
    assert_eq!(watcher.wait_at_most(Duration::from_millis(50)).unwrap(), Changes::default());
}

#[test]
fn what_others_remove_from_pods_and_enis_comes_back() {
    let bed = Bed::build();
    let veth = bed.pods[0].1.host_veth.clone();
    let rule = (Object::Rule, Fault::Missing);
    let flushed =
        bed.hurt(&["rule flush", "rule add priority 32766 lookup main", "rule add priority 32767 lookup default"]);
    assert_eq!(flushed, [rule; 5], "the ENI's two, to and from of one pod, to of the other");
    assert_eq!(bed.hurt(&["route flush table 2"]), [(Object::Route, Fault::Missing); 2]);
    assert_eq!(bed.hurt(&["route flush table main"]), [(Object::Route, Fault::Missing); 2]);
    assert_eq!(bed.hurt(&[&format!("neigh flush dev {veth} nud permanent")]), [(Object::Neighbour, Fault::Missing)]);
    let down = [(Object::Link, Fault::Down), (Object::Route, Fault::Missing), (Object::Neighbour, Fault::Missing)];
    assert_eq!(bed.hurt(&[&format!("link set {veth} down")]), down);
    let mac = [(Object::Link, Fault::Changed), (Object::Neighbour, Fault::Missing)];
    assert_eq!(bed.hurt(&[&format!("link set {veth} address 02:11:22:33:44:55")]), mac);
    let bent = bed.hurt(&[&format!("route replace 10.0.1.7/32 dev {}", bed.pods[1].1.host_veth)]);
    assert_eq!(bent, [(Object::Route, Fault::Changed)]);
}

#[test]
fn an_eni_whose_link_was_down_or_whose_address_is_gone_works_again() {
    let bed = Bed::build();
    let address = bed.hurt(&["addr del 10.0.1.20/24 dev eth1"]);
    assert!(address.contains(&(Object::Address, Fault::Missing)), "{address:?}");
    let down = bed.hurt(&["link set eth1 down"]);
    assert_eq!(down, [(Object::Link, Fault::Down), (Object::Route, Fault::Missing), (Object::Route, Fault::Missing)]);
    let foreign = bed.hurt(&["addr add 10.0.1.99/24 dev eth1"]);
    assert!(foreign.contains(&(Object::Address, Fault::Stale)), "{foreign:?}");
    // A name is nothing that anything of ours hangs on.
    bed.node.ip("link set eth1 down");
    bed.node.ip("link set eth1 name ens6");
    bed.pass();
    assert!(bed.node.ip("-4 route show table 2").contains("default via 10.0.1.1 dev ens6 proto 158"));
}

#[test]
fn both_ends_of_a_pod_have_macs_that_were_set_on_purpose() {
    // NET_ADDR_SET (include/uapi/linux/netdevice.h): udev's MACAddressPolicy leaves such links alone.
    let bed = Bed::build();
    let (space, pod) = &bed.pods[0];
    let kind = |space: &Space, link: &str| {
        space.run(|| {
            #[expect(clippy::disallowed_methods, reason = "a test reads /sys")]
            let mount = std::process::Command::new("unshare")
                .args([
                    "-m",
                    "sh",
                    "-c",
                    &format!("mount -t sysfs s /sys && cat /sys/class/net/{link}/addr_assign_type"),
                ])
                .output()
                .unwrap();
            String::from_utf8(mount.stdout).unwrap().trim().to_owned()
        })
    };
    assert_eq!(kind(&bed.node, pod.host_veth.as_str()), "3");
    assert_eq!(kind(space, "eth0"), "3");
    // NET_ADDR_RANDOM: what udev would change, and what a veth is that was given none.
    bed.node.ip("link add chance type veth peer name other");
    assert_eq!(kind(&bed.node, "chance"), "1");
}

#[test]
fn orphans_go_when_they_are_named_and_nothing_else_does() {
    let mut bed = Bed::build();
    bed.node.ip("rule add priority 512 to 10.0.7.7 lookup main protocol 158");
    bed.node.ip("rule add priority 1536 from 10.0.7.7 lookup 2 protocol 158");
    bed.node.ip("rule add priority 512 to 10.0.7.8 lookup main protocol 158");
    bed.node.ip("rule add priority 512 to 10.0.7.9 lookup main");
    bed.node.ip("route add 10.0.7.7/32 dev far proto 158");
    bed.node.ip("neigh add 10.0.7.7 lladdr 02:00:00:00:00:09 dev far nud permanent protocol 158");
    let (orphan, spared) = (IpAddr::from([10, 0, 7, 7]), IpAddr::from([10, 0, 7, 8]));
    bed.desired.spared.insert(spared);
    // A live pod that the caller does not know is nobody's orphan.
    bed.desired.pods.clear();
    let first = bed.pass();
    assert_eq!((first.orphans, first.swept.len()), (BTreeSet::from([orphan]), 0));
    bed.desired.sweep.insert(orphan);
    let second = bed.pass();
    assert_eq!((second.orphans.len(), second.swept.len()), (0, 4));
    let rules = bed.node.ip("rule");
    assert!(!rules.contains("10.0.7.7") && rules.contains("10.0.7.8") && rules.contains("10.0.7.9"), "{rules}");
    assert!(rules.contains("10.0.1.7"), "{rules}");
    assert!(!bed.node.ip("-4 route show table main").contains("10.0.7.7"));
    assert!(!bed.node.ip("neigh show nud permanent").contains("10.0.7.7"));
}

#[test]
fn nothing_is_left_of_a_pod_that_is_detached_between_reading_and_writing() {
    let bed = Bed::build();
    let (_, pod) = &bed.pods[0];
    let leaving =
        || PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() };
    let hurt = || {
        bed.node.ip("rule del priority 1536");
        bed.node.ip("route flush table main");
        bed.node.ip(&format!("neigh flush dev {} nud permanent", pod.host_veth));
    };
    for is_link_gone in [false, true] {
        let bystander = bed.node.ip("rule list priority 512");
        hurt();
        let (gone, name) = (leaving(), pod.host_veth.clone());
        fault::meanwhile_after(0, move || {
            assert!(detach(&gone).unwrap().was_live);
            if is_link_gone {
                garbage::delete_dead_group().unwrap();
            }
        });
        let passed = bed.pass();
        assert!(fault::has_happened());
        let left = observe::kernel("eni").unwrap().ours;
        let is_of_pod = |text: &str| text.contains("10.0.1.7");
        assert!(!left.rules.iter().any(|rule| is_of_pod(&rule.to_string())), "{name}: {left:?}");
        assert!(left.routes.iter().all(|route| route.destination.addr() != IpAddr::from([10, 0, 1, 7])), "{left:?}");
        assert_eq!((left.neighbours.len(), passed.swept.is_empty()), (1, false), "{left:?}");
        assert!(bystander.contains("10.0.0.8") && bed.node.ip("rule list priority 512").contains("10.0.0.8"));
        garbage::delete_dead_group().unwrap();
        attach(&bed.pods[0].0.path(), pod).unwrap();
    }
}

#[test]
fn a_pass_at_any_step_of_an_attach_does_not_disturb_it() {
    for is_flat in [false, true] {
        let (_node, mut steps) = (Space::enter_new(), 0);
        loop {
            let (space, newcomer) = (Space::new(), pod("new", Ipv4Addr::new(10, 0, 1, 9), Some(2)));
            let layout = PodLayout::Flat { table: ids::POD_TABLE, group: Place::new(0, 1).unwrap().group().unwrap() };
            let newcomer = if is_flat { PodAttachment { layout, ..newcomer } } else { newcomer };
            // The sandbox before, of the same pod name, is in the journal still: its DEL has not come.
            let before = LivePod {
                owner: "aws-cni/before/eth0".to_owned(),
                addresses: Ipv4Addr::new(10, 0, 1, 10).into(),
                ..live(&newcomer)
            };
            let desired = Desired {
                host: None,
                enis: Vec::new(),
                pods: vec![live(&newcomer), before],
                spared: BTreeSet::new(),
                sweep: BTreeSet::new(),
            };
            fault::meanwhile_after(steps, move || drop(pass(&desired).unwrap()));
            let attached = attach(&space.path(), &newcomer);
            let is_over = !fault::has_happened();
            attached.unwrap_or_else(|error| panic!("step {steps}: {error}"));
            let state = observe::kernel("eni").unwrap();
            assert_eq!((state.pods.len(), state.ours.routes.len()), (1, 1), "step {steps}: {state:?}");
            assert_eq!(state.ours.rules.len(), if is_flat { 0 } else { 2 }, "step {steps}: {state:?}");
            detach(&PodDetachment { host_veth: newcomer.host_veth, owner: newcomer.owner, addresses: Vec::new() })
                .unwrap();
            garbage::delete_dead_group().unwrap();
            if is_over {
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, 5);
    }
}

/// The figure is for people: `cargo nextest run -p datapath --features apply -E 'test(250_pods)' --success-output immediate`.
#[test]
fn after_a_flush_the_rules_of_250_pods_are_back_in_one_pass_of_a_few_sends() {
    let node = Space::enter_new();
    let sandboxes: Vec<Space> = (0..250).map(|_| Space::new()).collect();
    let mut pods = Vec::new();
    for (number, sandbox) in (0_u32..).zip(&sandboxes) {
        let pod = pod(&format!("pod-{number}"), Ipv4Addr::from(0x0a00_0200 + number), Some(2));
        attach(&sandbox.path(), &pod).unwrap();
        pods.push(live(&pod));
    }
    let desired = Desired { host: None, enis: Vec::new(), pods, spared: BTreeSet::new(), sweep: BTreeSet::new() };
    assert_eq!(pass(&desired).unwrap().repairs.len(), 0);
    node.ip("rule flush");
    node.ip("rule add priority 32766 lookup main");
    let sends = SENDS.get();
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let start = clock();
    let done = pass(&desired).unwrap();
    let end = clock();
    let sends = SENDS.get() - sends;
    assert_eq!((done.repairs.len(), done.failures.len()), (500, 0));
    // 8 of up to 64 rules each, and the lists of both families before and after.
    assert!(sends <= 8 + 2 * 9 + 4, "{sends} sends");
    let took = (end.tv_sec - start.tv_sec) * 1_000 + (end.tv_nsec - start.tv_nsec) / 1_000_000;
    println!("500 rules of 250 pods put back and proven in {took} ms, {sends} sends");
}

#[test]
fn a_detach_is_heard_as_a_change_of_its_address_alone_in_either_layout() {
    let bed = Bed::build();
    let mut watcher = Watcher::start().unwrap();
    let group = Place::new(0, 1).unwrap().group().unwrap();
    for layout in [PodLayout::Classic, PodLayout::Flat { table: ids::POD_TABLE, group }] {
        let (space, newcomer) = (Space::new(), pod("c", Ipv4Addr::new(10, 0, 1, 9), Some(2)));
        let newcomer = PodAttachment { layout, ..newcomer };
        attach(&space.path(), &newcomer).unwrap();
        detach(&PodDetachment { host_veth: newcomer.host_veth, owner: newcomer.owner, addresses: Vec::new() }).unwrap();
        let gone = watcher.wait_at_most(Duration::from_millis(300)).unwrap();
        assert_eq!(gone.addresses, BTreeSet::from([IpAddr::from([10, 0, 1, 9])]), "{layout:?}");
        assert_eq!(gone.objects, BTreeSet::new(), "{layout:?}");
        garbage::delete_dead_group().unwrap();
        watcher.wait_at_most(Duration::from_millis(100)).unwrap();
    }
    drop(bed);
}

#[test]
fn a_watcher_hears_others_and_not_what_an_attach_makes() {
    let bed = Bed::build();
    let mut watcher = Watcher::start().unwrap();
    let mut hear = || watcher.wait_at_most(Duration::from_millis(300)).unwrap();
    let (space, newcomer) = (Space::new(), pod("c", Ipv4Addr::new(10, 0, 1, 9), Some(2)));
    attach(&space.path(), &newcomer).unwrap();
    assert_eq!(hear(), Changes::default(), "an attach");
    let leaving = PodDetachment { host_veth: newcomer.host_veth, owner: newcomer.owner, addresses: Vec::new() };
    detach(&leaving).unwrap();
    let gone = hear();
    assert_eq!((gone.addresses, gone.objects), (BTreeSet::from([IpAddr::from([10, 0, 1, 9])]), BTreeSet::new()));
    let veth = bed.pods[0].1.host_veth.clone();
    let address = IpAddr::from([10, 0, 1, 7]);
    for (command, addresses, objects) in [
        ("rule del priority 1536".to_owned(), vec![address], vec![]),
        ("rule del priority 32765".to_owned(), vec![], vec![Object::Rule]),
        ("route flush table 2".to_owned(), vec![], vec![Object::Route]),
        ("route del 10.0.1.7/32".to_owned(), vec![address], vec![]),
        ("neigh del 10.0.1.7 dev ".to_owned() + veth.as_str(), vec![address], vec![]),
        (format!("link set {veth} address 02:11:22:33:44:55"), vec![address], vec![Object::Link]),
        (format!("link set {veth} down"), vec![address], vec![Object::Link]),
        (format!("link set {veth} group 5"), vec![], vec![Object::Link]),
        ("link set eth1 group 0".to_owned(), vec![], vec![Object::Link]),
        ("addr del 10.0.1.20/24 dev eth1".to_owned(), vec![], vec![Object::Address]),
    ] {
        bed.node.ip(&command);
        let heard = hear();
        assert!(!heard.lost && heard.addresses.iter().eq(&addresses), "{command}: {heard:?}");
        assert!(heard.objects.iter().eq(&objects), "{command}: {heard:?}");
        assert_eq!(pass(&bed.desired).unwrap().failures.len(), 0);
        hear();
    }
    bed.node.sysctl("ipv4/conf/eth1/rp_filter", "1");
    assert!(hear().objects.contains(&Object::Sysctl));
    bed.node.nft("add table ip enid");
    assert!(hear().objects.contains(&Object::NftTable));
    bed.node.nft("add table ip kube-proxy");
    bed.node.ip("rule add priority 700 to 10.9.9.9 lookup main");
    bed.node.ip("route add 10.9.9.9/32 dev far");
    assert_eq!(hear(), Changes::default(), "what is none of ours");
    bed.node.nft("flush ruleset");
    assert!(hear().objects.contains(&Object::NftTable));
}

#[test]
fn a_watcher_that_lost_notifications_says_so_and_hears_again() {
    let bed = Bed::build();
    let mut watcher = Watcher::start().unwrap();
    // Some hundred bytes each, several times what the socket holds.
    let flood: String = (0..30_000)
        .map(|n| {
            format!("rule add priority {} to 10.9.9.9 protocol 158\nrule del priority {}\n", 40_000 + n, 40_000 + n)
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test writes a batch for ip")]
    std::fs::write(file.path(), flood).unwrap();
    bed.node.ip(&format!("-batch {}", file.path().display()));
    assert!(watcher.wait().unwrap().lost);
    while !watcher.wait_at_most(Duration::from_millis(200)).unwrap().is_empty() {}
    bed.node.ip("rule del priority 1536");
    assert_eq!(watcher.wait().unwrap().addresses, BTreeSet::from([IpAddr::from([10, 0, 1, 7])]));
}
