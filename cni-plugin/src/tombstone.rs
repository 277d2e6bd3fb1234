// SPDX-License-Identifier: Apache-2.0
//! A DEL that the daemon did not confirm, left where it finds it: `<state folder>/tombstones/<sha1 of the key>.json`
//! (format: `ipam_api::state`). The same DEL again replaces its file, so their number is bounded by that of the sandboxes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::key::Key;
use crate::state_file;

#[derive(Serialize)]
struct Tombstone<'a> {
    #[serde(flatten)]
    key: &'a Key,
    at: u64,
}

/// Writes the tombstone of `key`; `at` is the time since the Unix epoch.
pub(crate) fn leave(state_dir: &Path, key: &Key, at: Duration) -> io::Result<PathBuf> {
    let path = path_of(state_dir, key);
    let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    let text = serde_json::to_string(&Tombstone { key, at })?;
    state_file::replace(&path, text.as_bytes())?;
    Ok(path)
}

/// Removes the tombstone of `key`: a later ADD or a confirmed DEL has settled it.
pub(crate) fn withdraw(state_dir: &Path, key: &Key) -> io::Result<()> {
    state_file::remove(&path_of(state_dir, key))
}

fn path_of(state_dir: &Path, key: &Key) -> PathBuf {
    let digest = Sha1::digest(key.to_string().as_bytes());
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    state_dir.join(ipam_api::state::TOMBSTONES).join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_content_are_the_documented_ones() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key { network: "aws-cni".into(), container_id: "c1".into(), ifname: "eth0".into() };
        let path = leave(folder.path(), &key, Duration::from_nanos(1_700_000_000_000_000_001)).unwrap();
        // printf aws-cni/c1/eth0 | sha1sum
        let name = "tombstones/09a0006e445ca7d63b5453ae1af8ce49cd65b64e.json";
        assert_eq!(path, folder.path().join(name));
        let text = state_file::read(&path).unwrap().unwrap();
        let expected = r#"{"network":"aws-cni","containerID":"c1","ifName":"eth0","at":1700000000000000001}"#;
        assert_eq!(text, expected);
        withdraw(folder.path(), &key).unwrap();
        assert!(!path.exists());
    }
}
