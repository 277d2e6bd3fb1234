// SPDX-License-Identifier: Apache-2.0
//! A node whose /etc and /opt are its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::eventually::eventually;
use integration::node::{Node, plugin_binary};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

pub(crate) const PLUGIN: &str = "/opt/cni/bin/aws-cni";
pub(crate) const CONF: &str = "/etc/cni/net.d";
pub(crate) const LIST: &str = "/etc/cni/net.d/10-aws.conflist";

/// How long the daemon may take to write the list, or to look at its folder again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes `n1` and `n2`, the first to be installed; `folders`: those of CNI are there, and no file of the host's in them.
pub(crate) fn nodes(folders: bool) -> Topology {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    prepare(&mut topology, folders);
    topology
}

pub(crate) fn prepare(topology: &mut Topology, folders: bool) {
    ["/etc", "/opt"].iter().for_each(|path| topology.world.own(path).unwrap());
    for folder in ["/etc/cni", "/opt/cni"].iter().filter(|folder| Path::new(folder).exists()) {
        fs::remove_dir_all(folder).unwrap();
    }
    if folders {
        [CONF, "/opt/cni/bin"].iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    }
    let n1 = topology.node_mut("n1");
    n1.set("HOST_CNI_BIN_PATH", "/opt/cni/bin");
    n1.set("HOST_CNI_CONFDIR_PATH", CONF);
}

/// `ipamd install` with further words.
pub(crate) fn install(node: &Node, words: &[&str]) -> String {
    let plugin: PathBuf = plugin_binary().unwrap();
    let plugin = plugin.display().to_string();
    node.ask(&[&["install", "--plugin", &plugin], words].concat()).unwrap()
}

/// Waits for the list: its text.
pub(crate) fn wait_list() -> String {
    let written =
        eventually("the list is written", PATIENCE, || fs::read_to_string(LIST).map_err(|error| error.to_string()));
    written.unwrap()
}
