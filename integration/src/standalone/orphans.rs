// SPDX-License-Identifier: Apache-2.0
//! What a command leaves running when it ends: adopted, and ended.
//!
//! A process whose parent ends goes to the nearest ancestor that is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), however
//! it was put into the background. So after the command's end all that is left of it is, sooner or later, a child of ours,
//! and killing children until none comes any more is complete. A child's pid is not used again before it is waited for.
#![expect(clippy::disallowed_methods, reason = "processes are listed in /proc")]

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::eventually::{NotYet, eventually};

/// How long the kernel may take to end a killed process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes this process the parent of its descendants' orphans.
pub(super) fn adopt() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Kills every child, and whom it leaves, until there is none. Nobody else may be waiting for a child.
///
/// # Errors
/// One does not end.
pub(super) fn end_all() -> Result<(), NotYet> {
    eventually("what the command left running ends", PATIENCE, || {
        for child in children() {
            // It may have ended by itself: then it is waited for all the same.
            let _ = kill_process(child, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(format!("pids {:?}", children())),
                Err(Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno.to_string()),
            }
        }
    })
}

fn children() -> Vec<Pid> {
    let us = getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| parent(*pid) == Some(us)).collect()
}

/// The fourth field of proc_pid_stat(5); the second is a name in parentheses that may hold anything.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let after = stat.rsplit_once(')')?.1;
    Pid::from_raw(after.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_this_process_is_read_from_proc() {
        assert_eq!(parent(getpid()), rustix::process::getppid());
    }
}
