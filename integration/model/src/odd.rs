// SPDX-License-Identifier: Apache-2.0
//! ENIs of kinds that this model has no rules for, as far as others see them.
//!
//! An oddity changes how an ordinary ENI is described, by EC2 and by IMDS, and nothing else: it is made, attached and carried
//! like any other. Such kinds are IPv6-only ENIs, those of other accounts, VPCs or AWS services, branches of a trunk, and
//! types that are yet to come.
//!
//! Invariant: without an oddity an ENI is described by its state alone.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::ids::EniId;
use crate::vpc::Vpc;

/// How an ENI looks to those who describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddity {
    /// Its type, as `interfaceType` says.
    pub interface_type: Option<String>,
    /// No IPv4 address is shown.
    pub without_ipv4: bool,
    /// An IPv6 address that is shown.
    pub ipv6: Option<Ipv6Addr>,
    /// The account that owns it.
    pub owner: Option<String>,
    /// `requesterManaged`.
    pub requester_managed: bool,
    /// The AWS service that manages it, as `operator` says.
    pub operator: Option<String>,
    /// Its VPC and subnet.
    pub elsewhere: Option<(String, String)>,
    /// DescribeNetworkInterfaces does not show it.
    pub hidden_from_describe: bool,
    /// IMDS does not show it.
    pub hidden_from_imds: bool,
}

impl Vpc {
    /// Makes an ENI look odd from now on, lags apart; `false`: there is none.
    pub fn make_odd(&mut self, id: &EniId, oddity: Oddity, now: Duration) -> bool {
        self.settle(now);
        let there = self.enis.get(id).is_some();
        self.enis.change(id, now, |eni| eni.odd = Some(Box::new(oddity)));
        there
    }
}
