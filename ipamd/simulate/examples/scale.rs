// SPDX-License-Identifier: Apache-2.0
//! Prints what a fleet that joins all at once waits for, and what it asks of EC2: ours and the reference, same seed.
//!
//! `cargo run --release -p ipamd-simulate --example scale -- [nodes] [seed]`; 5,000 nodes and seed 1 when not given. The
//! output is the table of `docs/scale.md`.
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

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Some(default), |text| text.parse().ok());
    let (Some(nodes), Some(seed)) = (number(5_000).and_then(|nodes| u32::try_from(nodes).ok()), number(1)) else {
        eprintln!("usage: scale [nodes] [seed]");
        return ExitCode::from(64);
    };
    let joining = Duration::from_millis(u64::from(nodes) * 60).max(Duration::from_secs(15));
    let fleet = Fleet { joining, ..Fleet::of(nodes, seed) };
    match outcomes(&fleet) {
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

/// Each strategy in a thread of its own: a world is big, and knows nothing of the others.
fn outcomes(fleet: &Fleet) -> Result<Vec<Outcome>, ConfigError> {
    let (warm_addresses, minimum_addresses) = (5, 10);
    let addresses = WarmTargets::Addresses { warm: warm_addresses, minimum: minimum_addresses };
    let by_address = Targets { warm_addresses, minimum_addresses, ..Targets::default() };
    std::thread::scope(|scope| {
        let started = [
            scope.spawn(|| ours("ours, nothing set", WarmTargets::Adaptive, fleet)),
            scope.spawn(|| ours("ours, WARM_ENI_TARGET=1", WarmTargets::Enis(1), fleet)),
            scope.spawn(|| reference("reference, WARM_ENI_TARGET=1", Targets::default(), fleet)),
            scope.spawn(|| ours("ours, WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10", addresses, fleet)),
            scope.spawn(|| reference("reference, WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10", by_address, fleet)),
        ];
        started.into_iter().map(|thread| thread.join().expect("a run that panics has said why")).collect()
    })
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
