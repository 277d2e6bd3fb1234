// SPDX-License-Identifier: Apache-2.0
//! What standard output can show: how wide, in colours or not, in which letters; and text laid out for that.
//!
//! Colours only on a terminal, without `NO_COLOR` (<https://no-color.org>: set and not empty), and not where TERM is `dumb` or not set.
//! Width: of the terminal, else `COLUMNS`; where output is no terminal and COLUMNS is not set, lines are as long as they need. Letters
//! beyond ASCII only where the locale is UTF-8 (LC_ALL, LC_CTYPE, LANG, the first that is set and not empty).

use std::os::fd::AsFd;

use ipamd_core::config::Source;

/// Narrower than this nothing is laid out.
const NARROWEST: usize = 40;

/// What standard output can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Letters in a line; `None`: as many as needed.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub has_colours: bool,
    /// Whether it shows letters beyond ASCII.
    pub has_unicode: bool,
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Needs a look.
    Warning,
    /// Wrong.
    Bad,
    /// Of less importance.
    Faint,
}

impl Style {
    /// SGR parameters (ECMA-48, 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Self::Heading => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }
}

impl Screen {
    /// Of a descriptor, with the settings of an environment.
    #[must_use]
    pub fn of(output: impl AsFd, environment: &dyn Source) -> Self {
        let is_terminal = rustix::termios::isatty(&output);
        let size = if is_terminal { rustix::termios::tcgetwinsize(&output).ok() } else { None };
        Self::new(is_terminal, size.map(|size| usize::from(size.ws_col)), environment)
    }

    fn new(is_terminal: bool, columns: Option<usize>, environment: &dyn Source) -> Self {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let of_terminal = columns.filter(|columns| *columns > 0);
        let width = of_terminal.or_else(|| set("COLUMNS")?.trim().parse().ok().filter(|columns| *columns > 0));
        let can_colour = set("TERM").is_some_and(|term| term != "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
        Self {
            width: width.map(|width| width.max(NARROWEST)),
            has_colours: is_terminal && can_colour && set("NO_COLOR").is_none(),
            has_unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// The text, standing out where that can be shown.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.has_colours && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// A heading, in lines that fit.
    #[must_use]
    pub fn heading(&self, text: &str) -> String {
        self.wrapped(text, 0).lines().map(|line| self.paint(Style::Heading, line) + "\n").collect()
    }

    /// `text` in lines that fit, all but the first indented. Ends with a line's end.
    #[must_use]
    pub fn wrapped(&self, text: &str, indent: usize) -> String {
        match self.width {
            Some(width) => wrap(text, indent, width),
            None => format!("{text}\n"),
        }
    }

    /// A label of a fixed width and what it stands for.
    #[must_use]
    pub fn labelled(&self, label: &str, text: &str) -> String {
        let line = self.wrapped(&format!("{label:LABEL$}{text}"), LABEL);
        match (self.has_colours, line.strip_prefix(label)) {
            (true, Some(rest)) => self.paint(Style::Heading, label) + rest,
            _ => line,
        }
    }
}

/// Width of a label.
const LABEL: usize = 9;

/// Breaks at blanks; a word that is longer than a line stays whole but for what does not fit, which goes on in the next.
#[must_use]
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut all = String::new();
    // Blanks at the beginning are part of the layout.
    let lead = text.len() - text.trim_start().len();
    let mut line = text[..lead].to_owned();
    let mut length = lead;
    let mut is_fresh = true;
    for word in text[lead..].split(' ') {
        let mut word = word;
        loop {
            let letters = visible(word);
            let gap = usize::from(!is_fresh);
            if length + gap + letters <= width {
                line.push_str(if is_fresh { "" } else { " " });
                line.push_str(word);
                (length, is_fresh) = (length + gap + letters, false);
                break;
            }
            if is_fresh && length + 1 < width {
                let cut = word.char_indices().nth(width - length).map_or(word.len(), |(at, _)| at);
                line.push_str(&word[..cut]);
                word = &word[cut..];
            }
            all.push_str(line.trim_end());
            all.push('\n');
            let indent = if indent + 8 > width { 0 } else { indent };
            line = " ".repeat(indent);
            (length, is_fresh) = (indent, true);
            if word.is_empty() {
                break;
            }
        }
    }
    all.push_str(line.trim_end());
    all.push('\n');
    all
}

/// Letters that take room: what sets a colour takes none.
fn visible(text: &str) -> usize {
    let mut letters = text.chars();
    let mut count = 0;
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            letters.by_ref().find(|letter| *letter == 'm');
        } else {
            count += 1;
        }
    }
    count
}

/// `text` in at most so many letters; the last one says that there is more.
#[must_use]
pub fn cut(text: &str, letters: usize, has_unicode: bool) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let more = if has_unicode { '…' } else { '~' };
    text.chars().take(letters.saturating_sub(1)).chain(std::iter::once(more)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn screen(is_terminal: bool, columns: Option<usize>, set: &[(&str, &str)]) -> Screen {
        let environment: BTreeMap<String, String> =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Screen::new(is_terminal, columns, &environment)
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let term = ("TERM", "xterm");
        for (is_terminal, set, wanted) in [
            (true, &[term][..], true),
            (false, &[term], false),
            (true, &[term, ("NO_COLOR", "1")], false),
            (true, &[term, ("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[], false),
        ] {
            assert_eq!(screen(is_terminal, Some(80), set).has_colours, wanted, "{is_terminal} {set:?}");
        }
        assert_eq!(Screen { has_colours: true, ..Screen::default() }.paint(Style::Bad, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Screen::default().paint(Style::Bad, "x"), "x");
    }

    #[test]
    fn the_width_is_the_terminal_s_else_that_of_the_environment_else_there_is_none() {
        assert_eq!(screen(true, Some(120), &[("COLUMNS", "60")]).width, Some(120));
        assert_eq!(screen(true, Some(0), &[("COLUMNS", "60")]).width, Some(60));
        assert_eq!(screen(false, None, &[("COLUMNS", "60")]).width, Some(60));
        assert_eq!(screen(false, None, &[]).width, None);
        assert_eq!(screen(false, None, &[("COLUMNS", "5")]).width, Some(NARROWEST));
        assert_eq!(screen(false, None, &[("COLUMNS", "wide")]).width, None);
    }

    #[test]
    fn the_locale_says_which_letters_there_are() {
        for (set, wanted) in [
            (&[("LANG", "en_US.UTF-8")][..], true),
            (&[("LANG", "de_DE.utf8")], true),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LANG", "C"), ("LC_ALL", "")], false),
            (&[("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
            (&[], false),
        ] {
            assert_eq!(screen(true, None, set).has_unicode, wanted, "{set:?}");
        }
    }

    #[test]
    fn no_line_is_longer_than_the_width_and_no_letter_is_lost() {
        let text = "why      8 addresses are missing: the subnet subnet-0123456789abcdef0123456789abcdef0123456789abcdef has none left";
        for width in [20, 40, 60, 200] {
            let lines = wrap(text, 9, width);
            assert!(lines.lines().all(|line| line.chars().count() <= width), "{width}: {lines}");
            let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
            assert_eq!(letters(&lines), letters(text), "{width}");
        }
        assert_eq!(wrap("a bb ccc dddd", 2, 12), "a bb ccc\n  dddd\n");
        assert_eq!(wrap("\x1b[31ma\x1b[0m bb ccc", 2, 4), "\x1b[31ma\x1b[0m bb\nccc\n");
        assert_eq!(cut("abcdef", 4, false), "abc~");
        assert_eq!(cut("abcd", 4, true), "abcd");
    }
}
