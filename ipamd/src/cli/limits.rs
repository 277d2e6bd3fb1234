// SPDX-License-Identifier: Apache-2.0
//! `ipamd limits`: what EC2 allows an instance type to attach, and how many pods that makes. From the table that is compiled in.

use std::io::Write;

use instance_limits::{Capacity, Hypervisor, InstanceLimits, Trunking, Use};
use ipamd_core::Config;
use serde_json::{Value, json};

use super::ask::{Asked, Daemon};
use super::max_pods::known;
use super::table::{Column, column, table};
use super::terminal::Screen;
use super::{pretty, print};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// How, and whom where no type is named.
    pub asked: Asked,
    /// `None`: this node's.
    pub instance_type: Option<String>,
    /// The whole table.
    pub all: bool,
}

impl Question {
    /// Whether it can be answered without a node.
    #[must_use]
    pub fn is_of_no_node(&self) -> bool {
        self.all || self.instance_type.is_some()
    }
}

/// Prints the limits. `config`: where the daemon is, for the type of this node.
///
/// # Errors
/// There is no such type in the table; without a type: the daemon is not there or does not know it; or standard output is closed.
pub fn run(config: &Config, question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    if question.all {
        let text = if question.asked.json {
            pretty(&instance_limits::all().map(|(name, limits)| as_json(name, limits)).collect::<Vec<_>>())?
        } else {
            table(
                screen,
                "",
                &COLUMNS,
                &instance_limits::all().map(|(name, limits)| row(name, limits)).collect::<Vec<_>>(),
            )
        };
        return print(out, &text);
    }
    let name = match &question.instance_type {
        Some(name) => name.clone(),
        None => of_node(config, &question.asked)?,
    };
    let limits = known(&name)?;
    print(out, &if question.asked.json { pretty(&as_json(&name, limits))? } else { text(&name, limits, screen) })
}

fn of_node(config: &Config, asked: &Asked) -> Result<String, String> {
    let snapshot = Daemon::of(config, asked.address.as_ref()).status();
    let snapshot = snapshot.map_err(|error| format!("{}; name a type to ask without a node", String::from(error)))?;
    let instance = snapshot.instance.ok_or("the daemon does not know its instance type yet: name a type")?;
    Ok(instance.instance_type)
}

fn hypervisor(limits: &InstanceLimits) -> &'static str {
    match limits.hypervisor {
        _ if limits.bare_metal => "bare metal",
        Hypervisor::Nitro => "Nitro",
        Hypervisor::Xen => "Xen",
        Hypervisor::None => "none",
        Hypervisor::Unknown => "unknown",
    }
}

/// With single addresses, and with prefixes where the type takes them.
fn capacities(limits: &InstanceLimits) -> (Capacity, Option<Capacity>) {
    let of = |prefixes| Capacity::of(limits, Use { prefixes, ..Use::default() });
    (of(false), limits.takes_prefixes().then(|| of(true)))
}

