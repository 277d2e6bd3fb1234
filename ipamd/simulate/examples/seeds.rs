// SPDX-License-Identifier: Apache-2.0
//! Lives seeds: `seeds run FIRST COUNT`, `seeds soak SECONDS`, `seeds replay SEED [all]`.
//!
//! Prints the distribution of what the seeds held, and for each that broke an invariant a short account. On both cores; a
//! seed is lived by one thread, so a number always gives the same life.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time and prints")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipamd_simulate::seed::{self, Distribution};

/// Broken seeds whose account is printed; the others are named.
const ACCOUNTS: usize = 3;

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let distribution = match words.as_slice() {
        ["run", first, count] => match (number(first), number(count)) {
            (Some(first), Some(count)) => many(first, first + count, Duration::from_secs(86_400)),
            _ => return usage(),
        },
        ["soak", seconds] => match number(seconds) {
            // Seeds that `make test` does not live.
            Some(seconds) => many(1_000_000, u64::MAX, Duration::from_secs(seconds)),
            None => return usage(),
        },
        ["replay", seed] => match number(seed) {
            Some(seed) => {
                println!("{}", seed::account(seed, None));
                return std::process::ExitCode::SUCCESS;
            }
            None => return usage(),
        },
        ["replay", seed, "all"] => match number(seed) {
            Some(seed) => {
                println!("{}", seed::whole_trace(seed, None));
                return std::process::ExitCode::SUCCESS;
            }
            None => return usage(),
        },
        _ => return usage(),
    };
    report(&distribution)
}

fn usage() -> std::process::ExitCode {
    println!("usage: seeds run FIRST COUNT | seeds soak SECONDS | seeds replay SEED [all]");
    std::process::ExitCode::from(64)
}

fn many(first: u64, end: u64, most: Duration) -> Distribution {
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut distribution = Distribution::default();
        while started.elapsed() < most {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            distribution.add(seed::live(seed, None));
        }
        distribution
    };
    let mut all = Distribution::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            all.join(worker.join().expect("a seed must not panic"));
        }
    });
    println!("{:.1} s on {threads} threads", started.elapsed().as_secs_f64());
    all
}

fn report(distribution: &Distribution) -> std::process::ExitCode {
    println!("{distribution}");
    if distribution.broken.is_empty() {
        return std::process::ExitCode::SUCCESS;
    }
    for broken in distribution.broken.iter().take(ACCOUNTS) {
        println!("{}", seed::account(broken.seed, None));
    }
    for broken in &distribution.broken {
        if let Some(violation) = &broken.violation {
            println!("seed {}: {violation}", broken.seed);
        }
    }
    println!("replay one with: make simulate SEED=n");
    std::process::ExitCode::FAILURE
}
