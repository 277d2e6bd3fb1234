// SPDX-License-Identifier: Apache-2.0
//! The instance metadata service: what each path says, and who may read it.
//!
//! Turns a view of one instance into the tree of paths that IMDS serves, and keeps the session tokens. Where the view comes
//! from is somebody else's: the machine makes one with its own lag, a foreign EC2 can be turned into one as well.
//!
//! Invariant: a path that ends a line in a listing with `/` is itself a listing; a list without entries is no path at all
//! (404), as `ipv4-prefix` of an ENI without prefixes. A token is good for its own instance until it expires.
//!
//! Worked example: ENI 0e:…:01 with 10.0.1.10 (primary) and 10.0.1.11: `/latest/meta-data/network/interfaces/macs/` says
//! `0e:…:01/`, and `…/macs/0e:…:01/local-ipv4s` says `10.0.1.10\n10.0.1.11`.
//!
//! Source: EC2 user guide, "Instance metadata categories", "Use IMDSv2", "Instance identity documents".

mod tokens;
mod tree;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, MacAddr};
use crate::state::{Attachment, AttachmentPhase, Eni, InstanceState};
use crate::vpc::Vpc;

pub use tokens::{MAX_TOKEN_TTL, TokenError, Tokens};

/// The image of every instance.
pub const IMAGE_ID: &str = "ami-0a1b2c3d4e5f60718";

/// One instance, as its metadata service sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImdsView {
    /// The instance, `i-…`.
    pub instance_id: String,
    /// Its type.
    pub instance_type: String,
    /// Its image.
    pub image_id: String,
    /// The account.
    pub account_id: String,
    /// The Region.
    pub region: String,
    /// The zone.
    pub availability_zone: String,
    /// The zone's id, such as `use1-az1`; empty when it is not known.
    pub availability_zone_id: String,
    /// Host name.
    pub hostname: String,
    /// Launch time, ISO 8601.
    pub launched: String,
    /// Name of the IAM role and what its credentials are dated with; `None`: no role.
    pub role: Option<RoleView>,
    /// The attached ENIs.
    pub enis: Vec<ImdsEni>,
}

/// The role of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// The access key.
    pub access_key: String,
    /// The session token.
    pub session_token: String,
    /// When the credentials were made, ISO 8601.
    pub updated: String,
    /// When they expire, ISO 8601.
    pub expires: String,
}

/// One ENI, as the metadata service sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImdsEni {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its id.
    pub eni_id: String,
    /// Position on the card.
    pub device_index: u32,
    /// The card.
    pub network_card: u8,
    /// Its subnet.
    pub subnet_id: String,
    /// The subnet's block.
    pub subnet_cidr: Ipv4Net,
    /// Its VPC.
    pub vpc_id: String,
    /// All blocks of the VPC, the primary one first.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Ids and names of its security groups.
    pub security_groups: Vec<(String, String)>,
    /// Its addresses, the primary one first; none of an EFA-only ENI.
    pub addresses: Vec<Ipv4Addr>,
    /// Its prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// Public address of the primary one.
    pub public_address: Option<Ipv4Addr>,
}

/// What IMDS answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsAnswer {
    /// HTTP status.
    pub status: u16,
    /// Text.
    pub body: String,
    /// How long after the arrival of the read the answer is due.
    pub delay: Duration,
}

impl ImdsAnswer {
    /// An answer without text of its own.
    #[must_use]
    pub fn refusal(status: u16) -> Self {
        let body = match status {
            404 => "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html><head><title>404 - Not Found</title></head>\
                    <body><h1>404 - Not Found</h1></body></html>\n"
                .to_owned(),
            other => format!("{other}\n"),
        };
        Self { status, body, delay: Duration::ZERO }
    }
}

impl ImdsView {
    /// What the path (with its leading `/latest/`) says; 404 when there is no such item.
    #[must_use]
    pub fn read(&self, path: &str) -> ImdsAnswer {
        match tree::read(&tree::items(self, path), path) {
            Some(body) => ImdsAnswer { status: 200, body, delay: Duration::ZERO },
            None => ImdsAnswer::refusal(404),
        }
    }

    /// The primary ENI.
    #[must_use]
    pub fn primary(&self) -> Option<&ImdsEni> {
        self.enis.iter().find(|eni| eni.device_index == 0 && eni.network_card == 0)
    }
}

