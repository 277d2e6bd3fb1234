// SPDX-License-Identifier: Apache-2.0
//! CreateNetworkInterface and DeleteNetworkInterface.
//!
//! Decides which addresses and prefixes a new ENI gets, all or nothing, and when an ENI may be deleted. Limits of an
//! instance type are not checked here: an ENI that is not attached has no type (EC2 user guide, "Elastic network
//! interfaces").
//!
//! Invariant: a refused create has taken no address. The same client token makes one ENI, however often it is used.
//!
//! Worked example: `SecondaryPrivateIpAddressCount=9` in an empty /28 (11 free): the ENI takes 10, one is left. An EFA-only
//! ENI takes none, and naming or counting addresses for it is refused.
//!
//! Source: EC2 API reference, CreateNetworkInterface, DeleteNetworkInterface, "Ensuring idempotency".

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::error::Ec2Error;
use crate::ids::{EniId, SecurityGroupId, SubnetId};
use crate::params::Params;
use crate::space::{PREFIX_ADDRESSES, Space};
use crate::state::{Eni, EniState, InterfaceType, Tags};
use crate::vpc::{UsedToken, Vpc};
use crate::xml::Xml;

/// Longest client token (EC2 developer guide, "Ensuring idempotency": 64 ASCII characters).
const MAX_CLIENT_TOKEN: usize = 64;

/// What a new ENI is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewEni {
    pub(crate) interface_type: InterfaceType,
    pub(crate) subnet: SubnetId,
    pub(crate) description: String,
    /// The default group of the VPC when empty.
    pub(crate) security_groups: Vec<SecurityGroupId>,
    /// Chosen when `None`.
    pub(crate) primary: Option<Ipv4Addr>,
    pub(crate) wanted: Wanted,
    pub(crate) tags: Tags,
}

/// What an ENI gets besides its primary address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Addresses(Vec<Ipv4Addr>),
    AddressCount(u32),
    Prefixes(Vec<Ipv4Net>),
    PrefixCount(u32),
}

/// What it got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Ipv4Net>,
}

impl NewEni {
    pub(crate) fn in_subnet(subnet: SubnetId) -> Self {
        Self {
            interface_type: InterfaceType::Interface,
            subnet,
            description: String::new(),
            security_groups: Vec::new(),
            primary: None,
            wanted: Wanted::AddressCount(0),
            tags: Tags::new(),
        }
    }
}

impl Vpc {
    pub(crate) fn create_network_interface(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let token = client_token(params)?;
        let fingerprint = params.fingerprint();
        if let Some(used) = token.as_ref().and_then(|token| self.client_tokens.get(token)) {
            if used.fingerprint != fingerprint {
                let text = "Idempotent requests must use the same parameters: the client token was used with others.";
                return Err(Ec2Error::new("IdempotentParameterMismatch", text));
            }
            return Ok(Xml::again(&used.answer));
        }
        let new = self.read_new_eni(params)?;
        let quota = usize::try_from(self.settings.quotas.network_interfaces).unwrap_or(usize::MAX);
        if self.enis.len() >= quota {
            let text = format!("The maximum number of network interfaces, {quota}, has been reached.");
            return Err(Ec2Error::new("NetworkInterfaceLimitExceeded", text));
        }
        let id = self.make_eni(new, Some(now))?;
        let eni = self.enis.get(&id).ok_or_else(|| Ec2Error::eni_not_found(id.as_str()))?;
        let answer = Xml::inside(|xml| {
            xml.element("networkInterface", |xml| self.write_eni(xml, eni));
            if let Some(token) = &token {
                xml.leaf("clientToken", token);
            }
        });
        if let Some(token) = token {
            self.client_tokens.insert(token, UsedToken { fingerprint, answer: answer.as_str().to_owned() });
        }
        Ok(answer)
    }

    pub(crate) fn delete_network_interface(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        if eni.attachment().is_some() {
            return Err(Ec2Error::currently_in_use(&eni.id));
        }
        let id = eni.id.clone();
        self.drop_eni(&id, now);
        Ok(Xml::done())
    }

