// SPDX-License-Identifier: Apache-2.0
//! A file of variables, read as systemd reads it (systemd.exec(5), "EnvironmentFile="): text to variables, and the lines that cannot be
//! read. What is done with either is [`super`]'s.
//!
//! Invariant: of a line that cannot be read nothing is told that may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct Mistake {
    /// Its number, from 1.
    pub(super) line: usize,
    /// What is wrong, and what is allowed.
    pub(super) problem: String,
}

/// The variables that can be read, and the mistakes beside them.
pub(super) fn read(text: &str) -> (BTreeMap<String, String>, Vec<Mistake>) {
    let mut reader = Reader { rest: text.chars().peekable(), line: 1 };
    let (mut variables, mut mistakes) = (BTreeMap::new(), Vec::new());
    while let Some(first) = reader.rest.peek().copied() {
        let line = reader.line;
        if first.is_whitespace() {
            reader.next();
        } else if ['#', ';'].contains(&first) {
            reader.comment();
        } else {
            match reader.assignment() {
                // Nothing that ends a text for the kernel can be in a variable.
                Ok((name, value)) if is_name(&name) && !value.contains('\0') => {
                    variables.insert(name, value);
                }
                Ok((name, _)) => {
                    let allowed = "letters, digits and _ are allowed, with no `export` before them, and NUL nowhere";
                    let problem = format!("what is before = is no name of a variable{}; {allowed}", beginning(&name));
                    mistakes.push(Mistake { line, problem });
                }
                Err(problem) => mistakes.push(Mistake { line, problem }),
            }
        }
    }
    (variables, mistakes)
}

/// What a text that cannot be read begins with, as far as that can only be the name of a variable: the rest may be a secret, and so may
/// be a word with small letters.
fn beginning(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let text = text.trim().strip_prefix("export ").unwrap_or(text).trim();
    let word = text.split(|letter| !is_plain(letter)).next().unwrap_or_default();
    if word.is_empty() || word.contains(|letter: char| letter.is_ascii_lowercase()) {
        return String::new();
    }
    format!(" (it begins with {word})")
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(plain) && !name.as_bytes()[0].is_ascii_digit()
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader at line {}", self.line)
    }
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// To the end of the line; a backslash before it makes the next one part of the comment.
    fn comment(&mut self) {
        while let Some(letter) = self.next() {
            match letter {
                '\n' => return,
                '\\' => drop(self.next()),
                _ => {}
            }
        }
    }

    fn assignment(&mut self) -> Result<(String, String), String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('=') => break,
                Some('\n') | None => {
                    return Err(format!("this is no NAME=value{}", beginning(&name)));
                }
                Some(letter) => name.push(letter),
            }
        }
        Ok((name.trim().to_owned(), self.value()?))
    }

    /// Quoted parts, one after the other, or plain text to the end of the line.
    fn value(&mut self) -> Result<String, String> {
        let mut value = String::new();
        loop {
            match self.rest.peek().copied() {
                Some(quote @ ('"' | '\'')) => {
                    self.next();
                    self.quoted(quote, &mut value)?;
                }
                Some('\n') | None => return Ok(value),
                Some(blank) if blank.is_whitespace() => drop(self.next()),
                Some(_) => return Ok(self.plain(value)),
            }
        }
    }

    fn quoted(&mut self, quote: char, value: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                None => return Err(format!("no {quote} ends what {quote} begins")),
                Some(letter) if letter == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    Some('\n') | None => {}
                    Some(letter @ ('"' | '\\' | '`' | '$')) => value.push(letter),
                    Some(letter) => value.extend(['\\', letter]),
                },
                Some(letter) => value.push(letter),
            }
        }
    }

    /// A backslash takes the next letter as it is; before the end of a line it joins the next one. Blanks at the end go.
    fn plain(&mut self, mut value: String) -> String {
        let mut kept = value.len();
        loop {
            match self.next() {
                Some('\n') | None => break,
                Some('\\') => match self.next() {
                    Some('\n') | None => {}
                    Some(letter) => {
                        value.push(letter);
                        kept = value.len();
                    }
                },
                Some(letter) => {
                    value.push(letter);
                    kept = if letter.is_whitespace() { kept } else { value.len() };
                }
            }
        }
        value.truncate(kept);
        value
    }
}

/// What must hold of any file, for tests and fuzzers (`fuzz/`): what is read and written again in quotes is read the same.
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, reason = "the fuzzers take this file as a module of their own")]
pub fn fuzzed(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (variables, mistakes) = read(&text);
    let lines = text.matches('\n').count() + 1;
    for Mistake { line, problem } in &mistakes {
        assert!((1..=lines).contains(line) && !problem.is_empty(), "line {line} of {lines}: {problem}");
    }
    let mut again = String::new();
    for (name, value) in &variables {
        assert!(is_name(name) && !value.contains('\0'), "{name:?} is {value:?}");
        let escaped: String = value
            .chars()
            .flat_map(|letter| "\"\\`$".contains(letter).then_some('\\').into_iter().chain([letter]))
            .collect();
        again += &format!("{name}=\"{escaped}\"\n");
    }
    let read = read(&again);
    assert!(read.1.is_empty() && read.0 == variables, "{again:?} became {read:?}");
}
