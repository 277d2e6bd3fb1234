// SPDX-License-Identifier: Apache-2.0
//! Readers of single values: text to type, or an error that names variable, value and what is allowed.
//!
//! Strict where the reference is lenient (it takes a default when a value cannot be read): a typing mistake in a DaemonSet
//! must not change the network in silence. Booleans are spelled as Go's `strconv.ParseBool` has them. An empty value counts
//! as not set.

use std::str::FromStr;

use ipnet::Ipv4Net;

use super::{ConfigError, Note, Source};

/// Collects mistakes and notes while variables are read one after the other.
pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    pub(super) errors: Vec<ConfigError>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self { source, errors: Vec::new(), notes: Vec::new() }
    }

    /// The value, blanks around it removed; `None` when not set or empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.source.get(name)?;
        let trimmed = value.trim();
        if trimmed.is_empty() { None } else { Some(trimmed.to_owned()) }
    }

    pub(super) fn error(&mut self, name: &str, value: &str, problem: impl Into<String>) {
        self.errors.push(ConfigError { variable: name.to_owned(), value: value.to_owned(), problem: problem.into() });
    }

    pub(super) fn note(&mut self, variable: &'static str, text: impl Into<String>) {
        self.notes.push(Note { variable, text: text.into() });
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        let Some(text) = self.text(name) else { return default };
        match parse_bool(&text) {
            Some(value) => value,
            None => {
                self.error(name, &text, "not a boolean: true or false");
                default
            }
        }
    }

    /// A whole number between `least` and `most`, or `None` when not set or wrong.
    pub(super) fn number(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        let text = self.text(name)?;
        match i64::from_str(&text).ok().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) | None => {
                self.error(name, &text, format!("a whole number from {least} to {most} is allowed"));
                None
            }
        }
    }

    /// A number in decimal, `0x`, `0o` or `0b` form (the reference detects the base), not zero.
    pub(super) fn mark(&mut self, name: &str, default: u32) -> u32 {
        let Some(text) = self.text(name) else { return default };
        match parse_any_base(&text) {
            Some(mark) if mark != 0 => mark,
            Some(_) | None => {
                self.error(name, &text, "a number from 1 to 4294967295 (0x… for hexadecimal) is allowed");
                default
            }
        }
    }

    /// A comma list of IPv4 blocks, in network form, sorted, each once.
    pub(super) fn cidrs(&mut self, name: &str) -> Vec<Ipv4Net> {
        let Some(text) = self.text(name) else { return Vec::new() };
        let mut blocks = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match Ipv4Net::from_str(part) {
                Ok(block) => blocks.push(block.trunc()),
                Err(_) => self.error(name, part, "a comma list of IPv4 blocks such as 10.0.0.0/8 is allowed"),
            }
        }
        blocks.sort();
        blocks.dedup();
        blocks
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint` with base 0: a leading 0 alone means octal.
fn parse_any_base(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0x") {
        u32::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = lower.strip_prefix("0b") {
        u32::from_str_radix(digits, 2).ok()
    } else if let Some(digits) = lower.strip_prefix("0o") {
        u32::from_str_radix(digits, 8).ok()
    } else if lower.len() > 1 && lower.starts_with('0') {
        u32::from_str_radix(&lower[1..], 8).ok()
    } else {
        lower.parse().ok()
    }
}
