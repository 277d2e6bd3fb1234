// SPDX-License-Identifier: Apache-2.0
//! The processes of a node's containers: a process and mount namespace of their own, in the node's network namespace, so that all of
//! them, whoever has lost sight of them, end with it: at the end of a test, and when the node "reboots".
//!
//! ```text
//! holder (pid 1 of the namespace, waits for orphans) ─ containerd ─ shims ─ containers
//! ```
#![expect(clippy::disallowed_methods, reason = "the harness starts programs")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::{PATH, RuntimesError, failed};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{ProcessError, Program, Running};

/// Waits for ever, and for every orphan, as an init does.
const HOLD: &str = "while :; do sleep 3600 & wait $!; done";

/// How long a process may take to appear.
const APPEARS: Duration = Duration::from_secs(10);

/// A running set of namespaces.
#[derive(Debug)]
pub(super) struct Machine {
    netns: Namespace,
    /// Its pid 1, as seen from here.
    first: Pid,
    /// Ends all with it.
    _holder: Running,
}

impl Machine {
    /// Makes the namespaces.
    pub(super) fn start(netns: &Namespace, log: &Path) -> Result<Self, ProcessError> {
        let spaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let words = spaces.into_iter().chain(["--", "/bin/bash", "-c", HOLD]);
        let holder = Running::start(netns, &program("unshare", words.map(str::to_owned).collect(), log))?;
        let first = child_of(&holder)?;
        Ok(Self { netns: netns.clone(), first, _holder: holder })
    }

    /// Starts a program in them; the second is the program itself, the first what waits for it.
    pub(super) fn run(&self, words: Vec<String>, path: &str, log: &Path) -> Result<(Running, Pid), ProcessError> {
        let mut nsenter = program("nsenter", self.enter().into_iter().chain(words).collect(), log);
        nsenter.environment.insert("PATH".to_owned(), path.to_owned());
        let running = Running::start(&self.netns, &nsenter)?;
        let child = child_of(&running)?;
        Ok((running, child))
    }

    /// Runs a program in them to its end: what it printed.
    pub(super) fn output(&self, words: &[String], environment: &[(&str, &str)]) -> Result<String, RuntimesError> {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(self.enter()).args(words).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
        let doing = words.join(" ");
        let output = self.netns.run(|| command.output())?.map_err(failed(&format!("running {doing}")))?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let said = format!("{printed} {}", String::from_utf8_lossy(&output.stderr).trim());
        Err(RuntimesError::Command { command: doing, said })
    }

    /// Shows `folder` at a path below /etc or /opt, which the host need not have: what is above it becomes the machine's own, over the
    /// host's. `own` is for what is written there. Once is enough.
    pub(super) fn show(&self, folder: &Path, path: &str, own: &Path) -> Result<(), RuntimesError> {
        let top = Path::new(path).iter().take(2).collect::<PathBuf>();
        let (top, own, folder) = (top.display(), own.display(), folder.display());
        let script = format!(
            "mountpoint -q {path} && exit; mkdir -p {own}/upper {own}/work\n\
             mount -t overlay overlay -o lowerdir={top},upperdir={own}/upper,workdir={own}/work {top}\n\
             mkdir -p {path} && mount --bind {folder} {path}"
        );
        let words = ["/bin/bash", "-ec", &script].map(str::to_owned);
        self.output(&words, &[("PATH", PATH)]).map(drop)
    }

    /// nsenter's arguments.
    fn enter(&self) -> Vec<String> {
        let target = self.first.as_raw_nonzero().to_string();
        ["--target", &target, "--pid", "--mount", "--"].map(str::to_owned).to_vec()
    }
}

fn program(name: &str, arguments: Vec<String>, log: &Path) -> Program {
    let path = Path::new("/usr/bin").join(name);
    let environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    Program { path, arguments, environment, log: log.to_owned() }
}

/// The one child of a program that forks once.
fn child_of(running: &Running) -> Result<Pid, ProcessError> {
    let pid = running.pid();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let child = eventually("the program is there", APPEARS, || {
        let text = std::fs::read_to_string(&children).map_err(|error| error.to_string())?;
        let first = text.split_whitespace().next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
        first.ok_or_else(|| format!("no child of {pid}: {}", running.log_tail(5)))
    });
    child.map_err(|error| ProcessError {
        doing: "starting what is run by",
        program: PathBuf::from(format!("process {pid}")),
        source: io::Error::other(error.to_string()),
    })
}

/// SIGKILL to a program of the machine, whose end its [`Running`] then sees.
pub(super) fn kill(pid: Pid) {
    // It may have ended already.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}
