// SPDX-License-Identifier: Apache-2.0
//! The cgroup below which a kubelet keeps its pods: kubelet makes all but the topmost one. It is removed with the containers
//! (`runtimes`).
#![expect(clippy::disallowed_methods, reason = "cgroups are folders and files")]

use std::fs;
use std::io;
use std::path::Path;

use super::ClusterError;

/// Where they are.
const ROOT: &str = "/sys/fs/cgroup";

/// What kubelet wants to limit, where there is one tree (cgroup v2).
const CONTROLLERS: &str = "+cpuset +cpu +memory +pids";

/// Makes the cgroup in every controller's tree, or in the one tree.
pub(super) fn make(name: &str) -> Result<(), ClusterError> {
    let root = Path::new(ROOT);
    let made =
        if root.join("cgroup.controllers").exists() { make_in_one_tree(root, name) } else { make_each(root, name) };
    made.map_err(ClusterError::file(&format!("making the cgroup {name}")))
}

fn make_in_one_tree(root: &Path, name: &str) -> io::Result<()> {
    let folder = root.join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("cgroup.subtree_control"), CONTROLLERS)
}

fn make_each(root: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let top = entry?.path();
        if !top.join("cgroup.procs").exists() {
            continue;
        }
        let folder = top.join(name);
        fs::create_dir_all(&folder)?;
        // A new one has none of either, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| top.join(file).exists()) {
            fs::write(folder.join(file), fs::read(top.join(file))?)?;
        }
    }
    Ok(())
}
