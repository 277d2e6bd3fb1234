// SPDX-License-Identifier: Apache-2.0
//! ENIs that EC2 never attaches: they may have any number of addresses until then, and have too many.

use std::time::Duration;

use super::world::{Fault, World, warm_addresses};
use crate::event::FailureClass;
use crate::reason::ReasonCode;

#[test]
fn an_eni_that_somebody_filled_too_much_before_it_was_attached_is_replaced() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 15);
    (0..3).for_each(|_| world.fault("attach", Fault::Before(FailureClass::Throttled)));
    world.add_with("more", Duration::from_secs(600));
    world.run_until(|world| world.count("create") > 0 && world.pending_of("create") == 0);
    let made = world.enis.keys().last().expect("made").clone();
    let view = &mut world.enis.get_mut(&made).expect("there").view;
    view.secondary_addresses.extend((1..=9).map(|host| std::net::Ipv4Addr::new(10, 0, 200, host)));
    world.run_seconds(15);
    assert!(world.noticed("does not attach eni-1 with 10 addresses"), "{:?}", world.notices);
    assert!(world.notices.iter().any(|notice| notice.code == Some(ReasonCode::AddressLimit)));
    assert!(world.snapshot().waiters.is_empty(), "another one serves the pod at once");
    world.run_seconds(120);
    assert!(!world.enis.contains_key(&made), "deleted");
    assert_eq!(world.enis.len(), 2);
    assert_eq!(world.count("attach"), 3 + 2 + 1, "three throttled, two refused, and the other one's");
}

#[test]
fn where_somebody_fills_each_eni_that_is_made_they_are_made_ever_more_seldom() {
    let mut world = World::new("m5.large", warm_addresses(0, 0));
    world.start_pods(9, 15);
    world.add_with("more", Duration::from_secs(1_200));
    let too_many = (1..=10).map(|host| std::net::Ipv4Addr::new(10, 0, 200, host));
    for _ in 0..6_000 {
        world.run(Duration::from_millis(100));
        let unattached = world.enis.values_mut().map(|eni| &mut eni.view).filter(|view| view.attachment.is_none());
        unattached.for_each(|view| view.secondary_addresses.extend(too_many.clone()));
    }
    let made = world.count("create");
    assert!((3..=9).contains(&made), "{made} in ten minutes");
}
