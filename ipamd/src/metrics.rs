// SPDX-License-Identifier: Apache-2.0
//! What the daemon counts and measures while it works, for `/metrics`.
//!
//! Told by the driver (journal, phases of calls, states of ENIs, notices), the rpc edge (calls) and the EC2 edge (requests).
//! Decides nothing; one lock, held for arithmetic only, never across an await. What follows from the state is not here: it is read
//! off a snapshot at the scrape (`ipamd_core::metrics::state`).
//!
//! Invariant: series that an alert looks at are there from 0 on, so that the first of a kind is seen to grow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipamd_aws::watch::{By, End, Watch};
use ipamd_core::Now;
use ipamd_core::metrics::families::{self as family, EC2_ACTIONS, Family};
use ipamd_core::metrics::state::{OK, OUTCOMES, outcome};
use ipamd_core::metrics::{Book, Page};
use ipamd_core::reason::ReasonCode;

use crate::clock;

pub(crate) mod process;

/// Reasons of DELs that there are in the protocol; whatever else a caller says is `other`.
const DEL_REASONS: [&str; 2] = ["PodDeleted", "SetupNSFailed"];

/// The part of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Until there was an address, or a refusal.
    Address,
    /// Writing it down.
    Journal,
    /// All of it.
    Total,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Journal => "journal",
            Self::Total => "total",
        }
    }
}

/// A call of the plugin's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    /// It ended with an address, or with a reason.
    Add(Option<ReasonCode>),
    Del,
}

/// What is counted; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    started: Now,
}

impl Metrics {
    /// Of a process that began then.
    pub(crate) fn new(started: Now) -> Self {
        let mut book = Book::default();
        let mut new = |family: &Family, values: &[&str]| book.add(family, values, 0.0);
        for code in ReasonCode::ALL {
            new(&family::REASON, &[code.name()]);
        }
        for action in EC2_ACTIONS {
            for outcome in OUTCOMES {
                new(&family::EC2_CALLS, &[action, outcome]);
            }
            for by in ["ec2", "bucket"] {
                new(&family::EC2_THROTTLED, &[action, by]);
            }
            new(&family::R_EC2_REQUESTS, &[action]);
            new(&family::R_EC2_ERRORS, &[action]);
        }
        for outcome in ["ok", "failed"] {
            new(&family::JOURNAL_WRITES, &[outcome]);
        }
        for family in [&family::R_ADD, &family::R_NO_ADDRESS, &family::R_FORCED_ENIS, &family::R_FORCED_IPS] {
            new(family, &[]);
        }
        for reason in DEL_REASONS {
            new(&family::R_DEL, &[reason]);
        }
        Self(Arc::new(Shared { book: Mutex::new(book), started }))
    }

    /// Nothing that holds it can panic half-way through a change.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ADD has come.
    pub(crate) fn add_asked(&self) {
        self.book().increment(&family::R_ADD, &[]);
    }

    /// A DEL has come.
    pub(crate) fn del_asked(&self, reason: &str) {
        let reason = if DEL_REASONS.contains(&reason) { reason } else { "other" };
        self.book().increment(&family::R_DEL, &[reason]);
    }

    /// A part of a call is over.
    pub(crate) fn call(&self, verb: Verb, phase: Phase, took: Duration) {
        let (family, code) = match verb {
            Verb::Add(code) => (&family::ADD_DURATION, code),
            Verb::Del => (&family::DEL_DURATION, None),
        };
        let code = code.map_or("ok", ReasonCode::name);
        self.book().observe(family, &[phase.name(), code], took.as_secs_f64());
    }

    /// An ADD was refused.
    pub(crate) fn refused(&self, code: ReasonCode) {
        if !matches!(code, ReasonCode::Superseded | ReasonCode::InvalidRequest) {
            self.book().increment(&family::R_NO_ADDRESS, &[]);
        }
        self.reason(code);
    }

    /// A reason was given.
    pub(crate) fn reason(&self, code: ReasonCode) {
        self.book().increment(&family::REASON, &[code.name()]);
    }

    /// The journal was written, or could not be.
    pub(crate) fn journal(&self, is_written: bool, took: Duration) {
        let mut book = self.book();
        book.increment(&family::JOURNAL_WRITES, &[if is_written { "ok" } else { "failed" }]);
        book.observe(&family::JOURNAL_DURATION, &[], took.as_secs_f64());
    }

    /// An ENI has left a state.
    pub(crate) fn lived(&self, state: &str, took: Duration) {
        self.book().observe(&family::ENI_STATE_DURATION, &[&state.to_lowercase()], took.as_secs_f64());
    }

    /// The plugin is served from now on.
    pub(crate) fn serves(&self, with_api_server: bool) {
        let took = clock::boot().since(self.0.started.boot);
        let with = if with_api_server { "true" } else { "false" };
        self.book().observe(&family::R_STARTUP, &["true", with, ""], took.as_secs_f64());
    }

    /// Puts all that needs no state on the page. `lag`: how far the loop is behind.
    pub(crate) fn write(&self, lag: Duration, page: &mut Page) {
        self.book().write(page);
        let version = env!("CARGO_PKG_VERSION");
        page.set(&family::LOOP_AGE, &[], lag.as_secs_f64());
        page.set(&family::BUILD, &[version], 1.0);
        page.set(&family::R_BUILD, &[version, ""], 1.0);
        process::write(self.0.started, page);
    }
}

