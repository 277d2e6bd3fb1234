// SPDX-License-Identifier: Apache-2.0
//! The call budget of a node (`ipamd_core::ec2`), measured at the VPC model: what arrives there, retries included.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::config::{AddressMode, WarmTargets};
use ipamd_core::{BootTime, Config};
use ipamd_simulate::layout::Layout;
use ipamd_simulate::ours::Ours;
use ipamd_simulate::pace::Pace;
use ipamd_simulate::world::{NodeId, PodPlan, World};

const HOUR: u64 = 3_600;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

fn prefixes() -> Config {
    let warm = WarmTargets::Prefixes(1);
    Config { address_mode: AddressMode::Prefixes { warm_prefixes: Some(1) }, warm, ..Config::default() }
}

fn addresses(warm: u32, minimum: u32) -> Config {
    Config { warm: WarmTargets::Addresses { warm, minimum }, ..Config::default() }
}

/// A node alone in a subnet, and what it has called so far.
struct Node(World<Ours>);

impl Node {
    fn new(instance_type: &str, config: Config) -> Self {
        let vpc = Layout::one(instance_type, 18).build(1).unwrap();
        let instance = vpc.instance_named("n0").unwrap().id.clone();
        let mut world = World::new(vpc, Pace::default(), 1);
        world.add_node(Rc::new(Ours::new("ours", config)), &instance, BootTime::default());
        Self(world)
    }

    fn pod(&mut self, number: u64, starts: u64) {
        let plan = PodPlan { node: NodeId(0), name: format!("pod-{number}"), starts: at(starts), ends: None };
        self.0.plan_pod(plan);
    }

    /// What was called until then.
    fn calls_until(&mut self, seconds: u64) -> BTreeMap<&'static str, u32> {
        self.0.run_until(at(seconds));
        assert!(self.0.checker().violation().is_none(), "{}", self.0.checker().violation().unwrap());
        self.0.nodes()[0].stats().calls.clone()
    }

    fn pods(&self) -> u32 {
        self.0.nodes()[0].stats().pods.last()
    }
}

fn mutating(calls: &BTreeMap<&'static str, u32>) -> u32 {
    calls.iter().filter(|(action, _)| !action.starts_with("Describe")).map(|(_, count)| count).sum()
}

#[test]
fn an_idle_node_makes_no_more_than_one_call_an_hour() {
    for config in [Config::default(), prefixes(), addresses(5, 10)] {
        let mut node = Node::new("m5.large", config);
        (0..5).for_each(|pod| node.pod(pod, 60 + pod));
        // What the start and the ENI that the pods needed call for is over.
        let before = node.calls_until(HOUR);
        let after = node.calls_until(HOUR + 12 * HOUR);
        assert_eq!(mutating(&after), mutating(&before), "{after:?}");
        let more = |action| after.get(action).copied().unwrap_or(0) - before.get(action).copied().unwrap_or(0);
        assert!((7..=12).contains(&more("DescribeNetworkInterfaces")), "{before:?} {after:?}");
        assert!((1..=2).contains(&more("DescribeSubnets")), "{before:?} {after:?}");
        let total: u32 = after.values().sum::<u32>() - before.values().sum::<u32>();
        assert!(total <= 12, "a look at the zone takes the place of one at the ENIs: {before:?} {after:?}");
        assert_eq!(total, more("DescribeNetworkInterfaces") + more("DescribeSubnets"), "{after:?}");
    }
}

#[test]
fn a_node_comes_from_nothing_to_its_first_warm_pool_with_at_most_three_mutating_calls() {
    for (instance_type, config, held) in [
        ("m5.large", Config::default(), 9),
        ("m5.4xlarge", Config::default(), 29),
        ("m5.large", prefixes(), 16),
        ("m5.large", addresses(5, 10), 10),
        ("m5.4xlarge", addresses(5, 10), 10),
    ] {
        let mut node = Node::new(instance_type, config);
        let mut mutating_calls = None;
        for tenths in 0..600 {
            node.0.run_until(BootTime(Duration::from_millis(tenths * 100)));
            let stats = node.0.nodes()[0].stats();
            if stats.held.last() >= held {
                mutating_calls = Some(mutating(&stats.calls));
                break;
            }
        }
        let calls = mutating_calls.unwrap_or_else(|| panic!("{instance_type}: no warm pool of {held} in a minute"));
        assert!(calls <= 3, "{instance_type}, {held} addresses: {calls} calls");
    }
}

#[test]
fn with_prefixes_a_call_brings_sixteen_pods_or_more() {
    // One after the other, and all at once. m5.xlarge: 14 prefixes an ENI.
    for (pods, apart) in [(220_u64, 2_u64), (500, 0)] {
        let mut node = Node::new("m5.xlarge", prefixes());
        let before = node.calls_until(60);
        (0..pods).for_each(|pod| node.pod(pod, 60 + pod * apart));
        let after = node.calls_until(60 + pods * apart + 120);
        assert_eq!(u64::from(node.pods()), pods);
        let more = |action| after.get(action).copied().unwrap_or(0) - before.get(action).copied().unwrap_or(0);
        let enis = more("CreateNetworkInterface");
        assert!(u64::from(more("AssignPrivateIpAddresses") + enis) <= pods.div_ceil(16), "{pods} pods: {after:?}");
        // An ENI is also attached and set to go with the instance.
        // The primary ENI gets its tag, once in its life.
        assert!(more("CreateTags") <= 1, "{after:?}");
        let all = mutating(&after) - mutating(&before) - more("CreateTags");
        assert!(u64::from(all) <= pods.div_ceil(16) + 2 * u64::from(enis), "{pods} pods: {after:?}");
    }
}
