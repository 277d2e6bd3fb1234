// SPDX-License-Identifier: Apache-2.0
//! The journal's two texts, kept up with the state: what an ADD or a DEL costs does not depend on how many pods there are.
//!
//! [`super::record`] says what is recorded of a part of the state; here the parts that may have another record are rendered anew, each in
//! its place in the file ([`Sheet`]). Which these are the store says of addresses, and [`Core::touch`] of all else. A text is laid out anew
//! when addresses, prefixes or ENIs come or go, or when something has outgrown its room: after calls to EC2, and now and then.
//!
//! Invariant: read back, both texts say what [`Core::checkpoint`] does, which renders all of the state (held by the tests after every step
//! of a node's life).

mod allocations;
mod own;

use crate::checkpoint::{Drafts, Sheet};

use super::Core;
use allocations::Allocations;
use own::Own;

/// Both texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    reference: Allocations,
    own: Own,
    /// Something besides addresses may have another record.
    rest: bool,
    /// Records rendered since the start.
    rendered: u64,
}

impl Journal {
    /// Something besides addresses may have another record.
    pub(super) fn touch(&mut self) {
        self.rest = true;
    }
}

impl Core {
    /// Both journal files of the present state, and what of them has changed since this was last asked: what must be durable when
    /// [`crate::action::Effects::persist`] says so. Who could not write what he was told of writes the whole text the next time.
    pub fn journal(&mut self) -> Drafts<'_> {
        let unwritten = self.store.take_unwritten();
        let mut journal = std::mem::take(&mut self.journal);
        let rest = std::mem::take(&mut journal.rest);
        journal.rendered += journal.reference.refresh(&self.store, &unwritten.addresses);
        journal.rendered += journal.own.refresh(self, &unwritten, rest);
        self.journal = journal;
        Drafts { own: self.journal.own.draft(), reference: self.journal.reference.draft() }
    }

    /// Records that [`Core::journal`] has rendered since the start: what it costs, independent of time. For tests.
    #[must_use]
    pub fn records_rendered(&self) -> u64 {
        self.journal.rendered
    }
}

/// The text before a list's first element, and that behind its last one: of a record whose last field is an empty list.
fn around(record: &[u8]) -> (&[u8], &[u8]) {
    let end = record.iter().rposition(|byte| *byte == b']').unwrap_or(record.len());
    record.split_at(end)
}

/// Elements of a list but the first follow a comma.
fn separated(is_first: bool, record: &impl serde::Serialize) -> Vec<u8> {
    let mut text = if is_first { Vec::new() } else { vec![b','] };
    serde_json::to_writer(&mut text, record).expect("maps with text keys and plain fields always encode");
    text
}

/// Whether a part is not a list's first element.
fn follows(sheet: &Sheet, part: usize) -> bool {
    sheet.part(part).first() == Some(&b',')
}
