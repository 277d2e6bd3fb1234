// SPDX-License-Identifier: Apache-2.0
//! What the running daemon has met at EC2, asked of it over its socket. A dry run says what the policy would say of a call that is made up;
//! the daemon has made the real ones: on its own ENIs, with their tags, the two among them that have no dry run.
//!
//! Decides nothing but what counts: a denial that no success of the same has followed; a call that has succeeded since the daemon started.

use std::collections::BTreeSet;

use ipamd_core::event::FailureClass;
use ipamd_core::metrics::families::{EC2_ACTIONS, EC2_CALLS};
use ipamd_core::metrics::state::OK;
use ipamd_core::reason::ReasonCode;
use ipamd_core::snapshot::FailureSnapshot;
use ipamd_core::{Config, Snapshot};

use super::{Finding, Level};
use crate::cli::ask::Daemon;
use crate::cli::{reasons, time};

/// A running daemon's word.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    snapshot: Option<Snapshot>,
    /// Actions that have succeeded.
    done: BTreeSet<String>,
}

/// Nothing of none: whether one should run is another check's.
pub(super) fn ask(config: &Config) -> Met {
    let daemon = Daemon::of(config, None);
    let done = daemon.get("/metrics").map(|page| done(&page)).unwrap_or_default();
    Met { snapshot: daemon.status().ok(), done }
}

/// The actions with a call that succeeded.
fn done(page: &str) -> BTreeSet<String> {
    let succeeded = |action: &&str| {
        let series = EC2_CALLS.series(&[action, OK]);
        let count = |line: &str| line.strip_prefix(&series)?.trim().parse::<f64>().ok();
        page.lines().filter_map(count).any(|count| count > 0.0)
    };
    EC2_ACTIONS.into_iter().filter(succeeded).map(str::to_owned).collect()
}

impl Met {
    /// What the daemon was told when it was denied this action, if that still holds.
    pub(super) fn denied(&self, action: &str) -> Option<String> {
        let failures = self.snapshot.iter().flat_map(|snapshot| &snapshot.failures);
        let is_of = |failure: &&FailureSnapshot| {
            let holds = failure.class == FailureClass::Denied && failure.recovered_ago_ms.is_none();
            holds && failure.message.strip_prefix(action).is_some_and(|rest| rest.starts_with(':'))
        };
        let FailureSnapshot { ago_ms, message, .. } = failures.filter(is_of).min_by_key(|failure| failure.ago_ms)?;
        Some(format!("the daemon was denied it {} ago: {message}", time(*ago_ms)))
    }

    /// Whether a call of this action has succeeded.
    pub(super) fn has_done(&self, action: &str) -> bool {
        self.done.contains(action)
    }

    /// Whether the next pod gets an address, as the daemon has it.
    pub(super) fn finding(&self) -> Option<Finding> {
        const CHECK: &str = "daemon";
        let snapshot = self.snapshot.as_ref()?;
        let finding = match snapshot.supply.code {
            None => Finding::ok(CHECK, "it answers, and a pod that comes now gets an address"),
            Some(code) => {
                let found =
                    format!("it answers; a pod that comes now gets no address: [{code}] {}", snapshot.supply.text);
                // Full is no fault of the node's, and a daemon that has just started is none either.
                let is_passing = snapshot.serving || code == ReasonCode::Starting;
                let level = if is_passing { Level::Warn } else { Level::Fail };
                Finding { level, ..Finding::warn(CHECK, found, reasons::remedy(code)) }
            }
        };
        Some(finding)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ipamd_aws::watch::{End, Watch};
    use ipamd_core::event::KernelView;
    use ipamd_core::metrics::Page;
    use ipamd_core::{Core, Now, Restored};

    use super::*;
    use crate::clock;
    use crate::metrics::Metrics;

    /// A daemon that was denied this lately, and has done that.
    pub(in crate::cli::doctor) fn met(denied: &str, recovered_ago_ms: Option<u64>, done: &[&str]) -> Met {
        let found = Restored::read(None, None, KernelView::default(), "boot".to_owned());
        let mut snapshot = Core::new(Config::default(), found, Now::default()).0.snapshot(Now::default());
        snapshot.failures.push(FailureSnapshot {
            what: "something".to_owned(),
            class: FailureClass::Denied,
            code: "UnauthorizedOperation".to_owned(),
            reason: Some(ReasonCode::Ec2Denied),
            message: format!("{denied}: UnauthorizedOperation: not you"),
            ago_ms: 5_000,
            recovered_ago_ms,
        });
        Met { snapshot: Some(snapshot), done: done.iter().map(|action| (*action).to_owned()).collect() }
    }

    #[test]
    fn a_denial_counts_until_the_same_has_succeeded_and_only_of_its_own_action() {
        let now = met("CreateTags", None, &[]);
        assert_eq!(
            now.denied("CreateTags").as_deref(),
            Some("the daemon was denied it 5.0s ago: CreateTags: UnauthorizedOperation: not you")
        );
        assert_eq!((now.denied("Create"), now.denied("DescribeSubnets")), (None, None));
        assert_eq!(met("CreateTags", Some(1_000), &[]).denied("CreateTags"), None);
        assert_eq!(Met::default().denied("CreateTags"), None);
    }

    #[test]
    fn what_succeeded_is_read_from_the_daemons_counts() {
        let page = "# TYPE ipamd_ec2_calls_total counter\n\
                    ipamd_ec2_calls_total{action=\"CreateTags\",outcome=\"ok\"} 2\n\
                    ipamd_ec2_calls_total{action=\"DeleteNetworkInterface\",outcome=\"ok\"} 0\n\
                    ipamd_ec2_calls_total{action=\"DescribeSubnets\",outcome=\"denied\"} 3\n";
        assert_eq!(done(page), BTreeSet::from(["CreateTags".to_owned()]));
    }

    /// Whatever its families and labels are called.
    #[test]
    fn what_succeeded_is_read_from_a_page_as_the_daemon_writes_it() {
        let metrics = Metrics::new(clock::now());
        let end = End { failure: None, status: Some(200), took: std::time::Duration::ZERO };
        metrics.ended("AttachNetworkInterface", &end);
        let mut page = Page::default();
        metrics.write(std::time::Duration::ZERO, &mut page);
        assert_eq!(done(&page.to_string()), BTreeSet::from(["AttachNetworkInterface".to_owned()]));
    }

    #[test]
    fn a_daemon_that_can_give_no_address_is_told_with_its_reason() {
        assert_eq!(Met::default().finding(), None, "no daemon");
        let starting = met("CreateTags", None, &[]).finding().unwrap();
        assert_eq!((starting.level, starting.check), (Level::Warn, "daemon"));
        assert!(starting.found.contains("[Starting]") && starting.todo.is_some(), "{starting:?}");
    }
}