    /// Deletes an ENI and frees what it held.
    pub(crate) fn drop_eni(&mut self, id: &EniId, at: Duration) {
        let Some(eni) = self.enis.remove(id, at) else { return };
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            for address in eni.addresses() {
                subnet.space.free_address(address);
            }
            for prefix in &eni.prefixes {
                subnet.space.free_prefix(*prefix);
            }
        }
    }

    fn read_new_eni(&self, params: &Params) -> Result<NewEni, Ec2Error> {
        let subnet = self.subnet_param(params.required("SubnetId")?)?.id.clone();
        let interface_type = read_type(params)?;
        for ipv6 in ["Ipv6AddressCount", "Ipv6Addresses", "Ipv6PrefixCount", "Ipv6Prefix", "EnablePrimaryIpv6"] {
            if params.has(ipv6) {
                return Err(Ec2Error::unsupported(format!("{ipv6}: IPv6 is not part of this model.")));
            }
        }
        let (primary, wanted) = read_addresses(params)?;
        let vpc = self.subnets[&subnet].vpc.clone();
        Ok(NewEni {
            interface_type,
            description: params.text("Description").unwrap_or_default().to_owned(),
            security_groups: self.groups_param(params, &vpc)?,
            primary,
            wanted,
            tags: self.tags_at_creation(params, "network-interface")?,
            subnet,
        })
    }

    /// Makes an ENI, pending. `since` is `None` for one that is there from the start.
    pub(crate) fn make_eni(&mut self, new: NewEni, since: Option<Duration>) -> Result<EniId, Ec2Error> {
        let subnet = self.subnets.get(&new.subnet).ok_or_else(|| no_subnet(new.subnet.as_str()))?;
        let (vpc, availability_zone) = (subnet.vpc.clone(), subnet.availability_zone.clone());
        let mut space = subnet.space.clone();
        let (primary, got) = self.take_for_new(&mut space, &new)?;
        let security_groups = if new.security_groups.is_empty() {
            let default = |group: &&crate::state::SecurityGroup| group.vpc == vpc && group.name == "default";
            self.security_groups.values().filter(default).map(|group| group.id.clone()).collect()
        } else {
            new.security_groups
        };
        if let Some(subnet) = self.subnets.get_mut(&new.subnet) {
            subnet.space = space;
        }
        let created = since.unwrap_or(Duration::ZERO);
        let id = EniId(self.ids.id(EniId::PREFIX));
        let eni = Eni {
            id: id.clone(),
            interface_type: new.interface_type,
            vpc,
            subnet: new.subnet,
            availability_zone,
            description: new.description,
            mac: self.ids.mac(),
            primary,
            secondaries: got.addresses,
            prefixes: got.prefixes,
            public: None,
            security_groups,
            source_dest_check: true,
            tags: new.tags,
            created,
            state: EniState::Pending { until: created + Duration::from_millis(self.settings.latencies.pending_ms) },
            odd: None,
        };
        self.enis.insert(eni, since);
        Ok(id)
    }

    /// Takes the primary address and what is wanted besides out of `space`. What is named goes first, so that a chosen
    /// primary address is never part of it.
    fn take_for_new(&mut self, space: &mut Space, new: &NewEni) -> Result<(Option<Ipv4Addr>, Got), Ec2Error> {
        if new.interface_type == InterfaceType::EfaOnly {
            return Ok((None, Got::default()));
        }
        if let Some(address) = new.primary {
            check_address(space, address)?;
            if space.is_taken(address) {
                return Err(Ec2Error::address_in_use());
            }
            space.take_address(address);
        }
        let in_use = |_| Ec2Error::address_in_use();
        let named = match &new.wanted {
            Wanted::Addresses(_) | Wanted::Prefixes(_) => Some(self.take(space, &new.wanted, in_use)?),
            Wanted::AddressCount(_) | Wanted::PrefixCount(_) => None,
        };
        let primary = match new.primary {
            Some(address) => address,
            None => {
                let picked = space.pick_addresses(1, self.settings.choice, &mut self.ids);
                let address = picked.and_then(|p| p.first().copied()).ok_or_else(Ec2Error::no_free_addresses)?;
                space.take_address(address);
                address
            }
        };
        match named {
            Some(got) => Ok((Some(primary), got)),
            None => Ok((Some(primary), self.take(space, &new.wanted, in_use)?)),
        }
    }

    /// Takes what is wanted out of `space`, all or nothing as long as the caller throws `space` away on an error.
    /// `when_taken` spells the refusal of a named address or prefix that somebody has.
    pub(crate) fn take(
        &mut self,
        space: &mut Space,
        wanted: &Wanted,
        when_taken: impl Fn(String) -> Ec2Error,
    ) -> Result<Got, Ec2Error> {
        let mut got = Got::default();
        match wanted {
            Wanted::Addresses(addresses) => {
                for &address in addresses {
                    check_address(space, address)?;
                    if space.is_taken(address) {
                        return Err(when_taken(address.to_string()));
                    }
                    space.take_address(address);
                }
                got.addresses.clone_from(addresses);
            }
            Wanted::AddressCount(count) => {
                let picked = space.pick_addresses(*count, self.settings.choice, &mut self.ids);
                got.addresses = picked.ok_or_else(Ec2Error::no_free_addresses)?;
                got.addresses.iter().for_each(|address| space.take_address(*address));
            }
            Wanted::Prefixes(prefixes) => {
                for &prefix in prefixes {
                    if !space.is_usable_prefix(prefix) {
                        return Err(Ec2Error::value(format!("{prefix} is not a free /28 of the subnet")));
                    }
                    if space.is_prefix_taken(prefix) {
                        return Err(when_taken(prefix.to_string()));
                    }
                    space.take_prefix(prefix);
                }
                got.prefixes.clone_from(prefixes);
            }
            Wanted::PrefixCount(count) => {
                if space.free() < count.saturating_mul(PREFIX_ADDRESSES) {
                    return Err(Ec2Error::too_few_addresses_for_prefixes());
                }
                let picked = space.pick_prefixes(*count, self.settings.choice, &mut self.ids);
                got.prefixes = picked.ok_or_else(Ec2Error::no_free_blocks)?;
                got.prefixes.iter().for_each(|prefix| space.take_prefix(*prefix));
            }
        }
        Ok(got)
    }
}