impl Watch for Metrics {
    fn ended(&self, action: &str, end: &End<'_>) {
        let mut book = self.book();
        let status = end.status.map(|status| status.to_string()).unwrap_or_default();
        let how = end.failure.map_or(OK, |failure| outcome(failure.class));
        book.increment(&family::EC2_CALLS, &[action, how]);
        book.observe(&family::EC2_DURATION, &[action], end.took.as_secs_f64());
        book.increment(&family::R_EC2_REQUESTS, &[action]);
        let failed = if end.failure.is_some() { "true" } else { "false" };
        book.observe(&family::R_LATENCY, &[action, failed, &status], end.took.as_secs_f64() * 1000.0);
        if let Some(failure) = end.failure {
            book.increment(&family::R_EC2_ERRORS, &[action]);
            book.increment(&family::R_API_ERRORS, &[action, &failure.code]);
        }
    }

    fn held_back(&self, action: &str, by: By) {
        let by = match by {
            By::Ec2 => "ec2",
            By::Bucket => "bucket",
        };
        self.book().increment(&family::EC2_THROTTLED, &[action, by]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipamd_core::event::{Failure, FailureClass};

    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut page = Page::default();
        metrics.write(Duration::from_millis(1500), &mut page);
        page.to_string()
    }

    /// Lines of series, in the order of the page.
    fn series(metrics: &Metrics, family: &Family) -> Vec<String> {
        let text = text(metrics);
        let lines = text.lines().filter(|line| line.starts_with(family.name));
        lines.map(|line| line[family.name.len()..].to_owned()).collect()
    }

    #[test]
    fn what_alerts_look_at_is_there_before_it_happens() {
        let metrics = Metrics::new(clock::now());
        assert_eq!(series(&metrics, &family::REASON).len(), ReasonCode::ALL.len());
        assert_eq!(series(&metrics, &family::EC2_CALLS).len(), EC2_ACTIONS.len() * OUTCOMES.len());
        assert_eq!(series(&metrics, &family::JOURNAL_WRITES), ["{outcome=\"failed\"} 0", "{outcome=\"ok\"} 0"]);
        assert_eq!(series(&metrics, &family::LOOP_AGE), [" 1.5"]);
    }

    #[test]
    fn all_that_is_written_is_in_the_table() {
        let metrics = Metrics::new(clock::now());
        metrics.add_asked();
        metrics.call(Verb::Add(Some(ReasonCode::NodeFull)), Phase::Total, Duration::from_millis(3));
        metrics.call(Verb::Del, Phase::Journal, Duration::from_millis(3));
        metrics.lived("Attaching", Duration::from_secs(2));
        metrics.journal(true, Duration::from_millis(1));
        metrics.serves(true);
        metrics.ended("CreateTags", &End { failure: None, status: Some(200), took: Duration::from_millis(50) });
        let mut page = Page::default();
        metrics.write(Duration::ZERO, &mut page);
        let table: BTreeSet<&str> = family::ALL.iter().map(|family| family.name).collect();
        assert_eq!(page.names().filter(|name| !table.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());
        assert!(page.names().count() > 25, "{}", page.names().count());
    }

    #[test]
    fn a_call_that_fails_is_counted_by_class_for_us_and_by_code_for_the_reference() {
        let metrics = Metrics::new(clock::now());
        let failure = Failure {
            class: FailureClass::Denied,
            code: "UnauthorizedOperation".to_owned(),
            message: String::new(),
            retry_after: None,
        };
        let end = End { failure: Some(&failure), status: Some(403), took: Duration::from_millis(20) };
        metrics.ended("CreateNetworkInterface", &end);
        metrics.held_back("CreateNetworkInterface", By::Bucket);
        let has = |family: &Family, line: &str| assert!(series(&metrics, family).contains(&line.to_owned()), "{line}");
        has(&family::EC2_CALLS, "{action=\"CreateNetworkInterface\",outcome=\"denied\"} 1");
        has(&family::EC2_CALLS, "{action=\"CreateNetworkInterface\",outcome=\"ok\"} 0");
        has(&family::EC2_THROTTLED, "{action=\"CreateNetworkInterface\",by=\"bucket\"} 1");
        has(&family::R_API_ERRORS, "{api=\"CreateNetworkInterface\",error=\"UnauthorizedOperation\"} 1");
        has(&family::R_LATENCY, "_sum{api=\"CreateNetworkInterface\",error=\"true\",status=\"403\"} 20");
        has(&family::R_EC2_ERRORS, "{fn=\"CreateNetworkInterface\"} 1");
    }

    #[test]
    fn whatever_a_caller_says_of_its_del_makes_no_series() {
        let metrics = Metrics::new(clock::now());
        for number in 0..50 {
            metrics.del_asked(&format!("reason {number}"));
        }
        metrics.del_asked("PodDeleted");
        let wanted = ["{reason=\"PodDeleted\"} 1", "{reason=\"SetupNSFailed\"} 0", "{reason=\"other\"} 50"];
        assert_eq!(series(&metrics, &family::R_DEL), wanted);
    }
}
