// SPDX-License-Identifier: Apache-2.0
//! The journal's files as the daemon writes them: only where they have changed.

use crate::Checkpoint;
use crate::checkpoint::{Changed, Draft, Drafts, parse_own, parse_reference};

/// What is on disk; `None`: nothing that could be changed in places.
#[derive(Debug, Default)]
pub(super) struct Files {
    own: Option<Vec<u8>>,
    reference: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn take(&mut self, drafts: Drafts<'_>) {
        write(&mut self.own, drafts.own);
        write(&mut self.reference, drafts.reference);
    }

    /// Holds the texts that were kept up to what the whole state is recorded as.
    pub(super) fn say_what(&self, whole: &Checkpoint) {
        let (own, reference) = (self.own.as_deref().expect("written"), self.reference.as_deref().expect("written"));
        assert_eq!(parse_own(own), parse_own(&whole.own_json));
        let mut found = parse_reference(reference).expect("readable");
        found.allocations.sort_by_key(|allocation| allocation.ipv4);
        assert_eq!(Ok(found), parse_reference(&whole.reference_json));
    }
}

fn write(file: &mut Option<Vec<u8>>, draft: Draft<'_>) {
    match (file.as_mut(), draft.changed) {
        (Some(file), Changed::At(ranges)) => {
            assert_eq!(file.len(), draft.text.len());
            ranges.into_iter().for_each(|range| file[range.clone()].copy_from_slice(&draft.text[range]));
            assert!(*file == draft.text, "a change was not told");
        }
        (_, Changed::Whole) | (None, Changed::At(_)) => *file = Some(draft.text.to_owned()),
    }
}
