// SPDX-License-Identifier: Apache-2.0
//! What a kubelet waits for: RunPodSandbox and StopPodSandbox of a real containerd, with Enid and with Debian's `ptp` and `host-local`,
//! one at a time and several at once.
//!
//! Two nodes, each with a containerd of the same line of its own: `n1` has the daemon and the plugin, `n2` no daemon and a list of `ptp`.
//! They are asked in turn, and who is first changes from round to round.
//! What containerd itself does (a snapshot, cgroups, the pause container by runc) is in both; the difference is
//! the plugins'. Ours has the addresses that it gives out: EC2 is never waited for.
//!
//! ```text
//! RunPodSandbox ─► containerd: namespace, ADD of `loopback` and the list's plugins, snapshot, runc create + start
//! StopPodSandbox ─► containerd: kill, DEL, namespace gone
//! ```
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock and lays down files")]

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::figures::Series;
use super::report::{Report, Table};
use crate::eventually::{NotYet, eventually};
use crate::node::Node;
use crate::runtimes::RuntimesError;
use crate::runtimes::containerd::{Containerd, Line, Pod, PodSpec};
use crate::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use crate::world::World;

/// Sandboxes of each, one at a time.
const ONE_BY_ONE: usize = 50;
/// At once, and how often.
const AT_ONCE: usize = 8;
const STORMS: usize = 7;
/// Addresses that are free before sandboxes are counted: as many as there are sandboxes at a time.
const NEEDED: usize = if ONE_BY_ONE > STORMS * AT_ONCE { ONE_BY_ONE } else { STORMS * AT_ONCE };
/// How soon they must be: two ENIs at most, and addresses of the round before that rest.
const FILLED: Duration = Duration::from_secs(120);
/// Calls of each that are not counted: the first ones read programs from the disk.
const WARM_UP: usize = 3;

/// Times of one kind of call: Enid's, `ptp`'s.
type Pair = [Series; 2];

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let nodes = [("n1", Subnet::C), ("n2", Subnet::B)].map(|(name, subnet)| NodeSpec::new(name, "m5.24xlarge", subnet));
    let mut topology = Topology::build(&TopologySpec { nodes: nodes.into(), ..TopologySpec::one("m5.24xlarge") })?;
    with_ptp(&topology.world, &mut topology.nodes[1])?;
    let node = &mut topology.nodes[0];
    let environment = [
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("WARM_PREFIX_TARGET", "8"),
        ("IP_COOLDOWN_PERIOD", "1"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "info"),
    ];
    environment.iter().for_each(|(variable, value)| node.set(variable, value));
    node.start()?;
    node.wait_ready(crate::topology::READY)?;
    let start = |node: &Node| Containerd::start(&topology.world, node, Line::Two);
    let both = [start(&topology.nodes[0])?, start(&topology.nodes[1])?];
    let mut rows = Vec::new();
    storms(&both, WARM_UP, 1, 0)?;
    filled(&topology.nodes[0])?;
    let (mut runs, mut stops) = storms(&both, ONE_BY_ONE, 1, 1_000)?;
    rows.push(row("RunPodSandbox", 1, ONE_BY_ONE, &mut runs));
    rows.push(row("StopPodSandbox", 1, ONE_BY_ONE, &mut stops));
    filled(&topology.nodes[0])?;
    let (mut runs, mut stops) = storms(&both, STORMS, AT_ONCE, 2_000)?;
    rows.push(row("RunPodSandbox", AT_ONCE, STORMS * AT_ONCE, &mut runs));
    rows.push(row("StopPodSandbox", AT_ONCE, STORMS * AT_ONCE, &mut stops));
    let columns = [
        "call",
        "at once",
        "of each",
        "enid p50 / p99, ms",
        "ptp + host-local p50 / p99, ms",
        "ratio p50",
        "ratio p99",
    ];
    report.table(Table {
        title: "Sandboxes of a real containerd".to_owned(),
        note: format!("containerd {} with runc, two of them in turn.", both[0].version()?),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    });
    Ok(())
}

