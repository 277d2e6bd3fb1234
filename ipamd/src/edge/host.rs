// SPDX-License-Identifier: Apache-2.0
//! The host edge: one thread of its own that writes to and reads from the kernel (`datapath::apply` blocks).
//!
//! Decides nothing: turns the core's plans into the datapath's, and its errors into failures. What it does besides, when it is awake, is
//! [`chores`]'.
//!
//! Invariant: kernel writes of the daemon happen on this thread only, one after the other; but for connections and neighbours
//! of addresses that nobody has (`flush`).

mod chores;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use datapath::apply::hostport::Settled;
use datapath::apply::ledger::Ledger;
use datapath::apply::repair::{Desired, Failed, Part};
use datapath::apply::{self, ApplyError};
use datapath::plan::eni::{EniSetup, Steering};
use datapath::plan::host::{Families, HostSetup, Layout, PortChoice, PortRange};
use datapath::plan::ids::{Place, PlaceError};
use datapath::plan::model::Mark;
use datapath::plan::pod::PodLayout;
use datapath::plan::pods::LivePod;
use datapath::plan::repair::{Fault, Object, Repair};
use datapath::plan::{Family, LinkName, MacAddr, RouteTable, answers, ids, marks};
use ipamd_core::action::{Action, ActionKind, EniPlan, HostPlan, Plumbing};
use ipamd_core::config::{self, Config};
use ipamd_core::event::{Failure, FailureClass, HeldAddress, KernelView, Outcome};
use ipamd_core::ids as core_ids;
use ipamd_core::ids::{AllocationKey, DeviceIndex};
use ipamd_core::reason::ReasonCode;
use ipamd_core::repair::{PartFailure, PodPlan, RepairKind, RepairPart, RepairPlan, RepairReport, Repaired};

use crate::clock;
use crate::edge::runner::log_end;
use crate::edge::watcher;
use crate::inbox::Inbox;
use crate::telemetry::chain;
use chores::Chores;

/// What the thread is told.
#[derive(Debug)]
enum Job {
    Act(Action),
    /// Host veths came or went.
    Links,
}

/// The thread's letter box.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    jobs: Sender<Job>,
    /// The thread knows already that host veths came or went.
    told: Arc<AtomicBool>,
}

impl Host {
    /// Starts the thread. What settings of the node are before they are changed goes into the ledger.
    pub(crate) fn start(config: Config, inbox: Inbox, ledger: Ledger) -> io::Result<Self> {
        let (sender, jobs) = channel();
        let told = Arc::<AtomicBool>::default();
        let chores = Chores::new(told.clone());
        let work = move || work(&jobs, &config, (&inbox, ledger), chores);
        std::thread::Builder::new().name("host".to_owned()).spawn(work)?;
        Ok(Self { jobs: sender, told })
    }

    pub(crate) fn run(&self, action: Action) {
        // The thread lives as long as a sender does.
        let _ = self.jobs.send(Job::Act(action));
    }

    /// Host veths came or went. Wakes the thread only when it has looked since it was told last.
    pub(crate) fn links_changed(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            let _ = self.jobs.send(Job::Links);
        }
    }
}

