// SPDX-License-Identifier: Apache-2.0
//! `ipamd status`: the node on one screen: what the running daemon holds, what it does and why. Long lists are other commands' (`pods`,
//! `enis`).

use std::io::Write;

use ipamd_core::config::WarmTargets;
use ipamd_core::event::{LostConnections, TrackedConnections};
use ipamd_core::metrics;
use ipamd_core::reason::ReasonCode;
use ipamd_core::snapshot::{
    CapacitySnapshot, EniSnapshot, FailureSnapshot, KubernetesSnapshot, PodSnapshot, PodSubnetSnapshot, PoolSnapshot,
    SweepSnapshot,
};
use ipamd_core::{Config, Snapshot};

use super::ask::{Asked, Daemon};
use super::enis::{self, Parts};
use super::table::{Column, column, table};
use super::terminal::{Screen, Style};
use super::{pod_name, print, time};

/// Letters of a bar.
const BAR: u32 = 20;

/// Prints the daemon's state.
///
/// # Errors
/// The daemon is not there, does not answer, or standard output is closed.
pub fn run(config: &Config, asked: &Asked, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let daemon = Daemon::of(config, asked.address.as_ref());
    let text = if asked.json { daemon.get("/v1/status")? } else { render(&daemon.status()?, screen) };
    print(out, &text)
}

