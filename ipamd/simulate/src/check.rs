// SPDX-License-Identifier: Apache-2.0
//! The invariants, held against what really is: the VPC, the kernels, and what the plugin was told. Not one of them looks
//! into the allocator.
//!
//! | invariant | what breaks it |
//! |---|---|
//! | [`Invariant::OneOwner`] | an ADD is given an address that another living sandbox has |
//! | [`Invariant::OneAddress`] | a sandbox is given a second address |
//! | [`Invariant::InUse`] | a call to EC2 takes away an address that a living sandbox has |
//! | [`Invariant::Cooling`] | an address is given out, or back to EC2, before its cooldown is over |
//! | [`Invariant::Unflushed`] | an address is given out of whose last user, here or elsewhere, the kernel may still know |
//! | [`Invariant::Limits`] | more ENIs or addresses are asked for than fit, calls under way counted |
//! | [`Invariant::AskedTwice`] | more is asked for than is missing, calls under way counted |
//! | [`Invariant::Blindly`] | an assign by count is repeated before a read told what became of the last one |
//! | [`Invariant::Order`] | a waiter is served before one that came earlier |
//! | [`Invariant::Deadline`] | an ADD is answered late, twice, or not at all |
//! | [`Invariant::InVain`] | an ADD is refused for want of addresses although EC2 would have given some |
//! | [`Invariant::Proven`] | an address is given out whose ENI is not attached and set up, or that EC2 does not have there |
//! | [`Invariant::Storm`] | more EC2 calls than pods, faults and restarts can explain |
//! | [`Invariant::Endless`] | a thousand turns without time passing, or a deadline that has come already |
//! | [`Invariant::Target`] | left in peace, the pool is not at its target although it could be |
//! | [`Invariant::Leak`] | left in peace, EC2 holds something for the node that the node does not know |
//! | [`Invariant::Journal`] | what is read back from disk is not what was |
//!
//! What somebody else took away ([`Checker::taken_away`]) is nobody's fault: those addresses are not looked at any more.

mod growth;
mod ledger;

use std::fmt;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::action::Allocated;
use ipamd_core::config::WarmTargets;
use ipamd_core::event::Failure;
use ipamd_core::ids::{AllocationKey, RequestId};
use ipamd_core::reason::Refusal;
use vpc_model::{EniId, Vpc};

use crate::client::Ec2Call;
use crate::kernel::Kernel;
use crate::world::NodeId;
use ledger::Ledger;

/// Turns of one daemon that may come without time passing.
const MOST_TURNS: u32 = 1_000;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table of the module is their documentation")]
pub enum Invariant {
    OneOwner,
    OneAddress,
    InUse,
    Cooling,
    Unflushed,
    Limits,
    AskedTwice,
    Blindly,
    Order,
    Deadline,
    InVain,
    Proven,
    Storm,
    Endless,
    Target,
    Leak,
    Journal,
}

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When.
    pub at: BootTime,
    /// On which node.
    pub node: NodeId,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} s on n{}: {}", self.invariant, self.at.0.as_secs_f64(), self.node.0, self.text)
    }
}

/// What an allocator is held to besides: its limits and targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// ENIs it may have.
    pub max_enis: u32,
    /// Slots of an ENI besides the primary address.
    pub per_eni: u32,
    /// What it is to keep free.
    pub warm: WarmTargets,
    /// Whether slots are filled with /28 prefixes where they can be.
    pub prefixes: bool,
    /// Addresses at which it stops keeping any free.
    pub max_pods: Option<u32>,
}

/// The invariants and what they are held against.
#[derive(Debug, Default)]
pub struct Checker {
    now: BootTime,
    nodes: Vec<Ledger>,
    violation: Option<Violation>,
    /// Nothing is checked: the run is for its figures.
    looks_away: bool,
}

impl Checker {
    /// Checks nothing from now on: for figures, and for strategies that keep other rules than ours.
    pub(crate) fn look_away(&mut self) {
        self.looks_away = true;
    }

    pub(crate) fn add_node(&mut self, cooldown: Duration) {
        self.nodes.push(Ledger::new(cooldown));
    }

    /// Holds a node to these as well.
    pub fn hold_to(&mut self, id: NodeId, rules: Rules) {
        self.nodes[id.0].rules = Some(rules);
    }

