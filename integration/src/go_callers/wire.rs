// SPDX-License-Identifier: Apache-2.0
//! The contract's peers by gRPC's own implementation: the reference's plugin ([`call`]), its daemon and the network policy agent
//! ([`Peer`]). Messages are JSON with the names of `reference.proto`; what that does not know is counted, and is otherwise skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{GoCallerError, answer, built};
use crate::eventually::eventually;
use crate::node::Node;
use crate::process::{Program, Running};
use crate::world::World;

/// How long a server may take to listen, on a busy machine.
const LISTENING: Duration = Duration::from_secs(10);

/// One call and its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Exchange {
    /// Such as `AddNetwork`.
    #[serde(default)]
    pub method: String,
    /// Every field of it; null at the caller's end.
    #[serde(default)]
    pub request: Value,
    /// Every field of it; null when there was none.
    #[serde(default)]
    pub reply: Value,
    /// gRPC's status, such as `OK` or `FailedPrecondition`.
    pub code: String,
    /// Its words.
    #[serde(default)]
    pub message: String,
    /// Bytes of fields in what the other side sent that `reference.proto` does not have.
    pub unknown: usize,
    /// The pod's link as the agent found it, by the reference's naming.
    #[serde(default)]
    pub host_veth: String,
}

/// Calls a method of the daemon behind `socket`, without a deadline and with a field in the request that it cannot know.
///
/// # Errors
/// The program is not built, or knows no such method. What the daemon answers is in the exchange.
pub fn call(node: &Node, socket: &Path, method: &str, request: &Value) -> Result<Exchange, GoCallerError> {
    let mut command = Command::new(built("wire")?);
    command.env_clear().arg("call").arg(socket).args([method, &request.to_string()]);
    answer(&node.netns, &mut command)
}

/// A server on a node; it ends with this.
#[derive(Debug)]
pub struct Peer {
    running: Running,
    log: PathBuf,
}

impl Peer {
    /// The reference's daemon on the node's socket, with these addresses of the primary ENI; `options` are further flags of it.
    ///
    /// # Errors
    /// It does not start.
    pub fn daemon(world: &World, node: &Node, addresses: &[String], options: &[&str]) -> Result<Self, GoCallerError> {
        let addresses = addresses.join(",");
        let arguments: Vec<&str> = ["-addresses", &addresses].into_iter().chain(options.iter().copied()).collect();
        Self::start(world, node, "daemon", &arguments, "ipamd.sock")
    }

    /// The network policy agent on the node's socket; `options` are flags of it.
    ///
    /// # Errors
    /// It does not start: with `-daemon`, because the daemon has not the configuration for it.
    pub fn agent(world: &World, node: &Node, options: &[&str]) -> Result<Self, GoCallerError> {
        Self::start(world, node, "agent", options, "npa.sock")
    }

    fn start(world: &World, node: &Node, role: &str, arguments: &[&str], socket: &str) -> Result<Self, GoCallerError> {
        let log = world.folder(&node.name)?.join(format!("wire-{role}.log"));
        // Each one's exchanges are its own.
        let _ = std::fs::remove_file(&log);
        let socket = node.state_folder().join(socket);
        let words = [role].into_iter().chain(arguments.iter().copied()).map(str::to_owned);
        let arguments = words.chain([socket.display().to_string()]).collect();
        let program = Program { path: built("wire")?, arguments, environment: BTreeMap::new(), log: log.clone() };
        let running = Running::start(&node.netns, &program)?;
        let listening = eventually("it listens", LISTENING, || {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(true);
            }
            if running.has_ended() { Ok(false) } else { Err(running.log_tail(5)) }
        });
        match listening {
            Ok(true) => Ok(Self { running, log }),
            Ok(false) => Err(GoCallerError::NotServing(running.log_tail(5))),
            Err(error) => Err(GoCallerError::NotServing(error.to_string())),
        }
    }

    /// The calls so far of a method, in their order.
    #[must_use]
    pub fn served(&self, method: &str) -> Vec<Exchange> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let exchanges = log.lines().filter_map(|line| serde_json::from_str::<Exchange>(line).ok());
        exchanges.filter(|exchange| exchange.method == method).collect()
    }

    /// SIGKILL: its socket stays, and nobody listens there.
    pub fn kill(mut self) {
        self.running.kill();
    }
}
