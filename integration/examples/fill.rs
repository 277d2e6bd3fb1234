// SPDX-License-Identifier: Apache-2.0
//! `make fill`: how long a node takes from no pod to 110 and to 232, all asked for at once, with EC2 at 300 ms a call and 5 s an
//! attach (the link half a second later): real daemon, emulated EC2, m5.4xlarge, secondary addresses and prefixes.
//!
//! Two ways of asking. *Plugin*: as many processes of the real plugin as pods, started at the same time, each with a sandbox: what
//! a runtime does, and more than two cores can start in a second. *Daemon*: the same calls over the daemon's socket without a
//! process or a sandbox: what is the daemon's and EC2's alone. A refused ADD is repeated after a second, and counted.
//!
//! Each cell is a new VPC and a new node whose warm pool is full; the median of the rounds is printed (the first argument, 3).

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time and prints")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::sandbox::{NetnsPath, Sandbox};
use integration::topology::{Latency, NodeSpec, READY, Subnet, Topology, TopologySpec};
use ipam_api::client::Client;
use ipam_api::rpc::AddNetworkRequest;

type Failed = Box<dyn Error + Send + Sync>;

const SECONDARY: &[(&str, &str)] = &[("WARM_ENI_TARGET", "1")];
const PREFIXES: &[(&str, &str)] = &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];
/// An ADD's budget (`add` of the plugin).
const BUDGET: Duration = Duration::from_secs(20);

/// Who asks.
#[derive(Clone, Copy)]
enum Asked {
    Plugin,
    Daemon,
}

/// One filled node.
struct Filled {
    took: Duration,
    refused: usize,
    calls: usize,
}

fn main() -> Result<(), Failed> {
    let rounds = std::env::args().nth(1).map_or(Ok(3), |rounds| rounds.parse())?;
    println!("| m5.4xlarge | pods | by the plugin | refused | by the daemon's socket | refused | EC2 calls |");
    println!("|---|---|---|---|---|---|---|");
    for (name, environment) in [("secondary addresses", SECONDARY), ("prefixes", PREFIXES)] {
        for count in [110, 232] {
            let plugin = median(rounds, environment, count, Asked::Plugin)?;
            let daemon = median(rounds, environment, count, Asked::Daemon)?;
            println!(
                "| {name} | {count} | {:.1} s | {} | {:.1} s | {} | {} |",
                plugin.took.as_secs_f64(),
                plugin.refused,
                daemon.took.as_secs_f64(),
                daemon.refused,
                daemon.calls
            );
        }
    }
    Ok(())
}

fn median(rounds: usize, environment: &[(&str, &str)], count: usize, asked: Asked) -> Result<Filled, Failed> {
    let mut all = (0..rounds.max(1)).map(|_| fill(environment, count, asked)).collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|filled| filled.took);
    Ok(all.swap_remove(all.len() / 2))
}

fn fill(environment: &[(&str, &str)], count: usize, asked: Asked) -> Result<Filled, Failed> {
    let latency = Latency { call: Duration::from_millis(300), attach: Duration::from_secs(5), ..Latency::default() };
    let spec = TopologySpec { nodes: vec![NodeSpec::new("n1", "m5.4xlarge", Subnet::B)], latency };
    let mut topology = Topology::build(&spec)?;
    topology.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.latencies.link_ms = 500));
    let node = &mut topology.nodes[0];
    node.set("AWS_VPC_K8S_CNI_LOGLEVEL", "info");
    environment.iter().for_each(|(variable, value)| node.set(variable, value));
    node.start()?;
    node.wait_ready(READY)?;
    settle(node)?;
    let before = topology.emulator.with_model(|vpc, _| vpc.calls().count());
    let node = &topology.nodes[0];
    let refused = AtomicUsize::new(0);
    let started = match asked {
        Asked::Plugin => by_plugin(node, count, &refused)?,
        Asked::Daemon => by_socket(node, count, &refused)?,
    };
    let took = started.elapsed();
    let calls = topology.emulator.with_model(|vpc, _| vpc.calls().count()) - before;
    Ok(Filled { took, refused: refused.into_inner(), calls })
}

/// Until the warm pool is there.
fn settle(node: &Node) -> Result<(), Failed> {
    let warm = || {
        let missing = node.number("/pool/shortfall").and_then(|short| Ok(short + node.number("/pool/coming")?));
        match (missing, node.number("/pool/free")) {
            (Ok(0), Ok(free)) if free > 0 => Ok(()),
            other => Err(format!("{other:?} missing and free")),
        }
    };
    Ok(eventually("the warm pool is full", Duration::from_secs(60), warm)?)
}

/// When the first was asked.
fn by_plugin(node: &Node, count: usize, refused: &AtomicUsize) -> Result<Instant, Failed> {
    let sandboxes: Vec<Sandbox> = (0..count).map(|_| node.next_sandbox()).collect::<Result<_, _>>()?;
    let started = Instant::now();
    at_once(sandboxes.iter(), |sandbox| {
        while let Err(error) = node.runtime.add(sandbox) {
            error.refusal().ok_or_else(|| error.to_string())?;
            refused.fetch_add(1, Ordering::Relaxed);
            node.runtime.del(sandbox, NetnsPath::Given)?;
            pass(Duration::from_secs(1));
        }
        Ok(())
    })?;
    Ok(started)
}

fn by_socket(node: &Node, count: usize, refused: &AtomicUsize) -> Result<Instant, Failed> {
    let socket = PathBuf::from(node.variable("ENID_SOCKET").ok_or("no socket")?);
    let request = |pod: usize| AddNetworkRequest {
        k8s_pod_name: format!("pod-{pod}"),
        k8s_pod_namespace: "default".to_owned(),
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        container_id: format!("{pod:064x}"),
        k8s_pod_infra_container_id: format!("{pod:064x}"),
        netns: format!("/var/run/netns/cni-{pod}"),
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        ..AddNetworkRequest::default()
    };
    let started = Instant::now();
    at_once(0..count, |pod| {
        while !Client::new(&socket).add_network(request(pod), BUDGET)?.success {
            refused.fetch_add(1, Ordering::Relaxed);
            pass(Duration::from_secs(1));
        }
        Ok(())
    })?;
    Ok(started)
}

/// A thread each; the first error.
fn at_once<T: Send>(
    items: impl Iterator<Item = T>,
    work: impl Fn(T) -> Result<(), Failed> + Sync,
) -> Result<(), Failed> {
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = items.map(|item| scope.spawn(move || work(item))).collect();
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}