impl Vpc {
    /// What IMDS of this instance says on a path (`/latest/meta-data/…`, `/latest/dynamic/…`), for a caller whose token is
    /// good.
    pub fn imds(&mut self, instance: &InstanceId, path: &str, now: Duration) -> ImdsAnswer {
        self.settle(now);
        self.blindness.imds_was_read(path);
        let delay = Duration::from_millis(self.settings.latencies.imds_ms);
        if let Some(status) = self.faults.meet_imds(instance.as_str(), path) {
            return ImdsAnswer { delay, ..ImdsAnswer::refusal(status) };
        }
        if let Some(text) = self.blindness.imds_texts.get(path) {
            return ImdsAnswer { status: 200, body: text.clone(), delay };
        }
        match self.imds_view(instance, now) {
            Some(view) => ImdsAnswer { delay, ..view.read(path) },
            None => ImdsAnswer { delay, ..ImdsAnswer::refusal(404) },
        }
    }

    /// The instance as its IMDS sees it: ENIs as they were as long ago as its lag says. `None`: there is no such instance,
    /// or not any more.
    #[must_use]
    pub fn imds_view(&self, instance: &InstanceId, now: Duration) -> Option<ImdsView> {
        let instance = self.instances.get(instance).filter(|i| i.state != InstanceState::Terminated)?;
        let lag = self.settings.lags.of_imds(&instance.name);
        let is_there = |attachment: &Attachment| !matches!(attachment.phase, AttachmentPhase::Attaching { .. });
        let attached = |eni: &&Eni| eni.attachment().is_some_and(is_there);
        let seen = self.enis.seen_of_instance(&instance.id, now, lag);
        let shown = seen.into_iter().filter(attached).filter_map(|eni| self.blindness.imds.shown(eni));
        let enis: Vec<ImdsEni> = shown.filter_map(|eni| self.imds_eni(&eni)).collect();
        let is_primary = |eni: &&ImdsEni| eni.device_index == 0 && eni.network_card == 0;
        let primary = enis.iter().find(is_primary).and_then(|eni| eni.addresses.first().copied());
        Some(ImdsView {
            instance_id: instance.id.to_string(),
            instance_type: instance.instance_type.clone(),
            image_id: IMAGE_ID.to_owned(),
            account_id: self.account_id.clone(),
            region: self.region.clone(),
            availability_zone: instance.availability_zone.clone(),
            availability_zone_id: self.zone_id(&instance.availability_zone),
            hostname: primary.map(|address| self.private_dns_name(address)).unwrap_or_default(),
            launched: crate::timestamp::iso(self.unix_seconds(instance.launched)),
            role: instance.role.clone().map(|name| self.role_view(&instance.id, name, now)),
            enis,
        })
    }

    fn imds_eni(&self, eni: &Eni) -> Option<ImdsEni> {
        let attachment = eni.attachment()?;
        let subnet = self.subnets.get(&eni.subnet)?;
        let odd = eni.odd.as_deref();
        if odd.is_some_and(|odd| odd.hidden_from_imds) {
            return None;
        }
        let elsewhere = odd.and_then(|odd| odd.elsewhere.clone());
        let (vpc_id, subnet_id) = elsewhere.unwrap_or_else(|| (eni.vpc.to_string(), eni.subnet.to_string()));
        Some(ImdsEni {
            mac: eni.mac,
            eni_id: eni.id.to_string(),
            device_index: attachment.device_index,
            network_card: attachment.network_card,
            subnet_id,
            subnet_cidr: subnet.cidr_block(),
            vpc_id,
            vpc_cidrs: self.vpcs.get(&eni.vpc).map(|vpc| vpc.cidr_blocks.clone()).unwrap_or_default(),
            security_groups: eni
                .security_groups
                .iter()
                .map(|id| {
                    let name = self.security_groups.get(id).map(|group| group.name.clone());
                    (id.to_string(), name.unwrap_or_default())
                })
                .collect(),
            addresses: eni.addresses().filter(|_| odd.is_none_or(|odd| !odd.without_ipv4)).collect(),
            prefixes: eni.prefixes.clone(),
            public_address: eni.public,
        })
    }
}
