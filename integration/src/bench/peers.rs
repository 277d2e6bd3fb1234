// SPDX-License-Identifier: Apache-2.0
//! Others' plugins, called as a runtime calls them, each on a node of its own: `ptp` and `bridge` of Debian's
//! `containernetworking-plugins` with `host-local` for addresses, and whichever the environment names.
//!
//! `host-local` keeps addresses in files: these peers ask nobody, and know no ENIs. What another plugin needs besides its
//! binary and its delegates (a daemon, say) is not started; a plugin that writes to /var/lib or /var/log writes into the world's own.
#![expect(clippy::disallowed_methods, reason = "starts others' plugins")]

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::burst::{Call, Failed};
use super::settings::OtherPlugin;
use crate::netns::Namespace;
use crate::sandbox::Sandbox;
use crate::world::World;

/// Pods get addresses from here.
const SUBNET: &str = "10.2.0.0/16";

/// A node whose runtime calls another plugin.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) netns: Namespace,
    program: PathBuf,
    configuration: Value,
    environment: Vec<(String, String)>,
}

/// `ptp`, `bridge`, and the other one if there is one.
pub(super) fn start(world: &World, other: Option<&OtherPlugin>) -> Result<Vec<Peer>, Box<dyn Error>> {
    let ptp = json!({ "type": "ptp", "mtu": 9001 });
    let bridge = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 9001 });
    let mut peers = vec![Peer::of_debian(world, "ptp", ptp)?, Peer::of_debian(world, "bridge", bridge)?];
    if let Some(other) = other {
        ["/var/lib", "/var/log"].into_iter().try_for_each(|folder| world.own(folder))?;
        peers.push(Peer {
            name: format!("other: {}", other.name()),
            netns: node(world, "other")?,
            program: other.program.clone(),
            configuration: other.configuration.clone(),
            environment: other.environment.clone(),
        });
    }
    Ok(peers)
}

fn node(world: &World, name: &str) -> Result<Namespace, Box<dyn Error>> {
    let netns = Namespace::create(&format!("node-{name}"))?;
    world.tools.ip(&netns, "link set lo up\n")?;
    Ok(netns)
}

impl Peer {
    fn of_debian(world: &World, name: &str, mut configuration: Value) -> Result<Self, Box<dyn Error>> {
        let program = crate::node::binary("ENID_CNI_PEERS", &["enid/tools/usr/lib/cni/ptp"])?.with_file_name(name);
        let folder = world.folder(&format!("peer-{name}"))?;
        configuration["cniVersion"] = "1.0.0".into();
        configuration["name"] = name.into();
        let routes = json!([{ "dst": "0.0.0.0/0" }]);
        let folder = folder.display().to_string();
        configuration["ipam"] = json!({ "type": "host-local", "subnet": SUBNET, "routes": routes, "dataDir": folder });
        let (netns, name) = (node(world, name)?, name.to_owned());
        Ok(Self { name, netns, program, configuration, environment: Vec::new() })
    }

    /// ADD, or DEL with the last result, as a runtime makes them (CNI specification 1.0.0, sections 2 and 3).
    pub(super) fn call(&self, verb: &str, sandbox: &Sandbox) -> Result<Call, Failed> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &sandbox.container_id);
        command.env("CNI_NETNS", sandbox.netns.path()).env("CNI_IFNAME", "eth0").env("CNI_ARGS", sandbox.cni_args()?);
        command.env("CNI_PATH", self.program.parent().unwrap_or(&self.program));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut configuration = self.configuration.clone();
        if let Some(previous) = sandbox.last_result().filter(|_| verb == "DEL") {
            configuration["prevResult"] = previous;
        }
        Ok(Call { command, input: configuration.to_string() })
    }
}
