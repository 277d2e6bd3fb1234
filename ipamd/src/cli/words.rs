// SPDX-License-Identifier: Apache-2.0
//! The words of a command line by the table of [`super::usage`]: which command, its argument, its options. What they mean to the command
//! is for [`super::parse`].
//!
//! Invariant: nothing passes that is not in the table; closed sets of values are checked here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::usage::{self, COMMANDS, CommandRow, OptionRow, Values};

/// What is wrong with a command line, and where the right ones are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    text: String,
    command: Option<&'static str>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.map(|name| format!("{name} ")).unwrap_or_default();
        write!(f, "{}; see ipamd {command}--help", self.text)
    }
}

impl std::error::Error for Mistake {}

/// What the words come to.
#[derive(Debug)]
pub(super) enum Line {
    /// A command.
    Command(Words),
    /// Its help, or that of all.
    Help(Option<&'static str>),
    /// The version.
    Version,
}

/// A command with its words.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) row: &'static CommandRow,
    argument: Option<OsString>,
    options: Vec<(&'static str, OsString)>,
    /// What the command has asked for, so that a test can compare it with the table.
    asked: RefCell<BTreeSet<&'static str>>,
}

/// Reads the words after the program's name. `None`: there are none.
///
/// # Errors
/// A word or option that there is not, with its name.
pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Line>, Mistake> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut words: Option<Words> = None;
    loop {
        let command = words.as_ref().map(|words| words.row.name);
        let mistake = |text: String| Mistake { text, command };
        let argument = parser.next().map_err(|error| mistake(error.to_string()))?;
        match argument {
            None => return Ok(words.map(Line::Command)),
            Some(Long("help") | Short('h')) => return Ok(Some(Line::Help(command))),
            Some(Long("version") | Short('V')) => return Ok(Some(Line::Version)),
            Some(Value(word)) => {
                let text = word.to_string_lossy().into_owned();
                match &mut words {
                    None => words = Some(Words::of(command_named(&text)?)),
                    Some(words) => words.take_argument(word).map_err(mistake)?,
                }
            }
            Some(Long(name)) => {
                let name = name.to_owned();
                take_option(&mut words, &mut parser, &name).map_err(mistake)?;
            }
            Some(Short(letter)) => {
                take_option(&mut words, &mut parser, &letter.to_string()).map_err(mistake)?;
            }
        }
    }
}

fn command_named(word: &str) -> Result<&'static CommandRow, Mistake> {
    usage::command(word).map_err(|text| Mistake { text, command: None })
}

/// An option by its long name or its letter.
fn find(row: &CommandRow, name: &str) -> Option<&'static OptionRow> {
    let is_letter =
        |option: &OptionRow| option.letter.is_some_and(|letter| name.len() == 1 && name.starts_with(letter));
    row.options.iter().find(|option| option.name == name || is_letter(option))
}

fn take_option(words: &mut Option<Words>, parser: &mut lexopt::Parser, name: &str) -> Result<(), String> {
    let found = words.as_ref().and_then(|words| find(words.row, name));
    let (Some(words), Some(option)) = (words.as_mut(), found) else {
        return Err(misplaced(words.as_ref().map(|words| words.row), name));
    };
    let value = match option.value {
        Some(_) => parser.value().map_err(|error| error.to_string())?,
        None => OsString::new(),
    };
    if let Values::OneOf(allowed) = option.values
        && !allowed.iter().any(|word| value == *word)
    {
        let dashed = dashed(name);
        return Err(format!("{dashed} {}: there is {dashed} {}", value.to_string_lossy(), allowed.join(", ")));
    }
    words.options.push((option.name, value));
    Ok(())
}

fn dashed(name: &str) -> String {
    if name.chars().count() == 1 { format!("-{name}") } else { format!("--{name}") }
}

/// An option that the command has not: whose it is, or which may be meant.
fn misplaced(row: Option<&CommandRow>, name: &str) -> String {
    let dashed = dashed(name);
    let owners: Vec<String> =
        COMMANDS.iter().filter(|row| find(row, name).is_some()).map(|row| format!("`{}`", row.name)).collect();
    if let [others @ .., last] = owners.as_slice() {
        let list = if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
        let place = if row.is_none() { ", after the command" } else { "" };
        return format!("{dashed} belongs to {list}{place}");
    }
    let all = row.map(|row| row.options).unwrap_or_default().iter().map(|option| option.name).chain(["help"]);
    let near = usage::nearest(name, all).map(|near| format!(", is it --{near}?")).unwrap_or_default();
    format!("invalid option {dashed}{near}")
}

