// SPDX-License-Identifier: Apache-2.0
//! Session tokens of IMDSv2.
//!
//! Decides whether a token is good. One set per instance: a token of another instance is unknown here.
//!
//! Worked example: a token asked for with a TTL of 60 s at 10 s is good until 70 s; then the reader gets 401 and asks for
//! another.
//!
//! Source: EC2 user guide, "Use IMDSv2" (TTL 1 to 21600 s).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::IdSource;

/// Longest life of a token: six hours.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(21_600);

/// Why no token is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No TTL, no number, or out of range.
    #[error("the TTL must be a number of seconds from 1 to 21600")]
    BadTtl,
}

/// The tokens of one instance.
#[derive(Clone, Debug)]
pub struct Tokens {
    ids: IdSource,
    good_until: BTreeMap<String, Duration>,
}

impl Tokens {
    /// No tokens yet. Different seeds give different tokens.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { ids: IdSource::new(seed), good_until: BTreeMap::new() }
    }

    /// A new token, with the text of its TTL as the request had it. Expired ones are forgotten.
    ///
    /// # Errors
    /// A TTL that is not a number from 1 to 21600.
    pub fn issue(&mut self, ttl: Option<&str>, now: Duration) -> Result<(String, Duration), TokenError> {
        let seconds: u64 = ttl.and_then(|ttl| ttl.trim().parse().ok()).ok_or(TokenError::BadTtl)?;
        let life = Duration::from_secs(seconds);
        if seconds == 0 || life > MAX_TOKEN_TTL {
            return Err(TokenError::BadTtl);
        }
        self.good_until.retain(|_, until| *until > now);
        let token = format!("AQ{:016x}{:016x}{:016x}==", self.ids.next_u64(), self.ids.next_u64(), self.ids.next_u64());
        self.good_until.insert(token.clone(), now + life);
        Ok((token, life))
    }

    /// How long a token is still good; `None`: it is unknown or expired.
    #[must_use]
    pub fn life_left(&self, token: &str, now: Duration) -> Option<Duration> {
        self.good_until.get(token)?.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Forgets all tokens, as a restart of the service would.
    pub fn forget(&mut self) {
        self.good_until.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EC2 user guide, "Use IMDSv2": the TTL is from one second to six hours.
    #[test]
    fn a_ttl_is_from_one_second_to_six_hours() {
        let mut tokens = Tokens::new(1);
        for (ttl, good) in [
            (Some("1"), true),
            (Some("21600"), true),
            (Some("0"), false),
            (Some("21601"), false),
            (Some("x"), false),
            (None, false),
        ] {
            assert_eq!(tokens.issue(ttl, Duration::ZERO).is_ok(), good, "{ttl:?}");
        }
    }

    #[test]
    fn a_token_is_good_until_its_ttl_is_over() {
        let mut tokens = Tokens::new(1);
        let (token, _) = tokens.issue(Some("60"), Duration::from_secs(10)).unwrap();
        assert_eq!(tokens.life_left(&token, Duration::from_secs(69)), Some(Duration::from_secs(1)));
        assert_eq!(tokens.life_left(&token, Duration::from_secs(70)), None);
        assert_eq!(Tokens::new(2).life_left(&token, Duration::from_secs(11)), None, "another instance");
    }
}
