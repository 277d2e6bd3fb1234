// SPDX-License-Identifier: Apache-2.0
//! Which types somebody may have meant who has written one that there is not.
//!
//! By the least number of letters that were left out, put in, mistaken for others or swapped with their neighbour.

/// More mistakes than that in one name are another name.
const MOST_MISTAKES: usize = 2;
/// So many names are a help.
const MOST_NAMES: usize = 5;

/// Types of the table whose names are like this one, the likeliest first; empty: none is.
#[must_use]
pub fn near(name: &str) -> Vec<&'static str> {
    let name = name.trim().to_ascii_lowercase();
    let mut near: Vec<(usize, &'static str)> = crate::all()
        .map(|(known, _)| (mistakes(&name, known), known))
        .filter(|(count, _)| *count <= MOST_MISTAKES)
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, known)| known).take(MOST_NAMES).collect()
}

/// Optimal string alignment distance, three rows of its table at a time.
fn mistakes(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > MOST_MISTAKES {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let mistaken = last[column] + usize::from(letter != wanted);
            let mut least = mistaken.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *wanted {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[other.len()]
}
