// SPDX-License-Identifier: Apache-2.0
//! How soon a daemon serves: from its start to the first ADD that is answered from the journal of a node with 250 pods, and to STATUS saying
//! that an ADD could succeed, there and on a node about which nothing is written down.
//!
//! The ADD is a call over the socket, without plugin and plumbing, and is given back. STATUS is the plugin's, started again and again;
//! what it needs itself is in the figure. It goes by a marker that is not withdrawn as long as the machine runs, so that is taken away before.
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock and takes a file away")]

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipam_api::client::Client;
use ipam_api::rpc::AddNetworkRequest;

use super::figures::Series;
use super::report::{Goal, Report, Table, short};
use super::roomy;
use crate::eventually::pass;
use crate::node::Node;

const PRESENT: usize = 250;
const ROUNDS: usize = 10;
/// The first ADD is served by then.
const SERVED_MS: f64 = 100.0;
/// Time between two looks: what it adds to a figure, at most.
const STEP: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a daemon is ended: what the last round has set off is over.
const QUIET: Duration = Duration::from_secs(1);

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let rounds = report.settings().rounds(ROUNDS);
    let mut topology = roomy::start(&[])?;
    let node = topology.node_mut(roomy::NAME);
    let mut unknown = Series::default();
    for _ in 0..rounds {
        stop(node)?;
        node.lose_state()?;
        let start = Instant::now();
        node.start()?;
        unknown.push(until(start, || node.runtime.status().map(drop))?);
        node.wait_answers(PATIENCE)?;
    }
    roomy::filled(node, PRESENT)?;
    let mut present = Vec::new();
    roomy::raise(node, &mut present, PRESENT)?;
    let (mut served, mut ready) = (Series::default(), Series::default());
    for round in 0..rounds {
        stop(node)?;
        served.push(first_add(node, round)?);
        stop(node)?;
        fs::remove_file(node.state_folder().join("ready"))?;
        let start = Instant::now();
        node.start()?;
        ready.push(until(start, || node.runtime.status().map(drop))?);
    }
    tell(report, rounds, &[served, ready, unknown]);
    Ok(())
}

fn stop(node: &mut Node) -> Result<(), String> {
    pass(QUIET);
    if node.stop() { Ok(()) } else { Err("the daemon did not end by itself".to_owned()) }
}

/// Starts the daemon: how long until an ADD is answered.
fn first_add(node: &mut Node, round: usize) -> Result<Duration, Box<dyn Error>> {
    let socket = node.state_folder().join("ipamd.sock");
    let container_id = format!("{:032x}{round:032x}", std::process::id());
    let add = AddNetworkRequest {
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        k8s_pod_name: format!("first-{round}"),
        k8s_pod_namespace: "default".to_owned(),
        k8s_pod_infra_container_id: container_id.clone(),
        container_id,
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        netns: format!("/var/run/netns/first-{round}"),
        ..AddNetworkRequest::default()
    };
    let del = add.del();
    let start = Instant::now();
    node.start()?;
    until(start, || UnixStream::connect(&socket).map(drop))?;
    let client = Client::new(&socket);
    let reply = client.add_network(add, PATIENCE)?;
    let took = start.elapsed();
    if !reply.success {
        return Err(format!("the first ADD was refused: {reply:?}").into());
    }
    client.del_network(del, PATIENCE)?;
    Ok(took)
}

/// How long after `start` it was that `look` found what it looks for.
fn until<E: Error + Send + Sync + 'static>(
    start: Instant,
    mut look: impl FnMut() -> Result<(), E>,
) -> Result<Duration, io::Error> {
    loop {
        match look() {
            Ok(()) => return Ok(start.elapsed()),
            Err(error) if start.elapsed() > PATIENCE => return Err(io::Error::other(error)),
            Err(_) => pass(STEP),
        }
    }
}

fn tell(report: &mut Report, rounds: usize, [served, ready, unknown]: &[Series; 3]) {
    report.goal(Goal {
        name: format!("start of the daemon to the first ADD served from its journal, {PRESENT} pods present, p50"),
        measured: served.percentile(50),
        limit: SERVED_MS,
        unit: "ms",
    });
    let row = |what: &str, series: &Series| {
        let mut cells = vec![what.to_owned()];
        cells.extend([50, 90, 100].map(|percent| short(series.percentile(percent))));
        cells
    };
    let rows = vec![
        row(&format!("{PRESENT} pods: the first ADD is answered from the journal"), served),
        row(&format!("{PRESENT} pods: STATUS succeeds"), ready),
        row("no pod, nothing written down, EC2 at once: STATUS succeeds", unknown),
    ];
    report.table(Table {
        title: "From the start of the daemon's process".to_owned(),
        note: format!("{rounds} starts of each; an m5.24xlarge in prefix mode with 1,500 addresses."),
        columns: ["until", "p50, ms", "p90, ms", "longest, ms"].map(str::to_owned).to_vec(),
        rows,
    });
}
