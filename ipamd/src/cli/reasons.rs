// SPDX-License-Identifier: Apache-2.0
//! `ipamd reasons`: the stable codes, what they mean and what to do. The table is [`ipamd_core::reason`]'s; `docs/reasons.md` is made of it,
//! too.

use std::io::Write;

use ipamd_core::reason::{ReasonCode, ReasonEntry};

use super::table::{Column, column, table};
use super::terminal::{Screen, Style};
use super::{pretty, print, usage};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// `None`: all.
    pub code: Option<String>,
    /// As JSON, not as text.
    pub json: bool,
}

/// The names of all codes.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ReasonCode::ALL.iter().map(|code| code.name())
}

/// What to do about a code, in a paragraph.
pub(super) fn remedy(code: ReasonCode) -> &'static str {
    code.entry().remedy
}

/// Prints them.
///
/// # Errors
/// There is no such code; or standard output is closed.
pub fn run(question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let text = match (&question.code, question.json) {
        (None, true) => pretty(&ReasonCode::ALL.iter().map(|code| code.entry()).collect::<Vec<_>>())?,
        (None, false) => list(screen),
        (Some(name), true) => pretty(find(name)?)?,
        (Some(name), false) => one(find(name)?, screen),
    };
    print(out, &text)
}

/// By its name, whatever the letters' case: people read codes off screens.
fn find(name: &str) -> Result<&'static ReasonEntry, String> {
    let found = ReasonCode::ALL.iter().find(|code| code.name().eq_ignore_ascii_case(name));
    found.map(|code| code.entry()).ok_or_else(|| {
        let none = usage::no_such("code", name, names());
        format!("{none} (`ipamd reasons` lists all; a daemon of a later version may have more)")
    })
}

const COLUMNS: [Column; 3] = [column("code"), column("kind").rank(1), column("means").text()];

fn list(screen: &Screen) -> String {
    let mut entries: Vec<_> = ReasonCode::ALL.iter().map(|code| code.entry()).collect();
    entries.sort_by_key(|entry| (entry.kind, entry.code.name()));
    let row =
        |entry: &&ReasonEntry| vec![entry.code.to_string(), entry.kind.name().to_owned(), entry.meaning.to_owned()];
    table(screen, "", &COLUMNS, &entries.iter().map(row).collect::<Vec<_>>())
}

fn one(entry: &ReasonEntry, screen: &Screen) -> String {
    let places: Vec<_> = entry.shows.iter().map(|place| place.text()).collect();
    let head = screen.paint(Style::Heading, entry.code.name());
    let lines = [
        ("means", entry.meaning),
        ("tells", if entry.numbers == "-" { "nothing more" } else { entry.numbers }),
        ("do", entry.remedy),
        ("shows in", &places.join("; ")),
    ];
    let lines = lines.map(|(label, text)| screen.labelled(label, text));
    format!("{head} ({})\n{}", entry.kind.name(), lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Option<&str>, json: bool, screen: &Screen) -> Result<String, String> {
        let mut out = Vec::new();
        run(&Question { code: code.map(str::to_owned), json }, screen, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_code_is_listed_and_told_at_length() {
        let list = said(None, false, &Screen::default()).unwrap();
        assert_eq!(list.lines().count(), ReasonCode::ALL.len() + 1);
        let narrow = Screen { width: Some(60), ..Screen::default() };
        for code in ReasonCode::ALL {
            assert!(list.contains(code.name()), "{code}");
            let text = said(Some(&code.name().to_lowercase()), false, &narrow).unwrap();
            assert!(text.starts_with(code.name()) && text.contains("\ndo       "), "{code}: {text}");
            assert_eq!(text.lines().find(|line| line.chars().count() > 60), None, "{code}");
        }
        let json: serde_json::Value = serde_json::from_str(&said(Some("NodeFull"), true, &narrow).unwrap()).unwrap();
        assert_eq!(json["code"], "NodeFull");
        assert!(said(Some("NodeFul"), false, &narrow).unwrap_err().contains("is it `NodeFull`?"));
    }
}
