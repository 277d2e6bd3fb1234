// SPDX-License-Identifier: Apache-2.0
//! The alias (IFLA_IFALIAS) of a host veth: who owns it and which addresses it carries. It lets the kernel testify for an
//! address in use when every file of ours is lost.
//!
//! Text: `enid <network>/<containerid>/<ifname> <address> [<address>]`, such as `enid aws-cni/0a1b2c/eth0 10.0.1.7`; of two
//! addresses the first is IPv4 and the second IPv6. An alias that does not parse is somebody else's: it is never written over and never taken for ours.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::addresses::PodAddresses;
use super::ids;

/// Owner and addresses of a host veth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VethAlias {
    /// The allocation key, `network/containerid/ifname`; no white space.
    pub owner: String,
    /// The pod's addresses.
    pub addresses: PodAddresses,
}

/// An alias that cannot be written, or a text that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// Empty owner, or one with white space or control characters.
    #[error("owner key {0:?} is empty or holds white space")]
    Owner(String),
    /// Longer than the kernel takes.
    #[error("alias of {length} bytes is over the kernel's {max}", max = ids::ALIAS_MAX)]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not our form.
    #[error("{0:?} is not an alias of ours (`enid <owner> <address> [<address>]`)")]
    Foreign(String),
}

impl VethAlias {
    /// Checked against what the kernel and the parser take.
    ///
    /// # Errors
    /// [`AliasError::Owner`] and [`AliasError::TooLong`].
    pub fn new(owner: &str, addresses: PodAddresses) -> Result<Self, AliasError> {
        if owner.is_empty() || owner.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AliasError::Owner(owner.to_owned()));
        }
        let alias = Self { owner: owner.to_owned(), addresses };
        let length = alias.to_string().len();
        if length > ids::ALIAS_MAX { Err(AliasError::TooLong { length }) } else { Ok(alias) }
    }
}

impl fmt::Display for VethAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", ids::ALIAS_WORD, self.owner, self.addresses)
    }
}

impl FromStr for VethAlias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let foreign = || AliasError::Foreign(text.to_owned());
        let mut words = text.split(' ');
        let (Some(ids::ALIAS_WORD), Some(owner)) = (words.next(), words.next()) else { return Err(foreign()) };
        let addresses = words.map(str::parse).collect::<Result<Vec<IpAddr>, _>>().map_err(|_| foreign())?;
        let addresses = match *addresses.as_slice() {
            [IpAddr::V4(v4)] => PodAddresses::V4(v4),
            [IpAddr::V6(v6)] => PodAddresses::V6(v6),
            [IpAddr::V4(v4), IpAddr::V6(v6)] => PodAddresses::Both(v4, v6),
            _ => return Err(foreign()),
        };
        Self::new(owner, addresses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_text_is_the_documented_one() {
        let alias = VethAlias::new("aws-cni/0a1b2c/eth0", Ipv4Addr::new(10, 0, 1, 7).into()).unwrap();
        assert_eq!(alias.to_string(), "enid aws-cni/0a1b2c/eth0 10.0.1.7");
        let both = PodAddresses::Both(Ipv4Addr::new(10, 0, 1, 7), "2600:1f13::7".parse().unwrap());
        let alias = VethAlias { addresses: both, ..alias };
        assert_eq!(alias.to_string(), "enid aws-cni/0a1b2c/eth0 10.0.1.7 2600:1f13::7");
    }

    #[test]
    fn foreign_texts_are_not_ours() {
        for text in [
            "",
            "enid",
            "enid a",
            "enid a b",
            "enid  10.0.0.1",
            "enid a 10.0.0.1 ",
            "enid a 10.0.0.1 x",
            "enid a 10.0.0.1 10.0.0.2",
            "enid a 2600::1 10.0.0.2",
            "enid a 2600::1 2600::2",
            "enid a 10.0.0.1 2600::1 2600::2",
            "enid a 2600:0::1/128",
            "Enid a 10.0.0.1",
        ] {
            assert!(text.parse::<VethAlias>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_alias_longer_than_the_kernel_takes_is_refused() {
        let address = PodAddresses::V4(Ipv4Addr::new(255, 255, 255, 255));
        assert!(VethAlias::new(&"x".repeat(234), address).is_ok());
        assert_eq!(VethAlias::new(&"x".repeat(235), address), Err(AliasError::TooLong { length: 256 }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_back(owner in "[a-zA-Z0-9][a-zA-Z0-9_./-]{0,180}", v4 in any::<Option<u32>>(), v6 in any::<u128>()) {
            let v6 = Some(Ipv6Addr::from(v6)).filter(|_| v4.is_none() || owner.len() % 2 == 0);
            let addresses = PodAddresses::new(v4.map(Ipv4Addr::from), v6).unwrap();
            let alias = VethAlias::new(&owner, addresses).unwrap();
            prop_assert_eq!(alias.to_string().parse::<VethAlias>().unwrap(), alias);
        }

        #[test]
        fn parsing_never_panics_and_only_takes_what_it_would_print(text in ".{0,60}") {
            if let Ok(alias) = text.parse::<VethAlias>() {
                prop_assert_eq!(alias.to_string().parse::<VethAlias>().unwrap(), alias);
            }
        }
    }
}
