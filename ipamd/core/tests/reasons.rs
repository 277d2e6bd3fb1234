// SPDX-License-Identifier: Apache-2.0
//! docs/reasons.md is the code's table of reason codes. `make bless` rewrites it.
#![expect(clippy::disallowed_methods, reason = "reads, and when asked rewrites, files of this repository")]

use ipamd_core::reason::{ReasonCode, Surface, markdown};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn the_page_of_reason_codes_is_the_table() {
    let path = format!("{ROOT}/docs/reasons.md");
    let page = markdown();
    if std::env::var_os("ENID_BLESS").is_some() {
        std::fs::write(path, page).expect("writing docs/reasons.md");
        return;
    }
    let found = std::fs::read_to_string(path).expect("docs/reasons.md");
    assert!(found == page, "docs/reasons.md is not the table: run `make bless` and read the diff");
}

/// A variable, or a file of the repository, that a remedy names must be there.
#[test]
fn what_remedies_name_is_there() {
    let variables = std::fs::read_to_string(format!("{ROOT}/docs/configuration.md")).expect("the page of variables");
    for code in ReasonCode::ALL {
        let remedy = code.entry().remedy;
        for quoted in remedy.split('`').skip(1).step_by(2) {
            let name = quoted.split(['=', ' ']).next().unwrap_or_default();
            let is_variable = name.contains('_') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let of_others = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CAP_NET_ADMIN"];
            if is_variable && !of_others.contains(&name) {
                assert!(variables.contains(&format!("### `{name}`\n")), "{code}: {name} is no variable of ours");
            }
        }
        for word in remedy.split([' ', ',', ';', ':', '(', ')']) {
            let path = word.trim_end_matches('.');
            if path.starts_with("docs/") || path.starts_with("deploy/") {
                assert!(std::path::Path::new(ROOT).join(path).exists(), "{code}: there is no {path}");
            }
        }
    }
}

/// The daemon's notices have codes of the daemon, the plugin's errors those of the plugin.
#[test]
fn what_shows_as_a_metric_is_in_the_log_too() {
    for code in ReasonCode::ALL {
        let shows = code.entry().shows;
        assert_eq!(
            shows.contains(&Surface::Metric),
            shows.contains(&Surface::Log) && !NEVER_SCRAPED.contains(code),
            "{code}"
        );
    }
}

/// The daemon does not live to be asked for them.
const NEVER_SCRAPED: &[ReasonCode] =
    &[ReasonCode::StartFailed, ReasonCode::EnvironmentInvalid, ReasonCode::DaemonAborted];

/// What is loud in the daemon names its cause. The core's notices cannot do otherwise (`Turn::warn`); the edges' lines are held here.
#[test]
fn no_warning_or_error_of_an_edge_is_without_a_code() {
    let mut files = Vec::new();
    for folder in ["ipamd/src", "ipamd/aws/src"] {
        sources(&std::path::Path::new(ROOT).join(folder), &mut files);
    }
    let mut lines = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in text.match_indices("tracing::warn!(").chain(text.match_indices("tracing::error!(")) {
            lines += 1;
            let arguments =
                text[at..].split_once('(').map_or("", |(_, rest)| rest).split('"').next().unwrap_or_default();
            assert!(arguments.contains("code"), "{}: {}", path.display(), &text[at..(at + 80).min(text.len())]);
        }
    }
    assert!(lines > 40, "only {lines} lines are found");
}

fn sources(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
