// SPDX-License-Identifier: Apache-2.0
//! What must hold of what is read of the kernel and of our own files on a node, whatever is in them. Built for tests and fuzzers only
//! (`fuzz/`); each function takes one input and panics when something does not hold.
//!
//! | function | input | holds |
//! |---|---|---|
//! | [`texts`] | an alias, a link name, a file of host ports, of settings, a MAC address | what is read is what is printed |
//! | [`notifications`] | datagrams of rtnetlink and nf_tables | no panic; the dead group and others' tables are nobody's loss |
//! | [`tables`] | answers of conntrack and nf_tables, as attributes | what is deleted is what was listed; blocks are merged |
//! | [`links`] | answers of rtnetlink, as the typed parser takes them | no panic, and what is ours is named |
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

use crate::apply::fuzzing as apply;
use crate::plan::hostport::Mapping;
use crate::plan::settings::Memory;
use crate::plan::{LinkName, MacAddr, VethAlias, ids};

/// Notifications.
pub fn notifications(data: &[u8]) {
    apply::notifications(data);
}

/// Answers of conntrack and nf_tables.
pub fn tables(data: &[u8]) {
    apply::tables(data);
}

/// Answers of rtnetlink.
pub fn links(data: &[u8]) {
    apply::links(data);
}

/// Texts that others can have written over ours.
pub fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(alias) = text.parse::<VethAlias>() {
        assert_eq!(alias.to_string().parse(), Ok(alias.clone()));
        assert!(text.len() <= ids::ALIAS_MAX + 512 && alias.to_string().len() <= ids::ALIAS_MAX, "{text:?}");
        assert!(!alias.owner.contains(char::is_whitespace), "{text:?}");
    }
    if let Ok(name) = LinkName::new(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 15 && !text.contains(['/', ':', ' ', '\0']), "{text:?}");
    }
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(mapping) = text.parse::<Mapping>() {
        let printed = mapping.to_string();
        assert_eq!(printed.parse::<Mapping>().as_ref(), Ok(&mapping), "{text:?} became {printed:?}");
    }
    if let Ok(memory) = Memory::parse(text, "b-1") {
        let printed = memory.text("b-1");
        assert_eq!(Memory::parse(&printed, "b-1").as_ref(), Ok(&memory), "{text:?} became {printed:?}");
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzzers_holds() {
        replay::corpus("node_texts", texts);
        replay::corpus("notifications", notifications);
        replay::corpus("tables", tables);
        replay::corpus("links", links);
    }
}
