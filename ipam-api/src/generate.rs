// SPDX-License-Identifier: Apache-2.0
//! The Rust source of the wire messages from the `.proto` files, without protoc. Not part of the library: included by
//! `examples/generate.rs`, which writes it, and by `tests/generated.rs`, which checks that what is committed is current.
//!
//! Names: prost derives Rust names from the proto's, which reads badly where acronyms run together (`vp_cv4_cid_rs`).
//! [`RENAMED`] gives those fields another name before prost sees them. Only Rust names change: on the wire a field is
//! its number.

use std::path::Path;

use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Proto field name -> the name that prost makes the Rust field from.
const RENAMED: [(&str, &str); 10] = [
    ("ContainerID", "container_id"),
    ("IPAllocationMetadata", "ip_allocation_metadata"),
    ("IPv4Addr", "ipv4_addr"),
    ("IPv6Addr", "ipv6_addr"),
    ("InstanceID", "instance_id"),
    ("NodeIPv4", "node_ipv4"),
    ("NodeIPv6", "node_ipv6"),
    ("PodENIMAC", "pod_eni_mac"),
    ("VPCv4CIDRs", "vpc_v4_cidrs"),
    ("VPCv6CIDRs", "vpc_v6_cidrs"),
];

/// First lines of every generated file.
const HEAD: &str = "// SPDX-License-Identifier: Apache-2.0
// Generated from the .proto files by `cargo run -p ipam-api --example generate`; do not edit.
";

/// One generated file: its name in `src/generated/` and its text.
pub(crate) type Generated = (String, String);

/// Generates from the `.proto` files in `source`; sorted by file name. The error is a sentence.
pub(crate) fn generate(source: &Path) -> Result<Vec<Generated>, String> {
    let mut descriptors =
        protox::compile(["rpc.proto", "health.proto", "cri.proto"], [source]).map_err(|error| format!("{error:?}"))?;
    rename(&mut descriptors);
    let out = tempfile::tempdir().map_err(|error| format!("making a folder for the output: {error}"))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .map_err(|error| format!("generating: {error}"))?;
    collect(out.path())
}

fn rename(descriptors: &mut FileDescriptorSet) {
    let messages = descriptors.file.iter_mut().filter(|file| is_ours(file)).flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if let Some((_, better)) = RENAMED.iter().find(|(proto, _)| *proto == field.name()) {
            field.name = Some((*better).to_owned());
        }
    }
}

fn is_ours(file: &FileDescriptorProto) -> bool {
    file.package() == "rpc"
}

fn collect(folder: &Path) -> Result<Vec<Generated>, String> {
    let failed = |error: std::io::Error| format!("reading {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replace("grpc.health.v1", "health").replace("runtime.v1", "cri");
        if name != "google.protobuf.rs" {
            files.push((name, format!("{HEAD}{text}")));
        }
    }
    files.sort();
    Ok(files)
}
