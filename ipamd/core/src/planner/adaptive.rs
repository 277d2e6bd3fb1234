// SPDX-License-Identifier: Apache-2.0
//! How many free addresses to keep when nobody says: as many as come while an ENI is being made.
//!
//! What is observed: when ADDs come, and how long an ENI takes from being asked for until it gives addresses out (the
//! *lead*). What is kept track of, in thousandths of an address so that all is exact whole-number arithmetic:
//!
//! ```text
//! recent   + 1 with each ADD, halves every lead          up to 2 x rate x lead when ADDs come evenly
//! peak     the highest recent, halves every 30 min, in   bursts are remembered for the next one
//!          steps of 4
//!
//! wanted   max(floor, recent, min(peak, ceiling))        refilled when fewer are free
//! band     as much again as the floor                    refilled to wanted + band, given back above it
//! ceiling  16 + 0.3 x pods
//! floor    min(8, half an ENI's worth)
//! minimum  an ENI's worth (a prefix in prefix mode) of all addresses, until ten minutes after the first ADD
//! ```
//!
//! The steps keep what fades from being given back one address and two calls to EC2 at a time. The band keeps a pod that comes or goes from costing a call to EC2 each time. The minimum is what WARM_ENI_TARGET=1 gives a
//! fresh node's first burst of pods; after it, a node with few pods holds 8 to 16 free addresses and not one or two ENIs.
//! `recent` is not under the ceiling: as long as pods come that fast, it is used up within a lead.
//!
//! Worked example, m5.4xlarge (29 addresses an ENI), lead 6 s: a fresh node holds 29. 40 pods come at once: recent 40, so
//! 40 free ones and the band of 8 are wanted at once; a minute later recent is 0 and the peak still 40, but the ceiling is
//! 16 + 12 = 28: 28 to 36 free ones are kept. An hour later the peak is 10: 12 to 20 are kept, and 8 to 16 two hours later.
//!
//! Pure: time is an argument and never runs backwards. Constants: an attach "within 5 s" and a create call before it
//! (cilium #16494) for the first lead; floor, band and ceiling so that a node holds at most 1.3 x its pods and 16 more.

use std::time::Duration;

use super::Addresses;
use crate::ids::BootTime;

const FLOOR: u32 = 8;
const CEILING: u32 = 16;
/// What fades does so in steps of so many addresses.
const STEP: u32 = 4;
/// In hundredths of a pod.
const CEILING_PER_POD_PCT: u32 = 30;
const MEMORY: Duration = Duration::from_secs(1_800);
const START: Duration = Duration::from_secs(600);
const FIRST_LEAD: Duration = Duration::from_secs(6);
const SHORTEST_LEAD: Duration = Duration::from_secs(1);
const LONGEST_LEAD: Duration = Duration::from_secs(60);
const MILLI: u64 = 1_000;

/// A quantity in thousandths that halves again and again; in between it falls in a straight line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fading {
    milli: u64,
    at: BootTime,
}

impl Fading {
    fn milli_at(self, now: BootTime, half_life: Duration) -> u64 {
        let (passed, half) = (now.since(self.at).as_nanos(), half_life.as_nanos().max(1));
        let halvings = u32::try_from(passed / half).unwrap_or(u32::MAX);
        let whole = self.milli.checked_shr(halvings).unwrap_or(0);
        let part = u128::from(whole) * (passed % half) / (2 * half);
        whole - u64::try_from(part).unwrap_or(whole)
    }
}

/// What has been observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adaptive {
    recent: Fading,
    peak: Fading,
    lead: Duration,
    first_add: Option<BootTime>,
}

/// What survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The peak in thousandths of an address, and when it was that high.
    pub(crate) peak: (u64, BootTime),
    pub(crate) lead: Duration,
    pub(crate) first_add: Option<BootTime>,
}

/// What a node is like, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Addresses bound to sandboxes.
    pub(crate) pods: Addresses,
    /// Single addresses that an ENI holds.
    pub(crate) per_eni: Addresses,
    /// What a fresh node holds: an ENI's worth, or a prefix.
    pub(crate) first: Addresses,
}

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Free addresses: refilled when there are fewer.
    pub(crate) wanted: Addresses,
    /// Further free ones that are asked for with them, and not given back.
    pub(crate) band: Addresses,
    /// All addresses held.
    pub(crate) minimum: Addresses,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { recent: Fading::default(), peak: Fading::default(), lead: FIRST_LEAD, first_add: None }
    }
}

impl Adaptive {
    /// An ADD came.
    pub(crate) fn arrived(&mut self, now: BootTime) {
        let recent = self.recent.milli_at(now, self.lead).saturating_add(MILLI);
        self.recent = Fading { milli: recent, at: now };
        if recent > self.peak.milli_at(now, MEMORY) {
            self.peak = self.recent;
        }
        self.first_add.get_or_insert(now);
    }

    /// An ENI gives addresses out, so long after it was asked for.
    pub(crate) fn eni_took(&mut self, lead: Duration) {
        self.lead = (self.lead * 3 + lead.clamp(SHORTEST_LEAD, LONGEST_LEAD)) / 4;
    }

