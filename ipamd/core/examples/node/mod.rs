// SPDX-License-Identifier: Apache-2.0
//! A node for measuring programs: built by events, as the daemon builds one, on an m5.24xlarge of so many ENIs, each with 49
//! addresses for pods beside its own. EC2 and the kernel are answers made up at once, and time is a number.
//!
//! No address is too many and none is wanted: until a pod finds nothing free, EC2 is not asked.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipamd_core::action::{ActionKind, Effects, Reply};
use ipamd_core::config::WarmTargets;
use ipamd_core::event::{AttachmentView, EniView, InstanceFacts, KernelView, Outcome};
use ipamd_core::ids::{AllocationKey, DeviceIndex, MacAddr, PodRef, RequestId};
use ipamd_core::{BootTime, Config, Core, Event, Now, Restored};

/// Addresses of an ENI that pods can have.
pub(crate) const PER_ENI: u8 = 49;

/// A node whose clock stands still unless it is moved.
pub(crate) struct Node {
    pub(crate) core: Core,
    /// Since boot.
    pub(crate) now: Duration,
    enis: u8,
    next: u64,
}

impl Node {
    /// A node with so many ENIs, 15 at most, and no pod.
    pub(crate) fn with_enis(enis: u8) -> Self {
        let config = Config {
            warm: WarmTargets::Addresses { warm: 0, minimum: u32::from(enis) * u32::from(PER_ENI) },
            cooldown: Duration::from_secs(1),
            ..Config::default()
        };
        let now = Duration::from_secs(100);
        let restored = Restored::read(None, None, KernelView::default(), "boot-1");
        let (core, effects) = Core::new(config, restored, Now { boot: BootTime(now), unix_nanos: 0 });
        let mut node = Self { core, now, enis, next: 0 };
        node.answer(effects);
        node.feed(Event::FactsLearned(facts()));
        let pool = node.core.snapshot(node.now()).pool;
        assert_eq!((pool.total, pool.enis), (u32::from(enis) * u32::from(PER_ENI), u32::from(enis)));
        node
    }

    pub(crate) fn now(&self) -> Now {
        let nanos = i64::try_from(self.now.as_nanos()).unwrap();
        Now { boot: BootTime(self.now), unix_nanos: 1_767_225_600_000_000_000 + nanos }
    }

    /// Feeds an event: the time of that step alone, and what follows of it.
    pub(crate) fn step(&mut self, event: Event) -> (Duration, Effects) {
        let now = self.now();
        let started = Instant::now();
        let effects = self.core.handle(event, now);
        (started.elapsed(), effects)
    }

    /// The same, and answers what follows; its first reply.
    pub(crate) fn feed(&mut self, event: Event) -> (Duration, Option<Reply>) {
        let (took, effects) = self.step(event);
        let reply = effects.replies.first().cloned();
        self.answer(effects);
        (took, reply)
    }

    fn answer(&mut self, effects: Effects) {
        for action in effects.actions {
            let outcome = match &action.kind {
                ActionKind::ConfigureEni(_) => Outcome::EniConfigured,
                ActionKind::DescribeEnis { .. } => {
                    Outcome::EnisDescribed { enis: (0..self.enis).map(eni).collect(), read_at: BootTime(self.now) }
                }
                ActionKind::DescribeSubnets(_) => Outcome::SubnetsDescribed(Vec::new()),
                ActionKind::Repair(_) => Outcome::Repaired(Box::default()),
                ActionKind::ObserveKernel => Outcome::KernelObserved(KernelView::default()),
                _ => Outcome::Done,
            };
            let effects = self.core.handle(Event::ActionEnded { id: action.id, outcome }, self.now());
            self.answer(effects);
        }
    }

    /// The next pod's ADD, not fed yet, and its number.
    pub(crate) fn next_add(&mut self) -> (Event, u64) {
        self.next += 1;
        let number = self.next;
        let deadline = BootTime(self.now + Duration::from_secs(20));
        let pod = PodRef { namespace: "default".into(), name: format!("pod-{number}") };
        (Event::AddRequested { request: RequestId(number), key: key(number), pod, deadline }, number)
    }

    /// A pod is given an address: how long that took, and the pod's number.
    pub(crate) fn add(&mut self) -> (Duration, u64) {
        let (event, number) = self.next_add();
        let (took, reply) = self.feed(event);
        assert!(matches!(reply, Some(Reply::Add { result: Ok(_), .. })), "no address: {reply:?}");
        (took, number)
    }

    /// So many pods more.
    pub(crate) fn add_all(&mut self, pods: u32) {
        for _ in 0..pods {
            self.add();
        }
    }
}

/// The sandbox of a pod.
pub(crate) fn key(number: u64) -> AllocationKey {
    AllocationKey { network: "aws-cni".into(), container_id: format!("{number:064x}"), ifname: "eth0".into() }
}

fn address(eni: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, eni, host)
}

fn eni(index: u8) -> EniView {
    EniView {
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
    }
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

/// The value that `share` hundredths of the times do not exceed, in microseconds.
pub(crate) fn micros(times: &mut [Duration], share: usize) -> f64 {
    times.sort_unstable();
    let rank = (times.len() * share).div_ceil(100).saturating_sub(1);
    times.get(rank).map_or(0.0, |took| took.as_secs_f64() * 1e6)
}
