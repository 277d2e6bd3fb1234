// SPDX-License-Identifier: Apache-2.0
//! One call of the plugin: what was asked, with which configuration, and how much of its time is left.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use datapath::plan::LinkName;
use ipam_api::Client;

use crate::args::PodArgs;
use crate::command::Parameters;
use crate::conf::NetConf;
use crate::error::{CniError, Code};
use crate::key::Key;
use crate::log::Log;
use crate::reason::Reason;

/// A time budget that began when the process did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    started: Instant,
    total: Duration,
}

impl Budget {
    /// `total` from `started` on.
    pub(crate) fn new(started: Instant, total: Duration) -> Self {
        Self { started, total }
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        self.total.saturating_sub(self.started.elapsed())
    }

    /// What is left, at most `limit`.
    pub(crate) fn up_to(self, limit: Duration) -> Duration {
        self.left().min(limit)
    }
}

/// An ADD, a DEL or a CHECK; a GC, without a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What the runtime gave.
    pub parameters: Parameters,
    /// The pod, as far as it is named.
    pub pod: PodArgs,
    /// The network's configuration.
    pub conf: NetConf,
    /// Where to say what happened.
    pub log: Log,
    /// How long it may take.
    pub budget: Budget,
}

impl Call {
    /// Where plugin and daemon keep which ports of the node are open.
    pub(crate) fn host_ports(&self) -> PathBuf {
        self.conf.state_dir.join(ipam_api::state::HOST_PORTS)
    }

    /// What the address is bound to.
    pub(crate) fn key(&self) -> Key {
        Key {
            network: self.conf.name.clone(),
            container_id: self.parameters.container_id.clone(),
            ifname: self.parameters.ifname.clone(),
        }
    }

    /// The host end's name.
    pub(crate) fn host_veth(&self) -> Result<LinkName, CniError> {
        let owner = self.key().to_string();
        LinkName::host_veth(&self.conf.veth_prefix, &self.pod.namespace, &self.pod.name, &owner).map_err(|error| {
            let message = format!("`vethPrefix` of the network configuration: {error}");
            CniError::new(Code::Config, Reason::NetworkConfigInvalid, message)
        })
    }

    /// The way to the daemon.
    pub(crate) fn daemon(&self) -> Client {
        Client::new(&self.conf.socket)
    }

    /// The way to the network policy agent.
    pub(crate) fn policy_agent(&self) -> Client {
        Client::new(self.agent_socket())
    }

    fn agent_socket(&self) -> PathBuf {
        self.conf.state_dir.join(ipam_api::AGENT_SOCKET)
    }
}
