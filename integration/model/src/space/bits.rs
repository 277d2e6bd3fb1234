// SPDX-License-Identifier: Apache-2.0
//! A set of small numbers, one bit each.
//!
//! Invariant: `count` is the number of bits that are set.

/// Bits in a word.
const WORD: u32 = u64::BITS;

/// A set of numbers below a bound.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: u32,
}

impl Bits {
    /// The empty set of numbers below `size`.
    pub(super) fn new(size: u32) -> Self {
        Self { words: vec![0; index(size.div_ceil(WORD))], count: 0 }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.words.get(index(number / WORD)).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// Whether any of the sixteen numbers from `base` (a multiple of sixteen) is in the set.
    pub(super) fn any_of_sixteen(&self, base: u32) -> bool {
        self.words.get(index(base / WORD)).is_some_and(|word| word >> (base % WORD) & 0xffff != 0)
    }

    pub(super) fn set(&mut self, number: u32, present: bool) {
        if self.has(number) == present {
            return;
        }
        if let Some(word) = self.words.get_mut(index(number / WORD)) {
            *word ^= 1 << (number % WORD);
            self.count = if present { self.count + 1 } else { self.count - 1 };
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_and_go_and_are_counted_once() {
        let mut bits = Bits::new(130);
        for number in [0, 63, 64, 129, 129] {
            bits.set(number, true);
        }
        assert_eq!(bits.count(), 4);
        assert!([0, 63, 64, 129].iter().all(|number| bits.has(*number)) && !bits.has(1) && !bits.has(500));
        bits.set(64, false);
        bits.set(64, false);
        assert_eq!((bits.count(), bits.has(64)), (3, false));
        assert!(bits.any_of_sixteen(48) && !bits.any_of_sixteen(64) && bits.any_of_sixteen(128));
    }
}
