// SPDX-License-Identifier: Apache-2.0
//! The journal against the kernel: what a repair would write is what differs, and what it would leave alone although nobody has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath::plan::ids;
use datapath::plan::pods::{self, LivePod, NodeLink, NodeState};
use datapath::plan::repair::Repair;
use datapath::plan::{LinkName, LinkRef, MacAddr, Op, RouteTable, VethAlias};
use ipamd_core::action::Plumbing;
use ipamd_core::ids as core_ids;
use ipamd_core::snapshot::PodSnapshot;

use super::{Difference, KernelWord, Views, Weight, is_served, named, object};
use crate::edge::host::{place, pod_layout};

/// What the daemon does about it by itself.
const BY_ITSELF: &str = "nothing while the daemon runs: it puts that right at its next look, within a minute; if it comes back, find who does \
                         it (`ipamd events`)";

pub(super) fn differences(views: &Views, word: &KernelWord) -> Vec<Difference> {
    let settled = views.journal.pods.iter().filter(|pod| !views.is_young(pod));
    let mut all: Vec<_> = settled.flat_map(|pod| of_pod(views, pod, &word.node)).collect();
    all.extend(unknown_veths(views, &word.node));
    all.extend(orphans(views, &word.node));
    all.extend(twice(&word.node));
    all.extend(eni_links(views, &word.node));
    all.extend(plans(word));
    all
}

fn is_live(link: &&NodeLink) -> bool {
    link.group != ids::DEAD_GROUP
}

/// Its host veth, by alias, or by name where it has none (a pod of amazon-vpc-cni-k8s).
fn link_of<'a>(views: &Views, pod: &PodSnapshot, node: &'a NodeState) -> Option<&'a NodeLink> {
    let name = host_veth(views, pod);
    let by_alias = |link: &&NodeLink| link.alias.as_ref().is_some_and(|alias| alias.owner == pod.key);
    let by_name = |link: &&NodeLink| link.is_bare_veth && name.as_ref() == Some(&link.name);
    let mut live = node.links.iter().filter(is_live);
    live.clone().find(by_alias).or_else(|| live.find(by_name))
}

fn host_veth(views: &Views, pod: &PodSnapshot) -> Option<LinkName> {
    let name = || LinkName::host_veth(&views.veth_prefix, &pod.pod.namespace, &pod.pod.name, &pod.key).ok();
    if pod.pod.name.is_empty() { None } else { name() }
}

fn of_pod(views: &Views, pod: &PodSnapshot, node: &NodeState) -> Vec<Difference> {
    let Some(link) = link_of(views, pod, node) else {
        let gone = Difference::new("pod-without-veth", object(pod), Weight::Mismatch)
            .word("journal", format!("it is of {}", named(pod)))
            .word("kernel", "there is no host veth of it")
            .todo("delete the pod, whose network is gone; if it is gone already the daemon takes the address back after a minute");
        return vec![gone];
    };
    if let Some(alias) = link.alias.as_ref().filter(|alias| alias.addresses.of_vpc() != pod.address.into()) {
        let other = Difference::new("pod-with-other-address", object(pod), Weight::Mismatch)
            .word("journal", format!("{} has {}", named(pod), pod.address))
            .word("kernel", format!("the alias of {} has {}", link.name, alias.addresses.of_vpc()))
            .todo("delete the pod, and report it with `ipamd support-bundle`: this must not happen");
        return vec![other];
    }
    // Which ENI it is on is not known while the daemon starts: of its rules nothing can be said.
    let Some(live) = live_pod(views, pod) else { return Vec::new() };
    pods::diff(std::slice::from_ref(&live), node).iter().map(|repair| of_repair(pod, &live, repair, node)).collect()
}

/// What a repair would write for a pod.
fn of_repair(pod: &PodSnapshot, live: &LivePod, repair: &Repair, node: &NodeState) -> Difference {
    let kind = match &repair.op {
        Op::RouteAdd(_) | Op::RouteReplace(_) | Op::RouteDelete(_) => "pod-route",
        Op::RuleAdd(_) | Op::RuleDelete(_) | Op::OwnRuleDelete(_) => "pod-rule",
        Op::NeighbourSet(_) | Op::NeighbourDelete(_) => "pod-neighbour",
        _ => "pod-link",
    };
    let table = live.eni_table.filter(|table| *table != RouteTable::MAIN);
    let by = table.map_or(" by the primary ENI".to_owned(), |table| format!(" by table {table}"));
    Difference::new(kind, object(pod), Weight::Mismatch)
        .word("journal", format!("it is of {}{by}", named(pod)))
        .word("kernel", format!("{} {}: it takes `{}`", repair.object, repair.fault, command(&repair.op, node)))
        .todo(BY_ITSELF)
}

/// As the daemon's repair has it.
fn live_pod(views: &Views, pod: &PodSnapshot) -> Option<LivePod> {
    let eni = views.journal.enis.iter().find(|eni| eni.eni_id.is_some() && eni.eni_id == pod.eni_id)?;
    let of_prefix = views.journal.addresses.iter().any(|found| found.address == pod.address && found.prefix.is_some());
    let (card, device) = (eni.table.network_card(), eni.device_index);
    let plumbing = Plumbing::of(views.layout, of_prefix, (card, device.0) == (0, 0));
    Some(LivePod {
        owner: pod.key.clone(),
        host_veth: host_veth(views, pod),
        addresses: pod.address.into(),
        eni_table: Some(RouteTable(eni.table.0)),
        layout: pod_layout(plumbing, place(card, device), views.eni_mark_mask),
    })
}

