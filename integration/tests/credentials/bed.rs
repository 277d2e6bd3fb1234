// SPDX-License-Identifier: Apache-2.0
//! A node whose EC2 checks keys, and those who give them: STS, the agent of EKS Pod Identity, the instance's role.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods;
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::{ImdsFault, InstanceId};

pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/cni";
/// Where EKS' agent listens on a node (EKS user guide, "EKS Pod Identity").
const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
/// Where metadata is.
const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// How soon a cause must be named.
const NAMED: Duration = Duration::from_secs(15);
/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// A source of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    WebIdentity,
    PodIdentity,
    InstanceRole,
    Environment,
}

pub(crate) const SOURCES: [Source; 4] =
    [Source::WebIdentity, Source::PodIdentity, Source::InstanceRole, Source::Environment];

impl Source {
    /// What its keys begin with, in the emulator; no other source's do. A role's key is made of the instance's id, which begins with 0.
    pub(crate) fn keys_begin(self) -> &'static str {
        match self {
            Self::WebIdentity => "ASIAS0",
            Self::PodIdentity => "ASIAP0",
            Self::InstanceRole => "ASIA0",
            Self::Environment => "AKIATEST",
        }
    }

    /// What the daemon calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebIdentity => "web identity",
            Self::PodIdentity => "container credentials",
            Self::InstanceRole => "instance role",
            Self::Environment => "environment keys",
        }
    }
}

pub(crate) struct Bed {
    pub(crate) topology: Topology,
    folder: PathBuf,
    started: AtomicUsize,
}

