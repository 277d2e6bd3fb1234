// SPDX-License-Identifier: Apache-2.0
//! An answer without what is free to choose.
//!
//! Ids that the script keeps become their names, other ids their kind; times, MACs, account numbers and addresses that no
//! call names become a word. Lists lose their order: items that have a name of their own are found by it, of others each
//! field is a sorted list, with an ENI's primary address apart. An empty element is an absent one (EC2 writes either).
//!
//! ```text
//! <networkInterfaceSet><item><networkInterfaceId>eni-7</…><macAddress>0a:…</…></item></networkInterfaceSet>
//!   ─► networkInterfaceSet { [$first] { networkInterfaceId: $first, macAddress: <mac> } }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use roxmltree::Node;

/// By which child an item of a list is known, the first that it has.
const KEYS: [&str; 9] = [
    "resourceId",
    "networkInterfaceId",
    "instanceId",
    "subnetId",
    "groupId",
    "vpcId",
    "key",
    "networkCardIndex",
    "instanceType",
];

/// Never compared: different at every call.
const IGNORED: [&str; 2] = ["requestId", "reservationId"];

/// A normalised element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text, or the sorted texts of a list's items.
    Text(String),
    /// Children by name; items of a list by `[key]`.
    Record(BTreeMap<String, Value>),
}

impl Value {
    /// For people: one line a text.
    pub(crate) fn lines(&self, indent: &str) -> String {
        match self {
            Self::Text(text) => format!("{indent}{text}\n"),
            Self::Record(fields) => fields
                .iter()
                .map(|(name, value)| match value {
                    Self::Text(text) => format!("{indent}{name}: {text}\n"),
                    Self::Record(_) => format!("{indent}{name}\n{}", value.lines(&format!("{indent}    "))),
                })
                .collect(),
        }
    }
}

/// What is known by name at one emulator.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    by_name: BTreeMap<String, String>,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Names {
    pub(crate) fn new(by_name: BTreeMap<String, String>, addresses: BTreeSet<Ipv4Addr>) -> Self {
        Self { by_name, addresses }
    }

    pub(crate) fn keep(&mut self, name: &str, value: &str) {
        self.by_name.insert(name.to_owned(), value.to_owned());
    }

    /// `value` with every `$name` replaced by what is kept under it.
    pub(crate) fn fill(&self, call: &str, value: &str) -> String {
        let mut parts = value.split('$');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            filled += self.by_name.get(name).unwrap_or_else(|| panic!("{call}: nothing is kept as ${name}"));
            filled += rest;
        }
        filled
    }

    /// A text of an answer, normalised.
    fn text(&self, text: &str) -> String {
        if let Some((service, resource)) = text.strip_prefix("arn:").and_then(|arn| arn.split_once('/')) {
            let parts: Vec<String> = service.split(':').map(|part| self.text(part)).collect();
            return format!("arn:{}/{}", parts.join(":"), self.text(resource));
        }
        if let Some((name, _)) = self.by_name.iter().find(|(_, value)| *value == text) {
            return format!("${name}");
        }
        if let Some(kind) = kind_of_id(text) {
            return format!("<{kind}>");
        }
        let is_time = text.len() >= 19 && text.as_bytes()[10] == b'T' && text.as_bytes()[4] == b'-';
        if is_time && text.ends_with('Z') {
            return "<time>".to_owned();
        }
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return "<account>".to_owned();
        }
        if text.len() == 17 && text.split(':').filter(|part| u8::from_str_radix(part, 16).is_ok()).count() == 6 {
            return "<mac>".to_owned();
        }
        self.address(text).or_else(|| self.host(text)).unwrap_or_else(|| text.to_owned())
    }

    fn address(&self, text: &str) -> Option<String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: Ipv4Addr = address.parse().ok()?;
        let free = !self.addresses.contains(&address);
        free.then(|| length.map_or_else(|| "<address>".to_owned(), |length| format!("<block>/{length}")))
    }

    /// `ip-10-0-0-1.domain` of an address that is free to choose.
    fn host(&self, text: &str) -> Option<String> {
        let (host, domain) = text.strip_prefix("ip-")?.split_once('.')?;
        let address: Ipv4Addr = host.replace('-', ".").parse().ok()?;
        (!self.addresses.contains(&address)).then(|| format!("ip-<address>.{domain}"))
    }
}

/// `eni` of `eni-0123456789abcdef0`.
fn kind_of_id(text: &str) -> Option<&str> {
    let (kind, number) = text.rsplit_once('-')?;
    let hex = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')).then_some(kind)
}

/// An element with its children; `None`: it is empty.
pub(crate) fn normalise(node: Node<'_, '_>, names: &Names) -> Option<Value> {
    let children: Vec<Node<'_, '_>> = node.children().filter(Node::is_element).collect();
    if children.is_empty() {
        let text = node.text().map(str::trim).filter(|text| !text.is_empty())?;
        return Some(Value::Text(names.text(text)));
    }
    if children.iter().all(|child| child.tag_name().name() == "item") {
        return list(&children, names);
    }
    let fields = children.iter().filter(|child| !IGNORED.contains(&child.tag_name().name()));
    let field = |child: &Node<'_, '_>| {
        let value = match child.tag_name().name() {
            "nextToken" => Value::Text("<token>".to_owned()),
            _ => normalise(*child, names)?,
        };
        Some((child.tag_name().name().to_owned(), value))
    };
    let fields: BTreeMap<String, Value> = fields.filter_map(field).collect();
    (!fields.is_empty()).then_some(Value::Record(fields))
}

