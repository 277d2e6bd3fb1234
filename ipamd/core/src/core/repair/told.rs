// SPDX-License-Identifier: Apache-2.0
//! What is told of a repair: short, and with the likely culprit. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::repair::{RepairCounts, Repaired};

/// Programs that are known to change rules, routes, addresses or links of others by themselves, as `/proc/<pid>/comm` names them
/// (15 characters), and what keeps them from it.
const SUSPECTS: [(&str, &str); 10] = [
    (
        "systemd-network",
        "systemd-networkd: set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no, and leave ENIs unmanaged",
    ),
    ("NetworkManager", "NetworkManager: make ENIs and host veths unmanaged-devices"),
    ("nm-cloud-setup", "nm-cloud-setup: disable its service and timer"),
    ("dhclient", "dhclient: no DHCP on secondary ENIs"),
    ("dhcpcd", "dhcpcd: no DHCP on secondary ENIs"),
    ("systemd-udevd", "systemd-udevd: set MACAddressPolicy=none for host veths"),
    ("ec2net-policy-r", "amazon-ec2-net-utils: mask policy-routes@ and refresh-policy-routes@"),
    ("setup-policy-ro", "amazon-ec2-net-utils: mask policy-routes@ and refresh-policy-routes@"),
    ("aws-k8s-agent", "amazon-vpc-cni-k8s: two IPAM daemons on one node"),
    ("firewalld", "firewalld: leave the table `ip enid` alone"),
];

/// `3 rule missing, 1 link down; ip rule add …`.
pub(super) fn summary(repairs: &[Repaired]) -> String {
    let mut counts: RepairCounts = BTreeMap::new();
    for repaired in repairs {
        *counts.entry(repaired.what.clone()).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("{} ({})", counts.join(", "), brief(repairs.iter().map(|repaired| &repaired.command)))
}

/// The first two, and how many more.
pub(super) fn brief<'a>(all: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 2;
    let more = all.len().saturating_sub(SHOWN);
    let first = |text: &'a String| text.lines().next().unwrap_or_default();
    let mut text = all.take(SHOWN).map(first).collect::<Vec<_>>().join("; ");
    if more > 0 {
        let _ = write!(text, "; and {more} more");
    }
    text
}

/// Which of the programs that run are known for this, and what to do.
pub(super) fn culprits(programs: &BTreeSet<String>) -> String {
    let running = SUSPECTS.iter().filter(|(name, _)| programs.contains(*name));
    let advice: BTreeSet<String> = running.map(|(_, advice)| (*advice).to_owned()).collect();
    match (advice.is_empty(), programs.is_empty()) {
        (false, _) => format!("Likely {}", join(&advice)),
        (true, true) => "Which programs run cannot be seen from here".to_owned(),
        (true, false) => "None of the programs that are known for it runs here".to_owned(),
    }
}

pub(super) fn join(texts: &BTreeSet<String>) -> String {
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