fn or_unknown(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

fn text(name: &str, limits: &InstanceLimits, screen: &Screen) -> String {
    let (single, prefixes) = capacities(limits);
    let cards: Vec<_> = limits.cards.iter().map(|card| format!("card {}: {}", card.index, card.max_enis)).collect();
    let slots = limits.secondary_slots_per_eni();
    let recommended = |capacity: Capacity| {
        let (most, recommended) = (capacity.max_pods(), capacity.recommended(limits.vcpus));
        if recommended < most {
            format!("{most} ({capacity}), EKS recommends {recommended} at most")
        } else {
            format!("{most} ({capacity})")
        }
    };
    let branch = match limits.trunking {
        Trunking::Supported { branch_enis } => format!("yes, {branch_enis} branch ENIs"),
        Trunking::Unsupported => "no".to_owned(),
        Trunking::Unknown => "unknown".to_owned(),
    };
    let lines = [
        ("type", format!("{name}, {}, {} vCPUs", hypervisor(limits), or_unknown(limits.vcpus))),
        ("ENIs", format!("{} ({})", limits.max_enis(), cards.join(", "))),
        (
            "IPv4",
            format!(
                "{} an ENI: its primary one and {slots} for pods; a slot holds an address{}",
                limits.ipv4_per_eni,
                if limits.takes_prefixes() { " or a /28 prefix" } else { "" }
            ),
        ),
        ("IPv6", format!("{} an ENI", or_unknown(limits.ipv6_per_eni))),
        ("trunk", branch),
        ("pods", recommended(single)),
        ("prefixes", prefixes.map_or("not taken by this type".to_owned(), recommended)),
    ];
    lines.iter().map(|(label, text)| screen.labelled(label, text)).collect()
}

const COLUMNS: [Column; 8] = [
    column("type"),
    column("ENIs").number(),
    column("cards").number().rank(3),
    column("addresses/ENI").number(),
    column("hypervisor").rank(2),
    column("vCPUs").number().rank(4),
    column("max pods").number().rank(1),
    column("with prefixes").number().rank(2),
];

fn row(name: &str, limits: &InstanceLimits) -> Vec<String> {
    let (single, prefixes) = capacities(limits);
    vec![
        name.to_owned(),
        limits.max_enis().to_string(),
        limits.cards.len().to_string(),
        limits.ipv4_per_eni.to_string(),
        hypervisor(limits).to_owned(),
        limits.vcpus.map_or("?".to_owned(), |vcpus| vcpus.to_string()),
        single.max_pods().to_string(),
        prefixes.map_or("-".to_owned(), |prefixes| prefixes.max_pods().to_string()),
    ]
}

fn as_json(name: &str, limits: &InstanceLimits) -> Value {
    let (single, prefixes) = capacities(limits);
    let cards: Vec<_> =
        limits.cards.iter().map(|card| json!({ "index": card.index, "maxEnis": card.max_enis })).collect();
    let branch_enis = match limits.trunking {
        Trunking::Supported { branch_enis } => Some(branch_enis),
        Trunking::Unsupported => Some(0),
        Trunking::Unknown => None,
    };
    json!({
        "instanceType": name, "maxEnis": limits.max_enis(), "cards": cards, "defaultCard": limits.default_card,
        "ipv4PerEni": limits.ipv4_per_eni, "ipv6PerEni": limits.ipv6_per_eni, "slotsPerEni": limits.secondary_slots_per_eni(),
        "takesPrefixes": limits.takes_prefixes(), "hypervisor": hypervisor(limits), "vcpus": limits.vcpus, "branchEnis": branch_enis,
        "maxPods": single.max_pods(), "maxPodsWithPrefixes": prefixes.map(|prefixes| prefixes.max_pods()),
        "recommended": single.recommended(limits.vcpus),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(instance_type: Option<&str>, all: bool, json: bool) -> Result<String, String> {
        let asked = Asked { json, ..Asked::default() };
        let question = Question { asked, instance_type: instance_type.map(str::to_owned), all };
        let mut out = Vec::new();
        run(&Config::default(), &question, &Screen::default(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// EKS user guide and EC2 user guide, as `instance_limits` has them.
    #[test]
    fn a_type_s_numbers_are_told_with_what_they_come_to() {
        let text = said(Some("m5.large"), false, false).unwrap();
        for part in
            ["Nitro, 2 vCPUs", "3 (card 0: 3)", "10 an ENI", "9 for pods", "/28", "29 (3 ENIs x 9 addresses)", "434"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = said(Some("m4.large"), false, false).unwrap();
        assert!(text.contains("Xen") && text.contains("not taken by this type") && !text.contains("/28"), "{text}");
        let value: Value = serde_json::from_str(&said(Some("p4d.24xlarge"), false, true).unwrap()).unwrap();
        assert_eq!((&value["cards"].as_array().unwrap().len(), &value["takesPrefixes"]), (&4, &json!(true)));
        assert!(said(Some("m5.larg"), false, false).unwrap_err().contains("is it m5.large"));
    }

    #[test]
    fn the_whole_table_has_a_line_a_type() {
        let types = instance_limits::all().len();
        assert_eq!(said(None, true, false).unwrap().lines().count(), types + 1);
        let value: Value = serde_json::from_str(&said(None, true, true).unwrap()).unwrap();
        assert_eq!(value.as_array().unwrap().len(), types);
    }
}
