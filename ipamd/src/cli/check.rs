// SPDX-License-Identifier: Apache-2.0
//! `ipamd check`: whether the witnesses of this node's addresses agree. Reads only; one description is asked of EC2 (a second one when
//! something differs).
//!
//! ```text
//! witnesses ──► Views ──► compare (pure) ──► differences
//!     ▲                                        │ any? two seconds later once more; what both looks have, differs
//!     └────────────────────────────────────────┘
//! ```
//! | part | does |
//! |---|---|
//! | `witnesses` | asks daemon or journal files, kernel, EC2, metadata, runtime |
//! | `compare` | says what differs; knows what is under way and so no difference |
//!
//! Where no daemon runs that is a fault of its own, whatever the others say, unless it was meant ([`Question::is_without_daemon`]).
//!
//! Invariant: a witness that was not asked or did not answer is named, never taken for one that agrees: neither at the second look, nor
//! when there is none besides the journal.

#![expect(clippy::disallowed_methods, reason = "waits between two looks")]

mod compare;
mod witnesses;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use ipamd_core::Config;
use serde::Serialize;
use serde_json::json;

use super::ask::Asked;
use super::terminal::{Screen, Style};
use super::{pretty, print};
use compare::{Difference, Views, Weight, Word};

/// The witness that all others are compared with.
const JOURNAL: &str = "journal";

/// Between two looks: an ADD's young time, and more than a call to EC2 takes.
const PAUSE: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// How, and whom.
    pub asked: Asked,
    /// Whether a witness that did not answer, and what time will mend, counts.
    pub is_strict: bool,
    /// That no daemon runs is meant: its files speak for it.
    pub is_without_daemon: bool,
}

/// How far a witness was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Heard {
    witness: &'static str,
    is_compared: bool,
    says: String,
    /// It was not to be asked, by the settings: nobody misses it.
    is_unwanted: bool,
}

/// Compares, and prints.
///
/// # Errors
/// How many things differ; or standard output is closed.
pub fn run(config: &Config, question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let Examined { heard, differences, is_daemon_away } = examine(config, &question.asked)?;
    let verdict = verdict(&heard, &differences, question.is_strict);
    let verdict = if is_daemon_away && !question.is_without_daemon { without_daemon(verdict) } else { verdict };
    let text = if question.asked.json {
        let (is_consistent, runs) = (verdict.is_ok(), !is_daemon_away);
        pretty(
            &json!({ "isConsistent": is_consistent, "isDaemonRunning": runs, "witnesses": heard, "differences": differences }),
        )?
    } else {
        render(&heard, &differences, screen)
    };
    print(out, &text)?;
    verdict
}

/// The last line then says it: pods that come are not served, whatever else agrees.
fn without_daemon(verdict: Result<(), String>) -> Result<(), String> {
    let also = verdict.err().map(|error| format!("{error}; and ")).unwrap_or_default();
    Err(format!(
        "{also}no daemon runs on this node, or none that answers here: what is compared is what its files say, and where none runs no pod \
         gets an address now (`ipamd check --without-daemon` where that is meant; else `journalctl -u enid-ipamd`, or `kubectl -n \
         kube-system get pods -o wide`)"
    ))
}

/// Whether all is well as far as it counts; else why not.
fn verdict(heard: &[Heard], differences: &[Difference], is_strict: bool) -> Result<(), String> {
    let counts = |difference: &&Difference| is_strict || difference.weight == Weight::Mismatch;
    let wrong = differences.iter().filter(counts).count();
    let silent = heard.iter().filter(|heard| !heard.is_compared && !heard.is_unwanted).count();
    let is_one_compared = heard.iter().any(|heard| heard.is_compared && heard.witness != JOURNAL);
    match (wrong, if is_strict { silent } else { 0 }) {
        (0, 0) if is_one_compared => Ok(()),
        (0, 0) => Err("nothing was compared: there is none besides the journal who says anything".to_owned()),
        (0, silent) => Err(format!("{silent} of the witnesses could not be compared (--strict)")),
        (1, _) => Err("1 thing differs".to_owned()),
        (wrong, _) => Err(format!("{wrong} things differ")),
    }
}