impl Bed {
    /// A node that has no keys yet but its instance's role.
    pub(crate) fn new() -> Self {
        let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        topology.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.keys.checked = true));
        let folder = topology.world.folder("keys").unwrap();
        let mut bed = Self { topology, folder, started: AtomicUsize::new(0) };
        let node = bed.node_mut();
        for (variable, value) in [("IP_COOLDOWN_PERIOD", "1"), ("WARM_IP_TARGET", "1")] {
            node.set(variable, value);
        }
        bed
    }

    pub(crate) fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    pub(crate) fn node_mut(&mut self) -> &mut Node {
        self.topology.node_mut("n1")
    }

    /// From now on keys are given for so many seconds.
    pub(crate) fn lives(&self, seconds: u64) {
        let change = |settings: &mut vpc_model::Settings| settings.keys.life_seconds = Some(seconds);
        self.topology.emulator.with_model(|vpc, _| vpc.change_settings(change));
    }

    /// Sets the node up for a source, with a token that is good for `life`.
    pub(crate) fn offer(&mut self, source: Source, life: Duration) {
        match source {
            Source::WebIdentity => {
                let sts = self.sts();
                self.node_mut().set("AWS_ENDPOINT_URL_STS", &format!("http://{sts}"));
                self.web_identity(life);
            }
            Source::PodIdentity => self.pod_identity(life),
            Source::InstanceRole => {}
            Source::Environment => {
                self.topology.emulator.with_model(|vpc, _| vpc.allow_user("AKIATEST", "secret"));
                self.node_mut().set("AWS_ACCESS_KEY_ID", "AKIATEST");
                self.node_mut().set("AWS_SECRET_ACCESS_KEY", "secret");
            }
        }
    }

    /// STS on the node's loopback.
    pub(crate) fn sts(&self) -> SocketAddrV4 {
        let (listener, at) = self.listen(Ipv4Addr::LOCALHOST, 0);
        let _inside = self.topology.runtime.enter();
        self.topology.emulator.serve_sts(listener).unwrap();
        at
    }

    /// What EKS sets in a container with an annotated service account.
    pub(crate) fn web_identity(&mut self, life: Duration) {
        self.rotate(Source::WebIdentity, "token-of-web", life);
        let token = self.token_file(Source::WebIdentity);
        let node = self.node_mut();
        node.set("AWS_ROLE_ARN", ROLE);
        node.set("AWS_ROLE_SESSION_NAME", "enid-test");
        node.set("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap());
    }

    /// The agent at its own address, and what EKS sets in a container with an association.
    fn pod_identity(&mut self, life: Duration) {
        self.rotate(Source::PodIdentity, "token-of-agent", life);
        self.node().ip(&format!("address add {AGENT}/32 dev lo\n")).unwrap();
        let (listener, _) = self.listen(AGENT, 80);
        {
            let _inside = self.topology.runtime.enter();
            self.topology.emulator.serve_pod_identity(listener).unwrap();
        }
        let token = self.token_file(Source::PodIdentity);
        let node = self.node_mut();
        node.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{AGENT}/v1/credentials"));
        node.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap());
    }

    /// Writes a new token, as kubelet does, and lets it be trusted for `life`.
    pub(crate) fn rotate(&self, source: Source, token: &str, life: Duration) {
        self.topology.emulator.with_model(|vpc, now| match source {
            Source::WebIdentity => vpc.trust_web_identity(ROLE, token, now + life),
            Source::PodIdentity => vpc.trust_pod_identity(token, now + life),
            Source::InstanceRole | Source::Environment => {}
        });
        self.write_token(source, token);
    }

    pub(crate) fn write_token(&self, source: Source, token: &str) {
        let new = self.folder.join("new");
        fs::write(&new, token).unwrap();
        fs::rename(&new, self.token_file(source)).unwrap();
    }

    fn token_file(&self, source: Source) -> PathBuf {
        self.folder.join(format!("{source:?}"))
    }

    /// Metadata at its own address, not at an endpoint of the configuration.
    pub(crate) fn metadata_at_its_address(&mut self) {
        self.node().ip(&format!("address add {IMDS}/32 dev lo\n")).unwrap();
        let (listener, _) = self.listen(IMDS, 80);
        let id = self.topology.instance("n1").unwrap().id;
        {
            let _inside = self.topology.runtime.enter();
            self.topology.emulator.serve_imds(listener, InstanceId(id)).unwrap();
        }
        self.node_mut().unset("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    }

    fn listen(&self, address: Ipv4Addr, port: u16) -> (TcpListener, SocketAddrV4) {
        let listener = self.node().netns.run(|| TcpListener::bind((address, port))).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketAddrV4::new(address, port))
    }

    /// The instance's role is taken away.
    pub(crate) fn take_the_role_away(&self) {
        let path_prefix = "/latest/meta-data/iam".to_owned();
        let fault = ImdsFault { instance: None, path_prefix, status: 404, count: None };
        self.topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
    }

    pub(crate) fn start(&mut self) {
        self.topology.start(&[]).unwrap();
    }

    /// Starts the daemon again, over its journal.
    pub(crate) fn restart(&mut self) {
        let node = self.node_mut();
        node.kill();
        node.start().unwrap();
        node.wait_ready(READY).unwrap();
    }

    /// Pods come, and go again but for one; each makes the pool ask EC2 for more.
    pub(crate) fn churn(&self) {
        let pods = pods::start(self.node(), 3, 3, &self.started).unwrap();
        pods[0].reached_from(&self.node().netns).unwrap();
        pods::end(self.node(), pods, 3).unwrap();
    }

    /// The keys of the calls of EC2 that succeeded.
    pub(crate) fn signers(&self) -> BTreeSet<String> {
        let calls = |vpc: &mut vpc_model::Vpc| {
            let good = vpc.calls().filter(|call| call.code.is_none() && call.action != "AssumeRoleWithWebIdentity");
            good.filter_map(|call| call.access_key.clone()).collect()
        };
        self.topology.emulator.with_model(|vpc, _| calls(vpc))
    }

    /// The calls that were refused for their keys.
    pub(crate) fn refused(&self) -> Vec<(String, String)> {
        let refused = |code: &str| ["AuthFailure", "RequestExpired"].contains(&code);
        self.topology.emulator.with_model(|vpc, _| {
            let calls = vpc.calls().filter(|call| call.code.as_deref().is_some_and(refused));
            calls.map(|call| (call.action.clone(), call.code.clone().unwrap_or_default())).collect()
        })
    }

    /// The status has all of these signs within 15 s, and so has the log.
    pub(crate) fn names(&self, signs: &[&str]) -> String {
        let named = eventually("the status names the cause", NAMED, || {
            let status = self.node().ask(&["status"]).map_err(|error| error.to_string())?;
            if signs.iter().all(|sign| status.contains(sign)) { Ok(status) } else { Err(status) }
        });
        let status = named.unwrap_or_else(|error| panic!("{signs:?}: {error}"));
        let log = self.log();
        for sign in signs {
            assert!(log.contains(sign), "the log does not say {sign:?}");
        }
        status
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.node().log()).unwrap()
    }
}
