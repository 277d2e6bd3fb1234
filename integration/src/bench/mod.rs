// SPDX-License-Identifier: Apache-2.0
//! `make bench`: what the host network and the calls that make it cost, measured in one run on one machine: tables, goals, plots.
//!
//! | section | measures |
//! |---|---|
//! | `families` | attaching a pod by the family of its address ([`families`], `datapath/examples/families.rs`) |
//! | `fill` | size of the programs, resident memory, 0 to 232 pods on an m4.4xlarge with a slow EC2 ([`filling`]) |
//! | `program` | a node of 250 pods programmed and repaired ([`program`]) |
//! | `packets` | a packet by pods present and layout ([`packets`]) |
//! | `snat` | source address translation by packet and connection ([`snat`]) |
//! | `sandboxes` | RunPodSandbox and StopPodSandbox of a real containerd, beside `ptp` ([`sandboxes`]); only when it is named |
//! | `planner` | one decision of the core, by addresses of the node ([`planner`], `ipamd/core/examples/decision.rs`) |
//! | `checkpoint` | the journal, whole and at each call ([`checkpoint`], `ipamd/core/examples/journal.rs`) |
//! | `rpc` | the call alone, without a process and plumbing, beside the floor's empty server ([`rpc`]) |
//! | `start` | from the start of the daemon to the first ADD and to STATUS ([`start`]) |
//! | `load` | ADDs at 20 a second with 250 pods present ([`load`]) |
//! | `resident` | memory of a daemon with 232 pods and watches on ([`resident`]) |
//! | `memory` | whether memory grows over a million simulated and ten thousand real pods ([`memory`], `ipamd/simulate/examples/growth.rs`) |
//! | `idle` | what a daemon does while nothing happens ([`mod@idle`]) |
//! | `matrix` | cold ADD and DEL by pods at once and pods present, beside the floor, `ptp`, `bridge` and another plugin ([`matrix`]) |
//!
//! The floor (`cni-floor`) is one static process that plumbs a pod with the fewest kernel operations and makes one gRPC call to
//! an empty server: same linkage, same number of pods present. It allocates nothing, writes no state, no rules and no log: those
//! are ours to add. All that is compared is called in turn (A B A B …), so that what else the machine does weighs on all alike.
//!
//! Absolute numbers are the machine's; ratios and differences are what to compare. How to read it all: `docs/benchmarks/README.md`.
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock and its environment")]

mod burst;
mod checkpoint;
mod families;
mod figures;
mod filling;
mod floor;
mod idle;
mod load;
mod matrix;
mod memory;
mod meter;
mod packets;
mod peers;
mod planner;
mod plot;
mod program;
mod programs;
mod report;
mod resident;
mod roomy;
mod rpc;
mod sandboxes;
mod scrape;
mod settings;
mod snat;
mod start;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use report::Report;
use settings::Settings;

/// A section measures and hands over what it found, or says why it could not.
type Section = fn(&mut Report) -> Result<(), Box<dyn Error>>;

/// In the order in which they run. The last one's table is the one that is printed at the end.
const SECTIONS: [(&str, Section, &str); 15] = [
    ("families", families::run, "attaching a pod by the family of its address"),
    ("fill", filling::run, "0 to 232 pods on a node with a slow EC2; sizes, memory"),
    ("program", program::run, "a node of 250 pods programmed from empty, and repaired"),
    ("packets", packets::run, "a packet by pods present and layout"),
    ("snat", snat::run, "source address translation by packet and connection"),
    (
        SANDBOXES,
        sandboxes::run,
        "RunPodSandbox and StopPodSandbox of a real containerd beside ptp; only when it is named",
    ),
    ("planner", planner::run, "one decision of the core, by addresses of the node"),
    ("checkpoint", checkpoint::run, "the journal, whole and at each call, by pods present"),
    ("rpc", rpc::run, "the call alone, without a process and plumbing, beside the floor's empty server"),
    ("start", start::run, "from the start of the daemon to the first ADD and to STATUS"),
    ("load", load::run, "ADDs at 20 a second with 250 pods present"),
    ("resident", resident::run, "memory of a daemon with 232 pods and watches on; sizes of the programs"),
    ("memory", memory::run, "whether memory grows over a million simulated and ten thousand real pods"),
    ("idle", idle::run, "what a daemon does while nothing happens"),
    (
        "matrix",
        matrix::run,
        "cold ADD and DEL by pods at once and pods present, beside the floor, ptp, bridge, another plugin",
    ),
];
/// Needs the runtimes' packages, which the others do not.
const SANDBOXES: &str = "sandboxes";

/// What `enid-bench --help` prints.
#[must_use]
pub fn help() -> String {
    let mut text =
        "usage: enid-bench [section …]     (make bench ONLY=\"section …\"); none: all but sandboxes\n\n".to_owned();
    for (name, _, what) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<10} {what}");
    }
    text + "\nenvironment: ENID_BENCH_QUICK=1, ENID_BENCH_DAEMON=debug, ENID_BENCH_PLUGIN, ENID_BENCH_NETCONF, ENID_BENCH_PLUGIN_ENV:\n\
            docs/benchmarks/README.md\n"
}

/// Runs the named sections, or all but `sandboxes`, prints the figures and writes them down. A section that fails does not keep the
/// others from running.
///
/// # Errors
/// There is no such section, the environment is wrong, a section failed, or the report cannot be written.
pub fn run(names: &[String]) -> Result<(), Box<dyn Error>> {
    if let Some(unknown) = names.iter().find(|name| SECTIONS.iter().all(|(known, ..)| known != name)) {
        let known: Vec<_> = SECTIONS.iter().map(|(name, ..)| *name).collect();
        return Err(format!("no section is called {unknown}; there are {}", known.join(", ")).into());
    }
    let mut report = Report::new(Settings::parse(&|name| std::env::var(name).ok())?);
    let folder = std::env::var_os("ENID_BUILD").map(PathBuf::from).or_else(crate::tools::build_folder);
    let folder = folder.ok_or("ENID_BUILD does not say where to write the report")?.join("enid/bench");
    for (name, section, _) in SECTIONS {
        if (names.is_empty() && name != SANDBOXES) || names.iter().any(|wanted| wanted == name) {
            report.begin(name);
            let start = Instant::now();
            // Each in a world of its own, which the thread that makes it is in.
            let ran = std::thread::scope(|scope| {
                scope.spawn(|| section(&mut report).map_err(|error| error.to_string())).join()
            });
            let outcome = ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            report.end(start.elapsed(), &outcome);
        }
    }
    report.finish(&folder)?;
    let failures = report.failures();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_there_is_not_is_told_with_those_that_there_are() {
        let error = run(&["snta".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("snta") && SECTIONS.iter().all(|(name, ..)| error.contains(name)), "{error}");
    }

    #[test]
    fn the_help_names_every_section() {
        assert!(SECTIONS.iter().all(|(name, _, what)| help().contains(name) && help().contains(what)), "{}", help());
    }
}