fn list(items: &[Node<'_, '_>], names: &Names) -> Option<Value> {
    let values: Vec<Value> = items.iter().filter_map(|item| normalise(*item, names)).collect();
    let is_address = |value: &Value| matches!(value, Value::Record(item) if item.contains_key("privateIpAddress"));
    let is_primary = |value: &Value| matches!(value, Value::Record(item) if item.get("primary").is_some_and(is_true));
    if values.iter().any(is_primary) && values.iter().all(is_address) {
        let (primary, secondary): (Vec<Value>, Vec<Value>) = values.into_iter().partition(is_primary);
        let roles = [("primary", fold(primary)), ("secondary", fold(secondary))];
        let roles = roles.into_iter().filter_map(|(role, items)| Some((role.to_owned(), items?)));
        return Some(Value::Record(roles.collect()));
    }
    let keyed: BTreeMap<String, Value> =
        values.iter().filter_map(|value| Some((format!("[{}]", key_of(value)?), value.clone()))).collect();
    if !values.is_empty() && keyed.len() == values.len() {
        return Some(Value::Record(keyed));
    }
    fold(values)
}

fn is_true(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text == "true")
}

/// Items that have no names of their own: for each field the texts of all. Items of inner lists that have names keep them.
fn fold(values: Vec<Value>) -> Option<Value> {
    let mut texts = Vec::new();
    let mut fields: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for value in values {
        match value {
            Value::Text(text) => texts.push(text),
            Value::Record(record) => {
                for (name, value) in record {
                    fields.entry(name).or_default().push(value);
                }
            }
        }
    }
    if fields.is_empty() {
        return (!texts.is_empty()).then(|| Value::Text(counted(texts)));
    }
    let folded = fields.into_iter().filter_map(|(name, values)| Some((name, fold(values)?)));
    Some(Value::Record(folded.collect()))
}

/// The text by which an item is known; none when it is not a name but a word for what is free to choose.
fn key_of(value: &Value) -> Option<String> {
    let Value::Record(fields) = value else { return None };
    let key = KEYS.iter().find_map(|key| fields.get(*key))?;
    let Value::Text(key) = key else { return None };
    // Tags of several resources in one list: each has the key again.
    let second = match (fields.get("resourceId"), fields.get("key")) {
        (Some(_), Some(Value::Text(second))) => format!(" {second}"),
        _ => String::new(),
    };
    (!key.starts_with('<')).then(|| format!("{key}{second}"))
}

/// `a, b x2`.
fn counted(texts: Vec<String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let each = counts.into_iter().map(|(text, count)| if count == 1 { text } else { format!("{text} x{count}") });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn names() -> Names {
        let kept = [("first", "eni-0000000000000007"), ("att", "eni-attach-00000001")];
        let kept = kept.map(|(name, id)| (name.to_owned(), id.to_owned()));
        Names::new(kept.into(), ["10.9.2.10".parse().unwrap()].into())
    }

    #[test]
    fn what_is_free_to_choose_becomes_a_word_and_what_is_named_stays() {
        for (text, normal) in [
            ("eni-0000000000000007", "$first"),
            ("eni-00000000deadbeef", "<eni>"),
            ("eni-attach-00000002", "<eni-attach>"),
            ("us-east-1a", "us-east-1a"),
            ("2026-01-01T10:00:00.000Z", "<time>"),
            ("0a:1b:2c:3d:4e:5f", "<mac>"),
            ("02:00:00:15002x:24702x:24502x", "02:00:00:15002x:24702x:24502x"),
            ("123456789012", "<account>"),
            (
                "arn:aws:ec2:us-east-1:000000000000:subnet/subnet-00000007",
                "arn:aws:ec2:us-east-1:<account>:subnet/<subnet>",
            ),
            ("10.9.2.10", "10.9.2.10"),
            ("10.9.2.11", "<address>"),
            ("10.9.2.16/28", "<block>/28"),
            ("ip-10-9-2-11.ec2.internal", "ip-<address>.ec2.internal"),
            ("ip-10-9-2-10.ec2.internal", "ip-10-9-2-10.ec2.internal"),
        ] {
            assert_eq!(names().text(text), normal);
        }
    }

    #[test]
    fn items_are_known_by_their_names_and_others_are_counted() {
        let text = "<r xmlns='n'><set><item><networkInterfaceId>eni-0000000000000007</networkInterfaceId><tags/>\
            <ips><item><privateIpAddress>10.9.1.4</privateIpAddress><primary>true</primary></item>\
            <item><privateIpAddress>10.9.1.5</privateIpAddress><primary>false</primary></item>\
            <item><privateIpAddress>10.9.1.6</privateIpAddress></item></ips></item></set></r>";
        let document = Document::parse(text).unwrap();
        let value = normalise(document.root_element(), &names()).unwrap();
        let wanted = "set\n    [$first]\n        ips\n            primary\n                primary: true\n                \
            privateIpAddress: <address>\n            secondary\n                primary: false\n                \
            privateIpAddress: <address> x2\n        networkInterfaceId: $first\n";
        assert_eq!(value.lines(""), wanted);
    }

    #[test]
    fn a_name_is_replaced_wherever_it_stands_in_a_parameter() {
        assert_eq!(names().fill("call", "x$first/$att."), "xeni-0000000000000007/eni-attach-00000001.");
    }
}
