// SPDX-License-Identifier: Apache-2.0
//! Ports of the node that lead into pods (CNI capability `portMappings`), as data, and the table that carries them.
//!
//! A table of its own, `ip enid_hostports`: it is made by the first ADD that needs it, elements are added and removed by ADD,
//! DEL and the daemon's sweep, and the daemon never replaces it, so no restart of anything loses a port. Its rules are fixed;
//! what is a pod's is elements only, each with the allocation key as comment: who owns it.
//!
//! | object | is |
//! |---|---|
//! | map `ports` | protocol . port -> pod address . port |
//! | map `ports_at` | node address . protocol . port -> the same, for mappings with a hostIP; looked at first |
//! | set `hairpins` | pod address . the same: pods that may reach themselves |
//! | chain `host_ports` | nat prerouting -105: to an address of the node: DNAT by the maps |
//! | chain `host_ports_local` | nat output -105: the same for the node's own connections, 127.0.0.1 included |
//! | chain `host_ports_back` | nat postrouting 95: masquerade where an answer would not come back: from loopback, and to oneself |
//! | chain `loopback_guard` | filter prerouting -300: from outside to 127.0.0.0/8: drop |
//!
//! Semantics are those of the CNI project's `portmap` with `snat`: a client from outside is seen with its own address. What
//! differs: nothing is found by name or by DEL's configuration, so nothing outlives its owner. -105 and 95 are before
//! kube-proxy's -100 and 100 (priorities: `snat`). 127.0.0.1 needs `route_localnet` on the host veth of such a pod, which
//! would let the pod reach the node's loopback services; the guard keeps that shut (as kube-proxy does for node ports).

use std::fmt;
use std::net::Ipv4Addr;

/// Name of the table.
pub const TABLE: &str = "enid_hostports";

/// A transport that has ports (IANA protocol numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// 6.
    Tcp = 6,
    /// 17.
    Udp = 17,
    /// 132.
    Sctp = 132,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Its transport.
    pub protocol: Protocol,
    /// The node's address; `None`: any.
    pub host_address: Option<Ipv4Addr>,
    /// The port there.
    pub host_port: u16,
    /// The port in the pod.
    pub pod_port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            Some(address) => write!(f, "{address}:{}/{}", self.host_port, self.protocol),
            None => write!(f, "{}/{}", self.host_port, self.protocol),
        }
    }
}
