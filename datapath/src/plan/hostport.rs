// SPDX-License-Identifier: Apache-2.0
//! Ports of the node that lead into pods (CNI capability `portMappings`), as data, and the table that carries them.
//!
//! A table of its own, `ip enid_hostports`: it is made by the first ADD that needs it, elements are added and removed by ADD,
//! DEL and the daemon's sweep, and no restart of anything loses a port. Its rules are fixed; what is a pod's is elements only,
//! each with the allocation key as comment: who owns it.
//!
//! What must be open is a [`Mapping`] a sandbox, kept as a small file that ADD writes before it opens anything and DEL removes
//! before it closes anything (`apply::hostport`): from it the daemon opens again what others closed.
//!
//! | object | is |
//! |---|---|
//! | map `ports` | protocol . port -> pod address . port |
//! | map `ports_at` | node address . protocol . port -> the same, for mappings with a hostIP; looked at first |
//! | set `services` | addresses that IPVS answers on this node: no addresses of the node for `ports` |
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
//!
//! kube-proxy in IPVS mode binds every Service's address to its link `kube-ipvs0`, so that for the kernel they are local:
//! without `services` a host port would take the connections to the same port of every Service (`portmap` does). No
//! expression of nft tells the link of a local address (`fib … oif` has none, `nft_fib4_eval`). So these are listed, and not the
//! node's own: a list that is late then costs a Service a moment, never a host port at an address that came by other hands.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::name::LinkName;

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

/// All ports of the node that lead into one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The pod's allocation key, as in its host veth's alias.
    pub owner: String,
    /// Its host veth.
    pub host_veth: LinkName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The ports.
    pub ports: Vec<HostPort>,
}

/// A line with owner, host veth and address, then a line a port: protocol, node's address or `*`, port there, port in the pod.
///
/// ```text
/// aws-cni/c1/eth0 eni0a1b2c3d4e5 10.0.0.7
/// tcp * 8080 80
/// ```
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.owner, self.host_veth, self.address)?;
        for port in &self.ports {
            let at = port.host_address.map_or_else(|| "*".to_owned(), |address| address.to_string());
            writeln!(f, "{} {at} {} {}", port.protocol, port.host_port, port.pod_port)?;
        }
        Ok(())
    }
}

/// A text that is no mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{line}` is no line of a file of host ports")]
pub struct MappingError {
    line: String,
}

impl FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let wrong = |line: &str| MappingError { line: line.to_owned() };
        let mut mapping = header(first).ok_or_else(|| wrong(first))?;
        for line in lines {
            mapping.ports.push(port(line).ok_or_else(|| wrong(line))?);
        }
        Ok(mapping)
    }
}

fn header(line: &str) -> Option<Mapping> {
    // From the end: the owner is the runtime's text.
    let (rest, address) = line.rsplit_once(' ')?;
    let (owner, host_veth) = rest.rsplit_once(' ')?;
    let host_veth = LinkName::new(host_veth).ok()?;
    Some(Mapping { owner: owner.to_owned(), host_veth, address: address.parse().ok()?, ports: Vec::new() })
}

fn port(line: &str) -> Option<HostPort> {
    let words: Vec<&str> = line.split(' ').collect();
    let [protocol, at, host_port, pod_port] = words[..] else { return None };
    let protocol =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|one| one.to_string() == protocol)?;
    let host_address = if at == "*" { None } else { Some(at.parse().ok()?) };
    Some(HostPort { protocol, host_address, host_port: host_port.parse().ok()?, pod_port: pod_port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_as_it_was_written_and_nothing_else_is() {
        let at = |protocol, host_address| HostPort { protocol, host_address, host_port: 53, pod_port: 5353 };
        let mapping = Mapping {
            owner: "aws-cni/c 1/eth0".to_owned(),
            host_veth: LinkName::new("eni1").unwrap(),
            address: Ipv4Addr::new(10, 0, 0, 7),
            ports: vec![at(Protocol::Tcp, None), at(Protocol::Udp, Some(Ipv4Addr::new(10, 0, 0, 10)))],
        };
        let text = "aws-cni/c 1/eth0 eni1 10.0.0.7\ntcp * 53 5353\nudp 10.0.0.10 53 5353\n";
        assert_eq!(mapping.to_string(), text);
        assert_eq!(text.parse(), Ok(mapping));
        for wrong in
            ["", "a b", "a eni1 10.0.0.7\ntcp * 53", "a eni1 10.0.0.7\nicmp * 1 1", "a eni1 10.0.0.7\ntcp * 1 70000"]
        {
            assert!(wrong.parse::<Mapping>().is_err(), "{wrong}");
        }
    }
}
