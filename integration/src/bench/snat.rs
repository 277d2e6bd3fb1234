// SPDX-License-Identifier: Apache-2.0
//! What source address translation costs, by packet and by new connection, with 0, 5 and 50 excluded blocks, beside a node where
//! someone else translates (`AWS_VPC_K8S_CNI_EXTERNALSNAT`): pods on secondary ENIs to a peered VPC, in turn.
//!
//! The destination is in none of the excluded blocks. Without translation a packet leaves by the pod's ENI, with it by the
//! primary one; connection tracking, the emulated VPC and the far end are in all figures.

use std::error::Error;
use std::sync::atomic::AtomicUsize;

use super::meter::{Path, measure};
use super::report::{Report, Table};
use crate::outside::{Outside, PEER};
use crate::pods;
use crate::topology::{NodeSpec, Subnet, Topology, TopologySpec};

const INSTANCE_TYPE: &str = "t3.micro";
const ROUNDS: usize = 40;
/// Excluded blocks; `None`: nothing is translated.
const EXCLUDED: [(Option<u8>, &str); 4] =
    [(None, "not translated"), (Some(0), "0 excluded"), (Some(5), "5 excluded"), (Some(50), "50 excluded")];

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let nodes =
        (0..EXCLUDED.len()).map(|number| NodeSpec::new(&format!("n{number}"), INSTANCE_TYPE, Subnet::B)).collect();
    let mut topology = Topology::build(&TopologySpec { nodes, ..TopologySpec::one(INSTANCE_TYPE) })?;
    let outside = Outside::connect(&topology.world.tools, &topology.fabric)?;
    for (node, (excluded, _)) in topology.nodes.iter_mut().zip(EXCLUDED) {
        match excluded {
            None => node.set("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"),
            Some(count) => {
                let blocks: Vec<_> = (0..count).map(|block| format!("100.{}.{block}.0/24", 64 + block)).collect();
                node.set("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", &blocks.join(","));
            }
        }
    }
    topology.start(&[])?;
    let (mut paths, mut all) = (Vec::new(), Vec::new());
    for (node, (_, name)) in topology.nodes.iter().zip(EXCLUDED) {
        let pods = pods::start(node, 2, 1, &AtomicUsize::new(0))?;
        let sender = pods.iter().find(|pod| !pod.on_primary()).ok_or("no pod is on the secondary ENI")?;
        let from = (&sender.sandbox.netns, sender.added.address);
        paths.push(Path::open(name, from, (&outside.netns, PEER))?);
        all.push(pods);
    }
    let rounds = report.settings().rounds(ROUNDS);
    measure(&mut paths, rounds, true)?;
    let mut rows = Vec::new();
    for path in &mut paths {
        let [packet, packet_p10] = [50, 10].map(|percent| path.costs.packet.percentile(percent) * 1e3);
        let [first, first_p10] = [50, 10].map(|percent| path.costs.connection.percentile(percent) * 1e3);
        let figures = [packet, packet_p10, first, first_p10].map(|figure| format!("{figure:.2}"));
        rows.push(std::iter::once(path.name.to_owned()).chain(figures).collect());
    }
    report.table(Table {
        title: "Source address translation, by packet and by new connection".to_owned(),
        note: format!("Pods on secondary ENIs to a peered VPC: {rounds} rounds of 300 packets and 150 connections, the four in turn."),
        columns: ["SNAT", "us a packet p50", "p10", "us a new connection p50", "p10"].map(str::to_owned).to_vec(),
        rows,
    });
    Ok(())
}
