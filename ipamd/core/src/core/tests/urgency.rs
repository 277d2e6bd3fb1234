// SPDX-License-Identifier: Apache-2.0
//! How urgent actions are.

use std::time::Duration;

use super::world::{World, warm_enis};
use crate::action::{ActionKind, Priority};

fn create(world: &World) -> Option<Priority> {
    let mut actions = world.pending.iter().map(|(_, action)| action);
    actions.find(|action| matches!(action.kind, ActionKind::CreateEni { .. })).map(|action| action.priority)
}

#[test]
fn what_a_node_without_addresses_needs_is_as_urgent_as_what_an_add_waits_for() {
    let world = World::new("m5.large", warm_enis(1));
    assert!(!world.pending.is_empty());
    assert!(world.pending.iter().all(|(_, action)| action.priority == Priority::Waiting), "{:?}", world.pending);
}

#[test]
fn growth_is_urgent_when_adds_wait_and_warms_the_pool_otherwise() {
    for (pods, priority) in [(1, Priority::Warm), (10, Priority::Waiting)] {
        let mut world = World::new("m5.large", warm_enis(1));
        world.run_seconds(60);
        for pod in 0..pods {
            world.add(&format!("pod-{pod}"));
        }
        world.run(Duration::from_millis(50));
        assert_eq!(create(&world), Some(priority), "{pods} pods on 9 addresses");
    }
}
