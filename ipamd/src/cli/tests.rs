// SPDX-License-Identifier: Apache-2.0
//! Words to commands.

use std::collections::BTreeSet;

use super::usage::COMMANDS;
use super::*;

fn parsed(words: &[&str]) -> Result<Command, String> {
    parse(words.iter().map(Into::into)).map_err(|error| error.to_string())
}

#[test]
fn every_command_is_found_and_run_is_the_default() {
    assert_eq!(parsed(&[]), Ok(Command::Run));
    assert_eq!(parsed(&["run"]), Ok(Command::Run));
    assert_eq!(parsed(&["plan-host"]), Ok(Command::PlanHost));
    assert_eq!(parsed(&["cleanup-host"]), Ok(Command::CleanupHost));
    assert_eq!(parsed(&["version"]), Ok(Command::Version));
    assert_eq!(parsed(&["status", "--help"]), Ok(Command::Help(Some("status"))));
    assert_eq!(parsed(&["help", "why"]), Ok(Command::Help(Some("why"))));
    assert_eq!(parsed(&["help"]), Ok(Command::Help(None)));
    let words = ["simulate", "--instance-type", "m5.large", "--pods", "t.csv", "--with", "A=1 B=2", "--reference", ""];
    let simulation = simulate::Simulation {
        instance_type: "m5.large".to_owned(),
        pods: "t.csv".into(),
        columns: vec![(simulate::Whose::Ours, "A=1 B=2".to_owned()), (simulate::Whose::Reference, String::new())],
        svg: None,
    };
    assert_eq!(parsed(&words), Ok(Command::Simulate(simulation)));
    let dry_run = |json| Ok(Command::Takeover { json });
    assert_eq!(parsed(&["takeover", "--dry-run"]), dry_run(false));
    assert_eq!(parsed(&["takeover", "-o", "json", "--dry-run"]), dry_run(true));
    assert!(parsed(&["takeover"]).unwrap_err().contains("--dry-run"));
    assert_eq!(parsed(&["hand-back"]), Ok(Command::HandBack(hand_back::Step::Begin)));
    assert_eq!(parsed(&["hand-back", "--finish"]), Ok(Command::HandBack(hand_back::Step::Finish)));
    assert!(parsed(&["simulate", "--pods", "x"]).unwrap_err().contains("--instance-type"));
    assert_eq!(parsed(&["probe", "ready"]), Ok(Command::Probe(probe::Question::Ready)));
    let options = install::Options { plugin: Some("p".into()), is_dry_run: true, has_unit: true };
    assert_eq!(parsed(&["install", "--plugin", "p", "--systemd", "--dry-run"]), Ok(Command::Install(options)));
    let words = ["config", "--file", "f", "--type", "m5.large", "--label", "a=b", "-o", "json"];
    let labels = Some([("a".to_owned(), "b".to_owned())].into());
    let node = NodeTraits { instance_type: Some("m5.large".to_owned()), zone: None, labels };
    let asked = Asked { json: true, address: None };
    let question = config::Question { asked, file: Some("f".into()), node };
    assert_eq!(parsed(&words), Ok(Command::Config(question)));
    assert!(parsed(&["config", "--zone", "a"]).unwrap_err().contains("--file"));
    assert!(parsed(&["config", "--file", "f", "--label", "a"]).unwrap_err().contains("name=value"));
}

#[test]
fn commands_that_ask_the_daemon_take_an_address_and_json() {
    let asked = || Asked { json: true, address: Some(Bind::Unix("/run/x".into())) };
    let with = |words: &[&str]| parsed(&[words, &["-o", "json", "--address", "unix:/run/x"]].concat());
    assert_eq!(with(&["status"]), Ok(Command::Status(asked())));
    assert_eq!(with(&["enis"]), Ok(Command::Enis(asked())));
    let question = pods::Question { asked: asked(), namespace: Some("a".to_owned()) };
    assert_eq!(with(&["pods", "--namespace", "a"]), Ok(Command::Pods(question)));
    let question = why::Question { asked: asked(), what: "10.0.0.1".to_owned() };
    assert_eq!(with(&["why", "10.0.0.1"]), Ok(Command::Why(question)));
    assert!(with(&["why"]).unwrap_err().contains("why needs WHAT"));
    for (word, is_strict, is_without_daemon) in [("--strict", true, false), ("--without-daemon", false, true)] {
        let question = check::Question { asked: asked(), is_strict, is_without_daemon };
        assert_eq!(with(&["check", word]), Ok(Command::Check(question)));
    }
    let question = events::Question {
        asked: asked(),
        follow: true,
        since: Some(7),
        level: NoticeLevel::Warn,
        pod: Some("a/b".to_owned()),
    };
    let words = ["events", "--follow", "--since", "7", "--level", "warn", "--pod", "a/b"];
    assert_eq!(with(&words), Ok(Command::Events(question)));
    assert!(with(&["events", "--since", "noon"]).unwrap_err().contains("--since noon"));
    let question = limits::Question { asked: asked(), instance_type: None, all: true };
    assert_eq!(with(&["limits", "--all"]), Ok(Command::Limits(question)));
    assert!(with(&["limits", "m5.large", "--all"]).unwrap_err().contains("--all"));
    let question = bundle::Question { address: None, file: Some("-".into()) };
    assert_eq!(parsed(&["support-bundle", "-o", "-"]), Ok(Command::SupportBundle(question)));
    assert_eq!(parsed(&["completions", "zsh"]), Ok(Command::Completions(Shell::Zsh)));
    assert!(parsed(&["completions"]).unwrap_err().contains("bash or zsh or fish"));
}

#[test]
fn a_wrong_word_is_named() {
    for words in [
        &["runn"][..],
        &["run", "-o", "json"],
        &["status", "-o", "yaml"],
        &["--frob"],
        &["run", "twice"],
        &["run", "--finish"],
        &["help", "statis"],
    ] {
        let error = parsed(words).unwrap_err();
        let named = words.iter().any(|word| error.contains(word.trim_start_matches('-')));
        assert!(named, "{words:?}: {error}");
    }
    assert!(parsed(&["probe", "well"]).unwrap_err().contains("well"));
    assert!(parsed(&["run", "--systemd"]).unwrap_err().contains("--systemd"));
    assert!(parsed(&["status", "--address", "nonsense"]).unwrap_err().contains("nonsense"));
}

/// The table and the commands agree: each asks for the options of its row, and for no others.
#[test]
fn every_option_of_the_table_is_asked_for_by_its_command_and_no_other() {
    for row in COMMANDS {
        let words = words::tests::bare(row);
        let command = command(&words);
        let wanted: BTreeSet<_> = row.options.iter().map(|option| option.name).collect();
        assert_eq!(words::tests::asked(&words), wanted, "{}", row.name);
        // The default of the match is for `run` alone.
        assert_eq!(command == Ok(Command::Run), row.name == "run", "{}", row.name);
    }
}

#[test]
fn times_are_short() {
    let texts: Vec<_> = [250, 4_250, 119_999, 720_000, 10_800_000, 345_600_000].map(time).into();
    assert_eq!(texts, ["250ms", "4.2s", "119.9s", "12m", "3h", "4d"]);
}
