// SPDX-License-Identifier: Apache-2.0
//! What is in the image: two static programs, the certificate authorities, where names are looked up.

use serde_json::json;

use crate::archive::{Entry, Image};

/// The limit that scripts/image.sh holds a release to, and what the daemon's debug build adds.
const LIMIT: u64 = 25_000_000;
const DEBUG_ADDS: u64 = 37_000_000;

/// ELF program header of a program that asks for a dynamic loader (elf(5), PT_INTERP).
const PT_INTERP: u32 = 3;

#[test]
fn the_image_holds_two_programs_and_what_they_need_to_reach_aws_and_nothing_else() {
    let entry = |path: &str, mode| Entry { path: path.to_owned(), mode, owner: (0, 0) };
    let expected = [
        entry("/aws-cni", 0o755),
        entry("/etc/nsswitch.conf", 0o644),
        entry("/etc/ssl/certs/ca-certificates.crt", 0o644),
        entry("/ipamd", 0o755),
    ];
    assert_eq!(Image::find().files(), expected);
}

#[test]
fn it_runs_the_daemon_and_is_of_this_version_and_architecture() {
    let Image { config, .. } = Image::find();
    assert_eq!((&config["config"]["Entrypoint"], &config["config"]["Cmd"]), (&json!(["/ipamd"]), &json!(["run"])));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!((&config["architecture"], &config["os"]), (&json!(arch), &json!("linux")));
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_is_small() {
    let image = Image::find();
    let debug = image.path.to_string_lossy().ends_with("-dev.tar");
    let limit = LIMIT + if debug { DEBUG_ADDS } else { 0 };
    assert!(image.size() <= limit, "{} bytes, limit {limit}", image.size());
}

#[test]
fn both_programs_are_static() {
    let folder = tempfile::tempdir().unwrap();
    Image::find().unpack(folder.path());
    for name in ["ipamd", "aws-cni"] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(&bytes[..5], b"\x7fELF\x02", "{name} is no 64-bit program");
        let half = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
        let table = usize::try_from(u64::from_le_bytes(bytes[0x20..0x28].try_into().unwrap())).unwrap();
        let (size, count) = (half(0x36), half(0x38));
        let kinds = (0..count).map(|n| u32::from_le_bytes(bytes[table + n * size..][..4].try_into().unwrap()));
        let kinds: Vec<u32> = kinds.collect();
        assert!(!kinds.is_empty() && !kinds.contains(&PT_INTERP), "{name} asks for a loader: {kinds:?}");
    }
}
