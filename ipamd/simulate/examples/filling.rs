// SPDX-License-Identifier: Apache-2.0
//! How long an m5.4xlarge takes from no pod to 110 and to 232, all asked for at once: our daemon and the model of the reference
//! in the simulation, EC2 at 300 ms a call and 5 s an attach. What `make fill` measures with real processes stands beside it.
//!
//! The wait of the last pod is the figure; kubelet and its back-off are in it, plumbing is not.

#![expect(clippy::print_stdout, reason = "a program: it prints")]

use std::time::Duration;

use ipamd_core::config::{AddressMode, WarmTargets};
use ipamd_core::{BootTime, Config};
use ipamd_simulate::figures::{Column, run};
use ipamd_simulate::pods::TracedPod;
use ipamd_simulate::reference::{Mode, Settings};

/// When the pods are asked for: the node has its first warm pool by then.
const SETTLED: BootTime = BootTime(Duration::from_secs(120));

fn pods(count: usize) -> Vec<TracedPod> {
    (0..count).map(|pod| TracedPod { name: format!("pod-{pod}"), starts: SETTLED, ends: None }).collect()
}

fn main() {
    println!("| m5.4xlarge, simulated | pods | ours | EC2 calls | reference | EC2 calls |\n|---|---|---|---|---|---|");
    let prefixes = AddressMode::Prefixes { warm_prefixes: Some(1) };
    let ours = |mode: AddressMode| Config { warm: WarmTargets::Enis(1), address_mode: mode, ..Config::default() };
    for (name, config, mode) in [
        ("secondary addresses", ours(Config::default().address_mode), Mode::Addresses),
        ("prefixes", ours(prefixes), Mode::Prefixes),
    ] {
        for count in [110, 232] {
            // Whatever EKS says, so many pods there shall be.
            let settings = Settings { mode, max_pods: Some(250), ..Settings::default() };
            let columns =
                [Column::Ours(String::new(), Box::new(config.clone())), Column::Reference(String::new(), settings)];
            let cells = columns.iter().map(|column| match run("m5.4xlarge", &pods(count), column) {
                Ok(measured) if measured.stats.waits.count() == count => {
                    let last = measured.stats.waits.percentile(100).as_secs_f64();
                    format!("{last:.1} s | {}", measured.stats.all_calls())
                }
                Ok(measured) => format!("only {} pods | {}", measured.stats.waits.count(), measured.stats.all_calls()),
                Err(error) => format!("{error} | "),
            });
            println!("| {name} | {count} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}
