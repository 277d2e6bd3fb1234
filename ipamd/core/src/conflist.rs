// SPDX-License-Identifier: Apache-2.0
//! The network configuration list `10-aws.conflist`: what it says by the settings, and what becomes of one that is there.
//!
//! Others write into the file too: service meshes (linkerd-cni, istio-cni) append a plugin, operators add keys. Theirs stays, in its
//! place and order; what is ours is renewed; what the reference wrote for work that `aws-cni` does itself goes. Does no IO.
//!
//! | in a file that is there | becomes |
//! |---|---|
//! | key beside `plugins` | ours is renewed, another's stays; the reference's `disableCheck` goes with its list |
//! | entry `aws-cni` | our keys are renewed, others' stay, in its place |
//! | entry `egress-cni`, and `portmap` as the reference writes it | goes: `aws-cni` does it |
//! | another `portmap` | stays, and `aws-cni` is not told of ports: they are opened once |
//! | entry that we would write and are not asked for any more (`bandwidth`, `tuning`) | goes |
//! | entry of a type that is asked for | its keys are renewed, others' stay, in its place; of `tuning` only ours: another's stays beside |
//! | any other | stays in its place |
//! | what is asked for and not there | comes right behind `aws-cni` |
//!
//! Invariant: merging with its own outcome changes nothing.
//!
//! Source: CNI specification 1.1.0, "Network configuration format"; amazon-vpc-cni-k8s, `misc/10-aws.conflist`, for the words of a
//! template.

use serde_json::{Map, Value, json};

use crate::config::Config;

#[cfg(test)]
mod tests;

/// The reference's name of the file: runtimes take the first by name.
pub const NAME: &str = "10-aws.conflist";

/// Type of our plugin, and name of its program.
pub const PLUGIN: &str = "aws-cni";

/// The list as it is shipped, for an empty environment.
const SHIPPED: &str = include_str!("../../../deploy/10-aws.conflist");

/// The reference's second plugin: only its lists have it.
const EGRESS: &str = "egress-cni";
const PORTMAP: &str = "portmap";
const PORT_MAPPINGS: &str = "portMappings";

/// Keys of our entry that only we write: one that the settings do not ask for goes.
const OWN_KEYS: [&str; 9] = [
    "name",
    "type",
    "vethPrefix",
    "mtu",
    "podSGEnforcingMode",
    "pluginLogFile",
    "pluginLogLevel",
    "ipamdSocket",
    "stateDir",
];

/// A text that is no list of `aws-cni`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// Something is missing, or of another type.
    #[error("it has no {0}")]
    Lacks(&'static str),
    /// Words of a template that nothing is put in place of.
    #[error("nothing is known to put in place of {0}")]
    Unknown(String),
}

/// A list and whose plugins besides ours are in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The list.
    pub list: Value,
    /// Types of the entries that others put in, in order.
    pub others: Vec<String>,
}

/// The list that the settings ask for: ours, or `template` with what they say put in.
///
/// # Errors
/// The template is none.
pub fn wanted(config: &Config, template: Option<&str>) -> Result<Value, Malformed> {
    let mut shipped = parse(SHIPPED)?;
    let own = own_entry(config, &shipped);
    let Some(template) = template else {
        let mut plugins = vec![own];
        plugins.extend(extras(config));
        shipped.insert("plugins".to_owned(), settled(plugins));
        return Ok(Value::Object(shipped));
    };
    let mut list = parse(&filled(template, config))?;
    let mut plugins: Vec<Value> = plugins(&list).iter().filter(|entry| !is_replaced(entry)).cloned().collect();
    for entry in plugins.iter_mut().filter(|entry| type_of(entry) == PLUGIN) {
        *entry = overlaid(&own, entry);
    }
    let missing: Vec<Value> = extras(config).into_iter().filter(|extra| !has_type(&plugins, type_of(extra))).collect();
    plugins.extend(missing);
    list.insert("plugins".to_owned(), settled(plugins));
    for key in ["cniVersion", "name"] {
        list.entry(key).or_insert_with(|| shipped.remove(key).unwrap_or_default());
    }
    let left = words(&Value::Object(list.clone()));
    if left.is_empty() { Ok(Value::Object(list)) } else { Err(Malformed::Unknown(left.join(", "))) }
}

