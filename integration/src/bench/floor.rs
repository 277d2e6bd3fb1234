// SPDX-License-Identifier: Apache-2.0
//! The floor's node: a namespace of its own, the empty server, and `cni-floor` called like a plugin.
#![expect(clippy::disallowed_methods, reason = "starts the floor's processes")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::burst::Call;
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Program, Running};
use crate::sandbox::Sandbox;
use crate::world::World;

/// Addresses of floor pods count up from here; nobody routes to them.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 0);

/// What a runtime passes on standard input; the floor only reads it.
const CONFIGURATION: &str = r#"{"cniVersion":"1.0.0","name":"floor","type":"cni-floor","mtu":"9001"}"#;

#[derive(Debug)]
pub(super) struct Floor {
    program: PathBuf,
    pub(super) netns: Namespace,
    /// The empty server's.
    pub(super) socket: PathBuf,
    _server: Running,
}

impl Floor {
    pub(super) fn start(world: &World) -> Result<Self, Box<dyn Error>> {
        let program = crate::node::binary("ENID_CNI_FLOOR", &["enid/cni-floor"])?;
        let netns = Namespace::create("floor")?;
        world.tools.ip(&netns, "link set lo up\n")?;
        let folder = world.folder("floor")?;
        let socket = folder.join("floor.sock");
        let arguments = vec!["serve".to_owned(), socket.to_string_lossy().into_owned()];
        let (environment, log) = (BTreeMap::new(), folder.join("server.log"));
        let server = Running::start(&netns, &Program { path: program.clone(), arguments, environment, log })?;
        eventually("the floor's server listens", Duration::from_secs(5), || {
            std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string())
        })?;
        Ok(Self { program, netns, socket, _server: server })
    }

    /// ADD or DEL of a sandbox. It allocates nothing: its pods are numbered, and the number is the address.
    pub(super) fn call(&self, verb: &str, sandbox: &Sandbox, number: u32) -> Call {
        let address = Ipv4Addr::from(u32::from(FIRST) + number);
        let mut command = Command::new(&self.program);
        command.env_clear().env("CNI_COMMAND", verb).env("FLOOR_SOCKET", &self.socket);
        command.env("CNI_NETNS", sandbox.netns.path()).env("FLOOR_ADDRESS", address.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Call { command, input: CONFIGURATION.to_owned() }
    }
}
