// SPDX-License-Identifier: Apache-2.0
//! Others' plugins, called as a runtime calls them, with their own programs from Debian's `containernetworking-plugins`: `ptp` and
//! `bridge`, each with `host-local` for addresses, which keeps them in files. They allocate from a file, ask nobody, and know no ENIs.
#![expect(clippy::disallowed_methods, reason = "starts others' plugins and times them")]

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::cold;
use crate::netns::Namespace;
use crate::world::World;

/// Pods get addresses from here.
const SUBNET: &str = "10.2.0.0/16";

/// A node whose runtime calls another plugin.
pub(super) struct Peer {
    pub(super) name: &'static str,
    program: PathBuf,
    netns: Namespace,
    configuration: String,
}

/// A pod of it, plumbed or not.
pub(super) struct PeerPod {
    netns: Namespace,
}

/// `ptp` and `bridge`, each on a node of its own.
pub(super) fn start(world: &World) -> Result<[Peer; 2], Box<dyn Error>> {
    let ptp = json!({ "type": "ptp", "mtu": 9001 });
    let bridge = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 9001 });
    Ok([Peer::start(world, "ptp", ptp)?, Peer::start(world, "bridge", bridge)?])
}

impl Peer {
    fn start(world: &World, name: &'static str, mut configuration: Value) -> Result<Self, Box<dyn Error>> {
        let program = crate::node::binary("ENID_CNI_PEERS", &["enid/tools/usr/lib/cni/ptp"])?.with_file_name(name);
        let netns = Namespace::create(&format!("node-{name}"))?;
        world.tools.ip(&netns, "link set lo up\n")?;
        let folder = world.folder(&format!("peer-{name}"))?;
        configuration["cniVersion"] = "1.0.0".into();
        configuration["name"] = name.into();
        let routes = json!([{ "dst": "0.0.0.0/0" }]);
        configuration["ipam"] = json!({ "type": "host-local", "subnet": SUBNET, "routes": routes, "dataDir": folder.display().to_string() });
        Ok(Self { name, program, netns, configuration: configuration.to_string() })
    }

    /// A pod to be: its namespace is there, its link is not.
    pub(super) fn pod(&self, world: &World, number: usize) -> Result<PeerPod, Box<dyn Error>> {
        let netns = Namespace::create(&format!("{}-{number}", self.name))?;
        world.tools.ip(&netns, "link set lo up\n")?;
        Ok(PeerPod { netns })
    }

    /// One call, from the start of the process to its end.
    pub(super) fn call(&self, verb: &str, pod: &PeerPod) -> Result<Duration, Box<dyn Error + Send + Sync>> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", pod.netns.name());
        command.env("CNI_NETNS", pod.netns.path()).env("CNI_IFNAME", "eth0");
        command.env("CNI_PATH", self.program.parent().unwrap_or(&self.program));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        cold::call(&self.netns, &mut command, self.configuration.as_bytes())
    }
}
