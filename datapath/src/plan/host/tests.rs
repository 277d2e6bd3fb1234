// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::plan::golden;
use crate::plan::ids::Place;
use crate::plan::marks;
use crate::plan::nft::NftSet;

fn host() -> HostSetup {
    HostSetup {
        primary_mac: MacAddr([2, 0, 10, 0, 0, 10]),
        primary_address: Ipv4Addr::new(10, 0, 0, 10),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "100.64.0.0/10".parse().unwrap()],
        exclude_cidrs: vec!["192.168.0.0/16".parse().unwrap()],
        include_cidrs: Vec::new(),
        external_service_cidrs: vec!["172.20.0.0/16".parse().unwrap()],
        external_snat: false,
        serves_node_ports: true,
        port_choice: PortChoice::Prng,
        port_range: None,
        connmark: ids::DEFAULT_CONNMARK,
        layout: Layout::Classic,
        eni_mark_mask: ids::DEFAULT_ENI_MARK_MASK,
        veth_prefix: "eni".to_owned(),
        mtu: 9001,
        external_mtu: None,
        families: Families::V4,
        disables_early_demux: false,
        notrack: false,
    }
}

/// A node that is as wanted.
fn settled(host: &HostSetup) -> HostState {
    let state_of = |table: &NftTable| {
        let blocks = table.sets.iter().map(|set| (set.name.to_owned(), Some(set.blocks.clone())));
        NftState {
            sets: blocks.chain(table.memories.iter().map(|memory| (memory.name.to_owned(), None))).collect(),
            chains: table
                .chains
                .iter()
                .rev()
                .map(NftChainState::of)
                .chain(table.branches.iter().map(NftChainState::of_branch))
                .collect(),
        }
    };
    let of_ipv6 = snat::table_of_ipv6(host);
    HostState {
        primary: EniState { up: true, mtu: host.mtu, rp_filter: 2, ..EniState::default() },
        ip_forward: true,
        early_demux_off: host.disables_early_demux,
        early_demux_found: None,
        rules: host.rules().into_iter().map(|rule| (rule, ids::PROTOCOL)).collect(),
        mark_rules: Vec::new(),
        has_flat_pods: false,
        ipv6: Ipv6State { forwards: true, nft: of_ipv6.as_ref().map(state_of), ..Ipv6State::default() },
        nft: Some(state_of(&snat::table(host))),
    }
}

#[test]
fn the_whole_set_up_prints_as_reviewed() {
    golden::check("host.sh", &setup(&host()).to_string());
}

#[test]
fn the_set_up_with_external_snat_prints_as_reviewed() {
    golden::check("host-external-snat.sh", &setup(&HostSetup { external_snat: true, ..host() }).to_string());
}

fn notrack() -> HostSetup {
    HostSetup { notrack: true, ..host() }
}

#[test]
fn a_transport_with_unknown_flows_is_tracked_as_long_as_any_may_live_whatever_packet_found_no_room() {
    use crate::plan::nft::Statement;
    use crate::plan::notrack::{LONGEST, NAT_OVERFLOW};
    let table = snat::table(&notrack());
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    let said = rules.filter_map(|rule| match rule.statements[..] {
        [Statement::Remember(NAT_OVERFLOW, _, seconds), ..] => Some((rule.matches.len(), seconds)),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), [(0, LONGEST), (0, LONGEST)], "one rule a direction");
}

