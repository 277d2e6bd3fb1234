// SPDX-License-Identifier: Apache-2.0
//! The variables in Markdown, generated, so that it cannot disagree with the code: for the README those that Enid refuses or does
//! otherwise than the reference, for docs/configuration.md all, by subject.

use std::fmt::Write;

use super::subjects::{Beside, Entry, SUBJECTS, Subject};
use super::{Support, VARIABLES, Variable, Verdict};

/// The README's table: a line a variable that the reference has not, or means otherwise, or that is not honoured; sorted as
/// [`VARIABLES`]. Ends with a line that says where the others are, and a newline.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| variable | type | default | support | changes at run time | meaning |\n|---|---|---|---|---|---|\n",
    );
    let mut left_out = 0_usize;
    for variable in VARIABLES {
        if !is_of_note(variable) {
            left_out += 1;
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {} | {} |",
            variable.name,
            kind(variable),
            default(variable),
            variable.support.label(),
            if variable.is_live { "yes" } else { "no" },
            variable.doc.replace('|', "\\|"),
        );
    }
    let _ = writeln!(
        table,
        "\nLeft out are {left_out} that mean what they mean elsewhere: [docs/configuration.md](docs/configuration.md) has all {}, by \
         subject.",
        VARIABLES.len(),
    );
    table
}

/// docs/configuration.md, whole.
#[must_use]
pub fn configuration_page() -> String {
    let mut page = String::from(HEAD);
    for subject in SUBJECTS {
        let names: Vec<String> =
            subject.entries.iter().map(|it| format!("[`{0}`](#{1})", it.name, it.name.to_lowercase())).collect();
        let _ = writeln!(page, "- [{}](#{}): {}", subject.title, anchor(subject.title), names.join(", "));
    }
    for subject in SUBJECTS {
        section(&mut page, subject);
    }
    page
}

const HEAD: &str = "\
<!-- generated from ipamd/core/src/config/{variables,subjects}.rs by `make bless`; held by a test -->
# Configuration, variable by variable
Where values come from, and what holds when several do: [settings.md](settings.md). What a node runs with, and why: `ipamd config`. How
to choose: [choosing-settings.md](choosing-settings.md).

Names and meanings are amazon-vpc-cni-k8s' (\"the reference\", v1.23). Common to all that follows:

- An empty value is one that is not set. Booleans are spelled as in Go: `1 t T TRUE true True`, `0 f F FALSE false False`.
- A value that is none (`WARM_IP_TARGET=five`), values that clash, and a variable called `ENID_…` that there is not end the start with
  exit code 64, all named in one message. The reference falls back to defaults.
- *Changes at run time: yes* means by a class of nodes (file of `ENID_SETTINGS_FILE`) or an annotation `setting.enid.dev/…` of the Node,
  without a restart. All others are read from the environment at a start: a DaemonSet's roll-out, or `systemctl restart enid-ipamd`.
- *Support*: `honoured`; `read elsewhere` (the daemon takes any value and does not look at it); else the values that are taken, noted with
  a warning, or refused.

";

fn section(page: &mut String, subject: &Subject) {
    let _ = write!(page, "\n## {}\n{}\n", subject.title, subject.lead);
    for entry in subject.entries {
        // A test holds the two tables to each other.
        let Some(variable) = VARIABLES.iter().find(|variable| variable.name == entry.name) else { continue };
        item(page, variable, entry);
    }
}

fn item(page: &mut String, variable: &Variable, entry: &Entry) {
    let _ = write!(page, "\n### `{}`\n{}\n\n", variable.name, variable.doc);
    let _ = writeln!(
        page,
        "- {}; default {}; changes at run time: {}; since {}",
        kind(variable),
        default(variable),
        if variable.is_live { "yes" } else { "no" },
        entry.since,
    );
    let _ = writeln!(page, "- support: {}", support(variable.support));
    let _ = writeln!(page, "- beside the reference: {}", beside(entry.beside));
}

fn beside(beside: Beside) -> &'static str {
    match beside {
        Beside::Same => "the same.",
        Beside::Differs(how) => how,
        Beside::Own => "it has none.",
        Beside::Common => "as everywhere.",
    }
}

fn support(support: Support) -> String {
    let Support::ByValue(cases) = support else { return support.label().to_owned() };
    let case = |(value, verdict): &(&str, Verdict)| {
        let value = if *value == "*" { "other values".to_owned() } else { format!("`{value}`") };
        match verdict {
            Verdict::Same => format!("{value}: taken"),
            Verdict::Noted(note) => format!("{value}: taken with a warning ({note})"),
            Verdict::Refused(problem) => format!("{value}: refused ({problem})"),
        }
    };
    match cases {
        [("*", Verdict::Same)] => "any value is taken, without effect".to_owned(),
        [("*", Verdict::Noted(note))] => format!("any value is taken, with a warning ({note})"),
        cases => cases.iter().map(case).collect::<Vec<_>>().join("; "),
    }
}

/// Whether the README tells of it: it is refused, has no effect, is Enid's own, or means something else than in the reference.
fn is_of_note(variable: &Variable) -> bool {
    let mut entries = SUBJECTS.iter().flat_map(|subject| subject.entries);
    let beside = entries.find(|entry| entry.name == variable.name).map(|entry| entry.beside);
    matches!(variable.support, Support::ByValue(_)) || !matches!(beside, Some(Beside::Same | Beside::Common))
}

fn kind(variable: &Variable) -> String {
    if variable.unit.is_empty() { variable.kind.to_owned() } else { format!("{}, {}", variable.kind, variable.unit) }
}

fn default(variable: &Variable) -> String {
    if variable.default.is_empty() { "-".to_owned() } else { format!("`{}`", variable.default) }
}

/// GitHub's anchor of a heading.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}
