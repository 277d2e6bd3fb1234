// SPDX-License-Identifier: Apache-2.0
//! Of an nft table: sets that rules fill, and matches on what the kernel tracks. Of IPv4 but for `NotMarked` and `Request`.
//!
//! Does not decide what they are for ([`crate::plan::notrack`]). A flow of ICMP has no ports, of other protocols only first
//! bytes: whoever asks for one says the transport first or does not mind.

use std::fmt;

use super::super::model::Mark;
use super::{Within, family_text};
use crate::plan::Family;

/// A set that rules fill, each element with a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its name.
    pub name: &'static str,
    /// What it holds; a flow in either direction is the same type.
    pub key: Key,
    /// The most elements it takes.
    pub size: u32,
    /// How often elements whose time has come are cleared away, in seconds.
    pub cleared_every: u32,
}

/// What of a packet is looked up or remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its flow: transport, source, port, destination, port.
    Flow,
    /// The flow of its answer.
    FlowBack,
    /// Its transport.
    Transport,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// In a memory.
    Remembered(Key, &'static str),
    /// Carries ICMP.
    Icmp,
    /// Belongs to no connection and opens none, or is an error about a packet of none.
    Invalid,
    /// Was said not to be tracked.
    Untracked,
    /// Neither source nor destination of its connection are translated by netfilter; IPVS says nothing here.
    NotTranslated,
    /// Its connection is not known yet to others than this packet.
    NotConfirmed,
    /// What its connection was opened to is in a block of the set, or in none.
    OpenedTo(Within),
    /// The connection's mark has not our value in our bits.
    NotMarked(Mark),
    /// Goes the way of the packet that opened its connection.
    Request,
    /// The connection is forgotten after so many seconds without a packet, or sooner.
    ForgottenWithin(u32),
    /// Not so soon.
    ForgottenAfter(u32),
    /// Source is one of this node's addresses.
    SourceLocal,
    /// The route to the destination leaves by a link whose name starts so.
    LeadsTo(String),
}

impl Key {
    /// As nft has it in lookups and updates.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Flow => "meta l4proto . ip saddr . th sport . ip daddr . th dport",
            Self::FlowBack => "meta l4proto . ip daddr . th dport . ip saddr . th sport",
            Self::Transport => "meta l4proto",
        }
    }

    /// As nft has it in a set's type.
    #[must_use]
    pub fn type_text(self) -> &'static str {
        match self {
            Self::Flow | Self::FlowBack => "inet_proto . ipv4_addr . inet_service . ipv4_addr . inet_service",
            Self::Transport => "inet_proto",
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{\n\t\ttype {}\n\t\tsize {}", self.name, self.key.type_text(), self.size)?;
        writeln!(f, "\t\tflags dynamic,timeout\n\t\tgc-interval {}s\n\t}}", self.cleared_every)
    }
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remembered(key, set) => write!(f, "{} @{set}", key.text()),
            Self::Icmp => f.write_str("meta l4proto icmp"),
            Self::Invalid => f.write_str("ct state invalid"),
            Self::Untracked => f.write_str("ct state untracked"),
            Self::NotTranslated => f.write_str("ct status ! snat,dnat"),
            Self::NotConfirmed => f.write_str("ct status ! confirmed"),
            Self::OpenedTo(Within::Inside(set)) => write!(f, "ct original {} daddr @{set}", family_text(Family::V4)),
            Self::OpenedTo(Within::Outside(set)) => {
                write!(f, "ct original {} daddr != @{set}", family_text(Family::V4))
            }
            Self::NotMarked(mark) => {
                write!(f, "ct mark & {:#010x} != {:#010x}", mark.mask, mark.value & mark.mask)
            }
            Self::Request => f.write_str("ct direction original"),
            Self::ForgottenWithin(seconds) => write!(f, "ct expiration <= {seconds}s"),
            Self::ForgottenAfter(seconds) => write!(f, "ct expiration > {seconds}s"),
            Self::SourceLocal => f.write_str("fib saddr type local"),
            Self::LeadsTo(prefix) => write!(f, "fib daddr oifname \"{prefix}*\""),
        }
    }
}
