// SPDX-License-Identifier: Apache-2.0
//! An nft table as data: interval sets of blocks, base chains, rules made of the few matches and statements we use. Prints
//! as nft text. `apply::nftables` writes the same value as netlink messages. What is about tracking: [`tracking`].
//!
//! Does not decide what is in the table ([`super::snat`]).
//!
//! Names must not be nft keywords: the kernel takes a chain called `snat`, but `nft -f` cannot read the listing back.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::model::{Family, Mark};
use super::name::MacAddr;
use tracking::{Key, Memory, Tracking};

pub mod tracking;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftTable {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
    /// Its sets, by name.
    pub sets: Vec<NftSet>,
    /// Its sets that rules fill; what is in them is nobody's to compare.
    pub memories: Vec<Memory>,
    /// Its base chains.
    pub chains: Vec<NftChain>,
    /// Its chains that only rules lead to.
    pub branches: Vec<NftBranch>,
}

/// An interval set of address blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftSet {
    /// Its name.
    pub name: &'static str,
    /// All of the table's family, disjoint, sorted, as few as possible ([`IpNet::aggregate`]).
    pub blocks: Vec<IpNet>,
}

impl NftSet {
    /// Takes blocks in any order, overlapping or not; those of another family are left out.
    #[must_use]
    pub fn new(name: &'static str, family: Family, blocks: impl IntoIterator<Item = IpNet>) -> Self {
        let blocks: Vec<_> =
            blocks.into_iter().filter(|block| Family::of(block.addr()) == family).map(|block| block.trunc()).collect();
        let mut blocks = IpNet::aggregate(&blocks);
        blocks.sort();
        Self { name, blocks }
    }
}

/// Type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Verdicts and marks.
    Filter,
    /// Sees the first packet of a connection only.
    Nat,
    /// Of the node's own packets: one whose mark it changes is routed anew.
    Route,
}

/// Where a base chain is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing; NF_INET_PRE_ROUTING.
    Prerouting = 0,
    /// Of packets that are neither from nor for this node; NF_INET_FORWARD.
    Forward = 2,
    /// Of the node's own packets, once they have a route; NF_INET_LOCAL_OUT.
    Output = 3,
    /// After routing; NF_INET_POST_ROUTING.
    Postrouting = 4,
}

/// A base chain with policy accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftChain {
    /// Its name; no nft keyword.
    pub name: &'static str,
    /// Its type.
    pub kind: ChainType,
    /// Its hook.
    pub hook: Hook,
    /// Lower runs first.
    pub priority: i32,
    /// Its rules, in order.
    pub rules: Vec<NftRule>,
}

/// A chain without a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftBranch {
    /// Its name; no nft keyword.
    pub name: &'static str,
    /// Its rules, in order.
    pub rules: Vec<NftRule>,
}

/// A rule: all matches, then the statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftRule {
    /// What it is for; part of the comment that the kernel keeps.
    pub purpose: &'static str,
    /// All must hold.
    pub matches: Vec<Match>,
    /// What happens then.
    pub statements: Vec<Statement>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Came in by a link whose name starts so.
    InputPrefix(String),
    /// Came in by a link of this group.
    InputGroup(u32),
    /// Came in by a link whose group has this value in these bits.
    InputGroupBits(Mark),
    /// Came in by the Ethernet link with this address, whatever its name.
    InputMac(MacAddr),
    /// Leaves by a link whose name starts so.
    OutputPrefix(String),
    /// Carries this.
    Transport(Transport),
    /// Opens a TCP connection, or answers to that.
    TcpSyn,
    /// Source is in a block of the set, or in none.
    Source(Family, Within),
    /// Destination is in a block of the set, or in none.
    Destination(Family, Within),
    /// Destination is one of this node's addresses, or none.
    DestinationLocal(bool),
    /// First packet of a connection.
    ConnectionNew,
    /// The connection's mark has our value in our bits.
    ConnectionMark(Mark),
    /// One of those about tracking.
    Tracking(Tracking),
}

/// A transport with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// IPPROTO_TCP.
    Tcp = 6,
    /// IPPROTO_UDP.
    Udp = 17,
    /// IPPROTO_SCTP.
    Sctp = 132,
}

