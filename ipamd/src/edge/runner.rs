// SPDX-License-Identifier: Apache-2.0
//! Starts the core's actions: EC2's as a task each, the kernel's on the host thread and the flush thread, the container runtime's on a
//! thread that may block. Their outcomes come back as events.
//!
//! Where EC2 must not be asked (ENABLE_IMDS_ONLY_MODE) its reads are answered from instance metadata; the core starts no
//! other action of EC2's then, and one that it started all the same would fail here.
//!
//! Invariant: every action that is started ends with exactly one `ActionEnded`.

use std::path::PathBuf;

use ipamd_aws::{Ec2, Imds};
use ipamd_core::action::{Action, ActionKind, SubnetQuery};
use ipamd_core::event::{Failure, FailureClass, Outcome};
use ipamd_core::ids::ActionId;
use tokio::sync::watch;

use crate::clock;
use crate::edge::flush::Flusher;
use crate::edge::host::Host;
use crate::edge::sandboxes;
use crate::inbox::Inbox;

/// EC2, once the region is known.
pub(crate) type Ec2Slot = watch::Receiver<Option<Ec2>>;

/// Where actions are run.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) inbox: Inbox,
    pub(crate) host: Host,
    pub(crate) flusher: Flusher,
    pub(crate) ec2: Ec2Slot,
    /// What answers EC2's reads where EC2 must not be asked.
    pub(crate) imds: Option<Imds>,
    /// Socket of the container runtime, where it may be asked.
    pub(crate) runtime: Option<PathBuf>,
}

impl Runner {
    pub(crate) fn start(&self, action: Action) {
        match &action.kind {
            // Every minute, with every pod.
            ActionKind::Repair(plan) => tracing::debug!(
                action = action.id.0,
                enis = plan.enis.len(),
                pods = plan.pods.len(),
                sweep = ?plan.sweep,
                "look started"
            ),
            kind => tracing::debug!(action = action.id.0, ?kind, "action started"),
        }
        match action.kind {
            ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost(_)
            | ActionKind::Repair(_)
            | ActionKind::ObserveKernel => self.host.run(action),
            ActionKind::FlushAddresses { .. } => self.flusher.run(action),
            ActionKind::ListSandboxes => self.list_sandboxes(action.id),
            // Handled where the files are known; nothing is reported.
            ActionKind::ForgetTombstone { .. } => {}
            ActionKind::CreateEni { .. }
            | ActionKind::AttachEni { .. }
            | ActionKind::SetDeleteOnTermination { .. }
            | ActionKind::Assign { .. }
            | ActionKind::Unassign { .. }
            | ActionKind::SetSecurityGroups { .. }
            | ActionKind::TagEni { .. }
            | ActionKind::DescribeLeakedEnis { .. }
            | ActionKind::DetachEni { .. }
            | ActionKind::DeleteEni { .. }
            | ActionKind::DescribeEnis { .. }
            | ActionKind::DescribeSubnets(_) => {
                match &self.imds {
                    Some(imds) => tokio::spawn(run_imds(imds.clone(), self.inbox.clone(), action)),
                    None => tokio::spawn(run_ec2(self.ec2.clone(), self.inbox.clone(), action)),
                };
            }
        }
    }

    /// On a thread of its own: the client's calls block.
    fn list_sandboxes(&self, id: ActionId) {
        let (inbox, socket, started) = (self.inbox.clone(), self.runtime.clone(), clock::boot());
        tokio::task::spawn_blocking(move || {
            let outcome = socket.map_or_else(no_runtime, sandboxes::list);
            log_end(id, &outcome, started);
            inbox.ended(id, outcome);
        });
    }
}

/// The core asks only where there is one.
fn no_runtime() -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::Rejected,
        code: "NoRuntime".to_owned(),
        message: "no container runtime may be asked".to_owned(),
        retry_after: None,
    })
}

async fn run_ec2(mut slot: Ec2Slot, inbox: Inbox, action: Action) {
    let ec2 = slot.wait_for(Option::is_some).await.ok().and_then(|slot| slot.clone());
    // No sender any more: the daemon is going.
    let Some(ec2) = ec2 else { return };
    let started = clock::boot();
    let outcome = ec2.run(action.priority, &action.kind).await;
    log_end(action.id, &outcome, started);
    inbox.ended(action.id, outcome);
}

async fn run_imds(imds: Imds, inbox: Inbox, action: Action) {
    let started = clock::boot();
    let outcome = ask_imds(&imds, &action.kind, started).await.unwrap_or_else(Outcome::Failed);
    log_end(action.id, &outcome, started);
    inbox.ended(action.id, outcome);
}

async fn ask_imds(imds: &Imds, kind: &ActionKind, read_at: ipamd_core::BootTime) -> Result<Outcome, Failure> {
    match kind {
        ActionKind::DescribeEnis { instance_id, .. } => {
            Ok(Outcome::EnisDescribed { enis: imds.enis(instance_id).await?, read_at })
        }
        ActionKind::DescribeSubnets(SubnetQuery::Id(id)) => {
            Ok(Outcome::SubnetsDescribed(imds.subnet(id).await?.into_iter().collect()))
        }
        _ => Err(Failure {
            class: FailureClass::Rejected,
            code: "ImdsOnly".to_owned(),
            message: "EC2 is not asked (ENABLE_IMDS_ONLY_MODE)".to_owned(),
            retry_after: None,
        }),
    }
}

/// One line at the end of every action; failures are the core's to judge, so they are no warnings here.
pub(crate) fn log_end(id: ActionId, outcome: &Outcome, started: ipamd_core::BootTime) {
    let took_ms = clock::millis(clock::boot().since(started));
    match outcome {
        Outcome::Failed(failure) => {
            tracing::debug!(action = id.0, took_ms, class = ?failure.class, error = %failure.message, "action failed");
        }
        _ => tracing::debug!(action = id.0, took_ms, "action done"),
    }
}