#[test]
fn a_flow_outlives_its_connection_by_little() {
    use crate::plan::nft::Match;
    use crate::plan::nft::Statement;
    use crate::plan::nft::tracking::Tracking;
    use crate::plan::notrack::{LONGEST, NAT_FLOWS};
    let table = snat::table(&notrack());
    for chain in table.chains.iter().filter(|chain| ["nat_seen", "nat_answers"].contains(&chain.name)) {
        let steps = chain.rules.iter().filter_map(|rule| match (&rule.matches[..], &rule.statements[..]) {
            ([Match::Tracking(when)], [Statement::Remember(NAT_FLOWS, _, seconds), Statement::Accept]) => {
                Some((when.clone(), *seconds))
            }
            _ => None,
        });
        let (first, later, last) =
            (Tracking::NotConfirmed, Tracking::ForgottenWithin, Tracking::ForgottenAfter(86_400));
        let times = [(30, 40), (120, 130), (600, 610), (3600, 3610), (86_400, 86_410)];
        let times = times.map(|(within, seconds)| (later(within), seconds));
        let wanted: Vec<_> = [(first, 130)].into_iter().chain(times).chain([(last, LONGEST)]).collect();
        assert_eq!(steps.collect::<Vec<_>>(), wanted, "{}", chain.name);
    }
}

#[test]
fn the_set_up_that_leaves_plain_traffic_untracked_prints_as_reviewed() {
    golden::check("host-notrack.sh", &setup(&notrack()).to_string());
}

#[test]
fn what_rules_remember_is_no_difference_and_a_new_block_makes_the_table_anew() {
    assert_eq!(diff(&notrack(), &settled(&notrack())).ops, []);
    assert_eq!(diff(&notrack(), &settled(&host())).ops, [Op::NftReplace(snat::table(&notrack()))]);
    assert_eq!(diff(&host(), &settled(&notrack())).ops, [Op::NftReplace(snat::table(&host()))]);
    // Connections to what is a block of the VPC now may have the node's address: they must be known before any is left untracked.
    let mut more = notrack();
    more.vpc_cidrs.push("10.9.0.0/16".parse().unwrap());
    assert_eq!(diff(&more, &settled(&notrack())).ops, [Op::NftReplace(snat::table(&more))]);
    // A set by the name of a memory is none.
    let mut state = settled(&notrack());
    for (name, blocks) in &mut state.nft.as_mut().unwrap().sets {
        *blocks = (name != snat::TRANSLATED).then(Vec::new);
    }
    assert_eq!(diff(&notrack(), &state).ops, [Op::NftReplace(snat::table(&notrack()))]);
}

#[test]
fn without_a_mark_of_ours_none_is_asked_for() {
    let bare = HostSetup { external_snat: true, serves_node_ports: false, ..notrack() };
    let text = snat::table(&bare).to_string();
    assert!(text.contains("ct status ! snat,dnat") && !text.contains("ct mark"), "{text}");
}

fn flat() -> HostSetup {
    HostSetup { layout: Layout::Flat, ..host() }
}

#[test]
fn the_set_up_of_layout_flat_prints_as_reviewed() {
    golden::check("host-flat.sh", &setup(&HostSetup { external_snat: true, ..flat() }).to_string());
}

#[test]
fn what_flat_needs_comes_with_the_layout_and_goes_when_the_last_pod_has_left_it() {
    let to_flat = diff(&flat(), &settled(&host())).ops;
    assert_eq!(to_flat, [Op::RuleAdd(HostSetup::pod_rule(Family::V4)), Op::NftReplace(snat::table(&flat()))]);
    let pods_left = HostState { has_flat_pods: true, ..settled(&flat()) };
    assert_eq!(diff(&host(), &pods_left), Plan::default());
    let to_classic = diff(&host(), &settled(&flat())).ops;
    assert_eq!(to_classic, [Op::NftReplace(snat::table(&host())), Op::OwnRuleDelete(HostSetup::pod_rule(Family::V4))]);
}

/// The rules of the marks of the first three ENIs by a mask.
fn mark_rules(mask: u32) -> Vec<(Rule, u8)> {
    let rule = |index| {
        let (mark, table) = (marks::of_eni(mask, Place::new(0, index).unwrap()), Some(RouteTable(index + 1)));
        (Rule { priority: ids::PRIORITY_FROM_POD, mark, table, ..HostSetup::pod_rule(Family::V4) }, ids::PROTOCOL)
    };
    [1, 2, 3].map(rule).into_iter().filter(|(rule, _)| rule.mark.is_some()).collect()
}

