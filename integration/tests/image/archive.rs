// SPDX-License-Identifier: Apache-2.0
//! The image's archive, in the form that `docker save` has (docker image specification 1.2): manifest, configuration, layers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use integration::tools::built;
use serde_json::Value;

/// An image, read.
pub(crate) struct Image {
    /// Where its archive is.
    pub(crate) path: PathBuf,
    /// The configuration: entry point, architecture, labels.
    pub(crate) config: Value,
    /// The layers' names in the archive, lowest first.
    layers: Vec<String>,
}

/// A file of a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
}

impl Image {
    /// The image that `ENID_IMAGE` names, else the one in the build folder.
    pub(crate) fn find() -> Self {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let name = format!("enid/image/enid-{}-{arch}-dev.tar", env!("CARGO_PKG_VERSION"));
        let path = built("ENID_IMAGE", name);
        assert!(
            path.exists(),
            "{} is not there: run `make test-image`, or name an archive in ENID_IMAGE",
            path.display()
        );
        let manifest: Value = serde_json::from_slice(&member(&path, "manifest.json")).unwrap();
        let config = serde_json::from_slice(&member(&path, manifest[0]["Config"].as_str().unwrap())).unwrap();
        let layers =
            manifest[0]["Layers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        Self { path, config, layers }
    }

    /// Its size, as it is fetched without compression.
    pub(crate) fn size(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }

    /// The files in it, sorted; folders left out.
    pub(crate) fn files(&self) -> Vec<Entry> {
        let mut files = Vec::new();
        for layer in &self.layers {
            let bytes = member(&self.path, layer);
            for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
                let entry = entry.unwrap();
                let header = entry.header();
                if header.entry_type() != tar::EntryType::Directory {
                    let path = format!("/{}", entry.path().unwrap().display());
                    let owner = (header.uid().unwrap(), header.gid().unwrap());
                    // buildah writes the kind of file above the permissions.
                    files.push(Entry { path, mode: header.mode().unwrap() & 0o7777, owner });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Unpacks it into a folder.
    pub(crate) fn unpack(&self, folder: &Path) {
        for layer in &self.layers {
            let bytes = member(&self.path, layer);
            tar::Archive::new(bytes.as_slice()).unpack(folder).unwrap();
        }
    }
}

/// A file of an archive, whole.
fn member(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() != Path::new(name) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        return bytes;
    }
    panic!("no {name} in the archive")
}
