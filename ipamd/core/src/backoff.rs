// SPDX-License-Identifier: Apache-2.0
//! How long to wait before another try, by kind of failure.
//!
//! Decides only the time; what is tried again, and whether, is the caller's business. The jitter is derived from the
//! instance id and the try, not drawn, so that the core stays a function of its inputs while nodes still spread out.
//!
//! | class | first | at most |
//! |---|---|---|
//! | Throttled, `retry_after` said (our own bucket, which has jittered it) | that | that |
//! | Throttled otherwise | 1 s | 60 s, full jitter above the half |
//! | Transient, Unknown, NotFound, WrongState, DeviceIndexTaken, TokenMismatch | 0.5 s | 30 s |
//! | Denied, SubnetExhausted, PrefixesExhausted, AddressLimit, AttachmentLimit | 30 s | 120 s, and up to a quarter more |
//! | Rejected | 60 s | 600 s |
//! | LinkMissing | 0.2 s | 5 s |
//! | Kernel | 1 s | 30 s |
//!
//! A `retry_after` of the other side is a floor. Worked example: the third throttle waits between 2 and 4 s. Sources: EC2
//! API reference, "Query API request rate" (full jitter, seconds to minutes); the link of a new ENI appears within 5 s as a
//! rule, minutes at worst.

use std::time::Duration;

use crate::event::{Failure, FailureClass};

/// `attempt`: tries that failed so far, the one just failed included (1 for the first). `salt`: differs between nodes.
pub(crate) fn delay(failure: &Failure, attempt: u32, salt: u64) -> Duration {
    if let (FailureClass::Throttled, Some(after)) = (failure.class, failure.retry_after) {
        return after;
    }
    let (first, most) = match failure.class {
        FailureClass::Throttled => (1_000, 60_000),
        FailureClass::Transient
        | FailureClass::Unknown
        | FailureClass::NotFound
        | FailureClass::WrongState
        | FailureClass::DeviceIndexTaken
        | FailureClass::TokenMismatch => (500, 30_000),
        FailureClass::Denied
        | FailureClass::SubnetExhausted
        | FailureClass::PrefixesExhausted
        | FailureClass::AddressLimit
        | FailureClass::AttachmentLimit => (30_000, 120_000),
        FailureClass::Rejected => (60_000, 600_000),
        FailureClass::LinkMissing => (200, 5_000),
        FailureClass::Kernel => (1_000, 30_000),
    };
    let doublings = attempt.saturating_sub(1).min(20);
    let whole: u64 = (first << doublings).min(most);
    let spread = |span: u64| mix(salt ^ u64::from(attempt)) % (span + 1);
    let wait = match failure.class {
        FailureClass::LinkMissing => whole,
        FailureClass::Denied
        | FailureClass::SubnetExhausted
        | FailureClass::PrefixesExhausted
        | FailureClass::AddressLimit
        | FailureClass::AttachmentLimit => whole + spread(whole / 4),
        FailureClass::Throttled
        | FailureClass::Transient
        | FailureClass::Unknown
        | FailureClass::NotFound
        | FailureClass::WrongState
        | FailureClass::DeviceIndexTaken
        | FailureClass::TokenMismatch
        | FailureClass::Rejected
        | FailureClass::Kernel => whole / 2 + spread(whole / 2),
    };
    Duration::from_millis(wait).max(failure.retry_after.unwrap_or_default())
}

/// A time between zero and `span`, spread over nodes and attempts.
pub(crate) fn jitter(span: Duration, attempt: u32, salt: u64) -> Duration {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_millis(mix(salt ^ u64::from(attempt)) % millis)
}

/// A well-spread number from a text: FNV-1a, 64 bits.
pub(crate) fn salt(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finaliser of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: FailureClass, retry_after: Option<Duration>) -> Failure {
        Failure { class, code: String::new(), message: String::new(), retry_after }
    }

    #[test]
    fn throttled_tries_wait_between_half_and_all_of_a_doubling_time() {
        for (attempt, whole) in [(1, 1_000), (2, 2_000), (3, 4_000), (7, 60_000), (90, 60_000)] {
            let waits: Vec<Duration> =
                (0..50).map(|node| delay(&failure(FailureClass::Throttled, None), attempt, node)).collect();
            assert!(waits.iter().all(|wait| (whole / 2..=whole).contains(&wait.as_millis())), "{attempt}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "nodes spread out");
        }
    }

    #[test]
    fn the_other_side_s_wish_is_a_floor() {
        let wish = Duration::from_secs(90);
        assert_eq!(delay(&failure(FailureClass::Throttled, Some(wish)), 1, 7), wish);
    }

    #[test]
    fn a_missing_link_is_looked_for_after_200_ms_and_then_up_to_every_5_s() {
        let waits: Vec<u128> =
            (1..=7).map(|attempt| delay(&failure(FailureClass::LinkMissing, None), attempt, 3).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }

    #[test]
    fn a_denied_call_rests_for_a_long_time() {
        assert!(delay(&failure(FailureClass::Denied, None), 1, 3) >= Duration::from_secs(30));
    }
}
