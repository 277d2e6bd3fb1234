// SPDX-License-Identifier: Apache-2.0
//! What all Describe actions share: filters, ids, pages.
//!
//! Decides which resources an answer holds and where it is cut; what a resource looks like in XML is in the file of its
//! kind.
//!
//! Invariant: an unknown filter name is refused even when nothing would be filtered. Walking the pages of an unchanging
//! state shows each resource once.
//!
//! Worked example: `Filter.1.Name=tag:role&Filter.1.Value.1=no*&Filter.1.Value.2=x` passes resources whose tag `role`
//! starts with `no` or is `x`; a second filter must pass as well.
//!
//! Source: EC2 API reference, `Filter`; EC2 user guide, "List and filter your resources" (`*`, `?`, case-sensitive).

mod enis;
mod instances;
mod places;
mod types;

use crate::error::Ec2Error;
use crate::params::{Filter, Params};
use crate::state::Tags;
use crate::xml::Xml;

/// Bounds of `MaxResults` (DescribeInstanceTypes: 5 to 100).
const PAGE: std::ops::RangeInclusive<usize> = 5..=1_000;

/// Refuses names that the action does not filter by.
pub(crate) fn check_filters(filters: &[Filter], known: &[&str]) -> Result<(), Ec2Error> {
    for filter in filters {
        if !known.contains(&filter.name.as_str()) && !filter.name.starts_with("tag:") {
            return Err(Ec2Error::value(format!("The filter '{}' is invalid", filter.name)));
        }
    }
    Ok(())
}

/// Whether a resource passes every filter. `values` gives what it has under a filter's name.
pub(crate) fn passes(filters: &[Filter], tags: &Tags, values: impl Fn(&str) -> Vec<String>) -> bool {
    filters.iter().all(|filter| {
        let has: Vec<String> = match filter.name.strip_prefix("tag:") {
            Some(key) => tags.get(key).cloned().into_iter().collect(),
            None if filter.name == "tag-key" => tags.keys().cloned().collect(),
            None => values(&filter.name),
        };
        has.iter().any(|value| filter.values.iter().any(|pattern| matches(pattern.as_bytes(), value.as_bytes())))
    })
}

/// `*` is any text, `?` any character, `\` takes the next character as it is.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        [b'?', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
        [b'\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && matches(rest, &text[1..]),
    }
}

/// Writes one page of `entries` (sorted by key) as the list `name`, with the token of the next page.
pub(crate) fn write_page<T>(
    params: &Params,
    name: &str,
    entries: Entries<T>,
    bounds: &Page<'_>,
    mut item: impl FnMut(&mut Xml, T),
) -> Result<Xml, Ec2Error> {
    let (page, next) = bounds.cut(params, entries)?;
    Ok(Xml::inside(|xml| {
        xml.list(name, page, |xml, (_, entry)| item(xml, entry));
        if let Some(token) = next {
            xml.leaf("nextToken", token);
        }
    }))
}

/// Resources by key, sorted.
pub(crate) type Entries<T> = Vec<(String, T)>;

/// How an action pages.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// The list of ids that excludes `MaxResults`; empty when there is none.
    pub(crate) ids: &'a str,
    /// Largest `MaxResults`.
    pub(crate) most: usize,
}

impl<'a> Page<'a> {
    pub(crate) fn with_ids(ids: &'a str) -> Self {
        Self { ids, most: *PAGE.end() }
    }

    fn cut<T>(&self, params: &Params, entries: Entries<T>) -> Result<(Entries<T>, Option<String>), Ec2Error> {
        let most: Option<usize> = params.parsed("MaxResults")?;
        if most.is_some() && !self.ids.is_empty() && params.has(self.ids) {
            let text = format!("The parameter {} cannot be used with the parameter MaxResults", self.ids);
            return Err(Ec2Error::combination(text));
        }
        if let Some(most) = most.filter(|most| *most < *PAGE.start() || *most > self.most) {
            let bound = if most < *PAGE.start() {
                format!("greater than {}", PAGE.start())
            } else {
                format!("less than {}", self.most)
            };
            return Err(Ec2Error::value(format!(
                "Value ( {most} ) for parameter maxResults is invalid. Expecting a value {bound}."
            )));
        }
        let after =
            match params.text("NextToken").filter(|token| !token.is_empty()) {
                Some(token) => Some(key_of(token).ok_or_else(|| {
                    Ec2Error::new("InvalidNextToken", "The specified token is not valid or is expired")
                })?),
                None => None,
            };
        let mut rest: Entries<T> =
            entries.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).collect();
        let Some(most) = most.filter(|most| *most < rest.len()) else { return Ok((rest, None)) };
        rest.truncate(most);
        let token = rest.last().map(|(key, _)| token_of(key));
        Ok((rest, token))
    }
}

/// A page token: the key of the page's last entry in hex, and a checksum so that a made-up token is noticed.
fn token_of(key: &str) -> String {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}{:08x}", checksum(key))
}

fn key_of(token: &str) -> Option<String> {
    if !token.is_ascii() {
        return None;
    }
    let (hex, sum) = token.split_at_checked(token.len().checked_sub(8)?)?;
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    let key = String::from_utf8(bytes?).ok()?;
    (u32::from_str_radix(sum, 16).ok()? == checksum(&key)).then_some(key)
}

/// FNV-1a.
fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EC2 user guide, "List and filter your resources": wildcards.
    #[test]
    fn wildcards_are_those_of_the_user_guide() {
        for (pattern, text, passes) in [
            ("prod", "prod", true),
            ("prod", "Prod", false),
            ("prod*", "production", true),
            ("p?od", "prod", true),
            ("p?od", "pod", false),
            ("*", "", true),
            (r"\*amazon\?\\", r"*amazon?\", true),
            (r"\*amazon", "xamazon", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), passes, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_page_token_gives_its_key_and_a_made_up_one_nothing() {
        assert_eq!(key_of(&token_of("eni-01")).as_deref(), Some("eni-01"));
        for token in ["", "x", "00000000", "656e6900000000", "größe123456789"] {
            assert_eq!(key_of(token), None, "{token}");
        }
    }
}
