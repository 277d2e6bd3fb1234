// SPDX-License-Identifier: Apache-2.0
//! A journal file as text in parts, each with room to spare, so that a change of one record is a change of a few bytes at a fixed place.
//!
//! Does not know what is in the parts, nor writes anything to disk: it tells who does which bytes are others than before. JSON does not
//! mind white space, so a part is filled up with it: spaces, and at the end a newline, which makes a line of every part.
//!
//! ```text
//!  {"version":…,"allocations":[␠␠\n│{record 1}␠␠␠␠\n│,{record 2}␠␠\n│␠␠␠␠␠␠␠␠␠␠\n│]}\n
//!   a part of its own               │ as long, whatever is in it   │ nobody's yet   │
//! ```
//!
//! Invariant: what has changed since it was last told is in what is told next, or all of it is.

use std::ops::Range;

/// What of a file's text is not as it was when this was last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Changed {
    /// The text is laid out anew: nothing of what was is of use.
    #[default]
    Whole,
    /// Bytes at these places, in the order in which they changed; the text is as long as it was. None: nothing has changed.
    At(Vec<Range<usize>>),
}

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft<'a> {
    /// All of it.
    pub text: &'a [u8],
    /// Where it is not what was told before.
    pub changed: Changed,
}

impl Draft<'_> {
    /// Whether it is what was told before.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        matches!(&self.changed, Changed::At(ranges) if ranges.is_empty())
    }
}

/// The text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    text: Vec<u8>,
    parts: Vec<Part>,
    changed: Changed,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    start: usize,
    /// Of what is in it, without what it is filled up with.
    length: usize,
    room: usize,
}

impl Part {
    fn used(self) -> Range<usize> {
        self.start..self.start + self.length
    }

    fn all(self) -> Range<usize> {
        self.start..self.start + self.room
    }
}

impl Sheet {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.parts.clear();
        self.changed = Changed::Whole;
    }

    /// Adds a part at the end, with so much room, or as much as it needs; its number.
    pub(crate) fn append(&mut self, text: &[u8], room: usize) -> usize {
        let part = Part { start: self.text.len(), length: text.len(), room: room.max(text.len()) };
        self.text.extend_from_slice(text);
        self.text.resize(part.all().end, b' ');
        self.fill(part);
        self.parts.push(part);
        self.parts.len() - 1
    }

    /// Changes a part; `false`, and nothing is changed, when it has not the room.
    pub(crate) fn put(&mut self, number: usize, text: &[u8]) -> bool {
        let Some(part) = self.parts.get_mut(number).filter(|part| text.len() <= part.room) else { return false };
        if self.text[part.used()] == *text {
            return true;
        }
        // Behind the longer of the two is the same white space as before.
        let touched = part.start..part.start + part.length.max(text.len());
        part.length = text.len();
        let part = *part;
        self.text[part.used()].copy_from_slice(text);
        self.fill(part);
        if let Changed::At(ranges) = &mut self.changed {
            ranges.push(touched);
        }
        true
    }

    fn fill(&mut self, part: Part) {
        let rest = &mut self.text[part.used().end..part.all().end];
        rest.fill(b' ');
        if let Some(last) = rest.last_mut() {
            *last = b'\n';
        }
    }

    /// What is in a part.
    pub(crate) fn part(&self, number: usize) -> &[u8] {
        self.parts.get(number).map_or(&[], |part| &self.text[part.used()])
    }

    /// The text, and what of it has changed since the last time.
    pub(crate) fn draft(&mut self) -> Draft<'_> {
        let changed = std::mem::replace(&mut self.changed, Changed::At(Vec::new()));
        Draft { text: &self.text, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_changed_in_its_place_and_told_once() {
        let mut sheet = Sheet::default();
        let parts = [(&b"["[..], 0), (b"1", 4), (b"", 4), (b"]", 0)];
        let [_, first, second, _] = parts.map(|(text, room)| sheet.append(text, room));
        assert_eq!(sheet.draft(), Draft { text: b"[1  \n   \n]", changed: Changed::Whole });
        assert!(sheet.draft().is_unchanged());
        assert!(sheet.put(first, b"1") && sheet.draft().is_unchanged(), "nothing is told of what is the same");
        assert!(sheet.put(second, b",22"));
        assert_eq!(
            sheet.draft(),
            Draft { text: b"[1  \n,22\n]", changed: Changed::At(std::iter::once(5..8).collect()) }
        );
        assert!(!sheet.put(first, b"12345"), "there is no room");
        assert_eq!(sheet.part(first), b"1");
        assert!(sheet.put(first, b"1234") && sheet.put(second, b""));
        assert_eq!(sheet.draft(), Draft { text: b"[1234   \n]", changed: Changed::At(vec![1..5, 5..8]) });
    }
}
