// SPDX-License-Identifier: Apache-2.0
//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses, and the move of an address behind everybody's back.
//!
//! Decides whether an ENI gets or loses addresses and prefixes, all or nothing, and tells the packet fabric.
//!
//! Invariant: an address is on at most one ENI, alone or inside a prefix. An ENI that is attached never holds more than
//! its instance's type allows. The primary address is never taken away.
//!
//! Worked example: m5.large has 10 slots an ENI. With the primary address and 8 secondaries, a count of 1 is the last that
//! succeeds; a count of 2 is `PrivateIpAddressLimitExceeded` and assigns none.
//!
//! Source: EC2 API reference, AssignPrivateIpAddresses, UnassignPrivateIpAddresses; EC2 user guide, "Multiple IP
//! addresses" and "Prefix delegation".

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::create::{Got, Wanted, check_address};
use crate::error::Ec2Error;
use crate::events::{Assigned, FabricEvent};
use crate::ids::EniId;
use crate::params::Params;
use crate::state::{Eni, InterfaceType};
use crate::vpc::Vpc;
use crate::xml::Xml;

/// Why an address was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// There is no such ENI.
    #[error("there is no ENI {0}")]
    NoEni(EniId),
    /// The ENI does not hold the address as a secondary one.
    #[error("{address} is not a secondary address of {eni}")]
    NotSecondary {
        /// The ENI.
        eni: EniId,
        /// The address.
        address: Ipv4Addr,
    },
    /// The ENIs are in different subnets.
    #[error("{from} and {to} are not in the same subnet")]
    OtherSubnet {
        /// Where it is.
        from: EniId,
        /// Where it was to go.
        to: EniId,
    },
}

