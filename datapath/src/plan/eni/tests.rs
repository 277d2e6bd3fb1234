// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::plan::{answers, golden, marks};

fn eni(device_index: u32) -> EniSetup {
    EniSetup {
        mac: MacAddr([2, 0, 10, 0, 1, 20]),
        place: Place::new(0, device_index).unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 1, 20),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: 9001,
        steering: None,
        answers: answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, device_index).unwrap()),
        ipv6: false,
    }
}

/// Where node ports are not served.
fn silent(device_index: u32) -> EniSetup {
    EniSetup { answers: None, ..eni(device_index) }
}

/// Where they are.
fn answering(setup: EniSetup) -> EniSetup {
    EniSetup { answers: answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, setup.place), ..setup }
}

fn mark(mask: u32, device_index: u32) -> Option<Mark> {
    marks::of_eni(mask, Place::new(0, device_index).unwrap())
}

fn flat(prefixes: &[&str]) -> EniSetup {
    let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    EniSetup { steering: Some(Steering { mark: mark(ids::DEFAULT_ENI_MARK_MASK, 1), prefixes }), ..silent(1) }
}

#[test]
fn a_secondary_eni_of_both_families_prints_as_reviewed() {
    let eni = EniSetup { ipv6: true, answers: eni(1).answers, ..flat(&["10.0.1.32/28", "2600:1f13:0:1:a::/80"]) };
    let state = EniState { hears_routers: Some(LinkName::new("ens6").unwrap()), ..EniState::default() };
    golden::check("eni-secondary-dual.sh", &diff(&eni, &state).to_string());
}

#[test]
fn rules_of_one_family_say_nothing_of_the_other() {
    let dual = EniSetup { ipv6: true, ..flat(&[]) };
    let only_v4: Vec<_> = steering_state(&dual).into_iter().filter(|(rule, _)| rule.family == Family::V4).collect();
    let ops = diff(&dual, &with_rules(only_v4, true)).ops;
    assert_eq!(
        ops.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ip -6 route replace default via fe80:ec2::1 dev $LINK_02000a000114 table 2 proto 158",
            "ip -6 rule add priority 1536 from all fwmark 0x1/0x7f lookup 2 protocol 158",
        ]
    );
}

#[test]
fn a_secondary_eni_in_layout_flat_prints_as_reviewed() {
    golden::check("eni-secondary-flat.sh", &setup(&answering(flat(&["10.0.1.32/28", "10.0.1.64/28"]))).to_string());
}

/// A node whose ENI has these rules, and nothing else amiss.
fn with_rules(rules: Vec<(Rule, bool)>, has_flat_pods: bool) -> EniState {
    let mut state = EniState::default();
    apply(&mut state, &setup(&silent(1)));
    EniState { steering_rules: rules, has_flat_pods, ..state }
}

fn steering_state(eni: &EniSetup) -> Vec<(Rule, bool)> {
    eni.steering_rules().into_iter().map(|rule| (rule, true)).collect()
}

#[test]
fn the_rule_of_a_prefix_that_was_given_back_goes_and_no_other() {
    let before = with_rules(steering_state(&flat(&["10.0.1.32/28", "10.0.1.64/28"])), true);
    let ops = diff(&flat(&["10.0.1.64/28"]), &before).ops;
    assert_eq!(
        ops.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["ip rule del priority 1536 from 10.0.1.32/28 lookup 2 protocol 158"]
    );
}

#[test]
fn a_prefix_that_was_another_eni_s_leaves_that_eni_s_table() {
    let other = EniSetup { place: Place::new(0, 2).unwrap(), ..flat(&["10.0.1.32/28"]) };
    let mut rules = steering_state(&other);
    rules.remove(0);
    let ops = diff(&flat(&["10.0.1.32/28"]), &with_rules(rules, true)).ops;
    assert_eq!(
        ops.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ip rule add priority 1536 from all fwmark 0x1/0x7f lookup 2 protocol 158",
            "ip rule add priority 1536 from 10.0.1.32/28 lookup 2 protocol 158",
            "ip rule del priority 1536 from 10.0.1.32/28 lookup 3 protocol 158",
        ]
    );
}

#[test]
fn in_layout_classic_the_rules_of_flat_go_with_the_last_flat_pod() {
    let rules = steering_state(&flat(&["10.0.1.32/28"]));
    assert_eq!(diff(&silent(1), &with_rules(rules.clone(), true)), Plan::default());
    assert_eq!(diff(&silent(1), &with_rules(rules, false)).ops.len(), 2);
}

