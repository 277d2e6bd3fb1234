// SPDX-License-Identifier: Apache-2.0
//! The list of calls, and one emulator's way through it.
//!
//! ```text
//! attach.first: AttachNetworkInterface NetworkInterfaceId=$first InstanceId=$node DeviceIndex=1 -> att=attachmentId
//! name          action                 parameters, $x a value kept under x                      what to keep of the answer
//! page.first: DescribeNetworkInterfaces MaxResults=5 -> #networkInterfaceSet                    only how long a list is
//! tags.51: CreateTags ResourceId.1=$x Tag.1..51.Key=k#                                          51 parameters, # the number
//! ```
//!
//! Invariant: a name that is kept is kept at every emulator, or the run fails: later calls mean the same thing everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use integration::imds_http::{QueryClient, QueryError};
use roxmltree::{Document, Node};

use crate::normal::{Names, Value, normalise};

/// One line of the list.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) action: String,
    params: Vec<(String, String)>,
    keep: Vec<(String, Vec<String>)>,
    /// The list of which only the length is compared: which items a page has is the emulator's to choose.
    count: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this content.
    Answered(Value),
    /// HTTP status and EC2's code.
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(value) => write!(f, "ok\n{}", value.lines("    ")),
            Self::Refused(text) => write!(f, "{text}"),
        }
    }
}

/// Reads the list; empty lines and those that start with `#` are for people.
pub(crate) fn parse(text: &str) -> Result<Vec<Call>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let calls: Vec<Call> =
        lines.map(|(at, line)| call(line).ok_or(format!("line {}: {line}", at + 1))).collect::<Result<_, _>>()?;
    let names: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    if names.len() == calls.len() { Ok(calls) } else { Err("a name is used twice".to_owned()) }
}

fn call(line: &str) -> Option<Call> {
    let (line, keep) = line.split_once(" -> ").unwrap_or((line, ""));
    let (name, rest) = line.split_once(": ")?;
    let mut words = rest.split_whitespace();
    let action = words.next()?.to_owned();
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let params = words.map(|word| pair(word).and_then(many)).collect::<Option<Vec<_>>>()?.concat();
    let kept = |(name, path): (String, String)| (name, path.split('/').map(str::to_owned).collect());
    let count = keep.strip_prefix('#').map(str::to_owned);
    let keep = if count.is_some() { "" } else { keep };
    let keep = keep.split_whitespace().map(|word| pair(word).map(kept)).collect::<Option<Vec<_>>>()?;
    Some(Call { name: name.to_owned(), action, params, keep, count })
}

/// `Tag.1..51.Key=k#` as 51 parameters; any other as itself.
fn many((name, value): (String, String)) -> Option<Vec<(String, String)>> {
    let Some((before, after)) = name.split_once("..") else { return Some(vec![(name, value)]) };
    let (list, first) = before.rsplit_once('.')?;
    let (last, rest) = after.split_once('.').map_or((after, String::new()), |(last, rest)| (last, format!(".{rest}")));
    let numbers = first.parse::<u32>().ok()?..=last.parse().ok()?;
    Some(numbers.map(|number| (format!("{list}.{number}{rest}"), value.replace('#', &number.to_string()))).collect())
}

/// The addresses that calls name: those are compared, all others are free to choose.
pub(crate) fn named_addresses(calls: &[Call]) -> BTreeSet<Ipv4Addr> {
    let values = calls.iter().flat_map(|call| &call.params).map(|(_, value)| value);
    values.filter_map(|value| value.split('/').next()?.parse().ok()).collect()
}

/// Sends every call and gives the answers by name of the call.
pub(crate) async fn run(client: &QueryClient, mut names: Names, calls: &[Call]) -> BTreeMap<String, Outcome> {
    let mut answers = BTreeMap::new();
    for call in calls {
        let params: Vec<(String, String)> =
            call.params.iter().map(|(name, value)| (name.clone(), names.fill(&call.name, value))).collect();
        let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let outcome = match client.call(&call.action, &params).await {
            Ok(text) => answered(call, &text, &mut names),
            Err(QueryError::Refused { status, code, .. }) => Outcome::Refused(format!("{} {code}", status.as_u16())),
            Err(QueryError::NotXml { status, .. }) => Outcome::Refused(format!("{} without XML", status.as_u16())),
            Err(error @ QueryError::Http { .. }) => panic!("{}: {error:?}", call.name),
        };
        if let (Outcome::Refused(refusal), false) = (&outcome, call.keep.is_empty()) {
            panic!("{} is to keep something, but: {refusal}", call.name);
        }
        answers.insert(call.name.clone(), outcome);
    }
    answers
}

fn answered(call: &Call, text: &str, names: &mut Names) -> Outcome {
    let document = Document::parse(text).unwrap();
    let root = document.root_element();
    for (name, path) in &call.keep {
        let found = find(root, path).unwrap_or_else(|| panic!("{}: no {path:?} in {text}", call.name));
        names.keep(name, &found);
    }
    let mut value = normalise(root, names).unwrap_or_else(|| Value::Record(BTreeMap::new()));
    if let (Some(list), Value::Record(fields)) = (&call.count, &mut value) {
        let set = root.children().find(|child| child.tag_name().name() == list);
        let items = set.map_or(0, |set| set.children().filter(Node::is_element).count());
        fields.insert(list.clone(), Value::Text(format!("{items} items")));
    }
    Outcome::Answered(value)
}

/// The first text at this path, `item` elements aside.
fn find(node: Node<'_, '_>, path: &[String]) -> Option<String> {
    let [first, rest @ ..] = path else { return node.text().map(str::to_owned) };
    let inside = |node: Node<'_, '_>| match node.tag_name().name() {
        "item" => find(node, path),
        name if name == first => find(node, rest),
        _ => None,
    };
    node.children().find_map(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_an_action_parameters_and_what_to_keep() {
        let text =
            "# people\n\na.b: Assign Id=$x Filter.1.Name=tag:k -> att=set/attachmentId n=y\nc: Describe -> #set\n";
        let calls = parse(text).unwrap();
        assert_eq!((calls[0].name.as_str(), calls[0].action.as_str()), ("a.b", "Assign"));
        assert_eq!(calls[0].params[1], ("Filter.1.Name".to_owned(), "tag:k".to_owned()));
        assert_eq!(calls[0].keep[0], ("att".to_owned(), vec!["set".to_owned(), "attachmentId".to_owned()]));
        assert_eq!((calls[1].keep.len(), calls[1].count.as_deref()), (0, Some("set")));
        let calls = parse("t: Tag Tag.1..3.Key=k# Value.9..10=v\n").unwrap();
        let names: Vec<String> = calls[0].params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["Tag.1.Key=k1", "Tag.2.Key=k2", "Tag.3.Key=k3", "Value.9=v", "Value.10=v"]);
        assert!(parse("a Assign\n").is_err() && parse("a: X p\n").is_err());
        assert!(parse("a: X\na: Y\n").is_err(), "two calls of one name");
    }
}
