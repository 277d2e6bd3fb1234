// SPDX-License-Identifier: Apache-2.0
//! Scrapes of a real daemon, second by second, and what the alert rules make of them: promtool's own Prometheus evaluates the shipped
//! file over the recorded samples.
//!
//! ```text
//!  -PREFIX s …  0 = the fault  … recorded, a scrape a second … |held: the last sample … | +60 s: judged
//! ```
//! What is recorded is real, second by second. After the recording ends the last sample is held: the fault lasts, and what grows with
//! it would only have grown. What a scrape lacks is stale from then on, and `up` says whether it was answered, as Prometheus has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use integration::eventually::pass;
use integration::node::Node;

use crate::promtool::promtool;
use crate::scrape::{self, name_of};

/// No pod may have waited longer than this before the alert fires.
pub(crate) const WITHIN: usize = 60;

/// The shipped rules.
pub(crate) fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/alerts/enid.yaml")
}

/// Samples by series, one a second.
#[derive(Debug, Default)]
pub(crate) struct Record {
    samples: BTreeMap<String, Vec<Option<f64>>>,
    seconds: usize,
    /// When the fault began.
    fault: usize,
}

impl Record {
    /// Scrapes once a second for so long.
    pub(crate) fn take(&mut self, node: &Node, seconds: usize) {
        let names = names();
        let began = Instant::now();
        for second in 1..=seconds {
            let answer = scrape::of(node);
            let up = ("up".to_owned(), f64::from(u8::from(answer.is_ok())));
            let found = answer.map(|scrape| scrape.series()).unwrap_or_default();
            self.push(found.into_iter().filter(|(series, _)| names.contains(name_of(series))).chain([up]));
            let next = began + Duration::from_secs(second as u64);
            pass(next.saturating_duration_since(Instant::now()));
        }
    }

    fn push(&mut self, found: impl Iterator<Item = (String, f64)>) {
        for (series, value) in found {
            let samples = self.samples.entry(series).or_default();
            samples.resize(self.seconds, None);
            samples.push(Some(value));
        }
        self.seconds += 1;
        for samples in self.samples.values_mut() {
            samples.resize(self.seconds, None);
        }
    }

    /// So many seconds in which all is as it was last.
    pub(crate) fn hold(&mut self, seconds: usize) {
        self.seconds += seconds;
        for samples in self.samples.values_mut() {
            samples.resize(self.seconds, samples.last().copied().flatten());
        }
    }

    /// A second in which Prometheus has no such target.
    pub(crate) fn forget(&mut self) {
        self.push(std::iter::empty());
    }

    /// From here on there is the fault.
    pub(crate) fn fault_begins(&mut self) {
        self.fault = self.seconds;
    }

    /// The last value of a series.
    pub(crate) fn last(&self, series: &str) -> Option<f64> {
        *self.samples.get(series)?.last()?
    }

    /// Puts other values in the place of a series' samples from the fault on: for what cannot be brought about here.
    pub(crate) fn invent(&mut self, series: &str, values: impl Iterator<Item = f64>) {
        let samples = self.samples.entry(series.to_owned()).or_default();
        samples.resize(self.seconds, None);
        for (sample, value) in samples[self.fault..].iter_mut().zip(values) {
            *sample = Some(value);
        }
    }

    /// Exactly these alerts fire so many seconds after the fault.
    pub(crate) fn fires(&self, after: usize, alerts: &[&str]) {
        let test = self.test(self.fault + after, alerts);
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), &test).unwrap();
        let (content, said) = promtool(&["test", "rules", &file.path().to_string_lossy()], "");
        assert!(content && said.contains("SUCCESS"), "{after} s after the fault: {said}\n{test}");
    }

    /// None fires while nothing is wrong.
    pub(crate) fn was_quiet(&self) {
        self.fires(0, &[]);
    }

    /// promtool's file: all samples, and what fires at that second.
    fn test(&self, at: usize, alerts: &[&str]) -> String {
        let mut text = format!("rule_files: [{}]\nevaluation_interval: 1s\ntests:\n", rules().display());
        text.push_str("  - interval: 1s\n    input_series:\n");
        for (series, samples) in &self.samples {
            let labelled = match series.split_once('{') {
                Some((name, labels)) => format!("{name}{{job=\"enid\",instance=\"n1\",{labels}"),
                None => format!("{series}{{job=\"enid\",instance=\"n1\"}}"),
            };
            let mut was_there = false;
            let value = |sample: &Option<f64>| {
                let ends = std::mem::replace(&mut was_there, sample.is_some()) && sample.is_none();
                sample.map_or(if ends { "stale" } else { "_" }.to_owned(), |sample| sample.to_string())
            };
            let mut values: Vec<String> = samples.iter().map(value).collect();
            if let Some(held) = samples.last().copied().flatten().filter(|_| at > samples.len()) {
                values.push(format!("{held}x{}", at - samples.len()));
            }
            let _ = writeln!(text, "      - series: '{labelled}'\n        values: '{}'", values.join(" "));
        }
        let query = "group by (alertname) (ALERTS{alertstate=\"firing\"})";
        let _ = writeln!(
            text,
            "    promql_expr_test:\n      - expr: '{query}'\n        eval_time: {at}s\n        exp_samples:"
        );
        let samples =
            alerts.iter().map(|alert| format!("          - {{labels: '{{alertname=\"{alert}\"}}', value: 1}}\n"));
        text.push_str(&if alerts.is_empty() { "          []\n".to_owned() } else { samples.collect::<String>() });
        text
    }
}

/// Alerts that the rules have.
pub(crate) fn alerts() -> BTreeSet<String> {
    let text = std::fs::read_to_string(rules()).unwrap();
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// Names of series that the rules look at.
fn names() -> BTreeSet<String> {
    let text = std::fs::read_to_string(rules()).unwrap();
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("ipamd_") || word.starts_with("awscni_")).map(str::to_owned).collect()
}
