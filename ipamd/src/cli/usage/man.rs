// SPDX-License-Identifier: Apache-2.0
//! The man page, in roff's `man` macros (groff_man(7)).

use std::fmt::Write as _;

use ipamd_core::config::VARIABLES;

use super::{COMMANDS, CommandRow};

/// ipamd(8).
#[must_use]
pub fn page() -> String {
    let mut text = format!(
        ".TH IPAMD 8 \"\" \"Enid {}\" \"Enid\"\n.SH NAME\nipamd \\- gives pods addresses of the VPC from a node's ENIs\n.SH SYNOPSIS\n\
         .B ipamd\n[\\fICOMMAND\\fR] [\\fIOPTION\\fR ...]\n.SH DESCRIPTION\n{}.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION"),
        lines(DESCRIPTION)
    );
    COMMANDS.iter().for_each(|row| text.push_str(&command(row)));
    text.push_str(
        ".SH ENVIRONMENT\nThe daemon's settings, with their defaults;\n.B ipamd config\nshows what holds on a node.\n",
    );
    for variable in VARIABLES {
        let default =
            if variable.default.is_empty() { String::new() } else { format!(" (default {})", variable.default) };
        let _ = write!(text, ".TP\n.B {}\n{}", escaped(variable.name), lines(&format!("{}{default}", variable.doc)));
    }
    for (variable, meaning) in OF_COMMANDS {
        let _ = write!(text, ".TP\n.B {variable}\n{}", lines(meaning));
    }
    text.push_str(".SH FILES\n");
    for (path, meaning) in FILES {
        let _ = write!(text, ".TP\n.I {}\n{}", escaped(path), lines(meaning));
    }
    text.push_str(".SH EXIT STATUS\n.TP\n.B 0\nDone.\n.TP\n.B 1\nCould not be done, or something is wrong.\n.TP\n.B 64\nThe command line or the configuration is wrong.\n");
    text
}

const DESCRIPTION: &str = "The ENI-based IPAM daemon of Enid, and the commands that look at it and at its node. Without a command it is the \
                           daemon.\n\nCommands ask the daemon at enid.sock beside its socket, and where that is not there at \
                           INTROSPECTION_BIND_ADDRESS. Colours are for terminals only; tables leave out their least important columns where \
                           there is no room, and say which.";

const OF_COMMANDS: [(&str, &str); 3] = [
    ("NO_COLOR", "Set and not empty: commands print no colours."),
    ("COLUMNS", "How wide tables may be where standard output is no terminal."),
    ("LC_ALL\\fR, \\fBLC_CTYPE\\fR, \\fBLANG", "Bars are drawn in ASCII where the locale is not UTF-8."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/enid/ipamd.env", "Settings, read by commands that are run by hand for what the environment lacks."),
    ("/var/run/aws-node/ipamd.sock", "Where the plugin asks (ENID_SOCKET)."),
    ("/var/run/aws-node/enid.sock", "Where commands ask."),
    ("/var/run/aws-node/ipam.json, enid.json", "The journal (AWS_VPC_K8S_CNI_BACKING_STORE, and beside it)."),
];

fn command(row: &CommandRow) -> String {
    let mut text =
        format!(".SS {}\n.B ipamd\n{}\n.PP\n{}", escaped(row.name), escaped(&row.synopsis()), lines(row.long));
    for option in row.options {
        let _ = write!(text, ".TP\n.B {}\n{}", escaped(&option.both()), lines(option.brief));
    }
    for (line, what_for) in row.examples {
        let _ = write!(text, ".PP\nExample, {}:\n.PP\n.nf\n    {}\n.fi\n", escaped(what_for), escaped(line));
    }
    text
}

/// Paragraphs; lines that begin with a blank stay as they are.
fn lines(text: &str) -> String {
    let mut roff = String::new();
    let mut is_plain = true;
    for line in text.split('\n') {
        let is_fixed = line.starts_with(' ');
        if is_fixed == is_plain {
            roff.push_str(if is_fixed { ".nf\n" } else { ".fi\n" });
            is_plain = !is_fixed;
        }
        if line.is_empty() {
            roff.push_str(".PP\n");
        } else {
            let _ = writeln!(roff, "{}", escaped(line));
        }
    }
    if !is_plain {
        roff.push_str(".fi\n");
    }
    roff
}

/// What roff would take for its own (groff(7), "Escape sequences"; a dot or a quote at the beginning of a line is a request).
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_option_and_variable_and_every_line_is_roff() {
        let page = page();
        for row in COMMANDS {
            assert!(page.contains(&format!(".SS {}\n", escaped(row.name))), "{}", row.name);
            for option in row.options {
                assert!(page.contains(&escaped(&option.both())), "{} {}", row.name, option.name);
            }
        }
        for variable in VARIABLES {
            assert!(page.contains(&format!(".B {}\n", escaped(variable.name))), "{}", variable.name);
        }
        let requests = [".TH", ".SH", ".SS", ".B", ".I", ".TP", ".PP", ".nf", ".fi"];
        for line in page.lines().filter(|line| line.starts_with('.')) {
            assert!(requests.contains(&line.split(' ').next().unwrap()), "{line}");
        }
        assert!(page.is_ascii(), "{:?}", page.chars().find(|letter| !letter.is_ascii()));
    }

    #[test]
    fn what_roff_would_take_for_its_own_is_escaped() {
        assert_eq!(escaped(".-\\"), "\\&.\\-\\e");
        assert_eq!(lines("a\n\n  b\nc"), "a\n.PP\n.nf\n  b\n.fi\nc\n");
    }
}
