// SPDX-License-Identifier: Apache-2.0
//! A node on which all witnesses agree, and one change a row.

use datapath::plan::pods::{self, LivePod, NodeLink};
use datapath::plan::{MacAddr, Op, Rule, VethAlias, ids};
use ipamd_core::event::AttachmentView;
use ipamd_core::ids::{DeviceIndex, PodRef, RouteTable};
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot, OtherEniSnapshot};
use ipamd_core::{BootTime, Config, Core, Now, Restored};

use super::*;

const NOW: i64 = 100_000_000_000;
const PRIMARY: &str = "eni-1";
const SECOND: &str = "eni-2";

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

fn eni(id: &str, device: u32, primary: u8) -> EniSnapshot {
    EniSnapshot {
        eni_id: Some(id.into()),
        state: "Ready".to_owned(),
        state_for_ms: 30_000,
        retry_in_ms: None,
        device_index: DeviceIndex(device),
        table: RouteTable::of_eni(0, DeviceIndex(device)),
        mac: Some(ipamd_core::ids::MacAddr([2, 0, 0, 0, 0, primary])),
        primary_address: Some(ip(primary)),
        subnet_id: "subnet-1".into(),
        created: device > 0,
        excluded: false,
        total: 2,
        prefixes: 0,
        allocated: 1,
        free: 1,
        cooling: 0,
        assigning: 0,
        last_failure: None,
    }
}

fn view(id: &str, device: u32, primary: u8, addresses: &[u8]) -> EniView {
    EniView {
        eni_id: id.into(),
        mac: ipamd_core::ids::MacAddr([2, 0, 0, 0, 0, primary]),
        vpc_id: None,
        subnet_id: "subnet-1".into(),
        primary_address: ip(primary),
        secondary_addresses: addresses.iter().map(|last| ip(*last)).collect(),
        prefixes: Vec::new(),
        security_group_ids: Vec::new(),
        attachment: Some(AttachmentView {
            attachment_id: "eni-attach-1".into(),
            device_index: DeviceIndex(device),
            network_card: 0,
            instance_id: None,
            status: "attached".to_owned(),
            delete_on_termination: true,
        }),
        status: "in-use".to_owned(),
        interface_type: "interface".to_owned(),
        foreign: false,
        description: String::new(),
        tags: Vec::new(),
    }
}

fn pod(container: &str, last: u8, eni_id: &str, device: u32) -> PodSnapshot {
    PodSnapshot {
        key: format!("aws-cni/{container}/eth0"),
        pod: PodRef { namespace: "default".to_owned(), name: container.to_owned() },
        address: ip(last),
        eni_id: Some(eni_id.into()),
        device_index: Some(DeviceIndex(device)),
        allocated_unix_nanos: NOW - 60_000_000_000,
        orphan_for_ms: None,
    }
}

fn journal() -> Snapshot {
    let now = Now { boot: BootTime::default(), unix_nanos: NOW };
    let kernel = ipamd_core::event::KernelView::default();
    let restored = Restored::read(None, None, kernel, "boot".to_owned());
    let mut journal = Core::new(Config::default(), restored, now).0.snapshot(now);
    journal.enis = vec![eni(PRIMARY, 0, 1), eni(SECOND, 1, 2)];
    journal.pods = vec![pod("one", 11, PRIMARY, 0), pod("two", 21, SECOND, 1)];
    let address = |last, eni: &str, state: &str| AddressSnapshot {
        address: ip(last),
        eni_id: Some(eni.into()),
        prefix: None,
        state: state.to_owned(),
        cooling_for_ms: None,
    };
    journal.addresses = vec![
        address(11, PRIMARY, "allocated"),
        address(12, PRIMARY, "free"),
        address(21, SECOND, "allocated"),
        address(22, SECOND, "cooling"),
    ];
    journal
}

