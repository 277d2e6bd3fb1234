// SPDX-License-Identifier: Apache-2.0
//! The pages' `ipamd` commands that need no daemon: they run, and print what is shown. And those that change a node: the parser takes them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use integration::process::fed;

use crate::commands::{Kind, Shown, arguments, ipamd, kind, shown};
use crate::markdown::{pages, root};

/// What stands for something of the reader's, and what it is here.
const PLACEHOLDERS: [(&str, &str); 2] = [("TYPE", "m5.large"), ("CODE", "NodeFull")];

/// A folder with what the commands name: parts of this repository, and the file of settings that docs/settings.md shows.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["ipamd", "deploy", "docs"] {
        symlink(root().join(part), folder.path().join(part)).unwrap();
    }
    std::fs::write(folder.path().join("settings.yaml"), settings()).unwrap();
    folder
}

/// The file of settings of docs/settings.md.
fn settings() -> String {
    let page = pages().into_iter().find(|page| page.path.ends_with("docs/settings.md")).unwrap();
    let block = page.blocks().into_iter().find(|block| block.language == "yaml").expect("a file of settings");
    assert!(block.text.starts_with("classes:"), "{}", block.text);
    block.text
}

fn run(shown: &Shown, arguments: &[String], folder: &Path) -> Output {
    let arguments = arguments.iter().map(|word| {
        let stands_for = PLACEHOLDERS.iter().find(|(name, _)| name == word).map(|(_, value)| (*value).to_owned());
        stands_for.unwrap_or_else(|| word.clone())
    });
    let mut command = std::process::Command::new(ipamd());
    command.args(arguments).env_clear().envs(shown.command.environment.iter().cloned()).current_dir(folder);
    let input =
        shown.command.input.clone().unwrap_or_else(|| if shown.command.is_piped { settings() } else { String::new() });
    fed(&mut command, &input).unwrap()
}

/// Whether `printed` is as shown: a line with `…` alone stands for any lines.
fn is_as_shown(printed: &str, output: &[String]) -> bool {
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    let output: Vec<&str> = output.iter().map(|line| line.trim_end()).collect();
    if !output.contains(&"…") {
        return printed == output;
    }
    let mut at = 0;
    let count = output.split(|line| *line == "…").count();
    for (number, part) in output.split(|line| *line == "…").enumerate() {
        let found = match number {
            0 => printed.starts_with(part).then_some(0),
            _ if number + 1 == count => printed[at..].ends_with(part).then(|| printed.len() - part.len()),
            _ => (at..=printed.len().saturating_sub(part.len())).find(|start| printed[*start..].starts_with(part)),
        };
        match found {
            Some(start) => at = start + part.len(),
            None => return false,
        }
    }
    true
}

#[test]
fn every_command_that_needs_no_daemon_runs_and_prints_what_is_shown() {
    let folder = folder();
    let (mut faults, mut ran, mut compared) = (Vec::new(), 0, 0);
    for shown in shown() {
        let Some(arguments) = arguments(&shown.command) else { continue };
        if kind(&arguments) != Kind::Offline {
            continue;
        }
        ran += 1;
        let output = run(&shown, &arguments, folder.path());
        let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            faults.push(format!("{}: ipamd {}: {}\n{said}", shown.place, arguments.join(" "), output.status));
        } else if let Some(expected) = &shown.output {
            compared += 1;
            if !is_as_shown(&printed, expected) {
                faults.push(format!("{}: ipamd {} prints\n{printed}", shown.place, arguments.join(" ")));
            }
        }
    }
    println!("{ran} commands ran, what {compared} of them print is shown");
    assert!(ran > 10 && compared > 3 && faults.is_empty(), "{ran} ran, {compared} compared:\n{}", faults.join("\n"));
}

#[test]
fn every_command_that_changes_a_node_is_one() {
    let folder = folder();
    let (mut faults, mut count) = (Vec::new(), 0);
    for shown in shown() {
        let Some(mut arguments) = arguments(&shown.command) else { continue };
        if kind(&arguments) != Kind::Parsed {
            continue;
        }
        count += 1;
        // With it the parser looks at all words before it, and nothing is done.
        arguments.push("--help".to_owned());
        let output = run(&shown, &arguments, folder.path());
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            faults.push(format!("{}: ipamd {}: {said}", shown.place, arguments.join(" ")));
        }
    }
    println!("{count} commands that change a node");
    assert!(count >= 5 && faults.is_empty(), "{count} looked at:\n{}", faults.join("\n"));
}

#[test]
fn a_wrong_word_before_help_is_still_found() {
    let output = |words: &[&str]| std::process::Command::new(ipamd()).args(words).env_clear().output().unwrap();
    assert!(output(&["hand-back", "--finish", "--help"]).status.success());
    for words in [["hand-back", "--begin", "--help"], ["hand-bock", "--finish", "--help"]] {
        assert_eq!(output(&words).status.code(), Some(64), "{words:?}");
    }
}

#[test]
fn an_ellipsis_stands_for_any_lines() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(is_as_shown("a\nb\nc\n", &lines("a\nb\nc")));
    assert!(!is_as_shown("a\nb\nc\n", &lines("a\nb")));
    assert!(is_as_shown("a\nb\nc\n", &lines("a\n…")));
    assert!(is_as_shown("a\nb\nc\nd\n", &lines("a\n…\nc\n…\nd")));
    assert!(!is_as_shown("a\nb\nc\nd\n", &lines("a\n…\nx\n…\nd")));
    assert!(!is_as_shown("a\nb\n", &lines("b\n…")));
}
