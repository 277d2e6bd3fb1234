// SPDX-License-Identifier: Apache-2.0
//! The images that sandboxes and containers run, made here, for there is no registry: busybox under the names that runtimes ask for,
//! as one archive in the OCI image layout (OCI image specification 1.0), which runtimes import.
#![expect(clippy::disallowed_methods, reason = "images are files")]

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{RuntimesError, failed};

/// What holds a sandbox's namespaces: ends at SIGTERM, as the image that Kubernetes uses.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// What containers run: a shell that waits, and busybox's programs.
pub(super) const BUSYBOX: &str = "localhost/busybox:1";

/// Waits for SIGTERM; the first process of a namespace has no default for it.
const WAIT: [&str; 3] = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"];

/// The programs of busybox that tests use.
const PROGRAMS: [&str; 8] = ["sh", "sleep", "ping", "nc", "wget", "httpd", "ip", "cat"];

/// Writes the archive, of a static busybox under these names, into a folder: its path. podman takes one name only.
pub(super) fn write(busybox: &Path, names: &[&str], folder: &Path) -> Result<PathBuf, RuntimesError> {
    let path = folder.join("images.tar");
    let bytes = archive(busybox, names).map_err(failed("making the images"))?;
    std::fs::write(&path, bytes).map_err(failed("writing the images"))?;
    Ok(path)
}

fn archive(busybox: &Path, names: &[&str]) -> io::Result<Vec<u8>> {
    let layer = layer(&std::fs::read(busybox)?)?;
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": { "Entrypoint": WAIT, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type("manifest.v1+json"),
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let named = |name: &str| {
        let mut entry = descriptor("manifest.v1+json", &manifest);
        entry["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
        entry
    };
    let index = json!({ "schemaVersion": 2, "manifests": names.iter().map(|name| named(name)).collect::<Vec<_>>() });
    let mut out = tar::Builder::new(Vec::new());
    append(&mut out, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut out, "index.json", 0o644, index.to_string().as_bytes())?;
    for blob in [&layer, &config, &manifest] {
        append(&mut out, &format!("blobs/{}", digest(blob).replace(':', "/")), 0o644, blob)?;
    }
    out.into_inner()
}

/// The file system: one program under all its names.
fn layer(busybox: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    append(&mut out, "bin/busybox", 0o755, busybox)?;
    for program in PROGRAMS {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        out.append_link(&mut header, format!("bin/{program}"), "busybox")?;
    }
    out.into_inner()
}

fn append(out: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    out.append_data(&mut header(bytes.len() as u64, mode), path, bytes)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type(kind), "digest": digest(blob), "size": blob.len() })
}

fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn digest(blob: &[u8]) -> String {
    let hex: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// As OCI, and Go, call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
