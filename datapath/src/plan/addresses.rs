// SPDX-License-Identifier: Apache-2.0
//! The addresses of a pod: one IPv4, one IPv6, or one of each. Never none and never two of a family, so nothing that holds
//! this type has to ask.
//!
//! One of the two may be an egress address, by which the pod gets out in a family of which it has no address of the VPC; its range
//! tells ([`ids::egress_range`]).
//!
//! Says nothing of where an address comes from (`ipamd`) or what is made for it ([`super::pod`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ids;

/// What a pod is known by. Prints as the addresses with a space between, IPv4 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodAddresses {
    /// IPv4 only.
    V4(Ipv4Addr),
    /// IPv6 only.
    V6(Ipv6Addr),
    /// Dual stack.
    Both(Ipv4Addr, Ipv6Addr),
}

impl PodAddresses {
    /// At most one of each family; `None` when there is neither.
    #[must_use]
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Option<Self> {
        match (v4, v6) {
            (Some(v4), Some(v6)) => Some(Self::Both(v4, v6)),
            (Some(v4), None) => Some(Self::V4(v4)),
            (None, Some(v6)) => Some(Self::V6(v6)),
            (None, None) => None,
        }
    }

    /// The IPv4 address.
    #[must_use]
    pub fn v4(self) -> Option<Ipv4Addr> {
        match self {
            Self::V4(v4) | Self::Both(v4, _) => Some(v4),
            Self::V6(_) => None,
        }
    }

    /// The IPv6 address.
    #[must_use]
    pub fn v6(self) -> Option<Ipv6Addr> {
        match self {
            Self::V6(v6) | Self::Both(_, v6) => Some(v6),
            Self::V4(_) => None,
        }
    }

    /// What the pod is known by in the VPC: without an egress address beside it ([`ids::egress_range`]).
    #[must_use]
    pub fn of_vpc(self) -> Self {
        match self {
            Self::Both(v4, v6) if ids::is_egress(v6.into()) => Self::V4(v4),
            Self::Both(v4, v6) if ids::is_egress(v4.into()) => Self::V6(v6),
            other => other,
        }
    }

    /// With an address of the other family beside its own; as it was when it has one of each already.
    #[must_use]
    pub fn and(self, other: IpAddr) -> Self {
        match (self, other) {
            (Self::V4(v4), IpAddr::V6(v6)) | (Self::V6(v6), IpAddr::V4(v4)) => Self::Both(v4, v6),
            _ => self,
        }
    }

    /// One or two, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4().map(IpAddr::from).into_iter().chain(self.v6().map(IpAddr::from))
    }

    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.iter().any(|own| own == address)
    }
}

impl From<Ipv4Addr> for PodAddresses {
    fn from(address: Ipv4Addr) -> Self {
        Self::V4(address)
    }
}

impl From<Ipv6Addr> for PodAddresses {
    fn from(address: Ipv6Addr) -> Self {
        Self::V6(address)
    }
}

impl fmt::Display for PodAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(v4) => fmt::Display::fmt(v4, f),
            Self::V6(v6) => fmt::Display::fmt(v6, f),
            Self::Both(v4, v6) => write!(f, "{v4} {v6}"),
        }
    }
}
