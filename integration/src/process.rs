// SPDX-License-Identifier: Apache-2.0
//! A long-running program in a namespace, such as the daemon: started, signalled, waited for, never left behind.
//!
//! Each has a keeper thread that entered the namespace, started it and waits for it. The program is started through
//! `setpriv --pdeathsig KILL`, so it also dies when the harness is killed: the signal comes when the *thread* that started it
//! ends (prctl(2), PR_SET_PDEATHSIG), and the keeper ends with the harness. Signals go by pidfd: never to a reused pid.
#![expect(clippy::disallowed_methods, reason = "the harness starts programs, keeps their logs, and waits on real time")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::netns::Namespace;

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment: nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// Its standard output and error are appended here.
    pub log: PathBuf,
}

/// Why a program is not running.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", program.display())]
pub struct ProcessError {
    /// `starting`, `signalling`, …
    pub doing: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Runs a command to its end with `input` on its standard input: what it printed. One that stops reading says itself why.
///
/// # Errors
/// It cannot be started, or not be given its input.
pub fn fed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    // Beside each other: a program that prints while it reads would wait for a reader.
    let (written, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output();
        (writer.join().unwrap_or(Ok(())), output)
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => output,
    }
}

/// A running program; killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    log: PathBuf,
    pid: Pid,
    pidfd: OwnedFd,
    /// In a mutex only so that a node can be shared between threads.
    exit: Mutex<Receiver<ExitStatus>>,
    status: Option<ExitStatus>,
    keeper: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts `program` in `namespace`.
    ///
    /// # Errors
    /// It is missing, or cannot be started.
    pub fn start(namespace: &Namespace, program: &Program) -> Result<Self, ProcessError> {
        let failed = |doing| move |source| ProcessError { doing, program: program.path.clone(), source };
        let log = File::options().create(true).append(true).open(&program.log).map_err(failed("opening the log of"))?;
        let errors = log.try_clone().map_err(failed("opening the log of"))?;
        let mut command = through_setpriv(&program.path);
        command.args(&program.arguments).env_clear().envs(&program.environment);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let (started, start) = channel();
        let (exited, exit) = channel();
        let entered = namespace.clone();
        let keeper = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            let child = entered.enter().map_err(io::Error::other).and_then(|()| command.spawn());
            keep(child, &started, |status| {
                let _ = exited.send(status);
            });
        });
        let keeper = keeper.map_err(failed("starting"))?;
        let (pid, pidfd) = start.recv().map_err(io::Error::other).flatten().map_err(failed("starting"))?;
        let (path, log) = (program.path.clone(), program.log.clone());
        Ok(Self { program: path, log, pid, pidfd, exit: Mutex::new(exit), status: None, keeper: Some(keeper) })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Its resident memory, KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_kib(&self) -> io::Result<u64> {
        self.memory_kib("VmRSS")
    }

    /// A figure of its memory, KiB, such as `RssAnon`: heap and stacks (proc(5), `/proc/pid/status`).
    ///
    /// # Errors
    /// It has ended, or there is no such figure.
    pub fn memory_kib(&self, figure: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.ok_or_else(|| io::Error::other(format!("no {figure}: the process has ended")))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).map_err(|errno| ProcessError {
            doing: "signalling",
            program: self.program.clone(),
            source: errno.into(),
        })
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // pidfd_open(2): readable when the process has ended.
        let mut ready = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Waits for its end, at most `timeout`. `None`: it still runs.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = match self.exit.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(timeout) {
                Ok(status) => Some(status),
                Err(RecvTimeoutError::Timeout) => None,
                // The keeper always reports; raw status 0x7f00 is exit code 127.
                Err(RecvTimeoutError::Disconnected) => Some(ExitStatus::from_raw(0x7f00)),
            };
        }
        self.status
    }

    /// SIGTERM, then SIGKILL when it has not ended after `grace`. Whether it ended by itself with code 0.
    pub fn stop(&mut self, grace: Duration) -> bool {
        // A program that has ended cannot be signalled: the wait tells how it ended.
        let _ = self.signal(Signal::TERM);
        match self.wait(grace) {
            Some(status) => status.success(),
            None => {
                self.kill();
                false
            }
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10));
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.wait(Duration::ZERO).is_none() {
            self.kill();
        }
        if let Some(keeper) = self.keeper.take() {
            // The keeper only waits for the program, which is gone.
            let _ = keeper.join();
        }
        if std::thread::panicking() {
            report(&self.log, 60);
        }
    }
}

/// The last `lines` lines of a log file; empty when it is not there.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]
fn report(log: &Path, lines: usize) {
    eprintln!("--- last {lines} lines of {} ---\n{}\n---", log.display(), tail(log, lines));
}

/// The command that makes the program die with the thread that started it; the program itself where util-linux is not there.
#[must_use]
pub fn through_setpriv(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

type Started = io::Result<(Pid, OwnedFd)>;

fn keep(child: io::Result<Child>, started: &std::sync::mpsc::Sender<Started>, exited: impl FnOnce(ExitStatus)) {
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
    let opened = pidfd.is_ok();
    // The receiver waits for this message before anything else.
    let _ = started.send(pidfd.map(|pidfd| (pid, pidfd)));
    if !opened {
        let _ = child.kill();
    }
    if let Ok(status) = child.wait() {
        exited(status);
    }
}
