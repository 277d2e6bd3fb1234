// SPDX-License-Identifier: Apache-2.0
//! Arbitrary lives of a node. The invariants are checked by `world` at every step; here, life is made hard: calls fail
//! before or after their effect, answers come twice, reads lag, the disk fills up, pods vanish, others attach ENIs, the
//! daemon is killed at any moment. In the end, left in peace, the pool reaches its target and nothing is left over.

use std::time::Duration;

use proptest::prelude::*;

use super::pod_network::{gone, policy};
use super::world::{Fault, World, key, warm_addresses, warm_enis};
use crate::config::{AddressMode, Config, Layout, LiveSettings, SubnetChoice};
use crate::event::{Event, FailureClass};
use crate::ids::RequestId;
use crate::pod_network::PodNetwork;

/// Something that happens to a node.
#[derive(Clone, Debug)]
enum Blow {
    Add {
        pod: u8,
        budget_ms: u64,
    },
    Del {
        pod: u8,
    },
    Tombstone {
        pod: u8,
    },
    /// The sandbox dies without a DEL.
    Vanish {
        pod: u8,
    },
    /// A GC that takes some of the living down.
    Gc {
        forgotten: u64,
    },
    Abandon,
    Run {
        ms: u64,
    },
    Kill {
        happens: u64,
    },
    Fault {
        kind: &'static str,
        fault: Fault,
    },
    Disk {
        full: bool,
    },
    Links {
        delay_ms: u64,
    },
    /// The subnet has only so many addresses left for now.
    Subnet {
        left: usize,
    },
    /// Someone takes one address of every /28, or gives them back.
    Fragment {
        whole: bool,
    },
    /// The daemon is started again in the other mode.
    SwitchMode,
    /// Settings change while it runs.
    Change {
        live: LiveSettings,
    },
    /// Someone attaches an ENI.
    Stranger,
    /// The next EC2 reads show what was true now.
    Lag,
    /// With custom networking: the ENIConfig is another one, or gone.
    EniConfig {
        which: u8,
    },
}

fn faults() -> impl Strategy<Value = Blow> {
    let ec2 = proptest::sample::select(vec![
        "create",
        "attach",
        "termination",
        "assign",
        "unassign",
        "detach",
        "delete",
        "describe",
        "subnet",
    ]);
    let remote = proptest::sample::select(vec![
        Fault::Before(FailureClass::Throttled),
        Fault::Before(FailureClass::Transient),
        Fault::Before(FailureClass::Denied),
        Fault::Before(FailureClass::Unknown),
        Fault::After,
        Fault::Twice,
    ]);
    let kernel = proptest::sample::select(vec!["configure", "deconfigure", "host", "observe", "flush"]);
    let local = proptest::sample::select(vec![Fault::Before(FailureClass::Kernel), Fault::After, Fault::Twice]);
    prop_oneof![
        3 => (ec2, remote).prop_map(|(kind, fault)| Blow::Fault { kind, fault }),
        1 => (kernel, local).prop_map(|(kind, fault)| Blow::Fault { kind, fault }),
    ]
}

fn blows() -> impl Strategy<Value = Blow> {
    prop_oneof![
        12 => (0_u8..40, 0_u64..25_000).prop_map(|(pod, budget_ms)| Blow::Add { pod, budget_ms }),
        8 => (0_u8..40).prop_map(|pod| Blow::Del { pod }),
        1 => (0_u8..40).prop_map(|pod| Blow::Tombstone { pod }),
        1 => (0_u8..40).prop_map(|pod| Blow::Vanish { pod }),
        1 => any::<u64>().prop_map(|forgotten| Blow::Gc { forgotten }),
        1 => Just(Blow::Abandon),
        8 => prop_oneof![0_u64..400, 400_u64..5_000, 5_000_u64..100_000].prop_map(|ms| Blow::Run { ms }),
        2 => any::<u64>().prop_map(|happens| Blow::Kill { happens }),
        6 => faults(),
        1 => any::<bool>().prop_map(|full| Blow::Disk { full }),
        1 => (0_u64..30_000).prop_map(|delay_ms| Blow::Links { delay_ms }),
        1 => (0_usize..20).prop_map(|left| Blow::Subnet { left }),
        1 => any::<bool>().prop_map(|whole| Blow::Fragment { whole }),
        1 => Just(Blow::SwitchMode),
        2 => changes().prop_map(|live| Blow::Change { live }),
        1 => Just(Blow::Stranger),
        1 => Just(Blow::Lag),
        1 => (0_u8..6).prop_map(|which| Blow::EniConfig { which }),
    ]
}

