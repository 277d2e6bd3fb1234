// SPDX-License-Identifier: Apache-2.0
//! Traffic between pods and addresses of the VPC that nobody translates, left out of connection tracking: thousands of short
//! flows then take nothing of a table that is small and, once full, drops packets of everybody on the node (ENID_NOTRACK).
//!
//! | chain | hook, priority | does |
//! |---|---|---|
//! | `nat_seen` | filter prerouting, -190, behind conntrack (-200) | of a translated connection: its flow stays in `nat_flows` |
//! | `nat_answers` | filter postrouting, 300, behind all NAT | of one: the flow of the answer stays in `nat_flows` |
//! | `not_tracked` | filter prerouting, -290, before conntrack | from or to a pod, inside the VPC, not in `nat_flows`: notrack |
//!
//! # What must be tracked, and is
//!
//! Before conntrack the answer of a Service's pod looks like any packet between pods: were it not tracked, its source would not
//! be turned back. So flows of translated connections are kept, as `not_tracked` will see them, in both directions (each only if
//! both its ends are in the VPC and none is this node). Translated is a connection that netfilter has marked so (Services, node
//! ports, our host ports), one opened to an address outside the VPC (a Service's, of IPVS, which marks nothing), and one with the
//! mark of [`super::snat`] or [`super::answers`] (a node port, of IPVS). A flow is looked up in both directions: a second connection that would be
//! answered like a translated one is tracked, too, and conntrack keeps the two apart by the port.
//!
//! A flow stays as long as conntrack keeps its connection, asked at each packet, and at most until the next step: 40 s for what
//! is forgotten in 30 s (UDP), 130 s for 120 s (TCP as it opens and closes, UDP that goes on) and for a connection's first
//! packet, 610 s, 3,610 s (close-wait with kube-proxy) and 86,410 s (its established ones) for ten minutes, an hour and a day,
//! five days for the rest: a TCP connection that idles for days is turned back still (nf_conntrack_tcp_timeout_established is
//! five days). What outlives its connection, be it because a pod's connections are forgotten at its end, only causes tracking,
//! in both directions: no harm to who has the address next.
//!
//! `nat_flows` is bounded. When it is full, `nat_overflow` says so for the transport, for five days, as long as an unknown flow
//! may live, whatever packet it was: everything of that transport is tracked then, as without the option.
//!
//! Whoever makes the table anew first lets flows be remembered, then adds those of connections that are translated already, from
//! the kernel's list, and `not_tracked` last (`apply::nftables`). The same when the VPC's blocks change: to a new block there may
//! be connections with the node's address. A failure in between leaves everything tracked.
//!
//! Entries of plain connections are forgotten when the option, or the VPC's blocks with it, come or go (`apply::host`): a
//! connection goes on without its entry, and tracked again its packets would lie outside the windows that this one knows.
//!
//! # The rest
//!
//! The node's own connections are tracked: firewalls of nodes ask for states. Fragments: defragmentation (-400) is before all of
//! this as soon as anything asks for connections, and we do. ICMP is tracked; an error about an untracked flow belongs to no
//! connection, is `invalid` and would be dropped by kube-proxy, and path MTU discovery with it: `nat_seen` takes the state away
//! (about translated flows they are `related`, and translated). Other transports have no ports to know a flow by. IPv6 is not
//! concerned: all of it is tracked.
//!
//! # Limits
//!
//! NAT between addresses of the VPC is not seen: a Service's address, external address or load balancer's address that lies in a
//! block of the VPC (where the cluster's own API has such a one, or a name, the daemon does without:
//! `Config::everything_is_tracked_because`), an operator's own DNAT there (of the resolver, to a cache on the node) or SNAT there
//! (ip-masq-agent). Who asks for states sees `untracked`: network policies, and firewalls that drop what is forwarded unless it
//! is `RELATED,ESTABLISHED` (ufw, docker, firewalld). Amazon's network policy agent takes what conntrack does not list for ended;
//! where it is told of pods, the daemon does without, too.
//!
//! A node port with externalTrafficPolicy Local of IPVS, asked for by a pod of the same node, is not known as translated. An
//! untracked connection and one to a Service opened *later* from the same port, which leads to the same port of the same pod, are
//! alike on the wire, and nobody sees it; in the other order conntrack does.
//!
//! Sources: `net/netfilter/nft_dynset.c`, `nft_ct.c`, `nf_conntrack_core.c`, `nf_conntrack_proto.c` (errors), `nf_nat_core.c`.

use super::Family;
use super::answers;
use super::host::HostSetup;
use super::mss::VPC;
use super::nft::tracking::{Key, Memory, Tracking};
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, Statement, Transport, Within};

/// Name of the memory of translated flows.
pub const NAT_FLOWS: &str = "nat_flows";
/// Name of the memory of transports of which a translated flow found no room in the other.
pub const NAT_OVERFLOW: &str = "nat_overflow";
/// Name of the chain that needs the others' work done.
pub const NOT_TRACKED: &str = "not_tracked";
/// Seconds that a flow stays at most without a packet.
pub const LONGEST: u32 = 5 * 24 * 3600;
/// Most flows: four times the connections that a kernel with 8 GiB of memory tracks by default, and some 100 MB.
pub const MOST_FLOWS: u32 = 1 << 20;

