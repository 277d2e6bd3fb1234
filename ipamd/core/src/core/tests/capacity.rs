// SPDX-License-Identifier: Apache-2.0
//! How many pods a node can have: by its type and settings, and by what its subnets have.

use std::time::Duration;

use super::pod_network::policy;
use super::world::{Fault, World, tags, warm_addresses};
use crate::config::{AddressMode, Config, Provisioning, SubnetChoice};
use crate::event::{Event, FailureClass};
use crate::snapshot::CapacitySnapshot;

/// `addresses`, `limit`, `now`.
fn figures(world: &World) -> (u32, u32, u32) {
    let CapacitySnapshot { addresses, limit, now, .. } = world.snapshot().capacity.expect("the type is known");
    assert!(now <= limit && limit <= addresses);
    (addresses, limit, now)
}

fn primary_subnet(config: Config) -> Config {
    Config { subnets: SubnetChoice::Primary, ..config }
}

fn prefixes() -> Config {
    Config { address_mode: AddressMode::Prefixes { warm_prefixes: None }, ..warm_addresses(1, 0) }
}

/// Instance type x mode: ENIs and slots as EC2 documents them ("IP addresses per network interface per instance type"), less one
/// slot an ENI. All of the VPC's subnets are large.
#[test]
fn the_golden_table_of_type_and_mode() {
    let single = || warm_addresses(1, 0);
    let max_eni = |most| Config { max_enis: Some(most), ..single() };
    let custom = |config: Config| Config { subnets: SubnetChoice::EniConfig, ..config };
    for (name, config, addresses, limit) in [
        ("t3.small", single(), 9, 9),
        ("t3.small", prefixes(), 144, 144),
        ("m5.large", single(), 27, 27),
        ("m5.large", prefixes(), 432, 432),
        ("m5.large", Config { max_pods: Some(110), ..prefixes() }, 432, 110),
        ("m5.large", Config { max_pods: Some(110), ..single() }, 27, 27),
        ("m5.large", max_eni(2), 18, 18),
        ("m5.large", Config { keeps_trunk_slot: true, ..single() }, 18, 18),
        ("t3.small", Config { keeps_trunk_slot: true, ..single() }, 9, 9), // takes no trunk
        ("m5.large", custom(single()), 18, 18),                            // the primary ENI serves the node
        ("m5.large", custom(Config { keeps_trunk_slot: true, ..single() }), 9, 9),
        ("m5.large", custom(prefixes()), 288, 288),
        ("m5.large", custom(max_eni(2)), 9, 9),
        ("m5.xlarge", max_eni(3), 42, 42),
        ("m4.4xlarge", single(), 232, 232),
        ("m4.4xlarge", prefixes(), 232, 232), // Xen takes no prefixes
        ("m5.4xlarge", single(), 232, 232),
        ("m5.4xlarge", prefixes(), 3_712, 3_712),
        ("p4d.24xlarge", single(), 735, 735), // the default card's
    ] {
        let mut world = World::new(name, config.clone());
        world.run_seconds(1);
        let (got, got_limit, _) = figures(&world);
        assert_eq!((got, got_limit), (addresses, limit), "{name} {:?} {:?}", config.address_mode, config.max_enis);
    }
}

#[test]
fn it_is_known_as_soon_as_metadata_has_answered_and_ec2_is_not_needed() {
    let mut world = World::unborn("m5.large", warm_addresses(1, 0));
    assert_eq!(world.snapshot().capacity, None);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    assert_eq!(figures(&world), (27, 27, 27), "nothing speaks against it");
    assert_eq!(world.snapshot().capacity.unwrap().formula, "3 ENIs x 9 addresses");
}

#[test]
fn other_peoples_enis_take_places() {
    let mut world = World::unborn("m5.large", warm_addresses(1, 0));
    world.attach_stranger("eni-else", 2, |view| view.tags = tags(&[("node.k8s.amazonaws.com/no_manage", "true")]));
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(10);
    assert_eq!(figures(&world), (18, 18, 18));
}

