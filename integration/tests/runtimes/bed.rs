// SPDX-License-Identifier: Apache-2.0
//! Two nodes with containerd of one line, and what is asked of their pods.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use integration::eventually::eventually;
use integration::netns::Namespace;
use integration::runtimes::containerd::{Containerd, Line, Pod, PodSpec};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::Value;

/// How long the daemon may take to have seen what happened, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of two; containerd ends before the nodes do.
pub(crate) struct Bed {
    pub n1: Containerd,
    pub n2: Containerd,
    pub topology: Topology,
}

/// A pod with a container in it.
pub(crate) struct Running {
    pub pod: Pod,
    pub container: String,
}

impl Bed {
    /// Daemons running, containerd on both.
    pub(crate) fn build(line: Line, instance_type: &str, environment: &[(&str, &str)]) -> Self {
        let mut topology = nodes(instance_type);
        topology.start(environment).unwrap();
        let [n1, n2] = ["n1", "n2"].map(|name| Containerd::start(&topology.world, topology.node(name), line).unwrap());
        Self { n1, n2, topology }
    }

    /// Waits until the daemon of `n1` has given out exactly this many addresses.
    pub(crate) fn wait_allocated(&self, count: u64) {
        wait_allocated(&self.topology, count);
    }

    /// Nothing of any pod is left on `n1`, in the kernel or in the daemon.
    pub(crate) fn no_pod_is_left(&self) {
        self.wait_allocated(0);
        let gone = eventually("the pods' objects are gone", PATIENCE, || {
            let left = self.topology.node("n1").leftovers().unwrap().of_pods();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        gone.unwrap();
    }

    /// The pod's address is one that EC2 has assigned to this node.
    pub(crate) fn is_of_the_vpc(&self, node: &str, address: Ipv4Addr) -> bool {
        self.topology.enis(node).unwrap().iter().any(|eni| eni.secondary.contains(&address))
    }
}

/// Waits until the daemon of `n1`, which may be starting, has given out exactly this many addresses.
pub(crate) fn wait_allocated(topology: &Topology, count: u64) {
    let seen = eventually("addresses given out", PATIENCE, || match topology.node("n1").number("/pool/allocated") {
        Ok(found) if found == count => Ok(()),
        found => Err(format!("{found:?}, not {count}")),
    });
    seen.unwrap();
}

/// Two nodes, their daemons not started.
pub(crate) fn nodes(instance_type: &str) -> Topology {
    let mut spec = TopologySpec::one(instance_type);
    spec.nodes.push(NodeSpec::new("n2", instance_type, Subnet::B));
    Topology::build(&spec).unwrap()
}

/// A pod with a container.
pub(crate) fn run(runtime: &Containerd, name: &str) -> Running {
    let pod = runtime.run_pod(&PodSpec::new(name)).unwrap();
    let container = runtime.run_container(&pod, "main").unwrap();
    Running { pod, container }
}

/// Whether anybody takes a TCP connection.
pub(crate) fn connects(from: &Namespace, to: SocketAddrV4) -> Result<(), String> {
    let connection = from.run(|| TcpStream::connect_timeout(&to.into(), Duration::from_secs(3))).unwrap();
    connection.map(drop).map_err(|error| error.to_string())
}

/// A command in the pod succeeds.
pub(crate) fn succeeds(runtime: &Containerd, pod: &Running, line: &str) -> String {
    let ran = runtime.exec(&pod.container, line).unwrap();
    assert_eq!(ran.code, 0, "{line} in {}: {}", pod.pod.address, ran.output);
    ran.output
}

/// The pod reaches an address.
pub(crate) fn pings(runtime: &Containerd, pod: &Running, to: Ipv4Addr) {
    succeeds(runtime, pod, &format!("ping -c 1 -W 2 {to}"));
}

/// The calls of the plugin on `n1`, from its log: verb, container, namespace path.
pub(crate) fn calls(bed: &Bed) -> Vec<(String, String, String)> {
    let log = std::fs::read_to_string(bed.topology.node("n1").plugin_log()).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended = lines.filter(|line| ["done", "failed"].contains(&line["msg"].as_str().unwrap_or_default()));
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    ended.map(|line| (word(&line, "verb"), word(&line, "container_id"), word(&line, "netns"))).collect()
}
