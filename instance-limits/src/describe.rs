// SPDX-License-Identifier: Apache-2.0
//! Answers of DescribeInstanceTypes -> a newer CSV. Shared by the generator (`examples/limits.rs`) and its tests; not part of
//! the library.
//!
//! Merges any number of answers, of several pages and Regions, and brings the CSV's rows up to date with them. Does not know
//! trunking, which DescribeInstanceTypes does not tell: those columns stay as they are, and are empty in a new row. A type that no
//! answer has keeps its row: types that are retired, or of another Region, still run.
//!
//! Invariant: a type has one row, whose numbers are those of every answer that has the type. What does not fit together is
//! refused with file, type and field, and nothing is written then.
//!
//! Worked example: `m5.large` with `MaximumNetworkInterfaces` 3, one card of 3 and `Ipv4AddressesPerInterface` 10 becomes
//! `m5.large,3,10,10,1,0:3,0,nitro,false,…`; another file that says 4 ENIs is refused.
//!
//! Source: EC2 API reference, DescribeInstanceTypes: InstanceTypeInfo, NetworkInfo, NetworkCardInfo (`Hypervisor` is absent on
//! bare metal); names as the AWS CLI writes them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::generate::HEADER;

/// The letter of this source in the CSV's last column.
const SOURCE: &str = "E";

/// One file: its name, for people, and its text.
pub(crate) type Answer = (String, String);

/// The new CSV, and how many rows are what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) csv: String,
    /// Not in the CSV before.
    pub(crate) added: usize,
    /// With another number in them than before.
    pub(crate) changed: usize,
    /// The same numbers as before.
    pub(crate) confirmed: usize,
    /// In no answer.
    pub(crate) kept: usize,
}

/// The CSV brought up to date, or what is wrong ("us-east-1.json: m5.large: NetworkInfo.NetworkCards: …").
pub(crate) fn update(csv: &str, answers: &[Answer]) -> Result<Update, String> {
    let mut lines = csv.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("line 1: the header is not `{HEADER}`"));
    }
    let rows = lines.map(|line| (line.split(',').next().unwrap_or_default().to_owned(), line.to_owned()));
    let mut rows: BTreeMap<String, String> = rows.collect();
    let types = merge(answers)?;
    let mut update = Update { csv: String::new(), added: 0, changed: 0, confirmed: 0, kept: 0 };
    update.kept = rows.keys().filter(|name| !types.contains_key(*name)).count();
    for (name, (_, limits)) in &types {
        let row = row(name, limits, rows.get(name).map(String::as_str))?;
        match rows.insert(name.clone(), row.clone()) {
            None => update.added += 1,
            Some(before) if without_sources(&before) == without_sources(&row) => update.confirmed += 1,
            Some(_) => update.changed += 1,
        }
    }
    update.csv =
        std::iter::once(HEADER).chain(rows.values().map(String::as_str)).flat_map(|line| [line, "\n"]).collect();
    Ok(update)
}

/// What an answer says of one type. Columns of the CSV, in the CSV's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limits {
    /// Name in the answer and text, in the CSV's order: max_enis to is_bare_metal, then vcpus.
    columns: [(&'static str, String); 9],
}

/// Every type of every answer, with the file that told it first.
fn merge(answers: &[Answer]) -> Result<BTreeMap<String, (String, Limits)>, String> {
    let mut types: BTreeMap<String, (String, Limits)> = BTreeMap::new();
    for (file, text) in answers {
        let answer: Value = serde_json::from_str(text).map_err(|error| format!("{file}: {error}"))?;
        let list = answer.get("InstanceTypes").and_then(Value::as_array).filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| format!("{file}: InstanceTypes is not a list with types in it"))?;
        for (at, info) in list.iter().enumerate() {
            let name =
                type_name(info).map_err(|problem| format!("{file}: InstanceTypes[{at}]: InstanceType {problem}"))?;
            let limits = limits(info).map_err(|problem| format!("{file}: {name}: {problem}"))?;
            match types.get(&name) {
                None => drop(types.insert(name, (file.clone(), limits))),
                Some((_, first)) if *first == limits => {}
                Some((other, first)) => return Err(format!("{file}: {name}: {}", difference(&limits, other, first))),
            }
        }
    }
    Ok(types)
}

/// The first field in which two answers differ.
fn difference(limits: &Limits, other: &str, first: &Limits) -> String {
    let pairs = limits.columns.iter().zip(&first.columns);
    let differ = pairs.filter(|(ours, theirs)| ours.1 != theirs.1);
    let texts = differ.map(|((field, ours), (_, theirs))| format!("{field} is {ours}, in {other} it is {theirs}"));
    texts.collect::<Vec<_>>().join("; ")
}

fn type_name(info: &Value) -> Result<String, String> {
    let name = info.get("InstanceType").and_then(Value::as_str).ok_or("is missing")?;
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| !part.is_empty() && part.bytes().all(known);
    let well_formed = name.split_once('.').is_some_and(|(family, size)| part(family) && part(size));
    if well_formed { Ok(name.to_owned()) } else { Err(format!("`{name}` is not family.size")) }
}

