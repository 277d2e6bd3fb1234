// SPDX-License-Identifier: Apache-2.0
//! From no pod to a full m4.4xlarge, all asked for at once, with a slow EC2: how long that takes, and what the daemon holds in
//! memory before and after. Sizes of the programs.
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use super::report::{Report, Table};
use crate::node::Node;
use crate::sandbox::Sandbox;
use crate::topology::{Latency, NodeSpec, Subnet, Topology, TopologySpec};

/// Pods of a full m4.4xlarge: 8 ENIs x 29.
const FULL: usize = 232;
/// Sandboxes that the runtime starts at the same time while filling: all of them, so that only EC2 and we are slow.
const AT_ONCE: usize = FULL;

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let spec = TopologySpec {
        nodes: vec![NodeSpec::new("n1", "m4.4xlarge", Subnet::B)],
        latency: Latency { call: Duration::from_millis(300), attach: Duration::from_secs(5), ..Latency::default() },
    };
    let mut topology = Topology::build(&spec)?;
    let node = &mut topology.nodes[0];
    // The log level is the reference's manifest's.
    node.set("AWS_VPC_K8S_CNI_LOGLEVEL", "info");
    node.start()?;
    node.wait_ready(Duration::from_secs(30))?;
    let mut rows = vec![
        size("plugin (static)", &crate::node::plugin_binary()?)?,
        size("daemon", &crate::node::daemon_binary()?)?,
        memory("daemon, idle, resident", node)?,
    ];
    let start = Instant::now();
    let _pods = fill(node, FULL)?;
    rows.push((
        format!("0 to {FULL} pods, all asked for at once, EC2 300 ms a call, 5 s an attach"),
        format!("{:.1} s", start.elapsed().as_secs_f32()),
    ));
    rows.push(memory(&format!("daemon, {FULL} pods, resident"), node)?);
    report.table(Table {
        title: format!("0 to {FULL} pods on an m4.4xlarge"),
        note: "Once, with the real daemon and the real plugin.".to_owned(),
        columns: vec!["figure".to_owned(), "value".to_owned()],
        rows: rows.into_iter().map(|(figure, value)| vec![figure, value]).collect(),
    });
    Ok(())
}

fn fill(node: &Node, count: usize) -> Result<Vec<Sandbox>, Box<dyn Error>> {
    let sandboxes: Vec<Sandbox> =
        (0..count).map(|pod| node.sandbox(&format!("pod-{pod}"))).collect::<Result<_, _>>()?;
    let queue = std::sync::Mutex::new(sandboxes.iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let worker = || -> Result<(), crate::sandbox::SandboxError> {
        while let Some(sandbox) = next() {
            node.runtime.add(sandbox)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(sandboxes)
}

type Figure = (String, String);

fn size(what: &str, path: &Path) -> Result<Figure, Box<dyn Error>> {
    let bytes = std::fs::metadata(path)?.len();
    Ok((what.to_owned(), format!("{:.2} MB", megabytes(bytes))))
}

/// Resident memory of the daemon.
fn memory(what: &str, node: &mut Node) -> Result<Figure, Box<dyn Error>> {
    let kibibytes = node.daemon().ok_or("the daemon does not run")?.rss_kib()?;
    Ok((what.to_owned(), format!("{:.1} MB", megabytes(kibibytes * 1024))))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
