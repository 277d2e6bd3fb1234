// SPDX-License-Identifier: Apache-2.0
//! Request throttling: a token bucket per action.
//!
//! Decides whether a request may pass; the refusal (`RequestLimitExceeded`) is spelt by the caller. One account, so one
//! bucket an action, whoever asks. There are no resource buckets: the actions that have them are not modelled.
//!
//! Invariant: a bucket never holds more than its burst, and gains `refill` tokens at every full second since the start.
//!
//! Worked example: AttachNetworkInterface is "mutating, not listed elsewhere": 50 calls pass at once, the 51st is refused,
//! and a second later five more pass.
//!
//! Source of the numbers: EC2 developer guide, "Request throttling for the Amazon EC2 API".

use std::collections::BTreeMap;
use std::time::Duration;

use crate::settings::{Bucket, ThrottleSettings};

/// Non-mutating actions.
const NON_MUTATING: Bucket = Bucket { burst: 100, refill: 20 };
/// Non-mutating actions of [`EXPENSIVE_WHEN_BARE`] without filter and without paging.
const BARE: Bucket = Bucket { burst: 50, refill: 10 };
/// Mutating actions that are not listed elsewhere.
const MUTATING: Bucket = Bucket { burst: 50, refill: 5 };

/// Describe actions that cost more when they name neither filter nor page nor id.
const EXPENSIVE_WHEN_BARE: [&str; 3] = ["DescribeInstances", "DescribeNetworkInterfaces", "DescribeSecurityGroups"];

/// Whether a Describe request limits what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// It has a filter, a page or ids.
    Limited,
    /// It asks for everything.
    Bare,
}

/// The bucket EC2 has for an action.
fn bucket_of(action: &str, breadth: Breadth) -> Bucket {
    match action {
        "CreateNetworkInterface"
        | "DeleteNetworkInterface"
        | "ModifyNetworkInterfaceAttribute"
        | "AssignPrivateIpAddresses"
        | "UnassignPrivateIpAddresses"
        | "AssignIpv6Addresses" => Bucket { burst: 100, refill: 5 },
        "CreateTags" | "DeleteTags" => Bucket { burst: 100, refill: 10 },
        "CreateSubnetCidrReservation" | "DeleteSubnetCidrReservation" => Bucket { burst: 5, refill: 1 },
        _ if breadth == Breadth::Bare && EXPENSIVE_WHEN_BARE.contains(&action) => BARE,
        _ if ["Describe", "Get", "List", "Search"].iter().any(|verb| action.starts_with(verb)) => NON_MUTATING,
        _ => MUTATING,
    }
}

#[derive(Clone, Copy, Debug)]
struct Level {
    tokens: u32,
    /// The full second up to which it has been refilled.
    refilled_at: u64,
}

/// The levels of all buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    levels: BTreeMap<(String, bool), Level>,
}

impl Throttle {
    /// Takes a token for this action; `false`: there is none, the request is refused.
    pub(crate) fn take(&mut self, settings: &ThrottleSettings, action: &str, breadth: Breadth, now: Duration) -> bool {
        if !settings.enabled {
            return true;
        }
        let own = settings.buckets.get(action);
        let bucket = own.copied().unwrap_or_else(|| bucket_of(action, breadth));
        let bare = own.is_none() && bucket == BARE;
        let second = now.as_secs();
        let level =
            self.levels.entry((action.to_owned(), bare)).or_insert(Level { tokens: bucket.burst, refilled_at: second });
        let seconds = second.saturating_sub(level.refilled_at);
        let gained = seconds.saturating_mul(u64::from(bucket.refill)).saturating_add(u64::from(level.tokens));
        level.tokens = u32::try_from(gained).unwrap_or(u32::MAX).min(bucket.burst);
        level.refilled_at = second.max(level.refilled_at);
        let passes = level.tokens > 0;
        level.tokens = level.tokens.saturating_sub(1);
        passes
    }

    /// Fills every bucket, as a change of its settings does.
    pub(crate) fn reset(&mut self) {
        self.levels.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(throttle: &mut Throttle, action: &str, breadth: Breadth, now: Duration) -> u32 {
        let settings = ThrottleSettings::default();
        (0..).take_while(|_| throttle.take(&settings, action, breadth, now)).count().try_into().unwrap()
    }

    /// EC2 developer guide, "Request throttling", tables of request token bucket sizes and refill rates.
    #[test]
    fn bursts_and_refills_are_those_of_the_developer_guide() {
        for (action, breadth, burst, refill) in [
            ("CreateNetworkInterface", Breadth::Limited, 100, 5),
            ("DeleteNetworkInterface", Breadth::Limited, 100, 5),
            ("ModifyNetworkInterfaceAttribute", Breadth::Limited, 100, 5),
            ("AssignPrivateIpAddresses", Breadth::Limited, 100, 5),
            ("UnassignPrivateIpAddresses", Breadth::Limited, 100, 5),
            ("AttachNetworkInterface", Breadth::Limited, 50, 5),
            ("DetachNetworkInterface", Breadth::Limited, 50, 5),
            ("CreateTags", Breadth::Limited, 100, 10),
            ("DescribeSubnets", Breadth::Bare, 100, 20),
            ("DescribeNetworkInterfaces", Breadth::Limited, 100, 20),
            ("DescribeNetworkInterfaces", Breadth::Bare, 50, 10),
        ] {
            let mut throttle = Throttle::default();
            assert_eq!(passing(&mut throttle, action, breadth, Duration::ZERO), burst, "{action} at once");
            assert_eq!(passing(&mut throttle, action, breadth, Duration::from_millis(999)), 0, "{action} too soon");
            assert_eq!(passing(&mut throttle, action, breadth, Duration::from_secs(1)), refill, "{action} a second on");
            assert_eq!(passing(&mut throttle, action, breadth, Duration::from_secs(1_000)), burst, "{action} is full");
        }
    }

    #[test]
    fn actions_do_not_share_a_bucket() {
        let mut throttle = Throttle::default();
        assert_eq!(passing(&mut throttle, "AttachNetworkInterface", Breadth::Limited, Duration::ZERO), 50);
        assert_eq!(passing(&mut throttle, "DetachNetworkInterface", Breadth::Limited, Duration::ZERO), 50);
    }
}