/// What came of it.
struct Examined {
    heard: Vec<Heard>,
    differences: Vec<Difference>,
    /// Files spoke in its place.
    is_daemon_away: bool,
}

/// What was heard, and what differs at both of two looks; or at the first, where a witness of it says nothing at the second.
fn examine(config: &Config, asked: &Asked) -> Result<Examined, String> {
    let views = witnesses::ask(config, asked)?;
    let first = compare::differences(&views);
    if first.is_empty() {
        return Ok(Examined { heard: heard(&views), differences: first, is_daemon_away: !views.knows_others });
    }
    std::thread::sleep(PAUSE);
    let views = witnesses::ask(config, asked)?;
    let heard = heard(&views);
    let differences = lasting(first, compare::differences(&views), &heard);
    Ok(Examined { heard, differences, is_daemon_away: !views.knows_others })
}

fn lasting(first: Vec<Difference>, second: Vec<Difference>, heard: &[Heard]) -> Vec<Difference> {
    let silent: Vec<_> = heard.iter().filter(|heard| !heard.is_compared).map(|heard| heard.witness).collect();
    let mut second: BTreeMap<_, _> = second.into_iter().map(|difference| (difference.identity(), difference)).collect();
    let lasts = |difference: Difference| {
        if difference.is_by(&silent) { Some(difference) } else { second.remove(&difference.identity()) }
    };
    first.into_iter().filter_map(lasts).collect()
}

fn heard(views: &Views) -> Vec<Heard> {
    let snapshot = &views.journal;
    let journal = format!(
        "{}: {} pods, {} ENIs, {} addresses",
        views.source,
        snapshot.pods.len(),
        snapshot.enis.len(),
        snapshot.addresses.len()
    );
    vec![
        Heard { witness: JOURNAL, is_compared: true, says: journal, is_unwanted: false },
        of("kernel", &views.kernel, |kernel| format!("{} links", kernel.node.links.len())),
        of("EC2", &views.ec2, |enis| format!("{} ENIs", enis.len())),
        of("IMDS", &views.imds, |enis| format!("{} ENIs", enis.len())),
        of("runtime", &views.runtime, |ready| format!("{} sandboxes are ready", ready.len())),
    ]
}

fn of<T>(witness: &'static str, word: &Word<T>, said: impl Fn(&T) -> String) -> Heard {
    let (is_compared, says, is_unwanted) = match word {
        Word::Said(said_) => (true, said(said_), false),
        Word::Silent(why) => (false, why.clone(), false),
        Word::Unwanted(why) => (false, why.clone(), true),
    };
    Heard { witness, is_compared, says, is_unwanted }
}

