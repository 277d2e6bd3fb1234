// SPDX-License-Identifier: Apache-2.0
//! A minute of twenty pods a second on a big node whose daemon is ended every two seconds, by request and by kill -9 in turn.
//!
//! Invariants: every ADD succeeds; an address has one holder and rests its whole cooldown; at the end nothing is left in the
//! journal, in the kernel, among the tombstones or in EC2 that should not be.
//!
//! m5.24xlarge: 15 ENIs x 50 addresses. Worked example: 20 pods a second that live for a second and rest for ten hold some
//! 220 addresses, five ENIs' worth.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed; paces calls by the clock; prints the figures"
)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::holdings::{Holding, check_rests};
use integration::node::{Node, STATE_FILES};
use integration::sandbox::{NetnsPath, Runtime, Sandbox};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use integration::world::World;
use serde_json::Value;

const LOAD: Duration = Duration::from_secs(60);
const PODS: u32 = 1_200;
const RESTART_EVERY: Duration = Duration::from_secs(2);
const COOLDOWN: Duration = Duration::from_secs(10);
/// How long a pod lives.
const LIFE: Duration = Duration::from_secs(1);
/// Pods at work at one time: more than live in the second that each has, since an ADD may wait for the daemon.
const WORKERS: usize = 60;

/// What became of the pods.
#[derive(Default)]
struct Tally {
    /// Each with how long its ADD took.
    holdings: Mutex<Vec<(Holding, Duration)>>,
    failures: Mutex<Vec<String>>,
}

/// One pod's life; a runtime repeats the DEL without the namespace.
fn live(world: &World, runtime: &Runtime, number: u32, tally: &Tally) {
    let sandbox = Sandbox::create(&world.tools, &format!("load-{number}")).unwrap();
    match runtime.add(&sandbox) {
        Ok(added) => {
            let at = Instant::now();
            pass(LIFE);
            let holding = Holding { address: added.address, added: at, deleting: Instant::now() };
            tally.holdings.lock().unwrap().push((holding, added.took));
        }
        Err(error) => tally.failures.lock().unwrap().push(error.to_string()),
    }
    for netns in [NetnsPath::Given, NetnsPath::Empty] {
        if let Err(error) = runtime.del(&sandbox, netns) {
            tally.failures.lock().unwrap().push(error.to_string());
        }
    }
}

/// Ends and starts the daemon until `done`; how often.
fn restart_again_and_again(node: &mut Node, start: Instant, done: &AtomicBool) -> u32 {
    for round in 1.. {
        while Instant::now() < start + RESTART_EVERY * round {
            if done.load(Ordering::Relaxed) {
                return round - 1;
            }
            pass(Duration::from_millis(5));
        }
        if round % 2 == 0 {
            node.kill();
        } else {
            assert!(node.stop(), "SIGTERM did not end it with success");
        }
        node.start().unwrap();
    }
    0
}

/// Starts a pod each 50 ms on its turn, or as soon as a worker is free; how often the daemon was ended meanwhile.
fn load(topology: &mut Topology, tally: &Tally) -> u32 {
    let runtime = topology.node("n1").runtime.clone();
    let Topology { nodes, world, .. } = topology;
    let (next, done, start) = (AtomicU32::new(0), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= PODS {
                            return;
                        }
                        pass((start + LOAD / PODS * number).saturating_duration_since(Instant::now()));
                        live(world, &runtime, number, tally);
                    }
                })
            })
            .collect();
        let restarts = scope.spawn(|| restart_again_and_again(&mut nodes[0], start, &done));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
        restarts.join().unwrap()
    })
}

/// Nothing of a pod in the kernel, the journal or the tombstones, and EC2 and the daemon have the same addresses.
fn check_leaks(topology: &Topology) {
    let n1 = topology.node("n1");
    let clean = eventually("nothing of a pod is left", Duration::from_secs(20), || {
        let left = n1.leftovers().map_err(|error| error.to_string())?.of_pods();
        let allocated = n1.number("/pool/allocated").map_err(|error| error.to_string())?;
        let [tombstones, ports] = ["tombstones", "hostports"].map(|folder| names(&n1.state_folder().join(folder)));
        if left.is_empty() && allocated == 0 && tombstones.is_empty() && ports.is_empty() {
            return Ok(());
        }
        Err(format!("{left}; {allocated} allocated; tombstones {tombstones:?}; host ports {ports:?}"))
    });
    clean.unwrap();
    let journal: Value = serde_json::from_slice(&fs::read(n1.state_folder().join("ipam.json")).unwrap()).unwrap();
    assert_eq!(journal["allocations"], Value::Array(Vec::new()));
    let found = names(&n1.state_folder());
    assert!(found.iter().all(|name| STATE_FILES.contains(&name.as_str())), "{found:?}");
    let same = eventually("EC2 and the daemon have the same addresses", Duration::from_secs(10), || {
        let enis = topology.enis("n1").map_err(|error| error.to_string())?;
        let assigned: BTreeSet<String> = enis.iter().flat_map(|eni| &eni.secondary).map(ToString::to_string).collect();
        let status = n1.status().map_err(|error| error.to_string())?;
        let known = status["addresses"].as_array().into_iter().flatten();
        let known: BTreeSet<String> = known.filter_map(|entry| Some(entry["address"].as_str()?.to_owned())).collect();
        let (unattached, attached) = (topology.unattached_enis(), enis.len());
        if assigned == known && unattached == 0 {
            return Ok(attached);
        }
        Err(format!("EC2 {}, the daemon {}, ENIs unattached {unattached}", assigned.len(), known.len()))
    });
    println!("ENIs at the end: {}", same.unwrap());
}

fn names(folder: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn twenty_pods_a_second_for_a_minute_while_the_daemon_is_ended_every_two_seconds_lose_nothing() {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new("n1", "m5.24xlarge", Subnet::B)], ..TopologySpec::one("m5.24xlarge") };
    let mut topology = Topology::build(&spec).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "10"), ("WARM_ENI_TARGET", "2")]).unwrap();
    let tally = Tally::default();
    let start = Instant::now();
    let restarts = load(&mut topology, &tally);
    let took = start.elapsed();

    let failures = tally.failures.into_inner().unwrap();
    let (holdings, mut times): (Vec<Holding>, Vec<Duration>) = tally.holdings.into_inner().unwrap().into_iter().unzip();
    times.sort();
    let quantile = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let addresses: BTreeSet<_> = holdings.iter().map(|holding| holding.address).collect();
    println!(
        "{} ADDs in {took:.1?} with {restarts} restarts: p50 {:.1?}, p99 {:.1?}, longest {:.1?}; {} addresses; {} failed",
        times.len(),
        quantile(50),
        quantile(99),
        times.last().copied().unwrap_or_default(),
        addresses.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{} calls failed, first {:?}", failures.len(), failures.first());
    assert!(restarts >= 25, "the daemon was ended {restarts} times only");
    assert!(took < LOAD + LOAD / 2, "the machine is too slow for this load: {took:?}");
    check_rests(holdings, COOLDOWN).unwrap();
    topology.node("n1").wait_ready(READY).unwrap();
    check_leaks(&topology);
}
