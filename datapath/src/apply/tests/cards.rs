// SPDX-License-Identifier: Apache-2.0
//! ENIs of network cards but the first, beside what a distribution has made for them. The network is [`super::packets`]': `eth1` is
//! device 0 of card 1 here, and the router lets nothing in by the wrong ENI.

use std::net::Ipv4Addr;

use super::packets::{Net, Way, exchange};
use crate::apply::eni;
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, pod, settle};
use crate::plan::eni::{EniSetup, Steering};
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodLayout};
use crate::plan::{ids, marks};

/// What others have made before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Nothing,
    /// amazon-ec2-net-utils by systemd-networkd: one rule, to the table of the same number as ours.
    Distribution,
    /// A rule to a table that is for something else, with a route that no pod may take.
    Elsewhere,
    /// Both.
    Several,
}

impl Others {
    const ALL: [Self; 4] = [Self::Nothing, Self::Distribution, Self::Elsewhere, Self::Several];

    fn make(self, node: &Space) {
        if [Self::Distribution, Self::Several].contains(&self) {
            node.ip("route add 10.0.1.0/24 dev eth1 table 10100 proto static");
            node.ip("route add default via 10.0.1.1 dev eth1 table 10100 proto dhcp metric 512");
            node.ip("rule add priority 10100 from 10.0.1.20 lookup 10100 protocol static");
        }
        if [Self::Elsewhere, Self::Several].contains(&self) {
            node.ip("route add unreachable default table 77");
            node.ip("rule add priority 11000 from 10.0.1.20 lookup 77 protocol static");
        }
    }

    fn lead_to_the_table(self) -> bool {
        [Self::Distribution, Self::Several].contains(&self)
    }
}

/// What is not ours of rules, and of routes in tables of others.
fn of_others(node: &Space) -> String {
    let routes = node.ip("-4 route show table all");
    let routes = routes.lines().filter(|line| line.contains("table 77") || line.contains("table 10100"));
    let rules = node.ip("rule");
    rules.lines().chain(routes).filter(|line| !line.contains("158")).collect::<Vec<_>>().join("\n")
}

fn on_card_1(way: Way) -> EniSetup {
    let place = Place::new(1, 0).unwrap();
    let prefixes = if way == Way::Classic { Vec::new() } else { vec!["10.0.1.0/28".parse().unwrap()] };
    let mark = marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, place);
    let steering = (way != Way::Classic).then_some(Steering { mark, prefixes });
    EniSetup { place, steering, ..way.eni() }
}

/// A node with `eth1` as a DHCP client has left it.
fn node_with(others: Others, way: Way) -> Net {
    let net = Net::plumbed_by("1", way);
    eni::remove(&way.eni()).unwrap();
    net.node.ip("addr add 10.0.1.20/24 dev eth1");
    others.make(&net.node);
    net
}

fn each(run: impl Fn(Others, Way) + Sync) {
    for others in Others::ALL {
        for way in [Way::Classic, Way::Prefix] {
            // Namespaces of their own: a thread each.
            std::thread::scope(|scope| scope.spawn(|| run(others, way)).join().unwrap());
        }
    }
}

fn pod_on_card_1(way: Way) -> PodAttachment {
    let layout = match way {
        Way::Classic => PodLayout::Classic,
        _ => PodLayout::Flat { table: ids::POD_TABLE, group: ids::DEFAULT_GROUP },
    };
    PodAttachment { layout, ..pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(10_100)) }
}

