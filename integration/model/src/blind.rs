// SPDX-License-Identifier: Apache-2.0
//! What readers do not get to see although it is there, and the log of what IMDS was asked.
//!
//! A reader that lags sees a former truth (`history`); here it sees a part of the truth: ENIs, addresses or prefixes are
//! missing from its answers until they are shown again. Calls that change something know everything all the time.
//!
//! Source: reports of DescribeNetworkInterfaces and IMDS answers that lack attached ENIs or assigned addresses
//! (amazon-vpc-cni-k8s #1967, #3824, #3887).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::EniId;
use crate::state::Eni;
use crate::vpc::Vpc;

/// Most reads of IMDS that are remembered.
const LOG_LENGTH: usize = 20_000;

/// What is left out of answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Whole ENIs.
    pub enis: BTreeSet<EniId>,
    /// Addresses of ENIs that are shown.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Prefixes of ENIs that are shown.
    pub prefixes: BTreeSet<Ipv4Net>,
}

impl Hidden {
    /// The ENI without what is hidden; `None`: it is hidden itself.
    pub(crate) fn shown<'a>(&self, eni: &'a Eni) -> Option<Cow<'a, Eni>> {
        if self.enis.contains(&eni.id) {
            return None;
        }
        let whole = eni.secondaries.iter().all(|address| !self.addresses.contains(address))
            && eni.prefixes.iter().all(|prefix| !self.prefixes.contains(prefix));
        if whole {
            return Some(Cow::Borrowed(eni));
        }
        let mut part = eni.clone();
        part.secondaries.retain(|address| !self.addresses.contains(address));
        part.prefixes.retain(|prefix| !self.prefixes.contains(prefix));
        Some(Cow::Owned(part))
    }
}

/// How blind each reader is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blindness {
    pub(crate) describe: Hidden,
    pub(crate) imds: Hidden,
    /// Texts that IMDS gives instead of the true ones, by path.
    pub(crate) imds_texts: BTreeMap<String, String>,
    imds_reads: VecDeque<String>,
}

impl Blindness {
    pub(crate) fn imds_was_read(&mut self, path: &str) {
        if self.imds_reads.len() == LOG_LENGTH {
            self.imds_reads.pop_front();
        }
        self.imds_reads.push_back(path.to_owned());
    }
}

impl Vpc {
    /// Leaves this out of DescribeNetworkInterfaces from now on, and shows everything else.
    pub fn hide_from_describe(&mut self, hidden: Hidden) {
        self.blindness.describe = hidden;
    }

    /// Leaves this out of every IMDS from now on, and shows everything else.
    pub fn hide_from_imds(&mut self, hidden: Hidden) {
        self.blindness.imds = hidden;
    }

    /// IMDS gives this text on a path (`/latest/…`) from now on; `None`: the truth.
    pub fn set_imds_text(&mut self, path: &str, text: Option<String>) {
        match text {
            Some(text) => self.blindness.imds_texts.insert(path.to_owned(), text),
            None => self.blindness.imds_texts.remove(path),
        };
    }

    /// The paths that were read of any IMDS with a good token, oldest first.
    pub fn imds_reads(&self) -> impl Iterator<Item = &str> {
        self.blindness.imds_reads.iter().map(String::as_str)
    }
}
