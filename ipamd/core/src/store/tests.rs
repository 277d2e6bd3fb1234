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
        come(&mut store, ip(*host), (&eni, Slot::Single));
    }
    (store, eni)
}

/// EC2 gives an address, and the kernel forgets at once who had it.
fn come(store: &mut Store, address: Ipv4Addr, home: (&EniId, Slot)) {
    store.learn(address, home, None, at(0));
    store.flushed(address);
}

/// Cooldowns that are over end, and the kernel forgets at once.
fn end_rests(store: &mut Store, now: BootTime) {
    store.expire(now, |_, _| None);
    let flushing: Vec<_> = store.flushing().map(|(address, _)| address).collect();
    flushing.into_iter().for_each(|address| store.flushed(address));
}

const COOLDOWN: Duration = Duration::from_secs(30);

#[test]
fn never_used_addresses_go_first_then_the_oldest_released() {
    let (mut store, eni) = store(&[6, 7, 9]);
    for (host, container, released) in [(7, "a", 5), (6, "b", 9)] {
        assert!(store.allocate(ip(host), allocation(container)));
        assert!(store.release(ip(host), at(released), COOLDOWN).is_some());
    }
    end_rests(&mut store, at(60));
    let mut order = Vec::new();
    for container in ["x", "y", "z"] {
        let address = store.choose([(&eni, Slot::Single)], |_, _| true).expect("free");
        assert!(store.allocate(address, allocation(container)));
        order.push(address);
    }
    assert_eq!(order, [ip(9), ip(7), ip(6)]);
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), None);
}

#[test]
fn cooling_address_is_not_assigned_before_its_period_ends() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(10), COOLDOWN);
    assert_eq!(store.expire(at(39), |_, _| None), Some(at(40)));
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), None);
    assert!(!store.allocate(ip(5), allocation("b")));
    assert_eq!(store.expire(at(40), |_, _| None), None);
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), None, "not flushed yet");
    store.flushed(ip(5));
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), Some(ip(5)));
}

#[test]
fn what_came_is_free_but_not_given_before_its_flush_whatever_becomes_of_it_meanwhile() {
    let eni = EniId::from("eni-1");
    let mut store = Store::default();
    let choose = |store: &Store| store.choose([(&eni, Slot::Prefix), (&eni, Slot::Single)], |_, _| true);
    store.learn(ip(5), (&eni, Slot::Single), None, at(0));
    assert_eq!((store.tally(&eni).free, choose(&store)), (1, None));
    // Picked to be given back, kept after all; shown again; turned up inside a prefix.
    assert!(store.set_leaving(ip(5)));
    assert_eq!(store.fresh().count(), 0, "nobody waits for one that goes");
    store.stay(ip(5));
    store.learn(ip(5), (&eni, Slot::Single), None, at(1));
    store.learn(ip(5), (&eni, Slot::Prefix), None, at(1));
    assert_eq!((store.fresh().count(), choose(&store)), (1, None));
    // Another one of the prefix is clean: it is given although the prefix has fresh ones.
    come(&mut store, ip(6), (&eni, Slot::Prefix));
    assert_eq!(choose(&store), Some(ip(6)));
    store.allocate(ip(6), allocation("a"));
    assert_eq!(choose(&store), None);
    store.flushed(ip(5));
    assert_eq!(choose(&store), Some(ip(5)));
    // An ENI that is gone had it.
    let other = EniId::from("eni-2");
    store.learn(ip(5), (&other, Slot::Single), None, at(2));
    let choose_there = |store: &Store| store.choose([(&other, Slot::Single)], |_, _| true);
    assert_eq!(choose_there(&store), None);
    store.flushed(ip(5));
    assert_eq!(choose_there(&store), Some(ip(5)));
    // Gone and come again.
    assert!(store.forget(ip(5)));
    store.learn(ip(5), (&eni, Slot::Prefix), None, at(2));
    assert_eq!(choose(&store), None);
    store.audit();
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
    end_rests(&mut store, at(40));
    assert!(store.set_leaving(ip(7)) && store.forget(ip(7)));
}

