// SPDX-License-Identifier: Apache-2.0
//! `ipamd takeover --dry-run`: what a start of the daemon would make of a node that is aws-node's, and what is in the way. Writes
//! nothing, in no file and not to the kernel; asks instance metadata and EC2 (one description) which ENIs there are.
//!
//! What becomes of journal and kernel is not decided here: it is what the core's own restore says ([`ipamd_core::Restored`]).
//!
//! Exit code 0: nothing is in the way of a takeover; 1: something is. What only has to be known is told as a note.

mod report;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::apply::takeover::{self as kernel, Found};
use ipam_api::Client;
use ipamd_aws::{Ec2, Imds};
use ipamd_core::action::{ActionKind, Priority};
use ipamd_core::config::{Config, Layout, Provisioning};
use ipamd_core::event::{EniView, Failure, Outcome};
use ipamd_core::ids::EniId;
use ipamd_core::{Core, Restored, Snapshot};

use crate::cli::{boot_id, print, wait};
use crate::clock;
use crate::edge::facts::ec2_settings;
use crate::edge::host;
use crate::edge::lock::InstanceLock;
use crate::edge::store::Store;
use crate::telemetry::chain;
use report::{Adopted, Dropped, Report};

/// For the daemon that may answer at the socket.
const SOCKET_BUDGET: Duration = Duration::from_millis(500);

/// Prints the report, as JSON or for people.
///
/// # Errors
/// Something is in the way, or the node cannot be read.
pub fn run(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), String> {
    let _lock = InstanceLock::of_no_daemon(host::state_folder(config)).map_err(|error| chain(&error))?;
    let report = examine(config)?;
    let text = if json { report.json()? } else { report.text() };
    print(out, &text)?;
    match report.obstacles.len() {
        0 => Ok(()),
        1 => Err("one thing is in the way of a takeover".to_owned()),
        count => Err(format!("{count} things are in the way of a takeover")),
    }
}

fn examine(config: &Config) -> Result<Report, String> {
    let view = host::observe(&config.veth_prefix).map_err(|error| chain(&error))?;
    let boot_id = boot_id()?;
    let store = Store::new(&config.journal);
    let loaded = store.load().map_err(|error| chain(&error))?;
    let links: BTreeMap<Ipv4Addr, String> = view.held.iter().map(|held| (held.address, held.link.clone())).collect();
    let restored = Restored::read(loaded.reference.as_deref(), loaded.own.as_deref(), view, boot_id);
    let entries = match &restored.reference {
        Some(Ok(journal)) => journal.allocations.clone(),
        _ => Vec::new(),
    };
    let mut report = Report::new(config.layout == Layout::Flat);
    journals(&mut report, loaded.out_of_date, &restored);
    let several: Vec<_> = entries.iter().filter(|entry| entry.metadata.interfaces_count > 1).collect();
    if let Some(first) = several.first() {
        report.obstacle(format!(
            "{} pods have several interfaces, such as {}: Enid does not serve them; move them away first",
            several.len(),
            first.key()
        ));
    }
    let (core, _) = Core::new(config.clone(), restored, clock::now());
    let snapshot = core.snapshot(clock::now());
    adopted(&mut report, &snapshot, &links);
    for entry in entries {
        let is_adopted =
            snapshot.pods.iter().any(|pod| Some(pod.address) == entry.ipv4 && pod.key == entry.key().to_string());
        if !is_adopted {
            report.dropped.push(Dropped::new(&entry));
        }
    }
    of_kernel(&mut report, config, &kernel::observe().map_err(|error| chain(&error))?);
    if Client::new(&config.socket).is_serving("", SOCKET_BUDGET).is_ok() {
        report.obstacle(format!(
            "a daemon answers at {}: aws-node still runs; its DaemonSet must have left this node first",
            config.socket.display()
        ));
    }
    match wait(enis(config))? {
        Ok((imds, ec2)) => of_enis(&mut report, &imds, ec2.as_deref()),
        Err(failure) => report.obstacle(format!("which ENIs there are is not known: {}", failure.message)),
    }
    Ok(report)
}

/// Files that are not as the reference leaves them.
fn journals(report: &mut Report, out_of_date: Option<Duration>, restored: &Restored) {
    match &restored.reference {
        Some(Err(error)) => {
            report.obstacle(format!("ipam.json cannot be used ({error}): no pod would be adopted by its key"))
        }
        Some(Ok(_)) => {}
        None if restored.kernel.held.is_empty() => {
            report.note("there is no ipam.json, and no pod: a fresh node".to_owned())
        }
        None => report.obstacle(
            "there is no ipam.json, and pods live here: AWS_VPC_K8S_CNI_BACKING_STORE must be as aws-node has it"
                .to_owned(),
        ),
    }
    match out_of_date {
        Some(later) => report.note(format!(
            "ipam.json was written {} s after enid.json: amazon-vpc-cni-k8s has had the node since; enid.json is out of date, and will be \
             set aside",
            later.as_secs()
        )),
        None if restored.own.is_none() => {}
        None => report.note("there is an enid.json: the node is Enid's already, and the daemon goes on where it was".to_owned()),
    }
}

