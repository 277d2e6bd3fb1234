// SPDX-License-Identifier: Apache-2.0
//! Programs cut off by SIGKILL between two of their system calls, by strace's injection: the shipped binaries, no hooks in them.
//!
//! It says how to run a program so that its calls are written down, which places there are to cut, and how to run it so that it
//! dies at one of them. What must hold afterwards is the test's.
//!
//! A cut is *before* the n-th call of a name: the signal comes when the call is entered, and the kernel does not carry it out
//! (`syscall_trace_enter`, `kernel/entry/common.c`). strace counts calls for each thread by itself, and the first thread to get
//! there ends the process; so of two threads that make the same n-th call only the earlier one is met.
//!
//! Outside the process nothing changes but by calls that [`reaches_out`] names (the end of the process, which closes and unlocks,
//! comes at every cut). So a cut at any other call leaves the outside as the cut at the next of these does:
//!
//! ```text
//! openat(O_RDONLY)  read  │connect  recvfrom  epoll_wait  │sendto  …       │: places to cut
//! └────── one outside ────┘└────────── the next ─────────┘
//! ```
#![expect(clippy::disallowed_methods, reason = "reads recordings")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tools::{ToolError, Tools};

/// Before the `nth` call of a name, counted from 1 in each thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Name of the system call.
    pub call: String,
    /// Which of them.
    pub nth: u32,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "before {} {}", self.call, self.nth)
    }
}

/// Which calls are cut at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that could change something outside the process.
    Outward,
    /// Every one.
    All,
}

/// The calls of one undisturbed run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Calls in the order in which they began, with the thread that made them.
    calls: Vec<(u32, Cut, bool)>,
}

/// strace.
#[derive(Clone, Debug)]
pub struct Strace {
    path: PathBuf,
    libraries: Option<PathBuf>,
}

impl Strace {
    /// Finds it.
    ///
    /// # Errors
    /// It is missing.
    pub fn find() -> Result<Self, ToolError> {
        let (path, libraries) = Tools::strace()?;
        Ok(Self { path, libraries })
    }

    /// What to put before a command so that its calls are written to `file`.
    #[must_use]
    pub fn recording(&self, file: &Path) -> Vec<String> {
        let mut words = self.start(file);
        words.extend(["-s", "0", "-e", "signal=none"].map(str::to_owned));
        words
    }

    /// What to put before a command so that it dies at `cut`.
    #[must_use]
    pub fn cutting(&self, cut: &Cut) -> Vec<String> {
        let mut words = self.start(Path::new("/dev/null"));
        let Cut { call, nth } = cut;
        words.extend([format!("-etrace={call}"), format!("-einject={call}:signal=SIGKILL:when={nth}")]);
        words
    }

    /// A command that makes calls of a running thread fail for as long as it runs itself: `when` is strace's, such as `3` for the
    /// third call from now or `1+` for every one.
    #[must_use]
    pub fn failing(&self, thread: u32, call: &str, (error, when): (&str, &str)) -> Vec<String> {
        let mut words = self.program();
        words.extend(["-qqq", "-o", "/dev/null", "-p"].map(str::to_owned));
        words.extend([
            thread.to_string(),
            format!("-etrace={call}"),
            format!("-einject={call}:error={error}:when={when}"),
        ]);
        words
    }

    /// The same, but the calls take so long instead: a disk that does not answer. `call` may be a pattern, `/^rename`.
    #[must_use]
    pub fn stalling(&self, thread: u32, call: &str, time: Duration) -> Vec<String> {
        let mut words = self.program();
        words.extend(["-qqq", "-o", "/dev/null", "-p"].map(str::to_owned));
        let inject = format!("-einject={call}:delay_enter={}", time.as_micros());
        words.extend([thread.to_string(), format!("-etrace={call}"), inject]);
        words
    }

    fn program(&self) -> Vec<String> {
        let libraries = self.libraries.iter();
        let mut words: Vec<String> = libraries
            .flat_map(|folder| ["/usr/bin/env".to_owned(), format!("LD_LIBRARY_PATH={}", folder.display())])
            .collect();
        words.push(self.path.display().to_string());
        words
    }

    /// The tracer is a grandchild (`-D`): who starts the command has the command itself for a child.
    fn start(&self, file: &Path) -> Vec<String> {
        let mut words = self.program();
        words.extend(["-D", "-f", "-qqq", "-E", "LD_LIBRARY_PATH", "-o"].map(str::to_owned));
        words.push(file.display().to_string());
        words
    }
}

