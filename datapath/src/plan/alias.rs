// SPDX-License-Identifier: Apache-2.0
//! The alias (IFLA_IFALIAS) of a host veth: who owns it and which address it carries. It lets the kernel testify for an
//! address in use when every file of ours is lost.
//!
//! Text: `enid <network>/<containerid>/<ifname> <address>`, such as `enid aws-cni/0a1b2c/eth0 10.0.1.7`. An alias that
//! does not parse is somebody else's: it is never written over and never taken for ours.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::ids;

/// Owner and address of a host veth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VethAlias {
    /// The allocation key, `network/containerid/ifname`; no white space.
    pub owner: String,
    /// The pod's address.
    pub address: Ipv4Addr,
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
    #[error("{0:?} is not an alias of ours (`enid <owner> <address>`)")]
    Foreign(String),
}

impl VethAlias {
    /// Checked against what the kernel and the parser take.
    ///
    /// # Errors
    /// [`AliasError::Owner`] and [`AliasError::TooLong`].
    pub fn new(owner: &str, address: Ipv4Addr) -> Result<Self, AliasError> {
        if owner.is_empty() || owner.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(AliasError::Owner(owner.to_owned()));
        }
        let alias = Self { owner: owner.to_owned(), address };
        let length = alias.to_string().len();
        if length > ids::ALIAS_MAX { Err(AliasError::TooLong { length }) } else { Ok(alias) }
    }
}

impl fmt::Display for VethAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", ids::ALIAS_WORD, self.owner, self.address)
    }
}

impl FromStr for VethAlias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let foreign = || AliasError::Foreign(text.to_owned());
        let mut words = text.split(' ');
        let (word, owner, address) = (words.next(), words.next(), words.next());
        match (word, owner, address, words.next()) {
            (Some(ids::ALIAS_WORD), Some(owner), Some(address), None) => {
                Self::new(owner, address.parse().map_err(|_| foreign())?)
            }
            _ => Err(foreign()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_the_documented_one() {
        let alias = VethAlias::new("aws-cni/0a1b2c/eth0", Ipv4Addr::new(10, 0, 1, 7)).unwrap();
        assert_eq!(alias.to_string(), "enid aws-cni/0a1b2c/eth0 10.0.1.7");
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
            "Enid a 10.0.0.1",
        ] {
            assert!(text.parse::<VethAlias>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_alias_longer_than_the_kernel_takes_is_refused() {
        let address = Ipv4Addr::new(255, 255, 255, 255);
        assert!(VethAlias::new(&"x".repeat(234), address).is_ok());
        assert_eq!(VethAlias::new(&"x".repeat(235), address), Err(AliasError::TooLong { length: 256 }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_back(owner in "[a-zA-Z0-9][a-zA-Z0-9_./-]{0,200}", address in any::<u32>()) {
            let alias = VethAlias::new(&owner, Ipv4Addr::from(address)).unwrap();
            prop_assert_eq!(alias.to_string().parse::<VethAlias>().unwrap(), alias);
        }

        #[test]
        fn parsing_never_panics_and_only_takes_what_it_would_print(text in ".{0,60}") {
            if let Ok(alias) = text.parse::<VethAlias>() {
                prop_assert_eq!(alias.to_string(), text);
            }
        }
    }
}