#[test]
fn rules_that_are_not_ours_are_neither_made_again_nor_taken_away() {
    let rules: Vec<_> = flat(&["10.0.1.32/28"]).steering_rules().into_iter().map(|rule| (rule, false)).collect();
    assert_eq!(diff(&flat(&["10.0.1.32/28"]), &with_rules(rules.clone(), false)), Plan::default());
    assert_eq!(diff(&silent(1), &with_rules(rules, false)), Plan::default());
}

#[test]
fn a_rule_by_a_mark_of_another_mask_stays_until_the_node_s_table_is_another() {
    let by_mask = |mask, index| {
        let steering = Steering { mark: mark(mask, index), prefixes: Vec::new() };
        EniSetup { steering: Some(steering), ..silent(1) }
    };
    let before = with_rules(steering_state(&by_mask(0xf00, 1)), true);
    let ops = diff(&by_mask(0x7f, 1), &before).ops;
    assert_eq!(ops, by_mask(0x7f, 1).steering_rules().into_iter().map(Op::RuleAdd).collect::<Vec<_>>());
    assert_eq!(diff(&by_mask(0x7f, 99), &before), Plan::default(), "it does not fit into the new one");
    let before = with_rules(steering_state(&by_mask(0x7f, 2)), true);
    assert_eq!(diff(&by_mask(0x7f, 1), &before).ops.len(), 2, "another's mark by the same mask goes");
}

#[test]
fn a_rule_of_answers_goes_with_node_ports_and_by_another_mask_after_the_node_s_table() {
    let by_mask = |mask| EniSetup { answers: answers::of_eni(mask, Place::new(0, 1).unwrap()), ..eni(1) };
    let with = |setup: &EniSetup| {
        let mut state = EniState::default();
        apply(&mut state, &super::setup(setup));
        state
    };
    let text = |plan: Plan| plan.ops.iter().map(ToString::to_string).collect::<Vec<_>>();
    let moved = text(diff(&by_mask(0x3f00), &with(&eni(1))));
    assert_eq!(moved, ["ip rule add priority 1025 from all fwmark 0x1800/0x3f00 lookup 2 protocol 158"]);
    let off = text(diff(&silent(1), &with(&eni(1))));
    assert_eq!(
        off,
        [
            "ip link set dev $LINK_02000a000114 group 0",
            "ip rule del priority 1025 from all fwmark 0x18/0x7f lookup 2 protocol 158"
        ]
    );
    let other = EniState { group: 5, ..with(&silent(1)) };
    assert_eq!(diff(&silent(1), &other), Plan::default(), "a group of somebody else's is left where none is needed");
}

#[test]
fn somebody_else_s_link_group_is_left_and_the_eni_has_no_answers_then() {
    let mut done = EniState::default();
    apply(&mut done, &super::setup(&eni(1)));
    assert!(
        !eni(1).is_in_foreign_group(&done) && !silent(1).is_in_foreign_group(&EniState { group: 7, ..done.clone() })
    );
    let in_group = |group| EniState { group, ..done.clone() };
    let text = |group| diff(&eni(1), &in_group(group)).ops.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(7), ["ip rule del priority 1025 from all fwmark 0x18/0x7f lookup 2 protocol 158"]);
    assert!(eni(1).is_in_foreign_group(&in_group(7)));
    let other_place = Place::new(0, 5).unwrap().link_group().unwrap();
    for group in [0, other_place] {
        assert_eq!(text(group), ["ip link set dev $LINK_02000a000114 group 58001"]);
    }
}

#[test]
fn a_pod_s_own_rule_is_no_rule_of_an_eni() {
    assert!(!is_steering(&Rule::from_pod(Ipv4Addr::new(10, 0, 1, 7), Some(RouteTable(2)))));
    assert!(flat(&["10.0.1.32/28"]).steering_rules().iter().all(is_of_eni));
}

#[test]
fn a_secondary_eni_prints_as_reviewed() {
    golden::check("eni-secondary.sh", &setup(&eni(1)).to_string());
}

/// An ENI on card 1.
fn on_card_1(device_index: u32) -> EniSetup {
    EniSetup { place: Place::new(1, device_index).unwrap(), answers: None, ..eni(1) }
}

