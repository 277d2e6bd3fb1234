// SPDX-License-Identifier: Apache-2.0
//! What the guest said on its serial console, and whether that is a success. The lines are those of `scripts/vm-init.sh`, with those of
//! the kernel between them, or in the middle of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the kernel says of a bug of its own, or that we have led it into.
const COMPLAINTS: [&str; 5] = ["cut here", "BUG:", "Oops:", "Kernel panic", "Call Trace:"];
/// Lines of a console that are shown when nothing better is known.
const LAST_LINES: usize = 25;

/// How a test ended.
#[derive(Debug, Default)]
struct Outcome {
    passed: bool,
    seconds: f32,
    said: String,
}

/// What a guest did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kernel: Option<String>,
    done: bool,
    outcomes: BTreeMap<String, Outcome>,
    /// What tests said that failed beside others, and were run again alone.
    starved: BTreeMap<String, String>,
    complaints: Vec<String>,
    last: String,
}

/// Where a line of the kernel begins: its time, `[   12.345678] `.
fn kernel_at(line: &str) -> Option<usize> {
    let is_time = |rest: &str| {
        let text = rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map(|(text, _)| text.trim_start());
        let digits = |text: &str, least: usize| text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.and_then(|text| text.split_once('.'));
        parts.is_some_and(|(seconds, micros)| digits(seconds, 1) && digits(micros, 6))
    };
    line.match_indices('[').map(|(at, _)| at).find(|at| is_time(&line[*at..]))
}

