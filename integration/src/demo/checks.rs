// SPDX-License-Identifier: Apache-2.0
//! The demo's checks: who can talk to whom, which source address the far end sees, and that a wrong packet dies.
//!
//! Every check has a negative twin. A way that crosses the router: the same packets with the pod's address moved to another
//! ENI at the router; then the packet, or its answer, comes from an ENI that the address does not belong to. A way inside one
//! node never meets the router, so its twin takes a detour over the wire, out of an ENI that does not own its source: the
//! mistake that Enid's own rules exist to prevent. Dead means: no answer, and the router's counter for exactly that source
//! address went up.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::DemoError;
use crate::fabric::{DropReason, Fabric};
use crate::netns::Namespace;
use crate::node::Node;
use crate::probe::{EchoServer, ProbeError, Protocol, ask, ask_from, ping, reach};

/// One end of a check.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// How the table calls it.
    pub(super) label: String,
    /// Where it runs.
    pub(super) netns: Namespace,
    /// Its own address.
    pub(super) address: Ipv4Addr,
}

/// How the far end is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// An echo server, over UDP and TCP.
    Echo,
    /// A ping.
    Ping,
}

/// What must die.
#[derive(Clone, Debug)]
pub(super) enum Twin {
    /// The same, with this address moved to that ENI.
    Moved { address: Ipv4Addr, to: String },
    /// The same over a detour, with the address moved while it is there; unmoved, it passes.
    DetourAndMoved { detour: Detour, address: Ipv4Addr, to: String },
    /// The same over a detour out of an ENI that does not own `source`.
    WrongEni { detour: Detour, source: Ipv4Addr },
    /// The same packet to the same port of loopback, from this other pod: nobody there.
    OtherPod(Namespace),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) from: End,
    pub(super) to: End,
    pub(super) way: Way,
    /// The address that the far end must see.
    pub(super) seen: Ipv4Addr,
    pub(super) twin: Twin,
}

/// How a check went.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// What the far end saw, or why nothing came back.
    pub(super) alive: Result<String, String>,
    /// How the twin died, or that it did not.
    pub(super) died: Result<String, String>,
}

impl Check {
    /// Runs the check and its twin.
    pub(super) fn run(&self, fabric: &Fabric, nodes: &[Node]) -> Result<Outcome, DemoError> {
        // At its own address: answers of a server at all addresses would take the source that the route back prefers.
        let server = EchoServer::start_at(&self.to.netns, self.to.address)?;
        let alive = self.alive(&server);
        let died = match &self.twin {
            Twin::Moved { address, to } => self.moved(fabric, &server, *address, to)?,
            Twin::DetourAndMoved { detour, address, to } => {
                let _taken = detour.take(nodes)?;
                match self.exchange(&server, Protocol::Udp) {
                    Ok(_) => self.moved(fabric, &server, *address, to)?,
                    Err(error) => Err(format!("did not pass over the wire: {error}")),
                }
            }
            Twin::WrongEni { detour, source } => {
                let _taken = detour.take(nodes)?;
                self.dead(fabric, &server, *source)?
            }
            Twin::OtherPod(other) => match ask(other, Protocol::Udp, self.target(&server)) {
                Err(ProbeError::Refused { .. }) => Ok("refused in another pod".to_owned()),
                answer => Err(format!("another pod got {answer:?}")),
            },
        };
        Ok(Outcome { alive, died })
    }

