// SPDX-License-Identifier: Apache-2.0
//! The attached ENIs as instance metadata shows them: what a daemon that never asks EC2 goes by.
//!
//! Metadata tells neither tags nor types nor who manages an ENI, so every one counts as a plain one without tags, and it
//! lags behind EC2 by seconds. An item that cannot be read makes the read fail as a whole, never a shorter list; only an ENI
//! without an id or a position is left out: it is on its way in or out. One without IPv4 addresses has the unspecified one,
//! and one without a subnet is of no type that serves: some kinds of ENIs never have them.

use std::net::Ipv4Addr;

use ipamd_core::event::{AttachmentView, EniView, Failure, SubnetView};
use ipamd_core::ids::{AttachmentId, DeviceIndex, EniId, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};

use super::{Imds, unreadable};

/// Type of an ENI that cannot serve.
const WITHOUT_SUBNET: &str = "without a subnet";

/// Listing of the attached ENIs' MACs.
const MACS: &str = "network/interfaces/macs/";

impl Imds {
    /// Every attached ENI with its addresses and prefixes, by MAC.
    pub async fn enis(&self, instance_id: &InstanceId) -> Result<Vec<EniView>, Failure> {
        let mut views = Vec::new();
        for mac in self.macs().await? {
            views.extend(self.eni(mac, instance_id).await?);
        }
        Ok(views)
    }

    /// A subnet of an attached ENI; `None`: none is in it. Its free addresses and tags are not told.
    pub async fn subnet(&self, subnet_id: &SubnetId) -> Result<Option<SubnetView>, Failure> {
        for mac in self.macs().await? {
            if self.get(&format!("{MACS}{mac}/subnet-id")).await?.as_deref() != Some(subnet_id.as_str()) {
                continue;
            }
            return Ok(Some(SubnetView {
                subnet_id: subnet_id.clone(),
                vpc_id: VpcId(self.required(&format!("{MACS}{mac}/vpc-id")).await?),
                cidr: self.parsed(&format!("{MACS}{mac}/subnet-ipv4-cidr-block")).await?,
                available: 0,
                availability_zone: self.required("placement/availability-zone").await?,
                tags: Vec::new(),
            }));
        }
        Ok(None)
    }

    async fn macs(&self) -> Result<Vec<MacAddr>, Failure> {
        let text = self.required(MACS).await?;
        let mut macs: Vec<MacAddr> = lines(&text)
            .map(|line| line.trim_end_matches('/').parse().map_err(|_| unreadable(MACS, line)))
            .collect::<Result<_, _>>()?;
        macs.sort();
        Ok(macs)
    }

    /// `None`: it has no id or position (yet, or any more).
    async fn eni(&self, mac: MacAddr, instance_id: &InstanceId) -> Result<Option<EniView>, Failure> {
        let item = |name: &str| format!("{MACS}{mac}/{name}");
        let Some(eni_id) = self.get(&item("interface-id")).await? else { return Ok(None) };
        let Some(index) = self.get(&item("device-number")).await? else { return Ok(None) };
        let subnet = self.get(&item("subnet-id")).await?;
        let addresses: Vec<Ipv4Addr> = self.list(&item("local-ipv4s")).await?;
        let groups = self.get(&item("security-group-ids")).await?.unwrap_or_default();
        let network_card = self.network_card(mac).await?;
        Ok(Some(EniView {
            eni_id: EniId(eni_id),
            mac,
            vpc_id: self.get(&item("vpc-id")).await?.as_deref().map(Into::into),
            interface_type: if subnet.is_some() { "interface" } else { WITHOUT_SUBNET }.to_owned(),
            subnet_id: SubnetId(subnet.unwrap_or_default()),
            primary_address: addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED),
            secondary_addresses: addresses.iter().skip(1).copied().collect(),
            prefixes: self.list(&item("ipv4-prefix")).await?,
            security_group_ids: lines(&groups).map(|line| SecurityGroupId(line.to_owned())).collect(),
            attachment: Some(AttachmentView {
                attachment_id: AttachmentId::from("not told by instance metadata"),
                device_index: DeviceIndex(index.parse().map_err(|_| unreadable(&item("device-number"), &index))?),
                network_card,
                instance_id: Some(instance_id.clone()),
                status: "attached".to_owned(),
                delete_on_termination: true,
            }),
            status: "in-use".to_owned(),
            foreign: false,
            description: String::new(),
            tags: Vec::new(),
        }))
    }

    /// The network card of the ENI with this MAC. The user guide calls the item by one name, the reference reads the other; on an
    /// instance with one card there may be neither.
    pub async fn network_card(&self, mac: MacAddr) -> Result<u32, Failure> {
        for name in ["network-card", "network-card-index"] {
            let path = format!("{MACS}{mac}/{name}");
            if let Some(card) = self.get(&path).await? {
                return card.parse().map_err(|_| unreadable(&path, &card));
            }
        }
        Ok(0)
    }

    /// An item with a value a line; without the item there is none.
    async fn list<T: std::str::FromStr>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let text = self.get(path).await?.unwrap_or_default();
        lines(&text).map(|line| line.parse().map_err(|_| unreadable(path, line))).collect()
    }
}

pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}
