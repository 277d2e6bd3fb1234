// SPDX-License-Identifier: Apache-2.0
//! Asks the witnesses. Decides nothing; writes nothing.
//!
//! The daemon's journal is asked for over its socket; where no daemon runs its files are read, as a start would. The kernel is read by
//! what the repair reads. Of EC2 one description of this instance's ENIs is asked for, where the settings allow it.

use std::collections::BTreeSet;
use std::time::Duration;

use datapath::apply::inspect;
use datapath::plan::Plan;
use datapath::plan::pods::NodeState;
use ipam_api::client::RuntimeClient;
use ipam_api::cri::PodSandboxState;
use ipamd_aws::{Ec2, Imds};
use ipamd_core::action::{ActionKind, EniPlan, HostPlan, Priority};
use ipamd_core::config::Provisioning;
use ipamd_core::event::{EniView, InstanceFacts, Outcome};
use ipamd_core::ids::EniId;
use ipamd_core::{Config, Core, Restored, Snapshot};
use ipnet::Ipv4Net;

use super::compare::{KernelWord, PlanWord, Views, Word, is_served};
use crate::cli::ask::{Asked, Daemon, NoAnswer};
use crate::cli::{boot_id, plan_host, wait};
use crate::clock;
use crate::edge::facts::ec2_settings;
use crate::edge::host::{self, eni_setup, host_setup};
use crate::edge::store::Store;
use crate::telemetry::chain;

/// A runtime answers from memory.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(5);

/// Where no daemon says it. Which ENIs are left alone the daemon finds out of EC2, anew at each start.
const OF_FILES: &str = "files of the journal, for no daemon runs (ENIs that it does not know are not looked for: which are \
                        left alone is in no file)";

/// Asks everybody, the journal first.
///
/// # Errors
/// There is no journal: neither a daemon nor its files.
pub(super) fn ask(config: &Config, asked: &Asked) -> Result<Views, String> {
    let (journal, knows_others) = journal(config, asked)?;
    let remote = wait(remote(config, &journal))?;
    let facts = journal.instance.clone().or(remote.facts);
    let config = facts.as_ref().map_or_else(|| config.clone(), |facts| plan_host::effective(config, facts));
    let kernel = kernel(&config, facts.as_ref(), &journal, &remote.plans);
    Ok(Views {
        layout: config.layout,
        eni_mark_mask: config.eni_mark_mask,
        veth_prefix: config.veth_prefix.clone(),
        is_imds_authority: config.provisioning == Provisioning::ImdsOnly,
        kernel,
        ec2: remote.ec2,
        imds: remote.imds,
        runtime: runtime(&config),
        unix_nanos: clock::now().unix_nanos,
        journal,
        source: if knows_others { "the daemon" } else { OF_FILES },
        knows_others,
    })
}

/// And whether it knows of the ENIs that are left alone.
fn journal(config: &Config, asked: &Asked) -> Result<(Snapshot, bool), String> {
    match Daemon::of(config, asked.address.as_ref()).status() {
        Ok(snapshot) => Ok((snapshot, true)),
        Err(NoAnswer::NoDaemon(text)) if asked.address.is_none() => match from_files(config) {
            Ok(snapshot) => Ok((snapshot, false)),
            Err(error) => Err(format!("{text}; and of its journal: {error}")),
        },
        Err(error) => Err(error.into()),
    }
}

/// What a start of the daemon would go on from.
fn from_files(config: &Config) -> Result<Snapshot, String> {
    let kernel = host::observe(&config.veth_prefix).map_err(|error| chain(&error))?;
    let loaded = Store::new(&config.journal).load().map_err(|error| chain(&error))?;
    if loaded.own.is_none() && loaded.reference.is_none() {
        return Err(format!("there is none at {} (AWS_VPC_K8S_CNI_BACKING_STORE)", config.journal.display()));
    }
    let restored = Restored::read(loaded.reference.as_deref(), loaded.own.as_deref(), kernel, boot_id()?);
    let (core, _) = Core::new(config.clone(), restored, clock::now());
    let mut snapshot = core.snapshot(clock::now());
    // A start proves each again, and finds nothing to do where all is well: that is what is looked at here.
    for eni in snapshot.enis.iter_mut().filter(|eni| eni.state == "Configuring") {
        eni.state = "Ready".to_owned();
    }
    Ok(snapshot)
}

/// Metadata's and EC2's words.
struct Remote {
    facts: Option<InstanceFacts>,
    imds: Word<Vec<EniView>>,
    /// What is programmed of secondary ENIs, as far as metadata tells it.
    plans: Vec<EniPlan>,
    ec2: Word<Vec<EniView>>,
}

async fn remote(config: &Config, journal: &Snapshot) -> Remote {
    let imds = Imds::new();
    let facts = match &journal.instance {
        Some(facts) => Ok(facts.clone()),
        None => imds.facts().await,
    };
    let facts = match facts {
        Ok(facts) => facts,
        Err(failure) => {
            let why = format!("metadata does not say which instance this is: {}", failure.message);
            return Remote { facts: None, imds: Word::Silent(why.clone()), plans: Vec::new(), ec2: Word::Silent(why) };
        }
    };
    // Together: an address may be on its way while they are asked.
    let (of_imds, of_ec2) = tokio::join!(imds.enis(&facts.instance_id), ec2(config, &facts));
    let plans = plan_host::secondary_enis(&imds, facts.primary_mac).await;
    // Without plans ENIs' set-up is not compared: metadata has not said all that it is asked for.
    let (imds, plans) = match (of_imds, plans) {
        (Ok(enis), Ok(plans)) => (Word::Said(enis), plans),
        (Err(failure), _) | (_, Err(failure)) => (Word::Silent(failure.message), Vec::new()),
    };
    Remote { facts: Some(facts), imds, plans, ec2: of_ec2 }
}

