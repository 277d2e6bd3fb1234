// SPDX-License-Identifier: Apache-2.0
//! A node whose pool has room for all that is measured: an m5.24xlarge in prefix mode with 1,500 addresses from the start, so that EC2 is
//! neither waited for nor asked meanwhile. Released addresses rest for a second.

use std::error::Error;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::eventually::{NotYet, eventually};
use crate::node::Node;
use crate::pods::{self, Pod};
use crate::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// Its name.
pub(super) const NAME: &str = "n1";

const ENVIRONMENT: [(&str, &str); 5] = [
    ("ENABLE_PREFIX_DELEGATION", "true"),
    ("MINIMUM_IP_TARGET", "1500"),
    ("WARM_IP_TARGET", "16"),
    ("IP_COOLDOWN_PERIOD", "1"),
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "info"),
];
/// Free addresses when it begins: as good as all of them.
const FREE: usize = 1_480;
/// How soon they must be there, and addresses that rest be back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pods that are made at a time.
pub(super) const AT_ONCE: usize = 8;

/// Builds it and waits for its addresses; `more` is set in its daemon's environment besides.
pub(super) fn start(more: &[(&str, &str)]) -> Result<Topology, Box<dyn Error>> {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new(NAME, "m5.24xlarge", Subnet::C)], ..TopologySpec::one("m5.24xlarge") };
    let mut topology = Topology::build(&spec)?;
    let environment: Vec<_> = ENVIRONMENT.iter().chain(more).copied().collect();
    topology.start(&environment)?;
    filled(topology.node(NAME), FREE)?;
    Ok(topology)
}

/// Waits until so many addresses are free.
pub(super) fn filled(node: &Node, needed: usize) -> Result<(), NotYet> {
    eventually("the pool has an address for each pod to come", PATIENCE, || match node.number("/pool/free") {
        Ok(free) if free >= needed as u64 => Ok(()),
        Ok(free) => Err(format!("{free} are free, {needed} are needed")),
        Err(error) => Err(error.to_string()),
    })
}

/// Adds pods until there are so many.
pub(super) fn raise(node: &Node, present: &mut Vec<Pod>, count: usize) -> Result<(), Box<dyn Error>> {
    let more = count.saturating_sub(present.len());
    present.extend(pods::start(node, more, AT_ONCE, &AtomicUsize::new(0))?);
    Ok(())
}