fn link(index: u32, pod: &PodSnapshot) -> NodeLink {
    NodeLink {
        index,
        name: datapath::plan::LinkName::new(&format!("eni{index}")).unwrap(),
        mac: Some(MacAddr::of_host_end(&pod.key)),
        up: true,
        group: 0,
        mtu: 9001,
        alias: Some(VethAlias::new(&pod.key, pod.address.into()).unwrap()),
        is_bare_veth: false,
    }
}

/// What the attach of a pod leaves in the kernel.
fn plumb(node: &mut NodeState, index: u32, pod: &PodSnapshot, table: u32) {
    let link = link(index, pod);
    let live = LivePod {
        owner: pod.key.clone(),
        host_veth: None,
        addresses: pod.address.into(),
        eni_table: Some(datapath::plan::RouteTable(table)),
        layout: datapath::plan::pod::PodLayout::Classic,
    };
    for op in pods::objects(&live, &link) {
        match op {
            Op::RouteAdd(route) => node.routes.push(route),
            Op::RuleAdd(rule) => node.rules.push((rule, ids::PROTOCOL)),
            Op::NeighbourSet(neighbour) => node.neighbours.push(neighbour),
            _ => {}
        }
    }
    node.links.push(link);
}

fn card(index: u32, last: u8) -> NodeLink {
    NodeLink {
        index,
        name: datapath::plan::LinkName::new(&format!("ens{index}")).unwrap(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, last])),
        up: true,
        group: 0,
        mtu: 9001,
        alias: None,
        is_bare_veth: false,
    }
}

/// All agree.
fn views() -> Views {
    let journal = journal();
    let mut node = NodeState { links: vec![card(2, 1), card(3, 2)], ..NodeState::default() };
    plumb(&mut node, 10, &journal.pods[0], 254);
    plumb(&mut node, 11, &journal.pods[1], 2);
    let enis = vec![view(PRIMARY, 0, 1, &[11, 12]), view(SECOND, 1, 2, &[21, 22])];
    let plans = vec![PlanWord { eni_id: None, missing: Ok(Vec::new()) }];
    Views {
        knows_others: true,
        journal,
        source: "a test",
        kernel: Word::Said(KernelWord { node, plans }),
        ec2: Word::Said(enis.clone()),
        imds: Word::Said(enis),
        runtime: Word::Said(["one".to_owned(), "two".to_owned()].into()),
        layout: Layout::Classic,
        eni_mark_mask: ids::DEFAULT_ENI_MARK_MASK,
        veth_prefix: "eni".to_owned(),
        is_imds_authority: false,
        unix_nanos: NOW,
    }
}

fn said<T>(word: &mut Word<T>) -> &mut T {
    match word {
        Word::Said(said) => said,
        other => panic!("{:?}", std::mem::discriminant(other)),
    }
}

fn node(views: &mut Views) -> &mut NodeState {
    &mut said(&mut views.kernel).node
}

fn ec2(views: &mut Views) -> &mut Vec<EniView> {
    said(&mut views.ec2)
}

/// In EC2's word and in metadata's.
fn both(views: &mut Views, change: impl Fn(&mut Vec<EniView>)) {
    change(said(&mut views.ec2));
    change(said(&mut views.imds));
}

type Change = fn(&mut Views);