#[test]
fn what_the_subnet_had_bounds_what_is_now_and_our_own_coming_and_going_does_not_change_it() {
    let mut world = World::unborn("m5.large", warm_addresses(1, 0));
    world.squeeze_subnet(12);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(2);
    assert_eq!(figures(&world), (27, 27, 11), "9 on the primary ENI, and 2 on another that takes one for itself");
    for round in 0..3 {
        let pods: Vec<String> = (0..8).map(|pod| format!("pod-{round}-{pod}")).collect();
        for pod in &pods {
            world.add(pod);
        }
        world.run_seconds(30);
        assert_eq!(figures(&world).2, 11, "round {round}, full");
        pods.iter().for_each(|pod| world.del(pod));
        world.run_seconds(200);
        assert_eq!(figures(&world).2, 11, "round {round}, empty");
    }
}

#[test]
fn an_exhausted_subnet_gives_nothing_until_it_is_worth_asking_again() {
    let mut world = World::new("m5.large", primary_subnet(warm_addresses(3, 0)));
    world.run_seconds(5);
    world.squeeze_subnet(0);
    for pod in 0..4 {
        world.add(&format!("pod-{pod}"));
    }
    world.run_seconds(3);
    let held = world.snapshot().pool.total;
    assert_eq!(figures(&world), (27, 27, held));
    world.squeeze_subnet(usize::MAX);
    world.run(Duration::from_secs(60));
    assert_eq!(figures(&world), (27, 27, 27), "it gave again");
}

#[test]
fn small_subnets_of_an_eniconfig_bound_what_is_now() {
    let config = Config { subnets: SubnetChoice::EniConfig, ..warm_addresses(1, 0) };
    let mut world = World::unborn("m5.large", config);
    world.add_subnet("subnet-2", 202, 6, &[]);
    world.add_subnet("subnet-3", 203, 4, &[]);
    world.add_subnet("subnet-4", 204, 200, &[]);
    let facts = world.facts.clone();
    world.say(policy(&[("subnet-2", 0, 1), ("subnet-3", 1, 1)]));
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(20);
    assert_eq!(figures(&world), (18, 18, 8), "5 and 3, each ENI with one for itself; subnet-4 is not named");
}

/// What is asked for is not in the subnet any more, though no answer has come.
#[test]
fn calls_under_way_are_not_counted_twice() {
    let mut world = World::unborn("m5.large", warm_addresses(1, 0));
    world.squeeze_subnet(12);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(2);
    let pods: Vec<String> = (0..8).map(|pod| format!("pod-{pod}")).collect();
    for pod in &pods {
        world.add(pod);
    }
    for _ in 0..60 {
        world.run(Duration::from_millis(50));
        assert_eq!(figures(&world).2, 11, "{:?}", world.pending);
    }
}

/// The rest of an exhausted subnet ends, and nobody has said that it has more than it had.
#[test]
fn that_a_rest_is_over_is_no_new_capacity() {
    let mut world = World::new("m5.large", primary_subnet(warm_addresses(3, 0)));
    world.run_seconds(5);
    world.squeeze_subnet(0);
    for pod in 0..4 {
        world.add(&format!("pod-{pod}"));
    }
    world.run_seconds(3);
    let held = world.snapshot().pool.total;
    // The next call finds out nothing for as long as it is not answered.
    (0..9).for_each(|_| world.fault("assign", Fault::Before(FailureClass::Denied)));
    for _ in 0..100 {
        world.run_seconds(1);
        // A call under way may yet bring what it asks for.
        let now = figures(&world).2;
        assert!((held..=held + 8).contains(&now), "{now}: {:?}", world.snapshot().supply);
    }
}

#[test]
fn prefixes_count_sixteen_each_as_far_as_the_subnet_has_addresses() {
    let mut world = World::unborn("m5.large", prefixes());
    world.squeeze_subnet(40);
    let facts = world.facts.clone();
    world.feed(Event::FactsLearned(facts));
    world.run_seconds(1);
    // 7 more slots on the primary ENI take 7 of the 8 that are left beside two prefixes.
    let (addresses, _, now) = figures(&world);
    assert_eq!(addresses, 432);
    assert!((32..=40).contains(&now), "{now}");
}

#[test]
fn where_enis_are_someone_elses_there_is_what_there_is() {
    let config = Config { provisioning: Provisioning::Disabled, ..warm_addresses(1, 0) };
    let mut world = World::new("m5.large", config);
    world.run_seconds(10);
    let held = world.snapshot().pool.total;
    assert_eq!(figures(&world), (27, 27, held));
}

#[test]
fn a_type_that_nobody_knows_has_no_capacity() {
    let mut world = World::new("m5.large", warm_addresses(1, 0));
    world.core.limits = None;
    assert_eq!(world.snapshot().capacity, None);
}
