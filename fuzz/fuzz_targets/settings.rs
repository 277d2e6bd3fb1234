// SPDX-License-Identifier: Apache-2.0
//! The file of classes, read as the daemon reads it (`ipamd/src/edge/layers.rs`): YAML or JSON to a value, then by the core.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = serde_saphyr::options! { with_snippet: false };
    if let Ok(value) = serde_saphyr::from_str_with_options(text, options) {
        ipamd_core::fuzzing::settings(&value);
    }
});