/// Each change makes exactly one difference: its kind, what it names, and how much it weighs.
const DIFFERENCES: &[(&str, &str, Weight, Change)] = &[
    ("pod-route", "10.0.1.11 (default/one)", Weight::Mismatch, |views| {
        node(views).routes.retain(|route| route.destination.addr() != ip(11));
    }),
    ("pod-rule", "10.0.1.21 (default/two)", Weight::Mismatch, |views| {
        node(views).rules.retain(|(rule, _)| rule.from.is_none());
    }),
    ("pod-neighbour", "10.0.1.21 (default/two)", Weight::Mismatch, |views| {
        node(views).neighbours.retain(|neighbour| neighbour.address != ip(21));
    }),
    // The older rule with the same selector wins.
    ("pod-rule", "10.0.1.21 (default/two)", Weight::Mismatch, |views| {
        let wrong = Rule::from_pod(ip(21), Some(datapath::plan::RouteTable(3)));
        node(views).rules.push((wrong, ids::PROTOCOL));
    }),
    ("pod-link", "10.0.1.11 (default/one)", Weight::Mismatch, |views| {
        let link = node(views).links.iter_mut().find(|link| link.index == 10).unwrap();
        link.group = 7;
    }),
    ("pod-without-veth", "10.0.1.11 (default/one)", Weight::Mismatch, |views| {
        let node = node(views);
        node.links.retain(|link| link.index != 10);
        node.routes.retain(|route| route.destination.addr() != ip(11));
    }),
    // In the dead group it is a pod's no more.
    ("pod-without-veth", "10.0.1.21 (default/two)", Weight::Mismatch, |views| {
        node(views).links.iter_mut().find(|link| link.index == 11).unwrap().group = ids::DEAD_GROUP;
    }),
    ("pod-with-other-address", "10.0.1.11 (default/one)", Weight::Mismatch, |views| {
        let alias = VethAlias::new("aws-cni/one/eth0", ip(99).into()).unwrap();
        node(views).links.iter_mut().find(|link| link.index == 10).unwrap().alias = Some(alias);
    }),
    ("veth-of-nobody", "eni12", Weight::Mismatch, |views| {
        let stranger = link(12, &pod("three", 33, PRIMARY, 0));
        node(views).links.push(stranger);
    }),
    ("orphan", "10.0.1.44", Weight::Mismatch, |views| {
        node(views).rules.push((Rule::to_pod(ip(44)), ids::PROTOCOL));
    }),
    ("eni-without-link", SECOND, Weight::Mismatch, |views| node(views).links.retain(|link| link.index != 3)),
    ("host-setup", "set-up of the node", Weight::Mismatch, |views| {
        said(&mut views.kernel).plans[0].missing = Ok(vec!["nft -f -".to_owned()]);
    }),
    ("eni-setup", "set-up of eni-2", Weight::Mismatch, |views| {
        let missing = Err("no link".to_owned());
        said(&mut views.kernel).plans.push(PlanWord { eni_id: Some(SECOND.into()), missing });
    }),
    ("address-not-assigned", "10.0.1.21", Weight::Mismatch, |views| {
        both(views, |enis| enis[1].secondary_addresses.retain(|address| *address != ip(21)));
    }),
    ("address-not-assigned", "10.0.1.12", Weight::Mismatch, |views| {
        both(views, |enis| enis[0].secondary_addresses.retain(|address| *address != ip(12)));
    }),
    ("address-not-known", "10.0.1.77", Weight::Mismatch, |views| {
        both(views, |enis| enis[1].secondary_addresses.push(ip(77)));
    }),
    ("address-not-known", "10.0.1.80/28", Weight::Mismatch, |views| {
        both(views, |enis| enis[0].prefixes.push("10.0.1.80/28".parse().unwrap()));
    }),
    ("eni-stuck", "an ENI that is asked for", Weight::Mismatch, |views| {
        let late = EniSnapshot { eni_id: None, state: "Requested".to_owned(), ..eni("eni-3", 2, 3) };
        views.journal.enis.push(EniSnapshot { state_for_ms: 60_000, ..late });
    }),
    ("eni-not-known", "eni-3", Weight::Mismatch, |views| both(views, |enis| enis.push(view("eni-3", 2, 3, &[])))),
    ("imds-lags", "10.0.1.22", Weight::Lag, |views| {
        said(&mut views.imds)[1].secondary_addresses.retain(|address| *address != ip(22));
    }),
    ("imds-lags", SECOND, Weight::Lag, |views| said(&mut views.imds).retain(|eni| eni.eni_id.as_str() != SECOND)),
    ("imds-lags", "eni-3", Weight::Lag, |views| said(&mut views.imds).push(view("eni-3", 2, 3, &[]))),
    ("sandbox-gone", "10.0.1.21 (default/two)", Weight::Mismatch, |views| {
        said(&mut views.runtime).remove("two");
    }),
    // Where EC2 is never asked metadata is what counts.
    ("address-not-assigned", "10.0.1.21", Weight::Mismatch, |views| {
        (views.ec2, views.is_imds_authority) = (Word::Unwanted("ENABLE_IMDS_ONLY_MODE".to_owned()), true);
        said(&mut views.imds)[1].secondary_addresses.retain(|address| *address != ip(21));
    }),
    ("address-not-assigned", "10.0.1.21", Weight::Lag, |views| {
        views.ec2 = Word::Silent("EC2 does not answer".to_owned());
        said(&mut views.imds)[1].secondary_addresses.retain(|address| *address != ip(21));
    }),
];

