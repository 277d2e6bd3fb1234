// SPDX-License-Identifier: Apache-2.0
//! `ipamd max-pods`: how many pods a node of an instance type can hold, for who sets kubelet's max-pods before there is a node.
//!
//! With a type it needs nothing but the table of limits. Without one it asks the daemon of this node, which knows besides what
//! other ENIs there are. The formula is `instance_limits`'.

use std::io::Write;

use instance_limits::{Capacity, HOST_NETWORK_PODS, InstanceLimits, Use, lookup, near};
use ipamd_core::{Config, Snapshot};
use serde_json::json;

use super::ask::Daemon;
use super::print;
use super::terminal::Screen;
use super::words::{Mistake, Words};

/// Blanks before what does not fit a line.
const INDENT: usize = 2;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// `None`: this node's.
    pub instance_type: Option<String>,
    prefixes: bool,
    custom_networking: bool,
    trunk: bool,
    max_enis: Option<u32>,
    json: bool,
}

impl Question {
    fn how(&self) -> Use {
        Use {
            prefixes: self.prefixes,
            max_enis: self.max_enis,
            idle_enis: u32::from(self.custom_networking) + u32::from(self.trunk),
        }
    }

    fn has_mode(&self) -> bool {
        self.how() != Use::default()
    }
}

/// What the words after `max-pods` ask.
///
/// # Errors
/// A number that is none, or a mode without an instance type.
pub(super) fn question(words: &Words) -> Result<Question, Mistake> {
    let max_enis = words.text("max-eni")?.map(|text| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| words.mistake(format!("--max-eni {text}: a whole number from 1 on")))
    });
    let question = Question {
        instance_type: words.argument()?,
        prefixes: words.has("prefixes"),
        custom_networking: words.has("custom-networking"),
        trunk: words.has("trunk"),
        max_enis: max_enis.transpose()?,
        json: words.has("output"),
    };
    if question.instance_type.is_none() && question.has_mode() {
        let text = "max-pods without an instance type asks this node's daemon, which knows its mode: name a type";
        return Err(words.mistake(text));
    }
    Ok(question)
}

/// Prints the answer for a type.
///
/// # Errors
/// There is no such type in the table, with those that may be meant; or standard output is closed.
pub fn of_type(question: &Question, instance_type: &str, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    print(out, answer(question, (instance_type, known(instance_type)?), screen))
}

/// A type's limits.
///
/// # Errors
/// There is no such type in the table, with those that may be meant.
pub(super) fn known(instance_type: &str) -> Result<&'static InstanceLimits, String> {
    lookup(instance_type).ok_or_else(|| {
        let near = near(instance_type);
        let meant = if near.is_empty() { String::new() } else { format!(": is it {}?", near.join(", ")) };
        format!("no instance type `{instance_type}` in the table{meant}")
    })
}

fn answer(question: &Question, (name, limits): (&str, &InstanceLimits), screen: &Screen) -> String {
    let capacity = Capacity::of(limits, question.how());
    let (addresses, max_pods) = (capacity.addresses(), capacity.max_pods());
    let recommended = capacity.recommended(limits.vcpus);
    if question.json {
        let answer = json!({
            "instanceType": name, "maxPods": max_pods, "recommended": recommended, "addresses": addresses,
            "enis": capacity.enis, "slotsPerEni": capacity.slots_per_eni, "addressesPerSlot": capacity.addresses_per_slot,
        });
        return format!("{answer:#}\n");
    }
    let mut lines = vec![
        max_pods.to_string(),
        format!("{name}: {capacity} = {addresses} addresses, and {HOST_NETWORK_PODS} pods on the host's network"),
    ];
    if addresses == 0 {
        lines.push("no ENI is left for pods: none gets an address, and the daemon refuses such settings".to_owned());
    }
    if recommended < max_pods {
        let vcpus = limits.vcpus.map_or("an unknown number of".to_owned(), |vcpus| vcpus.to_string());
        lines.push(format!("EKS recommends {recommended} at most for a type with {vcpus} vCPUs"));
    }
    if question.prefixes && !limits.takes_prefixes() {
        lines.push(format!("{name} takes no prefixes (only Nitro and bare metal do): single addresses are counted"));
    }
    lines.iter().map(|line| screen.wrapped(line, INDENT)).collect()
}

/// Prints the answer of this node's daemon.
///
/// # Errors
/// The daemon is not there, does not know yet, or standard output is closed.
pub fn of_node(question: &Question, config: &Config, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let snapshot = Daemon::of(config, None).status()?;
    print(out, node_answer(question, &snapshot, screen)?)
}

