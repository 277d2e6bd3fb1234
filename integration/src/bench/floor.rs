// SPDX-License-Identifier: Apache-2.0
//! The floor's node: a namespace of its own, the empty server, and `cni-floor` called like a plugin.
#![expect(clippy::disallowed_methods, reason = "starts the floor's processes")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::cold;
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Program, Running};
use crate::world::World;

/// Addresses of floor pods count up from here; nobody routes to them.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 0);

/// What a runtime passes on standard input; the floor only reads it.
const CONFIGURATION: &[u8] = br#"{"cniVersion":"1.0.0","name":"floor","type":"cni-floor","mtu":"9001"}"#;

pub(super) struct Floor {
    program: PathBuf,
    netns: Namespace,
    socket: PathBuf,
    next: AtomicU32,
    _server: Running,
}

pub(super) struct FloorPod {
    netns: Namespace,
    address: Ipv4Addr,
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
        Ok(Self { program, netns, socket, next: AtomicU32::new(1), _server: server })
    }

    /// A pod to be: its namespace is there, its link is not.
    pub(super) fn pod(&self, world: &World) -> Result<FloorPod, Box<dyn Error>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let netns = Namespace::create(&format!("floor-{number}"))?;
        world.tools.ip(&netns, "link set lo up\n")?;
        Ok(FloorPod { netns, address: Ipv4Addr::from(u32::from(FIRST) + number) })
    }

    /// One call, from the start of the process to its end.
    pub(super) fn call(&self, verb: &str, pod: &FloorPod) -> Result<Duration, Box<dyn Error + Send + Sync>> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("CNI_COMMAND", verb).env("FLOOR_SOCKET", &self.socket);
        command.env("CNI_NETNS", pod.netns.path()).env("FLOOR_ADDRESS", pod.address.to_string());
        cold::call(&self.netns, &mut command, CONFIGURATION)
    }
}