#[test]
fn each_kind_of_difference_is_found_and_nothing_else_with_it() {
    assert_eq!(differences(&views()), [], "all agree");
    for (kind, object, weight, change) in DIFFERENCES {
        let mut views = views();
        change(&mut views);
        let found = differences(&views);
        let brief: Vec<_> = found.iter().map(|found| (found.kind, found.object.as_str(), found.weight)).collect();
        assert_eq!(brief, [(*kind, *object, *weight)], "{kind} {object}: {found:?}");
        let line = found[0].to_string();
        assert!(line.contains(" says ") && line.contains("; do: ") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn an_address_that_two_pods_have_is_named_by_both() {
    let mut views = views();
    views.journal.pods.push(pod("copy", 11, PRIMARY, 0));
    let found = differences(&views);
    let twice = found.iter().find(|found| found.kind == "duplicate-address").unwrap().to_string();
    assert!(twice.contains("default/one") && twice.contains("default/copy"), "{twice}");
    let mut views = self::views();
    let stranger = NodeLink { mac: None, ..link(13, &PodSnapshot { address: ip(11), ..pod("three", 11, PRIMARY, 0) }) };
    node(&mut views).links.push(stranger);
    let kinds: Vec<_> = differences(&views).iter().map(|found| found.kind).collect();
    assert_eq!(kinds, ["duplicate-address", "veth-of-nobody"]);
}

#[test]
fn an_eni_that_ec2_does_not_have_is_told_with_its_place() {
    let mut views = views();
    both(&mut views, |enis| enis.truncate(1));
    let found = differences(&views);
    assert_eq!(found.iter().map(|found| found.kind).collect::<Vec<_>>(), ["eni-not-attached"], "{found:?}");
    assert!(found[0].to_string().contains("eni-2: journal says it is in service at device index 1; EC2 says"));
}

#[test]
fn an_address_on_another_eni_is_told_with_that() {
    let mut views = views();
    ec2(&mut views)[1].secondary_addresses.retain(|address| *address != ip(21));
    ec2(&mut views)[0].secondary_addresses.push(ip(21));
    let found = differences(&views);
    let moved = found.iter().find(|found| found.kind == "address-not-assigned").unwrap().to_string();
    assert!(moved.contains("EC2 says it is assigned to eni-1"), "{moved}");
}

/// What is under way is no difference.
const EXPLAINED: &[(&str, Change)] = &[
    ("a sandbox is ready only some time after its ADD", |views| {
        views.journal.pods[1].allocated_unix_nanos = NOW - 30_000_000_000;
        said(&mut views.runtime).remove("two");
    }),
    ("files do not say which ENIs are left alone", |views| {
        views.knows_others = false;
        both(views, |enis| enis.push(view("eni-9", 2, 9, &[91])));
    }),
    ("an ADD younger than 2 s has no veth yet, nor a sandbox", |views| {
        views
            .journal
            .pods
            .push(PodSnapshot { allocated_unix_nanos: NOW - 1_000_000_000, ..pod("new", 12, PRIMARY, 0) });
        views.journal.addresses[1].state = "allocated".to_owned();
    }),
    ("an ADD that waits has its veth already", |views| {
        let new = pod("new", 12, PRIMARY, 0);
        views.journal.waiters.push(ipamd_core::snapshot::WaiterSnapshot {
            key: new.key.clone(),
            pod: new.pod.clone(),
            waiting_ms: 1,
            budget_left_ms: 1,
            waits_for: ipamd_core::reason::ReasonCode::EniPending,
        });
        views.journal.addresses[1].state = "held".to_owned();
        node(views).links.push(link(14, &new));
    }),
    ("addresses are being assigned", |views| {
        views.journal.enis[1].assigning = 1;
        both(views, |enis| enis[1].secondary_addresses.push(ip(77)));
    }),
    ("an address is being given back", |views| {
        views.journal.addresses[3].state = "leaving".to_owned();
        both(views, |enis| enis[1].secondary_addresses.retain(|address| *address != ip(22)));
    }),
    ("an ENI is being attached", |views| {
        let mut new = eni("eni-3", 2, 3);
        (new.eni_id, new.mac, new.state) = (None, None, "Requested".to_owned());
        views.journal.enis.push(new);
        both(views, |enis| enis.push(view("eni-3", 2, 3, &[31])));
    }),
    ("an ENI is on its way out", |views| {
        views.journal.enis[1].state = "Detaching".to_owned();
        views.journal.pods.pop();
        views.journal.addresses.truncate(2);
        both(views, |enis| enis.truncate(1));
        let node = node(views);
        node.links.retain(|link| ![3, 11].contains(&link.index));
        node.routes.retain(|route| route.destination.addr() == ip(11));
        node.rules.retain(|(rule, _)| rule.to.is_some_and(|to| to.addr() == ip(11)));
        node.neighbours.retain(|neighbour| neighbour.address == ip(11));
    }),
    ("an ENI of somebody else's", |views| {
        let why = "tagged".to_owned();
        views.journal.other_enis.push(OtherEniSnapshot {
            eni_id: "eni-9".into(),
            device_index: DeviceIndex(2),
            network_card: 0,
            why,
        });
        both(views, |enis| enis.push(view("eni-9", 2, 9, &[91])));
    }),
    ("a veth that is dead already", |views| {
        let dead = NodeLink { group: ids::DEAD_GROUP, ..link(15, &pod("old", 55, PRIMARY, 0)) };
        node(views).links.push(dead);
    }),
    ("witnesses that were not heard", |views| {
        views.ec2 = Word::Silent("EC2 does not answer".to_owned());
        views.imds = Word::Silent("nor does metadata".to_owned());
        views.runtime = Word::Unwanted("not set".to_owned());
        views.kernel = Word::Silent("not root".to_owned());
        views.journal.enis[1].device_index = DeviceIndex(7);
    }),
    ("a pod whose ENI is not known yet", |views| {
        views.journal.pods[1].eni_id = None;
    }),
];

#[test]
fn what_time_explains_is_no_difference() {
    for (what, change) in EXPLAINED {
        let mut views = views();
        change(&mut views);
        assert_eq!(differences(&views), [], "{what}");
    }
}

#[test]
fn a_pod_in_a_prefix_or_of_the_flat_layout_is_judged_by_that() {
    let mut views = views();
    views.layout = Layout::Flat;
    // Plumbed in layout classic, which stays until the node's rules for the other one are there.
    assert_eq!(differences(&views), []);
    views.journal.addresses[2].prefix = Some("10.0.1.16/28".parse().unwrap());
    both(&mut views, |enis| {
        enis[1].prefixes.push("10.0.1.16/28".parse().unwrap());
        enis[1].secondary_addresses.retain(|address| *address != ip(21));
    });
    assert_eq!(differences(&views), []);
}
