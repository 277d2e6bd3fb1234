// SPDX-License-Identifier: Apache-2.0
//! The command line as one table: commands, their arguments and options, and what is said of them. The parser ([`super::words`]) takes
//! what is in it and nothing else; help, shell completions and the man page are made from it.
//!
//! Decides nothing about what a command does. Invariant, held by a test of the parser: each command asks for exactly the options of
//! its row.
//!
//! ```text
//! rows ──► words (parser) ──► Command
//!   ├────► help          ipamd --help, ipamd status --help
//!   ├────► completions   ipamd completions bash|zsh|fish
//!   └────► man           ipamd man
//! ```

pub mod completions;
pub mod help;
pub mod man;
mod rows;

pub use rows::COMMANDS;

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct CommandRow {
    /// Its name.
    pub name: &'static str,
    /// Where it stands in the help.
    pub group: Group,
    /// Its argument, when it takes one.
    pub argument: Option<Argument>,
    /// Its options, besides `--help`.
    pub options: &'static [OptionRow],
    /// What it does, in a line of at most 60 letters.
    pub brief: &'static str,
    /// The same at length: paragraphs, empty lines between them. Lines that begin with a blank stay as they are.
    pub long: &'static str,
    /// Command lines to copy, each with what it is for.
    pub examples: &'static [(&'static str, &'static str)],
}

/// Commands that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// They look at a node, and change nothing.
    Look,
    /// They are told anywhere, of no node.
    Anywhere,
    /// They change the node, or run on it.
    Node,
    /// About this program.
    Program,
}

impl Group {
    /// All, in the order of the help.
    pub const ALL: [Self; 4] = [Self::Look, Self::Node, Self::Anywhere, Self::Program];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Look => "look at this node (changes nothing)",
            Self::Node => "run and install",
            Self::Anywhere => "without a node",
            Self::Program => "this program",
        }
    }
}

/// The one word that a command takes besides options.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// What it is called.
    pub name: &'static str,
    /// Whether there must be one.
    pub is_needed: bool,
    /// What it can be.
    pub values: Values,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its letter.
    pub letter: Option<char>,
    /// What its value is called; `None`: it has none.
    pub value: Option<&'static str>,
    /// What that can be.
    pub values: Values,
    /// Whether it may be given more than once.
    pub repeats: bool,
    /// What it does, in a line.
    pub brief: &'static str,
}

/// What a word can be, as far as it is known here: for completions, and for the parser where it is a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Anything.
    Any,
    /// A file's path.
    File,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these, or anything else.
    Perhaps(&'static [&'static str]),
    /// The name of a command.
    Command,
    /// A stable code of the table of reasons.
    Reason,
}

/// A command's row.
#[must_use]
pub fn row(name: &str) -> Option<&'static CommandRow> {
    COMMANDS.iter().find(|row| row.name == name)
}

impl CommandRow {
    /// `status [-o json] [--address ADDRESS]`.
    #[must_use]
    pub fn synopsis(&self) -> String {
        let mut text = self.name.to_owned();
        if let Some(Argument { name, is_needed, .. }) = &self.argument {
            text.push_str(&if *is_needed { format!(" {name}") } else { format!(" [{name}]") });
        }
        for option in self.options {
            let more = if option.repeats { " …" } else { "" };
            text.push_str(&format!(" [{}{more}]", option.spelling()));
        }
        text
    }
}

impl OptionRow {
    /// `-o json`, `--address ADDRESS`, `--dry-run`.
    #[must_use]
    pub fn spelling(&self) -> String {
        let name = self.letter.map_or_else(|| format!("--{}", self.name), |letter| format!("-{letter}"));
        match (self.values, self.value) {
            (Values::OneOf([only]), Some(_)) => format!("{name} {only}"),
            (_, Some(value)) => format!("{name} {value}"),
            (_, None) => name,
        }
    }

    /// `-o, --output json`.
    #[must_use]
    pub fn both(&self) -> String {
        let letter = self.letter.map(|letter| format!("-{letter}, ")).unwrap_or_default();
        let value = match (self.values, self.value) {
            (Values::OneOf([only]), Some(_)) => format!(" {only}"),
            (_, Some(value)) => format!(" {value}"),
            (_, None) => String::new(),
        };
        format!("{letter}--{}{value}", self.name)
    }
}

/// That there is none of that name, and which may be meant.
pub fn no_such<'a>(what: &str, word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(word, words).map(|near| format!(", is it `{near}`?")).unwrap_or_default();
    format!("no such {what} `{word}`{near}")
}

/// A command's row by a word that a person has typed.
///
/// # Errors
/// There is no such command, with the one that may be meant.
pub fn command(word: &str) -> Result<&'static CommandRow, String> {
    row(word).ok_or_else(|| no_such("command", word, COMMANDS.iter().map(|row| row.name)))
}

/// The word of `words` that is meant by one that is none of them: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    let all = words.into_iter().map(|other| (distance(word, other), other));
    all.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// Letters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_complete_short_and_only_there_once() {
        let names: BTreeSet<_> = COMMANDS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        for row in COMMANDS {
            let CommandRow { name, brief, long, .. } = row;
            assert!(!brief.is_empty() && brief.len() <= 60, "{name}: {brief}");
            assert!(!long.is_empty() && !brief.ends_with('.'), "{name}");
            let options: BTreeSet<_> = row.options.iter().map(|option| option.name).collect();
            assert_eq!(options.len(), row.options.len(), "{name}");
            for option in row.options {
                assert!(!option.brief.is_empty() && !option.brief.ends_with('.'), "{name} --{}", option.name);
                assert!(option.value.is_some() || option.values == Values::Any, "{name} --{}", option.name);
            }
            for (line, _) in row.examples {
                assert!(line.contains(&format!("ipamd {name}")), "{name}: {line}");
            }
        }
    }

    #[test]
    fn a_mistyped_word_finds_the_one_that_is_meant() {
        let names = || COMMANDS.iter().map(|row| row.name);
        for (word, meant) in [
            ("staus", Some("status")),
            ("pod", Some("pods")),
            ("chek", Some("check")),
            ("suport-bundel", Some("support-bundle")),
            ("frobnicate", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, names()), meant, "{word}");
        }
    }
}