impl Vpc {
    pub(crate) fn assign_private_ip_addresses(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?.clone();
        let mut wanted = read_wanted(params)?;
        if eni.interface_type == InterfaceType::EfaOnly {
            let text = format!("Network interface '{}' is EFA-only and does not support IP addresses.", eni.id);
            return Err(Ec2Error::unsupported(text));
        }
        let moves = match &mut wanted {
            Wanted::Addresses(addresses) if params.flag("AllowReassignment")? => {
                addresses.retain(|address| !eni.secondaries.contains(address));
                self.movable(&eni, addresses)?
            }
            _ => Vec::new(),
        };
        self.check_room(&eni, &wanted)?;
        let Some(mut space) = self.subnets.get(&eni.subnet).map(|subnet| subnet.space.clone()) else {
            return Err(Ec2Error::eni_not_found(eni.id.as_str()));
        };
        moves.iter().for_each(|(_, address)| space.free_address(*address));
        let got = self.take(&mut space, &wanted, Ec2Error::move_not_allowed)?;
        for (from, address) in &moves {
            self.lose(from, &[Assigned::Address(*address)], now);
        }
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            subnet.space = space;
        }
        self.gain(&eni.id, &got, now);
        Ok(Xml::inside(|xml| {
            xml.leaf("networkInterfaceId", &eni.id);
            if !got.addresses.is_empty() {
                xml.list("assignedPrivateIpAddressesSet", &got.addresses, |xml, address| {
                    xml.leaf("privateIpAddress", address);
                });
            }
            if !got.prefixes.is_empty() {
                xml.list("assignedIpv4PrefixSet", &got.prefixes, |xml, prefix| xml.leaf("ipv4Prefix", prefix));
            }
            xml.leaf("return", true);
        }))
    }

    pub(crate) fn unassign_private_ip_addresses(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        let addresses: Vec<Ipv4Addr> = params.parsed_list("PrivateIpAddress")?;
        let prefixes: Vec<Ipv4Net> = params.parsed_list("Ipv4Prefix")?;
        if addresses.is_empty() && prefixes.is_empty() {
            return Err(Ec2Error::missing("PrivateIpAddress or Ipv4Prefix"));
        }
        if let Some(primary) = eni.primary.filter(|primary| addresses.contains(primary)) {
            let text = format!("The primary IP address {primary} of interface {} cannot be unassigned", eni.id);
            return Err(Ec2Error::value(text));
        }
        let held = addresses.iter().all(|address| eni.secondaries.contains(address))
            && prefixes.iter().all(|prefix| eni.prefixes.contains(prefix));
        if !held {
            return Err(Ec2Error::not_assigned(&eni.id));
        }
        let id = eni.id.clone();
        let addresses = addresses.into_iter().map(Assigned::Address);
        let lost: Vec<Assigned> = addresses.chain(prefixes.into_iter().map(Assigned::Prefix)).collect();
        self.lose(&id, &lost, now);
        Ok(Xml::done())
    }

    /// Moves a secondary address to another ENI of the same subnet, as somebody else's AssignPrivateIpAddresses with
    /// `AllowReassignment` would, but without regard to the limits of the target's instance type.
    ///
    /// # Errors
    /// No such ENI, the address is not a secondary one of the first, or the ENIs are in different subnets.
    pub fn move_address_behind_back(
        &mut self,
        from: &EniId,
        to: &EniId,
        address: Ipv4Addr,
        now: Duration,
    ) -> Result<(), MoveError> {
        self.settle(now);
        let source = self.enis.get(from).ok_or_else(|| MoveError::NoEni(from.clone()))?;
        let target = self.enis.get(to).ok_or_else(|| MoveError::NoEni(to.clone()))?;
        if !source.secondaries.contains(&address) {
            return Err(MoveError::NotSecondary { eni: from.clone(), address });
        }
        if source.subnet != target.subnet {
            return Err(MoveError::OtherSubnet { from: from.clone(), to: to.clone() });
        }
        let subnet = source.subnet.clone();
        self.lose(from, &[Assigned::Address(address)], now);
        if let Some(subnet) = self.subnets.get_mut(&subnet) {
            subnet.space.take_address(address);
        }
        self.gain(to, &Got { addresses: vec![address], prefixes: Vec::new() }, now);
        Ok(())
    }

    /// Of these addresses, those that another ENI holds as secondary ones. A primary one is refused.
    fn movable(&self, target: &Eni, addresses: &[Ipv4Addr]) -> Result<Vec<(EniId, Ipv4Addr)>, Ec2Error> {
        let mut moves = Vec::new();
        for &address in addresses {
            if let Some(subnet) = self.subnets.get(&target.subnet) {
                check_address(&subnet.space, address)?;
            }
            let here = |eni: &&Eni| eni.vpc == target.vpc && eni.addresses().any(|held| held == address);
            match self.enis.iter().find(here) {
                Some(holder) if holder.primary == Some(address) => return Err(Ec2Error::move_not_allowed(address)),
                Some(holder) => moves.push((holder.id.clone(), address)),
                None => {}
            }
        }
        Ok(moves)
    }

    /// Whether the instance that has this ENI lets it hold so much more.
    fn check_room(&self, eni: &Eni, wanted: &Wanted) -> Result<(), Ec2Error> {
        let Some(instance) = eni.attachment().and_then(|attachment| self.instances.get(&attachment.instance)) else {
            return Ok(());
        };
        let (more, prefixes) = match wanted {
            Wanted::Addresses(addresses) => (addresses.len(), false),
            Wanted::Prefixes(prefixes) => (prefixes.len(), true),
            Wanted::AddressCount(count) => (usize::try_from(*count).unwrap_or(usize::MAX), false),
            Wanted::PrefixCount(count) => (usize::try_from(*count).unwrap_or(usize::MAX), true),
        };
        self.check_slots(instance, eni.slots().saturating_add(more), prefixes)
    }

    fn gain(&mut self, id: &EniId, got: &Got, now: Duration) {
        self.enis.change(id, now, |eni| {
            eni.secondaries.extend(&got.addresses);
            eni.prefixes.extend(&got.prefixes);
        });
        if self.enis.get(id).is_some_and(Eni::has_link) {
            let addresses = got.addresses.iter().copied().map(Assigned::Address);
            let all = addresses.chain(got.prefixes.iter().copied().map(Assigned::Prefix));
            self.events.extend(all.map(|address| FabricEvent::AddressAssigned { eni: id.clone(), address }));
        }
    }

    fn lose(&mut self, id: &EniId, lost: &[Assigned], now: Duration) {
        self.enis.change(id, now, |eni| {
            eni.secondaries.retain(|address| !lost.contains(&Assigned::Address(*address)));
            eni.prefixes.retain(|prefix| !lost.contains(&Assigned::Prefix(*prefix)));
        });
        let Some(eni) = self.enis.get(id) else { return };
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            for assigned in lost {
                match assigned {
                    Assigned::Address(address) => subnet.space.free_address(*address),
                    Assigned::Prefix(prefix) => subnet.space.free_prefix(*prefix),
                }
            }
        }
        if eni.has_link() {
            let events = lost.iter().map(|&address| FabricEvent::AddressUnassigned { eni: id.clone(), address });
            self.events.extend(events);
        }
    }
}

/// Exactly one of the four ways.
fn read_wanted(params: &Params) -> Result<Wanted, Ec2Error> {
    let ways = ["PrivateIpAddress", "SecondaryPrivateIpAddressCount", "Ipv4Prefix", "Ipv4PrefixCount"];
    let used: Vec<&str> = ways.into_iter().filter(|way| params.has(way)).collect();
    let way = match used.as_slice() {
        [] => {
            return Err(Ec2Error::missing(
                "PrivateIpAddress, SecondaryPrivateIpAddressCount, Ipv4Prefix or Ipv4PrefixCount",
            ));
        }
        [way] => *way,
        [first, second, ..] => {
            let text = format!("The parameters {first} and {second} cannot be used together");
            return Err(Ec2Error::combination(text));
        }
    };
    let count = |name| match params.parsed::<u32>(name)? {
        Some(count) if count > 0 => Ok(count),
        _ => Err(Ec2Error::value(format!("Value for parameter {name} is invalid. It must be greater than 0."))),
    };
    Ok(match way {
        "PrivateIpAddress" => Wanted::Addresses(params.parsed_list("PrivateIpAddress")?),
        "Ipv4Prefix" => Wanted::Prefixes(params.parsed_list("Ipv4Prefix")?),
        "Ipv4PrefixCount" => Wanted::PrefixCount(count("Ipv4PrefixCount")?),
        _ => Wanted::AddressCount(count("SecondaryPrivateIpAddressCount")?),
    })
}