/// Seconds that a flow stays, and within how many its connection is forgotten: a little longer than that, as packets take time.
const STEPS: [(u32, u32); 5] = [(40, 30), (130, 120), (610, 600), (3610, 3600), (86_410, 86_400)];

/// The memories, by name.
#[must_use]
pub fn memories(host: &HostSetup) -> Vec<Memory> {
    let memory = |name, key, size| Memory { name, key, size, cleared_every: 10 };
    let both = [memory(NAT_FLOWS, Key::Flow, MOST_FLOWS), memory(NAT_OVERFLOW, Key::Transport, 256)];
    both.into_iter().filter(|_| host.notrack).collect()
}

/// The chains; none without the option. The last one is to be added last.
#[must_use]
pub fn chains(host: &HostSetup) -> Vec<NftChain> {
    if host.notrack { vec![nat_seen(host), nat_answers(host), not_tracked(host)] } else { Vec::new() }
}

fn rule(purpose: &'static str, matches: impl Into<Vec<Match>>, statements: impl Into<Vec<Statement>>) -> NftRule {
    NftRule { purpose, matches: matches.into(), statements: statements.into() }
}

fn accept(purpose: &'static str, matches: impl Into<Vec<Match>>) -> NftRule {
    rule(purpose, matches, [Statement::Accept])
}

/// One end is outside the VPC: done.
fn only_inside() -> [NftRule; 2] {
    let outside = Within::Outside(VPC);
    [Match::Source(Family::V4, outside), Match::Destination(Family::V4, outside)]
        .map(|end| accept("only inside the VPC", [end]))
}

fn nat_seen(host: &HostSetup) -> NftChain {
    let inside = Within::Inside(VPC);
    let errors = rule(
        "errors about what is not tracked",
        [
            Match::Tracking(Tracking::Icmp),
            Match::Tracking(Tracking::Invalid),
            Match::Source(Family::V4, inside),
            Match::Destination(Family::V4, inside),
        ],
        [Statement::Untrack],
    );
    let rules = std::iter::once(errors).chain(remember(host, Key::Flow, Match::DestinationLocal(true)));
    NftChain {
        name: "nat_seen",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -190,
        rules: rules.collect(),
    }
}

fn nat_answers(host: &HostSetup) -> NftChain {
    NftChain {
        name: "nat_answers",
        kind: ChainType::Filter,
        hook: Hook::Postrouting,
        priority: 300,
        rules: remember(host, Key::FlowBack, Match::Tracking(Tracking::SourceLocal)),
    }
}

/// Keeps the flow `key` of what is translated. `to_node`: it is one that ends at this node.
fn remember(host: &HostSetup, key: Key, to_node: Match) -> Vec<NftRule> {
    let [not_nat, opened_inside] =
        [Tracking::NotTranslated, Tracking::OpenedTo(Within::Inside(VPC))].map(Match::Tracking);
    let unmarked = host.needs_mark().then_some(Match::Tracking(Tracking::NotMarked(host.connmark)));
    let plain: Vec<_> = [not_nat, opened_inside].into_iter().chain(unmarked).chain(answers::unmarked(host)).collect();
    let mut rules = vec![
        accept("not tracked", [Match::Tracking(Tracking::Untracked)]),
        accept("without ports", [Match::Tracking(Tracking::Icmp)]),
    ];
    rules.extend(only_inside());
    rules.push(accept("not translated", plain));
    rules.push(accept("the node's own", [to_node]));
    rules.extend(times().map(|(when, seconds)| {
        let statements = [Statement::Remember(NAT_FLOWS, key, seconds), Statement::Accept];
        rule("tracked on", [Match::Tracking(when)], statements)
    }));
    // An update sets the time anew: one that was shorter for the next packet would end what an older flow needs.
    rules.push(rule("no room", [], [Statement::Remember(NAT_OVERFLOW, Key::Transport, LONGEST)]));
    rules
}

/// How long a flow stays after a packet, by how long its connection does; the first that holds.
fn times() -> impl Iterator<Item = (Tracking, u32)> {
    // The connection's first packet, whose time is not set yet.
    let first = std::iter::once((Tracking::NotConfirmed, STEPS[1].0));
    let steps = STEPS.map(|(seconds, within)| (Tracking::ForgottenWithin(within), seconds));
    first.chain(steps).chain([(Tracking::ForgottenAfter(STEPS[STEPS.len() - 1].1), LONGEST)])
}

fn not_tracked(host: &HostSetup) -> NftChain {
    let remembered = |key, set| Match::Tracking(Tracking::Remembered(key, set));
    let mut rules = vec![accept("not all that is translated is known", [remembered(Key::Transport, NAT_OVERFLOW)])];
    rules.extend(only_inside());
    rules.extend([Key::Flow, Key::FlowBack].map(|key| accept("translated", [remembered(key, NAT_FLOWS)])));
    let untrack = [Statement::Counter, Statement::Untrack, Statement::Accept];
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp].map(Match::Transport) {
        let from = Match::InputPrefix(host.veth_prefix.clone());
        let to = Match::Tracking(Tracking::LeadsTo(host.veth_prefix.clone()));
        rules.push(rule("from pods", [transport.clone(), from, Match::DestinationLocal(false)], untrack.clone()));
        rules.push(rule("to pods", [transport, to], untrack.clone()));
    }
    NftChain { name: NOT_TRACKED, kind: ChainType::Filter, hook: Hook::Prerouting, priority: -290, rules }
}
