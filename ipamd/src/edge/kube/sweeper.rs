// SPDX-License-Identifier: Apache-2.0
//! Takes part in the election of the one node that sweeps leaked ENIs for its cluster: the calls that [`Election`] asks for, on one
//! Lease that is read now and then, never watched.
//!
//! Decides nothing of it: when to look, when to take over and how long to believe is the core's `election`, what an elected node
//! does is its `leaked`. Here is what the API server makes of a call. There is an election where the cluster has a name and we may write
//! to EC2; a node takes part once it knows who it is, and while it is to sweep at all. Where the Lease cannot be read or written,
//! nobody is elected, and every node sweeps seldom on its own.
//!
//! A node whose role may not sweep gives the Lease up, and stands aside for a dozen looks. How old a leaked ENI must be, or that none is
//! to be swept, may change at any time: a snapshot says it. A holder that is not to sweep any more gives the Lease up before its next
//! renewal, and with another age a node begins anew, at that pace.
//!
//! ```text
//! {kind: Lease, metadata: {name: enid-sweeper, namespace: MY_POD_NAMESPACE},
//!  spec: {holderIdentity: <node>_<boot>, leaseDurationSeconds: 180, renewTime: …, leaseTransitions: 3}}
//! ```

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ipamd_core::election::{Answer, Call, Elected, Election, Lease as Held, Pace};
use ipamd_core::reason::ReasonCode;
use ipamd_core::{Config, Event, Snapshot};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, GetParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::status::{Status, Work};
use super::writer::micros;
use super::{Edge, pause};
use crate::clock;
use crate::edge::ready;
use crate::inbox::Inbox;
use crate::telemetry::chain;

const NAME: &str = "enid-sweeper";
const NAMESPACE: &str = "kube-system";
/// The most that one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Until the node knows who it is.
const UNBORN: Duration = Duration::from_secs(1);
/// Until a node that is not to sweep sees whether it is by now.
const OFF: Duration = Duration::from_secs(5);
/// Looks that a node stands aside for which may not sweep.
const ASIDE_LOOKS: u32 = 12;

/// A node's part.
pub(super) struct Sweeper {
    api: Api<Lease>,
    me: String,
    pace: Pace,
    salt: u64,
    inbox: Inbox,
    status: Status,
    /// Of the Lease as it was read last.
    transitions: i32,
}

/// Runs until the daemon ends, where there is something to elect.
pub(super) async fn run(sweeper: Option<Sweeper>) {
    if let Some(sweeper) = sweeper {
        sweeper.run().await;
    }
}

/// Whether there may be something to elect, whatever changes while the daemon runs.
fn is_possible(config: &Config) -> bool {
    config.cluster_name.is_some() && config.provisioning.is_full()
}

/// How quick the election is; `None`: this node is not to sweep, or does not know yet who it is.
fn pace(snapshot: &Snapshot) -> Option<Pace> {
    snapshot.instance.as_ref()?;
    Some(Pace::of_age(Duration::from_millis(snapshot.sweep.age_ms?)))
}

impl Sweeper {
    pub(super) fn new(edge: &Edge, client: kube::Client) -> Option<Self> {
        if !is_possible(&edge.config) {
            return None;
        }
        let namespace = edge.config.kubernetes.namespace.as_deref().unwrap_or(NAMESPACE);
        // Two machines that call themselves alike are two all the same.
        let boot = ready::boot_id().unwrap_or_default();
        let me = format!("{}_{}", edge.node, boot.get(..8).unwrap_or(&boot));
        let mut hasher = DefaultHasher::new();
        me.hash(&mut hasher);
        Some(Self {
            api: Api::namespaced(client, namespace),
            me,
            // Of each round anew.
            pace: Pace::of_age(edge.config.leaked_eni_age.unwrap_or_default()),
            salt: hasher.finish(),
            inbox: edge.inbox.clone(),
            status: edge.status.clone(),
            transitions: 0,
        })
    }

    async fn run(mut self) {
        while let Some(snapshot) = self.inbox.snapshot().await {
            if let Some(pace) = pace(&snapshot) {
                self.pace = pace;
                self.take_part().await;
                self.inbox.event(Event::SweeperElected(Elected::Nobody));
            } else {
                pause(if snapshot.instance.is_some() { OFF } else { UNBORN }).await;
            }
        }
    }

    /// Until the daemon ends, or another pace is asked for, or none.
    async fn take_part(&mut self) {
        let mut election = Election::new(self.me.clone(), self.pace, self.salt, clock::boot());
        let mut told = Elected::Nobody;
        loop {
            let elected = election.elected(clock::boot());
            if elected != told {
                self.inbox.event(Event::SweeperElected(elected));
                told = elected;
            }
            pause(election.due().since(clock::boot())).await;
            let Some(snapshot) = self.inbox.snapshot().await else { return };
            let now = clock::boot();
            match pace(&snapshot) {
                Some(pace) if pace == self.pace => {}
                Some(_) => return,
                None => return self.give_up(election).await,
            }
            if snapshot.sweep.is_denied && matches!(election.elected(now), Elected::ThisNode { .. }) {
                tracing::warn!(
                    code = %ReasonCode::SweepDenied,
                    "this node's role may not sweep leaked ENIs: another node is to do it"
                );
                election.stand_down(now + self.pace.look * ASIDE_LOOKS, now);
                self.inbox.event(Event::SweeperElected(Elected::AnotherNode));
                told = Elected::AnotherNode;
            }
            let is_holder = matches!(election.elected(now), Elected::ThisNode { .. });
            let sent = clock::boot();
            let call = election.call(sent);
            let answer = self.make(&call, is_holder).await;
            election.ended(&call, answer, (sent, clock::boot()));
        }
    }