#[test]
fn another_mask_comes_rule_by_rule_before_the_table_and_the_old_one_goes_after_it() {
    let moved = HostSetup { eni_mark_mask: 0xf00, connmark: Mark { value: 0x10, mask: 0x10 }, ..flat() };
    let before = HostState { mark_rules: mark_rules(0x7f), ..settled(&flat()) };
    golden::check("host-moved-marks.sh", &diff(&moved, &before).to_string());
    // What a start finds that was cut off: the new rules, and either table.
    let mark_rules = [mark_rules(0x7f), mark_rules(0xf00)].concat();
    let cut = HostState { mark_rules: mark_rules.clone(), ..settled(&moved) };
    let ops = diff(&moved, &cut).ops;
    assert!(ops.len() == 3 && ops.iter().all(|op| matches!(op, Op::OwnRuleDelete(_))), "{ops:?}");
    let cut = HostState { mark_rules, ..settled(&flat()) };
    let ops = diff(&moved, &cut).ops;
    assert!(matches!(&ops[..2], [Op::RuleAdd(_), Op::NftReplace(_)]) && ops.len() == 6, "{ops:?}");
}

#[test]
fn rules_of_answers_move_with_the_mask_in_either_layout_and_go_without_node_ports() {
    let rule = |mask| {
        let mark = answers::of_eni(mask, Place::new(0, 2).unwrap());
        (
            Rule {
                priority: ids::PRIORITY_ANSWER,
                mark,
                table: Some(RouteTable(3)),
                ..HostSetup::pod_rule(Family::V4)
            },
            ids::PROTOCOL,
        )
    };
    for host in [host(), flat()] {
        let before = HostState { mark_rules: vec![rule(0x7f)], ..settled(&host) };
        assert_eq!(diff(&host, &before), Plan::default());
        let moved = HostSetup { eni_mark_mask: 0x3f00, ..host.clone() };
        let ops = diff(&moved, &before).ops;
        let old = Op::OwnRuleDelete(rule(0x7f).0);
        assert_eq!(ops, [Op::RuleAdd(rule(0x3f00).0), Op::NftReplace(snat::table(&moved)), old.clone()]);
        let silent = HostSetup { serves_node_ports: false, ..moved };
        assert_eq!(diff(&silent, &before).ops, [Op::NftReplace(snat::table(&silent)), old]);
    }
}

#[test]
fn a_connection_mark_that_is_some_eni_s_mark_so_far_waits_for_the_table() {
    let moved = HostSetup { eni_mark_mask: 0xfc, connmark: Mark { value: 2, mask: 2 }, ..flat() };
    let ops = diff(&moved, &HostState { mark_rules: mark_rules(0x7f), ..settled(&flat()) }).ops;
    let place = |wanted: &dyn Fn(&Op) -> bool| ops.iter().position(wanted).unwrap();
    let table = place(&|op| matches!(op, Op::NftReplace(_)));
    assert_eq!(place(&|op| matches!(op, Op::RuleAdd(rule) if rule.priority == ids::PRIORITY_MARK)), table + 1);
}

#[test]
fn a_connection_mark_that_takes_the_new_marks_of_enis_goes_before_the_table() {
    // 0x80 is the old connections' mark, and a bit of the eighth ENI's by the new mask.
    let moved = HostSetup { eni_mark_mask: 0xf0, connmark: Mark { value: 8, mask: 8 }, ..flat() };
    let ops = diff(&moved, &HostState { mark_rules: mark_rules(0x7f), ..settled(&flat()) }).ops;
    let place = |wanted: &dyn Fn(&Op) -> bool| ops.iter().position(wanted).unwrap();
    let table = place(&|op| matches!(op, Op::NftReplace(_)));
    assert!(place(&|op| matches!(op, Op::OwnRuleDelete(rule) if rule.priority == ids::PRIORITY_MARK)) < table);
    assert!(place(&|op| matches!(op, Op::OwnRuleDelete(rule) if rule.priority == ids::PRIORITY_FROM_POD)) > table);
}