fn adopted(report: &mut Report, snapshot: &Snapshot, links: &BTreeMap<Ipv4Addr, String>) {
    for pod in &snapshot.pods {
        report.adopted.push(Adopted {
            key: pod.key.clone(),
            pod: (!pod.pod.name.is_empty()).then(|| format!("{}/{}", pod.pod.namespace, pod.pod.name)),
            address: pod.address,
            host_veth: links.get(&pod.address).cloned(),
            eni_id: None,
        });
    }
    for address in snapshot.addresses.iter().filter(|address| address.state == "held") {
        report.note(format!("{} has a link here and no entry: not given out while it has", address.address));
    }
}

fn of_kernel(report: &mut Report, config: &Config, found: &Found) {
    report.removed.clone_from(&found.leftovers);
    let links = report.adopted.iter().filter_map(|pod| pod.host_veth.as_deref());
    let named: Vec<_> = links.filter(|link| !link.starts_with(&config.veth_prefix)).map(str::to_owned).collect();
    if let Some(first) = named.first() {
        report.note(format!(
            "AWS_VPC_K8S_CNI_VETHPREFIX is {:?}, and {} pods have links of other names, such as {first}: they are known by their routes \
             alone",
            config.veth_prefix,
            named.len()
        ));
    }
    for link in &found.branch_links {
        report.obstacle(format!(
            "{link} is a branch ENI's link: pods with security groups of their own are not served by Enid"
        ));
    }
    for mark in found.marks.iter().filter(|mark| **mark != config.snat.connmark) {
        report.obstacle(format!(
            "marked packets have mask {mark:#x} here, and AWS_VPC_K8S_CNI_CONNMARK is {:#x}: open connections of pods to the internet \
             would end",
            config.snat.connmark
        ));
    }
    found.foreign_rules.iter().for_each(|rule| report.note(format!("a rule of somebody else's stays: {rule}")));
    if found.has_legacy_tables {
        report.note(format!(
            "iptables-legacy has tables, which are not read from here: what aws-node has there stays until you run `{}`",
            datapath::apply::host::LEGACY_CLEANUP
        ));
    }
}

/// ENIs of this instance as metadata has them, and as EC2 has, where that may be asked.
async fn enis(config: &Config) -> Result<(Vec<EniView>, Option<Vec<EniView>>), Failure> {
    let imds = Imds::new();
    let facts = imds.facts().await?;
    let of_imds = imds.enis(&facts.instance_id).await?;
    if config.provisioning == Provisioning::ImdsOnly {
        return Ok((of_imds, None));
    }
    let settings = ec2_settings(config);
    let failed = |message| Failure {
        class: ipamd_core::event::FailureClass::Transient,
        code: "Ec2".to_owned(),
        message,
        retry_after: None,
    };
    let ec2 = Ec2::connect(&settings, &facts.region).await.map_err(|error| failed(chain(&error)))?;
    let describe = ActionKind::DescribeEnis { instance_id: facts.instance_id, also: Vec::new(), tokens: Vec::new() };
    match ec2.run(Priority::Describe, &describe).await {
        Outcome::EnisDescribed { enis, .. } => Ok((of_imds, Some(enis))),
        Outcome::Failed(failure) => Err(failure),
        other => Err(failed(format!("EC2's description of the ENIs ended as {other:?}"))),
    }
}

fn of_enis(report: &mut Report, imds: &[EniView], ec2: Option<&[EniView]>) {
    let has = |eni: &EniView, address: Ipv4Addr| {
        eni.secondary_addresses.contains(&address) || eni.prefixes.iter().any(|prefix| prefix.contains(&address))
    };
    let known = ec2.unwrap_or(imds);
    let mut lost = Vec::new();
    for pod in &mut report.adopted {
        pod.eni_id = known.iter().find(|eni| has(eni, pod.address)).map(|eni| eni.eni_id.clone());
        if pod.eni_id.is_none() {
            lost.push(format!(
                "{} of {} is on no ENI of this instance: its packets are lost already",
                pod.address, pod.key
            ));
        }
    }
    report.obstacles.extend(lost);
    let ids = |enis: &[EniView]| enis.iter().map(|eni| eni.eni_id.clone()).collect::<Vec<EniId>>();
    let Some(ec2) = ec2 else { return };
    let (of_imds, of_ec2) = (ids(imds), ids(ec2));
    for eni in of_imds.iter().filter(|eni| !of_ec2.contains(eni)) {
        report.obstacle(format!("{eni} is in the instance's metadata and not in EC2's answer"));
    }
    for eni in of_ec2.iter().filter(|eni| !of_imds.contains(eni)) {
        report.note(format!("{eni} is attached by EC2, and the instance's metadata does not show it yet"));
    }
}