    /// The check itself: answers over every protocol, from the right source.
    fn alive(&self, server: &EchoServer) -> Result<String, String> {
        if self.way == Way::Ping {
            return ping(&self.from.netns, self.to.address, 56)
                .map(|_| format!("{} (ping)", self.from.address))
                .map_err(|error| error.to_string());
        }
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            // Unbound, as programs do: the kernel picks the source.
            let seen = reach(&self.from.netns, protocol, self.target(server)).map_err(|error| error.to_string())?;
            if seen != self.seen {
                return Err(format!("{protocol}: the far end saw {seen}, not {}", self.seen));
            }
        }
        Ok(self.seen.to_string())
    }

    /// The twin with an address at another ENI: dead there, alive again when it is back.
    fn moved(
        &self,
        fabric: &Fabric,
        server: &EchoServer,
        address: Ipv4Addr,
        to: &str,
    ) -> Result<Result<String, String>, DemoError> {
        let owner = fabric.owner(address).ok_or_else(|| DemoError::State(format!("no ENI has {address}")))?;
        let block = [Ipv4Net::from(address)];
        fabric.assign(to, &block)?;
        let died = self.dead(fabric, server, address);
        fabric.assign(&owner, &block)?;
        let died = died?;
        if died.is_ok() && self.exchange(server, Protocol::Udp).is_err() {
            return Ok(Err(format!("dead still, with {address} back at its ENI")));
        }
        Ok(died)
    }

    /// Sends what must die, and looks for it in the router's counters.
    fn dead(
        &self,
        fabric: &Fabric,
        server: &EchoServer,
        source: Ipv4Addr,
    ) -> Result<Result<String, String>, DemoError> {
        let before = fabric.drops()?;
        let answer = self.exchange(server, Protocol::Udp);
        let drops = fabric.drops()?.since(&before);
        let counted = drops.of(DropReason::WrongSource, source);
        Ok(match answer {
            Ok(seen) => Err(format!("answered, the far end saw {seen}")),
            Err(_) if counted == 0 => Err(format!("silent, but not counted at the router: {drops}")),
            Err(_) => Ok(format!("router: {counted} from {source}")),
        })
    }

    /// One exchange, from the near end's own address: a node has several to choose from.
    fn exchange(&self, server: &EchoServer, protocol: Protocol) -> Result<Ipv4Addr, ProbeError> {
        if self.way == Way::Ping {
            return ping(&self.from.netns, self.to.address, 56).map(|_| self.from.address);
        }
        ask_from(&self.from.netns, self.from.address, protocol, self.target(server)).map(|seen| *seen.ip())
    }

    fn target(&self, server: &EchoServer) -> SocketAddrV4 {
        SocketAddrV4::new(self.to.address, server.port())
    }
}

/// Packets to one destination that leave a node by an ENI of the harness's choice.
///
/// They are marked in an nft table of the harness, and a rule before all of Enid's (priority 100) sends what is marked to the
/// ENI's table. A rule on addresses alone would not do: the kernel's reverse-path check asks the same rules for the way back,
/// but without the mark (ip-sysctl.rst, src_valid_mark).
#[derive(Clone, Debug)]
pub(super) struct Detour {
    /// The node.
    pub(super) node: String,
    /// The link that they come in by; `None`: the node sends them itself.
    pub(super) from_link: Option<String>,
    /// Their destination.
    pub(super) to: Ipv4Addr,
    /// The route table of the ENI.
    pub(super) table: u32,
}

/// A detour in place, gone when dropped.
struct Taken<'a> {
    node: &'a Node,
}

impl Detour {
    fn take<'a>(&self, nodes: &'a [Node]) -> Result<Taken<'a>, DemoError> {
        let node = nodes.iter().find(|node| node.name == self.node);
        let node = node.ok_or_else(|| DemoError::State(format!("no node is called {}", self.node)))?;
        let (to, table) = (self.to, self.table);
        let (kind, from) = match &self.from_link {
            Some(link) => ("filter hook prerouting priority -310", format!("iifname \"{link}\" ")),
            None => ("route hook output priority -150", String::new()),
        };
        node.nft(&format!(
            "table ip harness {{\nchain detour {{\ntype {kind}; policy accept;\n{from}ip daddr {to} meta mark set meta mark | 0x4000\n}}\n}}\n"
        ))?;
        node.ip(&format!("rule add priority 100 fwmark 0x4000/0x4000 lookup {table}\n"))?;
        Ok(Taken { node })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The world ends with the demo.
        let _ = self.node.ip("rule delete priority 100\n");
        let _ = self.node.nft("delete table ip harness\n");
    }
}