fn node_answer(question: &Question, snapshot: &Snapshot, screen: &Screen) -> Result<String, String> {
    const UNKNOWN: &str = "the daemon does not know the limits of this instance type yet: name the type";
    let (capacity, instance) = (snapshot.capacity.as_ref().ok_or(UNKNOWN)?, snapshot.instance.as_ref().ok_or(UNKNOWN)?);
    let max_pods = capacity.addresses.saturating_add(HOST_NETWORK_PODS);
    let name = &instance.instance_type;
    if question.json {
        let answer = json!({
            "instanceType": name, "maxPods": max_pods, "addresses": capacity.addresses,
            "limit": capacity.limit, "now": capacity.now,
        });
        return Ok(format!("{answer:#}\n"));
    }
    let text = format!(
        "{name}: {} = {} addresses, and {HOST_NETWORK_PODS} pods on the host's network; {} of the addresses by the settings, {} by what \
         the subnets have now",
        capacity.formula, capacity.addresses, capacity.limit, capacity.now
    );
    Ok(format!("{max_pods}\n{}", screen.wrapped(&text, INDENT)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn asked(words: &[&str]) -> Result<Question, String> {
        let words = std::iter::once(&"max-pods").chain(words).map(OsString::from);
        match crate::cli::parse(words).map_err(|error| error.to_string())? {
            crate::cli::Command::MaxPods(question) => Ok(question),
            other => panic!("{other:?}"),
        }
    }

    fn said(words: &[&str]) -> Result<String, String> {
        said_at(None, words)
    }

    fn said_at(width: Option<usize>, words: &[&str]) -> Result<String, String> {
        let question = asked(words)?;
        let name = question.instance_type.clone().unwrap();
        let mut out = Vec::new();
        of_type(&question, &name, &Screen { width, ..Screen::default() }, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// Rows of the EKS user guide and of `max-pods-calculator.sh`; `instance_limits` has more, with their sources.
    #[test]
    fn the_first_line_is_the_number_and_what_follows_says_how_it_comes_about() {
        for (words, number, part) in [
            (&["m5.large"][..], "29", "m5.large: 3 ENIs x 9 addresses = 27 addresses, and 2 pods"),
            (&["m5.large", "--custom-networking"], "20", "2 ENIs x 9 addresses"),
            (&["m5.large", "--custom-networking", "--max-eni", "1"], "2", "no ENI is left for pods"),
            (&["--prefixes", "m5.large"], "434", "EKS recommends 110 at most for a type with 2 vCPUs"),
            (&["m5.large", "--prefixes", "--custom-networking"], "290", "EKS recommends 110"),
            (&["m5.large", "--trunk", "--max-eni", "2"], "11", "1 ENI x 9 addresses"),
            (&["d3.xlarge", "--prefixes", "--custom-networking"], "98", "3 ENIs x 2 prefixes x 16"),
            (&["m4.large", "--prefixes"], "20", "m4.large takes no prefixes"),
        ] {
            let text = said(words).unwrap();
            assert_eq!(text.lines().next(), Some(number), "{words:?}");
            assert!(text.contains(part), "{words:?}: {text}");
        }
    }

    #[test]
    fn on_a_narrow_screen_nothing_is_lost_beyond_the_edge() {
        for words in [&["m4.large", "--prefixes"][..], &["m5.large", "--prefixes"]] {
            let (wide, narrow) = (said(words).unwrap(), said_at(Some(40), words).unwrap());
            assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
            assert!(narrow.split_whitespace().eq(wide.split_whitespace()), "{narrow}");
        }
    }

    #[test]
    fn machines_get_the_same_as_json() {
        let text = said(&["m5.large", "--prefixes", "-o", "json"]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let wanted = json!({
            "instanceType": "m5.large", "maxPods": 434, "recommended": 110, "addresses": 432,
            "enis": 3, "slotsPerEni": 9, "addressesPerSlot": 16,
        });
        assert_eq!(value, wanted);
    }

    #[test]
    fn an_unknown_type_is_an_error_with_near_names() {
        let error = said(&["m5.larg"]).unwrap_err();
        assert!(error.contains("`m5.larg`") && error.contains("is it m5.large"), "{error}");
        assert_eq!(said(&["pentium"]).unwrap_err(), "no instance type `pentium` in the table");
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, part) in [
            (&["--prefixes"][..], "name a type"),
            (&["m5.large", "m5.large"], "m5.large"),
            (&["m5.large", "--max-eni", "0"], "--max-eni 0"),
            (&["m5.large", "-o", "yaml"], "-o yaml"),
            (&["m5.large", "--frob"], "frob"),
        ] {
            let error = asked(words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
        assert_eq!(asked(&[]), Ok(Question::default()));
    }
}
