// SPDX-License-Identifier: Apache-2.0
//! The plugin's program as a file: where it is installed, and whose it is.
//!
//! Ours has the line in it that `aws-cni --version` prints. The reference's has the same name.

use std::path::{Path, PathBuf};

/// What the line begins with; then the version, and its end.
const MARK: &[u8] = b"aws-cni of Enid, version ";

/// Folders of plugins, where none is configured: the host's as a container sees it, the host's own.
const FOLDERS: [&str; 2] = ["/host/opt/cni/bin", "/opt/cni/bin"];

/// Where the plugin is, or would be: the configured folder, else that of the host as a container sees it if there is one.
pub(super) fn folder(configured: Option<&Path>) -> PathBuf {
    let [of_container, own] = FOLDERS.map(Path::new);
    let usual = if of_container.is_dir() { of_container } else { own };
    configured.unwrap_or(usual).to_owned()
}

/// The version of a plugin of ours; `None`: it is another program.
pub(super) fn version(program: &[u8]) -> Option<String> {
    let at = program.windows(MARK.len()).position(|window| window == MARK)?;
    let rest = &program[at + MARK.len()..];
    let end = rest.iter().take(64).position(|byte| *byte == b'\n')?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_of_ours_is_known_by_its_line() {
        assert_eq!(version(b"\x7fELF..aws-cni of Enid, version 0.1.0\nmore"), Some("0.1.0".to_owned()));
        assert_eq!(version(b"\x7fELF..aws-cni of Enid, version "), None);
        assert_eq!(version(b"\x7fELF.. amazon-vpc-cni-k8s"), None);
        assert_eq!(version(b""), None);
    }
}
