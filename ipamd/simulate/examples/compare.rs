// SPDX-License-Identifier: Apache-2.0
//! Prints what settings cost on the shipped traces, ours and the reference's: the tables of `docs/settings-compared.md`.
//!
//! `cargo run -p ipamd-simulate --example compare`.
#![expect(clippy::print_stdout, reason = "the edge of a program that prints tables")]

use ipamd_core::Config;
use ipamd_core::config::WarmTargets;
use ipamd_simulate::figures::{Column, run, table};
use ipamd_simulate::pods::parse;
use ipamd_simulate::reference::{Settings, Targets};

/// 8 ENIs of 29 addresses.
const INSTANCE_TYPE: &str = "m5.4xlarge";

const TRACES: [(&str, &str); 3] = [
    ("steady", include_str!("../traces/steady.csv")),
    ("ci", include_str!("../traces/ci.csv")),
    ("nightly", include_str!("../traces/nightly.csv")),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ours = |name: &str, warm| Column::Ours(name.to_owned(), Box::new(Config { warm, ..Config::default() }));
    let reference =
        |name: &str, targets| Column::Reference(name.to_owned(), Settings { targets, ..Settings::default() });
    let (warm_addresses, minimum_addresses) = (5, 10);
    let columns = [
        ours("ours: adaptive", WarmTargets::Adaptive),
        ours("ours: ENI 1", WarmTargets::Enis(1)),
        reference("reference: ENI 1", Targets::default()),
        ours("ours: IP 5/10", WarmTargets::Addresses { warm: warm_addresses, minimum: minimum_addresses }),
        reference("reference: IP 5/10", Targets { warm_addresses, minimum_addresses, ..Targets::default() }),
    ];
    for (name, csv) in TRACES {
        let pods = parse(csv)?;
        let measured = columns.iter().map(|column| run(INSTANCE_TYPE, &pods, column)).collect::<Result<Vec<_>, _>>()?;
        println!("## {name}: {} pods\n\n```text\n{}```\n", pods.len(), table(&measured));
    }
    Ok(())
}