/// Refuses an address that the subnet does not have or does not give away.
pub(crate) fn check_address(space: &Space, address: Ipv4Addr) -> Result<(), Ec2Error> {
    if !space.contains(address) {
        Err(Ec2Error::outside_subnet(address))
    } else if space.is_reserved(address) {
        Err(Ec2Error::reserved_address(address))
    } else {
        Ok(())
    }
}

pub(crate) fn no_subnet(id: &str) -> Ec2Error {
    Ec2Error::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
}

fn client_token(params: &Params) -> Result<Option<String>, Ec2Error> {
    let Some(token) = params.text("ClientToken").filter(|token| !token.is_empty()) else { return Ok(None) };
    if token.len() > MAX_CLIENT_TOKEN || !token.is_ascii() {
        let text = format!("ClientToken: at most {MAX_CLIENT_TOKEN} ASCII characters");
        return Err(Ec2Error::value(text));
    }
    Ok(Some(token.to_owned()))
}

/// `InterfaceType`; EFA-only interfaces do not support IP addresses.
fn read_type(params: &Params) -> Result<InterfaceType, Ec2Error> {
    let Some(name) = params.text("InterfaceType") else { return Ok(InterfaceType::Interface) };
    let invalid = || Ec2Error::value(format!("Value ({name}) for parameter InterfaceType is invalid."));
    let interface_type = InterfaceType::named(name).ok_or_else(invalid)?;
    let addresses =
        ["PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount", "Ipv4Prefix", "Ipv4PrefixCount"];
    match addresses.into_iter().find(|way| interface_type == InterfaceType::EfaOnly && params.has(way)) {
        Some(way) => Err(Ec2Error::combination(format!(
            "The parameter {way} cannot be used with the interface type efa-only, which does not support IP addresses"
        ))),
        None => Ok(interface_type),
    }
}

/// The four ways to ask for IPv4 exclude one another; the primary address is named once at most.
fn read_addresses(params: &Params) -> Result<(Option<Ipv4Addr>, Wanted), Ec2Error> {
    let ways = ["PrivateIpAddresses", "SecondaryPrivateIpAddressCount", "Ipv4Prefix", "Ipv4PrefixCount"];
    let used: Vec<&str> = ways.into_iter().filter(|way| params.has(way)).collect();
    if let [first, second, ..] = used.as_slice() {
        return Err(Ec2Error::combination(format!("The parameters {first} and {second} cannot be used together")));
    }
    let mut primary: Option<Ipv4Addr> = params.parsed("PrivateIpAddress")?;
    let mut addresses = Vec::new();
    for base in params.structures("PrivateIpAddresses") {
        let name = format!("{base}.PrivateIpAddress");
        params.required(&name)?;
        let Some(address) = params.parsed::<Ipv4Addr>(&name)? else { continue };
        if !params.flag(&format!("{base}.Primary"))? {
            addresses.push(address);
        } else if primary.replace(address).is_some() {
            return Err(Ec2Error::combination("Only one primary private IP address can be specified"));
        }
    }
    let mut prefixes = Vec::new();
    for base in params.structures("Ipv4Prefix") {
        prefixes.extend(params.parsed::<Ipv4Net>(&format!("{base}.Ipv4Prefix"))?);
    }
    let wanted = match used.first().copied() {
        Some("PrivateIpAddresses") => Wanted::Addresses(addresses),
        Some("Ipv4Prefix") => Wanted::Prefixes(prefixes),
        Some("Ipv4PrefixCount") => Wanted::PrefixCount(params.parsed("Ipv4PrefixCount")?.unwrap_or(0)),
        _ => Wanted::AddressCount(params.parsed("SecondaryPrivateIpAddressCount")?.unwrap_or(0)),
    };
    Ok((primary, wanted))
}
