// SPDX-License-Identifier: Apache-2.0
//! The file of classes of nodes (`ENID_SETTINGS_FILE`): a parsed value to classes, or all mistakes at once.
//!
//! ```text
//! classes:                       # in order; of two that fit and set a variable the later one holds
//!   - name: large
//!     selector:                  # all that are named must fit; without a selector: every node
//!       instanceTypes: [m5.24xlarge, "c5.*"]
//!       zones: [us-east-1a]
//!       labels: {enid-class: large}
//!     settings: {WARM_IP_TARGET: 20, MINIMUM_IP_TARGET: 60}
//! ```
//!
//! Whether the text is YAML or JSON is the daemon's to know. Here a typing mistake is found whatever class it is in, also in one that
//! fits no node: keys and variables that there are not, values that their variable does not take (each by itself; what only clashes
//! beside others is [`super::layers`]'), names that two classes have, selectors that select by nothing.
//!
//! An empty text as a value is a setting, too: as if nobody had set the variable. No value at all is a mistake.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{VARIABLES, parse};

/// Something that is wrong in a layer; nothing of that layer is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Mistake {
    /// Where: a class by its name, an annotation by its own.
    pub place: String,
    /// What, and what is allowed.
    pub problem: String,
}

/// One class of nodes and what is set on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name; no other class of the file has it.
    pub name: String,
    /// Which nodes are of it.
    pub selector: Selector,
    /// Variable -> value as text; only variables that may change while the daemon runs.
    pub settings: BTreeMap<String, String>,
}

/// Which nodes are of a class: all that is named must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// One of these patterns fits the instance's type; empty: any.
    pub instance_types: Vec<String>,
    /// One of these patterns fits its zone; empty: any.
    pub zones: Vec<String>,
    /// Labels of the Node, with their values; empty: any.
    pub labels: BTreeMap<String, String>,
}

/// What is known of a node that classes select by; `None`: not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTraits {
    /// Such as `m5.large`.
    pub instance_type: Option<String>,
    /// Such as `us-east-1a`.
    pub zone: Option<String>,
    /// Labels of the Node.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Whether a node is of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Something that decides is not known: until it is, the class does not apply.
    Unknown,
}

impl Selector {
    /// Whether that node is selected.
    #[must_use]
    pub fn fit(&self, node: &NodeTraits) -> Fit {
        let parts = [
            fit_one(&self.instance_types, node.instance_type.as_deref()),
            fit_one(&self.zones, node.zone.as_deref()),
            match (&node.labels, self.labels.is_empty()) {
                (_, true) => Fit::Yes,
                (None, false) => Fit::Unknown,
                (Some(labels), false) => {
                    let has = |(name, value): (&String, &String)| labels.get(name) == Some(value);
                    if self.labels.iter().all(has) { Fit::Yes } else { Fit::No }
                }
            },
        ];
        // What is known not to fit will not, whatever the rest turns out to be.
        [Fit::No, Fit::Unknown].into_iter().find(|fit| parts.contains(fit)).unwrap_or(Fit::Yes)
    }
}

fn fit_one(patterns: &[String], value: Option<&str>) -> Fit {
    match value {
        _ if patterns.is_empty() => Fit::Yes,
        None => Fit::Unknown,
        Some(value) if patterns.iter().any(|pattern| matches(pattern, value)) => Fit::Yes,
        Some(_) => Fit::No,
    }
}

/// `*` stands for any text, also none. The part between two of them is taken where it first comes: if any place does, that one does,
/// and no pattern takes longer than its length times the text's.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

/// The classes of a file, in its order.
///
/// # Errors
/// All mistakes of the whole file; never empty.
pub fn read_settings(file: &Value) -> Result<Vec<Class>, Vec<Mistake>> {
    let mut reader = Reader::default();
    let classes = reader.file(file);
    if reader.mistakes.is_empty() { Ok(classes) } else { Err(reader.mistakes) }
}

