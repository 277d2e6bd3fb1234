// SPDX-License-Identifier: Apache-2.0
//! What one decision costs on nodes of three sizes, the largest as large as they get: an m5.24xlarge with 1, 5 and 15 ENIs of 50 addresses,
//! 750 in all, of which 735 are for pods.
//!
//! Builds the node by events, as the daemon does, four fifths of it pods; then times the core alone: an ADD, a DEL, a tick with nothing
//! to do, the journal of the state, and the plan of another ENI on a full node (of 14 ENIs, not 15: there must be room for one), for an ADD
//! that waits. Prints a table of medians and 99th percentiles, which `make bench` reads. `make decision` runs it, optimised.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time and prints")]
#![expect(clippy::unwrap_used, reason = "constants of this program")]

mod node;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipamd_core::Event;
use ipamd_core::action::ActionKind;
use ipamd_core::ids::RequestId;
use node::{Node, PER_ENI, key, micros};

/// ENIs of the nodes.
const SIZES: [u8; 3] = [1, 5, 15];
/// More ENIs than this one does not have.
const MOST_THAT_GROW: u8 = 14;
const ROUNDS: usize = 5_000;
/// Each takes a node of its own.
const GROWTHS: usize = 50;

/// One measured decision.
struct Line {
    addresses: u32,
    pods: u32,
    what: &'static str,
    p50: f64,
    p99: f64,
}

/// Addresses, the ENIs' own among them.
fn addresses(enis: u8) -> u32 {
    u32::from(enis) * (u32::from(PER_ENI) + 1)
}

/// A pod gives its address back.
fn del(node: &mut Node, number: u64) -> Duration {
    node.feed(Event::DelRequested { request: RequestId(u64::MAX - number), key: key(number) }).0
}

fn steady(enis: u8) -> Vec<Line> {
    let in_use = addresses(enis) * 4 / 5;
    let mut node = Node::with_enis(enis);
    let mut pods: VecDeque<u64> = (0..in_use).map(|_| node.add().1).collect();
    let (mut adds, mut dels, mut ticks, mut journals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Slow enough that addresses come back from their cooldown, of which the smallest node has few free ones.
        node.now += Duration::from_millis(200);
        let (took, number) = node.add();
        pods.push_back(number);
        adds.push(took);
        dels.push(del(&mut node, pods.pop_front().unwrap()));
        ticks.push(node.feed(Event::Tick).0);
        let started = Instant::now();
        let journal = node.core.checkpoint();
        journals.push(started.elapsed());
        assert!(!journal.own_json.is_empty());
    }
    let line = |what, mut times: Vec<Duration>| {
        let [p50, p99] = [50, 99].map(|share| micros(&mut times, share));
        Line { addresses: addresses(enis), pods: in_use, what, p50, p99 }
    };
    vec![
        line("ADD: an address is chosen, the pool looked at", adds),
        line("DEL: it rests, the pool looked at", dels),
        line("tick: nothing to do", ticks),
        line("the journal of it all, both files", journals),
    ]
}

fn growth(enis: u8) -> Line {
    let enis = enis.min(MOST_THAT_GROW);
    let pods = u32::from(enis) * u32::from(PER_ENI);
    let grow = |_| {
        let mut node = Node::with_enis(enis);
        node.add_all(pods);
        let (event, _) = node.next_add();
        let (_, waits) = node.step(event);
        assert!(waits.replies.is_empty(), "a full node has answered: {:?}", waits.replies);
        // Those that ask at the same time are waited for first.
        node.now = node.core.next_deadline().map_or(node.now, |due| due.0);
        let (took, effects) = node.step(Event::Tick);
        let is_growth = |kind: &ActionKind| matches!(kind, ActionKind::CreateEni { .. });
        assert!(effects.actions.iter().any(|action| is_growth(&action.kind)), "no ENI is asked for: {effects:?}");
        took
    };
    let mut times: Vec<Duration> = (0..GROWTHS).map(grow).collect();
    let [p50, p99] = [50, 99].map(|share| micros(&mut times, share));
    let what = "growth: an ADD waits on a full node, an ENI is planned";
    Line { addresses: addresses(enis), pods, what, p50, p99 }
}

fn main() {
    println!("| addresses | in use | decision | p50, us | p99, us |\n|---|---|---|---|---|");
    for enis in SIZES {
        for Line { addresses, pods, what, p50, p99 } in steady(enis).into_iter().chain([growth(enis)]) {
            println!("| {addresses} | {pods} | {what} | {p50:.1} | {p99:.1} |");
        }
    }
}
