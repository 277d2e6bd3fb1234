// SPDX-License-Identifier: Apache-2.0
//! Listens to the kernel on a thread of its own, and tells the core when something of ours may have been changed by another
//! hand, and by whom as far as that can be seen; and that a link with a new MAC is there, so that an attached ENI is configured at
//! once and not at the next try. The host thread is told that host veths came or went, whose host ports it looks after.
//!
//! Decides nothing: what counts is `datapath::apply::watch`'s, what follows is the core's. Only a hint: when it cannot
//! listen, the core is told so every 5 s, and looks each time.

#![expect(clippy::disallowed_methods, reason = "reads /proc, and waits before it listens again")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use datapath::apply::ApplyError;
use datapath::apply::watch::{Changes, LinkNews, Watcher};
use ipamd_core::Event;
use ipamd_core::ids::MacAddr;
use ipamd_core::reason::ReasonCode;
use ipamd_core::repair::KernelChange;

use crate::background;
use crate::edge::host::Host;
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// Pause before it listens again.
const PAUSE: Duration = Duration::from_secs(5);
/// Our own programs, as `/proc/<pid>/comm` names them.
const OURS: [&str; 2] = ["ipamd", "aws-cni"];

/// Starts the thread. It ends with the process.
pub(crate) fn start(veth_prefix: String, inbox: Inbox, host: Host) -> io::Result<()> {
    background::start("watch", move || listen(&Listener { veth_prefix, inbox, host }))
}

/// Whom the thread tells.
struct Listener {
    veth_prefix: String,
    inbox: Inbox,
    host: Host,
}

fn listen(listener: &Listener) {
    loop {
        if let Err(error) = listener.listen_once() {
            tracing::warn!(
                code = %ReasonCode::KernelEventsLost, error = %chain(&error),
                "the kernel's notifications cannot be had, trying again"
            );
        }
        std::thread::sleep(PAUSE);
        // Whatever happened meanwhile was not heard.
        listener.inbox.event(Event::KernelChanged(KernelChange { lost: true, ..KernelChange::default() }));
    }
}

impl Listener {
    fn listen_once(&self) -> Result<(), ApplyError> {
        let mut watcher = Watcher::start()?;
        loop {
            self.tell_links(watcher.take_links());
            let changes = watcher.wait()?;
            if !changes.is_empty() {
                tracing::debug!(?changes, "the kernel told of changes");
                self.inbox.event(Event::KernelChanged(told(changes)));
            }
        }
    }

    fn tell_links(&self, LinkNews { appeared, gone, anew }: LinkNews) {
        let is_pods = |name: &String| name.starts_with(&self.veth_prefix);
        if anew || appeared.values().map(|(_, name)| name).chain(&gone).any(is_pods) {
            self.host.links_changed();
        }
        for (mac, _) in appeared.into_values().filter(|(_, name)| !is_pods(name)) {
            self.inbox.event(Event::LinkAppeared { mac: MacAddr(mac.0) });
        }
    }
}

fn told(changes: Changes) -> KernelChange {
    let programs = changes.writers.iter().filter_map(|pid| program(&pid.to_string()));
    KernelChange {
        addresses: changes.addresses,
        objects: changes.objects.iter().map(ToString::to_string).collect(),
        lost: changes.lost,
        programs: programs.filter(|name| !OURS.contains(&name.as_str())).collect(),
    }
}

/// Name of a process; `None`: it is gone, or cannot be seen from here. A writer in another process namespace has its number
/// there for a port, so the name is a guess.
fn program(pid: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// Names of all programs that run, as far as they can be seen from here.
pub(crate) fn programs() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter_map(|pid| program(&pid)).collect()
}

#[cfg(test)]
mod tests {
    use datapath::plan::repair::Object;

    use super::*;

    #[test]
    fn a_change_names_the_program_behind_a_port_and_not_ports_of_nobody() {
        let own = fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        let changes = Changes {
            objects: BTreeSet::from([Object::NftTable]),
            writers: BTreeSet::from([std::process::id(), i32::MAX.cast_unsigned()]),
            ..Changes::default()
        };
        let change = told(changes);
        assert_eq!(change.programs, BTreeSet::from([own.clone()]));
        assert_eq!(change.objects, BTreeSet::from(["nft-table".to_owned()]));
        assert!(programs().contains(&own));
    }
}