fn configs() -> impl Strategy<Value = Config> {
    let warm = prop_oneof![
        Just(Config::default()),
        (0_u32..3).prop_map(warm_enis),
        (0_u32..6, 0_u32..12).prop_map(|(warm, minimum)| warm_addresses(warm, minimum)),
    ];
    let max_enis = proptest::option::of(1_u32..4);
    let mode = prop_oneof![
        Just(AddressMode::SecondaryIps),
        proptest::option::of(0_u32..3).prop_map(|warm_prefixes| AddressMode::Prefixes { warm_prefixes }),
    ];
    let layout = prop_oneof![Just(Layout::Classic), Just(Layout::Flat)];
    let subnets = prop_oneof![3 => Just(SubnetChoice::Tagged), 1 => Just(SubnetChoice::EniConfig)];
    (warm, 0_u64..40, max_enis, mode, (layout, subnets)).prop_map(
        |(config, cooldown, max_enis, address_mode, places)| Config {
            cooldown: Duration::from_secs(cooldown),
            max_enis,
            address_mode,
            layout: places.0,
            subnets: places.1,
            ..config
        },
    )
}

/// What the API server may say of the ENIConfig. (Without custom networking it means nothing.)
fn word(which: u8) -> PodNetwork {
    match which {
        0 => gone("not there"),
        1 => policy(&[("subnet-2", 0, 1)]),
        2 => policy(&[("subnet-3", 0, 1), ("subnet-2", 1, 1)]),
        3 => policy(&[("subnet-4", 0, 1), ("subnet-nowhere", 0, 5), ("subnet-3", 1, 2)]),
        4 => policy(&[("subnet-nowhere", 0, 1)]),
        _ => policy(&[("subnet-2", 0, 3), ("subnet-4", 0, 2), ("subnet-3", 0, 1)]),
    }
}

/// A node in a zone with subnets for pods besides its own.
fn node(config: Config) -> World {
    let mut world = World::unborn("m5.large", config);
    if world.config.subnets == SubnetChoice::EniConfig {
        for (third, free) in [(2, 200), (3, 60), (4, 12)] {
            world.add_subnet(&format!("subnet-{third}"), 200 + third, free, &[]);
        }
        world.say(word(5));
    }
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world
}

/// Any values of all that may change while the daemon runs.
fn changes() -> impl Strategy<Value = LiveSettings> {
    let most = proptest::option::of(1_u32..40);
    let age = proptest::option::of(5_u64..400);
    (configs(), most, any::<[bool; 3]>(), age).prop_map(|(config, max_pods, [cordoned, tagged, with_tag], age)| {
        LiveSettings {
            max_pods,
            provisions_when_cordoned: cordoned,
            subnets: if tagged { SubnetChoice::Tagged } else { SubnetChoice::Primary },
            additional_eni_tags: with_tag.then(|| ("team".to_owned(), "a".to_owned())).into_iter().collect(),
            leaked_eni_age: age.map(Duration::from_secs),
            ..config.live()
        }
    })
}

fn name(pod: u8) -> String {
    format!("pod-{pod}")
}

fn strike(world: &mut World, blow: &Blow, strangers: &mut u32) {
    match blow {
        Blow::Add { pod, budget_ms } => {
            world.add_with(&name(*pod), Duration::from_millis(*budget_ms));
        }
        Blow::Del { pod } => world.del(&name(*pod)),
        Blow::Tombstone { pod } => world.tombstone(&name(*pod)),
        Blow::Vanish { pod } => world.vanish(&name(*pod)),
        Blow::Gc { forgotten } => {
            world.gc(|place| forgotten >> (place % 64) & 3 == 3, Duration::from_secs(60));
        }
        Blow::Abandon => {
            let open: Option<RequestId> = world.deadlines.keys().next_back().copied();
            if let Some(request) = open {
                world.abandon(request);
            }
        }
        Blow::Run { ms } => world.run(Duration::from_millis(*ms)),
        Blow::Kill { happens } => world.restart(|index| happens >> (index % 64) & 1 == 1),
        Blow::Fault { kind, fault } => world.fault(kind, *fault),
        Blow::Disk { full } => world.disk_full = *full,
        Blow::Links { delay_ms } => world.link_delay = Duration::from_millis(*delay_ms),
        Blow::Subnet { left } => world.squeeze_subnet(*left),
        Blow::Fragment { whole: false } => world.fragment_subnet(),
        Blow::Fragment { whole: true } => world.mend_subnet(usize::MAX),
        Blow::SwitchMode => {
            let address_mode = match world.config.address_mode {
                AddressMode::SecondaryIps => AddressMode::Prefixes { warm_prefixes: Some(1) },
                AddressMode::Prefixes { .. } => AddressMode::SecondaryIps,
            };
            world.reconfigure(Config { address_mode, ..world.config.clone() });
        }
        Blow::Change { live } => {
            // Whether there is custom networking does not change while the daemon runs.
            let custom = world.config.subnets == SubnetChoice::EniConfig;
            let subnets = if custom { SubnetChoice::EniConfig } else { live.subnets };
            world.set_live(LiveSettings { subnets, ..live.clone() });
        }
        Blow::Stranger => {
            if *strangers == 0 && world.free_index().is_some() {
                *strangers += 1;
                let index = world.free_index().unwrap_or_default();
                world.attach_stranger("eni-stranger", index, |view| view.interface_type = "efa-only".into());
            }
        }
        Blow::Lag => world.lag(),
        Blow::EniConfig { which } => world.say(word(*which)),
    }
}