/// Whether an address is in a set of the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// In one of its blocks.
    Inside(&'static str),
    /// In none of them.
    Outside(&'static str),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Count packets and bytes.
    Counter,
    /// Write our bits of the connection's mark, and no others.
    SetConnectionMark(Mark),
    /// Write our bits of the packet's mark, and no others.
    SetPacketMark(Mark),
    /// Rewrite the source.
    Snat {
        /// To this address.
        to: IpAddr,
        /// With ports of this range; `None`: of the kernel's. Only behind [`Match::Transport`].
        range: Option<PortRange>,
        /// Chosen so.
        ports: PortChoice,
    },
    /// Rewrite the source to the address of the link it leaves by that the kernel would choose for the destination.
    Masquerade {
        /// As of [`Statement::Snat`].
        range: Option<PortRange>,
        /// As of [`Statement::Snat`].
        ports: PortChoice,
    },
    /// Drop, and tell the sender that it is forbidden, by ICMP of the table's family.
    Refuse(Family),
    /// Lower the TCP option "maximum segment size" to this; never raises it. Only behind [`Match::TcpSyn`].
    ClampSegment(u16),
    /// This packet is not tracked.
    Untrack,
    /// Add to a memory, or let it stay from now on, for so many seconds. Not where it is full: what follows is not done then.
    Remember(&'static str, Key, u32),
    /// Drop.
    Drop,
    /// No later rule of this chain is asked.
    Accept,
    /// The branch is asked and no later rule of this chain.
    Goto(&'static str),
}

/// How SNAT chooses a source port (AWS_VPC_K8S_CNI_RANDOMIZESNAT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortChoice {
    /// `prng`: fully random.
    #[default]
    Prng,
    /// `hashrandom`: random by a hash.
    HashRandom,
    /// `none`: keep it where possible.
    None,
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

impl NftRule {
    /// Text of the rule without its comment.
    #[must_use]
    pub fn body(&self) -> String {
        let matches = self.matches.iter().map(ToString::to_string);
        let statements = self.statements.iter().map(ToString::to_string);
        matches.chain(statements).collect::<Vec<_>>().join(" ")
    }

    /// The comment that the kernel keeps with the rule: its purpose and a fingerprint of its text, by which a later run
    /// sees that the rule there is the rule wanted (the kernel's own form of it is not compared).
    #[must_use]
    pub fn comment(&self) -> String {
        use sha1::{Digest, Sha1};
        let digest = Sha1::digest(format!("{ENCODING} {}", self.body()).as_bytes());
        let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{} #{hex}", self.purpose)
    }
}

/// Part of every fingerprint: to be raised when `apply` writes the same text as other expressions.
const ENCODING: u32 = 1;

impl fmt::Display for NftRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} comment \"{}\"", self.body(), self.comment())
    }
}

impl NftTable {
    /// nft text that makes the table whatever was there, in one transaction.
    #[must_use]
    pub fn transaction(&self) -> String {
        format!("table {0} {1}\ndelete table {0} {1}\n{self}", family_text(self.family), self.name)
    }

    /// nft text that replaces the elements of its sets and nothing else, in one transaction.
    #[must_use]
    pub fn set_transaction(&self) -> String {
        let (family, table) = (family_text(self.family), self.name);
        let of_set = |set: &NftSet| {
            let flush = format!("flush set {family} {table} {}\n", set.name);
            let add = set.elements().map(|text| format!("add element {family} {table} {} {text}\n", set.name));
            flush + &add.unwrap_or_default()
        };
        self.sets.iter().map(of_set).collect()
    }
}

impl NftSet {
    /// `None`: there are none, for which nft has no text.
    fn elements(&self) -> Option<String> {
        let blocks: Vec<_> = self.blocks.iter().map(ToString::to_string).collect();
        (!blocks.is_empty()).then(|| format!("{{ {} }}", blocks.join(", ")))
    }
}

