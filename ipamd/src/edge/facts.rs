// SPDX-License-Identifier: Apache-2.0
//! Who we are: asks IMDS until it answers, connects EC2, learns the limits, then looks for changes about once a minute, at the driver's
//! slow beat.
//!
//! Where ENIs are someone else's business it also watches what metadata shows of them, every 10 s, and says so when that
//! changes. Where EC2 must not be asked it never connects.
//!
//! Never blocks the daemon: with facts in the journal pods are served while this goes on.

use std::time::Duration;

use instance_limits::InstanceLimits;
use ipamd_aws::{Ec2, Imds, Settings};
use ipamd_core::config::Provisioning;
use ipamd_core::event::{EniView, Failure, FailureClass, InstanceFacts};
use ipamd_core::reason::ReasonCode;
use ipamd_core::{Config, Event};
use tokio::sync::watch;

use crate::alarm::sleep;
use crate::clock;
use crate::inbox::Inbox;

/// Tries while IMDS or EC2 does not answer: the pause doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Limits are got along without: DescribeInstanceTypes that is denied is asked again every 10 min.
const LIMITS_PAUSE: Duration = Duration::from_secs(600);

/// How often metadata's ENIs are compared where someone else attaches them: a read of one's own host, no call to EC2.
const WATCH: Duration = Duration::from_secs(10);

/// Target of the one line here of which the core is not told: by this name the line tells itself (`telemetry::coded`).
const CONNECT: &str = "ipamd::edge::facts::connect";

/// How EC2 is asked, by the daemon and by every command.
pub(crate) fn ec2_settings(config: &Config) -> Settings {
    Settings {
        http_timeout: config.http_timeout,
        ec2_endpoint: config.ec2_endpoint.clone(),
        ca_bundle: config.ca_bundle.clone(),
        proxies: config.proxies.clone(),
        clock: clock::boot,
        watcher: None,
    }
}

/// What the edge tells to whom.
#[derive(Debug)]
pub(crate) struct FactsEdge {
    pub(crate) settings: Settings,
    pub(crate) provisioning: Provisioning,
    pub(crate) inbox: Inbox,
    /// For actions that wait for EC2.
    pub(crate) ec2: watch::Sender<Option<Ec2>>,
    /// For replies that name the VPC's blocks.
    pub(crate) facts: watch::Sender<Option<InstanceFacts>>,
}

impl FactsEdge {
    /// Runs for ever. Facts of the journal stand until IMDS answers.
    pub(crate) async fn run(self) {
        let journal = self.facts.borrow().clone();
        if let Some(facts) = journal {
            self.connect(&facts).await;
            self.learn_listed_limits(&facts);
        }
        let imds = Imds::new();
        let mut facts = self.first_facts(&imds).await;
        self.connect(&facts).await;
        self.tell(&facts);
        if !self.provisioning.is_full() {
            tokio::spawn(watch_enis(imds.clone(), facts.clone(), self.inbox.clone()));
        }
        self.learn_limits(&facts).await;
        let mut beats = self.inbox.beats();
        // VPC blocks and security groups, which may change in an instance's life.
        while beats.changed().await.is_ok() {
            match imds.refreshed(&facts).await {
                Ok(refreshed) if refreshed != facts => {
                    tracing::info!(vpc_cidrs = ?refreshed.vpc_cidrs, "VPC blocks or security groups changed");
                    facts = refreshed;
                    self.tell(&facts);
                }
                Ok(_) => {}
                Err(failure) => tracing::debug!(error = %failure.message, "IMDS does not answer, facts stay"),
            }
        }
    }

    fn tell(&self, facts: &InstanceFacts) {
        self.facts.send_replace(Some(facts.clone()));
        self.inbox.event(Event::FactsLearned(facts.clone()));
    }

    async fn first_facts(&self, imds: &Imds) -> InstanceFacts {
        let mut pause = FIRST_PAUSE;
        loop {
            match imds.facts().await {
                Ok(facts) => {
                    let InstanceFacts { instance_id, instance_type, primary_address, .. } = &facts;
                    tracing::info!(%instance_id, instance_type, %primary_address, "IMDS answered");
                    return facts;
                }
                Err(failure) => {
                    tracing::warn!(
                        code = %ReasonCode::ImdsUnavailable, error = %failure.message, retry_in_ms = pause.as_millis(),
                        "IMDS tells no facts"
                    );
                    self.inbox.event(Event::FactsUnavailable(failure));
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes EC2 available for the region, unless it is already.
    async fn connect(&self, facts: &InstanceFacts) {
        if self.ec2.borrow().is_some() || self.provisioning == Provisioning::ImdsOnly {
            return;
        }
        match Ec2::connect(&self.settings, &facts.region).await {
            Ok(ec2) => {
                self.ec2.send_replace(Some(ec2));
            }
            Err(error) => {
                tracing::error!(
                    target: CONNECT, code = %ReasonCode::Ec2Unavailable, error = %crate::telemetry::chain(&error),
                    "EC2 cannot be reached at all"
                )
            }
        }
    }

    fn learn_listed_limits(&self, facts: &InstanceFacts) -> bool {
        let limits = instance_limits::lookup(&facts.instance_type);
        if let Some(limits) = limits {
            self.inbox.event(Event::LimitsLearned(limits.clone()));
        }
        limits.is_some()
    }

    /// From the table, else from EC2, however long it takes.
    async fn learn_limits(&self, facts: &InstanceFacts) {
        if self.learn_listed_limits(facts) {
            return;
        }
        if self.provisioning == Provisioning::ImdsOnly {
            self.inbox.event(Event::LimitsUnavailable(not_asked()));
            return;
        }
        let limits = self.ask_limits(&facts.instance_type).await;
        self.inbox.event(Event::LimitsLearned(limits));
    }

    async fn ask_limits(&self, instance_type: &str) -> InstanceLimits {
        let mut pause = FIRST_PAUSE;
        let mut slot = self.ec2.subscribe();
        loop {
            let ec2 = slot.wait_for(Option::is_some).await.ok().and_then(|slot| slot.clone());
            if let Some(ec2) = ec2 {
                match ec2.instance_limits(instance_type).await {
                    Ok(limits) => return limits,
                    Err(failure) => {
                        tracing::warn!(
                            code = %ReasonCode::LimitsUnknown, instance_type, error = %failure.message,
                            "limits are not known, asking again"
                        );
                        self.inbox.event(Event::LimitsUnavailable(failure));
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LIMITS_PAUSE);
        }
    }
}

/// Says when metadata shows other ENIs, addresses or prefixes than before.
async fn watch_enis(imds: Imds, facts: InstanceFacts, inbox: Inbox) {
    let mut before: Option<Vec<EniView>> = None;
    loop {
        match imds.enis(&facts.instance_id).await {
            Ok(now) => {
                if before.as_ref().is_some_and(|before| *before != now) {
                    tracing::info!(enis = now.len(), "instance metadata shows other ENIs or addresses");
                    inbox.event(Event::EnisChanged);
                }
                before = Some(now);
            }
            Err(failure) => tracing::debug!(error = %failure.message, "IMDS does not tell the ENIs"),
        }
        sleep(WATCH).await;
    }
}

fn not_asked() -> Failure {
    Failure {
        class: FailureClass::Denied,
        code: "ImdsOnly".to_owned(),
        message: "EC2 is not asked (ENABLE_IMDS_ONLY_MODE)".to_owned(),
        retry_after: None,
    }
}
