// SPDX-License-Identifier: Apache-2.0
//! `ipamd probe live|ready`: one question to the running daemon, answered by the exit code; for probes of Kubernetes and scripts.
//!
//! At the control socket, else the introspection address (`/healthz`, `/readyz`). Where introspection is off and the control socket is not
//! there, at the plugin's: alive is a daemon that answers there, ready one whose marker of this boot is in the state folder besides.

use std::path::Path;
use std::time::Duration;

use ipam_api::Client;
use ipam_api::state::READY;
use ipamd_core::Config;

use super::ask::{Daemon, NoAnswer};
use crate::cli::boot_id;
use crate::edge::host::state_folder;
use crate::edge::place;
use crate::telemetry::chain;

/// How long an answer at the plugin's socket may take: the time limit of the reference's probe.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether its loop turns.
    Live,
    /// Whether an ADD has been possible in this boot.
    Ready,
}

/// `Ok`: yes.
///
/// # Errors
/// No, and why; or the daemon does not answer.
pub fn run(config: &Config, question: Question) -> Result<(), String> {
    let path = if question == Question::Live { "/healthz" } else { "/readyz" };
    match Daemon::of(config, None).get(path) {
        // Not there, or not for this user: the plugin's socket may be.
        Err(NoAnswer::NoDaemon(_)) if config.introspection.is_none() => {
            by_socket(config)?;
            if question == Question::Live { Ok(()) } else { by_marker(state_folder(config)) }
        }
        answer => Ok(answer.map(drop)?),
    }
}

fn by_socket(config: &Config) -> Result<(), String> {
    let socket = config.socket.display();
    match Client::new(&config.socket).is_serving("", PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the daemon at {socket} says that it does not serve")),
        Err(error) => Err(format!("asking the daemon at {socket}: {}", chain(&error))),
    }
}

fn by_marker(state_folder: &Path) -> Result<(), String> {
    let path = state_folder.join(READY);
    let boot_id = boot_id()?;
    let marker = place::read(&path).map_err(|error| chain(&error))?.unwrap_or_default();
    if String::from_utf8_lossy(&marker).trim() == boot_id {
        Ok(())
    } else {
        Err(format!("no address of this boot proven yet ({} does not name it)", path.display()))
    }
}
