// SPDX-License-Identifier: Apache-2.0
//! What had to be put right: each write of a repair with the kind of object and the reason, for counters and one log line.
//!
//! Decides nothing: which writes are needed is said by [`super::host::diff`], [`super::eni::diff`] and
//! [`super::pods::diff`].

use std::fmt;

use super::model::{LinkSet, Op};

/// Kinds of kernel objects that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A setting of a link: up, MTU, MAC, rp_filter, group.
    Link,
    /// An address of an ENI.
    Address,
    /// A route.
    Route,
    /// A policy rule.
    Rule,
    /// A permanent neighbour.
    Neighbour,
    /// A global setting.
    Sysctl,
    /// Our nft table.
    NftTable,
    /// The table of host ports, or what is in it.
    HostPort,
}

/// What was wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It was not there.
    Missing,
    /// It was there with other values.
    Changed,
    /// A link was down.
    Down,
    /// Something was there that must not be: it hid ours, or belongs to no sandbox.
    Stale,
}

/// One write of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// On what.
    pub object: Object,
    /// Why.
    pub fault: Fault,
    /// The write.
    pub op: Op,
}

impl Repair {
    /// A write whose reason is another than its kind says.
    #[must_use]
    pub fn because(fault: Fault, op: Op) -> Self {
        Self { fault, ..Self::from(op) }
    }
}

impl From<Op> for Repair {
    fn from(op: Op) -> Self {
        let (object, fault) = match &op {
            Op::LinkSet(LinkSet { up: true, .. }) => (Object::Link, Fault::Down),
            Op::LinkSet(_) => (Object::Link, Fault::Changed),
            Op::AddressAdd(_) => (Object::Address, Fault::Missing),
            Op::AddressDelete(_) => (Object::Address, Fault::Stale),
            Op::RouteAdd(_) | Op::RouteReplace(_) => (Object::Route, Fault::Missing),
            Op::RouteDelete(_) => (Object::Route, Fault::Stale),
            Op::RuleAdd(_) => (Object::Rule, Fault::Missing),
            Op::RuleDelete(_) | Op::OwnRuleDelete(_) => (Object::Rule, Fault::Stale),
            Op::NeighbourSet(_) => (Object::Neighbour, Fault::Missing),
            Op::NeighbourDelete(_) => (Object::Neighbour, Fault::Stale),
            Op::Sysctl(_) => (Object::Sysctl, Fault::Changed),
            Op::NftReplace(_) | Op::NftSetReplace(_) => (Object::NftTable, Fault::Changed),
            Op::NftDelete(..) => (Object::NftTable, Fault::Stale),
        };
        Self { object, fault, op }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Neighbour => "neighbour",
            Self::Sysctl => "sysctl",
            Self::NftTable => "nft-table",
            Self::HostPort => "host-port",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Down => "down",
            Self::Stale => "stale",
        })
    }
}
