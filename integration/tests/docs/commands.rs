// SPDX-License-Identifier: Apache-2.0
//! The commands that the pages show in blocks marked `sh` and `console`, and in blocks without a mark that begin with a program's name; in a
//! `console` block `$ ` stands before a command, and what it prints comes after it. Here: `make`, and what is named in running text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use integration::node::daemon_binary;

use crate::markdown::{Block, operators_pages, pages, root};
use crate::shell::{Command, commands};

/// A command of a page.
pub(crate) struct Shown {
    /// `docs/x.md:12`.
    pub(crate) place: String,
    /// The command.
    pub(crate) command: Command,
    /// What the page says it prints, line by line; `None`: nothing is said.
    pub(crate) output: Option<Vec<String>>,
}

/// What becomes of an `ipamd` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes the node, or looks at all of it: given to the parser alone.
    Parsed,
    /// It needs no daemon.
    Offline,
    /// It asks the daemon.
    OnNode,
}

/// Programs that a block without a mark may begin with.
const PROGRAMS: [&str; 12] =
    ["cargo", "ctr", "curl", "env", "export", "helm", "ipamd", "kubectl", "make", "podman", "source", "systemctl"];

/// Every command of the operators' pages, in order.
pub(crate) fn shown() -> Vec<Shown> {
    let mut shown = Vec::new();
    for page in operators_pages() {
        for block in page.blocks() {
            let place = |line: usize| format!("{}:{}", page.path.display(), block.line + line);
            match block.language.as_str() {
                "console" => console(&block, place, &mut shown),
                "sh" => shell(&block, place, &mut shown),
                "" if begins_with_a_program(&block) => shell(&block, place, &mut shown),
                _ => {}
            }
        }
    }
    shown
}

fn begins_with_a_program(block: &Block) -> bool {
    let first = block.text.lines().find(|line| !line.trim_start().starts_with('#')).unwrap_or_default();
    assert!(!first.starts_with("$ "), "mark the block as console: {first}");
    first.split_whitespace().next().is_some_and(|word| PROGRAMS.contains(&word))
}

fn shell(block: &Block, place: impl Fn(usize) -> String, shown: &mut Vec<Shown>) {
    let all = commands(&block.text).into_iter();
    shown.extend(all.map(|command| Shown { place: place(command.line), command, output: None }));
}

fn console(block: &Block, place: impl Fn(usize) -> String, shown: &mut Vec<Shown>) {
    let lines: Vec<&str> = block.text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let first = at;
        let mut text = String::from(lines[at].strip_prefix("$ ").unwrap_or_else(|| panic!("{}: no $", place(at))));
        while text.ends_with('\\') {
            at += 1;
            text = format!("{text}\n{}", lines[at]);
        }
        at += 1;
        let output: Vec<String> =
            lines[at..].iter().take_while(|line| !line.starts_with("$ ")).map(|line| (*line).to_owned()).collect();
        at += output.len();
        let count = commands(&text).len();
        for (number, command) in commands(&text).into_iter().enumerate() {
            // What is shown is what the last of a pipe prints.
            let output = (number + 1 == count && !output.is_empty()).then(|| output.clone());
            shown.push(Shown { place: place(first), command, output });
        }
    }
}

/// The arguments of `ipamd`, also of one in a pod; `None`: it is another program's command.
pub(crate) fn arguments(command: &Command) -> Option<Vec<String>> {
    let is_ours = |word: &String| word == "ipamd" || word == "/ipamd" || word == "/usr/local/bin/ipamd";
    let at = match command.words.first() {
        Some(word) if is_ours(word) => 0,
        Some(word) if word == "kubectl" => {
            let at = command.words.iter().position(|word| word == "--")? + 1;
            command.words.get(at).filter(|word| is_ours(word))?;
            at
        }
        _ => return None,
    };
    Some(command.words[at + 1..].to_vec())
}

