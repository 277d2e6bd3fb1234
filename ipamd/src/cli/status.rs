// SPDX-License-Identifier: Apache-2.0
//! `ipamd status`: asks the running daemon over its introspection address and prints what it holds, what it does and why.

use std::io::Write;

use ipamd_core::config::{Bind, WarmTargets};
use ipamd_core::event::{LostConnections, TrackedConnections};
use ipamd_core::snapshot::{
    CapacitySnapshot, EniSnapshot, KubernetesSnapshot, PodSubnetSnapshot, PoolSnapshot, SweepSnapshot,
};
use ipamd_core::{Config, Snapshot};

use super::ask::get;
use super::table::table;

/// Prints the daemon's state.
///
/// # Errors
/// The daemon is not there, does not answer, or standard output is closed.
pub fn run(config: &Config, address: Option<Bind>, json: bool, out: &mut dyn Write) -> Result<(), String> {
    let bind = address.or_else(|| config.introspection.clone());
    let bind = bind.ok_or("introspection is disabled (DISABLE_INTROSPECTION): give --address")?;
    let body = get(&bind, "/v1/status")?;
    let text = if json {
        body
    } else {
        let snapshot: Snapshot =
            serde_json::from_str(&body).map_err(|error| format!("the daemon's answer cannot be read: {error}"))?;
        render(&snapshot)
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

/// The tables.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let sections = [
        summary(snapshot),
        enis(snapshot),
        pod_network(snapshot),
        others(snapshot),
        pods(snapshot),
        waiters(snapshot),
        actions(snapshot),
        failures(snapshot),
        notes(snapshot),
        journal(snapshot),
        drift(snapshot),
        repair(snapshot),
    ];
    sections.iter().filter(|section| !section.is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

fn summary(snapshot: &Snapshot) -> String {
    let node = snapshot.instance.as_ref().map_or("not known yet (IMDS has not answered)".to_owned(), |facts| {
        format!(
            "{} ({}), {} in {}",
            facts.instance_id, facts.instance_type, facts.primary_address, facts.availability_zone
        )
    });
    let pool = &snapshot.pool;
    let PoolSnapshot { total, allocated, free, cooling, held, leaving, coming, wanted, shortfall, surplus, .. } = pool;
    let most = pool.max_enis.map_or("?".to_owned(), |most| most.to_string());
    let each = pool.addresses_per_eni.map_or("?".to_owned(), |each| each.to_string());
    let serving = if snapshot.serving { "yes" } else { "not yet: no address of this boot proven" };
    let tracked = snapshot.connections.map_or_else(String::new, |TrackedConnections { count, max, lost }| {
        let lost = lost.map_or_else(
            || "what was lost is not known".to_owned(),
            |LostConnections { insert_failed, dropped, early_dropped }| {
                format!(
                    "{dropped} packets dropped for want of room, {insert_failed} in a clash, \
                     {early_dropped} unanswered connections gave way"
                )
            },
        );
        format!("tracked  {count} connections of {max} at most (conntrack); {lost}\n")
    });
    let holds =
        snapshot.capacity.as_ref().map_or_else(String::new, |CapacitySnapshot { limit, now, formula, .. }| {
            format!("pods     {limit} can have an address ({formula}), {now} with what the subnets have now\n")
        });
    let bound = snapshot.why.bound_by.map(|code| format!(" [{code}]")).unwrap_or_default();
    format!(
        "node     {node}\n\
         serving  {serving}\n\
         pool     {total} addresses: {allocated} used, {free} free, {cooling} cooling, {held} held, {leaving} leaving, \
         {coming} coming\n\
         ENIs     {} of {most}, {each} addresses each\n\
         {holds}target   {} ({wanted} free); missing {shortfall}, too many {surplus}\n\
         why      {}{bound}\n{tracked}{}{}",
        pool.enis,
        target(pool.targets),
        snapshot.why.text,
        sweep(snapshot),
        kubernetes(snapshot),
    )
}

/// Nothing of a daemon that does not know of it.
fn sweep(snapshot: &Snapshot) -> String {
    let SweepSnapshot { sweeper, is_denied, .. } = &snapshot.sweep;
    if sweeper.is_empty() {
        return String::new();
    }
    let denied = if *is_denied { "; its role may not" } else { "" };
    let whose = if sweeper == "nobody" { " for the cluster, every node seldom" } else { "" };
    format!("leaks    swept by {sweeper}{whose}{denied}\n")
}

/// Nothing of a daemon that does not know of it.
fn kubernetes(snapshot: &Snapshot) -> String {
    let KubernetesSnapshot { state, for_ms, node, cordoned, errors, dropped } = &snapshot.kubernetes;
    if state.is_empty() {
        return String::new();
    }
    let node = node.as_ref().map(|node| format!(" ({node})")).unwrap_or_default();
    let cordoned = if *cordoned == Some(true) { ", cordoned" } else { "" };
    let dropped = if *dropped > 0 { format!(", {dropped} events given up") } else { String::new() };
    let errors: String = errors.iter().map(|error| format!("; {error}")).collect();
    format!("cluster  {state} for {}{node}{cordoned}{dropped}{errors}\n", time(*for_ms))
}

fn target(targets: WarmTargets) -> String {
    match targets {
        WarmTargets::Adaptive => "adaptive".to_owned(),
        WarmTargets::Enis(enis) => format!("WARM_ENI_TARGET={enis}"),
        WarmTargets::Prefixes(prefixes) => format!("WARM_PREFIX_TARGET={prefixes}"),
        WarmTargets::Addresses { warm, minimum } => format!("WARM_IP_TARGET={warm} MINIMUM_IP_TARGET={minimum}"),
    }
}

fn enis(snapshot: &Snapshot) -> String {
    let row = |eni: &EniSnapshot| {
        let id = eni.eni_id.as_ref().map_or("(being created)".to_owned(), ToString::to_string);
        let note = match (&eni.last_failure, eni.retry_in_ms) {
            (Some(failure), Some(retry)) => format!("{failure} (next try in {})", time(retry)),
            (Some(failure), None) => failure.clone(),
            (None, _) => String::new(),
        };
        vec![
            id,
            eni.device_index.0.to_string(),
            format!("{} for {}", eni.state, time(eni.state_for_ms)),
            eni.primary_address.map_or("-".to_owned(), |address| address.to_string()),
            eni.total.to_string(),
            eni.prefixes.to_string(),
            eni.allocated.to_string(),
            eni.cooling.to_string(),
            eni.free.to_string(),
            note,
        ]
    };
    let rows: Vec<_> = snapshot.enis.iter().map(row).collect();
    let head = ["id", "device", "state", "primary", "addresses", "prefixes", "used", "cooling", "free", "last failure"];
    table("ENIs", &head, &rows)
}

fn pod_network(snapshot: &Snapshot) -> String {
    let Some(network) = &snapshot.pod_network else { return String::new() };
    let row = |subnet: &PodSubnetSnapshot| {
        vec![
            subnet.subnet_id.as_ref().map_or("-".to_owned(), ToString::to_string),
            subnet.entry.clone(),
            subnet.order.to_string(),
            subnet.weight.to_string(),
            subnet.free.map_or("?".to_owned(), |free| free.to_string()),
            subnet.enis.to_string(),
            subnet.standing.clone(),
        ]
    };
    let name = network.eni_config.as_ref().map_or("an ENIConfig that nobody has named yet".to_owned(), |name| {
        format!("{name}, as it is for {}", time(network.for_ms))
    });
    let groups = network.security_group_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let groups = if groups.is_empty() { String::new() } else { format!("; groups {groups}") };
    let problem = network.problem.as_ref().map(|problem| format!("\n{problem}")).unwrap_or_default();
    let rows: Vec<_> = network.subnets.iter().map(row).collect();
    let head = ["subnet", "entry", "order", "weight", "free", "ENIs", "standing"];
    let title = format!("new ENIs by {name}{groups}{problem}");
    if rows.is_empty() { format!("{title}\n") } else { table(&title, &head, &rows) }
}

fn others(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .other_enis
        .iter()
        .map(|eni| vec![eni.eni_id.to_string(), eni.device_index.0.to_string(), eni.why.clone()])
        .collect();
    table("ENIs left alone", &["id", "device", "why"], &rows)
}

fn pods(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .pods
        .iter()
        .map(|pod| {
            let eni = pod.eni_id.as_ref().map_or("-".to_owned(), ToString::to_string);
            let orphan = pod.orphan_for_ms.map(|ms| format!("host veth gone for {}", time(ms))).unwrap_or_default();
            vec![pod.address.to_string(), name(&pod.pod.namespace, &pod.pod.name), pod.key.clone(), eni, orphan]
        })
        .collect();
    table("pods", &["address", "pod", "key", "ENI", ""], &rows)
}

fn waiters(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .waiters
        .iter()
        .map(|waiter| {
            vec![
                name(&waiter.pod.namespace, &waiter.pod.name),
                waiter.key.clone(),
                time(waiter.waiting_ms),
                time(waiter.budget_left_ms),
                waiter.waits_for.to_string(),
            ]
        })
        .collect();
    table("waiting for an address", &["pod", "key", "for", "budget left", "waits for"], &rows)
}

fn actions(snapshot: &Snapshot) -> String {
    let rows: Vec<_> =
        snapshot.actions.iter().map(|action| vec![action.what.clone(), time(action.running_ms)]).collect();
    table("in flight", &["what", "for"], &rows)
}

fn failures(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .failures
        .iter()
        .map(|failure| vec![time(failure.ago_ms), failure.what.clone(), failure.code.clone(), failure.message.clone()])
        .collect();
    table("last failures", &["ago", "what", "code", "message"], &rows)
}

fn notes(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot.notes.iter().map(|note| vec![note.clone()]).collect();
    table("settings and files that need a look", &["what"], &rows)
}

fn journal(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot.journal.iter().map(|line| vec![line.clone()]).collect();
    table("the journal at the last start", &["what"], &rows)
}

fn drift(snapshot: &Snapshot) -> String {
    let enis = snapshot.drift.eni_ids.iter().map(|eni| vec![eni.to_string()]);
    let addresses = snapshot.drift.addresses.iter().map(|address| vec![address.to_string()]);
    table("kept although EC2 does not show it", &["what"], &enis.chain(addresses).collect::<Vec<_>>())
}

fn repair(snapshot: &Snapshot) -> String {
    let repair = &snapshot.repair;
    let row = |what: String, count: u64| vec![count.to_string(), what];
    let mut rows: Vec<_> =
        repair.repaired.iter().map(|repaired| row(repaired.what.to_string(), repaired.count)).collect();
    rows.extend((repair.swept > 0).then(|| row("left of pods that are gone, removed".to_owned(), repair.swept)));
    let title = if repair.contested {
        "put back in the kernel since the start; someone changes it again and again, see the log (HostContested)"
    } else {
        "put back in the kernel since the start"
    };
    table(title, &["count", "what"], &rows)
}

fn name(namespace: &str, name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { format!("{namespace}/{name}") }
}

/// Milliseconds for people: `250ms`, `4.2s`, `12m`, `3h`.
fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let texts: Vec<_> = [250, 4_250, 119_999, 720_000, 10_800_000].map(time).into();
        assert_eq!(texts, ["250ms", "4.2s", "119.9s", "12m", "3h"]);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_said_so() {
        let bind = Bind::Unix("/nonexistent/introspection.sock".into());
        let error = run(&Config::default(), Some(bind), false, &mut Vec::new()).unwrap_err();
        assert!(error.contains("is ipamd running on this node?"), "{error}");
    }
}
