// SPDX-License-Identifier: Apache-2.0
//! One node with its daemon, and libcni with one network list or another.

use std::fs;
use std::time::Duration;

use integration::eventually::eventually;
use integration::go_callers::libcni::Libcni;
use integration::topology::{Topology, TopologySpec};
use serde_json::{Value, json};

/// How long the daemon may take to have seen what happened, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node, its daemon not started.
pub(crate) fn node() -> Topology {
    Topology::build(&TopologySpec::one("m5.large")).unwrap()
}

/// A node whose daemon is ready; an address that comes back is free at once.
pub(crate) fn ready_node(environment: &[(&str, &str)]) -> Topology {
    let mut topology = node();
    let variables: Vec<_> = [("IP_COOLDOWN_PERIOD", "0")].into_iter().chain(environment.iter().copied()).collect();
    topology.start(&variables).unwrap();
    topology
}

/// libcni on the node with the list as it is shipped.
pub(crate) fn shipped(topology: &Topology) -> Libcni {
    Libcni::new(&topology.world, topology.node("n1"), "shipped", &conflist(topology)).unwrap()
}

/// With the same list of one version.
pub(crate) fn of_version(topology: &Topology, version: &str) -> Libcni {
    with_list(topology, version, version, &[])
}

/// With the list of one version and further plugins after ours.
pub(crate) fn with_list(topology: &Topology, name: &str, version: &str, chained: &[Value]) -> Libcni {
    let mut list = conflist(topology);
    list.as_object_mut().unwrap().remove("cniVersions");
    list["cniVersion"] = json!(version);
    list["plugins"].as_array_mut().unwrap().extend(chained.iter().cloned());
    Libcni::new(&topology.world, topology.node("n1"), name, &list).unwrap()
}

fn conflist(topology: &Topology) -> Value {
    topology.node("n1").runtime.conflist().unwrap()
}

/// Waits until the daemon has given out exactly this many addresses.
pub(crate) fn wait_allocated(topology: &Topology, count: u64) {
    let seen = eventually("addresses given out", PATIENCE, || match topology.node("n1").number("/pool/allocated") {
        Ok(found) if found == count => Ok(()),
        found => Err(format!("{found:?}, not {count}")),
    });
    seen.unwrap();
}

/// The verbs that the plugin was called with so far, and for which container, from its log.
pub(crate) fn calls(topology: &Topology) -> Vec<(String, String)> {
    let log = fs::read_to_string(topology.node("n1").plugin_log()).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended = lines.filter(|line| ["done", "failed"].contains(&line["msg"].as_str().unwrap_or_default()));
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    ended.map(|line| (word(&line, "verb"), word(&line, "container_id"))).collect()
}
