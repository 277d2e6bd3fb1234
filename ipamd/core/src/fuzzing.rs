// SPDX-License-Identifier: Apache-2.0
//! What must hold of the core whatever bytes it is given: files that a disk or another version has spoilt, settings that people type,
//! texts of EC2. Built for tests and fuzzers only (`fuzz/`); each function takes one input and panics when something does not hold.
//!
//! | function | input | holds |
//! |---|---|---|
//! | [`journal`] | `ipam.json`, `enid.json` and what the kernel has, between lines `---` | see [`journal`](mod@journal) |
//! | [`settings`] | a file of classes, as the value that YAML or JSON came to | what is taken is what the environment would take |
//! | [`environment`] | lines `NAME=value` | all mistakes name a variable; what is shown is what holds |
//! | [`nat_file`] | `ENID_SNAT_FILE` | blocks are whole, sorted, each once; reading what was read changes nothing |
//! | [`conflist`] | a list that is there, and a template | merging with its own outcome changes nothing, others' entries stay |
//! | [`texts`] | a line: MAC address, time, EC2's code and message | what is read is what is printed |
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

mod journal;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{
    Config, Fit, Layers, NatBlocks, NodeTraits, VARIABLES, parse, parse_nat_file, read_annotations, read_settings,
};
use crate::conflist as list;
use crate::ec2::{Sent, classify};
use crate::event::FailureClass;
use crate::ids::MacAddr;
use crate::tags;

pub use journal::journal;

/// The line between two parts of an input.
pub const BETWEEN: &str = "\n---\n";

/// The parts of an input; what is not there is empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    let mut parts = [&[][..]; N];
    for (index, part) in parts.iter_mut().enumerate() {
        let at =
            if index + 1 < N { rest.windows(BETWEEN.len()).position(|here| here == BETWEEN.as_bytes()) } else { None };
        let end = at.unwrap_or(rest.len());
        *part = &rest[..end];
        rest = rest.get(end + BETWEEN.len()..).unwrap_or_default();
    }
    parts
}

/// A file of classes of nodes: whatever is taken can be resolved to a configuration or is refused with its reasons.
pub fn settings(file: &Value) {
    let classes = match read_settings(file) {
        Ok(classes) => classes,
        Err(mistakes) => {
            assert!(!mistakes.is_empty() && mistakes.iter().all(|mistake| !mistake.problem.is_empty()));
            return;
        }
    };
    let zone = Some("us-east-1a".to_owned());
    for instance_type in [None, Some("m5.large".to_owned()), Some("c5n.18xlarge".to_owned())] {
        let labels = instance_type.as_ref().map(|_| BTreeMap::from([("enid-class".to_owned(), "large".to_owned())]));
        let node = NodeTraits { instance_type, zone: zone.clone(), labels };
        let fitting: Vec<_> = classes.iter().filter(|class| class.selector.fit(&node) == Fit::Yes).collect();
        let layers = Layers { classes: classes.clone(), node: node.clone(), annotations: BTreeMap::new() };
        let Ok(resolved) = layers.resolve(&BTreeMap::new()) else { continue };
        // The same settings as the environment, the later class over the earlier.
        let flat: BTreeMap<String, String> = fitting.iter().flat_map(|class| class.settings.clone()).collect();
        assert_eq!(parse(&flat).map(|(config, _)| config), Ok(resolved.config), "{flat:?}");
        for (variable, (_, origin)) in &resolved.values {
            assert!(flat.contains_key(variable), "{variable} is said to be of {origin}");
        }
    }
}

