// SPDX-License-Identifier: Apache-2.0
//! `ipamd hand-back`: the node goes back to amazon-vpc-cni-k8s while its pods live. The daemon is stopped, aws-node not started yet.
//!
//! | step | why in this place |
//! |---|---|
//! | `ipam.json` written as the reference reads it | what follows can be repeated, this is what it restores pods from |
//! | live pods into layout `classic` | its DEL and its daemon look for a rule, a route in main |
//! | what no living pod needs any more goes | as for an uninstall; nft table `ip enid` stays and translates |
//! | `enid.json` set aside | it knows nothing of what aws-node does from now on; a later takeover begins anew |
//!
//! `ipamd hand-back --finish`, once aws-node is ready: the nft table goes. Settings of the node stay: the reference needs them.

use std::io::Write;
use std::time::Duration;

use datapath::apply::{hand_back, uninstall};
use ipam_api::{CallError, Client};
use ipamd_core::config::Config;
use ipamd_core::{Core, Event, Restored};

use crate::cli::{boot_id, cleanup_host::all, print};
use crate::clock;
use crate::edge::host;
use crate::edge::lock::InstanceLock;
use crate::edge::store::Store;
use crate::edge::tombstones::Tombstones;
use crate::telemetry::chain;

/// For the daemon that must answer at the socket.
const SOCKET_BUDGET: Duration = Duration::from_secs(2);

/// Which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before aws-node starts.
    Begin,
    /// Once it is ready.
    Finish,
}

/// Does it, and prints what was done and what comes next.
///
/// # Errors
/// The daemon runs, or what could not be done; it can be repeated.
pub fn run(config: &Config, step: Step, out: &mut dyn Write) -> Result<(), String> {
    let text = match step {
        Step::Begin => begin(config)?,
        Step::Finish => finish(config)?,
    };
    print(out, &text)
}

/// aws-node's daemon, or one of ours with other settings: both would write the same file.
fn nobody_serves(config: &Config) -> Result<(), String> {
    match Client::new(&config.socket).is_serving("", SOCKET_BUDGET) {
        Err(CallError::NoDaemon { .. }) => Ok(()),
        _ => Err(format!(
            "a daemon answers at {}: stop it first; if it is aws-node's, which has the node already, what is left is \
             `ipamd hand-back --finish`",
            config.socket.display()
        )),
    }
}

fn begin(config: &Config) -> Result<String, String> {
    let _lock = InstanceLock::of_no_daemon(host::state_folder(config)).map_err(|error| chain(&error))?;
    nobody_serves(config)?;
    let mut store = Store::new(&config.journal);
    let mut text = String::new();
    let mut told = |line: String| text.push_str(&format!("{line}\n"));
    let core = restored(config, &store)?;
    let snapshot = core.snapshot(clock::now());
    for address in snapshot.addresses.iter().filter(|address| address.state == "held") {
        told(format!(
            "not handed back: {} has a link here, and nobody knows whose it is: the reference may give it to another pod",
            address.address
        ));
    }
    store.write_reference(&core.checkpoint().reference_json).map_err(|error| chain(&error))?;
    told(format!("written: {} with {} pods", config.journal.display(), snapshot.pods.len()));
    let (pods, written) = hand_back::convert().map_err(|error| chain(&error))?;
    told(format!("pods in layout classic: {}, by {} writes to the kernel", pods.len(), written.len()));
    let kept = uninstall::remove(uninstall::Counted::All).map_err(|errors| all(&errors))?;
    for table in kept.objects.iter().filter(|object| object.starts_with("nft table ")) {
        told(format!("kept until aws-node is ready: {table}"));
    }
    if let Some(aside) = store.retire_own().map_err(|error| chain(&error))? {
        told(format!("set aside: {}", aside.display()));
    }
    told("next: start aws-node on this node, and when it is ready run `ipamd hand-back --finish`".to_owned());
    Ok(text)
}

/// What a start of the daemon would make of journal and kernel; nothing is asked of anybody.
fn restored(config: &Config, store: &Store) -> Result<Core, String> {
    let kernel = host::observe(&config.veth_prefix).map_err(|error| chain(&error))?;
    let boot_id = boot_id()?;
    let loaded = store.load().map_err(|error| chain(&error))?;
    let found = Restored::read(loaded.reference.as_deref(), loaded.own.as_deref(), kernel, boot_id);
    if let Some(Err(error)) = &found.reference {
        return Err(format!(
            "{} cannot be read ({error}): pods that aws-node has made are in it alone. Mend it, or move it away; then the kernel's word \
             counts, which has Enid's own pods only",
            config.journal.display()
        ));
    }
    let mut core = Core::new(config.clone(), found, clock::now()).0;
    // DELs that came since the daemon was stopped.
    for key in Tombstones::new(host::state_folder(config)).scan() {
        core.handle(Event::TombstoneFound { key }, clock::now());
    }
    Ok(core)
}

/// aws-node answers at the socket only when it has set the node up (`pkg/ipamd` of v1.23: chains and ENIs come before the server).
fn finish(config: &Config) -> Result<String, String> {
    let _lock = InstanceLock::of_no_daemon(host::state_folder(config)).map_err(|error| chain(&error))?;
    if !matches!(Client::new(&config.socket).is_serving("", SOCKET_BUDGET), Ok(true)) {
        return Err(format!(
            "no daemon answers at {}: aws-node is not ready, and the nft table ip enid translates for the pods until it is",
            config.socket.display()
        ));
    }
    let had = hand_back::finish().map_err(|error| chain(&error))?;
    let done = if had { "removed: nft table ip enid\n" } else { "there is no nft table ip enid\n" };
    Ok(format!("{done}next: when no pod of Enid's is left, run `ipamd cleanup-host` for what is left of it\n"))
}
