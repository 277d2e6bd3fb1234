// SPDX-License-Identifier: Apache-2.0
//! The three emulators: started once, each on a free port of 127.0.0.1, ended with the test.
//!
//! Enid's is served in this process by the same server as everywhere; the peers are the programs that `scripts/localstack.sh`
//! and `scripts/moto.sh` install and run, which also say which versions they are and how they were mended.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use integration::emulator::{Emulator, NoDataPlane, WallClock};
use integration::eventually::eventually;
use integration::imds_http::QueryClient;
use integration::process::{tail, through_setpriv};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vpc_model::VpcConfig;

use crate::calls::{self, Call, Outcome};
use crate::normal::Names;
use crate::setup;

const REGION: &str = "us-east-1";
/// How long a peer may take until it serves, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// One of the three, in the order of every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Enid,
    LocalStack,
    Moto,
}

pub(crate) const WHICH: [Which; 3] = [Which::Enid, Which::LocalStack, Which::Moto];

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enid => "Enid",
            Self::LocalStack => "LocalStack",
            Self::Moto => "moto",
        }
    }
}

/// All three, running. Fields end in this order.
pub(crate) struct Emulators {
    own: Own,
    peers: [Peer; 2],
    runtime: Runtime,
}

impl Emulators {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let starting = [
            Peer::start(Which::LocalStack, "localstack.sh", "ENID_LOCALSTACK", "preload.json"),
            Peer::start(Which::Moto, "moto.sh", "ENID_MOTO", "peer.json"),
        ];
        let own = {
            let _inside = runtime.enter();
            Own::start()
        };
        let peers = starting.map(Peer::wait);
        Self { own, peers, runtime }
    }

    /// Versions and mends, a line a peer.
    pub(crate) fn said(&self) -> Vec<String> {
        self.peers.iter().map(Peer::said).collect()
    }

    /// The versions of all packages of the peers.
    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        self.peers.iter().flat_map(Peer::versions).collect()
    }

    /// The answers of each, in the order of [`WHICH`].
    pub(crate) fn run(&self, list: &[Call]) -> [BTreeMap<String, Outcome>; 3] {
        let mut addresses = setup::addresses();
        addresses.extend(calls::named_addresses(list));
        self.runtime.block_on(async {
            let own = QueryClient::new(self.own.endpoint, REGION);
            let own = calls::run(&own, Names::new(self.own.names.clone(), addresses.clone()), list);
            let peer = async |peer: &Peer| {
                let client = QueryClient::new(peer.endpoint, REGION);
                let names = Names::new(setup::make(&client).await, addresses.clone());
                calls::run(&client, names, list).await
            };
            let [localstack, moto] = &self.peers;
            tokio::join!(own, peer(localstack), peer(moto)).into()
        })
    }
}

/// Enid's own emulator, without a data plane: no packets, no root.
struct Own {
    endpoint: SocketAddr,
    names: BTreeMap<String, String>,
    _emulator: Emulator,
}

impl Own {
    /// Inside a tokio runtime.
    fn start() -> Self {
        let (topology, names) = setup::topology();
        let config: VpcConfig = serde_json::from_value(topology).unwrap();
        let emulator = Emulator::start(config, 1, WallClock::start(), Box::new(NoDataPlane)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = listener.local_addr().unwrap();
        emulator.serve_ec2(listener).unwrap();
        Self { endpoint, names, _emulator: emulator }
    }
}

/// A peer's process; killed when this is dropped.
struct Peer {
    which: Which,
    endpoint: SocketAddr,
    child: Child,
    ready: &'static str,
    folder: TempDir,
}

impl Peer {
    fn start(which: Which, script: &str, variable: &str, ready: &'static str) -> Self {
        let root =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names the folder of {script} install"));
        assert!(Path::new(&root).join("installed").is_file(), "{} is not in {root}: {script} install", which.name());
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = through_setpriv(&path);
        command.args(["run", &port.to_string()]).arg(folder.path()).env_clear();
        command.env(variable, root).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {}: {error}", path.display()));
        Self { which, endpoint: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), child, ready, folder }
    }

    /// Waits until it serves.
    fn wait(mut self) -> Self {
        let what = format!("{} serves", self.which.name());
        let log = self.folder.path().join("log");
        let up = eventually(&what, PATIENCE, || {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            let said = || format!("{ended:?}; the end of its log:\n{}", tail(&log, 12));
            let ready = self.folder.path().join(self.ready).is_file();
            let answers = || std::net::TcpStream::connect(self.endpoint).map(drop).map_err(|_| said());
            if ready { answers() } else { Err(said()) }
        });
        up.unwrap();
        self
    }

    fn report(&self) -> serde_json::Value {
        let report = std::fs::read(self.folder.path().join("peer.json")).unwrap();
        serde_json::from_slice(&report).unwrap()
    }

    /// Its packages and their versions.
    fn versions(&self) -> Vec<(String, String)> {
        let report = self.report();
        let versions = report["versions"].as_object().unwrap().iter();
        versions.map(|(package, version)| (package.clone(), version.as_str().unwrap().to_owned())).collect()
    }

    fn said(&self) -> String {
        let versions: Vec<String> =
            self.versions().iter().map(|(package, version)| format!("{package} {version}")).collect();
        let report = self.report();
        let mends = report["mends"].as_array().unwrap().iter();
        let mends: Vec<&str> = mends.map(|mend| mend.as_str().unwrap()).collect();
        format!("{}: {}; mended: {}", self.which.name(), versions.join(", "), mends.join(", "))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its state is in memory only: nothing is lost. It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