impl Words {
    fn of(row: &'static CommandRow) -> Self {
        Self { row, argument: None, options: Vec::new(), asked: RefCell::default() }
    }

    fn take_argument(&mut self, word: OsString) -> Result<(), String> {
        let (text, name) = (word.to_string_lossy().into_owned(), self.row.name);
        let Some(argument) = self.row.argument.filter(|_| self.argument.is_none()) else {
            return Err(format!("unexpected argument `{text}` after `{name}`"));
        };
        if let Values::OneOf(allowed) = argument.values
            && !allowed.contains(&text.as_str())
        {
            return Err(format!("{name} {text}: there is {name} {}", allowed.join(", ")));
        }
        self.argument = Some(word);
        Ok(())
    }

    /// Something that is wrong with these words.
    pub(super) fn mistake(&self, text: impl Into<String>) -> Mistake {
        Mistake { text: text.into(), command: Some(self.row.name) }
    }

    /// The argument.
    pub(super) fn argument(&self) -> Result<Option<String>, Mistake> {
        let text = self.argument.clone().map(|word| word.string().map_err(|error| self.mistake(error.to_string())));
        text.transpose()
    }

    /// The argument, where there must be one.
    pub(super) fn needed_argument(&self) -> Result<String, Mistake> {
        let name = self.row.argument.map(|argument| argument.name).unwrap_or_default();
        self.argument()?.ok_or_else(|| self.mistake(format!("{} needs {}", self.row.name, name.replace('|', " or "))))
    }

    /// Whether an option is given.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.raw(name).is_some()
    }

    /// An option's value, the last one.
    pub(super) fn raw(&self, name: &'static str) -> Option<&OsString> {
        self.asked.borrow_mut().insert(name);
        self.options.iter().rev().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The same as text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, Mistake> {
        let value = self.raw(name).cloned();
        value.map(|value| value.string().map_err(|error| self.mistake(format!("--{name}: {error}")))).transpose()
    }

    /// All options with one of these names and their values, in order.
    pub(super) fn all(&self, names: &[&'static str]) -> Result<Vec<(&'static str, String)>, Mistake> {
        self.asked.borrow_mut().extend(names);
        let given = self.options.iter().filter(|(name, _)| names.contains(name));
        let text = |(name, value): &(&'static str, OsString)| match value.clone().string() {
            Ok(text) => Ok((*name, text)),
            Err(error) => Err(self.mistake(format!("--{name}: {error}"))),
        };
        given.map(text).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A command with an argument, no options.
    pub(in crate::cli) fn bare(row: &'static CommandRow) -> Words {
        let sample = row.argument.map(|argument| match argument.values {
            Values::OneOf(words) | Values::Perhaps(words) => words[0],
            _ => "m5.large",
        });
        Words { argument: sample.map(OsString::from), ..Words::of(row) }
    }

    /// What was asked for.
    pub(in crate::cli) fn asked(words: &Words) -> BTreeSet<&'static str> {
        words.asked.borrow().clone()
    }

    fn wrong(words: &[&str]) -> String {
        read(words.iter().map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_says_what_there_is() {
        for (words, text) in [
            (&["staus"][..], "no such command `staus`, is it `status`?; see ipamd --help"),
            (&["frobnicate"], "no such command `frobnicate`; see ipamd --help"),
            (&["run", "--finish"], "--finish belongs to `hand-back`; see ipamd run --help"),
            (&["--finish"], "--finish belongs to `hand-back`, after the command; see ipamd --help"),
            (&["status", "--adress", "x"], "invalid option --adress, is it --address?; see ipamd status --help"),
            (&["status", "-o", "yaml"], "-o yaml: there is -o json; see ipamd status --help"),
            (&["probe", "well"], "probe well: there is probe live, ready; see ipamd probe --help"),
            (&["status", "x"], "unexpected argument `x` after `status`; see ipamd status --help"),
            (&["events", "--since"], "missing argument for option '--since'; see ipamd events --help"),
        ] {
            assert_eq!(wrong(words), text, "{words:?}");
        }
    }

    #[test]
    fn help_goes_before_what_may_be_wrong_later() {
        let line = |words: &[&str]| read(words.iter().map(OsString::from)).unwrap();
        assert!(matches!(line(&["status", "--help", "--frob"]), Some(Line::Help(Some("status")))));
        assert!(matches!(line(&["-h"]), Some(Line::Help(None))));
        assert!(matches!(line(&["-V"]), Some(Line::Version)));
        assert!(line(&[]).is_none());
    }
}
