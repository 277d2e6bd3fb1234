// SPDX-License-Identifier: Apache-2.0
//! Plans as text, compared with files in `testdata/`. `ENID_BLESS=1` writes the files instead; review the difference.
#![expect(clippy::disallowed_methods, reason = "golden files are read, and written when ENID_BLESS is set")]

use std::path::Path;

/// Compares a plan's text with `testdata/<name>`.
#[track_caller]
pub(crate) fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("ENID_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "testdata/{name} differs; ENID_BLESS=1 rewrites it");
}
