// SPDX-License-Identifier: Apache-2.0
//! The runtime edge: asks the container runtime, by the CRI, which sandboxes it has ready. Decides nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ipam_api::client::{RuntimeClient, RuntimeError};
use ipam_api::cri::PodSandboxState;
use ipamd_core::event::{Failure, FailureClass, Outcome};

use crate::telemetry::chain;

/// A runtime under load takes seconds for its list; one that restarts is waited for as long.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks; blocks for ten seconds at most.
pub(crate) fn list(socket: PathBuf) -> Outcome {
    match RuntimeClient::new(socket).sandboxes(LIMIT) {
        Ok(sandboxes) => {
            let ready = sandboxes.into_iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
            Outcome::SandboxesListed { ready: ready.map(|sandbox| sandbox.id).collect::<BTreeSet<_>>() }
        }
        Err(error) => Outcome::Failed(failure(&error)),
    }
}

fn failure(error: &RuntimeError) -> Failure {
    let code = match error {
        RuntimeError::Unreachable { .. } => "RuntimeUnreachable",
        RuntimeError::TimedOut { .. } => "RuntimeTimedOut",
        RuntimeError::Refused { .. } => "RuntimeRefused",
    };
    Failure { class: FailureClass::Transient, code: code.to_owned(), message: chain(error), retry_after: None }
}
