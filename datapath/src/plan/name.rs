// SPDX-License-Identifier: Apache-2.0
//! Link names, MAC addresses and table numbers as types; the host veth's name.
//!
//! Worked example (reference vector): prefix `eni`, namespace `default`, pod `sample-pod` gives `enicc21c2d7785`, the
//! first 11 hex digits of SHA-1("default.sample-pod") behind the prefix. The name depends on namespace and pod name
//! only, so a re-created StatefulSet pod gets its predecessor's name; attach deals with that.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use super::ids;

/// A Linux link name: 1 to 15 bytes, not `.` or `..`, no `/`, no `:`, no white space (kernel `dev_valid_name`,
/// `net/core/dev.c`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

/// A text that the kernel would not take as a link name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a link name (1 to 15 bytes, not `.` or `..`, no `/`, `:` or white space)")]
pub struct LinkNameError(pub String);

impl LinkName {
    /// Checks the kernel's rule.
    ///
    /// # Errors
    /// [`LinkNameError`] with the text.
    pub fn new(name: &str) -> Result<Self, LinkNameError> {
        let forbidden = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || is_kernel_space(byte);
        let valid = (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.bytes().any(forbidden);
        if valid { Ok(Self(name.to_owned())) } else { Err(LinkNameError(name.to_owned())) }
    }

    /// The host end of a pod's veth: `prefix` + 11 hex digits.
    ///
    /// The digits are of SHA-1(`namespace.pod`) as in the reference. When the runtime names no pod (podman, `ctr`) they
    /// are of the owner key with dots for slashes, which holds the container id, so that two such sandboxes never clash.
    ///
    /// # Errors
    /// A prefix longer than four characters, or one that cannot be part of a link name.
    pub fn host_veth(prefix: &str, namespace: &str, pod: &str, owner: &str) -> Result<Self, LinkNameError> {
        if prefix.len() > ids::VETH_PREFIX_MAX {
            return Err(LinkNameError(prefix.to_owned()));
        }
        let seed = if pod.is_empty() { owner.replace('/', ".") } else { format!("{namespace}.{pod}") };
        let digest = Sha1::digest(seed.as_bytes());
        let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self::new(&format!("{prefix}{}", hex.get(..11).unwrap_or_default()))
    }

    /// `lo`.
    #[must_use]
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `isspace` of the kernel (`lib/ctype.c`), which counts Latin-1's no-break space too.
fn is_kernel_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ' | 0xa0)
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// A MAC address; text form is lower-case hex with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// A text that is not six hex octets with colons between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address (six hex octets with colons)")]
pub struct MacAddrError(pub String);

impl MacAddr {
    /// A locally administered unicast address made from a text: SHA-1, first six octets, local bit set, group bit clear
    /// (IEEE 802-2014 §8.2). The two ends of a veth take different seeds. Equal addresses on different veths do no
    /// harm, each veth is its own segment.
    #[must_use]
    pub fn derived(seed: &str) -> Self {
        let digest = Sha1::digest(seed.as_bytes());
        let mut octets = [0; 6];
        octets.iter_mut().zip(digest.iter()).for_each(|(octet, byte)| *octet = *byte);
        octets[0] = (octets[0] & 0xfc) | 0x02;
        Self(octets)
    }

    /// MAC of the host end of a pod's veth, which the pod has as its router's permanent neighbour.
    #[must_use]
    pub fn of_host_end(owner: &str) -> Self {
        Self::derived(&format!("{owner} host"))
    }

    /// MAC of the pod's end, which the node has as the pod's permanent neighbour.
    #[must_use]
    pub fn of_pod_end(owner: &str) -> Self {
        Self::derived(&format!("{owner} pod"))
    }
}

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
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MacAddrError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(error)?, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

/// A kernel routing table number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTable(pub u32);

impl RouteTable {
    /// The kernel's main table.
    pub const MAIN: Self = Self(254);
    /// The kernel's table of the namespace's own addresses (RT_TABLE_LOCAL, `include/uapi/linux/rtnetlink.h`). A route in it is of type
    /// `local`.
    pub const LOCAL: Self = Self(255);
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAIN { f.write_str("main") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_veth_names_are_the_reference_s() {
        // amazon-vpc-cni-k8s, pkg/networkutils/names tests.
        for (namespace, pod, want) in
            [("default", "sample-pod", "enicc21c2d7785"), ("kube-system", "coredns-57ff979f67-qqbdh", "enib5faff8a083")]
        {
            assert_eq!(LinkName::host_veth("eni", namespace, pod, "n/c/i").unwrap().as_str(), want);
        }
    }

    #[test]
    fn sandboxes_without_a_pod_name_get_names_of_their_own() {
        let name = |owner| LinkName::host_veth("eni", "", "", owner).unwrap();
        assert_ne!(name("aws-cni/aaaa/eth0"), name("aws-cni/bbbb/eth0"));
        assert_eq!(name("aws-cni/aaaa/eth0"), LinkName::host_veth("eni", "aws-cni", "aaaa.eth0", "").unwrap());
    }

    #[test]
    fn a_prefix_of_more_than_four_characters_is_refused() {
        assert!(LinkName::host_veth("vlan", "a", "b", "").is_ok());
        assert!(LinkName::host_veth("vlanx", "a", "b", "").is_err());
        assert!(LinkName::host_veth("e/i", "a", "b", "").is_err());
    }

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}", "0123456789abcdef"] {
            assert!(LinkName::new(bad).is_err(), "{bad:?}");
        }
        assert!(LinkName::new("0123456789abcde").is_ok());
    }

    #[test]
    fn mac_addresses_are_parsed_strictly() {
        assert_eq!("02:00:0a:00:01:FF".parse::<MacAddr>().unwrap().to_string(), "02:00:0a:00:01:ff");
        for bad in
            ["", "02:00:0a:00:01", "02:00:0a:00:01:ff:00", "2:0:a:0:1:f", "+2:00:0a:00:01:ff", "02-00-0a-00-01-ff"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_veth_name_is_a_link_name_and_repeatable(ns in ".{0,80}", pod in ".{0,80}", owner in ".{0,80}") {
            let name = LinkName::host_veth("eni", &ns, &pod, &owner).unwrap();
            prop_assert_eq!(name.as_str().len(), 14);
            prop_assert_eq!(name, LinkName::host_veth("eni", &ns, &pod, &owner).unwrap());
        }

        #[test]
        fn derived_macs_are_local_unicast_and_round_trip(seed in ".{0,40}") {
            let mac = MacAddr::derived(&seed);
            prop_assert_eq!(mac.0[0] & 3, 2);
            prop_assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        }
    }
}
