// SPDX-License-Identifier: Apache-2.0
use super::message;
use super::read::{self, RouteFilter};
use super::*;
use crate::apply::testbed::{Space, pause};
use crate::plan::{Family, Op, Route, RouteScope, RouteTable, Rule};

fn route(destination: &str, via: Option<&str>) -> Op {
    Op::RouteAdd(Route {
        destination: destination.parse().unwrap(),
        via: via.map(|via| via.parse().unwrap()),
        link: crate::plan::LinkRef::Index(1),
        scope: if via.is_some() { RouteScope::Universe } else { RouteScope::Link },
        table: RouteTable(77),
        protocol: 158,
    })
}

#[test]
fn the_kernel_s_own_words_are_kept() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    let op = route("10.9.9.9/32", Some("203.0.113.1"));
    let request = message::request(&op, |_| Ok(1)).unwrap();
    let error = socket.request(request).unwrap_err();
    assert_eq!(error.to_string(), op.to_string());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("Nexthop has invalid gateway ("), "{source}");
}

#[test]
fn every_message_of_a_send_has_its_own_answer() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    let ops = [route("10.0.0.1/32", None), route("10.0.0.1/32", None), route("10.0.0.2/32", None)];
    let requests = ops.iter().map(|op| message::request(op, |_| Ok(1)).unwrap()).collect();
    let answers = socket.transact(requests).unwrap();
    let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(|refusal| refusal.errno)).collect();
    assert_eq!(codes, [None, Some(17), None]);
    let filter = RouteFilter::of(Family::V4, RouteTable(77));
    assert_eq!(read::routes(&mut socket, filter).unwrap().len(), 2);
}

#[test]
fn a_send_of_more_messages_than_the_socket_can_hold_answers_of_is_answered_whole() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    // Twice each: a refusal carries the kernel's words and takes more room than an ACK.
    let addresses = (0..1500u32).flat_map(|n| [n, n]).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string());
    let requests =
        addresses.map(|to| message::request(&route(&format!("{to}/32"), None), |_| Ok(1)).unwrap()).collect();
    let answers = socket.transact(requests).unwrap();
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1500, 1500));
}

#[test]
fn a_table_that_does_not_exist_has_no_routes() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    let filter = RouteFilter::of(Family::V4, RouteTable(4242));
    assert_eq!(read::routes(&mut socket, filter).unwrap(), []);
}

#[test]
fn lists_longer_than_a_datagram_are_read_whole() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    add_rules(&mut socket, 1500);
    assert_eq!(read::rules(&mut socket, Family::V4).unwrap().len(), 1503);
}

/// Runs `change` again and again on another thread, 0.3 ms apart, while `read` runs; gives what `read` gave.
fn beside<T: Send>(change: impl Fn(&mut Socket, bool) + Send + Sync, read: impl FnOnce() -> T) -> T {
    use std::sync::atomic::{AtomicBool, Ordering};
    /// Also when `read` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = Socket::route().unwrap();
            let mut is_there = false;
            while !stop.load(Ordering::Relaxed) || is_there {
                is_there = !is_there;
                change(&mut socket, is_there);
                pause(300_000);
            }
        });
        let _stop = Stop(&stop);
        read()
    })
}

#[test]
fn a_list_of_rules_read_beside_changes_is_whole_or_an_error() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    add_rules(&mut socket, 1500);
    let front = Rule { priority: 1, ..Rule::to_pod(std::net::Ipv4Addr::LOCALHOST) };
    let change = |socket: &mut Socket, add| {
        let op = if add { Op::RuleAdd(front.clone()) } else { Op::RuleDelete(front.clone()) };
        socket.request(message::request(&op, |_| Ok(0)).unwrap()).unwrap();
    };
    beside(change, || {
        for _ in 0..100 {
            match read::rules(&mut socket, Family::V4) {
                Ok(rules) => assert_eq!(rules.iter().filter(|(rule, _)| rule.priority == 1536).count(), 1500),
                Err(error) => assert!(matches!(error, ApplyError::Interrupted { .. }), "{error}"),
            }
        }
    });
    assert_eq!(read::rules(&mut socket, Family::V4).unwrap().len(), 1503);
}

#[test]
fn a_list_that_the_kernel_marks_as_interrupted_is_read_again() {
    let _node = Space::enter_new();
    let address = |add: bool| {
        let address = crate::plan::Address {
            address: "10.7.7.7/32".parse().unwrap(),
            link: crate::plan::LinkRef::Index(1),
            without_prefix_route: false,
        };
        if add { Op::AddressAdd(address) } else { Op::AddressDelete(address) }
    };
    for n in 0..1000u32 {
        let op = Op::AddressAdd(crate::plan::Address {
            address: std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a01_0000 + n)).into(),
            link: crate::plan::LinkRef::Index(1),
            without_prefix_route: false,
        });
        Socket::route().unwrap().request(message::request(&op, |_| Ok(1)).unwrap()).unwrap();
    }
    let mut list = netlink_packet_route::address::AddressMessage::default();
    list.header.family = netlink_packet_route::AddressFamily::Inet;
    let list = netlink_packet_route::RouteNetlinkMessage::GetAddress(list);
    let mut socket = Socket::route().unwrap();
    let change = |socket: &mut Socket, add| {
        socket.request(message::request(&address(add), |_| Ok(1)).unwrap()).unwrap();
    };
    let interrupted = beside(change, || {
        let once = (0..2000).any(|_| socket.dump_once(list.clone(), "addresses").unwrap().is_none());
        for _ in 0..20 {
            match read::addresses(&mut socket, Family::V4, None) {
                Ok(found) => assert!((1000..=1001).contains(&found.len()), "{}", found.len()),
                Err(error) => assert!(matches!(error, ApplyError::Interrupted { .. }), "{error}"),
            }
        }
        once
    });
    assert!(interrupted, "no list was interrupted");
}

fn add_rules(socket: &mut Socket, count: u32) {
    for n in 0..count {
        let op = Op::RuleAdd(Rule::from_pod(std::net::Ipv4Addr::from(0x0a00_0000 + n), Some(RouteTable(2))));
        socket.request(message::request(&op, |_| Ok(0)).unwrap()).unwrap();
    }
}

#[test]
fn a_filter_the_kernel_does_not_know_is_an_error_and_no_longer_list() {
    let _node = Space::enter_new();
    let mut socket = Socket::route().unwrap();
    let mut message = netlink_packet_route::route::RouteMessage::default();
    message.header.address_family = netlink_packet_route::AddressFamily::Inet;
    message.attributes = vec![netlink_packet_route::route::RouteAttribute::Priority(7)];
    let message = netlink_packet_route::RouteNetlinkMessage::GetRoute(message);
    let error = socket.dump(message, "routes by metric").unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
}

#[test]
fn answers_to_older_requests_are_passed_over_and_to_later_ones_refused() {
    assert_eq!(position(7, 7, 2, "x").unwrap(), Some(0));
    assert_eq!(position(8, 7, 2, "x").unwrap(), Some(1));
    assert_eq!(position(6, 7, 2, "x").unwrap(), None);
    assert!(position(9, 7, 2, "x").is_err());
    assert_eq!(position(0, u32::MAX, 2, "x").unwrap(), Some(1));
}
