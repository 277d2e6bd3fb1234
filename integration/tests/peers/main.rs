// SPDX-License-Identifier: Apache-2.0
//! What the emulated EC2 believes, held against two EC2 emulators that we did not write.
//!
//! One list of calls (`calls.txt`) is sent over HTTP by one client to three: the model behind our own server, LocalStack and
//! moto server. Their answers, normalised, are compared field by field. What differs is listed in `deviations.md`, each line
//! with who is right by AWS's documentation; a deviation that is not listed and a listed one that is not seen both fail.
//!
//! ```text
//! calls.txt ─► Enid, LocalStack, moto ─► XML ─► normal::Value ─► compare ─► rows ══ deviations.md
//! ```
//!
//! Not compared: texts of errors (their codes and HTTP status are), the order of lists, what is free to choose (ids, MACs,
//! times, addresses that no call names). Not called: what the model does not have and no call of the daemon's needs. The two
//! peers know no latency, throttling or lag, so the model runs without; both run with mends, which are printed.
//!
//! Needs no root: three servers on 127.0.0.1, no namespaces.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::disallowed_methods, reason = "starts the peers and reads the files beside this one")]

mod calls;
mod compare;
mod emulators;
mod normal;
mod setup;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use calls::{Call, Outcome};
use emulators::{Emulators, WHICH};

const CALLS: &str = include_str!("calls.txt");
const DEVIATIONS: &str = include_str!("deviations.md");

#[test]
fn three_emulators_of_ec2_answer_alike_but_for_the_listed_deviations() {
    let calls = calls::parse(CALLS).unwrap();
    let listed = table::parse(DEVIATIONS).unwrap();
    let emulators = Emulators::start();
    for line in emulators.said() {
        println!("{line}");
    }
    for (package, version) in emulators.versions() {
        assert!(DEVIATIONS.contains(&version), "deviations.md does not speak of {package} {version}");
    }
    let answers = emulators.run(&calls);
    let seen = compare::all(&calls, &answers);
    println!("{} calls to each, {} deviations", calls.len(), seen.len());
    if let Some(folder) = std::env::var_os("ENID_PEERS_ANSWERS") {
        write_down(Path::new(&folder), &calls, &answers);
    }
    if let Err(text) = table::check(&listed, &seen) {
        panic!("{text}");
    }
}

/// For whoever edits the table: every answer, normalised, one file an emulator, in the folder that the variable names.
fn write_down(folder: &Path, calls: &[Call], answers: &[BTreeMap<String, Outcome>; 3]) {
    std::fs::create_dir_all(folder).unwrap();
    for (which, answers) in WHICH.into_iter().zip(answers) {
        let text: String = calls.iter().map(|call| format!("{}: {}\n", call.name, answers[&call.name])).collect();
        std::fs::write(folder.join(which.name()), text).unwrap();
    }
}