/// The console's lines: one of ours that a line of the kernel cut in two is whole again, behind that.
fn whole(console: &str) -> Vec<String> {
    let is_ours = |begin: &str| begin.starts_with("ENID") || "ENID".starts_with(begin);
    let (mut lines, mut begun) = (Vec::new(), String::new());
    for line in console.lines() {
        match kernel_at(line) {
            Some(at) if !begun.is_empty() || is_ours(&line[..at]) => {
                begun.push_str(&line[..at]);
                lines.push(line[at..].to_owned());
            }
            _ => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    lines.push(begun);
    lines
}

impl Report {
    /// From all that was on the console.
    pub(crate) fn read(console: &str) -> Self {
        let mut report = Self::default();
        let mut said = String::new();
        for line in &whole(console) {
            if COMPLAINTS.iter().any(|word| line.contains(word)) {
                report.complaints.push(line.to_owned());
            }
            if let Some(text) = line.strip_prefix("ENID:") {
                said.extend([text, "\n"]);
                continue;
            }
            let mut words = line.split(' ');
            if words.next() != Some("ENID") {
                continue;
            }
            match (words.next(), words.next(), words.next()) {
                (Some("kernel"), Some(release), None) => report.kernel = Some(release.to_owned()),
                (Some("done"), ..) => report.done = true,
                (Some("starved"), Some(_), Some(test)) => {
                    report.starved.insert(test.to_owned(), std::mem::take(&mut said));
                }
                (Some(how @ ("passed" | "failed")), Some(seconds), Some(test)) => {
                    let outcome = Outcome {
                        passed: how == "passed",
                        seconds: seconds.parse().unwrap_or_default(),
                        said: std::mem::take(&mut said),
                    };
                    report.outcomes.insert(test.to_owned(), outcome);
                }
                _ => {}
            }
        }
        let lines: Vec<&str> = console.lines().collect();
        report.last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        report
    }

    /// Both, of guests that share the tests.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.kernel = self.kernel.and(other.kernel);
        self.done &= other.done;
        self.outcomes.extend(other.outcomes);
        self.starved.extend(other.starved);
        self.complaints.extend(other.complaints);
        self.last = format!("{}\n--- and of the other:\n{}", self.last, other.last);
        self
    }

    /// The guest's kernel; empty when it did not come up.
    pub(crate) fn kernel(&self) -> &str {
        self.kernel.as_deref().unwrap_or_default()
    }

    /// Counts, in one line.
    pub(crate) fn summary(&self) -> String {
        let passed = self.outcomes.values().filter(|outcome| outcome.passed).count();
        format!("Linux {}: {passed} tests passed, {} failed", self.kernel(), self.outcomes.len() - passed)
    }

    /// Tests that were run again, whose outcome is that of the second run; what they had said.
    pub(crate) fn starved(&self) -> impl Iterator<Item = (&str, &str)> {
        self.starved.iter().map(|(name, said)| (name.as_str(), said.as_str()))
    }

    /// The tests that took longest, in seconds of the guest.
    pub(crate) fn slowest(&self, most: usize) -> impl Iterator<Item = (&str, f32)> {
        let mut all: Vec<_> = self.outcomes.iter().map(|(name, outcome)| (name.as_str(), outcome.seconds)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.into_iter().take(most)
    }

    /// Whether all of `expected` ran and passed, and nothing else is wrong; else what is.
    pub(crate) fn judge(&self, expected: &BTreeSet<String>) -> Result<(), String> {
        if self.kernel.is_none() {
            return Err(format!("the virtual machine did not come up; the last that was heard:\n{}", self.last));
        }
        let mut problem = String::new();
        for (name, outcome) in self.outcomes.iter().filter(|(_, outcome)| !outcome.passed) {
            let _ = writeln!(problem, "failed: {name}\n{}", outcome.said);
        }
        let missing: Vec<_> = expected.iter().filter(|name| !self.outcomes.contains_key(*name)).collect();
        if !missing.is_empty() {
            let _ = writeln!(problem, "{} of {} tests did not report: {missing:?}", missing.len(), expected.len());
        }
        if !self.done {
            let _ = writeln!(problem, "the guest did not come to its end; the last that was heard:\n{}", self.last);
        }
        if !self.complaints.is_empty() {
            let _ = writeln!(problem, "its kernel complains: {:?}", self.complaints);
        }
        if problem.is_empty() { Ok(()) } else { Err(problem) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "noise\nENID kernel 6.1.0\r\nENID passed 1.5 a::b\nENID: thread panicked\nENID failed 0.2 a::c\nENID done 9.1\n";

    fn judged(console: &str, expected: &[&str]) -> Result<(), String> {
        let console = console.replace('\r', "");
        Report::read(&console).judge(&expected.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn all_passed_is_a_success() {
        assert_eq!(judged(&CONSOLE.replace("failed", "passed"), &["a::b", "a::c"]), Ok(()));
    }

    #[test]
    fn what_failed_is_told_with_what_it_said() {
        let problem = judged(CONSOLE, &["a::b", "a::c"]).unwrap_err();
        assert!(problem.contains("failed: a::c\n thread panicked"), "{problem}");
    }

    #[test]
    fn a_test_that_was_run_again_alone_counts_by_its_second_run() {
        let first = CONSOLE.replace("ENID failed", "ENID starved");
        for (second, passes) in [("", false), ("ENID failed 0.3 a::c\n", false), ("ENID passed 0.3 a::c\n", true)] {
            let console = first.replace("ENID done", &format!("{second}ENID done"));
            assert_eq!(judged(&console, &["a::b", "a::c"]).is_ok(), passes, "{second}");
            let report = Report::read(&console);
            assert_eq!(report.starved().collect::<Vec<_>>(), [("a::c", " thread panicked\n")]);
        }
    }

    #[test]
    fn a_test_that_did_not_report_is_told() {
        let problem = judged(&CONSOLE.replace("ENID failed", "ENID fai"), &["a::b", "a::c"]).unwrap_err();
        assert!(problem.contains("1 of 2 tests did not report: [\"a::c\"]"), "{problem}");
    }

    #[test]
    fn a_guest_that_did_not_come_up_or_to_its_end_is_told() {
        let problem = judged("SeaBIOS\nno bootable device", &["a::b"]).unwrap_err();
        assert!(problem.contains("did not come up") && problem.contains("no bootable device"), "{problem}");
        let problem = judged("ENID kernel 6.1.0\nENID passed 1.0 a::b\n", &["a::b"]).unwrap_err();
        assert!(problem.contains("did not come to its end"), "{problem}");
    }

    #[test]
    fn of_two_guests_both_must_have_come_to_their_end() {
        let expected = ["a::b", "a::c"].map(str::to_owned).into();
        let [whole, other] =
            ["b", "c"].map(|test| format!("ENID kernel 6.1.0\nENID passed 1.0 a::{test}\nENID done 2\n"));
        assert_eq!(Report::read(&whole).and(Report::read(&other)).judge(&expected), Ok(()));
        let cut = other.replace("ENID done 2\n", "");
        let problem = Report::read(&cut).and(Report::read(&whole)).judge(&expected).unwrap_err();
        assert!(problem.contains("did not come to its end"), "{problem}");
        let problem = Report::read(&whole).and(Report::read("silence")).judge(&expected).unwrap_err();
        assert!(problem.contains("did not come up") && problem.contains("silence"), "{problem}");
    }

    #[test]
    fn lines_of_the_kernel_between_ours_and_inside_one_take_nothing_of_them() {
        let console = CONSOLE.replace("failed", "passed");
        let between = console.replace('\n', "\n[    9.123456] eth0: a word\n");
        assert_eq!(judged(&between, &["a::b", "a::c"]), Ok(()));
        for at in 1..console.len() {
            let (before, after) = console.split_at(at);
            let torn = format!("{before}[    9.123456] eth0: a word\n[    9.123457] another\n{after}");
            assert_eq!(judged(&torn, &["a::b", "a::c"]), Ok(()), "{torn}");
        }
    }

    #[test]
    fn a_complaint_of_the_kernel_is_told() {
        let console = CONSOLE.replace("failed", "passed").replace("noise", "[    9.1] ------------[ cut here ]----");
        assert!(judged(&console, &["a::b", "a::c"]).unwrap_err().contains("its kernel complains"));
    }
}