#[test]
fn an_undone_allocation_leaves_no_trace() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(1), COOLDOWN);
    end_rests(&mut store, at(40));
    let before = store.get(ip(5)).cloned();
    store.allocate(ip(5), allocation("b"));
    store.undo(ip(5));
    assert_eq!(store.get(ip(5)).cloned(), before);
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), Some(ip(5)));
}

#[test]
fn an_address_that_the_kernel_still_has_when_its_cooldown_ends_is_held() {
    let (mut store, eni) = store(&[5]);
    store.allocate(ip(5), allocation("a"));
    store.release(ip(5), at(1), COOLDOWN);
    store.expire(at(40), |_, _| Some("enix".into()));
    assert_eq!(store.choose([(&eni, Slot::Single)], |_, _| true), None);
    assert_eq!(store.tally(&eni), Tally { held: 1, ..Tally::default() });
}

fn prefixes(eni: &EniId, blocks: &[&str]) -> Store {
    let mut store = Store::default();
    for block in blocks {
        for address in prefix_addresses(block.parse().expect("a block")) {
            come(&mut store, address, (eni, Slot::Prefix));
        }
    }
    store
}

#[test]
fn pods_are_packed_into_the_fullest_prefix_and_only_a_whole_one_can_go() {
    let eni = EniId::from("eni-1");
    let mut store = prefixes(&eni, &["10.0.0.16/28", "10.0.0.32/28"]);
    for number in 0..17 {
        let address = store.choose([(&eni, Slot::Prefix)], |_, _| true).expect("free");
        assert_eq!(address, ip(16 + number), "the first prefix is filled before the second");
        assert!(store.allocate(address, allocation(&number.to_string())));
    }
    assert_eq!(store.free_prefixes(&eni), []);
    store.release(ip(32), at(10), COOLDOWN);
    assert_eq!(store.free_prefixes(&eni), [], "one of its addresses cools");
    end_rests(&mut store, at(40));
    assert_eq!(store.free_prefixes(&eni), ["10.0.0.32/28".parse().expect("a block")]);
    let book = store.book(&eni).expect("known");
    assert_eq!((book.slots(), book.free_slots(Slot::Prefix), book.of(Slot::Single)), (2, 1, Tally::default()));
    store.audit();
}

#[test]
fn an_address_in_use_keeps_its_state_when_it_turns_up_in_a_prefix() {
    let (mut store, eni) = store(&[20]);
    store.allocate(ip(20), allocation("a"));
    for address in prefix_addresses("10.0.0.16/28".parse().expect("a block")) {
        store.learn(address, (&eni, Slot::Prefix), None, at(1));
    }
    let book = store.book(&eni).expect("known");
    assert_eq!((book.of(Slot::Prefix).allocated, book.of(Slot::Prefix).free, book.slots()), (1, 15, 1));
    assert_eq!(store.address_of(&allocation("a").key), Some(ip(20)));
    store.audit();
}

/// A busy m5.24xlarge in prefix mode: 14 prefixes on each of 15 ENIs, 3,360 addresses.
#[test]
fn a_large_store_turns_over_and_its_counts_stay_right() {
    let mut store = Store::default();
    let enis: Vec<EniId> = (0..15).map(|number| EniId(format!("eni-{number}"))).collect();
    for (eni, third) in enis.iter().zip(0_u32..) {
        for fourth in 0..14_u32 {
            let prefix = Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + third * 256 + fourth * 16), 28);
            for address in prefix_addresses(prefix) {
                come(&mut store, address, (eni, Slot::Prefix));
            }
        }
    }
    let homes: Vec<_> = enis.iter().map(|eni| (eni, Slot::Prefix)).collect();
    for number in 0..10_000_u64 {
        let address = store.choose(homes.iter().copied(), |_, _| true).expect("free");
        assert!(store.allocate(address, allocation(&number.to_string())));
        store.release(address, at(number), Duration::from_secs(2_000));
        end_rests(&mut store, at(number));
    }
    assert_eq!(store.all().cooling, 2_000);
    store.audit();
}