#[test]
fn the_first_eni_of_another_card_prints_as_reviewed() {
    golden::check("eni-card-1.sh", &setup(&on_card_1(0)).to_string());
}

#[test]
fn an_eni_of_another_card_in_layout_flat_has_rules_for_its_prefixes_and_none_for_a_mark() {
    let place = Place::new(1, 2).unwrap();
    let steering = Steering { mark: marks::of_eni(u32::MAX, place), prefixes: vec!["10.0.1.32/28".parse().unwrap()] };
    let eni = EniSetup { steering: Some(steering), ..on_card_1(2) };
    golden::check("eni-card-1-flat.sh", &setup(&eni).to_string());
}

/// What is written of rules and routes when others have these rules, and the default route of the distribution is in the ENI's table.
fn beside(place: (u32, u32), rules: &[(u32, u32, u8)]) -> Vec<String> {
    let eni = EniSetup { place: Place::new(place.0, place.1).unwrap(), ..eni(1) };
    let rule = |(priority, table, protocol): &(u32, u32, u8)| {
        (Rule { priority: *priority, table: Some(RouteTable(*table)), ..eni.rule() }, *protocol)
    };
    let mut state = EniState::default();
    apply(&mut state, &setup(&eni));
    state.rules = rules.iter().map(rule).collect();
    state.routes.iter_mut().for_each(|route| route.protocol = 16);
    diff(&eni, &state).ops.iter().map(ToString::to_string).collect()
}

#[test]
fn on_other_cards_somebody_else_s_rule_to_the_eni_s_table_is_used_and_the_table_s_routes_stay_its_owner_s() {
    let nothing: [&str; 0] = [];
    assert_eq!(beside((1, 0), &[(10_100, 10_100, 4)]), nothing);
    assert_eq!(beside((1, 0), &[(9_000, 77, 4), (10_100, 10_100, 4)]), nothing, "one of several");
    assert_eq!(beside((1, 0), &[(32_765, 10_100, 4)]), nothing, "of our priority");
}

#[test]
fn on_other_cards_rules_of_others_to_other_tables_stay_and_ours_comes_behind_them() {
    let routes = [
        "ip route replace 10.0.1.1/32 dev $LINK_02000a000114 scope link table 10100 proto 158",
        "ip route replace default via 10.0.1.1 dev $LINK_02000a000114 table 10100 proto 158",
    ];
    let add = "ip rule add priority 32765 from 10.0.1.20 lookup 10100 protocol 158";
    let ours = [routes[0], routes[1], add];
    assert_eq!(beside((1, 0), &[]), ours, "none");
    assert_eq!(beside((1, 0), &[(10_001, 10_001, 4)]), ours, "one");
    assert_eq!(beside((1, 0), &[(9_000, 77, 4), (32_765, 78, 3)]), ours, "several");
    assert_eq!(beside((1, 0), &[(32_766, 10_100, 4)]), ours, "one that main comes before");
    assert_eq!(beside((1, 0), &[(10_100, 10_100, ids::PROTOCOL)]), ours, "ours is no rule of others");
}

#[test]
fn on_other_cards_our_rule_and_the_reference_s_to_another_table_go() {
    let of = |protocol| beside((1, 0), &[(10_100, 10_100, 4), (32_765, 10_101, protocol)]);
    assert_eq!(of(ids::PROTOCOL), ["ip rule del priority 32765 from 10.0.1.20 lookup 10101 protocol 158"]);
    assert_eq!(of(0), ["ip rule del priority 32765 from 10.0.1.20 lookup 10101"]);
}

#[test]
fn on_card_0_the_table_is_ours_whatever_rules_others_have() {
    let written = beside((0, 1), &[(10_001, 2, 4), (32_765, 7, 4)]);
    assert_eq!(written.len(), 4, "{written:?}");
    assert_eq!(
        written[2..],
        [
            "ip rule del priority 32765 from 10.0.1.20 lookup 7",
            "ip rule add priority 32765 from 10.0.1.20 lookup 2 protocol 158"
        ]
    );
}