    pub(crate) fn wish(&self, node: &Node, now: BootTime) -> Wish {
        let whole = |milli: u64| Addresses(u32::try_from(milli.div_ceil(MILLI)).unwrap_or(u32::MAX));
        let floor = Addresses(FLOOR.min(node.per_eni.0.div_ceil(2)).max(1));
        let band = Addresses(FLOOR.min(node.per_eni.0 / 2));
        let ceiling = Addresses(CEILING.saturating_add(node.pods.0.saturating_mul(CEILING_PER_POD_PCT) / 100));
        let recent = whole(self.recent.milli_at(now, self.lead));
        let peak = Addresses(whole(self.peak.milli_at(now, MEMORY)).0.next_multiple_of(STEP));
        let starting = self.first_add.is_none_or(|first| now.since(first) < START);
        Wish {
            wanted: floor.max(recent).max(peak.min(ceiling)),
            band,
            minimum: if starting { node.first } else { Addresses::ZERO },
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory { peak: (self.peak.milli, self.peak.at), lead: self.lead, first_add: self.first_add }
    }
}

impl From<Memory> for Adaptive {
    fn from(memory: Memory) -> Self {
        let (milli, at) = memory.peak;
        let lead = memory.lead.clamp(SHORTEST_LEAD, LONGEST_LEAD);
        Self { recent: Fading::default(), peak: Fading { milli, at }, lead, first_add: memory.first_add }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> BootTime {
        BootTime(Duration::from_millis(millis))
    }

    fn node(pods: u32, per_eni: u32) -> Node {
        Node { pods: Addresses(pods), per_eni: Addresses(per_eni), first: Addresses(per_eni) }
    }

    fn wish(adaptive: &Adaptive, pods: u32, millis: u64) -> (u32, u32, u32) {
        let Wish { wanted, band, minimum } = adaptive.wish(&node(pods, 29), at(millis));
        (wanted.0, band.0, minimum.0)
    }

    #[test]
    fn the_worked_example_of_the_head() {
        let mut adaptive = Adaptive::default();
        assert_eq!(wish(&adaptive, 0, 1_000), (8, 8, 29), "a fresh node");
        (0..40).for_each(|_| adaptive.arrived(at(10_000)));
        assert_eq!(wish(&adaptive, 40, 10_000), (40, 8, 29));
        assert_eq!(wish(&adaptive, 40, 70_000), (28, 8, 29), "under the ceiling");
        assert_eq!(wish(&adaptive, 40, 3_610_000), (12, 8, 0), "an hour later");
        assert_eq!(wish(&adaptive, 40, 7_210_000), (8, 8, 0));
    }

    #[test]
    fn small_enis_are_not_multiplied_by_an_idle_node() {
        for (per_eni, kept) in [(1, (1, 0)), (3, (2, 1)), (9, (5, 4)), (14, (7, 7)), (49, (8, 8))] {
            let Wish { wanted, band, .. } = Adaptive::default().wish(&node(0, per_eni), at(0));
            assert_eq!((wanted.0, band.0), kept, "{per_eni} addresses an ENI");
        }
    }

    #[test]
    fn evenly_coming_pods_are_met_for_a_whole_lead() {
        let mut adaptive = Adaptive::default();
        for tenth in 0..600 {
            adaptive.arrived(at(tenth * 100));
        }
        let (wanted, ..) = wish(&adaptive, 600, 60_000);
        assert!((60..=121).contains(&wanted), "10 pods a second, 6 s a lead: {wanted}");
    }

    #[test]
    fn the_lead_follows_what_enis_take_within_bounds() {
        let mut adaptive = Adaptive::default();
        for _ in 0..20 {
            adaptive.eni_took(Duration::from_secs(2));
        }
        assert!(adaptive.lead < Duration::from_millis(2_100), "{:?}", adaptive.lead);
        for _ in 0..40 {
            adaptive.eni_took(Duration::from_secs(900));
        }
        assert!(adaptive.lead <= LONGEST_LEAD);
    }

    proptest! {
        #[test]
        fn what_is_wished_for_is_bounded_fades_when_nothing_comes_and_survives_a_restart(
            gaps in proptest::collection::vec(0_u64..20_000, 0..200), pods in 0_u32..800, per_eni in 1_u32..50
        ) {
            let mut adaptive = Adaptive::default();
            let mut now = 0;
            for gap in &gaps {
                now += gap;
                adaptive.arrived(at(now));
            }
            let node = node(pods, per_eni);
            let mut before = adaptive.wish(&node, at(now));
            prop_assert!(before.wanted.0 as usize <= gaps.len().max(8));
            for minute in 1..240 {
                let later = adaptive.wish(&node, at(now + minute * 60_000));
                prop_assert!(later.wanted <= before.wanted);
                before = later;
            }
            let again = Adaptive::from(adaptive.memory());
            prop_assert_eq!(again.wish(&node, at(now + 120_000)), adaptive.wish(&node, at(now + 120_000)));
            prop_assert!(before.wanted.0 <= 8.max(16 + pods * 3 / 10));
            prop_assert!(before.wanted.0 + before.band.0 <= 16, "at rest a node keeps no more than 16");
        }
    }
}
