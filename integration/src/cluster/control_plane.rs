// SPDX-License-Identifier: Apache-2.0
//! etcd, API server, controller manager and scheduler on an instance of their own, in the VPC as the nodes are: what nodes and pods say
//! to them crosses the fabric. `kubectl proxy` beside them is for [`Api`].
//!
//! ```text
//! etcd 127.0.0.1:2379 ◄─ kube-apiserver <address>:6443 ◄─ nodes, pods by 10.96.0.1
//!                                 ▲ controller manager, scheduler, kubectl proxy 127.0.0.1:8001 ◄─ Api
//! ```
//!
//! The API server writes down what the daemon asks, and how that was answered ([`audit`](super::audit)).
//!
//! Invariant: all of it ends with [`ControlPlane`], by SIGKILL: nobody waits for a store that has gone.
#![expect(clippy::disallowed_methods, reason = "configuration is a file")]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::api::{Api, PROXY};
use super::pki::Authority;
use super::programs::Programs;
use super::{ACCOUNT, ClusterError};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::process::{Program, Running};

/// From its start until an API server can serve: 5 s where nothing else runs.
const READY: Duration = Duration::from_secs(120);

/// Where the Services are: outside of the VPC.
const SERVICES: &str = "10.96.0.0/16";
/// The API server's own.
const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The control plane, running.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) api: Api,
    folder: PathBuf,
    running: Vec<Running>,
}

/// Where it runs, as whom, of what.
pub(super) struct Place<'a> {
    /// Its instance.
    pub netns: &'a Namespace,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// For its files.
    pub folder: &'a Path,
    /// For its certificates.
    pub authority: &'a Authority,
    pub programs: &'a Programs,
}

/// The URL of an API server at an address.
pub(super) fn url(address: Ipv4Addr) -> String {
    format!("https://{address}:6443")
}

impl ControlPlane {
    /// Starts it, and waits until it serves.
    pub(super) fn start(place: &Place<'_>) -> Result<Self, ClusterError> {
        place.authority.server("apiserver", &[place.address, KUBERNETES, Ipv4Addr::LOCALHOST])?;
        let api = Api::new(place.netns);
        let mut made = Self { api, folder: place.folder.to_owned(), running: Vec::new() };
        made.run(place, "etcd", etcd(place.folder))?;
        made.run(place, "kube-apiserver", api_server(place)?)?;
        let admin = place.authority.client("admin", "admin", "system:masters")?;
        made.run_kubectl_proxy(place, &admin)?;
        let serves = eventually("the API server serves", READY, || {
            let ended = made.running.iter().find(|running| running.has_ended());
            match (made.api.ready(), ended) {
                (Ok(()), _) => Ok(Ok(())),
                (Err(said), Some(_)) => Ok(Err(format!("a program has ended: {said}"))),
                (Err(said), None) => Err(said),
            }
        });
        let serves = serves.map_err(|error| error.to_string()).flatten();
        serves.map_err(|error| ClusterError::Odd(format!("{error}\n{}", made.log_tails(15))))?;
        made.run(place, "kube-controller-manager", controller_manager(place)?)?;
        made.run(place, "kube-scheduler", scheduler(place)?)?;
        Ok(made)
    }

    /// What the API server wrote down.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.folder.join(AUDIT_LOG)
    }

    /// The ends of all logs.
    pub(super) fn log_tails(&self, lines: usize) -> String {
        self.running.iter().map(|running| running.log_tail(lines)).collect::<Vec<_>>().join("\n--\n")
    }

    fn run(&mut self, place: &Place<'_>, name: &str, arguments: Vec<String>) -> Result<(), ClusterError> {
        self.run_program(place, (name, place.programs.kubernetes(name)), arguments)
    }

    fn run_kubectl_proxy(&mut self, place: &Place<'_>, admin: &Path) -> Result<(), ClusterError> {
        let arguments = vec![
            "proxy".to_owned(),
            flag("kubeconfig", admin),
            format!("--address={}", PROXY.ip()),
            format!("--port={}", PROXY.port()),
        ];
        self.run_program(place, ("kubectl-proxy", place.programs.kubectl.clone()), arguments)
    }

    fn run_program(
        &mut self,
        place: &Place<'_>,
        (name, path): (&str, PathBuf),
        arguments: Vec<String>,
    ) -> Result<(), ClusterError> {
        // kubectl keeps what it has discovered at home.
        let environment = [("PATH", "/usr/bin:/bin".to_owned()), ("HOME", place.folder.display().to_string())];
        let environment: BTreeMap<_, _> = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let log = place.folder.join(format!("{name}.log"));
        self.running.push(Running::start(place.netns, &Program { path, arguments, environment, log })?);
        Ok(())
    }
}

const AUDIT_LOG: &str = "audit.log";

fn etcd(folder: &Path) -> Vec<String> {
    let arguments = [
        flag("data-dir", &folder.join("etcd")),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
    ];
    arguments.into()
}

fn api_server(place: &Place<'_>) -> Result<Vec<String>, ClusterError> {
    // The daemon's requests, once they have been answered; a watch, when it has ended.
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{ "level": "Metadata", "users": [ACCOUNT] }, { "level": "None" }],
    });
    let policy_file = place.folder.join("audit-policy.json");
    fs::write(&policy_file, policy.to_string()).map_err(ClusterError::file("writing the audit policy"))?;
    let pki = |name: &str| place.authority.path(name);
    place.authority.client("kubelet-client", "kube-apiserver", "system:masters")?;
    let mut arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--bind-address={}", place.address),
        format!("--advertise-address={}", place.address),
        format!("--service-cluster-ip-range={SERVICES}"),
    ];
    let files = [
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("kubelet-client-certificate", pki("kubelet-client.crt")),
        ("kubelet-client-key", pki("kubelet-client.key")),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("audit-policy-file", policy_file),
        ("audit-log-path", place.folder.join(AUDIT_LOG)),
    ];
    arguments.extend(files.map(|(name, path)| flag(name, &path)));
    let others = [
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
        "--audit-log-mode=blocking",
    ];
    arguments.extend(others.map(str::to_owned));
    Ok(arguments)
}

fn controller_manager(place: &Place<'_>) -> Result<Vec<String>, ClusterError> {
    let mut arguments = client(place, "controller-manager")?;
    arguments.push(flag("service-account-private-key-file", &place.authority.path("sa.key")));
    arguments.push(flag("root-ca-file", &place.authority.path("ca.crt")));
    // It makes this folder, which is /usr's by default.
    arguments.push(flag("flex-volume-plugin-dir", &place.folder.join("volume-plugins")));
    // Addresses of pods are the daemon's business.
    arguments.extend(["--use-service-account-credentials=true", "--allocate-node-cidrs=false"].map(str::to_owned));
    Ok(arguments)
}

fn scheduler(place: &Place<'_>) -> Result<Vec<String>, ClusterError> {
    client(place, "scheduler")
}

fn client(place: &Place<'_>, name: &str) -> Result<Vec<String>, ClusterError> {
    let kubeconfig = place.authority.client(name, &format!("system:kube-{name}"), "")?;
    let others = ["--leader-elect=false", "--bind-address=127.0.0.1"].map(str::to_owned);
    Ok([flag("kubeconfig", &kubeconfig)].into_iter().chain(others).collect())
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