    /// The first invariant that was broken.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Says that an invariant is broken; only the first one counts.
    pub fn fail(&mut self, invariant: Invariant, node: NodeId, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, at: self.now, node, text: text() });
        }
    }

    fn judge(&mut self, node: NodeId, verdict: Result<(), (Invariant, String)>) {
        if let Err((invariant, text)) = verdict {
            self.fail(invariant, node, || text);
        }
    }

    /// Addresses of living sandboxes by the plugin's knowledge, by key.
    pub fn owners(&self, id: NodeId) -> impl Iterator<Item = (&AllocationKey, std::net::Ipv4Addr)> {
        self.nodes[id.0].owners.iter().map(|(key, address)| (key, *address))
    }

    /// Addresses that rest, and until when.
    pub fn resting(&self, id: NodeId) -> impl Iterator<Item = (std::net::Ipv4Addr, BootTime)> {
        let now = self.now;
        self.nodes[id.0].rests.iter().map(|(address, until)| (*address, *until)).filter(move |(_, until)| now < *until)
    }

    /// Whether somebody took this address away.
    #[must_use]
    pub fn is_bereft(&self, id: NodeId, address: std::net::Ipv4Addr) -> bool {
        self.nodes[id.0].bereft.contains(&address)
    }

    /// Whether somebody took this ENI away.
    #[must_use]
    pub fn was_taken(&self, id: NodeId, eni: &ipamd_core::ids::EniId) -> bool {
        self.nodes[id.0].taken.contains(&EniId::from(eni.as_str()))
    }

    pub(crate) fn time_is(&mut self, now: BootTime) {
        if self.looks_away {
            return;
        }
        let moved = now > self.now;
        self.now = now;
        for index in 0..self.nodes.len() {
            let ledger = &mut self.nodes[index];
            if moved {
                ledger.turns_now = 0;
            }
            if ledger.first_deadline.is_some_and(|deadline| now > deadline) {
                let text = "an ADD was not answered by its deadline".to_owned();
                self.fail(Invariant::Deadline, NodeId(index), || text);
            }
        }
    }

    pub(crate) fn fed(&mut self, id: NodeId) {
        if self.looks_away {
            return;
        }
        let ledger = &mut self.nodes[id.0];
        ledger.turns_now += 1;
        if ledger.turns_now > MOST_TURNS {
            self.fail(Invariant::Endless, id, || format!("{MOST_TURNS} turns without time passing"));
        }
    }

    pub(crate) fn deadline_is(&mut self, id: NodeId, due: BootTime, now: BootTime) {
        if self.looks_away {
            return;
        }
        if due <= now {
            self.fail(Invariant::Endless, id, || format!("it wants to be woken at {:?}, which has passed", due.0));
        }
    }

    pub(crate) fn started(&mut self, id: NodeId) {
        let now = self.now;
        self.nodes[id.0].started(now);
    }

    pub(crate) fn died(&mut self, id: NodeId) {
        let now = self.now;
        self.nodes[id.0].died(now);
    }

    /// Something went wrong on order: for a while, less can be expected.
    pub(crate) fn struck(&mut self, now: BootTime) {
        for ledger in &mut self.nodes {
            ledger.struck(now);
        }
    }

    pub(crate) fn taken_away(&mut self, id: NodeId, eni: &vpc_model::Eni) {
        let ledger = &mut self.nodes[id.0];
        ledger.bereft.extend(eni.addresses());
        ledger.taken.insert(eni.id.clone());
    }

    pub(crate) fn asked(&mut self, id: NodeId, (request, key): (RequestId, &AllocationKey), deadline: BootTime) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        self.nodes[id.0].asked(request, key, deadline, now);
    }

    pub(crate) fn unasked(&mut self, id: NodeId, request: RequestId) {
        if self.looks_away {
            return;
        }
        if self.nodes[id.0].forgotten.remove(&request) {
            return;
        }
        self.fail(Invariant::Deadline, id, || {
            format!("an answer to {request:?}, which nobody asked or which was answered")
        });
    }

    pub(crate) fn abandoned(&mut self, id: NodeId, request: RequestId) {
        if self.looks_away {
            return;
        }
        self.nodes[id.0].abandoned(request);
    }

    pub(crate) fn replied(
        &mut self,
        id: NodeId,
        (request, key): (RequestId, &AllocationKey),
        result: &Result<Allocated, Refusal>,
        (vpc, kernel): (&Vpc, &Kernel),
    ) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        let ledger = &mut self.nodes[id.0];
        let verdict = ledger.answered(request, key, result.as_ref().ok(), now).and_then(|waited| match result {
            Ok(allocated) => ledger.given(key, allocated, (vpc, kernel), now),
            Err(refusal) => ledger.refused(refusal, waited, (vpc, kernel), now),
        });
        self.judge(id, verdict);
    }

    pub(crate) fn released(&mut self, id: NodeId, key: &AllocationKey) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        self.nodes[id.0].released(key, now);
    }

    pub(crate) fn emitted(&mut self, id: NodeId, call: &Ec2Call, (vpc, kernel): (&Vpc, &Kernel), enis: &[EniId]) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        let ledger = &mut self.nodes[id.0];
        ledger.enis = enis.to_vec();
        let verdict = ledger.takes_nothing_in_use(call, vpc, now).and_then(|()| ledger.asks(call, (vpc, kernel), now));
        self.judge(id, verdict);
    }

    pub(crate) fn arriving(&mut self, id: NodeId, call: &Ec2Call, vpc: &Vpc) {
        if self.looks_away {
            return;
        }
        let verdict = self.nodes[id.0].takes_nothing_in_use(call, vpc, self.now);
        self.judge(id, verdict);
    }

    pub(crate) fn arrived(&mut self, id: NodeId, call: &Ec2Call, heard: bool) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        self.nodes[id.0].arrived(call, heard, now);
    }

    pub(crate) fn returned(&mut self, id: NodeId, call: &Ec2Call, answer: &Result<String, Failure>) {
        if self.looks_away {
            return;
        }
        let now = self.now;
        self.nodes[id.0].returned(call, answer, now);
    }
}