/// What becomes of it.
pub(crate) fn kind(arguments: &[String]) -> Kind {
    let is_given = arguments.get(1).is_some_and(|word| !word.starts_with('-'));
    match arguments.first().map_or("run", String::as_str) {
        "run" | "install" | "uninstall" | "cleanup-host" | "hand-back" | "takeover" | "doctor" => Kind::Parsed,
        "simulate" | "reasons" | "completions" | "man" | "version" | "help" | "--help" | "--version" => Kind::Offline,
        "max-pods" | "limits" if is_given || arguments.iter().any(|word| word == "--all") => Kind::Offline,
        "config" if arguments.iter().any(|word| word == "--file") => Kind::Offline,
        _ => Kind::OnNode,
    }
}

/// The real program.
pub(crate) fn ipamd() -> PathBuf {
    daemon_binary().unwrap()
}

fn targets() -> Vec<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.to_owned());
    let is_rule = |line: &&str| line.starts_with(|letter: char| letter.is_ascii_lowercase()) && !line.contains(":=");
    makefile.lines().filter(is_rule).filter_map(name).collect()
}

#[test]
fn every_make_target_that_a_page_names_exists() {
    let targets = targets();
    assert!(targets.iter().any(|target| target == "demo"), "{targets:?}");
    let blocks = shown().into_iter().map(|shown| (shown.place, shown.command.words));
    let spans = pages().into_iter().flat_map(|page| {
        let place = page.path.display().to_string();
        page.spans()
            .into_iter()
            .flat_map(|(line, span)| commands(&span).into_iter().map(move |command| (line, command.words)))
            .map(|(line, words)| (format!("{place}:{line}"), words))
            .collect::<Vec<_>>()
    });
    let (mut faults, mut count) = (Vec::new(), 0);
    for (place, words) in blocks.chain(spans).filter(|(_, words)| words[0] == "make") {
        // `make` alone, and `make X …` with an ellipsis for what may stand there.
        let named = words[1..].iter().filter(|word| !word.contains('=') && !word.starts_with(['-', '…', '"']));
        for target in named {
            count += 1;
            if !targets.contains(target) {
                faults.push(format!("{place}: make {target}"));
            }
        }
    }
    println!("{count} times a target of make is named");
    assert!(count > 20 && faults.is_empty(), "no such targets ({count} looked at):\n{}", faults.join("\n"));
}

/// What `ipamd WORD --help` prints; `None`: there is no such command.
fn help_of(command: &str) -> Option<String> {
    let output = std::process::Command::new(ipamd()).args([command, "--help"]).env_clear().output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_command_of_ipamd_that_is_named_in_running_text_is_in_its_help() {
    let mut helps: BTreeMap<String, Option<String>> = BTreeMap::new();
    let (mut faults, mut count) = (Vec::new(), 0);
    // What a version had is not what this one has.
    for page in pages().into_iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        for (line, span) in page.spans() {
            let Some(rest) = span.strip_prefix("ipamd ") else { continue };
            let mut words = rest.split(|letter: char| letter.is_whitespace() || "[]|\\,".contains(letter));
            let command = words.next().unwrap_or_default().to_owned();
            if command.starts_with(['…', '-']) {
                continue;
            }
            count += 1;
            let help = helps.entry(command.clone()).or_insert_with(|| help_of(&command));
            let is_option = |word: &&str| word.starts_with("--") && word.len() > 2;
            let unknown: Vec<&str> =
                words.filter(is_option).filter(|word| help.as_ref().is_none_or(|help| !help.contains(word))).collect();
            if help.is_none() || !unknown.is_empty() {
                faults.push(format!("{}:{line}: {span} {unknown:?}", page.path.display()));
            }
        }
    }
    println!("{count} times a command of ipamd is named in running text");
    assert!(count > 40 && faults.is_empty(), "not in its help ({count} looked at):\n{}", faults.join("\n"));
}
