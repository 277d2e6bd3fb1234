// SPDX-License-Identifier: Apache-2.0
//! The programs of a cluster: found, and asked for their version.
//!
//! `scripts/kubernetes.sh` builds Kubernetes 1.20; a folder of a newer one takes its place (`ENID_KUBERNETES`). Flags differ between
//! releases, by what [`Programs::minor`] says.
#![expect(clippy::disallowed_methods, reason = "starts programs")]

use std::path::PathBuf;
use std::process::Command;

use super::ClusterError;
use crate::node::binary;
use crate::tools::built;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    kubernetes: PathBuf,
    kube_proxy: PathBuf,
    pub(super) kubectl: PathBuf,
    /// 20 of v1.20.2: kubelet's.
    pub(super) minor: u32,
}

impl Programs {
    /// Finds them.
    pub(super) fn find() -> Result<Self, ClusterError> {
        let kubernetes = built("ENID_KUBERNETES", "enid/kubernetes");
        for program in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "etcd"] {
            there(kubernetes.join(program), "run `make kubernetes`, or name a folder with it in ENID_KUBERNETES")?;
        }
        let charts = built("ENID_CHARTS", "enid/charts").join("bin");
        let kubectl = there(charts.join("kubectl"), "run `make charts`, or name a folder with it in ENID_CHARTS")?;
        let own = kubernetes.join("kube-proxy");
        let kube_proxy = if own.is_file() { own } else { binary("ENID_KUBE_PROXY", &["enid/kube-proxy"])? };
        let minor = minor(&kubernetes.join("kubelet"))?;
        Ok(Self { kubernetes, kube_proxy, kubectl, minor })
    }

    /// One of Kubernetes', or etcd.
    pub(super) fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// kube-proxy: of the same folder where it is there.
    pub(super) fn kube_proxy(&self) -> PathBuf {
        self.kube_proxy.clone()
    }
}

fn there(path: PathBuf, todo: &'static str) -> Result<PathBuf, ClusterError> {
    if path.is_file() { Ok(path) } else { Err(ClusterError::NotThere { path, todo }) }
}

/// `Kubernetes v1.20.2` -> 20
fn minor(kubelet: &PathBuf) -> Result<u32, ClusterError> {
    let doing = "asking kubelet for its version";
    let output = Command::new(kubelet).arg("--version").output().map_err(ClusterError::file(doing))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let minor = said.strip_prefix("Kubernetes v1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.ok_or_else(|| ClusterError::Odd(format!("{} --version says {said:?}", kubelet.display())))
}
