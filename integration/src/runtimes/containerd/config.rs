// SPDX-License-Identifier: Apache-2.0
//! containerd's configuration file: everything it writes lies in a folder of the node's, and nothing is asked for that the machine may
//! lack (kernel file systems, monitoring; oom scores, which need CAP_SYS_RESOURCE).

use std::path::{Path, PathBuf};

use super::Line;
use crate::runtimes::image::PAUSE;

/// Plugins that look for what is not there.
const OFF: [&str; 7] = [
    "snapshotter.v1.btrfs",
    "snapshotter.v1.zfs",
    "snapshotter.v1.devmapper",
    "snapshotter.v1.aufs",
    "internal.v1.opt",
    "tracing.processor.v1.otlp",
    "nri.v1.nri",
];

/// Where a containerd keeps things, and what it runs.
pub(super) struct Places<'a> {
    /// All that it writes.
    pub folder: &'a Path,
    /// `aws-cni` and `loopback`.
    pub plugins: &'a Path,
    /// The conflist.
    pub conf: &'a Path,
    /// The OCI runtime.
    pub runc: &'a Path,
}

/// Where containerd of this folder listens.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

impl Places<'_> {
    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        socket(self.folder)
    }

    /// The file's text.
    pub(super) fn text(&self, line: Line) -> String {
        let (folder, plugins, socket) = (self.folder.display(), self.plugins.display(), self.socket());
        let socket = socket.display();
        let off = OFF.map(|plugin| format!("'io.containerd.{plugin}'")).join(", ");
        let head = format!(
            "root = '{folder}/root'\nstate = '{folder}/state'\ndisabled_plugins = [{off}]\n\
             [grpc]\naddress = '{socket}'\n[ttrpc]\naddress = '{socket}.ttrpc'\n"
        );
        let streams = "stream_server_address = '127.0.0.1'\nstream_server_port = '0'\n";
        match line {
            Line::One => {
                let cri = "plugins.'io.containerd.grpc.v1.cri'";
                let own = format!("{streams}sandbox_image = '{PAUSE}'\n");
                let bin = format!("bin_dir = '{plugins}'");
                format!("version = 2\n{head}{}", self.cri(cri, &own, &bin, "snapshotter = 'overlayfs'\n"))
            }
            Line::Two => {
                let cri = "plugins.'io.containerd.cri.v1.runtime'";
                let images = "plugins.'io.containerd.cri.v1.images'";
                format!(
                    "version = 3\n{head}[plugins.'io.containerd.grpc.v1.cri']\n{streams}\
                     [{images}]\nsnapshotter = 'overlayfs'\n[{images}.pinned_images]\nsandbox = '{PAUSE}'\n{}",
                    self.cri(cri, "", &format!("bin_dirs = ['{plugins}']"), "")
                )
            }
        }
    }

    /// The tables of what makes sandboxes; `bin`: the line that names the plugins' folder.
    fn cri(&self, table: &str, own: &str, bin: &str, containerd: &str) -> String {
        let (conf, runc) = (self.conf.display(), self.runc.display());
        format!(
            "[{table}]\n{own}disable_apparmor = true\nrestrict_oom_score_adj = true\n\
             disable_hugetlb_controller = true\ntolerate_missing_hugetlb_controller = true\n\
             [{table}.cni]\n{bin}\nconf_dir = '{conf}'\nmax_conf_num = 1\n\
             [{table}.containerd]\n{containerd}default_runtime_name = 'runc'\n\
             [{table}.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
             [{table}.containerd.runtimes.runc.options]\nSystemdCgroup = false\nBinaryName = '{runc}'\n"
        )
    }
}
