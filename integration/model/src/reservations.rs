// SPDX-License-Identifier: Apache-2.0
//! CreateSubnetCidrReservation, DeleteSubnetCidrReservation, GetSubnetCidrReservations.
//!
//! Decides which part of a subnet can be kept for prefixes or for addresses that are named; what EC2 then picks from where
//! is decided by the subnet's space.
//!
//! Invariant: reservations of a subnet lie inside it and do not overlap. Making or deleting one changes no assignment.
//!
//! Worked example: 10.0.1.0/24 with 10.0.1.128/26 for prefixes: the first four /28s that EC2 picks come from there, and no
//! single address ever does.
//!
//! Source: EC2 API reference of the three actions (filters, fields); VPC user guide, "Subnet CIDR reservations".

use ipnet::Ipv4Net;

use crate::describe::{Page, check_filters, passes, write_page};
use crate::error::Ec2Error;
use crate::ids::SubnetId;
use crate::params::Params;
use crate::space::{PREFIX_LENGTH, overlap};
use crate::state::{CidrReservation, ReservationType, Subnet};
use crate::vpc::Vpc;
use crate::xml::Xml;

/// What ids of reservations start with.
const ID_PREFIX: &str = "scr-";

const FILTERS: [&str; 3] = ["reservationType", "subnet-id", "tag-key"];

impl Vpc {
    pub(crate) fn create_subnet_cidr_reservation(&mut self, params: &Params) -> Result<Xml, Ec2Error> {
        let subnet = self.subnet_param(params.required("SubnetId")?)?;
        params.required("Cidr")?;
        let cidr: Ipv4Net = params.parsed("Cidr")?.ok_or_else(|| Ec2Error::missing("Cidr"))?;
        let named = params.required("ReservationType")?;
        let kind = [ReservationType::Prefix, ReservationType::Explicit].into_iter().find(|kind| kind.name() == named);
        let kind =
            kind.ok_or_else(|| Ec2Error::value(format!("Value ({named}) for parameter ReservationType is invalid.")))?;
        check_reservation(subnet, cidr, kind).map_err(Ec2Error::value)?;
        let reservation = CidrReservation {
            id: String::new(),
            cidr,
            kind,
            description: params.text("Description").unwrap_or_default().to_owned(),
            tags: self.tags_at_creation(params, "subnet-cidr-reservation")?,
        };
        let subnet = subnet.id.clone();
        let made = self.reserve(&subnet, reservation);
        Ok(Xml::inside(|xml| {
            xml.element("subnetCidrReservation", |xml| self.write_reservation(xml, &subnet, &made));
        }))
    }

    pub(crate) fn delete_subnet_cidr_reservation(&mut self, params: &Params) -> Result<Xml, Ec2Error> {
        let id = params.required("SubnetCidrReservationId")?;
        let found = self.subnets.values_mut().find_map(|subnet| {
            let all = subnet.space.reservations_mut();
            let at = all.iter().position(|reservation| reservation.id == id)?;
            Some((subnet.id.clone(), all.remove(at)))
        });
        let (subnet, reservation) = found.ok_or_else(|| {
            let text = format!("The subnet CIDR reservation ID '{id}' does not exist");
            Ec2Error::new("InvalidSubnetCidrReservationID.NotFound", text)
        })?;
        Ok(Xml::inside(|xml| {
            xml.element("deletedSubnetCidrReservation", |xml| self.write_reservation(xml, &subnet, &reservation));
        }))
    }

    pub(crate) fn get_subnet_cidr_reservations(&self, params: &Params) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &FILTERS)?;
        let subnet = self.subnet_param(params.required("SubnetId")?)?;
        let mut entries: Vec<(String, &CidrReservation)> = subnet
            .reservations()
            .iter()
            .filter(|reservation| {
                passes(&filters, &reservation.tags, |name| match name {
                    "reservationType" => vec![reservation.kind.name().to_owned()],
                    _ => vec![subnet.id.to_string()],
                })
            })
            .map(|reservation| (reservation.id.clone(), reservation))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut xml = write_page(params, "subnetIpv4CidrReservationSet", entries, &Page::with_ids(""), |xml, one| {
            self.write_reservation(xml, &subnet.id, one);
        })?;
        xml.list("subnetIpv6CidrReservationSet", [(); 0], |_, ()| {});
        Ok(xml)
    }

    /// Adds a reservation that was checked; its id is drawn from the seed.
    pub(crate) fn reserve(&mut self, subnet: &SubnetId, mut reservation: CidrReservation) -> CidrReservation {
        reservation.id = self.ids.id(ID_PREFIX);
        if let Some(subnet) = self.subnets.get_mut(subnet) {
            subnet.space.reservations_mut().push(reservation.clone());
        }
        reservation
    }

    fn write_reservation(&self, xml: &mut Xml, subnet: &SubnetId, reservation: &CidrReservation) {
        xml.leaf("subnetCidrReservationId", &reservation.id);
        xml.leaf("subnetId", subnet);
        xml.leaf("cidr", reservation.cidr);
        xml.leaf("reservationType", reservation.kind.name());
        xml.leaf("ownerId", &self.account_id);
        if !reservation.description.is_empty() {
            xml.leaf("description", &reservation.description);
        }
        xml.tags(&reservation.tags);
    }
}

/// Why this part of the subnet cannot be reserved.
pub(crate) fn check_reservation(subnet: &Subnet, cidr: Ipv4Net, kind: ReservationType) -> Result<(), String> {
    if cidr.trunc() != cidr {
        return Err(format!("The CIDR {cidr} is not a network address"));
    }
    if !subnet.cidr_block().contains(&cidr) {
        return Err(format!("The CIDR {cidr} is not within the subnet {}", subnet.id));
    }
    if kind == ReservationType::Prefix && cidr.prefix_len() > PREFIX_LENGTH {
        return Err(format!("The CIDR {cidr} is too small for a reservation of type prefix"));
    }
    match subnet.reservations().iter().find(|other| overlap(other.cidr, cidr)) {
        Some(other) => Err(format!("The CIDR {cidr} conflicts with the reservation {}", other.id)),
        None => Ok(()),
    }
}
