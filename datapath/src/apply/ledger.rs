// SPDX-License-Identifier: Apache-2.0
//! What settings of the node were before us: written to a file before the first of them is changed, and put back by an
//! uninstall ([`crate::plan::settings`] says which).
//!
//! One file, replaced by rename, so that it is whole or not there whoever is killed; no fsync, for it means nothing after a boot
//! and says of which it is. It is there only while there is something to put back. One process has it at a time: the daemon,
//! or an uninstall, by the lock of the state folder.
//!
//! Invariant: a setting that the daemon has changed in this boot is in the file, with the value found at the first time. One
//! whose write failed is not: who then makes it by hand has chosen it.
#![expect(clippy::disallowed_methods, reason = "the file edge of the settings that are put back")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::ApplyError;
use super::netlink::Socket;
use super::netlink::read;
use super::{eni, sysctl};
use crate::plan::Op;
use crate::plan::settings::{Change, Judged, Memory, Setting, Verdict, judge};

/// The file and what it says.
#[derive(Debug)]
pub struct Ledger {
    /// `None`: kept nowhere.
    path: Option<PathBuf>,
    boot_id: String,
    memory: Memory,
}

impl Ledger {
    /// Reads the file; none, or one of another boot, is an empty one.
    ///
    /// # Errors
    /// [`ApplyError::Damaged`] when it says something else than what we write; [`ApplyError::Record`] when it cannot be read.
    pub fn open(path: &Path, boot_id: &str) -> Result<Self, ApplyError> {
        let memory = match fs::read(path) {
            Ok(bytes) => Memory::parse(&String::from_utf8_lossy(&bytes), boot_id)
                .map_err(|source| ApplyError::Damaged { path: path.to_owned(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => return Err(failed("reading", path, error)),
        };
        Ok(Self { memory, ..Self::empty(path, boot_id) })
    }

    /// One without an entry; the file is written with the first.
    #[must_use]
    pub fn empty(path: &Path, boot_id: &str) -> Self {
        Self { path: Some(path.to_owned()), boot_id: boot_id.to_owned(), memory: Memory::default() }
    }

    /// One that is kept nowhere: for a network namespace that goes with what is done in it.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { path: None, boot_id: String::new(), memory: Memory::default() }
    }

    /// What a setting was before us, if it is we who changed it.
    pub(super) fn found(&self, setting: Setting) -> Option<u32> {
        self.memory.get(setting).map(|change| change.found)
    }

    /// Makes a write of the set-up of the node or the primary ENI: the value that it takes away is in the file before.
    pub(super) fn around(&mut self, op: &Op, write: impl FnOnce() -> Result<(), ApplyError>) -> Result<(), ApplyError> {
        let is_new = self.before(op)?;
        let written = write();
        let kept = self.after(op, is_new);
        written.and(kept)
    }

    /// Whether it is the first change of the setting.
    fn before(&mut self, op: &Op) -> Result<bool, ApplyError> {
        let Some((setting, written)) = Setting::changed_by(op) else { return Ok(false) };
        let is_new = self.found(setting).is_none();
        let mut changes = vec![(setting, written)];
        if setting == Setting::IpForward {
            changes.push((Setting::AcceptRedirects, 0));
        }
        let now = values(changes.iter().map(|(setting, _)| *setting))?;
        let mut memory = self.memory.clone();
        for (setting, written) in changes {
            now.get(&setting).map(|found| memory.add(setting, Change { found: *found, written }));
        }
        self.keep(memory).map(|()| is_new)
    }

    /// An entry that means nothing any more goes, for its first write failed, or one put back what was found.
    fn after(&mut self, op: &Op, is_new: bool) -> Result<(), ApplyError> {
        let Some((setting, wanted)) = Setting::changed_by(op) else { return Ok(()) };
        let is_so = values([setting])?.get(&setting) == Some(&wanted);
        let is_as_found = is_so && self.found(setting) == Some(wanted);
        if is_as_found || (!is_so && is_new) { self.forget(setting) } else { Ok(()) }
    }

    /// Forgets a setting: it is not ours any more.
    pub(super) fn forget(&mut self, setting: Setting) -> Result<(), ApplyError> {
        let mut memory = self.memory.clone();
        memory.remove(setting);
        if setting == Setting::IpForward {
            memory.remove(Setting::AcceptRedirects);
        }
        self.keep(memory)
    }

    /// The file first: what it lacks must not be written to the kernel.
    fn keep(&mut self, memory: Memory) -> Result<(), ApplyError> {
        if memory == self.memory {
            return Ok(());
        }
        if let Some(path) = &self.path {
            if memory.is_empty() {
                fs::remove_file(path).or_else(fine_if_missing).map_err(|error| failed("removing", path, error))?;
            } else {
                let text = memory.text(&self.boot_id);
                replace(path, text.as_bytes()).map_err(|error| failed("writing", path, error))?;
            }
        }
        self.memory = memory;
        Ok(())
    }

    /// Lines about settings that this version does not know.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        self.memory.unknown()
    }

    /// Puts back what an uninstall should, and forgets it, unless it is needed still; what was done about each setting, and all
    /// that went wrong. Goes on after an error: what could not be put back is in the file still.
    pub fn put_back(&mut self, is_needed: bool) -> (Vec<Judged>, Vec<ApplyError>) {
        let now = match values(self.memory.settings()) {
            Ok(now) => now,
            Err(error) => return (Vec::new(), vec![error]),
        };
        let (mut done, judged) = (Vec::new(), judge(&self.memory, &now, is_needed));
        let mut errors = Vec::new();
        let mut memory = self.memory.clone();
        for Judged { setting, change, verdict } in &judged {
            let written = match verdict {
                Verdict::PutBack => write(*setting, change.found),
                Verdict::Needed | Verdict::AsFound | Verdict::Chosen(_) | Verdict::Gone => Ok(()),
            };
            match written {
                Ok(()) => {
                    done.push(Judged { setting: *setting, change: *change, verdict: *verdict });
                    if !is_needed {
                        memory.remove(*setting);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.keep(memory).err());
        (done, errors)
    }
}

/// The settings' values now; one that is not there has none.
fn values(settings: impl IntoIterator<Item = Setting>) -> Result<BTreeMap<Setting, u32>, ApplyError> {
    let mut values = BTreeMap::new();
    for setting in settings {
        let value = match setting {
            Setting::RpFilter(mac) => match eni::find(read::links(&mut Socket::route()?)?, mac) {
                Ok(link) => link.rp_filter.map(u32::from),
                Err(_) => None,
            },
            Setting::IpForward | Setting::AcceptRedirects | Setting::TcpEarlyDemux | Setting::Ipv6Forwarding => {
                sysctl::value(setting)?.and_then(|text| text.parse().ok())
            }
        };
        values.extend(value.map(|value| (setting, value)));
    }
    Ok(values)
}

fn write(setting: Setting, value: u32) -> Result<(), ApplyError> {
    match setting.to(value) {
        Op::Sysctl(sysctl) => sysctl::ensure(&sysctl).map(|_| ()),
        op => {
            let mut socket = Socket::route()?;
            let Setting::RpFilter(mac) = setting else { return Ok(()) };
            let link = eni::find(read::links(&mut socket)?, mac)?;
            eni::write(&mut socket, &op, link.index, &link.name)
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

fn fine_if_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> ApplyError {
    ApplyError::Record { doing, path: path.to_owned(), source }
}