#[test]
fn what_goes_with_an_eni_of_another_card_is_its_own_rule_or_the_reference_s() {
    let eni = on_card_1(0);
    let of = |rules: &[u8]| {
        let rules: Vec<_> = rules.iter().map(|protocol| (eni.rule(), *protocol)).collect();
        rule_removal(&eni, &rules).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let text = "ip rule del priority 32765 from 10.0.1.20 lookup 10100";
    assert_eq!(of(&[4, ids::PROTOCOL]), [format!("{text} protocol 158")]);
    assert_eq!(of(&[0]), [text]);
    assert_eq!(of(&[4]), [""; 0]);
}

#[test]
fn the_primary_eni_prints_as_reviewed() {
    golden::check("eni-primary.sh", &setup(&eni(0)).to_string());
}

#[test]
fn the_router_is_the_first_address_after_the_network_s() {
    assert_eq!(eni(1).gateway(), Ipv4Addr::new(10, 0, 1, 1));
    let high = EniSetup { subnet: "10.0.1.128/25".parse().unwrap(), ..eni(1) };
    assert_eq!(high.gateway(), Ipv4Addr::new(10, 0, 1, 129));
}

/// What a kernel does with the operations.
fn apply(state: &mut EniState, plan: &Plan) {
    for op in &plan.ops {
        match op {
            Op::LinkSet(set) => {
                state.up |= set.up;
                state.mtu = set.mtu.unwrap_or(state.mtu);
                state.group = set.group.unwrap_or(state.group);
                state.rp_filter = set.rp_filter.unwrap_or(state.rp_filter);
            }
            Op::AddressAdd(address) => state.addresses.push(address.clone()),
            Op::AddressDelete(address) => state.addresses.retain(|found| found != address),
            Op::RouteReplace(route) => {
                state.routes.retain(|found| found.destination != route.destination);
                state.routes.push(route.clone());
            }
            Op::RouteDelete(route) => state.kernel_routes.retain(|found| found != route),
            Op::RuleAdd(rule) if is_of_eni(rule) => state.steering_rules.push((rule.clone(), true)),
            Op::RuleAdd(rule) => state.rules.push((rule.clone(), ids::PROTOCOL)),
            Op::OwnRuleDelete(rule) => {
                state.steering_rules.retain(|found| *found != (rule.clone(), true));
                state.rules.retain(|found| *found != (rule.clone(), ids::PROTOCOL));
            }
            Op::RuleDelete(rule) => state.rules.retain(|(found, _)| found != rule),
            other => panic!("{other} is no operation of an ENI"),
        }
    }
}

fn any_group() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(7), (1u32..3).prop_map(|index| Place::new(0, index).unwrap().link_group().unwrap())]
}

fn any_state() -> impl Strategy<Value = EniState> {
    let address = (0u8..4, any::<bool>()).prop_map(|(host, without_prefix_route)| Address {
        address: Ipv4Net::new(Ipv4Addr::new(10, 0, 1, 18 + host), 24).unwrap().into(),
        link: LinkRef::Mac(eni(1).mac),
        without_prefix_route,
    });
    let route = (0u8..3, any::<bool>(), 0u8..2).prop_map(|(kind, ours, link)| {
        let [router, default] = &eni(1).routes()[..] else { unreachable!("two") };
        let (router, default) = (router.clone(), default.clone());
        let link = if link == 0 { LinkRef::Mac(eni(1).mac) } else { LinkRef::Index(9) };
        let protocol = if ours { ids::PROTOCOL } else { 3 };
        match kind {
            0 => Route { link, protocol, ..router },
            1 => Route { link, protocol, ..default },
            _ => Route { destination: "10.9.0.0/16".parse().unwrap(), link, protocol, ..router },
        }
    });
    let number = prop_oneof![1u32..4, Just(10_100), Just(10_101)];
    let priority = prop_oneof![Just(ids::PRIORITY_FROM_ENI), Just(10_100), Just(40_000)];
    let rule = (0u8..3, number, priority, prop_oneof![Just(ids::PROTOCOL), Just(0), Just(4)]);
    let rule = rule.prop_map(|(host, table, priority, protocol)| {
        let from = Some(IpAddr::from([10, 0, 1, 19 + host]).into());
        (Rule { from, table: Some(RouteTable(table)), priority, ..eni(1).rule() }, protocol)
    });
    let list = 0..4usize;
    (
        (any::<bool>(), prop_oneof![Just(1500u32), Just(9001)], 0u8..3, 0u8..3, any_group()),
        proptest::collection::vec(address, list.clone()),
        proptest::collection::vec(route, list.clone()),
        proptest::collection::vec(rule, list),
        any::<bool>(),
    )
        .prop_map(|((up, mtu, rp_filter, rp_filter_all, group), addresses, routes, rules, is_routed)| EniState {
            up,
            mtu,
            group,
            rp_filter,
            rp_filter_all,
            addresses,
            routes,
            kernel_routes: is_routed
                .then(|| Route {
                    destination: "10.0.1.0/24".parse().unwrap(),
                    protocol: 2,
                    ..eni(1).routes()[0].clone()
                })
                .into_iter()
                .collect(),
            rules,
            steering_rules: Vec::new(),
            hears_routers: None,
            has_flat_pods: false,
        })
}

