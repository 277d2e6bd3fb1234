// SPDX-License-Identifier: Apache-2.0
//! DescribeInstanceTypes, from the limits table.
//!
//! Shows what the table knows: network limits, hypervisor, bare metal, vCPUs. Nothing else of a type is modelled.
//!
//! Source: EC2 API reference, InstanceTypeInfo and NetworkInfo (`hypervisor` is absent on bare metal).

use instance_limits::{Hypervisor, InstanceLimits};

use crate::efa;
use crate::error::Ec2Error;
use crate::params::Params;
use crate::state::Tags;
use crate::vpc::Vpc;
use crate::xml::Xml;

use super::{Page, check_filters, passes, write_page};

/// Most types that can be named, and the largest page.
const MOST: usize = 100;

const FILTERS: [&str; 8] = [
    "bare-metal",
    "hypervisor",
    "instance-type",
    "network-info.efa-supported",
    "network-info.ipv4-addresses-per-interface",
    "network-info.ipv6-supported",
    "network-info.maximum-network-cards",
    "network-info.maximum-network-interfaces",
];

impl Vpc {
    pub(crate) fn describe_instance_types(params: &Params) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &FILTERS)?;
        let names = params.list("InstanceType");
        if names.len() > MOST {
            return Err(Ec2Error::value(format!("At most {MOST} instance types can be named")));
        }
        let unknown: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| instance_limits::lookup(name).is_none()).collect();
        if !unknown.is_empty() {
            let text = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
            return Err(Ec2Error::new("InvalidInstanceType", text));
        }
        let entries = instance_limits::all()
            .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name))
            .filter(|(name, limits)| passes(&filters, &Tags::new(), |filter| values(name, limits, filter)))
            .map(|(name, limits)| (name.to_owned(), (name, limits)))
            .collect();
        let page = Page { ids: "InstanceType", most: MOST };
        write_page(params, "instanceTypeSet", entries, &page, |xml, (name, limits)| write_type(xml, name, limits))
    }
}

fn hypervisor(limits: &InstanceLimits) -> Option<&'static str> {
    match limits.hypervisor {
        Hypervisor::Nitro => Some("nitro"),
        Hypervisor::Xen => Some("xen"),
        Hypervisor::None | Hypervisor::Unknown => None,
    }
}

fn values(name: &str, limits: &InstanceLimits, filter: &str) -> Vec<String> {
    match filter {
        "bare-metal" => vec![limits.bare_metal.to_string()],
        "hypervisor" => hypervisor(limits).map(str::to_owned).into_iter().collect(),
        "instance-type" => vec![name.to_owned()],
        "network-info.efa-supported" => vec![(efa::most(name, limits) > 0).to_string()],
        "network-info.ipv4-addresses-per-interface" => vec![limits.ipv4_per_eni.to_string()],
        "network-info.ipv6-supported" => vec![limits.ipv6_per_eni.is_some_and(|slots| slots > 0).to_string()],
        "network-info.maximum-network-cards" => vec![limits.cards.len().to_string()],
        "network-info.maximum-network-interfaces" => vec![limits.max_enis().to_string()],
        _ => Vec::new(),
    }
}

fn write_type(xml: &mut Xml, name: &str, limits: &InstanceLimits) {
    xml.leaf("instanceType", name);
    xml.leaf("bareMetal", limits.bare_metal);
    if let Some(hypervisor) = hypervisor(limits) {
        xml.leaf("hypervisor", hypervisor);
    }
    if let Some(vcpus) = limits.vcpus {
        xml.element("vCpuInfo", |xml| xml.leaf("defaultVCpus", vcpus));
    }
    xml.element("networkInfo", |xml| {
        xml.leaf("maximumNetworkInterfaces", limits.max_enis());
        xml.leaf("maximumNetworkCards", limits.cards.len());
        xml.leaf("defaultNetworkCardIndex", limits.default_card);
        xml.list("networkCards", limits.cards.iter(), |xml, card| {
            xml.leaf("networkCardIndex", card.index);
            xml.leaf("maximumNetworkInterfaces", card.max_enis);
        });
        xml.leaf("ipv4AddressesPerInterface", limits.ipv4_per_eni);
        if let Some(slots) = limits.ipv6_per_eni {
            xml.leaf("ipv6AddressesPerInterface", slots);
            xml.leaf("ipv6Supported", slots > 0);
        }
        let efas = efa::most(name, limits);
        xml.leaf("efaSupported", efas > 0);
        if efas > 0 {
            xml.element("efaInfo", |xml| xml.leaf("maximumEfaInterfaces", efas));
        }
    });
}