fn limits(info: &Value) -> Result<Limits, String> {
    let enis = number(info, "NetworkInfo.MaximumNetworkInterfaces")?;
    let ipv4 = number(info, "NetworkInfo.Ipv4AddressesPerInterface")?;
    for (field, count) in [("MaximumNetworkInterfaces", enis), ("Ipv4AddressesPerInterface", ipv4)] {
        if count == 0 {
            return Err(format!("NetworkInfo.{field} is 0: every instance has a primary ENI with an address"));
        }
    }
    let cards = cards(info, enis)?;
    let default = number(info, "NetworkInfo.DefaultNetworkCardIndex")?;
    if usize::from(default) >= cards.len() {
        return Err(format!("NetworkInfo.DefaultNetworkCardIndex is {default}, and there are {} cards", cards.len()));
    }
    let per_card: Vec<String> = cards.iter().enumerate().map(|(index, enis)| format!("{index}:{enis}")).collect();
    let bare_metal = flag(info, "BareMetal")?;
    Ok(Limits {
        columns: [
            ("NetworkInfo.MaximumNetworkInterfaces", enis.to_string()),
            ("NetworkInfo.Ipv4AddressesPerInterface", ipv4.to_string()),
            ("NetworkInfo.Ipv6AddressesPerInterface", ipv6(info)?.to_string()),
            ("NetworkInfo.MaximumNetworkCards", cards.len().to_string()),
            ("NetworkInfo.NetworkCards", per_card.join(";")),
            ("NetworkInfo.DefaultNetworkCardIndex", default.to_string()),
            ("Hypervisor", hypervisor(info, bare_metal)?.to_owned()),
            ("BareMetal", bare_metal.to_string()),
            ("VCpuInfo.DefaultVCpus", number(info, "VCpuInfo.DefaultVCpus")?.to_string()),
        ],
    })
}

/// ENIs of each card, in index order; they must be all the type's ENIs.
fn cards(info: &Value, enis: u16) -> Result<Vec<u16>, String> {
    let field = "NetworkInfo.NetworkCards";
    let list = at(info, field).and_then(Value::as_array).ok_or_else(|| format!("{field} is not a list"))?;
    let mut cards: Vec<(u16, u16)> = Vec::new();
    for card in list {
        let within = |problem: String| format!("{field}: {problem}");
        let index = number(card, "NetworkCardIndex").map_err(within)?;
        cards.push((index, number(card, "MaximumNetworkInterfaces").map_err(within)?));
    }
    cards.sort_unstable();
    if cards.iter().zip(0..).any(|((index, _), position)| *index != position) {
        return Err(format!("{field}: the indexes are not 0 to {}", cards.len().saturating_sub(1)));
    }
    let count = number(info, "NetworkInfo.MaximumNetworkCards")?;
    if cards.len() != usize::from(count) {
        return Err(format!("NetworkInfo.MaximumNetworkCards is {count}, and {} cards are listed", cards.len()));
    }
    let sum: u32 = cards.iter().map(|(_, enis)| u32::from(*enis)).sum();
    if sum != u32::from(enis) {
        return Err(format!("NetworkInfo.MaximumNetworkInterfaces is {enis}, and the cards have {sum}"));
    }
    Ok(cards.into_iter().map(|(_, enis)| enis).collect())
}

fn ipv6(info: &Value) -> Result<u16, String> {
    let slots = number(info, "NetworkInfo.Ipv6AddressesPerInterface")?;
    match (flag(info, "NetworkInfo.Ipv6Supported")?, slots) {
        (true, 0) => Err("NetworkInfo.Ipv6Supported is true, and Ipv6AddressesPerInterface 0".to_owned()),
        (false, 1..) => Err(format!("NetworkInfo.Ipv6Supported is false, and Ipv6AddressesPerInterface {slots}")),
        _ => Ok(slots),
    }
}

fn hypervisor(info: &Value, bare_metal: bool) -> Result<&'static str, String> {
    let named = info.get("Hypervisor").map(|value| value.as_str().unwrap_or("not a text"));
    match (named, bare_metal) {
        (None, true) => Ok("none"),
        (Some("nitro"), false) => Ok("nitro"),
        (Some("xen"), false) => Ok("xen"),
        (None, false) => Err("Hypervisor is missing, and the type is not bare metal".to_owned()),
        (Some(other), true) => Err(format!("Hypervisor is {other} on a bare metal type")),
        (Some(other), false) => Err(format!("Hypervisor is {other}, not nitro or xen")),
    }
}

/// The value at a path of members, `NetworkInfo.NetworkCards`.
fn at<'a>(info: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(info, |value, member| value.get(member))
}

fn number(info: &Value, field: &str) -> Result<u16, String> {
    let value = at(info, field).ok_or_else(|| format!("{field} is missing"))?;
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| format!("{field} is {value}, not a number from 0 to 65535"))
}

fn flag(info: &Value, field: &str) -> Result<bool, String> {
    let value = at(info, field).ok_or_else(|| format!("{field} is missing"))?;
    value.as_bool().ok_or_else(|| format!("{field} is {value}, not true or false"))
}

/// The row of a type; trunking and former sources are `before`'s.
fn row(name: &str, limits: &Limits, before: Option<&str>) -> Result<String, String> {
    let before: Vec<&str> = before.map(|line| line.split(',').collect()).unwrap_or_else(|| vec![""; 13]);
    let [_, _, _, _, _, _, _, _, _, trunking, branch_enis, _, sources] = before.as_slice() else {
        return Err(format!("the CSV's row of {name} has {} columns, expected 13", before.len()));
    };
    let sources = if sources.contains(SOURCE) { (*sources).to_owned() } else { format!("{sources}{SOURCE}") };
    let [columns @ .., (_, vcpus)] = &limits.columns;
    let columns: Vec<&str> = columns.iter().map(|(_, text)| text.as_str()).collect();
    Ok(format!("{name},{},{trunking},{branch_enis},{vcpus},{sources}", columns.join(",")))
}

fn without_sources(row: &str) -> &str {
    row.rsplit_once(',').map_or(row, |(facts, _)| facts)
}
