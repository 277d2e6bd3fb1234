// SPDX-License-Identifier: Apache-2.0
//! Rounds: in each, every callee is called once with so many ADDs at once, and then with the DELs of them.
//!
//! ```text
//! namespaces made ─ ADDs of A, B, C, D ─ DELs of A, B, C, D ─ namespaces dropped ─ the kernel has cleared them away ─ next round
//!                   └── timed: the processes alone ──────┘                        (settle)
//! ```
//!
//! Who is first, and who comes after whom, changes from round to round: what a callee leaves to the kernel for later (`ptp` a dead link,
//! `bridge` packets to all its ports) weighs on each of the others in its turn.

use std::error::Error;
use std::time::{Duration, Instant};

use super::super::burst::Burst;
use super::super::figures::Series;
use super::callee::{Callee, Verb, pods};
use super::settle::{of_nodes, settle};
use crate::world::World;

/// From this many on, the next round's ADDs could meet a pool whose addresses still cool.
const MANY: usize = 32;

/// How long a cell is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) at_once: usize,
    /// No further round begins after this time, if there were enough.
    pub(super) budget: Duration,
    pub(super) least: usize,
}

/// Calls of one kind of one callee.
#[derive(Debug, Default)]
pub(super) struct Kind {
    pub(super) rounds: Vec<Series>,
    /// By round the time until the last one had ended.
    pub(super) whole: Vec<Series>,
}

/// ADDs and DELs of one callee.
pub(super) type Times = [Kind; 2];

impl Kind {
    fn push(&mut self, burst: &Burst) {
        self.rounds.push(burst.took.clone().into());
        self.whole.push(vec![burst.whole].into());
    }
}

/// Measures; the times by callee.
pub(super) fn measure(world: &World, callees: &[Callee<'_>], plan: &Plan) -> Result<Vec<Times>, Box<dyn Error>> {
    let mut times: Vec<Times> = callees.iter().map(|_| Times::default()).collect();
    #[expect(clippy::disallowed_methods, reason = "keeps to a budget of time")]
    let (start, now) = (Instant::now(), Instant::now);
    let mut number = 0;
    while number < plan.least || now() - start < plan.budget {
        round(world, callees, plan.at_once, number, &mut times)?;
        number += 1;
    }
    Ok(times)
}

/// One round whose times are added; `number` says who is first.
fn round(
    world: &World,
    callees: &[Callee<'_>],
    at_once: usize,
    number: usize,
    times: &mut [Times],
) -> Result<(), Box<dyn Error>> {
    let links = of_nodes(callees)?;
    let pods = callees.iter().map(|_| pods(world, at_once)).collect::<Result<Vec<_>, _>>()?;
    if at_once >= MANY {
        callees.iter().try_for_each(|callee| callee.ready_for(at_once))?;
    }
    for (verb, kind) in Verb::BOTH.into_iter().zip(0..) {
        for at in order(callees.len(), number) {
            let ended = callees[at].call(verb, &pods[at])?;
            times[at][kind].push(&ended);
        }
    }
    drop(pods);
    settle(world, callees, &links)
}

/// One round that is not counted, one call of each: programs are read from the disk, what is made with the first pod (a bridge) is made.
pub(super) fn warm_up(world: &World, callees: &[Callee<'_>]) -> Result<(), Box<dyn Error>> {
    let pods = callees.iter().map(|_| pods(world, 1)).collect::<Result<Vec<_>, _>>()?;
    for verb in Verb::BOTH {
        for (callee, pods) in callees.iter().zip(&pods) {
            callee.call(verb, pods)?;
        }
    }
    Ok(())
}

/// Forwards in one round, backwards in the next; another one is first in the next two.
fn order(count: usize, number: usize) -> Vec<usize> {
    let turned = (0..count).map(|at| (at + number / 2) % count);
    if number.is_multiple_of(2) { turned.collect() } else { turned.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_called_once_a_round_and_each_is_first_as_often_as_the_others() {
        for count in [4, 5] {
            let rounds: Vec<_> = (0..count * 2).map(|number| order(count, number)).collect();
            for round in &rounds {
                let mut sorted = round.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            }
            for callee in 0..count {
                assert_eq!(rounds.iter().filter(|round| round[0] == callee).count(), 2);
                let mut before: Vec<_> = rounds
                    .iter()
                    .filter_map(|round| round.windows(2).find(|pair| pair[1] == callee).map(|pair| pair[0]))
                    .collect();
                before.sort_unstable();
                before.dedup();
                assert_eq!(before.len(), 2, "callee {callee} always comes after the same one");
            }
        }
    }
}