#[test]
fn rules_of_marks_that_are_right_others_or_of_no_eni_are_not_moved() {
    let foreign: Vec<_> = mark_rules(0xf0).into_iter().map(|(rule, _)| (rule, 0)).collect();
    for mark_rules in [mark_rules(ids::DEFAULT_ENI_MARK_MASK), foreign] {
        assert_eq!(diff(&flat(), &HostState { mark_rules, ..settled(&flat()) }), Plan::default());
    }
    // The third ENI does not fit; without a flat pod none is needed.
    let narrow = HostSetup { eni_mark_mask: 0x300, ..flat() };
    let before = HostState { mark_rules: mark_rules(0x7000), ..settled(&narrow) };
    assert_eq!(diff(&narrow, &before).ops.len(), 3 + 3);
    let narrower = HostSetup { eni_mark_mask: 0x100, ..flat() };
    let before = HostState { mark_rules: mark_rules(0x7000), ..settled(&narrower) };
    assert_eq!(diff(&narrower, &before).ops.len(), 1 + 3);
    let classic = HostState { mark_rules: mark_rules(0x7000), ..settled(&host()) };
    assert!(diff(&host(), &classic).ops.iter().all(|op| matches!(op, Op::OwnRuleDelete(_))));
}

#[test]
fn the_set_up_with_chosen_blocks_and_ports_prints_as_reviewed() {
    let host = HostSetup {
        include_cidrs: vec!["198.51.100.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
        port_range: Some(PortRange { first: 10_000, last: 19_999 }),
        serves_node_ports: false,
        port_choice: PortChoice::HashRandom,
        external_mtu: Some(1500),
        disables_early_demux: true,
        ..host()
    };
    golden::check("host-chosen.sh", &setup(&host).to_string());
}

const FAMILIES: [Families; 5] =
    [Families::V4, Families::V4AndEgress, Families::V6, Families::V6AndEgress, Families::Both];

#[test]
fn the_set_up_of_each_mix_of_families_prints_as_reviewed() {
    let name = |families: &Families| format!("{families:?}").to_lowercase();
    // What it has beside a node of IPv4, whose set-up is shown elsewhere.
    let of_ipv4 = setup(&flat()).ops;
    for families in FAMILIES.into_iter().skip(1) {
        let link = Some(LinkName::new("ens5").unwrap());
        let ipv6 = Ipv6State { hears_routers_as_host: link, ..Ipv6State::default() };
        let mut plan = diff(&HostSetup { families, ..flat() }, &HostState { ipv6, ..HostState::default() });
        plan.ops.retain(|op| !of_ipv4.contains(op));
        golden::check(&format!("host-{}.sh", name(&families)), &plan.to_string());
    }
}

#[test]
fn a_link_on_which_the_kernel_hears_no_router_is_left_so() {
    let plan = setup(&HostSetup { families: Families::V4AndEgress, ..host() }).to_string();
    assert!(plan.contains("net.ipv6.conf.all.forwarding") && !plan.contains("accept_ra"), "{plan}");
}

#[test]
fn ipv6_stays_as_it_is_while_a_pod_has_it_and_goes_with_the_last() {
    let with = HostSetup { families: Families::V4AndEgress, ..flat() };
    let mut state = settled(&with);
    state.ipv6.has_pods = true;
    assert_eq!(diff(&flat(), &state), Plan::default());
    let bare = HostState { ipv6: Ipv6State { has_pods: true, ..Ipv6State::default() }, ..settled(&flat()) };
    let again = diff(&flat(), &bare).ops;
    let of_ipv6 = snat::table_of_ipv6(&with).unwrap();
    assert!(again.contains(&Op::NftReplace(of_ipv6)) && again.contains(&Setting::Ipv6Forwarding.to(1)), "{again:?}");
    assert!(
        again.contains(&Op::RuleAdd(HostSetup::pod_rule(Family::V6))),
        "what others take away comes back: {again:?}"
    );
    state.ipv6.has_pods = false;
    let gone = [Op::NftDelete(Family::V6, ids::NFT_TABLE), Op::OwnRuleDelete(HostSetup::pod_rule(Family::V6))];
    assert_eq!(diff(&flat(), &state).ops, gone);
    assert_eq!(diff(&flat(), &settled(&flat())), Plan::default(), "and of IPv6 nothing is written");
}

/// All mixes of what switches parts of the table on and off.
fn mixes() -> impl Iterator<Item = HostSetup> {
    FAMILIES.into_iter().flat_map(mixes_of)
}

fn mixes_of(families: Families) -> impl Iterator<Item = HostSetup> {
    (0..32).map(move |bits| HostSetup {
        families,
        layout: if bits & 8 == 0 { Layout::Classic } else { Layout::Flat },
        external_snat: bits & 1 != 0,
        serves_node_ports: bits & 2 != 0,
        port_range: (bits & 4 != 0).then_some(PortRange { first: 1024, last: 65535 }),
        external_mtu: (bits & 16 != 0).then_some(1500),
        disables_early_demux: bits & 16 != 0,
        ..host()
    })
}

#[test]
fn nothing_is_written_when_all_is_as_wanted() {
    for host in mixes() {
        assert_eq!(diff(&host, &settled(&host)), Plan::default());
    }
}

#[test]
fn whatever_the_node_was_set_up_for_one_diff_leads_to_what_is_wanted_now() {
    // Every third, which meets each switch on and off with each mix of families.
    for before in mixes().step_by(3) {
        for host in mixes() {
            let ops = diff(&host, &settled(&before)).ops;
            let mark_rule = |op: &Op| {
                let is_mark = |rule: &Rule| (rule.family, rule.priority) == (Family::V4, ids::PRIORITY_MARK);
                matches!(op, Op::OwnRuleDelete(rule) if is_mark(rule))
            };
            assert_eq!(ops.iter().any(mark_rule), before.needs_mark() && !host.needs_mark(), "{before:?} {host:?}");
            let replaced = ops.contains(&Op::NftReplace(snat::table(&host)));
            assert_eq!(replaced, snat::table(&host) != snat::table(&before), "{before:?} {host:?}");
            let of_ipv6 = snat::table_of_ipv6(&host);
            let replaced = of_ipv6.clone().is_some_and(|table| ops.contains(&Op::NftReplace(table)));
            let deleted = ops.contains(&Op::NftDelete(Family::V6, ids::NFT_TABLE));
            assert_eq!(replaced || deleted, of_ipv6 != snat::table_of_ipv6(&before), "{before:?} {host:?}");
        }
    }
}

#[test]
fn early_demux_is_written_when_it_must_be_off_or_when_it_is_we_who_switched_it_off() {
    let off = HostSetup { disables_early_demux: true, ..host() };
    let state =
        |early_demux_off, early_demux_found| HostState { early_demux_off, early_demux_found, ..settled(&host()) };
    let write = |value| vec![Setting::TcpEarlyDemux.to(value)];
    for (setup, state, ops) in [
        (&off, state(false, None), write(0)),
        (&off, state(false, Some(1)), write(0)),
        (&off, state(true, Some(1)), Vec::new()),
        (&host(), state(true, None), Vec::new()),
        (&host(), state(true, Some(1)), write(1)),
        (&host(), state(false, Some(1)), Vec::new()),
    ] {
        assert_eq!(diff(setup, &state).ops, ops, "{state:?}");
    }
}

#[test]
fn a_changed_block_replaces_the_elements_of_its_set_and_nothing_else() {
    let more = || vec!["198.51.100.0/24".parse().unwrap()];
    let cases: [(HostSetup, &str); 3] = [
        (HostSetup { vpc_cidrs: more(), ..host() }, snat::NOT_TRANSLATED),
        (HostSetup { exclude_cidrs: more(), ..host() }, snat::NOT_TRANSLATED),
        (HostSetup { include_cidrs: more(), ..host() }, snat::TRANSLATED),
    ];
    for (changed, set) in cases {
        let mut wanted = snat::table(&changed);
        wanted.chains.clear();
        wanted.branches.clear();
        wanted.sets.retain(|found| found.name == set);
        assert_eq!(diff(&changed, &settled(&host())).ops, [Op::NftSetReplace(wanted)]);
    }
}

#[test]
fn rules_of_external_services_follow_the_list_and_others_with_a_protocol_stay() {
    let rule = |block: &str| Rule {
        family: Family::V4,
        priority: ids::PRIORITY_EXTERNAL_SERVICE,
        from: None,
        to: Some(block.parse().unwrap()),
        mark: None,
        table: Some(RouteTable::MAIN),
    };
    let (wanted, ours, theirs, own) =
        (rule("172.20.0.0/16"), rule("10.9.0.0/16"), rule("10.8.0.0/16"), rule("10.7.0.0/16"));
    let other_table = Rule { table: Some(RouteTable(7)), ..theirs.clone() };
    let mut state = settled(&host());
    state.rules.retain(|(rule, _)| rule.priority == ids::PRIORITY_MARK);
    // The reference names no protocol; RTPROT_STATIC is 4.
    let found = [(&ours, ids::PROTOCOL), (&theirs, 0), (&own, 4), (&other_table, 0)];
    state.rules.extend(found.map(|(rule, protocol)| (rule.clone(), protocol)));
    let ops = [Op::RuleAdd(wanted), Op::OwnRuleDelete(ours), Op::RuleDelete(theirs.clone())];
    assert_eq!(diff(&host(), &state).ops, ops);
    // One that is wanted is as good as ours.
    let wanting = HostSetup { external_service_cidrs: vec!["10.8.0.0/16".parse().unwrap()], ..host() };
    assert!(!diff(&wanting, &state).ops.contains(&Op::RuleDelete(theirs)));
}

#[test]
fn a_changed_rule_replaces_the_table() {
    let cases: [fn(&mut HostSetup); 8] = [
        |host| host.layout = Layout::Flat,
        |host| host.port_choice = PortChoice::None,
        |host| host.primary_address = Ipv4Addr::new(10, 0, 0, 11),
        |host| host.veth_prefix = "pod".to_owned(),
        |host| host.connmark = Mark { value: 0x100, mask: 0x100 },
        |host| host.external_snat = true,
        |host| host.serves_node_ports = false,
        |host| host.port_range = Some(PortRange { first: 1024, last: 2047 }),
    ];
    for change in cases {
        let mut changed = host();
        change(&mut changed);
        let ops = diff(&changed, &settled(&host())).ops;
        assert!(ops.contains(&Op::NftReplace(snat::table(&changed))), "{changed:?}: {ops:?}");
    }
}

#[test]
fn a_damaged_table_is_replaced() {
    let damages: [fn(&mut NftState); 5] = [
        |nft| nft.chains[0].comments.clear(),
        |nft| nft.chains[0].comments.push(String::new()),
        |nft| nft.chains[1].hook = "filter hook 0 priority -150 policy 0".to_owned(),
        |nft| drop(nft.chains.pop()),
        |nft| nft.sets.push(("another".to_owned(), None)),
    ];
    for damage in damages {
        let mut state = settled(&host());
        damage(state.nft.as_mut().unwrap());
        assert_eq!(diff(&host(), &state).ops, [Op::NftReplace(snat::table(&host()))]);
    }
}

#[test]
fn overlapping_and_unaligned_blocks_become_disjoint_ones() {
    let blocks = ["10.0.1.7/16", "10.0.128.0/17", "10.1.0.0/16", "192.168.1.0/24"].map(|block| block.parse().unwrap());
    let wanted = ["10.0.0.0/15", "192.168.1.0/24"].map(|block| block.parse().unwrap());
    assert_eq!(NftSet::new("s", Family::V4, blocks).blocks, wanted);
}

#[test]
fn the_mark_rule_holds_our_bits_only() {
    let host = HostSetup { connmark: Mark { value: 0xff, mask: 0x80 }, ..host() };
    assert_eq!(host.rules()[0].to_string(), "priority 1024 from all fwmark 0x80/0x80 lookup main");
}
