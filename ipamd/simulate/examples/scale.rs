// SPDX-License-Identifier: Apache-2.0
//! Prints what a fleet that joins all at once waits for, and what it asks of EC2: ours and the reference, same seed.
//!
//! `cargo run --release -p ipamd-simulate --example scale -- [nodes] [seed] [run,…]`; 5,000 nodes, seed 1 and all runs
//! when not given. Runs: see [`RUNS`]. As many go at once as there are processors. The output is the table of
//! `docs/scale.md`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the edge of a program that prints a table")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use ipamd_core::Config;
use ipamd_core::config::WarmTargets;
use ipamd_simulate::ours::Ours;
use ipamd_simulate::reference::{Reference, Settings, Targets};
use ipamd_simulate::scale::{Fleet, Outcome, run};
use ipamd_simulate::stats::Times;
use vpc_model::ConfigError;

/// What is compared: how it is chosen, and how it is called.
const RUNS: [(&str, &str); 5] = [
    ("adaptive", "ours, nothing set"),
    ("enis", "ours, WARM_ENI_TARGET=1"),
    ("reference-enis", "reference, WARM_ENI_TARGET=1"),
    ("addresses", "ours, WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10"),
    ("reference-addresses", "reference, WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((fleet, runs)) = read(&arguments) else {
        let names = RUNS.map(|(run, _)| run).join(",");
        eprintln!("usage: scale [nodes] [seed] [run,…]\nruns: {names}");
        return ExitCode::from(64);
    };
    match outcomes(&fleet, &runs) {
        Ok(outcomes) => {
            print(&fleet, &outcomes);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the arguments ask for; `None`: nothing that there is.
fn read(arguments: &[String]) -> Option<(Fleet, Vec<(&'static str, &'static str)>)> {
    let number = |index: usize, default: u64| arguments.get(index).map_or(Some(default), |text| text.parse().ok());
    let (nodes, seed) = (u32::try_from(number(0, 5_000)?).ok()?, number(1, 1)?);
    let runs = match arguments.get(2) {
        None => RUNS.to_vec(),
        Some(names) => {
            let known = |name: &str| RUNS.into_iter().find(|(run, _)| *run == name);
            names.split(',').map(known).collect::<Option<_>>()?
        }
    };
    let joining = Duration::from_millis(u64::from(nodes) * 60).max(Duration::from_secs(15));
    Some((Fleet { joining, ..Fleet::of(nodes, seed) }, runs))
}

/// Each run in a thread of its own: a world is big, and knows nothing of the others.
fn outcomes(fleet: &Fleet, runs: &[(&str, &str)]) -> Result<Vec<Outcome>, ConfigError> {
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut outcomes = Vec::new();
    for some in runs.chunks(at_once) {
        let ended: Result<Vec<Outcome>, ConfigError> = std::thread::scope(|scope| {
            let start = |(run, name): &(&str, &str)| {
                let (run, name) = ((*run).to_owned(), (*name).to_owned());
                scope.spawn(move || outcome(&run, &name, fleet))
            };
            let started: Vec<_> = some.iter().map(start).collect();
            started.into_iter().map(|thread| thread.join().expect("a run that panics has said why")).collect()
        });
        outcomes.extend(ended?);
    }
    Ok(outcomes)
}

fn outcome(run: &str, name: &str, fleet: &Fleet) -> Result<Outcome, ConfigError> {
    let (warm_addresses, minimum_addresses) = (5, 10);
    let addresses = WarmTargets::Addresses { warm: warm_addresses, minimum: minimum_addresses };
    match run {
        "adaptive" => ours(name, WarmTargets::Adaptive, fleet),
        "enis" => ours(name, WarmTargets::Enis(1), fleet),
        "addresses" => ours(name, addresses, fleet),
        "reference-addresses" => {
            reference(name, Targets { warm_addresses, minimum_addresses, ..Targets::default() }, fleet)
        }
        _ => reference(name, Targets::default(), fleet),
    }
}

fn ours(name: &str, warm: WarmTargets, fleet: &Fleet) -> Result<Outcome, ConfigError> {
    run(Ours::new(name, Config { warm, ..Config::default() }), fleet).inspect(done)
}

fn reference(name: &str, targets: Targets, fleet: &Fleet) -> Result<Outcome, ConfigError> {
    let settings = Settings { targets, seed: fleet.seed, ..Settings::default() };
    run(Reference::new(name, settings), fleet).inspect(done)
}

fn done(outcome: &Outcome) {
    eprintln!("{}: done", outcome.name);
}

fn print(fleet: &Fleet, outcomes: &[Outcome]) {
    let (nodes, pods, seed) = (fleet.nodes, fleet.pods, fleet.seed);
    let joining = fleet.joining.as_secs();
    println!("{nodes} {} joining within {joining} s, {pods} pods each, seed {seed}.\n", fleet.instance_type);
    println!("Seconds since the first node joined. Ideal, all pods of 100 %: {} s.\n", fleet.ideal().as_secs());
    println!(
        "| | first pod: 50 % | 99 % | 100 % | all pods: 50 % | 99 % | 100 % | a node's own wait: 50 % | 99 % | without |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for outcome in outcomes {
        let three = |times: &Times| [50, 99, 100].map(|part| times.percentile(part).as_secs().to_string()).join(" | ");
        let own = [50, 99].map(|part| outcome.own_wait.percentile(part).as_secs().to_string()).join(" | ");
        let (first, all) = (three(&outcome.first_pod), three(&outcome.all_pods));
        println!("| {} | {first} | {all} | {own} | {} |", outcome.name, outcome.unfinished);
    }
    calls(fleet, "until all nodes have all their pods", outcomes, |outcome| {
        (&outcome.calls_until_done, outcome.throttled_until_done)
    });
    let hours = format!("in {} s", fleet.calls_until.as_secs());
    calls(fleet, &hours, outcomes, |outcome| (&outcome.calls, outcome.throttled));
    println!("\n| | addresses held at the end | ENIs |\n|---|---|---|");
    for outcome in outcomes {
        println!("| {} | {} | {} |", outcome.name, outcome.held, outcome.enis);
    }
}

fn calls<'a>(
    fleet: &Fleet,
    when: &str,
    outcomes: &'a [Outcome],
    of: impl Fn(&'a Outcome) -> (&'a BTreeMap<&'static str, u32>, u32),
) {
    let actions: BTreeSet<&str> = outcomes.iter().flat_map(|outcome| of(outcome).0.keys().copied()).collect();
    let names: Vec<&str> = outcomes.iter().map(|outcome| outcome.name.as_str()).collect();
    println!("\nRequests that EC2 saw {when}.\n\n| | {} | ideal |", names.join(" | "));
    println!("|---|{}---|", "---|".repeat(names.len()));
    for action in actions {
        let numbers = outcomes.iter().map(|outcome| of(outcome).0.get(action).copied().unwrap_or(0).to_string());
        let ideal = if action == "AssignPrivateIpAddresses" { fleet.nodes.to_string() } else { String::new() };
        println!("| {action} | {} | {ideal} |", numbers.collect::<Vec<_>>().join(" | "));
    }
    let all = outcomes.iter().map(|outcome| of(outcome).0.values().sum::<u32>().to_string());
    println!("| **all** | {} | {} |", all.collect::<Vec<_>>().join(" | "), fleet.nodes);
    let throttled = outcomes.iter().map(|outcome| of(outcome).1.to_string());
    println!("| of these throttled | {} | 0 |", throttled.collect::<Vec<_>>().join(" | "));
}
