// SPDX-License-Identifier: Apache-2.0
//! `ipamd plan-host`: prints what the daemon would write to the kernel of this node, as `ip` and `nft` commands. Asks
//! IMDS who the node is and which ENIs it has; writes nothing.

use std::io::Write;

use datapath::plan::{eni, host};
use ipamd_aws::Imds;
use ipamd_core::Config;
use ipamd_core::action::{EniPlan, HostPlan};
use ipamd_core::event::{Failure, FailureClass, InstanceFacts};
use ipamd_core::ids::{DeviceIndex, EniId, MacAddr};

use crate::cli::{Environment, print, wait};
use crate::edge::host::{eni_setup, host_setup};
use crate::edge::layers::{Layering, RecordFile};
use crate::edge::nat_file::NatFile;

/// Prints the plan.
///
/// # Errors
/// IMDS does not answer, or standard output is closed.
pub fn run(config: &Config, out: &mut dyn Write) -> Result<(), String> {
    let text = wait(plan(config))?.map_err(|failure| failure.message)?;
    print(out, &text)
}

async fn plan(config: &Config) -> Result<String, Failure> {
    let imds = Imds::new();
    let facts = imds.facts().await?;
    let InstanceFacts { instance_id, instance_type, primary_mac, primary_address, vpc_cidrs, .. } = &facts;
    let config = effective(config, &facts);
    let plan = HostPlan {
        primary_mac: *primary_mac,
        primary_address: *primary_address,
        vpc_cidrs: vpc_cidrs.clone(),
        blocks: config.snat.blocks.clone(),
        notrack: config.leaves_untracked(vpc_cidrs),
    };
    let setup = host_setup(&config, &plan);
    let mut text = format!("# host: {instance_id} ({instance_type}), {primary_address}\n{}\n", host::setup(&setup));
    for plan in secondary_enis(&imds, *primary_mac).await? {
        let name = &plan.eni_id;
        if plan.network_card > 0 {
            text.push_str(&format!("\n# {name} is on network card {}: left alone\n", plan.network_card));
            continue;
        }
        let setup = eni_setup(&plan, &config).map_err(|error| Failure {
            class: FailureClass::Kernel,
            code: "Kernel".to_owned(),
            message: error.to_string(),
            retry_after: None,
        })?;
        text.push_str(&format!("\n# {name} at {}\n{}\n", setup.place, eni::setup(&setup)));
    }
    Ok(text)
}

/// The settings as the daemon would read them now.
pub(super) fn effective(config: &Config, facts: &InstanceFacts) -> Config {
    let record = RecordFile::only_read(&config.journal);
    let mut config = Layering::new(Box::new(Environment), config, record, Some(facts)).config().clone();
    config.snat.blocks = NatFile::new(config.snat.file.clone(), config.snat.blocks).read().clone();
    config
}

/// The attached ENIs besides the primary one, as IMDS lists them, by network card and device index.
///
/// # Errors
/// IMDS does not answer.
pub(super) async fn secondary_enis(imds: &Imds, primary: MacAddr) -> Result<Vec<EniPlan>, Failure> {
    let list = imds.get("network/interfaces/macs/").await?.unwrap_or_default();
    let macs = list.lines().filter_map(|line| line.trim_end_matches('/').parse().ok());
    let mut plans = Vec::new();
    for mac in macs.filter(|mac| *mac != primary) {
        plans.extend(secondary_eni(imds, mac).await?);
    }
    plans.sort_by_key(|plan| (plan.network_card, plan.device_index));
    Ok(plans)
}

/// `None`: an ENI without IPv4, or one that is just going.
async fn secondary_eni(imds: &Imds, mac: MacAddr) -> Result<Option<EniPlan>, Failure> {
    let item = async |name: &str| imds.get(&format!("network/interfaces/macs/{mac}/{name}")).await;
    let id = item("interface-id").await?;
    let index = item("device-number").await?.and_then(|text| text.parse().ok()).map(DeviceIndex);
    let address = item("local-ipv4s").await?.and_then(|text| text.lines().next().and_then(|line| line.parse().ok()));
    let subnet = item("subnet-ipv4-cidr-block").await?.and_then(|text| text.parse().ok());
    let (Some(id), Some(device_index), Some(primary_address), Some(subnet_cidr)) = (id, index, address, subnet) else {
        return Ok(None);
    };
    let prefixes = item("ipv4-prefix").await?.unwrap_or_default();
    let prefixes = prefixes.lines().filter_map(|line| line.parse().ok()).collect();
    let network_card = imds.network_card(mac).await?;
    let eni_id = EniId(id);
    Ok(Some(EniPlan { eni_id, mac, device_index, network_card, primary_address, subnet_cidr, prefixes }))
}