/// The tables.
#[must_use]
pub fn render(snapshot: &Snapshot, screen: &Screen) -> String {
    let sections = [
        summary(snapshot, screen),
        enis_table(snapshot, screen),
        pod_network(snapshot, screen),
        enis::others(snapshot, screen),
        orphans(snapshot, screen),
        waiters(snapshot, screen),
        actions(snapshot, screen),
        reasons(snapshot, screen),
        failures(snapshot, screen),
        lines("settings and files that need a look", &snapshot.notes, screen),
        lines("the journal at the last start", &snapshot.journal, screen),
        drift(snapshot, screen),
        repair(snapshot, screen),
    ];
    sections.iter().filter(|section| !section.is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

fn summary(snapshot: &Snapshot, screen: &Screen) -> String {
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
    let serving = if snapshot.serving {
        screen.paint(Style::Good, "yes")
    } else {
        screen.paint(Style::Bad, "not yet: no address of this boot proven")
    };
    let bound = snapshot.why.bound_by.map(|code| format!(" [{code}]")).unwrap_or_default();
    let line = |label: &str, text: &str| screen.labelled(label, text);
    let mut text = line("node", &node) + &line("serving", &serving);
    text += &line(
        "pool",
        &format!(
            "{total} addresses: {allocated} used, {free} free, {cooling} cooling, {held} held, {leaving} leaving, {coming} coming"
        ),
    );
    text += &line("ENIs", &format!("{} of {most}, {each} addresses each", pool.enis));
    if let Some(CapacitySnapshot { limit, now, formula, .. }) = &snapshot.capacity {
        text +=
            &line("pods", &format!("{limit} can have an address ({formula}), {now} with what the subnets have now"));
    }
    text +=
        &line("target", &format!("{} ({wanted} free); missing {shortfall}, too many {surplus}", target(pool.targets)));
    text += &line("why", &format!("{}{bound}", snapshot.why.text));
    for (label, said) in [("tracked", tracked(snapshot)), ("leaks", sweep(snapshot)), ("cluster", kubernetes(snapshot))]
    {
        text += &said.map(|said| line(label, &said)).unwrap_or_default();
    }
    text
}

fn tracked(snapshot: &Snapshot) -> Option<String> {
    let TrackedConnections { count, max, lost } = snapshot.connections?;
    let lost = lost.map_or_else(
        || "what was lost is not known".to_owned(),
        |LostConnections { insert_failed, dropped, early_dropped }| {
            format!(
                "{dropped} packets dropped for want of room, {insert_failed} in a clash, \
                 {early_dropped} unanswered connections gave way"
            )
        },
    );
    Some(format!("{count} connections of {max} at most (conntrack); {lost}"))
}

/// Nothing of a daemon that does not know of it.
fn sweep(snapshot: &Snapshot) -> Option<String> {
    let SweepSnapshot { sweeper, is_denied, .. } = &snapshot.sweep;
    if sweeper.is_empty() {
        return None;
    }
    let denied = if *is_denied { "; its role may not" } else { "" };
    let whose = if sweeper == "nobody" { " for the cluster, every node seldom" } else { "" };
    Some(format!("swept by {sweeper}{whose}{denied}"))
}

/// Nothing of a daemon that does not know of it.
fn kubernetes(snapshot: &Snapshot) -> Option<String> {
    let KubernetesSnapshot { state, for_ms, node, cordoned, errors, dropped } = &snapshot.kubernetes;
    if state.is_empty() {
        return None;
    }
    let node = node.as_ref().map(|node| format!(" ({node})")).unwrap_or_default();
    let cordoned = if *cordoned == Some(true) { ", cordoned" } else { "" };
    let dropped = if *dropped > 0 { format!(", {dropped} events given up") } else { String::new() };
    let errors: String = errors.iter().map(|error| format!("; {error}")).collect();
    Some(format!("{state} for {}{node}{cordoned}{dropped}{errors}", time(*for_ms)))
}

pub(super) fn target(targets: WarmTargets) -> String {
    match targets {
        WarmTargets::Adaptive => "adaptive".to_owned(),
        WarmTargets::Enis(enis) => format!("WARM_ENI_TARGET={enis}"),
        WarmTargets::Prefixes(prefixes) => format!("WARM_PREFIX_TARGET={prefixes}"),
        WarmTargets::Addresses { warm, minimum } => format!("WARM_IP_TARGET={warm} MINIMUM_IP_TARGET={minimum}"),
    }
}

const ENIS: [Column; 10] = [
    column("id"),
    column("device").number().rank(6),
    column("state").rank(3),
    column("addresses"),
    column("total").number().rank(4),
    column("prefixes").number().rank(5),
    column("used").number().rank(1),
    column("cooling").number().rank(3),
    column("free").number().rank(1),
    column("last failure").text().rank(2),
];

fn enis_table(snapshot: &Snapshot, screen: &Screen) -> String {
    let row = |eni: &EniSnapshot| {
        vec![
            enis::id(eni),
            eni.device_index.0.to_string(),
            format!("{} for {}", eni.state, time(eni.state_for_ms)),
            Parts::of(eni, snapshot).bar(BAR, screen.has_unicode),
            eni.total.to_string(),
            eni.prefixes.to_string(),
            eni.allocated.to_string(),
            eni.cooling.to_string(),
            eni.free.to_string(),
            enis::failure(eni),
        ]
    };
    let enis = table(screen, "ENIs", &ENIS, &snapshot.enis.iter().map(row).collect::<Vec<_>>());
    if enis.is_empty() { enis } else { enis + &screen.wrapped(&Parts::legend(screen), 2) }
}

fn pod_network(snapshot: &Snapshot, screen: &Screen) -> String {
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
    let columns = [
        column("subnet"),
        column("entry").text().rank(4),
        column("order").number().rank(2),
        column("weight").number().rank(3),
        column("free").number(),
        column("ENIs").number().rank(1),
        column("standing").text(),
    ];
    let title = format!("new ENIs by {name}{groups}{problem}");
    if rows.is_empty() { screen.heading(&title) } else { table(screen, &title, &columns, &rows) }
}

/// Pods are listed by `ipamd pods`; here those with something odd about them.
fn orphans(snapshot: &Snapshot, screen: &Screen) -> String {
    let row = |pod: &PodSnapshot| {
        let gone = pod.orphan_for_ms?;
        Some(vec![pod.address.to_string(), pod_name(&pod.pod), pod.key.clone(), time(gone)])
    };
    let columns = [column("address"), column("pod"), column("key").rank(1), column("host veth gone for")];
    table(screen, "pods that look dead", &columns, &snapshot.pods.iter().filter_map(row).collect::<Vec<_>>())
}

fn waiters(snapshot: &Snapshot, screen: &Screen) -> String {
    let rows: Vec<_> = snapshot
        .waiters
        .iter()
        .map(|waiter| {
            vec![
                pod_name(&waiter.pod),
                waiter.key.clone(),
                time(waiter.waiting_ms),
                time(waiter.budget_left_ms),
                waiter.waits_for.to_string(),
            ]
        })
        .collect();
    let columns = [
        column("pod"),
        column("key").rank(3),
        column("for"),
        column("budget left").rank(2),
        column("waits for").rank(1),
    ];
    table(screen, "waiting for an address", &columns, &rows)
}

pub(super) fn actions(snapshot: &Snapshot, screen: &Screen) -> String {
    let rows = snapshot.actions.iter().map(|action| vec![action.what.clone(), time(action.running_ms)]);
    table(screen, "in flight", &[column("what").text(), column("for")], &rows.collect::<Vec<_>>())
}

pub(super) fn failures(snapshot: &Snapshot, screen: &Screen) -> String {
    let row = |failure: &FailureSnapshot| {
        vec![
            time(failure.ago_ms),
            failure.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            failure.what.clone(),
            failure.recovered_ago_ms.map_or(String::new(), |ago| format!("past for {}", time(ago))),
            failure.code.clone(),
            failure.message.clone(),
        ]
    };
    let columns = [
        column("ago"),
        column("reason"),
        column("what").text().rank(1),
        column("since then").rank(1),
        column("code").rank(2),
        column("message").text(),
    ];
    table(screen, "last failures", &columns, &snapshot.failures.iter().map(row).collect::<Vec<_>>())
}

/// Every code that says something of now, and what says it.
pub(super) fn active(snapshot: &Snapshot) -> Vec<(ReasonCode, String)> {
    let supply =
        snapshot.supply.code.map(|code| (code, format!("the next pod gets no address: {}", snapshot.supply.text)));
    let bound = metrics::state::binding(snapshot).map(|code| (code, snapshot.why.text.clone()));
    let waits = snapshot.waiters.first().map(|waiter| {
        let (count, longest) = (snapshot.waiters.len(), time(waiter.waiting_ms));
        (waiter.waits_for, format!("{count} pods wait, the first for {longest}"))
    });
    // The same that the metric `ipamd_reason_active` has, for those who come from an alert.
    let others = metrics::state::active(snapshot).into_iter().map(|code| (code, code.meaning().to_owned()));
    let mut active: Vec<(ReasonCode, String)> = Vec::new();
    for (code, text) in [supply, bound, waits].into_iter().flatten().chain(others) {
        if !active.iter().any(|(known, _)| *known == code) {
            active.push((code, text));
        }
    }
    active
}

fn reasons(snapshot: &Snapshot, screen: &Screen) -> String {
    let title = "reasons that hold now (ipamd reasons CODE says what to do)";
    // Whole, on as many lines as it takes: what is cut here is what one came for.
    let rows = active(snapshot).into_iter().map(|(code, text)| format!("{code}: {text}"));
    lines(title, &rows.collect::<Vec<_>>(), screen)
}

fn lines(title: &str, all: &[String], screen: &Screen) -> String {
    if all.is_empty() {
        return String::new();
    }
    let lines = all.iter().map(|line| screen.wrapped(&format!("  {line}"), 2));
    screen.heading(title) + &lines.collect::<String>()
}

fn drift(snapshot: &Snapshot, screen: &Screen) -> String {
    let enis = snapshot.drift.eni_ids.iter().map(ToString::to_string);
    let addresses = snapshot.drift.addresses.iter().map(ToString::to_string);
    lines("kept although EC2 does not show it", &enis.chain(addresses).collect::<Vec<_>>(), screen)
}

fn repair(snapshot: &Snapshot, screen: &Screen) -> String {
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
    table(screen, title, &[column("count").number(), column("what")], &rows)
}

#[cfg(test)]
mod tests {
    use ipamd_core::config::Bind;

    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_is_said_so() {
        let asked = Asked { address: Some(Bind::Unix("/nonexistent/introspection.sock".into())), ..Asked::default() };
        let error = run(&Config::default(), &asked, &Screen::default(), &mut Vec::new()).unwrap_err();
        assert!(error.contains("is ipamd running on this node?"), "{error}");
    }
}
