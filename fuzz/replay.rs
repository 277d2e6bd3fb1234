// SPDX-License-Identifier: Apache-2.0
//! The corpus of the fuzzers, run by the unit tests of the crates that they are about: every input that once found something, and those
//! that show what there is, hold in every `cargo test`, without a fuzzer.
#![allow(clippy::disallowed_methods, reason = "reads the corpus")]

use std::path::Path;

/// Runs `check` on every input of `fuzz/corpus/<target>`; one that does not hold is named.
pub(crate) fn corpus(target: &str, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("fuzz/replay.rs").is_file());
    let folder = root.expect("the repository").join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut run = 0;
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let data = std::fs::read(&path).expect("an input");
        if std::panic::catch_unwind(|| check(&data)).is_err() {
            panic!("{} does not hold", path.display());
        }
        run += 1;
    }
    assert!(run > 0, "{} is empty", folder.display());
}
