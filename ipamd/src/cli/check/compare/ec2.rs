// SPDX-License-Identifier: Apache-2.0
//! ENIs and their addresses: the journal's against EC2's (or metadata's, where that is the authority), and metadata's against EC2's.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipamd_core::event::EniView;
use ipamd_core::ids::EniId;
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot};

use super::{Difference, Views, Weight, is_served, named};

/// Of EC2, or of metadata in its place: who it is, its word, and how much it weighs.
type Attached<'a> = (&'static str, &'a [EniView], Weight);

/// Whether nothing is under way on an ENI that changes what it holds.
fn is_settled(eni: &EniSnapshot) -> bool {
    is_served(eni) && eni.assigning == 0
}

fn is_attached(view: &&EniView) -> bool {
    view.attachment.as_ref().is_some_and(|attachment| attachment.status == "attached")
}

fn has(view: &EniView, address: Ipv4Addr) -> bool {
    view.secondary_addresses.contains(&address) || view.prefixes.iter().any(|prefix| prefix.contains(&address))
}

pub(super) fn against_journal(views: &Views, attached: Attached<'_>) -> Vec<Difference> {
    let mut all = missing_enis(views, attached);
    all.extend(unknown_enis(views, attached));
    all.extend(views.journal.addresses.iter().filter_map(|found| missing_address(views, found, attached)));
    all.extend(unknown_addresses(views, attached));
    all
}

/// ENIs in service by the journal that are not attached.
fn missing_enis(views: &Views, (witness, attached, weight): Attached<'_>) -> Vec<Difference> {
    let is_there = |id: &EniId| attached.iter().any(|view| view.eni_id == *id);
    let served = views.journal.enis.iter().filter(|eni| is_settled(eni));
    let gone = served.filter_map(|eni| Some((eni.eni_id.as_ref()?, eni))).filter(|(id, _)| !is_there(id));
    let difference = |(id, eni): (&EniId, &EniSnapshot)| {
        Difference::new("eni-not-attached", id.to_string(), weight)
            .word("journal", format!("it is in service at device index {}", eni.device_index.0))
            .word(witness, "it is not attached to this instance")
            .todo("who detached it? its pods are cut off: drain the node, or delete them; `ipamd status` shows it as kept")
    };
    gone.map(difference).collect()
}

/// Attached ENIs that the journal does not know, while none is on its way. Not where it cannot tell which are left alone.
fn unknown_enis(views: &Views, (witness, attached, weight): Attached<'_>) -> Vec<Difference> {
    let journal = &views.journal;
    if !views.knows_others || !journal.enis.iter().all(is_served) {
        return Vec::new();
    }
    let of_ours = |id: &EniId| journal.enis.iter().any(|eni| eni.eni_id.as_ref() == Some(id));
    let of_others = |id: &EniId| journal.other_enis.iter().any(|eni| eni.eni_id == *id);
    let unknown = attached.iter().filter(is_attached).filter(|view| !of_ours(&view.eni_id) && !of_others(&view.eni_id));
    let difference = |view: &EniView| {
        let at = view.attachment.as_ref().map_or(0, |attachment| attachment.device_index.0);
        Difference::new("eni-not-known", view.eni_id.to_string(), weight)
            .word(witness, format!("it is attached at device index {at}"))
            .word("journal", "there is no such ENI")
            .todo("nothing if somebody has just attached it: the daemon finds it at its next read of EC2; else look at `ipamd events`")
    };
    unknown.map(difference).collect()
}

