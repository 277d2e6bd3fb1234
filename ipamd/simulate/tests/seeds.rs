// SPDX-License-Identifier: Apache-2.0
//! The fixed budget of seeds that every change of the core has to live: 20,000, in two halves so that both cores work.
//!
//! Each prints the distribution of what its seeds held. A seed that breaks an invariant is accounted for; `make simulate
//! SEED=n` lives it again.

#![expect(clippy::print_stdout, reason = "what is printed is what the run is for")]

use ipamd_simulate::seed::{self, Distribution};

/// Seeds of the budget.
const SEEDS: u64 = 20_000;
/// Broken seeds whose account is printed.
const ACCOUNTS: usize = 2;

fn live(first: u64) {
    let mut distribution = Distribution::default();
    for seed in (first..SEEDS).step_by(2) {
        distribution.add(seed::live(seed, None));
    }
    println!("{distribution}");
    for broken in distribution.broken.iter().take(ACCOUNTS) {
        println!("{}", seed::account(broken.seed, None));
    }
    let broken: Vec<String> = distribution
        .broken
        .iter()
        .filter_map(|report| Some(format!("make simulate SEED={}: {}", report.seed, report.violation.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_even_seed_breaks_an_invariant() {
    live(0);
}

#[test]
fn no_odd_seed_breaks_an_invariant() {
    live(1);
}