fn render(heard: &[Heard], differences: &[Difference], screen: &Screen) -> String {
    let mut text = String::new();
    for Heard { witness, is_compared, says, .. } in heard {
        let says = if *is_compared {
            says.clone()
        } else {
            format!("{}: {says}", screen.paint(Style::Warning, "not compared"))
        };
        text += &screen.labelled(witness, &says);
    }
    text.push('\n');
    for difference in differences {
        let (word, style) = match difference.weight {
            Weight::Mismatch => ("DIFFERS", Style::Bad),
            Weight::Lag => ("lags   ", Style::Warning),
        };
        text += &screen.wrapped(&format!("{}  {difference}", screen.paint(style, word)), 9);
    }
    if differences.is_empty() {
        let is_all = heard.iter().all(|heard| heard.is_compared);
        let verdict = if is_all { "nothing differs" } else { "nothing differs among what was compared" };
        text += &format!("{}\n", screen.paint(Style::Good, verdict));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_says_nothing_is_named_and_a_difference_is_a_line() {
        let heard = [
            of("EC2", &Word::<u32>::Silent("EC2 does not answer".to_owned()), ToString::to_string),
            of("runtime", &Word::<u32>::Said(3), ToString::to_string),
        ];
        let difference = Difference::new("address-not-on-eni", "10.0.0.1", Weight::Mismatch)
            .word("journal", "of eni-1")
            .word("EC2", "of nobody")
            .todo("look");
        let text = render(&heard, &[difference], &Screen::default());
        assert_eq!(
            text,
            "EC2      not compared: EC2 does not answer\nruntime  3\n\n\
             DIFFERS  10.0.0.1: journal says of eni-1; EC2 says of nobody; do: look\n"
        );
        assert!(render(&heard, &[], &Screen::default()).ends_with("nothing differs among what was compared\n"));
        assert!(render(&heard[1..], &[], &Screen::default()).ends_with("nothing differs\n"));
    }

    fn word(witness: &'static str, word: &Word<u32>) -> Heard {
        of(witness, word, ToString::to_string)
    }

    #[test]
    fn all_is_well_only_if_somebody_was_compared_and_strictly_only_if_all_were_that_may_be() {
        let (silent, unwanted) = (|| Word::Silent("down".to_owned()), || Word::Unwanted("not set".to_owned()));
        let journal = || word(JOURNAL, &Word::Said(1));
        let ok = [journal(), word("IMDS", &Word::Said(1)), word("EC2", &unwanted())];
        assert_eq!([false, true].map(|is_strict| verdict(&ok, &[], is_strict)), [Ok(()), Ok(())]);
        let without_ec2 = [journal(), word("IMDS", &Word::Said(1)), word("EC2", &silent())];
        assert_eq!(verdict(&without_ec2, &[], false), Ok(()));
        assert!(verdict(&without_ec2, &[], true).unwrap_err().contains("--strict"));
        let alone = [journal(), word("IMDS", &silent()), word("EC2", &unwanted())];
        assert!(verdict(&alone, &[], false).unwrap_err().contains("nothing was compared"));
        let lag = [Difference::new("imds-lags", "eni-1", Weight::Lag)];
        assert_eq!(verdict(&ok, &lag, false), Ok(()));
        assert_eq!(verdict(&ok, &lag, true).unwrap_err(), "1 thing differs");
    }

    #[test]
    fn that_no_daemon_runs_is_said_last_and_beside_what_differs() {
        let alone = without_daemon(Ok(())).unwrap_err();
        assert!(alone.starts_with("no daemon runs on this node") && alone.contains("--without-daemon"), "{alone}");
        let both = without_daemon(Err("1 thing differs".to_owned())).unwrap_err();
        assert!(both.starts_with("1 thing differs; and no daemon runs"), "{both}");
    }

    #[test]
    fn what_a_witness_said_at_the_first_look_stands_if_it_says_nothing_at_the_second() {
        let by = |object: &str, witness| {
            Difference::new("address-not-known", object, Weight::Mismatch).word(witness, "x").word(JOURNAL, "y")
        };
        let first = || vec![by("10.0.0.1", "EC2"), by("10.0.0.2", "kernel"), by("10.0.0.3", "kernel")];
        let heard = |ec2| [word(JOURNAL, &Word::Said(1)), word("kernel", &Word::Said(1)), word("EC2", &ec2)];
        let second = || vec![by("10.0.0.3", "kernel"), by("10.0.0.4", "kernel")];
        let objects = |differences: Vec<Difference>| -> Vec<String> {
            differences.into_iter().map(|difference| difference.object).collect()
        };
        let silent = heard(Word::Silent("throttled".to_owned()));
        assert_eq!(objects(lasting(first(), second(), &silent)), ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(objects(lasting(first(), second(), &heard(Word::Said(1)))), ["10.0.0.3"]);
    }
}
