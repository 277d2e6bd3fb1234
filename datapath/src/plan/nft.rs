// SPDX-License-Identifier: Apache-2.0
//! An nft table as data: one interval set of IPv4 blocks, base chains, rules made of the few matches and statements we
//! use. Prints as nft text. `apply::nftables` writes the same value as netlink messages.
//!
//! Does not decide what is in the table ([`super::snat`]).
//!
//! Names must not be nft keywords: the kernel takes a chain called `snat`, but `nft -f` cannot read the listing back.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::model::Mark;

/// A table of family `ip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftTable {
    /// Its name.
    pub name: &'static str,
    /// Its set, if it has one.
    pub set: Option<NftSet>,
    /// Its base chains.
    pub chains: Vec<NftChain>,
}

/// An interval set of IPv4 blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftSet {
    /// Its name.
    pub name: &'static str,
    /// Disjoint, sorted, as few as possible ([`Ipv4Net::aggregate`]).
    pub blocks: Vec<Ipv4Net>,
}

impl NftSet {
    /// Takes blocks in any order, overlapping or not.
    #[must_use]
    pub fn new(name: &'static str, blocks: &[Ipv4Net]) -> Self {
        let blocks: Vec<_> = blocks.iter().map(Ipv4Net::trunc).collect();
        let mut blocks = Ipv4Net::aggregate(&blocks);
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
}

/// Where a base chain is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing; NF_INET_PRE_ROUTING.
    Prerouting = 0,
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
    /// Leaves by another link than this.
    OutputNot(&'static str),
    /// Leaves by a link whose name does not start so.
    OutputNotPrefix(&'static str),
    /// Destination is in no block of the set.
    DestinationOutside(&'static str),
    /// Destination is none of this node's addresses.
    DestinationNotLocal,
    /// First packet of a connection.
    ConnectionNew,
    /// The connection's destination has been rewritten.
    DestinationTranslated,
    /// The connection's mark has our value in our bits.
    ConnectionMark(Mark),
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
        to: Ipv4Addr,
        /// With ports chosen so.
        ports: PortChoice,
    },
    /// Drop.
    Drop,
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

impl NftTable {
    /// nft text that makes the table whatever was there, in one transaction.
    #[must_use]
    pub fn transaction(&self) -> String {
        format!("table ip {0}\ndelete table ip {0}\n{self}", self.name)
    }

    /// nft text that replaces the set's elements only, in one transaction.
    #[must_use]
    pub fn set_transaction(&self) -> String {
        let Some(set) = &self.set else { return String::new() };
        let (table, name) = (self.name, set.name);
        format!("flush set ip {table} {name}\nadd element ip {table} {name} {}\n", elements(&set.blocks))
    }
}

fn elements(blocks: &[Ipv4Net]) -> String {
    let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", blocks.join(", "))
}

impl fmt::Display for NftTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table ip {} {{", self.name)?;
        if let Some(set) = &self.set {
            writeln!(f, "\tset {} {{\n\t\ttype ipv4_addr\n\t\tflags interval", set.name)?;
            writeln!(f, "\t\telements = {}\n\t}}", elements(&set.blocks))?;
        }
        for chain in &self.chains {
            let (kind, hook) = (chain.kind.text(), chain.hook.text());
            writeln!(f, "\tchain {} {{", chain.name)?;
            writeln!(f, "\t\ttype {kind} hook {hook} priority {}; policy accept;", chain.priority)?;
            for rule in &chain.rules {
                writeln!(f, "\t\t{} comment \"{}\"", rule.body(), rule.comment())?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl ChainType {
    /// nft's word, which is the kernel's too.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl Hook {
    /// nft's word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Postrouting => "postrouting",
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputPrefix(prefix) => write!(f, "iifname \"{prefix}*\""),
            Self::InputGroup(group) => write!(f, "iifgroup {group}"),
            Self::OutputNot(name) => write!(f, "oifname != \"{name}\""),
            Self::OutputNotPrefix(prefix) => write!(f, "oifname != \"{prefix}*\""),
            Self::DestinationOutside(set) => write!(f, "ip daddr != @{set}"),
            Self::DestinationNotLocal => f.write_str("fib daddr type != local"),
            Self::ConnectionNew => f.write_str("ct state new"),
            Self::DestinationTranslated => f.write_str("ct status dnat"),
            Self::ConnectionMark(mark) => {
                write!(f, "ct mark & {:#010x} == {:#010x}", mark.mask, mark.value & mark.mask)
            }
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => f.write_str("counter"),
            Self::SetConnectionMark(mark) => write!(f, "ct mark set ct mark {}", our_bits(*mark)),
            Self::SetPacketMark(mark) => write!(f, "meta mark set meta mark {}", our_bits(*mark)),
            Self::Snat { to, ports } => write!(f, "snat to {to}{}", ports.text()),
            Self::Drop => f.write_str("drop"),
        }
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
