// SPDX-License-Identifier: Apache-2.0
//! How urgent an action is, and what becomes urgent when the first ADD waits.
//!
//! The priority orders this node's requests while its own buckets hold them back (`ec2::Bucket`); it changes neither what
//! is asked for nor when.
//!
//! Worked example: the warm pool's call was throttled and rests for 12 s. An ADD finds no address: the call is due at once,
//! now for a waiting ADD, and the bucket, which keeps tokens for those, lets it go or says for how long it must not.

use crate::action::Priority;
use crate::event::{Failure, FailureClass};
use crate::ids::BootTime;
use crate::lifecycle::{Assign, Phase, Try, TryState};

use super::Core;
use super::state::Purpose;

impl Core {
    /// How urgent an action of this purpose is now.
    pub(super) fn priority(&self, purpose: &Purpose) -> Priority {
        // A node without any address is not ready: what brings the first ones is waited for as much as by an ADD.
        let waiting = !self.waiters.is_empty() || !self.learned || self.store.iter().next().is_none();
        match purpose {
            // What is waited for: addresses, and the reads without which nothing is asked for.
            Purpose::Create { .. }
            | Purpose::Attach { .. }
            | Purpose::Assign { .. }
            | Purpose::Configure { .. }
            | Purpose::Steer { .. }
            | Purpose::Host
            | Purpose::Describe
            | Purpose::Subnet { .. }
            | Purpose::Zone
            | Purpose::PodSubnets { .. }
            | Purpose::Observe
            | Purpose::Flush { .. }
                if waiting =>
            {
                Priority::Waiting
            }
            Purpose::Create { .. }
            | Purpose::Attach { .. }
            | Purpose::Assign { .. }
            | Purpose::Configure { .. }
            | Purpose::Steer { .. }
            | Purpose::Host
            | Purpose::Repair => Priority::Warm,
            Purpose::Termination { .. }
            | Purpose::Unassign { .. }
            | Purpose::Deconfigure { .. }
            | Purpose::Detach { .. }
            | Purpose::Delete { .. }
            | Purpose::Groups { .. }
            | Purpose::Tags { .. }
            | Purpose::MarkLeaked { .. }
            | Purpose::DeleteLeaked { .. }
            | Purpose::Flush { .. } => Priority::Release,
            Purpose::Describe
            | Purpose::Subnet { .. }
            | Purpose::Zone
            | Purpose::PodSubnets { .. }
            | Purpose::Sweep
            | Purpose::Observe
            | Purpose::Sandboxes => Priority::Describe,
        }
    }

    /// When the first ADD waits, growth that rests because it was throttled at a lower priority is asked for again.
    pub(super) fn hurry(&mut self, now: BootTime) {
        let waited = std::mem::replace(&mut self.waited, !self.waiters.is_empty());
        if waited || !self.waited {
            return;
        }
        for request in self.requests.values_mut() {
            ask_again(&mut request.attempt, now);
        }
        for eni in self.enis.values_mut() {
            if matches!(eni.assign, Assign::Resting(until) if until > now) && is_throttled(eni.assign_failure.as_ref())
            {
                eni.assign = Assign::Resting(now);
            }
            if let Phase::Attaching(attempt) = &mut eni.phase {
                ask_again(attempt, now);
            }
        }
    }
}

fn ask_again(attempt: &mut Try, now: BootTime) {
    if matches!(attempt.state, TryState::Due(at) if at > now) && is_throttled(attempt.failure.as_ref()) {
        attempt.state = TryState::Due(now);
    }
}

fn is_throttled(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.class == FailureClass::Throttled)
}
