// SPDX-License-Identifier: Apache-2.0
//! Names and numbers of the domain as types: AWS ids, keys, times.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An AWS resource id as EC2 spells it; one type per kind of resource.
macro_rules! aws_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as EC2 spells it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }
    };
}

aws_id!(/// `eni-…`
    EniId);
aws_id!(/// `eni-attach-…`; changes at every attach.
    AttachmentId);
aws_id!(/// `i-…`
    InstanceId);
aws_id!(/// `subnet-…`
    SubnetId);
aws_id!(/// `vpc-…`
    VpcId);
aws_id!(/// `sg-…`
    SecurityGroupId);

/// A MAC address; text form is lower-case hex with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// A text that is not six hex octets with colons between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address (six hex octets with colons)")]
pub struct MacAddrParseError(pub String);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacAddrParseError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            // `from_str_radix` takes a sign, too.
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let part = part.ok_or_else(error)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The position of an ENI on a network card of the instance; 0 on card 0 is the primary ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceIndex(pub u32);

/// A kernel routing table number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteTable(pub u32);

impl RouteTable {
    /// The kernel's main table.
    pub const MAIN: Self = Self(254);

    /// The reference's numbering: on network card 0 main for the primary ENI and device index + 1 for the others, on card c
    /// 10000 + 100 c + device index.
    #[must_use]
    pub fn of_eni(network_card: u32, index: DeviceIndex) -> Self {
        match (network_card, index.0) {
            (0, 0) => Self::MAIN,
            (0, device) => Self(device.saturating_add(1)),
            (card, device) => Self(card.saturating_mul(100).saturating_add(10_000).saturating_add(device)),
        }
    }

    /// The network card of the ENI with this table, by that numbering.
    #[must_use]
    pub fn network_card(self) -> u32 {
        self.0.checked_sub(10_000).map_or(0, |rest| rest / 100)
    }
}

/// Time since boot (CLOCK_BOOTTIME): monotonic, and comparable across restarts of the daemon within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub Duration);

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl BootTime {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks at one moment: what every call into the core is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Decides: deadlines, cooldown, ages.
    pub boot: BootTime,
    /// Only recorded (allocation timestamps, tags): nanoseconds since the Unix epoch.
    pub unix_nanos: i64,
}

/// What an allocation is bound to: the CNI specification's key. Text form `network/container/ifname`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllocationKey {
    /// CNI network name, `aws-cni`.
    pub network: String,
    /// CNI container id: the sandbox.
    pub container_id: String,
    /// Link name in the pod, `eth0`.
    pub ifname: String,
}

impl fmt::Display for AllocationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.ifname)
    }
}

/// The Kubernetes pod behind an allocation; both empty when the runtime names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => f.write_str("-"),
            (namespace, name) => write!(f, "{namespace}/{name}"),
        }
    }
}

/// One ADD or DEL call in progress; given by the rpc edge, never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One action in progress; given by the core, never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// The router of a subnet: its network address + 1 (VPC user guide, "Subnet sizing").
#[must_use]
pub fn subnet_router(subnet: ipnet::Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_its_network_card() {
        for card in 0..=4 {
            for device in (0..=15).map(DeviceIndex) {
                assert_eq!(RouteTable::of_eni(card, device).network_card(), card, "card {card}, device {device:?}");
            }
        }
    }

    #[test]
    fn a_mac_address_is_six_octets_of_two_hex_digits_each() {
        assert_eq!("02:0A:ff:00:00:01".parse(), Ok(MacAddr([2, 10, 255, 0, 0, 1])));
        for text in
            ["", "02:0a:ff:00:00", "02:0a:ff:00:00:01:02", "2:0a:ff:00:00:01", "+2:0a:ff:00:00:01", "02-0a-ff-00-00-01"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