impl fmt::Display for NftTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", family_text(self.family), self.name)?;
        for set in &self.sets {
            writeln!(f, "\tset {} {{\n\t\ttype {}\n\t\tflags interval", set.name, address_type(self.family))?;
            if let Some(elements) = set.elements() {
                writeln!(f, "\t\telements = {elements}")?;
            }
            writeln!(f, "\t}}")?;
        }
        for memory in &self.memories {
            write!(f, "{memory}")?;
        }
        // nft reads a name only once it knows it.
        for NftBranch { name, rules } in &self.branches {
            writeln!(f, "\tchain {name} {{")?;
            rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
            writeln!(f, "\t}}")?;
        }
        for chain in &self.chains {
            let (kind, hook) = (chain.kind.text(), chain.hook.text());
            writeln!(f, "\tchain {} {{", chain.name)?;
            writeln!(f, "\t\ttype {kind} hook {hook} priority {}; policy accept;", chain.priority)?;
            for rule in &chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

/// nft's word for a family, of tables and of packets.
#[must_use]
pub fn family_text(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// nft's word for the type of an address.
fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

impl ChainType {
    /// nft's word, which is the kernel's too.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

impl Hook {
    /// nft's word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputPrefix(prefix) => write!(f, "iifname \"{prefix}*\""),
            Self::InputGroup(group) => write!(f, "iifgroup {group}"),
            Self::InputGroupBits(Mark { value, mask }) => write!(f, "iifgroup & {mask:#010x} == {value:#010x}"),
            // nft would add the type of link by itself.
            Self::InputMac(mac) => write!(f, "iiftype ether ether daddr {mac}"),
            Self::OutputPrefix(prefix) => write!(f, "oifname \"{prefix}*\""),
            Self::TcpSyn => f.write_str("tcp flags syn"),
            Self::Source(family, Within::Inside(set)) => write!(f, "{} saddr @{set}", family_text(*family)),
            Self::Source(family, Within::Outside(set)) => write!(f, "{} saddr != @{set}", family_text(*family)),
            Self::Transport(Transport::Tcp) => f.write_str("meta l4proto tcp"),
            Self::Transport(Transport::Udp) => f.write_str("meta l4proto udp"),
            Self::Transport(Transport::Sctp) => f.write_str("meta l4proto sctp"),
            Self::Destination(family, Within::Inside(set)) => write!(f, "{} daddr @{set}", family_text(*family)),
            Self::Destination(family, Within::Outside(set)) => write!(f, "{} daddr != @{set}", family_text(*family)),
            Self::DestinationLocal(true) => f.write_str("fib daddr type local"),
            Self::DestinationLocal(false) => f.write_str("fib daddr type != local"),
            Self::ConnectionNew => f.write_str("ct state new"),
            Self::ConnectionMark(mark) => {
                write!(f, "ct mark & {:#010x} == {:#010x}", mark.mask, mark.value & mark.mask)
            }
            Self::Tracking(tracking) => write!(f, "{tracking}"),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => f.write_str("counter"),
            Self::SetConnectionMark(mark) => write!(f, "ct mark set ct mark {}", our_bits(*mark)),
            Self::SetPacketMark(mark) => write!(f, "meta mark set meta mark {}", our_bits(*mark)),
            Self::Snat { to, range: None, ports } => write!(f, "snat to {to}{}", ports.text()),
            Self::Snat { to, range: Some(range), ports } => {
                let to = if to.is_ipv6() { format!("[{to}]") } else { to.to_string() };
                write!(f, "snat to {to}:{range}{}", ports.text())
            }
            Self::Masquerade { range: None, ports } => write!(f, "masquerade{}", ports.text()),
            Self::Masquerade { range: Some(range), ports } => write!(f, "masquerade to :{range}{}", ports.text()),
            Self::Refuse(Family::V4) => f.write_str("reject with icmp type admin-prohibited"),
            Self::Refuse(Family::V6) => f.write_str("reject with icmpv6 type admin-prohibited"),
            Self::ClampSegment(size) => write!(f, "tcp option maxseg size set {size}"),
            Self::Untrack => f.write_str("notrack"),
            Self::Remember(set, key, seconds) => write!(f, "update @{set} {{ {} timeout {seconds}s }}", key.text()),
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Goto(branch) => write!(f, "goto {branch}"),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// Writing masked bits without a second register, as kernels before 6.13 need it: clear ours, then flip them to the
/// value.
fn our_bits(mark: Mark) -> String {
    format!("& {:#010x} ^ {:#010x}", !mark.mask, mark.value & mark.mask)
}

impl PortChoice {
    fn text(self) -> &'static str {
        match self {
            Self::Prng => " fully-random",
            Self::HashRandom => " random",
            Self::None => "",
        }
    }
}

#[cfg(test)]
mod tests;
