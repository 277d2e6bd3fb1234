// SPDX-License-Identifier: Apache-2.0
//! What answers become when bytes of them are lost, doubled or others: for unit tests, which have no fuzzer to guide them.
//!
//! The same seed gives the same answers; `ENID_MUTATIONS` says how many (a few thousand a second).

/// Draws what is changed (xorshift64).
#[derive(Debug)]
pub(crate) struct Mutator(u64);

/// What is put in now and then: ends of ranges, and marks of XML.
const WORDS: [&str; 14] = [
    "-1",
    "4294967296",
    "99999999999999999999",
    "",
    "\u{0}",
    "<",
    "</item>",
    "<item/>",
    "&amp;",
    "&#0;",
    "]]>",
    "<!--",
    "true",
    "10.0.0.0/33",
];

impl Mutator {
    /// Always the same draws.
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// How many answers a test makes: `ENID_MUTATIONS`, else 1,500.
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    pub(crate) fn rounds() -> usize {
        std::env::var("ENID_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_500)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % end.max(1)
    }

    /// One to four changes of a text.
    pub(crate) fn change(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let from = self.below(bytes.len() + 1);
            let to = (from + self.below(40)).min(bytes.len());
            match self.below(5) {
                0 if from < bytes.len() => bytes[from] = u8::try_from(self.below(256)).unwrap_or(0),
                1 => drop(bytes.drain(from..to)),
                2 => {
                    let doubled = bytes[from..to].to_vec();
                    bytes.splice(to..to, doubled);
                }
                3 => bytes.truncate(from.max(1)),
                _ => {
                    let word = WORDS[self.below(WORDS.len())].bytes();
                    bytes.splice(from..to, word);
                }
            }
        }
        bytes
    }
}
