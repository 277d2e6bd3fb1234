// SPDX-License-Identifier: Apache-2.0
//! The committed messages are those of the `.proto` files.
#![expect(clippy::disallowed_methods, reason = "compares files of the source tree")]

use std::path::Path;

#[path = "../src/generate.rs"]
mod generate;

#[test]
fn the_committed_messages_are_what_the_proto_files_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = generate::generate(root).unwrap();
    assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cri.rs", "health.rs", "rpc.rs"]);
    for (name, text) in files {
        let committed = std::fs::read_to_string(root.join("src/generated").join(&name)).unwrap();
        assert!(committed == text, "src/generated/{name} is old: run `cargo run -p ipam-api --example generate`");
    }
}