    /// It is not to sweep: another node may. A Lease that cannot be given up runs out.
    async fn give_up(&mut self, mut election: Election) {
        let now = clock::boot();
        if !matches!(election.elected(now), Elected::ThisNode { .. }) {
            return;
        }
        tracing::info!("leaked ENIs are not to be swept any more: this node gives the Lease {NAME} up");
        election.stand_down(now + self.pace.look, now);
        let call = election.call(now);
        self.make(&call, true).await;
    }

    /// One call. A holder that looks must see its own write, others may see what is in the API server's cache.
    async fn make(&mut self, call: &Call, is_holder: bool) -> Answer {
        let stamp = micros(clock::now().unix_nanos);
        let fresh = if is_holder { GetParams::default() } else { GetParams::any() };
        let patch = PatchParams::default();
        let outcome = match call {
            Call::Look => self.within(self.api.get_with(NAME, &fresh)).await,
            Call::Create => match serde_json::from_value(self.made(&stamp)) {
                Ok(lease) => self.within(self.api.create(&PostParams::default(), &lease)).await,
                Err(error) => Some(Err(kube::Error::SerdeError(error))),
            },
            Call::Renew { version, takes_over } => {
                let patched = Patch::Merge(self.renewed(version, *takes_over, &stamp));
                self.within(self.api.patch(NAME, &patch, &patched)).await
            }
            Call::GiveUp { version } => {
                let patched = Patch::Merge(given_up(version, &stamp));
                self.within(self.api.patch(NAME, &patch, &patched)).await
            }
        };
        self.answer(call, outcome)
    }

    async fn within(&self, call: impl Future<Output = kube::Result<Lease>>) -> Outcome {
        timeout(CALL.min(self.pace.renew), call).await.ok()
    }

    fn answer(&mut self, call: &Call, outcome: Outcome) -> Answer {
        let error = match outcome {
            Some(Ok(lease)) => {
                self.status.works(Work::Sweeper);
                let spec = lease.spec.unwrap_or_default();
                self.transitions = spec.lease_transitions.unwrap_or(0);
                let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                return Answer::Lease(Held {
                    version: lease.metadata.resource_version.unwrap_or_default(),
                    holder: spec.holder_identity.unwrap_or_default(),
                    duration: Duration::from_secs(seconds.unwrap_or(0)),
                });
            }
            Some(Err(kube::Error::Api(status))) if status.code == 409 => {
                self.status.works(Work::Sweeper);
                return Answer::Conflict;
            }
            // Of a Create: there is no such namespace.
            Some(Err(kube::Error::Api(status))) if status.code == 404 && *call != Call::Create => {
                self.status.works(Work::Sweeper);
                return Answer::Missing;
            }
            Some(Err(kube::Error::Api(status))) => format!("{} ({})", status.message, status.code),
            Some(Err(error)) => chain(&error),
            None => "no answer in time".to_owned(),
        };
        self.status.fails(Work::Sweeper, error);
        Answer::Failed
    }

    fn made(&self, stamp: &str) -> Value {
        json!({ "metadata": { "name": NAME }, "spec": self.spec(stamp, Some(0)) })
    }

    fn renewed(&self, version: &str, takes_over: bool, stamp: &str) -> Value {
        let transitions = takes_over.then(|| self.transitions.saturating_add(1));
        json!({ "metadata": { "resourceVersion": version }, "spec": self.spec(stamp, transitions) })
    }

    /// `transitions`: it is another node's from now on.
    fn spec(&self, stamp: &str, transitions: Option<i32>) -> Value {
        let mut spec = json!({
            "holderIdentity": self.me, "leaseDurationSeconds": self.pace.duration.as_secs(), "renewTime": stamp,
        });
        if let Some(transitions) = transitions {
            spec["acquireTime"] = json!(stamp);
            spec["leaseTransitions"] = json!(transitions);
        }
        spec
    }
}

fn given_up(version: &str, stamp: &str) -> Value {
    json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": "", "renewTime": stamp } })
}

/// What became of a call; `None`: no answer in time.
type Outcome = Option<kube::Result<Lease>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_may_be_an_election_in_a_cluster_with_a_name_that_is_provisioned_by_us() {
        let named = Config { cluster_name: Some("blue".to_owned()), ..Config::default() };
        assert!(is_possible(&named));
        // It may be turned on later.
        assert!(is_possible(&Config { leaked_eni_age: None, ..named.clone() }));
        let others = [
            Config::default(),
            Config { provisioning: ipamd_core::config::Provisioning::Disabled, ..named.clone() },
            Config { provisioning: ipamd_core::config::Provisioning::ImdsOnly, ..named },
        ];
        assert!(!others.iter().any(is_possible));
    }
}