/// Waits until no ADD will have to wait for EC2.
fn filled(node: &Node) -> Result<(), NotYet> {
    eventually("the pool has an address for each sandbox", FILLED, || match node.number("/pool/free") {
        Ok(free) if free >= NEEDED as u64 => Ok(()),
        Ok(free) => Err(format!("{free} are free, {NEEDED} are needed")),
        Err(error) => Err(error.to_string()),
    })
}

/// A folder of plugins and a list with `ptp`, as an operator would lay them down.
fn with_ptp(world: &World, node: &mut Node) -> Result<(), Box<dyn Error>> {
    let ptp = crate::node::binary("ENID_CNI_PEERS", &["enid/tools/usr/lib/cni/ptp"])?;
    let (plugins, conf, data) = (world.folder("ptp-bin")?, world.folder("ptp-conf")?, world.folder("ptp-data")?);
    for name in ["ptp", "host-local"] {
        fs::copy(ptp.with_file_name(name), plugins.join(name))?;
    }
    let ipam = json!({
        "type": "host-local", "subnet": "10.99.0.0/16", "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": data.display().to_string()
    });
    let list =
        json!({ "cniVersion": "1.0.0", "name": "ptp", "plugins": [{ "type": "ptp", "mtu": 9001, "ipam": ipam }] });
    fs::write(conf.join("10-ptp.conflist"), list.to_string())?;
    node.set("HOST_CNI_BIN_PATH", &plugins.display().to_string());
    node.set("HOST_CNI_CONFDIR_PATH", &conf.display().to_string());
    Ok(())
}

/// So many rounds of so many at once: all of them run, then all of them stop, each runtime in turn, the second one first in
/// every other round. What was stopped is removed.
fn storms(both: &[Containerd; 2], rounds: usize, at_once: usize, first: usize) -> Result<(Pair, Pair), Box<dyn Error>> {
    let (mut runs, mut stops) = (Pair::default(), Pair::default());
    let mut pods: [Vec<Pod>; 2] = Default::default();
    for round in 0..rounds {
        for at in [round % 2, (round + 1) % 2] {
            let runtime = &both[at];
            let names: Vec<_> = (0..at_once).map(|pod| format!("pod-{}", first + round * at_once + pod)).collect();
            for (pod, took) in in_parallel(&names, |name| timed(|| runtime.run_pod(&PodSpec::new(name))))? {
                runs[at].push(took);
                pods[at].push(pod);
            }
        }
    }
    for round in 0..rounds {
        for at in [round % 2, (round + 1) % 2] {
            let runtime = &both[at];
            let some = &pods[at][round * at_once..(round + 1) * at_once];
            for ((), took) in in_parallel(some, |pod| timed(|| runtime.stop_pod(pod)))? {
                stops[at].push(took);
            }
        }
    }
    for (runtime, pods) in both.iter().zip(&pods) {
        pods.iter().try_for_each(|pod| runtime.remove_pod(pod))?;
    }
    Ok((runs, stops))
}

/// A call, and how long it took. Of RunPodSandbox the question for the address, a fraction of a millisecond, is in it.
fn timed<T>(call: impl FnOnce() -> Result<T, RuntimesError>) -> Result<(T, Duration), RuntimesError> {
    let start = Instant::now();
    call().map(|answer| (answer, start.elapsed()))
}

/// Every one on a thread of its own.
fn in_parallel<I: Sync, T: Send>(
    all: &[I],
    work: impl Fn(&I) -> Result<T, RuntimesError> + Sync,
) -> Result<Vec<T>, RuntimesError> {
    let work = &work;
    std::thread::scope(|scope| {
        let workers: Vec<_> = all.iter().map(|one| scope.spawn(move || work(one))).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

fn row(call: &str, at_once: usize, of_each: usize, [ours, ptp]: &mut Pair) -> Vec<String> {
    let ([our_half, our_most], [half, most]) =
        ([50, 99].map(|percent| ours.percentile(percent)), [50, 99].map(|percent| ptp.percentile(percent)));
    vec![
        call.to_owned(),
        at_once.to_string(),
        of_each.to_string(),
        format!("{our_half:.1} / {our_most:.1}"),
        format!("{half:.1} / {most:.1}"),
        format!("{:.2}", our_half / half),
        format!("{:.2}", our_most / most),
    ]
}