/// Whether a variable may be set in a layer above the environment, to that value.
pub(super) fn check(variable: &str, value: &str) -> Result<(), String> {
    let Some(row) = VARIABLES.iter().find(|row| row.name == variable) else {
        let known = VARIABLES.iter().filter(|row| row.is_live).map(|row| row.name);
        return Err(format!("no such variable `{variable}`; there are {}", known.collect::<Vec<_>>().join(", ")));
    };
    if !row.is_live {
        return Err(format!("{variable} takes effect only from the environment, at a start"));
    }
    let alone = BTreeMap::from([(variable.to_owned(), value.to_owned())]);
    let errors = parse(&alone).err().unwrap_or_default();
    if errors.is_empty() { Ok(()) } else { Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")) }
}

#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn wrong(&mut self, place: &str, problem: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.to_owned(), problem: problem.into() });
    }

    fn file(&mut self, file: &Value) -> Vec<Class> {
        const PLACE: &str = "the file";
        let Some(top) = self.map(PLACE, file, &["classes"]) else { return Vec::new() };
        let classes = match top.get("classes") {
            Some(Value::Array(classes)) => classes.as_slice(),
            Some(_) => {
                self.wrong(PLACE, "classes: a list of classes is allowed");
                &[]
            }
            None => {
                self.wrong(PLACE, "classes is missing; an empty list is allowed");
                &[]
            }
        };
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for (index, class) in classes.iter().enumerate() {
            let Some(class) = self.class(index + 1, class) else { continue };
            if !names.insert(class.name.clone()) {
                self.wrong(&place(&class.name), "another class before it has the same name");
            }
            read.push(class);
        }
        read
    }

    fn class(&mut self, number: usize, class: &Value) -> Option<Class> {
        let name = class.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
        let place = name.map_or_else(|| format!("class {number}"), place);
        let fields = self.map(&place, class, &["name", "selector", "settings"])?;
        if name.is_none() {
            self.wrong(&place, "name: a text that is not empty is needed");
        }
        let selector = fields.get("selector").map(|selector| self.selector(&place, selector)).unwrap_or_default();
        let settings = match fields.get("settings") {
            Some(settings) => self.settings(&place, settings),
            None => {
                self.wrong(&place, "settings is missing: what the class is for");
                BTreeMap::new()
            }
        };
        Some(Class { name: name.unwrap_or_default().to_owned(), selector, settings })
    }

    fn selector(&mut self, place: &str, selector: &Value) -> Selector {
        let place = format!("{place}, selector");
        let Some(fields) = self.map(&place, selector, &["instanceTypes", "zones", "labels"]) else {
            return Selector::default();
        };
        let labels = fields.get("labels").map(|labels| self.labels(&place, labels)).unwrap_or_default();
        let mut list = |name: &str| fields.get(name).map(|list| self.texts(&place, name, list)).unwrap_or_default();
        Selector { instance_types: list("instanceTypes"), zones: list("zones"), labels }
    }

    fn texts(&mut self, place: &str, name: &str, list: &Value) -> Vec<String> {
        let texts: Option<Vec<String>> = list.as_array().and_then(|list| {
            let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
            list.iter().map(text).collect()
        });
        match texts {
            Some(texts) if !texts.is_empty() => texts,
            Some(_) => {
                self.wrong(place, format!("{name}: an empty list selects no node; leave it out to select every one"));
                Vec::new()
            }
            None => {
                self.wrong(place, format!("{name}: a list of texts such as [\"c5.*\"] is allowed"));
                Vec::new()
            }
        }
    }

    fn labels(&mut self, place: &str, labels: &Value) -> BTreeMap<String, String> {
        let Some(fields) = labels.as_object().filter(|fields| !fields.is_empty()) else {
            self.wrong(place, "labels: names with their values are allowed, one at least");
            return BTreeMap::new();
        };
        let mut read = BTreeMap::new();
        for (name, value) in fields {
            match value.as_str() {
                Some(value) => {
                    read.insert(name.clone(), value.to_owned());
                }
                // `true` and `1` are no texts in YAML, and labels have nothing else.
                None => self.wrong(place, format!("labels: {name}: a text is allowed; put the value into quotes")),
            }
        }
        read
    }

    fn settings(&mut self, place: &str, settings: &Value) -> BTreeMap<String, String> {
        let Some(fields) = settings.as_object() else {
            self.wrong(place, "settings: variables with their values are allowed");
            return BTreeMap::new();
        };
        let mut read = BTreeMap::new();
        for (variable, value) in fields {
            let Some(text) = text(value) else {
                let problem =
                    format!("{variable}: a number, true, false or a text is allowed; '' is as if nobody had set it");
                self.wrong(place, problem);
                continue;
            };
            match check(variable, &text) {
                Ok(()) => {
                    read.insert(variable.clone(), text);
                }
                Err(problem) => self.wrong(place, problem),
            }
        }
        read
    }

    /// The fields of a map that has no others than these.
    fn map<'a>(&mut self, place: &str, value: &'a Value, keys: &[&str]) -> Option<&'a Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.wrong(place, format!("a map with {} is allowed", keys.join(", ")));
            return None;
        };
        for key in fields.keys().filter(|key| !keys.contains(&key.as_str())) {
            self.wrong(place, format!("no such key `{key}`; there are {}", keys.join(", ")));
        }
        Some(fields)
    }
}

fn place(name: &str) -> String {
    format!("class `{name}`")
}

/// A value as the environment would have it. Maps are JSON (ADDITIONAL_ENI_TAGS), lists are joined by commas (blocks).
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Object(_) => Some(value.to_string()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| part.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.join(",")),
        Value::Null => None,
    }
}

#[cfg(test)]
mod tests;
