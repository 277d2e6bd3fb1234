// SPDX-License-Identifier: Apache-2.0
//! `vpc-emulator --fabric`: the whole emulated VPC around one command, such as a shell.
//!
//! It serves a [`RunningVpc`] at ports that are the same on every instance, so that one set of exported variables is true on
//! all of them, starts the command in its world, and ends with it. What is in a VPC is `running_vpc`'s; flags are the
//! program's.
//!
//! ```text
//! world's own namespace: COMMAND, EC2 :4599, control API :4598      all on 127.0.0.1
//! node-1, node-2, …      EC2 :4599, IMDS :4600 on 127.0.0.1; whom-do-you-see on <primary address>:80
//! internet               whom-do-you-see on 198.51.100.10:80
//! ```
//!
//! Invariant: what the command leaves behind ends with it, in the background or not (`orphans`), so the world ends too. Killed
//! by SIGKILL, this program takes the command along, but not what that had started.
#![expect(clippy::disallowed_methods, reason = "starts the command and reads the environment it is given")]

mod announce;
mod orphans;
mod whoami;

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::signal::unix::{SignalKind, signal};
use vpc_model::VpcConfig;

use crate::eventually::NotYet;
use crate::fabric::INTERNET_HOST;
use crate::netns::{Namespace, NetnsError};
use crate::process::through_setpriv;
use crate::running_vpc::{Choices, RunningVpc, RunningVpcError, listen};
use crate::world::WorldError;

/// From SIGTERM or SIGHUP, which the command gets too, until it is killed: interactive shells ignore SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// What `make` sets for the harness. The daemon refuses ENID_ variables that it does not know.
const HARNESS: [&str; 8] = [
    "ENID_BUILD",
    "ENID_SDK",
    "ENID_TOOLS",
    "ENID_IPAMD",
    "ENID_CNI_PLUGIN",
    "ENID_CNI_FLOOR",
    "ENID_LOCALSTACK",
    "ENID_MOTO",
];

/// A session that could not be.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// No VPC.
    #[error(transparent)]
    Vpc(#[from] RunningVpcError),
    /// No folder in the world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Something outside the VPC.
    #[error("{doing}")]
    Io {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process that cannot be killed.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// What to run, and where things are.
#[derive(Clone, Debug)]
pub struct Session {
    /// Seed, rp_filter, and the ports of EC2 and IMDS, which must not be 0.
    pub choices: Choices,
    /// Port of the control API on the world's own loopback.
    pub control_port: u16,
    /// The command and its arguments; empty: `$SHELL`, else `/bin/bash`.
    pub command: Vec<OsString>,
}

/// Builds the VPC, runs the command in it and ends everything. The command's exit code; 128 and the signal that killed it.
///
/// Must be called on the process's only thread.
///
/// # Errors
/// The VPC cannot be had, the command cannot be started, or something of it cannot be ended.
pub fn run(config: VpcConfig, session: &Session) -> Result<u8, StandaloneError> {
    let environment = announce::environment(&config.region, &session.choices);
    let blocks = config.vpcs.first().map_or(Vec::new(), |vpc| vpc.cidr_blocks.clone());
    let vpc = RunningVpc::build(config, &session.choices)?;
    serve(&vpc, session)?;
    for instance in &vpc.instances {
        vpc.world.folder(instance.netns.name())?;
    }
    let mut command = command(session);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        // None can be reached from here, and nothing here is behind one.
        command.env_remove(proxy);
    }
    for harness in HARNESS {
        command.env_remove(harness);
    }
    command.envs(environment.clone()).env("PATH", path(&vpc)?);
    announce::announce(&vpc, &blocks, &environment, session.control_port);
    orphans::adopt().map_err(failed("becoming the parent of orphans"))?;
    let status = follow(&vpc, command);
    // EC2 goes first: with it goes everything else that starts and waits for processes.
    let RunningVpc { emulator, runtime, fabric, instances, world } = vpc;
    drop((emulator, runtime));
    let ended = orphans::end_all();
    drop((fabric, instances, world));
    let status = status?;
    ended?;
    Ok(code(status))
}

/// EC2 and control API for the command, and servers that say whom they see.
fn serve(vpc: &RunningVpc, session: &Session) -> Result<(), StandaloneError> {
    let _inside = vpc.runtime.enter();
    let (ec2, _) = listen(session.choices.ec2_port).map_err(failed("listening for EC2"))?;
    let (control, _) = listen(session.control_port).map_err(failed("listening for the control API"))?;
    vpc.emulator.serve_ec2(ec2).map_err(failed("serving EC2"))?;
    vpc.emulator.serve_control(control).map_err(failed("serving the control API"))?;
    let greet = |netns: &Namespace, address: Ipv4Addr| {
        netns.run(|| whoami::listen(address))?.and_then(whoami::serve).map_err(failed("serving HTTP"))
    };
    greet(vpc.fabric.internet(), INTERNET_HOST)?;
    vpc.instances.iter().try_for_each(|instance| greet(&instance.netns, instance.facts.address))
}

fn command(session: &Session) -> Command {
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/bash".into());
    let program = session.command.first().cloned().unwrap_or_else(shell);
    let mut command = through_setpriv(Path::new(&program));
    command.args(session.command.iter().skip(1));
    command
}

/// The inherited PATH, then where `ip` may be, the unpacked tools, and the programs built beside this one.
fn path(vpc: &RunningVpc) -> Result<OsString, StandaloneError> {
    // No instance can be called so.
    let tools = vpc.world.folder(".tools")?;
    vpc.world.tools.write_starters(&tools).map_err(failed("writing starters of ip and nft"))?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let built = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
    let folders = std::env::split_paths(&inherited).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(folders.chain([tools]).chain(built))
        .map_err(|error| failed("making PATH")(io::Error::other(error)))
}

/// Starts the command on this thread, with whose end it would end too, and waits for it.
fn follow(vpc: &RunningVpc, mut command: Command) -> Result<ExitStatus, StandaloneError> {
    let _inside = vpc.runtime.enter();
    let signals = Signals::listen().map_err(failed("listening for signals"))?;
    let named = format!("starting {:?}", command.get_args().last().unwrap_or(command.get_program()));
    let mut child = command.spawn().map_err(failed(&named))?;
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let pidfd = pidfd.map_err(|errno| failed("opening the command's pidfd")(errno.into()))?;
    let forward = tokio::spawn(signals.forward(pidfd));
    let status = child.wait().map_err(failed("waiting for the command"));
    forward.abort();
    status
}

/// The signals that would end this program before the command.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// Typed at the terminal, where the command gets them too and decides: only taken away from this program.
    _typed: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            _typed: [signal(SignalKind::interrupt())?, signal(SignalKind::quit())?],
        })
    }

    /// Gives the command what this program is told, and kills it when it does not listen.
    async fn forward(mut self, command: OwnedFd) {
        let told = tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        };
        for (signal, pause) in [(told, GRACE), (Signal::KILL, Duration::ZERO)] {
            // It may have ended: whoever waits for it ends this task.
            let _ = rustix::process::pidfd_send_signal(&command, signal);
            tokio::time::sleep(pause).await;
        }
    }
}

/// As shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> StandaloneError + use<> {
    let doing = doing.to_owned();
    move |source| StandaloneError::Io { doing, source }
}