/// `wanted`, with what others have put into the text of a list that is there.
///
/// # Errors
/// The text is no list of `aws-cni`.
pub fn merged(wanted: &Value, found: &str) -> Result<Merged, Malformed> {
    let mut list = parse(found)?;
    let found: Vec<Value> = plugins(&list).to_vec();
    if has_type(&found, EGRESS) {
        list.remove("disableCheck");
    }
    list.remove("cniVersions");
    let asked: &[Value] = wanted.get("plugins").and_then(Value::as_array).map_or(&[], Vec::as_slice);
    list.extend(wanted.as_object().cloned().unwrap_or_default());
    let places = places(asked, &found);
    let is_missing = |at: &usize| type_of(&asked[*at]) != PLUGIN && !places.contains(&Some(*at));
    let (mut plugins, mut others) = (Vec::new(), Vec::new());
    for (entry, place) in found.iter().zip(&places) {
        let kind = type_of(entry);
        match place.map(|at| &asked[at]) {
            Some(_) if kind == PLUGIN && has_type(&plugins, kind) => {}
            Some(ours) if plugins.contains(ours) && !is_one_of_several(asked, ours) => {}
            Some(ours) if kind == PLUGIN => {
                plugins.push(overlaid(&without_own_keys(entry), ours));
                plugins.extend((0..asked.len()).filter(is_missing).map(|at| asked[at].clone()));
            }
            Some(ours) => plugins.push(overlaid(entry, ours)),
            None if is_replaced(entry) || is_idle_extra(entry) => {}
            None => {
                others.push(kind.to_owned());
                plugins.push(entry.clone());
            }
        }
    }
    list.insert("plugins".to_owned(), settled(plugins));
    Ok(Merged { list: Value::Object(list), others })
}

/// Whether an entry that is there is one that is asked for. What somebody else tunes is another entry than ours, and both are run.
fn is_ours(ours: &Value, entry: &Value) -> bool {
    type_of(ours) == type_of(entry) && (type_of(ours) != type_of(&tuning()) || ours == entry)
}

fn is_one_of_several(asked: &[Value], ours: &Value) -> bool {
    asked.iter().filter(|other| is_ours(ours, other)).count() > 1
}

/// For each entry that is there which of those that are asked for it is. Of several of one type, as a template may have, each is taken
/// once: by the entry that is just like it, else by the first that is like none.
fn places(asked: &[Value], found: &[Value]) -> Vec<Option<usize>> {
    let mut places: Vec<Option<usize>> = vec![None; found.len()];
    let candidates = |entry: &Value| (0..asked.len()).filter(|at| is_ours(&asked[*at], entry)).collect::<Vec<_>>();
    for alike in [true, false] {
        for (nth, entry) in found.iter().enumerate().filter(|(nth, _)| places[*nth].is_none()).collect::<Vec<_>>() {
            places[nth] = match candidates(entry)[..] {
                [only] => Some(only),
                ref several => {
                    let is_free = |at: &&usize| !places.contains(&Some(**at)) && (!alike || asked[**at] == *entry);
                    several.iter().find(is_free).copied()
                }
            };
        }
    }
    places
}

/// Whether a file is one of ours, and not the reference's; the types of others' entries in it.
#[must_use]
pub fn ours(text: &str) -> Option<Vec<String>> {
    let list = parse(text).ok()?;
    let plugins = plugins(&list);
    let others = || plugins.iter().map(type_of).filter(|kind| *kind != PLUGIN).map(str::to_owned).collect();
    (!has_type(plugins, EGRESS)).then(others)
}

/// As it is written to the file.
#[must_use]
pub fn text(list: &Value) -> String {
    format!("{list:#}\n")
}

/// Of the names in a folder those that runtimes take before [`NAME`], in order (libcni: `.conf`, `.conflist` and `.json`, by name).
#[must_use]
pub fn taken_before<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let is_read =
        |name: &str| name.rsplit_once('.').is_some_and(|(_, end)| ["conf", "conflist", "json"].contains(&end));
    let mut before: Vec<&str> = names.into_iter().filter(|name| is_read(name) && *name < NAME).collect();
    before.sort_unstable();
    before
}

/// The object of a list that has an entry `aws-cni` and whose entries all have a type.
fn parse(text: &str) -> Result<Map<String, Value>, Malformed> {
    let value: Value = serde_json::from_str(text).map_err(|error| Malformed::NotJson(error.to_string()))?;
    let Value::Object(list) = value else { return Err(Malformed::Lacks("object")) };
    let plugins = list.get("plugins").and_then(Value::as_array).ok_or(Malformed::Lacks("array `plugins`"))?;
    if plugins.iter().any(|entry| type_of(entry).is_empty()) {
        return Err(Malformed::Lacks("`type` in one of its plugins"));
    }
    if has_type(plugins, PLUGIN) { Ok(list) } else { Err(Malformed::Lacks("plugin of type aws-cni")) }
}

