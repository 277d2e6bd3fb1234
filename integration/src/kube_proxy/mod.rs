// SPDX-License-Identifier: Apache-2.0
//! kube-proxy on a node: the real program where there is one, a stand-in for the rest.
//!
//! | mode | is | rules are |
//! |---|---|---|
//! | iptables, legacy or nft programs | [`real::Real`]: kube-proxy 1.20.2 with an API server of ours | its own |
//! | nftables | [`stand_in::StandIn`]: it came with 1.29 | written from its documentation |
//!
//! The stand-in has iptables mode too, as releases since 1.24 write it: where rules are wanted without the program, and to be
//! held against the real ones (`tests/kube_proxy.rs`). A scenario is written once, against [`KubeProxy`].

mod iptables;
mod nftables;
mod objects;
pub mod real;
pub mod stand_in;

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::eventually::NotYet;
use crate::kube_http::refusal::Refusal;
use crate::netns::NetnsError;
use crate::node::NodeError;
use crate::process::ProcessError;
use crate::tools::ToolError;
use crate::world::WorldError;

pub use real::Real;
pub use stand_in::StandIn;

/// kube-proxy's three modes without IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `--proxy-mode=iptables` on a host with iptables-legacy.
    IptablesLegacy,
    /// `--proxy-mode=iptables` on a host with iptables-nft.
    IptablesNft,
    /// `--proxy-mode=nftables`.
    Nftables,
}

impl Mode {
    /// All three.
    pub const ALL: [Self; 3] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nftables];
}

/// `externalTrafficPolicy`: where connections to the node port may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// To any endpoint, with the node's address as source.
    Cluster,
    /// To endpoints of this node, with the client's address as source.
    Local,
}

/// A Service, for TCP and UDP.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its cluster address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its node port and where that leads to.
    pub node_port: Option<(u16, Policy)>,
    /// Where it is served, and whether on this node.
    pub endpoints: Vec<(SocketAddrV4, bool)>,
}

/// What runs on a node.
pub trait KubeProxy {
    /// Sees to it that it runs, and waits until its rules are those of exactly these Services.
    ///
    /// # Errors
    /// It does not start, or its rules do not come.
    fn sync(&mut self, services: &[Service]) -> Result<(), KubeProxyError>;

    /// Ends it; its rules stay.
    fn stop(&mut self);

    /// Ends it and takes away what is its own, as `kube-proxy --cleanup` does.
    ///
    /// # Errors
    /// It fails.
    fn clean_up(&mut self) -> Result<(), KubeProxyError>;
}

/// What kube-proxy could not do.
#[derive(Debug, thiserror::Error)]
pub enum KubeProxyError {
    /// Its rules did not come.
    #[error("kube-proxy on {node}: {cause}\nthe end of its log:\n{log}\n")]
    NotSynced {
        /// Which node.
        node: String,
        /// What was waited for.
        cause: NotYet,
        /// The end of its log.
        log: String,
    },
    /// `--cleanup` left rules.
    #[error("`kube-proxy --cleanup` on {node} left rules; the end of its log:\n{log}\ntable nat:\n{rules}")]
    NotCleaned {
        /// Which node.
        node: String,
        /// Table nat.
        rules: String,
        /// The end of its log.
        log: String,
    },
    /// Its API server does not take the objects.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The binary is not there, or a file.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// iptables or nft.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}