async fn ec2(config: &Config, facts: &InstanceFacts) -> Word<Vec<EniView>> {
    if config.provisioning == Provisioning::ImdsOnly {
        return Word::Unwanted("EC2 may not be asked (ENABLE_IMDS_ONLY_MODE)".to_owned());
    }
    let ec2 = match Ec2::connect(&ec2_settings(config), &facts.region).await {
        Ok(ec2) => ec2,
        Err(error) => return Word::Silent(format!("{} (`ipamd doctor` says more)", chain(&error))),
    };
    let (instance_id, also, tokens) = (facts.instance_id.clone(), Vec::new(), Vec::new());
    match ec2.run(Priority::Describe, &ActionKind::DescribeEnis { instance_id, also, tokens }).await {
        Outcome::EnisDescribed { enis, .. } => Word::Said(enis),
        Outcome::Failed(failure) => Word::Silent(format!("{} (`ipamd doctor` says more)", failure.message)),
        other => Word::Silent(format!("EC2's description of the ENIs ended as {other:?}")),
    }
}

fn runtime(config: &Config) -> Word<BTreeSet<String>> {
    let Some(socket) = &config.runtime else {
        return Word::Unwanted("ENID_RUNTIME_ENDPOINT is not set".to_owned());
    };
    match RuntimeClient::new(socket).sandboxes(RUNTIME_PATIENCE) {
        Ok(all) => {
            let ready = all.into_iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
            Word::Said(ready.map(|sandbox| sandbox.id).collect())
        }
        Err(error) => Word::Silent(chain(&error)),
    }
}

fn kernel(config: &Config, facts: Option<&InstanceFacts>, journal: &Snapshot, enis: &[EniPlan]) -> Word<KernelWord> {
    let node = match inspect::node() {
        Ok(node) => node,
        Err(error) => return Word::Silent(chain(&error)),
    };
    let of = |id: &EniId| journal.enis.iter().find(|eni| eni.eni_id.as_ref() == Some(id));
    let mut plans = Vec::new();
    if let Some(facts) = facts {
        let plan = HostPlan {
            primary_mac: facts.primary_mac,
            primary_address: facts.primary_address,
            vpc_cidrs: facts.vpc_cidrs.clone(),
            blocks: config.snat.blocks.clone(),
            notrack: config.leaves_untracked(&facts.vpc_cidrs),
        };
        let missing = match inspect::host(&host_setup(config, &plan)) {
            Err(error) if !error.is_link_missing() => {
                return Word::Silent(format!("{} (run this as root, on the host's network)", chain(&error)));
            }
            missing => missing.map(|plan| commands(&plan, &node)).map_err(|error| chain(&error)),
        };
        plans.push(PlanWord { eni_id: None, missing });
    }
    for plan in enis.iter().filter(|plan| of(&plan.eni_id).is_some_and(is_served)) {
        // Metadata lags; which prefixes there are the journal knows.
        let plan = EniPlan { prefixes: prefixes(journal, &plan.eni_id), ..plan.clone() };
        let setup = eni_setup(&plan, config).map_err(|error| chain(&error));
        let missing = setup.and_then(|setup| inspect::eni(&setup).map_err(|error| chain(&error)));
        plans.push(PlanWord { eni_id: Some(plan.eni_id), missing: missing.map(|plan| commands(&plan, &node)) });
    }
    Word::Said(KernelWord { node, plans })
}

fn prefixes(journal: &Snapshot, eni_id: &EniId) -> Vec<Ipv4Net> {
    let of_eni = journal.addresses.iter().filter(|address| address.eni_id.as_ref() == Some(eni_id));
    let prefixes: BTreeSet<Ipv4Net> = of_eni.filter_map(|address| address.prefix).collect();
    prefixes.into_iter().collect()
}

fn commands(plan: &Plan, node: &NodeState) -> Vec<String> {
    plan.ops.iter().map(|op| inspect::named(op, node).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_ec2_may_not_be_asked_nobody_misses_it() {
        let config = Config { provisioning: Provisioning::ImdsOnly, ..Config::default() };
        let facts = InstanceFacts {
            instance_id: "i-1".into(),
            instance_type: "m5.large".to_owned(),
            availability_zone: "us-east-1a".to_owned(),
            region: "us-east-1".to_owned(),
            vpc_id: "vpc-1".into(),
            vpc_cidrs: Vec::new(),
            primary_eni_id: "eni-1".into(),
            primary_mac: ipamd_core::ids::MacAddr([2, 0, 0, 0, 0, 1]),
            primary_address: [10, 0, 1, 1].into(),
            subnet_id: "subnet-1".into(),
            subnet_cidr: Ipv4Net::default(),
            security_group_ids: Vec::new(),
        };
        let word = wait(ec2(&config, &facts)).unwrap();
        assert!(matches!(&word, Word::Unwanted(why) if why.contains("ENABLE_IMDS_ONLY_MODE")), "{word:?}");
    }
}
