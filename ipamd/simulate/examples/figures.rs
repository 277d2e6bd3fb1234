// SPDX-License-Identifier: Apache-2.0
//! The shipped traces on one m5.4xlarge: our daemon and the model of the reference, each with the ENI target of the
//! manifest and with address targets. Prints a table a trace. `ipamd simulate` does the same with settings of your own.

#![expect(clippy::print_stdout, reason = "a program: it prints")]

use ipamd_core::Config;
use ipamd_core::config::WarmTargets;
use ipamd_simulate::figures::{Column, run, table};
use ipamd_simulate::pods::{Method, generate};
use ipamd_simulate::reference::{Settings, Targets};

fn main() {
    let ours = |name: &str, warm| Column::Ours(name.to_owned(), Box::new(Config { warm, ..Config::default() }));
    let theirs = |name: &str, targets| Column::Reference(name.to_owned(), Settings { targets, ..Settings::default() });
    let addresses = Targets { warm_addresses: 5, minimum_addresses: 10, ..Targets::default() };
    let columns = [
        ours("ours E=1", WarmTargets::Enis(1)),
        ours("ours W=5 M=10", WarmTargets::Addresses { warm: 5, minimum: 10 }),
        theirs("reference E=1", Targets::default()),
        theirs("reference W=5 M=10", addresses),
    ];
    for (method, name) in Method::ALL {
        let pods = generate(method, 1);
        let measured: Vec<_> = columns.iter().filter_map(|column| run("m5.4xlarge", &pods, column).ok()).collect();
        println!("{name}: {} pods\n{}", pods.len(), table(&measured));
    }
}