/// As a person would type it.
fn command(op: &Op, node: &NodeState) -> String {
    let mut op = op.clone();
    if let Some(link) = op.link_mut()
        && let LinkRef::Index(index) = *link
        && let Some(found) = node.links.iter().find(|found| found.index == index)
    {
        *link = LinkRef::Name(found.name.clone());
    }
    op.to_string()
}

/// Live host veths with our alias, of no pod of the journal.
fn unknown_veths(views: &Views, node: &NodeState) -> Vec<Difference> {
    let journal = &views.journal;
    let is_known = |owner: &str| {
        journal.pods.iter().any(|pod| pod.key == owner) || journal.waiters.iter().any(|waiter| waiter.key == owner)
    };
    let ours = node.links.iter().filter(is_live).filter_map(|link| Some((link, link.alias.as_ref()?)));
    let difference = |(link, alias): (&NodeLink, &VethAlias)| {
        Difference::new("veth-of-nobody", link.name.to_string(), Weight::Mismatch)
            .word("kernel", format!("it is of {} with {}", alias.owner, alias.addresses))
            .word("journal", "no pod has it")
            .todo("find whose it is (`crictl pods`) and delete that pod; until then the daemon holds the address and gives it to nobody")
    };
    ours.filter(|(_, alias)| !is_known(&alias.owner)).map(difference).collect()
}

/// Objects of ours for addresses that nobody has.
fn orphans(views: &Views, node: &NodeState) -> Vec<Difference> {
    let journal = &views.journal;
    let in_use = journal.addresses.iter().filter(|found| ["allocated", "held"].contains(&found.state.as_str()));
    let pods = journal.pods.iter().map(|pod| pod.address);
    let primaries = journal.enis.iter().filter_map(|eni| eni.primary_address);
    let remote = views.ec2.said().into_iter().chain(views.imds.said()).flatten().map(|view| view.primary_address);
    let all = in_use.map(|found| found.address).chain(pods).chain(primaries).chain(remote);
    let spared: BTreeSet<IpAddr> = all.map(IpAddr::from).collect();
    let difference = |(address, ops): (IpAddr, Vec<Op>)| {
        let commands: Vec<_> = ops.iter().map(|op| command(op, node)).collect();
        Difference::new("orphan", address.to_string(), Weight::Mismatch)
            .word("journal", "no pod has it")
            .word("kernel", format!("there is something of ours for it: `{}` takes it away", commands.join("; ")))
            .todo("nothing while the daemon runs: it goes at the look after the next, within two minutes; `ipamd cleanup-host` without one")
    };
    pods::orphans(node, &spared).into_iter().map(difference).collect()
}

/// Addresses that two live host veths have by their aliases.
fn twice(node: &NodeState) -> Vec<Difference> {
    let mut links: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for link in node.links.iter().filter(is_live) {
        let Some(alias) = &link.alias else { continue };
        for address in alias.addresses.iter().filter(|address| !ids::is_egress(*address)) {
            links.entry(address).or_default().push(format!("{} ({})", link.name, alias.owner));
        }
    }
    let difference = |(address, owners): (IpAddr, Vec<String>)| {
        Difference::new("duplicate-address", address.to_string(), Weight::Mismatch)
            .word("kernel", format!("it is of {}", owners.join(" and of ")))
            .todo("delete the pod whose sandbox the journal does not have (`ipamd why` with the address)")
    };
    links.into_iter().filter(|(_, owners)| owners.len() > 1).map(difference).collect()
}

/// ENIs in service without a link.
fn eni_links(views: &Views, node: &NodeState) -> Vec<Difference> {
    let has_link = |mac: core_ids::MacAddr| node.links.iter().any(|link| link.mac == Some(MacAddr(mac.0)));
    let served = views.journal.enis.iter().filter(|eni| is_served(eni));
    let missing = served.filter_map(|eni| Some((eni.eni_id.as_ref()?, eni.mac?))).filter(|(_, mac)| !has_link(*mac));
    let difference = |(id, mac): (&core_ids::EniId, core_ids::MacAddr)| {
        Difference::new("eni-without-link", id.to_string(), Weight::Mismatch)
            .word("journal", format!("it is in service, with MAC {mac}"))
            .word("kernel", "no link has that MAC")
            .todo(
                "look whether it was moved to another namespace or taken from its driver (dmesg): its pods are cut off",
            )
    };
    missing.map(difference).collect()
}

/// What the set-up of the node and of ENIs lacks.
fn plans(word: &KernelWord) -> Vec<Difference> {
    let mut all = Vec::new();
    for plan in &word.plans {
        let (kind, object) = match &plan.eni_id {
            Some(id) => ("eni-setup", format!("set-up of {id}")),
            None => ("host-setup", "set-up of the node".to_owned()),
        };
        let says = match &plan.missing {
            Ok(commands) if commands.is_empty() => continue,
            Ok(commands) => format!("it takes `{}`", commands.join("; ").replace('\n', " ")),
            Err(error) => format!("it cannot be read: {error}"),
        };
        let difference = Difference::new(kind, object, Weight::Mismatch);
        all.push(difference.word("journal", "it is in service").word("kernel", says).todo(BY_ITSELF));
    }
    all
}