proptest! {
    #[test]
    fn applying_the_difference_leaves_none(
        state in any_state(),
        (card, device_index) in (0u32..2, 0u32..3),
        held in proptest::collection::vec((0u8..4, 1u32..4, any::<bool>()), 0..5),
        wanted in proptest::option::of(proptest::collection::vec(0u8..4, 0..4)),
        (answering, held_answers) in (any::<bool>(), proptest::collection::vec((1u32..4, 1u32..4), 0..3)),
        has_flat_pods in any::<bool>(),
    ) {
        let prefix = |number: u8| IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, 0, 1, number * 16), 28).unwrap());
        let held = held.into_iter().map(|(number, table, is_ours)| {
            (Rule { from: Some(prefix(number)), table: Some(RouteTable(table)), priority: 1536, ..eni(1).rule() }, is_ours)
        });
        let held_answers = held_answers.into_iter().map(|(index, table)| {
            let mark = answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, index).unwrap());
            (Rule { priority: 1025, from: None, mark, table: Some(RouteTable(table)), ..eni(1).rule() }, true)
        });
        let mut state = EniState { steering_rules: held.chain(held_answers).collect(), has_flat_pods, ..state };
        let steering = wanted.map(|numbers| Steering {
            mark: mark(ids::DEFAULT_ENI_MARK_MASK, device_index),
            prefixes: numbers.into_iter().map(prefix).collect(),
        });
        let place = Place::new(card, device_index).unwrap();
        let answers = answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, place).filter(|_| answering);
        let eni = EniSetup { steering, answers, place, ..eni(1) };
        let (plan, before) = (diff(&eni, &state), state.group);
        let is_foreign = eni.is_in_foreign_group(&state);
        apply(&mut state, &plan);
        prop_assert!(diff(&eni, &state).is_empty(), "{}", diff(&eni, &state));
        prop_assert_eq!(state.rp_filter.max(state.rp_filter_all), 2);
        let answers: Vec<_> = state.steering_rules.iter().map(|(rule, _)| rule).filter(|rule| is_answer(rule)).collect();
        if device_index > 0 {
            let own: Vec<_> = answers.iter().filter(|rule| rule.table == Some(eni.table())).map(|rule| rule.mark).collect();
            let wanted = eni.answers.filter(|_| !is_foreign).into_iter().map(Some);
            prop_assert_eq!(own, wanted.collect::<Vec<_>>(), "one rule of its answers leads to it");
            prop_assert_eq!(ids::is_eni_link_group(state.group), answering && card == 0 && before != 7);
            prop_assert_eq!(state.group == 7, before == 7, "somebody else's stays");
        }
    }

    #[test]
    fn rules_of_other_addresses_are_never_touched(state in any_state()) {
        let plan = diff(&eni(1), &state);
        for op in plan.ops {
            if let Op::RuleDelete(rule) = op {
                prop_assert_eq!(rule.from, eni(1).rule().from);
            }
        }
    }

    #[test]
    fn on_other_cards_nobody_else_s_rule_is_removed(state in any_state(), device_index in 0u32..2) {
        let mut state = EniState { rules: state.rules, ..EniState::default() };
        state.rules.dedup_by(|(a, _), (b, _)| a == b);
        for op in diff(&on_card_1(device_index), &state).ops {
            if let Op::RuleDelete(rule) | Op::OwnRuleDelete(rule) = op {
                let protocols: Vec<_> =
                    state.rules.iter().filter(|(found, _)| *found == rule).map(|(_, protocol)| *protocol).collect();
                prop_assert!(protocols.iter().any(|protocol| [ids::PROTOCOL, 0].contains(protocol)), "{}", rule);
            }
        }
    }

    #[test]
    fn the_primary_eni_s_addresses_routes_and_rules_are_never_touched(state in any_state()) {
        let plan = diff(&eni(0), &state);
        prop_assert!(plan.ops.iter().all(|op| matches!(op, Op::LinkSet(_))), "{}", plan);
    }
}
