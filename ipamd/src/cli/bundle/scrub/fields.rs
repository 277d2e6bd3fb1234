// SPDX-License-Identifier: Apache-2.0
//! Values of fields, in JSON of any layout, whose names say that they are secret. Pure.
//!
//! JSON may stand in a string of other JSON, and that in another: each level doubles the backslashes before a quote and adds one.
//!
//! ```text
//! level 0   "token": "value"          an end of a string has an even number of backslashes before it
//! level 1   \"token\": \"value\"       … one, five, nine: `\\\"` is a quote in the value
//! ```
//! Invariant: of a text that is not JSON after all rather too much is hidden than too little.

use super::{HIDDEN, is_secret};

/// Longer names are no names.
const LONGEST_NAME: usize = 128;

/// Backslashes before a quote of JSON in JSON in JSON.
const DEEPEST: usize = 7;

/// The text without them.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_quote) {
        let (before, behind) = rest.split_at(at + 1);
        let quote = Quote { letter: if before.ends_with('"') { '"' } else { '\'' }, slashes: slashes(&before[..at]) };
        clean.push_str(before);
        rest = behind;
        if let Some(value) = value_of_secret(behind, quote) {
            let (name, value) = behind.split_at(value);
            let (hidden, after) = hide(value, quote);
            clean.push_str(name);
            clean.push_str(&hidden);
            rest = after;
        }
    }
    clean + rest
}

/// Whether a string may begin or end with it.
pub(super) fn is_quote(letter: char) -> bool {
    letter == '"' || letter == '\''
}

/// At the end of a text.
fn slashes(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// How strings of a level begin and end.
#[derive(Clone, Copy, Debug)]
struct Quote {
    letter: char,
    slashes: usize,
}

impl Quote {
    /// Takes one from a text's start.
    fn taken(self, text: &str) -> Option<&str> {
        let behind = text.trim_start_matches('\\');
        if text.len() - behind.len() == self.slashes { behind.strip_prefix(self.letter) } else { None }
    }

    /// Where a string ends whose inside a text begins with: before its quote, without the quote's backslashes.
    fn end(self, inside: &str) -> usize {
        let ends = |(at, _): &(usize, &str)| slashes(&inside[..*at]) % (2 * (self.slashes + 1)) == self.slashes;
        inside.match_indices(self.letter).find(ends).map_or(inside.len(), |(at, _)| at - self.slashes)
    }

    fn hidden(self) -> String {
        let quote = format!("{}{}", "\\".repeat(self.slashes), self.letter);
        format!("{quote}{HIDDEN}{quote}")
    }
}

/// Where the value begins of a field whose name says that it is secret, and stands at the text's start, behind its quote.
fn value_of_secret(text: &str, quote: Quote) -> Option<usize> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./ ".contains(byte);
    let (name, behind) = text.split_at(text.bytes().take(LONGEST_NAME).take_while(is_of_name).count());
    if quote.slashes > DEEPEST || !is_secret(name) {
        return None;
    }
    let value = without_space(without_space(quote.taken(behind)?).strip_prefix(':')?);
    Some(text.len() - value.len())
}

/// Behind white space, also such as JSON in a string has it: `\n`.
fn without_space(text: &str) -> &str {
    let mut text = text;
    loop {
        let trimmed = text.trim_start();
        let written = trimmed.trim_start_matches('\\');
        match written.strip_prefix(['n', 'r', 't']).filter(|_| written.len() < trimmed.len()) {
            Some(behind) => text = behind,
            None => return trimmed,
        }
    }
}

/// What stands for a value at the text's start, and what is behind it.
fn hide(text: &str, name: Quote) -> (String, &str) {
    let quote = Quote { letter: if text.trim_start_matches('\\').starts_with('\'') { '\'' } else { '"' }, ..name };
    if let Some(inside) = quote.taken(text) {
        let end = quote.end(inside);
        let behind = &inside[end..];
        return (quote.hidden(), quote.taken(behind).unwrap_or(behind));
    }
    if text.starts_with(['{', '[']) {
        return (name.hidden(), &text[end_of_brackets(text, name)..]);
    }
    let ends = |letter: char| letter.is_whitespace() || is_quote(letter) || ",]}\\".contains(letter);
    let (word, behind) = text.split_at(text.find(ends).unwrap_or(text.len()));
    if ["", "true", "false", "null"].contains(&word) { (word.to_owned(), behind) } else { (name.hidden(), behind) }
}

/// Behind the bracket that closes the first.
fn end_of_brackets(text: &str, quote: Quote) -> usize {
    let (mut open, mut is_in_string, mut slashes) = (0_usize, false, 0_usize);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if letter == quote.letter && slashes % (2 * (quote.slashes + 1)) == quote.slashes => {
                is_in_string = !is_in_string;
            }
            '{' | '[' if !is_in_string => open += 1,
            '}' | ']' if !is_in_string => open -= 1,
            _ => {}
        }
        slashes = if letter == '\\' { slashes + 1 } else { 0 };
        if open == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Hides a value at the start of a text that is not JSON: in quotes, or up to what ends a word. And what is behind it.
pub(super) fn hide_value(text: &str) -> (String, &str) {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    match text[slashes..].chars().next().filter(|letter| is_quote(*letter)) {
        Some(letter) => {
            let quote = Quote { letter, slashes };
            let inside = &text[slashes + 1..];
            let behind = &inside[quote.end(inside)..];
            (quote.hidden(), quote.taken(behind).unwrap_or(behind))
        }
        None => {
            let end = text.find(|letter: char| letter.is_whitespace() || is_quote(letter)).unwrap_or(text.len());
            // These belong to the quote.
            (HIDDEN.to_owned(), &text[text[..end].trim_end_matches('\\').len()..])
        }
    }
}