fn work(jobs: &Receiver<Job>, config: &Config, (inbox, mut ledger): (&Inbox, Ledger), mut chores: Chores) {
    let mut leftovers_due = true;
    let mut in_vain = BTreeSet::new();
    loop {
        // Whatever else there is to do: a busy thread must not leave them undone.
        chores.work(config, inbox);
        let action = match jobs.recv_timeout(chores.due().since(clock::boot())) {
            Ok(Job::Act(action)) => action,
            Ok(Job::Links) => {
                chores.links_changed();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let started = clock::boot();
        let outcome = perform(&action.kind, config, &mut ledger);
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(failure(&error)));
        let is_set_up = matches!((&action.kind, &outcome), (ActionKind::ConfigureHost { .. }, Outcome::Done));
        let is_eni = matches!(outcome, Outcome::EniConfigured);
        log_end(action.id, &outcome, started);
        inbox.ended(action.id, outcome);
        // ADDs wait for the ENI, and not for what there is to be told of it.
        if let ActionKind::ConfigureEni(plan) = &action.kind
            && is_eni
        {
            notice_group(plan, config, &mut in_vain);
        }
        if is_set_up && std::mem::take(&mut leftovers_due) {
            remove_leftovers();
            notice_egress(config);
            notice_early_demux(config);
        }
    }
}

/// Once in the life of a daemon, when ours is in place. What the reference left is in nobody's way but the lists': a failure is
/// told, and all goes on.
fn remove_leftovers() {
    match apply::host::remove_leftovers() {
        Ok(found) if found.is_empty() => {}
        Ok(found) => tracing::info!(?found, "rules that amazon-vpc-cni-k8s had left in nf_tables are removed"),
        Err(error) => tracing::warn!(
            code = %ReasonCode::LeftoversRemain,
            error = %chain(&error),
            "rules that amazon-vpc-cni-k8s may have left in nf_tables cannot be removed; restart the daemon to try again"
        ),
    }
}

/// Once: a look at the network tries again, but it is nothing that pods wait for.
fn notice_early_demux(config: &Config) {
    if config.disables_early_demux && matches!(apply::host::early_demux_is_off(), Ok(false)) {
        tracing::warn!(
            code = %ReasonCode::EarlyDemuxOn,
            "DISABLE_TCP_EARLY_DEMUX: net.ipv4.tcp_early_demux cannot be set from here (is /proc/sys read-only?); run \
             `sysctl -w net.ipv4.tcp_early_demux=0` on the node"
        );
    }
}

/// Once an ENI; `told`: of which it was said.
fn notice_group(plan: &EniPlan, config: &Config, told: &mut BTreeSet<MacAddr>) {
    let Ok(eni) = eni_setup(plan, config) else { return };
    if eni.answers.is_none() || told.contains(&eni.mac) {
        return;
    }
    if let Ok(Some((link, group))) = apply::eni::foreign_group(&eni) {
        told.insert(eni.mac);
        tracing::warn!(
            code = %ReasonCode::LinkGroupForeign,
            "{link} of {} is in link group {group}, which is not ours and stays: node ports that are asked for at this ENI's own \
             address are not answered. After `ip link set dev {link} group 0` they are, from the next look at the network on",
            plan.eni_id
        );
    }
}

/// Once, as above; the plugin looks at every ADD and says it of the pod.
fn notice_egress(config: &Config) {
    if config.v6_egress && matches!(apply::egress::is_possible(Family::V6), Ok(false)) {
        tracing::warn!(
            code = %ReasonCode::EgressImpossible,
            "ENABLE_V6_EGRESS: the node has no IPv6 default route by a link with a global address, so pods get no egress \
             address; give the primary ENI an IPv6 address. Pods that come later find it without a restart"
        );
    }
}

/// For the start on a node whose pods are the reference's: what it has in iptables-legacy is out of our reach.
pub(crate) fn notice_legacy_rules() {
    if apply::host::has_legacy_tables() {
        tracing::warn!(
            code = %ReasonCode::LegacyRulesLeft,
            command = apply::host::LEGACY_CLEANUP,
            "this node was amazon-vpc-cni-k8s's and iptables-legacy is in use: if that used it, its rules go on translating \
             by its old lists; run the command once to remove them"
        );
    }
}

fn ports(config: &Config) -> Result<Settled, ApplyError> {
    apply::hostport::settle(&state_folder(config).join(ipam_api::state::HOST_PORTS))
}

fn perform(kind: &ActionKind, config: &Config, ledger: &mut Ledger) -> Result<Outcome, ApplyError> {
    match kind {
        ActionKind::ConfigureEni(plan) => {
            apply::eni::setup_with(&eni_setup(plan, config)?, ledger)?;
            Ok(Outcome::EniConfigured)
        }
        ActionKind::DeconfigureEni(plan) => {
            apply::eni::remove(&eni_setup(plan, config)?)?;
            Ok(Outcome::Done)
        }
        ActionKind::ConfigureHost(plan) => {
            apply::host::setup_with(&host_setup(config, plan), ledger)?;
            Ok(Outcome::Done)
        }
        ActionKind::Repair(plan) => Ok(Outcome::Repaired(Box::new(repair(plan, config, ledger)?))),
        ActionKind::ObserveKernel => Ok(Outcome::KernelObserved(observe(&config.veth_prefix)?)),
        other => Ok(Outcome::Failed(Failure {
            class: FailureClass::Rejected,
            code: "NotKernel".to_owned(),
            message: format!("{other:?} is not an action on the kernel"),
            retry_after: None,
        })),
    }
}

pub(crate) fn failure(error: &ApplyError) -> Failure {
    let (class, code) = if error.is_link_missing() {
        (FailureClass::LinkMissing, "LinkMissing".to_owned())
    } else {
        (FailureClass::Kernel, error.errno().map_or_else(|| "Kernel".to_owned(), |errno| format!("Errno{errno}")))
    };
    Failure { class, code, message: chain(error), retry_after: None }
}

pub(crate) fn mac(mac: core_ids::MacAddr) -> MacAddr {
    MacAddr(mac.0)
}

/// Where the datapath has an ENI.
///
/// # Errors
/// A place that no instance has.
pub(crate) fn place(network_card: u32, device_index: DeviceIndex) -> Result<Place, PlaceError> {
    Place::new(network_card, device_index.0)
}

/// The datapath's plan of an ENI.
///
/// # Errors
/// [`ApplyError::Invalid`]: it is at a place that no instance has.
pub(crate) fn eni_setup(plan: &EniPlan, config: &Config) -> Result<EniSetup, ApplyError> {
    let place = place(plan.network_card, plan.device_index)
        .map_err(|error| ApplyError::Invalid { reason: format!("{}: {error}", plan.eni_id) })?;
    let steering = (config.layout == config::Layout::Flat).then(|| Steering {
        mark: marks::of_eni(config.eni_mark_mask, place),
        prefixes: plan.prefixes.iter().copied().map(Into::into).collect(),
    });
    Ok(EniSetup {
        mac: mac(plan.mac),
        place,
        primary_address: plan.primary_address,
        subnet: plan.subnet_cidr,
        mtu: config.eni_mtu,
        steering,
        answers: config.snat.serves_node_ports.then(|| answers::of_eni(config.eni_mark_mask, place)).flatten(),
        ipv6: false,
    })
}

/// The datapath's layout of a pod on the ENI at a place. One that should go by a mark, on an ENI that has none (on another network
/// card, say), gets rules of its own.
pub(crate) fn pod_layout(plumbing: Plumbing, place: Result<Place, PlaceError>, eni_mark_mask: u32) -> PodLayout {
    let table = ids::POD_TABLE;
    match plumbing {
        Plumbing::OwnRules => PodLayout::Classic,
        Plumbing::NodeRules => PodLayout::Flat { table, group: ids::DEFAULT_GROUP },
        Plumbing::EniMark => {
            let place = place.ok().filter(|place| marks::of_eni(eni_mark_mask, *place).is_some());
            place.and_then(Place::group).map_or(PodLayout::Classic, |group| PodLayout::Flat { table, group })
        }
    }
}

/// The datapath's plan of the host.
pub(crate) fn host_setup(config: &Config, plan: &HostPlan) -> HostSetup {
    HostSetup {
        primary_mac: mac(plan.primary_mac),
        primary_address: plan.primary_address,
        vpc_cidrs: plan.vpc_cidrs.clone(),
        exclude_cidrs: plan.blocks.exclude.clone(),
        include_cidrs: plan.blocks.include.clone(),
        external_service_cidrs: plan.blocks.external_services.clone(),
        external_snat: config.snat.external,
        serves_node_ports: config.snat.serves_node_ports,
        port_range: config.snat.port_range.map(|(first, last)| PortRange { first, last }),
        port_choice: match config.snat.port_choice {
            config::PortChoice::Prng => PortChoice::Prng,
            config::PortChoice::HashRandom => PortChoice::HashRandom,
            config::PortChoice::None => PortChoice::None,
        },
        connmark: Mark { value: config.snat.connmark, mask: config.snat.connmark },
        layout: match config.layout {
            config::Layout::Classic => Layout::Classic,
            config::Layout::Flat => Layout::Flat,
        },
        eni_mark_mask: config.eni_mark_mask,
        veth_prefix: config.veth_prefix.clone(),
        mtu: config.eni_mtu,
        external_mtu: config.external_mtu,
        families: if config.v6_egress { Families::V4AndEgress } else { Families::V4 },
        disables_early_demux: config.disables_early_demux,
        notrack: plan.notrack,
    }
}

/// One look at everything, and what came of it.
fn repair(plan: &RepairPlan, config: &Config, ledger: &mut Ledger) -> Result<RepairReport, ApplyError> {
    let (mut enis, mut failures) = (Vec::new(), Vec::new());
    for eni in &plan.enis {
        match eni_setup(eni, config) {
            Ok(setup) => enis.push(setup),
            Err(error) => {
                failures.push(PartFailure { part: RepairPart::Eni(eni.eni_id.clone()), message: chain(&error) })
            }
        }
    }
    let desired = Desired {
        host: plan.host.as_ref().map(|host| host_setup(config, host)),
        enis,
        pods: plan.pods.iter().map(|pod| live_pod(pod, config)).collect(),
        spared: plan.spared.clone(),
        sweep: plan.sweep.clone(),
    };
    let pass = apply::repair::pass_with(&desired, ledger)?;
    failures.extend(pass.failures.iter().map(|failed| part_failure(plan, failed)));
    let repaired = |repair: &Repair| Repaired {
        what: RepairKind { object: repair.object.to_string(), reason: repair.fault.to_string() },
        command: repair.op.to_string(),
    };
    let settled = ports(config);
    let restored = settled.as_ref().map(|settled| settled.restored.as_slice()).unwrap_or_default();
    let reopened = |command: &String| Repaired {
        what: RepairKind { object: Object::HostPort.to_string(), reason: Fault::Missing.to_string() },
        command: command.clone(),
    };
    let repairs: Vec<_> = pass.repairs.iter().map(repaired).chain(restored.iter().map(reopened)).collect();
    let names = plan.name_programs && !repairs.is_empty();
    match &settled {
        // A port that another pod has taken meanwhile is no damage to the kernel: told, and not tried again and again.
        Ok(settled) => settled
            .failures
            .iter()
            .for_each(|failure| tracing::warn!(code = %ReasonCode::HostPortClosed, failure, "host ports stay closed")),
        // Looked at again with the next look, whatever becomes of the rest.
        Err(error) => {
            tracing::warn!(
                code = %ReasonCode::HostPortsUnreadable, error = %chain(error),
                "host ports cannot be looked at"
            )
        }
    }
    Ok(RepairReport {
        repairs,
        swept: pass.swept.iter().map(ToString::to_string).collect(),
        orphans: pass.orphans,
        failures,
        programs: if names { watcher::programs() } else { BTreeSet::new() },
    })
}

fn part_failure(plan: &RepairPlan, Failed { part, error }: &Failed) -> PartFailure {
    let part = match part {
        Part::Host => RepairPart::Host,
        Part::Eni(found) => {
            let eni = plan.enis.iter().find(|eni| mac(eni.mac) == *found);
            eni.map_or(RepairPart::Host, |eni| RepairPart::Eni(eni.eni_id.clone()))
        }
        Part::Pods => RepairPart::Pods,
    };
    PartFailure { part, message: chain(error) }
}

/// The datapath's plan of a plumbed pod.
fn live_pod(pod: &PodPlan, config: &Config) -> LivePod {
    LivePod {
        owner: pod.key.to_string(),
        host_veth: pod.host_veth.as_deref().and_then(|name| LinkName::new(name).ok()),
        addresses: pod.address.into(),
        eni_table: Some(RouteTable(pod.table.0)),
        layout: pod_layout(pod.plumbing, place(pod.network_card, pod.device_index), config.eni_mark_mask),
    }
}

/// The kernel's witness. A link of the dead group belongs to no pod any more and does not testify.
pub(crate) fn observe(veth_prefix: &str) -> Result<KernelView, ApplyError> {
    let state = apply::observe::kernel(veth_prefix)?;
    let mut view = KernelView::default();
    for pod in state.pods.iter().filter(|pod| pod.group != ids::DEAD_GROUP) {
        let link = pod.link.to_string();
        let alias =
            pod.alias.as_ref().and_then(|alias| Some((alias.addresses.of_vpc().v4()?, parse_key(&alias.owner))));
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(v4) if !ids::is_egress(*address) => Some(*v4),
            _ => None,
        };
        let routed = pod.host_routes.iter().find_map(v4).map(|address| (address, None));
        for (address, key) in alias
            .clone()
            .into_iter()
            .chain(routed.filter(|(address, _)| alias.as_ref().is_none_or(|(other, _)| other != address)))
        {
            view.held.push(HeldAddress { address, key, link: link.clone() });
        }
        view.host_veths.push(link);
    }
    view.link_macs = state.links.iter().map(|(_, mac, _)| core_ids::MacAddr(mac.0)).collect();
    Ok(view)
}