#[test]
fn pods_leave_by_their_card_whatever_rules_others_have_for_it() {
    each(|others, way| {
        let net = node_with(others, way);
        eni::setup(&on_card_1(way)).unwrap();
        let sandbox = Space::new();
        attach(&sandbox.path(), &pod_on_card_1(way)).unwrap();
        settle(&sandbox);
        let pod = sandbox.udp("0.0.0.0:7001");
        // Its own subnet, and that of the primary ENI, which main knows.
        for address in ["10.0.1.1:7004", "10.0.0.1:7007"] {
            let router = net.router.udp(address);
            let seen = exchange(&pod, &router, address).unwrap_or_else(|error| panic!("{others:?} {way:?}: {error}"));
            assert_eq!(seen.ip().to_string(), "10.0.1.7", "{others:?} {way:?}");
        }
        let asker = net.router.udp("10.0.1.1:7006");
        exchange(&asker, &pod, "10.0.1.7:7001").unwrap();
        // The negative twin: it is the rule to the card's table that takes them there.
        net.node.ip("rule del priority 1536");
        let router = net.router.udp("10.0.0.1:7008");
        assert!(exchange(&pod, &router, "10.0.0.1:7008").is_err(), "{others:?} {way:?}");
    });
}

#[test]
fn our_rule_is_made_where_nobody_else_s_leads_to_the_table_and_what_others_have_stays() {
    each(|others, way| {
        let net = node_with(others, way);
        let before = of_others(&net.node);
        let eni = on_card_1(way);
        eni::setup(&eni).unwrap();
        let has_own = net.node.ip("rule list priority 32765").contains("from 10.0.1.20 lookup 10100 proto 158");
        assert_eq!(has_own, !others.lead_to_the_table(), "{others:?}");
        assert!(eni::setup(&eni).unwrap().is_empty(), "nothing is written twice");
        assert_eq!(of_others(&net.node), before, "{others:?}");
        eni::remove(&eni).unwrap();
        let rules = net.node.ip("rule");
        assert!(!rules.contains("32765") && !rules.contains("1536"), "{rules}");
        let left = of_others(&net.node);
        let rules_of =
            |text: &str| text.lines().filter(|line| line.contains("from")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(rules_of(&left), rules_of(&before), "{others:?}");
    });
}

#[test]
fn the_eni_s_own_address_answers_by_its_card_as_long_as_no_rule_of_others_says_otherwise() {
    for others in [Others::Nothing, Others::Distribution, Others::Several] {
        std::thread::scope(|scope| {
            let alone = || {
                let net = node_with(others, Way::Classic);
                eni::setup(&on_card_1(Way::Classic)).unwrap();
                let (node, router) = (net.node.udp("10.0.1.20:7003"), net.router.udp("10.0.0.1:7004"));
                assert_eq!(
                    exchange(&node, &router, "10.0.0.1:7004").unwrap().to_string(),
                    "10.0.1.20:7003",
                    "{others:?}"
                );
            };
            scope.spawn(alone).join().unwrap()
        });
    }
}

#[test]
fn what_the_distribution_takes_away_again_is_made_by_us() {
    let net = node_with(Others::Distribution, Way::Classic);
    let eni = on_card_1(Way::Classic);
    eni::setup(&eni).unwrap();
    net.node.ip("rule del priority 10100");
    net.node.ip("route del default table 10100");
    let written: Vec<_> = eni::setup(&eni).unwrap().ops.iter().map(ToString::to_string).collect();
    assert!(
        written.iter().any(|op| op.starts_with("ip rule add priority 32765 from 10.0.1.20 lookup 10100")),
        "{written:?}"
    );
    assert!(written.iter().any(|op| op.starts_with("ip route replace default via 10.0.1.1")), "{written:?}");
    let (node, router) = (net.node.udp("10.0.1.20:7003"), net.router.udp("10.0.0.1:7004"));
    exchange(&node, &router, "10.0.0.1:7004").unwrap();
}

#[test]
fn an_eni_that_has_come_from_card_0_leaves_nothing_in_its_old_table_s_name() {
    let net = Net::plumbed_by("0", Way::Classic);
    eni::setup(&on_card_1(Way::Classic)).unwrap();
    let rules = net.node.ip("rule list priority 32765");
    assert!(rules.contains("lookup 10100") && !rules.contains("lookup 2 "), "{rules}");
}
