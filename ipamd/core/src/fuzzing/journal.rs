// SPDX-License-Identifier: Apache-2.0
//! A start from any two files and any kernel, and the first minutes after it.
//!
//! | holds | because |
//! |---|---|
//! | no panic, whatever the files say | a node without a daemon gives no pod an address |
//! | no two sandboxes have one address, no sandbox two | the reason for the journal |
//! | what `ipam.json` of this boot binds stays bound; what the kernel has is never free | a pod lives there |
//! | what is written can be read again and says the same; nothing in use becomes free on the way | the next start |
//! | an ADD never gets an address that somebody has or had a moment ago | |
//! | one more look changes nothing, deadlines lie ahead, the books are right | invariants of the core's own tests |

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::parts;
use crate::action::{Action, ActionKind, Effects, Reply};
use crate::checkpoint::{OwnJournal, parse_own, parse_reference};
use crate::config::{AddressMode, Config, Layout, WarmTargets};
use crate::core::Core;
use crate::event::{
    AttachmentView, EniView, Event, Failure, FailureClass, HeldAddress, InstanceFacts, KernelView, Outcome,
};
use crate::ids::{AllocationKey, BootTime, DeviceIndex, InstanceId, MacAddr, Now, PodRef, RequestId};
use crate::restore::Restored;
use crate::snapshot::Snapshot;

const BOOT: &str = "boot-1";
const INSTANCE: &str = "i-1";

/// Both files, what the kernel has and how the node is set up, and what happens then.
pub fn journal(data: &[u8]) {
    let [reference, own, more] = parts::<3>(data);
    let more = String::from_utf8_lossy(more);
    let node = Node::new(&more, own);
    let files = (Some(reference).filter(|file| !file.is_empty()), Some(own).filter(|file| !file.is_empty()));
    let restored = Restored::read(files.0, files.1, node.kernel.clone(), BOOT);
    let (mut core, effects) = Core::new(node.config.clone(), restored, node.now);
    let shown = core.snapshot(node.now);
    node.check_bound(&shown, files);
    node.check_written(&core, &shown);
    check_kept_up(&mut core);
    let resting = resting(&shown, node.now.boot);
    let mut life = Life { node, core, resting, next: 1 };
    life.take(effects);
    life.live(&more);
}

/// The outside of the daemon, as far as a start needs one.
struct Node {
    config: Config,
    kernel: KernelView,
    now: Now,
    /// ENIs of the journal, which EC2 shows as they are written there.
    enis: Vec<EniView>,
}

impl Node {
    fn new(more: &str, own: &[u8]) -> Self {
        let mut node = Self {
            config: Config::default(),
            kernel: KernelView::default(),
            now: Now { boot: BootTime(Duration::from_secs(1_000)), unix_nanos: 1_756_684_800_000_000_000 },
            enis: vec![primary()],
        };
        for line in more.lines().take(64) {
            node.line(&line.split(' ').collect::<Vec<_>>());
        }
        node.enis.extend(parse_own(own).ok().iter().flat_map(enis).take(8));
        node
    }

    fn line(&mut self, words: &[&str]) {
        match words {
            ["held", address, key @ ..] => {
                let Ok(address) = address.parse() else { return };
                let key = key.first().and_then(|key| {
                    let mut parts = key.splitn(3, '/').map(str::to_owned);
                    Some(AllocationKey { network: parts.next()?, container_id: parts.next()?, ifname: parts.next()? })
                });
                self.kernel.held.push(HeldAddress { address, key, link: "enix".to_owned() });
            }
            ["veth", name] => self.kernel.host_veths.push((*name).to_owned()),
            ["mac", mac] => self.kernel.link_macs.extend(mac.parse::<MacAddr>().ok()),
            ["prefixes"] => self.config.address_mode = AddressMode::Prefixes { warm_prefixes: Some(1) },
            ["classic"] => self.config.layout = Layout::Classic,
            ["warm", count] => {
                let warm = count.parse().unwrap_or(2).min(50);
                self.config.warm = WarmTargets::Addresses { warm, minimum: 0 };
            }
            _ => {}
        }
    }