/// An address that the journal has on an ENI, and the ENI has not.
fn missing_address(
    views: &Views,
    found: &AddressSnapshot,
    (witness, attached, weight): Attached<'_>,
) -> Option<Difference> {
    let id = found.eni_id.as_ref()?;
    let is_quiet = views.journal.enis.iter().any(|eni| eni.eni_id.as_ref() == Some(id) && is_settled(eni));
    let view = attached.iter().find(|view| view.eni_id == *id)?;
    if !is_quiet || found.state == "leaving" || has(view, found.address) {
        return None;
    }
    let elsewhere = attached.iter().find(|view| has(view, found.address));
    let word = elsewhere
        .map_or_else(|| format!("it is not assigned to {id}"), |other| format!("it is assigned to {}", other.eni_id));
    let pod = views.journal.pods.iter().find(|pod| pod.address == found.address);
    let (says, todo) = match pod {
        Some(pod) => (
            format!("it is of {} on {id}", named(pod)),
            format!(
                "delete the pod, whose packets are lost, or assign it again (aws ec2 assign-private-ip-addresses --network-interface-id {id} \
                 --private-ip-addresses {})",
                found.address
            ),
        ),
        None => (
            format!("it is {} on {id}", found.state),
            "nothing: the daemon drops it when it reads EC2 next, and a pod that gets it before is told; who unassigned it?".to_owned(),
        ),
    };
    let difference = Difference::new("address-not-assigned", found.address.to_string(), weight);
    Some(difference.word("journal", says).word(witness, word).todo(todo))
}

/// Addresses and prefixes of ENIs in service that the journal does not know.
fn unknown_addresses(views: &Views, (witness, attached, weight): Attached<'_>) -> Vec<Difference> {
    let known: BTreeSet<Ipv4Addr> = views.journal.addresses.iter().map(|found| found.address).collect();
    let mut all = Vec::new();
    for eni in views.journal.enis.iter().filter(|eni| is_settled(eni) && !is_idle_primary(views, eni)) {
        let Some(view) = attached.iter().find(|view| Some(&view.eni_id) == eni.eni_id.as_ref()) else { continue };
        let addresses = view.secondary_addresses.iter().filter(|address| !known.contains(address));
        let is_unknown = |prefix: &&ipnet::Ipv4Net| !known.iter().any(|address| prefix.contains(address));
        let prefixes = view.prefixes.iter().filter(is_unknown).map(ToString::to_string);
        for what in addresses.map(ToString::to_string).chain(prefixes) {
            let difference = Difference::new("address-not-known", what, weight);
            all.push(difference.word(witness, format!("it is assigned to {}", view.eni_id)).word("journal", "it is not there").todo(format!(
                "nothing if somebody has just assigned it: the daemon takes it into the pool when it reads EC2 next; else take it away (aws \
                 ec2 unassign-private-ip-addresses --network-interface-id {} …)",
                view.eni_id
            )));
        }
    }
    all
}

/// With custom networking the primary ENI has no pods, and what it holds is nobody's business.
fn is_idle_primary(views: &Views, eni: &EniSnapshot) -> bool {
    eni.device_index.0 == 0 && views.journal.pod_network.is_some()
}

/// What metadata does not show yet, or still.
pub(super) fn lag(ec2: &[EniView], imds: &[EniView]) -> Vec<Difference> {
    let mut all = Vec::new();
    for view in ec2.iter().filter(is_attached) {
        let Some(shown) = imds.iter().find(|shown| shown.eni_id == view.eni_id) else {
            all.push(late(view.eni_id.to_string(), "it is attached".to_owned(), "it is not there"));
            continue;
        };
        let (of_ec2, of_imds) = (all_of(view), all_of(shown));
        let missing = of_ec2.difference(&of_imds);
        all.extend(
            missing.map(|address| late(address.clone(), format!("it is on {}", view.eni_id), "it is not there")),
        );
        let stale = of_imds.difference(&of_ec2);
        all.extend(stale.map(|address| late(address.clone(), format!("it is not on {}", view.eni_id), "it is there")));
    }
    let gone = imds.iter().filter(|shown| !ec2.iter().any(|view| view.eni_id == shown.eni_id));
    all.extend(gone.map(|shown| late(shown.eni_id.to_string(), "it is not attached".to_owned(), "it is there")));
    all
}

fn late(object: String, of_ec2: String, of_imds: &str) -> Difference {
    Difference::new("imds-lags", object, Weight::Lag)
        .word("EC2", of_ec2)
        .word("IMDS", of_imds)
        .todo("wait: metadata follows EC2 within seconds, and the daemon goes by EC2; if it stays so for minutes, ask AWS support")
}

fn all_of(view: &EniView) -> BTreeSet<String> {
    let prefixes = view.prefixes.iter().map(ToString::to_string);
    view.secondary_addresses.iter().map(ToString::to_string).chain(prefixes).collect()
}
