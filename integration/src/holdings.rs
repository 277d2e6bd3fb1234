// SPDX-License-Identifier: Apache-2.0
//! Which address a pod had and when: what tests of churn check cooldowns by.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// From when a pod certainly had its address until when it certainly still had it.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// After the ADD was answered.
    pub added: Instant,
    /// Before the DEL was asked.
    pub deleting: Instant,
}

/// Checks that no address had two holders, and that none came back before its cooldown was over.
///
/// # Errors
/// The first address that came back too early.
pub fn check_rests(mut holdings: Vec<Holding>, cooldown: Duration) -> Result<(), String> {
    holdings.sort_by_key(|holding| (holding.address, holding.added));
    for pair in holdings.windows(2).filter(|pair| pair[0].address == pair[1].address) {
        // The release came after `deleting`, the next allocation before `added`: at least the cooldown lies between.
        let rest = pair[1].added.saturating_duration_since(pair[0].deleting);
        if rest < cooldown {
            return Err(format!("{} rested {rest:?} only", pair[0].address));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_comes_back_early_or_has_two_holders_is_found() {
        let start = Instant::now();
        let holding = |address: u8, added: u64, deleting: u64| Holding {
            address: Ipv4Addr::new(10, 0, 0, address),
            added: start + Duration::from_secs(added),
            deleting: start + Duration::from_secs(deleting),
        };
        let cooldown = Duration::from_secs(10);
        check_rests(vec![holding(1, 30, 40), holding(1, 0, 20), holding(2, 1, 2)], cooldown).unwrap();
        check_rests(vec![holding(1, 0, 20), holding(1, 29, 40)], cooldown).unwrap_err();
        check_rests(vec![holding(1, 0, 50), holding(1, 29, 40)], cooldown).unwrap_err();
    }
}
