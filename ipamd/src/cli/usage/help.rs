// SPDX-License-Identifier: Apache-2.0
//! `--help`, whole and of one command, laid out for a width.

use super::{COMMANDS, CommandRow, Group};
use crate::cli::terminal::{Screen, Style, wrap};

/// Where nothing says how wide lines may be.
const WIDTH: usize = 100;
/// Wider lines are hard to read.
const WIDEST: usize = 120;
/// Where what is said of an option begins.
const COLUMN: usize = 28;

/// What is true of all commands.
const SETTINGS: &str = "settings: of the environment; commands that are run by hand read /etc/enid/ipamd.env, too, for what is not set there, \
                        but for those that can be run anywhere: config --file, limits TYPE, max-pods TYPE, reasons, simulate";
const ASKED: &str = "the daemon is asked at enid.sock beside its socket (ENID_SOCKET), and where that is not there at INTROSPECTION_BIND_ADDRESS";
const CODES: &str =
    "exit codes: 0 done, 1 could not be done, or something is wrong, 64 wrong command line or configuration";

/// What `ipamd --help` prints.
#[must_use]
pub fn whole(screen: &Screen) -> String {
    let width = width(screen);
    let mut text = wrap("ipamd: gives pods addresses of the VPC from this node's ENIs", 7, width);
    text.push_str("\nusage: ipamd [COMMAND] [OPTION …]\n");
    for group in Group::ALL {
        text.push_str(&format!("\n{}\n", screen.paint(Style::Heading, group.title())));
        for row in COMMANDS.iter().filter(|row| row.group == group) {
            let name = row.argument.map_or(row.name.to_owned(), |argument| format!("{} {}", row.name, argument.name));
            text.push_str(&entry(&name, row.brief, width));
        }
    }
    text.push_str(&format!("\n{}\n", screen.paint(Style::Heading, "of most commands")));
    for (name, brief) in OF_ALL {
        text.push_str(&entry(name, brief, width));
    }
    for paragraph in [ASKED, SETTINGS, CODES] {
        text.push_str(&format!("\n{}", wrap(paragraph, 0, width)));
    }
    text
}

const OF_ALL: [(&str, &str); 4] = [
    ("-o, --output json", "as JSON, for programs"),
    ("--address ADDRESS", "where the daemon answers: address:port or unix:/path"),
    ("-h, --help", "after a command: all of that one"),
    ("-V, --version", "the version"),
];

/// What `ipamd COMMAND --help` prints.
#[must_use]
pub fn of(row: &CommandRow, screen: &Screen) -> String {
    let width = width(screen);
    let mut text = wrap(&format!("ipamd {}: {}", row.name, row.brief), 7, width);
    text.push_str(&format!("\n{}\n", wrap(&format!("usage: ipamd {}", row.synopsis()), 13, width)));
    text.push_str(&row.long.split('\n').map(|line| wrap(line, hanging(line), width)).collect::<String>());
    text.push_str(&format!("\n{}\n", screen.paint(Style::Heading, "options")));
    for option in row.options {
        let more = if option.repeats { "; as often as wanted" } else { "" };
        text.push_str(&entry(&option.both(), &format!("{}{more}", option.brief), width));
    }
    text.push_str(&entry("-h, --help", "print this", width));
    if !row.examples.is_empty() {
        text.push_str(&format!("\n{}\n", screen.paint(Style::Heading, "examples")));
    }
    for (line, what_for) in row.examples {
        text.push_str(&format!("  {line}\n{}", wrap(&format!("      {what_for}"), 6, width)));
    }
    text
}

fn width(screen: &Screen) -> usize {
    screen.width.map_or(WIDTH, |width| width.min(WIDEST))
}

/// Where a list's entry goes on: below its text.
fn hanging(line: &str) -> usize {
    let Some(rest) = line.strip_prefix("  ") else { return 0 };
    rest.find("   ").map_or(2, |at| 2 + at + rest[at..].len() - rest[at..].trim_start().len())
}

fn entry(name: &str, brief: &str, width: usize) -> String {
    // Where there is no room for two columns, what is said goes below.
    let column = if width < COLUMN * 2 { 6 } else { COLUMN };
    let name = format!("  {name}");
    if name.chars().count() + 2 > column {
        format!("{name}\n{}", wrap(&format!("{}{brief}", " ".repeat(column)), column, width))
    } else {
        wrap(&format!("{name:column$}{brief}"), column, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command_and_option_and_fits() {
        for width in [60, 80, 120] {
            let screen = Screen { width: Some(width), ..Screen::default() };
            let all = whole(&screen);
            for row in COMMANDS {
                assert!(all.contains(&format!("\n  {}", row.name)), "{}", row.name);
                let text = of(row, &screen);
                for option in row.options {
                    assert!(text.contains(&option.both()), "{} {}: {text}", row.name, option.name);
                }
                // A command line to copy stays whole.
                let is_example = |line: &str| row.examples.iter().any(|(example, _)| line.trim() == *example);
                let long = text.lines().find(|line| line.chars().count() > width && !is_example(line));
                assert_eq!(long, None, "{width} {}", row.name);
            }
            assert_eq!(all.lines().find(|line| line.chars().count() > width), None, "{width}");
        }
    }

    #[test]
    fn what_stands_in_columns_goes_on_below_itself() {
        assert_eq!(hanging("  ADDRESS    whose it is"), 13);
        assert_eq!(hanging("plain"), 0);
        assert_eq!(entry("-h, --help", "print this", 100), "  -h, --help                print this\n");
    }
}
