// SPDX-License-Identifier: Apache-2.0
//! What one decision costs on a node as large as they get: an m5.24xlarge, 15 ENIs of 50 addresses, 750 in all, of which
//! 735 are for pods.
//!
//! Builds the node by events, as the daemon does, with 600 pods; then times the core alone: an ADD, a DEL, a tick with nothing
//! to do, and the journal of the state. Prints medians and the 99th percentile. `make decision` runs it, optimised.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time and prints")]
#![expect(clippy::unwrap_used, reason = "constants of this program")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipamd_core::action::{ActionKind, Effects, Reply};
use ipamd_core::config::WarmTargets;
use ipamd_core::event::{AttachmentView, EniView, InstanceFacts, KernelView, Outcome};
use ipamd_core::ids::{AllocationKey, DeviceIndex, MacAddr, PodRef, RequestId};
use ipamd_core::{BootTime, Config, Core, Event, Now, Restored};

const ENIS: u8 = 15;
const PER_ENI: u8 = 49;
const PODS: u64 = 600;
const ROUNDS: u64 = 5_000;

struct Node {
    core: Core,
    now: Duration,
    next: u64,
}

impl Node {
    fn now(&self) -> Now {
        let nanos = i64::try_from(self.now.as_nanos()).unwrap();
        Now { boot: BootTime(self.now), unix_nanos: 1_767_225_600_000_000_000 + nanos }
    }

    /// Feeds an event and answers what follows; the time of the first step alone, and its reply.
    fn feed(&mut self, event: Event) -> (Duration, Option<Reply>) {
        let started = Instant::now();
        let effects = self.core.handle(event, self.now());
        let took = started.elapsed();
        let reply = effects.replies.first().cloned();
        self.answer(effects);
        (took, reply)
    }

    fn answer(&mut self, effects: Effects) {
        for action in effects.actions {
            let outcome = match &action.kind {
                ActionKind::ConfigureEni(_) => Outcome::EniConfigured,
                ActionKind::DescribeEnis { .. } => Outcome::EnisDescribed { enis: enis(), read_at: BootTime(self.now) },
                ActionKind::DescribeSubnets(_) => Outcome::SubnetsDescribed(Vec::new()),
                ActionKind::Repair(_) => Outcome::Repaired(Box::default()),
                ActionKind::ObserveKernel => Outcome::KernelObserved(KernelView::default()),
                _ => Outcome::Done,
            };
            let effects = self.core.handle(Event::ActionEnded { id: action.id, outcome }, self.now());
            self.answer(effects);
        }
    }

    fn add(&mut self) -> (Duration, u64) {
        self.next += 1;
        let number = self.next;
        let deadline = BootTime(self.now + Duration::from_secs(20));
        let pod = PodRef { namespace: "default".into(), name: format!("pod-{number}") };
        let event = Event::AddRequested { request: RequestId(number), key: key(number), pod, deadline };
        let (took, reply) = self.feed(event);
        assert!(matches!(reply, Some(Reply::Add { result: Ok(_), .. })), "no address: {reply:?}");
        (took, number)
    }

    fn del(&mut self, number: u64) -> Duration {
        self.feed(Event::DelRequested { request: RequestId(u64::MAX - number), key: key(number) }).0
    }
}

fn key(number: u64) -> AllocationKey {
    AllocationKey { network: "aws-cni".into(), container_id: format!("{number:064x}"), ifname: "eth0".into() }
}

fn address(eni: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, eni, host)
}

fn enis() -> Vec<EniView> {
    let eni = |index: u8| EniView {
        eni_id: format!("eni-{index}").as_str().into(),
        mac: MacAddr([2, 0, 0, 0, 0, index]),
        vpc_id: None,
        subnet_id: "subnet-1".into(),
        primary_address: address(index, 10),
        secondary_addresses: (0..PER_ENI).map(|host| address(index, 11 + host)).collect(),
        prefixes: Vec::new(),
        security_group_ids: Vec::new(),
        attachment: Some(AttachmentView {
            attachment_id: format!("eni-attach-{index}").as_str().into(),
            device_index: DeviceIndex(index.into()),
            network_card: 0,
            instance_id: Some("i-1".into()),
            status: "attached".into(),
            delete_on_termination: true,
        }),
        status: "in-use".into(),
        interface_type: "interface".into(),
        foreign: false,
        description: "aws-K8S-i-1".into(),
        tags: vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())],
    };
    (0..ENIS).map(eni).collect()
}

fn facts() -> InstanceFacts {
    InstanceFacts {
        instance_id: "i-1".into(),
        instance_type: "m5.24xlarge".into(),
        availability_zone: "us-east-1a".into(),
        region: "us-east-1".into(),
        vpc_id: "vpc-1".into(),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        primary_eni_id: "eni-0".into(),
        primary_mac: MacAddr([2, 0, 0, 0, 0, 0]),
        primary_address: address(0, 10),
        subnet_id: "subnet-1".into(),
        subnet_cidr: "10.0.0.0/16".parse().unwrap(),
        security_group_ids: vec!["sg-1".into()],
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let micros = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
    println!("| {what} | {:.1} us | {:.1} us |", micros(50), micros(99));
}

fn main() {
    // Every address is wanted, so that none is given back meanwhile.
    let config = Config {
        warm: WarmTargets::Addresses { warm: 1, minimum: u32::from(ENIS) * u32::from(PER_ENI) },
        cooldown: Duration::from_secs(1),
        ..Config::default()
    };
    let now = Duration::from_secs(100);
    let restored = Restored::read(None, None, KernelView::default(), "boot-1");
    let (core, effects) = Core::new(config, restored, Now { boot: BootTime(now), unix_nanos: 0 });
    let mut node = Node { core, now, next: 0 };
    node.answer(effects);
    node.feed(Event::FactsLearned(facts()));
    let mut pods: std::collections::VecDeque<u64> = (0..PODS).map(|_| node.add().1).collect();
    let snapshot = node.core.snapshot(node.now());
    assert_eq!((snapshot.pool.total, snapshot.pool.enis), (u32::from(ENIS) * u32::from(PER_ENI), u32::from(ENIS)));

    let (mut adds, mut dels, mut ticks, mut journals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Slow enough that addresses come back from their cooldown, quick enough that no read is due.
        node.now += Duration::from_millis(10);
        let (took, number) = node.add();
        pods.push_back(number);
        adds.push(took);
        dels.push(node.del(pods.pop_front().unwrap()));
        ticks.push(node.feed(Event::Tick).0);
        let started = Instant::now();
        let journal = node.core.checkpoint();
        journals.push(started.elapsed());
        assert!(!journal.own_json.is_empty());
    }
    println!("| decision with {} addresses, {PODS} in use | p50 | p99 |\n|---|---|---|", u32::from(ENIS) * 50);
    print("ADD: an address is chosen, the pool looked at", &mut adds);
    print("DEL: it rests, the pool looked at", &mut dels);
    print("tick: nothing to do", &mut ticks);
    print("the journal of it all, both files", &mut journals);
}
