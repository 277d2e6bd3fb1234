// SPDX-License-Identifier: Apache-2.0
//! Calls to EC2 that do not answer: told once each, soon, with the endpoint, long before they time out.
//!
//! Decides nothing: what follows from a call is decided when it ends. Invariant: one notice a call, at [`SLOW_AFTER`].

use std::time::Duration;

use crate::ids::BootTime;
use crate::reason::{NoticeLevel, ReasonCode};

use super::state::{Flight, Purpose};
use super::{Core, Turn};

/// An EC2 call without an answer for so long is told of. They take a third of a second; ten times that is no hiccup.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(3);

impl Core {
    pub(super) fn tell_slow_calls(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let endpoint = self.ec2_endpoint();
        let mut next: Option<BootTime> = None;
        for flight in self.in_flight.values_mut().filter(|flight| !flight.told && is_remote(&flight.purpose)) {
            let at = flight.since + SLOW_AFTER;
            if now < at {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            flight.told = true;
            let text = format!("EC2 at {endpoint} has not answered for {} s: {}", SLOW_AFTER.as_secs(), flight.purpose);
            turn.notice(NoticeLevel::Warn, Some(ReasonCode::Ec2Unavailable), text);
        }
        if let Some(next) = next {
            self.alarm(next);
        }
    }

    /// What a description of our ENIs that has had no answer for a while is waiting for; `None`: it is not slow.
    pub(super) fn slow_description(&self, now: BootTime) -> Option<String> {
        let (_, since) = self.describe.running.filter(|(_, since)| now.since(*since) >= SLOW_AFTER)?;
        let waited = now.since(since).as_secs();
        Some(format!("EC2 at {} has not answered for {waited} s: {}", self.ec2_endpoint(), Purpose::Describe))
    }

    /// Where EC2 is asked, as far as our own settings say.
    fn ec2_endpoint(&self) -> String {
        let region = self.facts.as_ref().map_or("the instance's Region", |facts| facts.region.as_str());
        self.config.ec2_endpoint.clone().unwrap_or_else(|| format!("its endpoint of {region}"))
    }
}

fn is_remote(purpose: &Purpose) -> bool {
    match purpose {
        Purpose::Create { .. }
        | Purpose::Attach { .. }
        | Purpose::Termination { .. }
        | Purpose::Assign { .. }
        | Purpose::Unassign { .. }
        | Purpose::Detach { .. }
        | Purpose::Delete { .. }
        | Purpose::Describe
        | Purpose::Zone
        | Purpose::PodSubnets { .. }
        | Purpose::Groups { .. }
        | Purpose::Tags { .. }
        | Purpose::Sweep
        | Purpose::MarkLeaked { .. }
        | Purpose::DeleteLeaked { .. }
        | Purpose::Subnet { .. } => true,
        Purpose::Deconfigure { .. }
        | Purpose::Configure { .. }
        | Purpose::Steer { .. }
        | Purpose::Host
        | Purpose::Repair
        | Purpose::Observe
        | Purpose::Sandboxes
        | Purpose::Flush { .. } => false,
    }
}

/// A call that starts now.
pub(super) fn flight(purpose: Purpose, since: BootTime) -> Flight {
    Flight { purpose, since, told: false }
}