impl Recording {
    /// Reads what strace wrote.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(file: &Path) -> io::Result<Self> {
        Ok(Self::parse(&String::from_utf8_lossy(&fs::read(file)?)))
    }

    fn parse(text: &str) -> Self {
        let mut counts: BTreeMap<(u32, String), u32> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Ok(thread) = thread.parse::<u32>() else { continue };
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            // `<... read resumed>` and `+++ exited` are no beginnings; the first execve is strace's own.
            let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || call == "execve" {
                continue;
            }
            let nth = counts.entry((thread, call.to_owned())).or_default();
            *nth += 1;
            calls.push((thread, Cut { call: call.to_owned(), nth: *nth }, reaches_out(call, arguments)));
        }
        Self { calls }
    }

    /// The places to cut, each once, in the order of the run.
    #[must_use]
    pub fn cuts(&self, scope: Scope) -> Vec<Cut> {
        let mut seen = BTreeSet::new();
        let chosen = self.calls.iter().filter(|(_, _, outward)| scope == Scope::All || *outward);
        chosen.map(|(_, cut, _)| cut).filter(|cut| seen.insert(*cut)).cloned().collect()
    }

    /// How many calls were made, how many of them reach out, and how many of these no cut of their own meets, because
    /// another thread makes the same n-th call.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let outward = self.calls.iter().filter(|(_, _, outward)| *outward).count();
        (self.calls.len(), outward, outward - self.cuts(Scope::Outward).len())
    }
}

/// Whether a call could change something outside the process: files, sockets, the kernel's tables, other processes.
fn reaches_out(call: &str, arguments: &str) -> bool {
    match call {
        "open" | "openat" => ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| arguments.contains(flag)),
        "ioctl" => !arguments.contains("TCGETS") && !arguments.contains("FIONBIO"),
        _ => [
            "write",
            "pwrite",
            "send",
            "connect",
            "bind",
            "listen",
            "accept",
            "rename",
            "unlink",
            "mkdir",
            "rmdir",
            "link",
            "symlink",
            "chmod",
            "fchmod",
            "chown",
            "fchown",
            "truncate",
            "ftruncate",
            "fallocate",
            "utime",
            "flock",
            "setns",
            "unshare",
            "mount",
            "umount",
            "shutdown",
            "kill",
            "tgkill",
            "exit_group",
        ]
        .iter()
        // With their variants: writev, sendmsg, accept4, renameat2, …
        .any(|name| call.strip_prefix(name).is_some_and(is_variant)),
    }
}

fn is_variant(rest: &str) -> bool {
    ["", "at", "at2", "v", "v2", "to", "msg", "mmsg", "4", "64", "2"].contains(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\
7 execve(\"/bin/x\"..., [\"x\"...], 0x7ffc /* 3 vars */) = 0
7 openat(AT_FDCWD, \"\"..., O_RDONLY|O_CLOEXEC) = 3
7 openat(AT_FDCWD, \"\"..., O_WRONLY|O_CREAT, 0600) = 4
7 write(4, \"\"..., 5 <unfinished ...>
8 write(5, \"\"..., 1)                 = 1
7 <... write resumed>)                 = 5
8 renameat(AT_FDCWD, \"\"..., AT_FDCWD, \"\"...) = 0
8 read(5, \"\"..., 1)                  = 1
7 write(4, \"\"..., 5)                 = 5
7 exit_group(0)                        = ?
7 +++ exited with 0 +++
";

    #[test]
    fn cuts_are_counted_by_name_and_thread_and_each_is_named_once() {
        let recording = Recording::parse(RUN);
        let named: Vec<String> =
            recording.cuts(Scope::Outward).iter().map(|cut| format!("{}{}", cut.call, cut.nth)).collect();
        assert_eq!(named, ["openat2", "write1", "renameat1", "write2", "exit_group1"]);
        assert_eq!(recording.cuts(Scope::All).len(), 7);
        assert_eq!(recording.counts(), (8, 6, 1), "write 1 of thread 8 is hidden by that of thread 7");
    }

    #[test]
    fn reading_and_waiting_reach_nothing_outside() {
        for call in ["read", "recvfrom", "epoll_wait", "mmap", "futex", "linux_thing", "readlink", "close", "writer"] {
            assert!(!reaches_out(call, ""), "{call}");
        }
        for call in ["writev", "sendmsg", "unlinkat", "renameat2", "accept4", "umount2", "fchmod"] {
            assert!(reaches_out(call, ""), "{call}");
        }
    }
}
