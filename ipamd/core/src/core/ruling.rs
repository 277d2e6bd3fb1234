// SPDX-License-Identifier: Apache-2.0
//! What is wanted next, by which rule, in words and numbers: for `ipamd why`, the decision log and the page.
//!
//! Decides nothing: it says what `planner` and `outlook` have decided.

use crate::chronicle::Sample;
use crate::ids::{BootTime, Now, SubnetId};
use crate::planner::Addresses;
use crate::reason::ReasonCode;
use crate::snapshot::{Rule, SubnetSupplySnapshot, WhySnapshot};

use super::Core;
use super::show::millis;
use super::state::Subnet;

impl Core {
    /// What is wanted next, by which rule, and when that is decided anew.
    #[must_use]
    pub fn why(&self, now: Now) -> WhySnapshot {
        let now = now.boot;
        let next_ms = self.next_deadline().map(|due| millis(due.since(now)));
        let (rule, text, bound_by) = self.ruling(now);
        WhySnapshot { text, bound_by, rule, next_ms }
    }

    fn ruling(&self, now: BootTime) -> (Rule, String, Option<ReasonCode>) {
        let target = self.target(now);
        let starting = self.facts.is_none() || !self.learned || self.limits.is_none() || self.host.applied.is_none();
        if starting || self.undurable.is_some() {
            let refusal = self.present_refusal(now);
            let rule = if self.undurable.is_some() { Rule::NotDurable } else { Rule::Starting };
            return (rule, refusal.cause, Some(refusal.code));
        }
        if target.shortfall > Addresses::ZERO {
            let refusal = self.present_refusal(now);
            let text = format!("{} addresses are missing: {}", target.shortfall.0, refusal.cause);
            return (Rule::Shortfall, text, Some(refusal.code));
        }
        // Counted as coming, and so not missing, is also what a failed call will bring when it is tried again.
        if let Some(refusal) = self.blockage(now) {
            return (Rule::HeldUp, format!("addresses are held up: {}", refusal.cause), Some(refusal.code));
        }
        if target.surplus > Addresses::ZERO {
            return match self.shrinking.since {
                Some(since) => {
                    let text = format!(
                        "{} addresses are too many, for {} s; they go once they have been for {} s and can go",
                        target.surplus.0,
                        now.since(since).as_secs(),
                        self.hysteresis().stands.as_secs()
                    );
                    (Rule::SurplusRests, text, None)
                }
                None => {
                    let text = format!("{} free addresses above the target are kept", target.surplus.0);
                    (Rule::SurplusKept, text, None)
                }
            };
        }
        let coming = self.pool_view(now).free;
        (Rule::Met, format!("the target is met ({} addresses free or coming)", coming.0), None)
    }

    /// The pool in few numbers, cheaply: for the course of the last hour.
    #[must_use]
    pub fn sample(&self, now: Now) -> Sample {
        let all = self.store.all();
        Sample {
            unix_ms: now.unix_nanos / 1_000_000,
            used: all.allocated,
            free: all.free,
            cooling: all.cooling,
            total: all.total(),
            waiters: self.waiters.len(),
        }
    }

    /// What each subnet of interest has, as it was last read.
    pub(super) fn show_supplies(&self, now: BootTime) -> Vec<SubnetSupplySnapshot> {
        let supply = |(id, subnet): (&SubnetId, &Subnet)| {
            let counted = subnet.counted?;
            let ours = self.enis.values().any(|eni| eni.subnet_id == *id);
            let usable = subnet.standing.is_some();
            (ours || usable).then(|| SubnetSupplySnapshot {
                subnet_id: id.clone(),
                free: counted.free,
                read_ms_ago: millis(now.since(counted.at)),
                is_exhausted: subnet.exhausted.is_some_and(|exhausted| now < exhausted.until),
            })
        };
        self.subnets.iter().filter_map(supply).collect()
    }
}