/// `network/container/ifname`; a container id may hold a slash, the other two cannot.
fn parse_key(text: &str) -> Option<AllocationKey> {
    let (network, rest) = text.split_once('/')?;
    let (container_id, ifname) = rest.rsplit_once('/')?;
    let key =
        AllocationKey { network: network.to_owned(), container_id: container_id.to_owned(), ifname: ifname.to_owned() };
    [&key.network, &key.container_id, &key.ifname].iter().all(|part| !part.is_empty()).then_some(key)
}

/// The state folder is the journal's.
pub(crate) fn state_folder(config: &Config) -> &Path {
    config.journal.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_a_key_when_it_has_all_three_parts() {
        let key = parse_key("aws-cni/c1/eth0").unwrap();
        assert_eq!((key.network.as_str(), key.container_id.as_str(), key.ifname.as_str()), ("aws-cni", "c1", "eth0"));
        assert_eq!(key.to_string(), "aws-cni/c1/eth0");
        assert_eq!(parse_key("net/a/b/eth0").unwrap().container_id, "a/b");
        for text in ["", "aws-cni", "aws-cni/eth0", "/c1/eth0", "aws-cni//eth0", "aws-cni/c1/"] {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }

    #[test]
    fn a_pod_goes_by_its_eni_s_mark_where_there_is_one_and_by_its_own_rules_where_there_is_none() {
        let layout = |plumbing, index| pod_layout(plumbing, place(0, DeviceIndex(index)), 0x3000);
        let flat = |group| PodLayout::Flat { table: ids::POD_TABLE, group };
        assert_eq!(layout(Plumbing::OwnRules, 1), PodLayout::Classic);
        assert_eq!(layout(Plumbing::NodeRules, 1), flat(0));
        assert_eq!(layout(Plumbing::EniMark, 3), flat(158_003));
        assert_eq!(layout(Plumbing::EniMark, 4), PodLayout::Classic, "the mask holds three ENIs");
        assert_eq!(layout(Plumbing::EniMark, 100), PodLayout::Classic, "no instance has that");
        let on_card_1 = |plumbing| pod_layout(plumbing, place(1, DeviceIndex(1)), u32::MAX);
        assert_eq!(on_card_1(Plumbing::EniMark), PodLayout::Classic, "marks are card 0's");
        assert_eq!(on_card_1(Plumbing::NodeRules), flat(0), "a prefix has its rule on every card");
    }

    fn eni_plan(network_card: u32, device_index: u32) -> EniPlan {
        let device_index = DeviceIndex(device_index);
        EniPlan {
            eni_id: "eni-2".into(),
            mac: core_ids::MacAddr([2, 0, 0, 0, 0, 2]),
            device_index,
            network_card,
            primary_address: std::net::Ipv4Addr::new(10, 0, 1, 20),
            subnet_cidr: "10.0.1.0/24".parse().unwrap(),
            prefixes: vec!["10.0.1.32/28".parse().unwrap()],
        }
    }

    #[test]
    fn the_core_s_route_tables_are_the_datapath_s_on_every_card() {
        for (card, device) in (0..40).flat_map(|card| (0..100).map(move |device| (card, device))) {
            let setup = eni_setup(&eni_plan(card, device), &Config::default()).unwrap();
            let of_core = core_ids::RouteTable::of_eni(card, DeviceIndex(device));
            assert_eq!(setup.table().0, of_core.0, "{card} {device}");
        }
    }

    #[test]
    fn an_eni_of_another_card_is_passed_on_with_its_card_and_without_a_mark() {
        let config = Config { layout: config::Layout::Flat, ..Config::default() };
        let setup = eni_setup(&eni_plan(1, 0), &config).unwrap();
        assert_eq!((setup.is_primary(), setup.table()), (false, RouteTable(10_100)));
        let steering = setup.steering.unwrap();
        assert_eq!((steering.mark, steering.prefixes.len()), (None, 1));
        assert!(eni_setup(&eni_plan(0, 1), &config).unwrap().steering.unwrap().mark.is_some());
    }

    #[test]
    fn an_eni_at_a_place_that_no_instance_has_is_an_error_that_names_both() {
        let error = chain(&eni_setup(&eni_plan(1, 100), &Config::default()).unwrap_err());
        assert!(error.contains("eni-2") && error.contains("device index 100 of network card 1"), "{error}");
    }

    #[test]
    fn the_datapath_s_mask_is_the_configuration_s() {
        assert_eq!(Config::default().eni_mark_mask, ids::DEFAULT_ENI_MARK_MASK);
        assert_eq!(Config::default().snat.connmark, ids::DEFAULT_CONNMARK.mask);
    }

    #[test]
    fn the_hosts_plan_is_the_configuration_in_the_datapaths_words() {
        let mut config = Config::default();
        config.snat.blocks.exclude = vec!["192.168.0.0/16".parse().unwrap()];
        config.snat.connmark = 0x100;
        let plan = HostPlan {
            primary_mac: core_ids::MacAddr([2, 0, 0, 0, 0, 1]),
            primary_address: std::net::Ipv4Addr::new(10, 0, 0, 10),
            vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
            blocks: config.snat.blocks.clone(),
            notrack: true,
        };
        let setup = host_setup(&config, &plan);
        assert_eq!(setup.primary_mac, MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!((setup.connmark, setup.mtu), (Mark { value: 0x100, mask: 0x100 }, 9001));
        assert_eq!((setup.vpc_cidrs, setup.external_snat, setup.notrack), (plan.vpc_cidrs, false, true));
    }
}