fn plugins(list: &Map<String, Value>) -> &[Value] {
    list.get("plugins").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn type_of(entry: &Value) -> &str {
    entry.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn has_type(plugins: &[Value], kind: &str) -> bool {
    plugins.iter().any(|entry| type_of(entry) == kind)
}

/// Our entry: the shipped one with what the settings say.
fn own_entry(config: &Config, shipped: &Map<String, Value>) -> Value {
    let mut entry = plugins(shipped).first().and_then(Value::as_object).cloned().unwrap_or_default();
    let mut set = |key: &str, value: String| entry.insert(key.to_owned(), Value::String(value));
    set("vethPrefix", config.veth_prefix.clone());
    set("mtu", config.pod_mtu.to_string());
    set("pluginLogFile", config.cni.plugin_log.clone());
    set("pluginLogLevel", config.cni.plugin_log_level.clone());
    let usual = Config::default();
    if config.socket != usual.socket {
        set("ipamdSocket", config.socket.display().to_string());
    }
    if let Some(folder) = config.journal.parent().filter(|folder| usual.journal.parent() != Some(*folder)) {
        set("stateDir", folder.display().to_string());
    }
    Value::Object(entry)
}

/// The further plugins that the settings ask for, as the reference writes them.
fn extras(config: &Config) -> Vec<Value> {
    let asked = [(config.cni.has_bandwidth, bandwidth()), (config.cni.disables_pod_ipv6, tuning())];
    asked.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, entry)| entry).collect()
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

fn tuning() -> Value {
    let off = |scope: &str| format!("net.ipv6.conf.{scope}.disable_ipv6");
    json!({ "type": "tuning", "sysctl": { off("all"): "1", off("default"): "1", off("lo"): "1" } })
}

/// Whether an entry is just as we would write it.
fn is_idle_extra(entry: &Value) -> bool {
    *entry == bandwidth() || *entry == tuning()
}

/// Whether an entry is the reference's for what `aws-cni` does itself.
fn is_replaced(entry: &Value) -> bool {
    let portmap = json!({ "type": PORTMAP, "capabilities": { PORT_MAPPINGS: true } });
    type_of(entry) == EGRESS || *entry == portmap || *entry == overlaid(&portmap, &json!({ "snat": true }))
}

fn without_own_keys(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Value::Object(keys) = &mut entry {
        keys.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
    }
    entry
}

/// `below` with the keys of `above` over it; capabilities are united.
fn overlaid(below: &Value, above: &Value) -> Value {
    let (Value::Object(below), Value::Object(above)) = (below, above) else { return above.clone() };
    let mut both = below.clone();
    for (key, value) in above {
        let value = match (key.as_str(), below.get(key)) {
            ("capabilities", Some(found)) => overlaid(found, value),
            _ => value.clone(),
        };
        both.insert(key.clone(), value);
    }
    Value::Object(both)
}

/// Ports are opened by `portmap` where somebody has that, else by us.
fn settled(mut plugins: Vec<Value>) -> Value {
    if has_type(&plugins, PORTMAP) {
        let own = plugins.iter_mut().find(|entry| type_of(entry) == PLUGIN);
        if let Some(Value::Object(capabilities)) = own.and_then(|entry| entry.get_mut("capabilities")) {
            capabilities.remove(PORT_MAPPINGS);
        }
    }
    Value::Array(plugins)
}

/// A template with the words of ours in it replaced.
fn filled(template: &str, config: &Config) -> String {
    let quoted = |text: &str| {
        let quoted = Value::String(text.to_owned()).to_string();
        quoted.trim_matches('"').to_owned()
    };
    let mtu = config.pod_mtu.to_string();
    let words = [
        ("__VETHPREFIX__", config.veth_prefix.as_str()),
        ("__MTU__", &mtu),
        ("__PODSGENFORCINGMODE__", "strict"),
        ("__PLUGINLOGFILE__", &config.cni.plugin_log),
        ("__PLUGINLOGLEVEL__", &config.cni.plugin_log_level),
    ];
    words.iter().fold(template.to_owned(), |text, (word, value)| text.replace(word, &quoted(value)))
}

/// Texts of a list that are words of a template still.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            let is_word = text.len() > 4 && text.starts_with("__") && text.ends_with("__");
            if is_word { vec![text.clone()] } else { Vec::new() }
        }
        Value::Array(items) => items.iter().flat_map(words).collect(),
        Value::Object(keys) => keys.values().flat_map(words).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