/// An environment, and the same as annotations of the Node.
pub fn environment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let variables: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    match parse(&variables) {
        Ok((config, notes)) => {
            assert!(notes.iter().all(|note| VARIABLES.iter().any(|row| row.name == note.variable)), "{notes:?}");
            assert!(config.pod_mtu <= config.eni_mtu, "{} over {}", config.pod_mtu, config.eni_mtu);
            let shipped = list::wanted(&config, None).expect("the list as shipped");
            assert_eq!(list::merged(&shipped, &list::text(&shipped)).expect("our own list").list, shipped);
            let mut again = config.clone();
            again.take_live(config.live());
            assert_eq!(again, config);
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| !error.variable.is_empty()), "{errors:?}");
        }
    }
    let annotations =
        variables.iter().map(|(name, value)| (format!("{}{name}", crate::config::ANNOTATION), value.clone())).collect();
    if let Ok(settings) = read_annotations(&annotations) {
        let layers = Layers { annotations: settings.clone(), ..Layers::default() };
        let alone = layers.resolve(&BTreeMap::new()).map(|resolved| resolved.config).map_err(|_| ());
        assert_eq!(alone, parse(&settings).map(|(config, _)| config).map_err(|_| ()), "{settings:?}");
    }
}

/// The file of blocks.
pub fn nat_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variables = NatBlocks { exclude: vec!["10.9.0.0/16".parse().unwrap()], ..NatBlocks::default() };
    let Ok(blocks) = parse_nat_file(text, &variables) else { return };
    for list in [&blocks.exclude, &blocks.include, &blocks.external_services] {
        assert!(list.windows(2).all(|two| two[0] < two[1]), "{list:?}");
        assert!(list.iter().all(|block| *block == block.trunc()), "{list:?}");
    }
    let texts = |list: &[ipnet::Ipv4Net]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut again = serde_json::Map::new();
    again.insert("exclude".to_owned(), texts(&blocks.exclude).into());
    again.insert("external_services".to_owned(), texts(&blocks.external_services).into());
    if !blocks.include.is_empty() {
        again.insert("include".to_owned(), texts(&blocks.include).into());
    }
    assert_eq!(parse_nat_file(&Value::Object(again).to_string(), &variables), Ok(blocks));
}

/// A configuration list that others have written into, and a template of one.
pub fn conflist(data: &[u8]) {
    let [found, template] = parts::<2>(data).map(String::from_utf8_lossy);
    let variables = [("ENABLE_BANDWIDTH_PLUGIN", "true"), ("DISABLE_POD_V6", "true")];
    let variables: BTreeMap<String, String> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for config in [Config::default(), parse(&variables).map(|(config, _)| config).unwrap_or_default()] {
        let Ok(wanted) = list::wanted(&config, Some(template.as_ref()).filter(|text| !text.is_empty())) else {
            continue;
        };
        let Ok(merged) = list::merged(&wanted, &found) else { continue };
        let text = list::text(&merged.list);
        let again = list::merged(&wanted, &text).expect("our own list");
        assert_eq!(again, merged, "merging once more changes something");
        assert!(list::ours(&text).is_some(), "{text}");
        for other in &merged.others {
            assert!(text.contains(&Value::from(other.as_str()).to_string()), "{other} is lost");
        }
    }
}

/// Single texts.
pub fn texts(data: &[u8]) {
    let [first, second] = parts::<2>(data).map(String::from_utf8_lossy);
    if let Ok(mac) = first.parse::<MacAddr>() {
        assert_eq!(mac.to_string(), first.to_ascii_lowercase());
    }
    if let Some(nanos) = tags::parse_rfc3339(&first) {
        assert_eq!(nanos % 1_000_000_000, 0);
        let printed = tags::rfc3339(nanos);
        assert_eq!(tags::parse_rfc3339(&printed), Some(nanos), "{first} became {printed}");
    }
    for sent in [Sent::Read, Sent::Repeatable, Sent::Once] {
        let class = classify(&first, &second, sent);
        let may_have_happened = matches!(class, FailureClass::Transient) && sent == Sent::Once;
        // Only that tags are being changed is EC2's word that nothing happened.
        assert!(!may_have_happened || first == "ConcurrentTagAccess", "{first} {second}");
        assert!(class != FailureClass::Unknown || sent == Sent::Once, "{first} {second}");
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzzers_holds() {
        replay::corpus("journal", journal);
        replay::corpus("environment", environment);
        replay::corpus("nat_file", nat_file);
        replay::corpus("conflist", conflist);
        replay::corpus("texts", texts);
    }
}
