// SPDX-License-Identifier: Apache-2.0
//! Names of things: AWS ids and MAC addresses as types, their syntax, and the seeded source they are drawn from.
//!
//! Decides what an id looks like and nothing else; whether a thing of that id exists is the machine's business.
//!
//! Invariant: the same seed and the same calls give the same ids, so that a failing run can be repeated.
//!
//! Worked example: `eni-0` followed by 16 hex digits; `eni-1234` is malformed, `eni-1a2b3c4d` (the short form of before
//! 2016) is well formed.
//!
//! Source: EC2 user guide, "Resource IDs" (8 or 17 hex digits after the type); MACs are locally administered.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An AWS resource id as EC2 spells it; one type per kind of resource.
macro_rules! aws_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// What ids of this kind start with.
            pub const PREFIX: &'static str = $prefix;

            /// The id as EC2 spells it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text has the form of such an id: the prefix and 8 or 17 hex digits.
            #[must_use]
            pub fn is_well_formed(text: &str) -> bool {
                is_well_formed(text, $prefix)
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
    EniId, "eni-");
aws_id!(/// `eni-attach-…`; changes at every attach.
    AttachmentId, "eni-attach-");
aws_id!(/// `i-…`
    InstanceId, "i-");
aws_id!(/// `subnet-…`
    SubnetId, "subnet-");
aws_id!(/// `vpc-…`
    VpcId, "vpc-");
aws_id!(/// `sg-…`
    SecurityGroupId, "sg-");

fn is_well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A MAC address; text form is lower-case hex with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not six hex octets with colons between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address (six hex octets with colons)")]
pub struct BadMac(pub String);

impl std::str::FromStr for MacAddr {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
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

/// The seeded source of ids, MACs and choices: splitmix64, which needs eight bytes of state and no crate.
#[derive(Clone, Debug)]
pub struct IdSource {
    state: u64,
}

impl IdSource {
    /// The source of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u64::from(bound);
        if wide == 0 { 0 } else { u32::try_from(self.next_u64() % wide).unwrap_or(0) }
    }

    /// An id of 17 hex digits with this prefix.
    pub fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}0{:016x}", self.next_u64())
    }

    /// A MAC of EC2's kind: locally administered, unicast.
    pub fn mac(&mut self) -> MacAddr {
        let bits = self.next_u64().to_be_bytes();
        MacAddr([0x0a, bits[1], bits[2], bits[3], bits[4], bits[5]])
    }

    /// A request id, in the form of a UUID.
    pub fn request_id(&mut self) -> String {
        let (high, low) = (self.next_u64(), self.next_u64());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_eight_or_seventeen_hex_digits() {
        for (text, good) in [
            ("eni-1a2b3c4d", true),
            ("eni-01a2b3c4d5e6f7a8b", true),
            ("eni-1234", false),
            ("eni-01A2B3C4D5E6F7A8B", false),
            ("eni-attach-01a2b3c4d5e6f7a8b", false),
            ("i-01a2b3c4d5e6f7a8b", false),
        ] {
            assert_eq!(EniId::is_well_formed(text), good, "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (mut a, mut b) = (IdSource::new(7), IdSource::new(7));
        assert_eq!(a.id("eni-"), b.id("eni-"));
        assert_eq!(a.mac(), b.mac());
        let mac = a.mac();
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.0[0] & 0b11, 0b10, "locally administered unicast");
        assert!("0a:00:00:00:00".parse::<MacAddr>().is_err());
    }
}
