// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::ids::PodRef;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

fn ip(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

fn allocation(container: &str) -> Allocation {
    Allocation {
        key: AllocationKey { network: "n".into(), container_id: container.into(), ifname: "eth0".into() },
        pod: PodRef::default(),
        allocated_unix_nanos: 0,
        granted_at: at(0),
        request: None,
        before: None,
        testimony: Testimony::Present,
    }
}

fn store(hosts: &[u8]) -> (Store, EniId) {
    let eni = EniId::from("eni-1");
    let mut store = Store::default();
    for host in hosts {
        store.learn(ip(*host), &eni, None, at(0));
    }
    (store, eni)
}

const COOLDOWN: Duration = Duration::from_secs(30);

#[test]
fn never_used_addresses_go_first_then_the_oldest_released() {
    let (mut store, eni) = store(&[6, 7, 9]);
    for (host, container, released) in [(7, "a", 5), (6, "b", 9)] {
        assert!(store.allocate(ip(host), allocation(container)));
        assert!(store.release(ip(host), at(released), COOLDOWN).is_some());
    }
    store.expire(at(60), |_, _| None);
    let mut order = Vec::new();
    for container in ["x", "y", "z"] {
        let address = store.choose([&eni]).expect("free");
        assert!(store.allocate(address, allocation(container)));
        order.push(address);
    }
    assert_eq!(order, [ip(9), ip(7), ip(6)]);
    assert_eq!(store.choose([&eni]), None);
}

#[test]
fn cooling_address_is_not_assigned_before_its_period_ends() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(10), COOLDOWN);
    assert_eq!(store.expire(at(39), |_, _| None), Some(at(40)));
    assert_eq!(store.choose([&eni]), None);
    assert!(!store.allocate(ip(5), allocation("b")));
    assert_eq!(store.expire(at(40), |_, _| None), None);
    assert_eq!(store.choose([&eni]), Some(ip(5)));
}

#[test]
fn a_key_has_one_address_and_an_address_one_key() {
    let (mut store, _) = store(&[5, 6]);
    assert!(store.allocate(ip(5), allocation("a")));
    assert!(!store.allocate(ip(6), allocation("a")));
    assert!(!store.allocate(ip(5), allocation("b")));
    assert_eq!(store.address_of(&allocation("a").key), Some(ip(5)));
}

#[test]
fn an_address_in_use_cooling_or_held_cannot_be_forgotten_or_picked() {
    let (mut store, _) = store(&[5, 6, 7]);
    store.allocate(ip(5), allocation("a"));
    store.allocate(ip(6), allocation("b"));
    store.release(ip(6), at(1), COOLDOWN);
    store.hold(ip(7), "enix");
    for host in [5, 6, 7] {
        assert!(!store.set_leaving(ip(host)) && !store.forget(ip(host)), ".{host}");
    }
    store.let_go(ip(7), at(2), COOLDOWN);
    store.expire(at(40), |_, _| None);
    assert!(store.set_leaving(ip(7)) && store.forget(ip(7)));
}

#[test]
fn an_undone_allocation_leaves_no_trace() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(1), COOLDOWN);
    store.expire(at(40), |_, _| None);
    let before = store.get(ip(5)).cloned();
    store.allocate(ip(5), allocation("b"));
    store.undo(ip(5), at(41));
    assert_eq!(store.get(ip(5)).cloned(), before);
    assert_eq!(store.choose([&eni]), Some(ip(5)));
}

#[test]
fn an_address_that_the_kernel_still_has_when_its_cooldown_ends_is_held() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(1), COOLDOWN);
    store.expire(at(40), |_, _| Some("enix".into()));
    assert_eq!(store.choose([&eni]), None);
    assert_eq!(store.tally(&eni), Tally { held: 1, ..Tally::default() });
}