/// Left in peace, everything comes to rest.
fn settle(world: &mut World) {
    world.faults.clear();
    world.disk_full = false;
    world.link_delay = Duration::from_millis(100);
    world.squeeze_subnet(usize::MAX);
    world.mend_subnet(usize::MAX);
    world.say(word(5));
    world.run_seconds(2 * 3_600);
    let snapshot = world.snapshot();
    assert!(world.deadlines.is_empty(), "unanswered: {:?}", world.deadlines);
    assert!(snapshot.waiters.is_empty());
    let room = snapshot.pool.max_enis.is_none_or(|max| snapshot.pool.enis < max)
        || !world.core.rooms(world.now.boot).is_empty();
    assert!(snapshot.pool.shortfall == 0 || !room, "short of its target: {snapshot:#?}");
    assert!(snapshot.enis.iter().all(|eni| eni.state == "Ready"), "{:#?}", snapshot.enis);
    let ours = world.enis.keys().filter(|id| id.as_str() != "eni-stranger").count();
    assert_eq!(ours, snapshot.enis.len(), "an ENI was leaked: {:?} {:#?}", world.enis.keys(), snapshot.enis);
    for eni in &snapshot.enis {
        let id = eni.eni_id.as_ref().expect("made");
        let view = &world.enis[id].view;
        let held = view.secondary_addresses.len() + view.prefixes.len() * 16;
        assert_eq!(held, eni.total as usize, "{id}: EC2 and the journal disagree");
    }
    let outgoing = world.core.pool_view(world.now.boot).outgoing.0;
    // Free addresses of a prefix that a pod has one of stay with it.
    let stuck = world.config.address_mode == AddressMode::SecondaryIps;
    assert!(outgoing == 0 || stuck, "{outgoing} addresses of the other kind are left");
    let allocated: Vec<_> = snapshot.pods.iter().map(|pod| pod.address).collect();
    let mut believed: Vec<_> = world.ledger.owner.values().copied().collect();
    believed.sort();
    assert_eq!(allocated, believed, "every sandbox keeps its address, and nobody else has one");
}

fn live(config: Config, blows: &[Blow]) {
    let mut world = node(config);
    let mut strangers = 0;
    for blow in blows {
        strike(&mut world, blow, &mut strangers);
    }
    settle(&mut world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_life_of_a_node_breaks_an_invariant(config in configs(), blows in proptest::collection::vec(blows(), 1..90)) {
        live(config, &blows);
    }

    #[test]
    fn the_journal_round_trips(config in configs(), blows in proptest::collection::vec(blows(), 1..50)) {
        let mut world = node(config);
        let mut strangers = 0;
        for blow in &blows {
            strike(&mut world, blow, &mut strangers);
        }
        world.disk_full = false;
        world.run_seconds(3);
        let written = world.core.checkpoint();
        let reference = crate::checkpoint::parse_reference(&written.reference_json).expect("readable");
        let own = crate::checkpoint::parse_own(&written.own_json).expect("readable");
        prop_assert_eq!(&crate::checkpoint::encode(&reference), &written.reference_json);
        prop_assert_eq!(&crate::checkpoint::encode(&own), &written.own_json);
        let before = world.snapshot();
        world.restart(|_| false);
        let after = world.snapshot();
        let keys = |snapshot: &crate::Snapshot| -> Vec<(String, std::net::Ipv4Addr)> {
            snapshot.pods.iter().map(|pod| (pod.key.clone(), pod.address)).collect()
        };
        prop_assert_eq!(keys(&before), keys(&after));
        let cooling = |snapshot: &crate::Snapshot| -> Vec<(std::net::Ipv4Addr, Option<u64>)> {
            let cooling = snapshot.addresses.iter().filter(|entry| entry.state == "cooling");
            cooling.map(|entry| (entry.address, entry.cooling_for_ms)).collect()
        };
        prop_assert_eq!(cooling(&before), cooling(&after));
    }
}

#[test]
fn rubbish_outcomes_and_unknown_ids_change_nothing() {
    let mut world = World::new("m5.large", warm_enis(1));
    world.run_seconds(30);
    let before = world.core.checkpoint();
    for id in 0..200 {
        world.feed(Event::ActionEnded { id: crate::ids::ActionId(id), outcome: crate::event::Outcome::Done });
    }
    world.feed(Event::RequestAbandoned { request: RequestId(4_711) });
    world.feed(Event::DelRequested { request: RequestId(4_712), key: key("nobody") });
    assert_eq!(world.core.checkpoint(), before);
}
