// SPDX-License-Identifier: Apache-2.0
//! DescribeInstanceTypes' answer as the limits of an instance type, for a type that the compiled-in table lacks.
//!
//! What EC2's answer does not say stays unknown: no public call tells how many branch ENIs a trunk carries.

use aws_sdk_ec2::types::{InstanceTypeHypervisor, InstanceTypeInfo};
use instance_limits::{CardLimits, Hypervisor, InstanceLimits, Trunking};

/// The limits, or `None` when the answer lacks the number of ENIs or of addresses.
pub(crate) fn from_ec2(info: &InstanceTypeInfo) -> Option<InstanceLimits> {
    let network = info.network_info()?;
    let cards: Vec<CardLimits> = network
        .network_cards()
        .iter()
        .filter_map(|card| {
            Some(CardLimits {
                index: u8::try_from(card.network_card_index()?).ok()?,
                max_enis: u16::try_from(card.maximum_network_interfaces()?).ok()?,
            })
        })
        .collect();
    let cards = if cards.is_empty() {
        vec![CardLimits { index: 0, max_enis: u16::try_from(network.maximum_network_interfaces()?).ok()? }]
    } else {
        cards
    };
    let default_index = u8::try_from(network.default_network_card_index().unwrap_or(0)).ok()?;
    let default_card = cards.iter().position(|card| card.index == default_index)?;
    let bare_metal = info.bare_metal().unwrap_or(false);
    let hypervisor = match info.hypervisor() {
        Some(InstanceTypeHypervisor::Nitro) => Hypervisor::Nitro,
        Some(InstanceTypeHypervisor::Xen) => Hypervisor::Xen,
        None if bare_metal => Hypervisor::None,
        _ => Hypervisor::Unknown,
    };
    Some(InstanceLimits {
        default_card: u8::try_from(default_card).ok()?,
        cards: cards.into(),
        ipv4_per_eni: u16::try_from(network.ipv4_addresses_per_interface()?).ok()?,
        ipv6_per_eni: match network.ipv6_supported() {
            Some(false) => Some(0),
            _ => network.ipv6_addresses_per_interface().and_then(|count| u16::try_from(count).ok()),
        },
        hypervisor,
        bare_metal,
        trunking: Trunking::Unknown,
        vcpus: info.v_cpu_info().and_then(|cpus| cpus.default_v_cpus()).and_then(|count| u16::try_from(count).ok()),
    })
}
