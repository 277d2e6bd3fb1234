// SPDX-License-Identifier: Apache-2.0
//! The real kube-proxy, 1.20.2 as `scripts/kube-proxy.sh` builds it, in its iptables mode, with iptables of either kind.
//!
//! Each node has an API server (`kube_http`) to itself, on its loopback: nothing of the control plane crosses the fabric under
//! test. The programs that kube-proxy runs (`iptables`, `iptables-save`, `iptables-restore`, `conntrack`) are on its PATH and
//! nowhere else.
//!
//! It may write `net.ipv4.conf.all.route_localnet` of its namespace; limits of conntrack are the machine's, and are left to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::emulator::serve;
use crate::eventually::{NotYet, eventually};
use crate::kube_http::KubeApi;
use crate::kube_http::resource::{ENDPOINT_SLICES, NODES, SERVICES};
use crate::kube_http::store::Key;
use crate::netns::Namespace;
use crate::node::{NodeError, binary};
use crate::process::{Program, Running, tail};
use crate::running_vpc::listen;
use crate::tools::{Iptables, ToolError, Tools};
use crate::world::World;

use super::{KubeProxy, KubeProxyError, Service, objects};

/// Its metrics, by which it says when it last wrote its rules.
const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10_249);
/// Zero until it has written rules of everything that it was told of.
const SYNCED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds ";

/// How long its rules may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end: it does not wait for anything.
const GRACE: Duration = Duration::from_secs(5);

/// kube-proxy of a node.
#[derive(Debug)]
pub struct Real {
    node: Namespace,
    kind: Iptables,
    program: Program,
    api: KubeApi,
    server: JoinHandle<()>,
    running: Option<Running>,
}

impl Real {
    /// Starts an API server that knows the node, and nothing else yet. `runtime` serves it.
    ///
    /// # Errors
    /// kube-proxy is not built, or a program that it needs is missing.
    pub fn new(
        world: &World,
        runtime: &tokio::runtime::Runtime,
        node: &Namespace,
        address: Ipv4Addr,
        kind: Iptables,
    ) -> Result<Self, KubeProxyError> {
        let path = binary("ENID_KUBE_PROXY", &["enid/kube-proxy"])?;
        let folder = world.folder(&format!("{}/kube-proxy", node.name()))?;
        let programs = folder.join("bin");
        let failed = |doing: &str| {
            let doing = format!("{doing} for kube-proxy on {}", node.name());
            move |source: io::Error| NodeError::File { doing, source }
        };
        fs::create_dir_all(&programs).map_err(failed("making a folder of programs"))?;
        Tools::write_iptables_starters(&programs, kind)?;
        let api = KubeApi::default();
        api.put(&NODES, None, objects::node(node.name(), address))?;
        let (listener, at) = node.run(|| listen(0))?.map_err(failed("listening"))?;
        let _inside = runtime.enter();
        let server = serve(listener, api.router()).map_err(failed("serving"))?;
        let program = Program {
            path,
            arguments: arguments(at, node.name()),
            environment: BTreeMap::from([("PATH".to_owned(), programs.display().to_string())]),
            log: folder.join("kube-proxy.log"),
        };
        Ok(Self { node: node.clone(), kind, program, api, server, running: None })
    }

    /// Its objects become those of the Services, one change after another as in a cluster.
    fn tell(&self, services: &[Service]) -> Result<(), KubeProxyError> {
        let wanted = objects::all(services, self.node.name());
        let name = |object: &serde_json::Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let names: BTreeSet<_> = wanted.iter().map(|(resource, object)| (*resource, name(object))).collect();
        for (resource, object) in wanted {
            self.api.put(resource, Some(objects::NAMESPACE), object)?;
        }
        let present = self.api.read(|store| store.keys(&[&SERVICES, &ENDPOINT_SLICES]));
        let gone = present.into_iter().filter(|key| !names.contains(&(key.resource, key.name.clone())));
        gone.collect::<Vec<Key>>().iter().try_for_each(|key| Ok(self.api.delete(key)?))
    }

    /// Waits until it has written rules since its start.
    fn wait_synced(&self) -> Result<(), KubeProxyError> {
        let synced = eventually("kube-proxy has written its rules", PATIENCE, || {
            let metrics =
                self.node.run(metrics).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let at = metrics.lines().find_map(|line| line.strip_prefix(SYNCED));
            if at.is_some_and(|at| at != "0") {
                Ok(())
            } else {
                Err(format!("{SYNCED}{}", at.unwrap_or("is not there")))
            }
        });
        synced.map_err(|cause| self.not_synced(cause))
    }