    /// Every allocation that a witness of this boot has.
    fn check_bound(&self, shown: &Snapshot, (reference, own): (Option<&[u8]>, Option<&[u8]>)) {
        let by_address: BTreeMap<_, _> = shown.pods.iter().map(|pod| (pod.address, pod.key.clone())).collect();
        let keys: BTreeSet<_> = shown.pods.iter().map(|pod| &pod.key).collect();
        assert_eq!((by_address.len(), keys.len()), (shown.pods.len(), shown.pods.len()), "{:?}", shown.pods);
        for held in &self.kernel.held {
            let state = shown.addresses.iter().find(|entry| entry.address == held.address).map(|entry| &entry.state);
            assert!(state.is_some_and(|state| state != "free" && state != "flushing"), "{held:?} is {state:?}");
        }
        let of_this_boot = own.is_some_and(|own| parse_own(own).is_ok_and(|own| own.boot_id == BOOT));
        let Some(Ok(reference)) = reference.map(parse_reference).filter(|_| of_this_boot) else { return };
        let (mut addresses, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for entry in reference.allocations {
            let Some(address) = entry.ipv4 else { continue };
            if addresses.contains(&address) || seen.contains(&entry.key()) {
                continue;
            }
            assert_eq!(by_address.get(&address), Some(&entry.key().to_string()), "{address} is lost");
            addresses.insert(address);
            seen.insert(entry.key());
        }
    }

    /// What the next start would find.
    fn check_written(&self, core: &Core, shown: &Snapshot) {
        let written = core.checkpoint();
        let own = parse_own(&written.own_json).expect("we read what we write");
        parse_reference(&written.reference_json).expect("we read what we write");
        let (reference_json, own_json) = (Some(&*written.reference_json), Some(&*written.own_json));
        let restored = Restored::read(reference_json, own_json, self.kernel.clone(), BOOT);
        let (again, _) = Core::new(self.config.clone(), restored, self.now);
        let found = again.snapshot(self.now);
        let bound = |shown: &Snapshot| shown.pods.iter().map(|pod| (pod.address, pod.key.clone())).collect::<Vec<_>>();
        assert_eq!(bound(&found), bound(shown), "a restart changes who has what");
        for entry in shown.addresses.iter().filter(|entry| entry.state != "free") {
            let then = found.addresses.iter().find(|other| other.address == entry.address).map(|other| &other.state);
            assert!(then.is_some_and(|state| state != "free"), "{entry:?} is {then:?} after a restart");
        }
        assert_eq!(parse_own(&again.checkpoint().own_json).expect("ours").enis, own.enis, "a restart changes ENIs");
    }

    fn facts() -> InstanceFacts {
        InstanceFacts {
            instance_id: INSTANCE.into(),
            instance_type: "m5.large".into(),
            availability_zone: "us-east-1a".into(),
            region: "us-east-1".into(),
            vpc_id: "vpc-1".into(),
            vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
            primary_eni_id: "eni-0".into(),
            primary_mac: MacAddr([2, 0, 0, 0, 0, 0]),
            primary_address: [10, 0, 0, 4].into(),
            subnet_id: "subnet-1".into(),
            subnet_cidr: "10.0.0.0/20".parse().unwrap(),
            security_group_ids: vec!["sg-1".into()],
        }
    }

    /// What EC2, the kernel and the runtime answer.
    fn answer(&self, kind: &ActionKind) -> Outcome {
        let failed = |class| {
            let code = format!("{class:?}");
            Outcome::Failed(Failure { class, message: code.clone(), code, retry_after: None })
        };
        match kind {
            ActionKind::DescribeEnis { .. } => {
                Outcome::EnisDescribed { enis: self.enis.clone(), read_at: self.now.boot }
            }
            ActionKind::ConfigureEni(_) => Outcome::EniConfigured,
            ActionKind::ObserveKernel => Outcome::KernelObserved(self.kernel.clone()),
            ActionKind::ListSandboxes => Outcome::SandboxesListed { ready: BTreeSet::new() },
            ActionKind::Repair(_) => Outcome::Repaired(Box::default()),
            ActionKind::ConfigureHost(_) | ActionKind::FlushAddresses { .. } | ActionKind::DeconfigureEni(_) => {
                Outcome::Done
            }
            ActionKind::DescribeSubnets(_) => Outcome::SubnetsDescribed(Vec::new()),
            ActionKind::DescribeLeakedEnis { .. } => {
                Outcome::LeakedEnisDescribed { enis: Vec::new(), living: BTreeSet::new() }
            }
            ActionKind::CreateEni { .. } => failed(FailureClass::SubnetExhausted),
            ActionKind::Assign { .. } => failed(FailureClass::Unknown),
            _ => failed(FailureClass::Transient),
        }
    }
}

/// The node's primary ENI, as EC2 shows it.
fn primary() -> EniView {
    let facts = Node::facts();
    EniView {
        eni_id: facts.primary_eni_id,
        mac: facts.primary_mac,
        vpc_id: Some(facts.vpc_id),
        subnet_id: facts.subnet_id,
        primary_address: facts.primary_address,
        secondary_addresses: vec![[10, 0, 0, 20].into(), [10, 0, 0, 21].into()],
        prefixes: Vec::new(),
        security_group_ids: facts.security_group_ids,
        attachment: Some(attached("eni-attach-0", DeviceIndex(0), 0)),
        status: "in-use".to_owned(),
        interface_type: "interface".to_owned(),
        foreign: false,
        description: String::new(),
        tags: Vec::new(),
    }
}

fn attached(id: &str, device_index: DeviceIndex, network_card: u32) -> AttachmentView {
    AttachmentView {
        attachment_id: id.into(),
        device_index,
        network_card,
        instance_id: Some(InstanceId::from(INSTANCE)),
        status: "attached".to_owned(),
        delete_on_termination: true,
    }
}

/// The journal's ENIs, as EC2 shows them.
fn enis(own: &OwnJournal) -> Vec<EniView> {
    let view = |record: &crate::checkpoint::EniRecord| EniView {
        eni_id: record.eni_id.clone(),
        mac: record.mac,
        subnet_id: record.subnet_id.clone(),
        primary_address: record.primary_address,
        secondary_addresses: record.addresses.iter().map(|entry| entry.address).collect(),
        prefixes: record.prefixes.iter().map(|entry| entry.prefix).collect(),
        attachment: Some(attached("eni-attach-1", record.device_index, record.network_card)),
        ..primary()
    };
    own.enis.iter().filter(|record| record.eni_id.as_str() != "eni-0").map(view).collect()
}

/// Until when what cools may not be given.
fn resting(shown: &Snapshot, now: BootTime) -> BTreeMap<Ipv4Addr, BootTime> {
    let until = |left: u64| now + Duration::from_millis(left);
    shown.addresses.iter().filter_map(|entry| Some((entry.address, until(entry.cooling_for_ms?)))).collect()
}

/// The texts that are kept up, which are what is written, say what those say that are rendered whole.
fn check_kept_up(core: &mut Core) {
    let whole = core.checkpoint();
    let drafts = core.journal();
    assert_eq!(parse_own(drafts.own.text), parse_own(&whole.own_json));
    let mut kept = parse_reference(drafts.reference.text).expect("we read what we write");
    kept.allocations.sort_by_key(|allocation| allocation.ipv4);
    assert_eq!(Ok(kept), parse_reference(&whole.reference_json));
}

/// The daemon from its start on.
struct Life {
    node: Node,
    core: Core,
    /// Until when addresses may not be given.
    resting: BTreeMap<Ipv4Addr, BootTime>,
    next: u64,
}

impl Life {
    /// The lines of the input that tell what happens; then a DEL of each pod, and time.
    fn live(&mut self, more: &str) {
        let facts = Event::FactsLearned(Node::facts());
        self.feed(facts);
        for line in more.lines().take(24) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["add", container] => self.add(container),
                ["del", container] => self.del(key(container)),
                ["wait", milliseconds] => self.wait(milliseconds.parse().unwrap_or(0).min(600_000)),
                _ => {}
            }
        }
        self.wait(1_000);
        let pods = self.core.snapshot(self.node.now).pods;
        for pod in pods.iter().take(4) {
            let mut parts = pod.key.splitn(3, '/').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            self.del(AllocationKey { network: part(), container_id: part(), ifname: part() });
        }
        for milliseconds in [1_000, 30_000, 60_000, 600_000] {
            self.wait(milliseconds);
        }
    }

    fn add(&mut self, container: &str) {
        let deadline = self.node.now.boot + Duration::from_secs(1);
        let pod = PodRef { namespace: "default".to_owned(), name: container.to_owned() };
        self.next += 1;
        self.feed(Event::AddRequested { request: RequestId(self.next), key: key(container), pod, deadline });
    }

    fn del(&mut self, key: AllocationKey) {
        self.next += 1;
        self.feed(Event::DelRequested { request: RequestId(self.next), key });
    }

    fn wait(&mut self, milliseconds: u64) {
        let step = Duration::from_millis(milliseconds);
        self.node.now.boot = self.node.now.boot + step;
        self.node.now.unix_nanos += i64::try_from(step.as_nanos()).unwrap_or(0);
        self.feed(Event::Tick);
    }

    fn feed(&mut self, event: Event) {
        let effects = self.handle(event);
        self.take(effects);
    }

    /// The core's turn, and what would be written now.
    fn handle(&mut self, event: Event) -> Effects {
        let effects = self.core.handle(event, self.node.now);
        if effects.persist {
            check_kept_up(&mut self.core);
        }
        effects
    }

    /// Works effects off as the driver does, and what comes of them, a bounded number of times.
    fn take(&mut self, effects: Effects) {
        let mut pending = std::collections::VecDeque::from([effects]);
        for _ in 0..24 {
            let Some(effects) = pending.pop_front() else { break };
            effects.replies.iter().for_each(|reply| self.reply(reply));
            self.check();
            for Action { id, kind, .. } in effects.actions {
                if matches!(kind, ActionKind::ForgetTombstone { .. }) {
                    continue;
                }
                let event = Event::ActionEnded { id, outcome: self.node.answer(&kind) };
                pending.push_back(self.handle(event));
            }
        }
        for effects in pending {
            effects.replies.iter().for_each(|reply| self.reply(reply));
        }
    }

    fn reply(&mut self, reply: &Reply) {
        let given = match reply {
            Reply::Add { result: Ok(given), .. } => given,
            Reply::Del { released: Some(released), .. } => {
                self.resting.insert(released.address, self.node.now.boot + self.node.config.cooldown);
                return;
            }
            _ => return,
        };
        let rests = self.resting.get(&given.address).is_some_and(|until| *until > self.node.now.boot);
        assert!(!rests, "{} was given before its rest was over", given.address);
        let held = self.node.kernel.held.iter().any(|held| held.address == given.address && held.key.is_none());
        assert!(!held, "{} is in the kernel under nobody's name", given.address);
        let owners = self.core.snapshot(self.node.now).pods.into_iter().filter(|pod| pod.address == given.address);
        assert_eq!(owners.count(), 1, "{} was given and is not bound", given.address);
    }

    fn check(&mut self) {
        self.core.store.audit();
        if let Some(wake) = self.core.next_deadline() {
            assert!(wake > self.node.now.boot, "a deadline that has come already");
        }
        let again = self.core.handle(Event::Tick, self.node.now);
        assert!(again.actions.is_empty() && again.replies.is_empty() && !again.persist, "not a fixed point: {again:?}");
        let shown = self.core.snapshot(self.node.now);
        let keys: BTreeSet<_> = shown.pods.iter().map(|pod| &pod.key).collect();
        let addresses: BTreeSet<_> = shown.pods.iter().map(|pod| pod.address).collect();
        assert_eq!((keys.len(), addresses.len()), (shown.pods.len(), shown.pods.len()), "{:?}", shown.pods);
    }
}

fn key(container: &str) -> AllocationKey {
    AllocationKey { network: "aws-cni".into(), container_id: container.into(), ifname: "eth0".into() }
}