    /// Waits until its rules are those of the Services.
    fn wait_for_rules(&self, services: &[Service]) -> Result<(), KubeProxyError> {
        let wanted = Shown::of(services);
        let shown = eventually("kube-proxy's rules are those of the Services", PATIENCE, || {
            let shown = Shown::in_rules(&self.rules().map_err(|error| error.to_string())?);
            if shown == wanted { Ok(()) } else { Err(format!("{shown:?} instead of {wanted:?}")) }
        });
        shown.map_err(|cause| self.not_synced(cause))
    }

    /// What is in table nat.
    fn rules(&self) -> Result<String, ToolError> {
        Tools::iptables(&self.node, self.kind, &["iptables", "-w", "-t", "nat", "-S"], "")
    }

    fn not_synced(&self, cause: NotYet) -> KubeProxyError {
        KubeProxyError::NotSynced { node: self.node.name().to_owned(), cause, log: tail(&self.program.log, 40) }
    }
}

impl KubeProxy for Real {
    fn sync(&mut self, services: &[Service]) -> Result<(), KubeProxyError> {
        self.tell(services)?;
        if self.running.is_none() {
            self.running = Some(Running::start(&self.node, &self.program)?);
            self.wait_synced()?;
        }
        self.wait_for_rules(services)
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop(GRACE);
        }
    }

    fn clean_up(&mut self) -> Result<(), KubeProxyError> {
        self.stop();
        let program = Program { arguments: vec!["--cleanup".to_owned()], ..self.program.clone() };
        // Whether it succeeds says nothing: without ipset it can't look for what IPVS mode would have left, and exits with 255.
        Running::start(&self.node, &program)?.wait(PATIENCE);
        let rules = self.rules()?;
        if rules.lines().any(|line| line.contains("-j KUBE-SERVICES")) || Shown::in_rules(&rules) != Shown::default() {
            return Err(KubeProxyError::NotCleaned {
                node: self.node.name().to_owned(),
                rules,
                log: tail(&self.program.log, 40),
            });
        }
        Ok(())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn arguments(api: SocketAddrV4, node: &str) -> Vec<String> {
    let to_api = [&format!("--master=http://{api}"), "--kube-api-content-type=application/json"].map(str::to_owned);
    to_api.into_iter().chain(own_arguments(node)).collect()
}

/// What a kube-proxy of a test is told wherever its API server is: as the node called so, in iptables mode.
pub(crate) fn own_arguments(node: &str) -> Vec<String> {
    let arguments = [
        &format!("--hostname-override={node}"),
        "--proxy-mode=iptables",
        // Every change at once: by default one a second.
        "--iptables-min-sync-period=0s",
        // What is the whole machine's is not touched.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--oom-score-adj=0",
        "--v=2",
    ];
    arguments.map(str::to_owned).into()
}

/// Its metrics, asked for in its namespace.
fn metrics() -> io::Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What of Services can be seen in rules: of those with endpoints, where they are asked and where that leads.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    addresses: BTreeSet<String>,
    node_ports: BTreeSet<String>,
    endpoints: BTreeSet<String>,
}

impl Shown {
    fn of(services: &[Service]) -> Self {
        let served = || services.iter().filter(|service| !service.endpoints.is_empty());
        Self {
            addresses: served().map(|service| format!("{}/32", service.address)).collect(),
            node_ports: served().filter_map(|service| service.node_port).map(|(port, _)| port.to_string()).collect(),
            endpoints: served().flat_map(|service| &service.endpoints).map(|(at, _)| at.to_string()).collect(),
        }
    }

    fn in_rules(listing: &str) -> Self {
        let after = |line: &str, word: &str| {
            let mut words = line.split(' ').skip_while(|other| *other != word).skip(1);
            words.next().map(str::to_owned)
        };
        let mut shown = Self::default();
        for line in listing.lines() {
            if line.starts_with("-A KUBE-SERVICES ") {
                shown.addresses.extend(after(line, "-d"));
            } else if line.starts_with("-A KUBE-NODEPORTS ") {
                shown.node_ports.extend(after(line, "--dport"));
            } else if line.starts_with("-A KUBE-SEP-") {
                shown.endpoints.extend(after(line, "--to-destination"));
            }
        }
        shown
    }
}
