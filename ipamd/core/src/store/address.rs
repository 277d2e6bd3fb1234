// SPDX-License-Identifier: Apache-2.0
//! One pool address: where it is, its states, with the data that belongs to each.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::action::{Fill, PREFIX_ADDRESSES};
use crate::ids::{AllocationKey, BootTime, EniId, PodRef, RequestId};

/// What a slot of an ENI holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    /// One address.
    Single,
    /// A /28 prefix.
    Prefix,
}

impl Slot {
    /// Addresses that pods get of one slot.
    pub(crate) fn addresses(self) -> u32 {
        match self {
            Self::Single => 1,
            Self::Prefix => PREFIX_ADDRESSES,
        }
    }

    /// So many slots of this kind.
    pub(crate) fn fill(self, count: u32) -> Fill {
        match self {
            Self::Single => Fill::Addresses(count),
            Self::Prefix => Fill::Prefixes(count),
        }
    }
}

/// The /28 that an address lies in. Prefixes are aligned, so there is one (EC2 user guide, "Prefix delegation").
pub(crate) fn prefix_of(address: Ipv4Addr) -> Ipv4Net {
    const LENGTH: u8 = 28;
    Ipv4Net::new_assert(Ipv4Addr::from(u32::from(address) & !(PREFIX_ADDRESSES - 1)), LENGTH)
}

/// One pool address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The ENI that holds it; `None`: an allocation or a cooldown from a journal whose ENI EC2 has not shown yet.
    pub(crate) eni: Option<EniId>,
    /// Whether it is assigned by itself or inside a prefix; `Single` while the ENI is not known.
    pub(crate) slot: Slot,
    pub(crate) state: AddressState,
}

/// What an address is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// Can be given out, as soon as its ENI is proven.
    Free {
        /// Its last use; `None`: never used.
        rest: Option<Rest>,
    },
    /// Bound to a sandbox.
    Allocated(Allocation),
    /// Released less than a cooldown ago.
    Cooling {
        /// Since when and until when.
        rest: Rest,
    },
    /// Its cooldown is over; given out once the kernel has forgotten what was its last owner's.
    Flushing {
        /// Its last use.
        rest: Rest,
        /// Since when it waits for that.
        since: BootTime,
    },
    /// The kernel has it and our journal does not: not given out until the kernel lets go.
    Held {
        /// Its last use that we know of.
        rest: Option<Rest>,
        /// The link that has it.
        link: String,
    },
    /// Picked to be given back to EC2: not given out.
    Leaving {
        /// Its last use.
        rest: Option<Rest>,
    },
}

impl AddressState {
    /// Cooling while `rest` is not over, then to be flushed; free when it was never used.
    pub(crate) fn resting(rest: Option<Rest>, now: BootTime) -> Self {
        match rest {
            Some(rest) if now < rest.until => Self::Cooling { rest },
            Some(rest) => Self::Flushing { rest, since: now },
            None => Self::Free { rest },
        }
    }

    /// Whether the kernel has forgotten the last owner, as the journal records it.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Self::Free { rest } | Self::Leaving { rest } => rest.is_some(),
            Self::Cooling { .. } | Self::Flushing { .. } | Self::Held { .. } | Self::Allocated(_) => false,
        }
    }

    /// The last use, as the journal records it; `None`: never used, or in use.
    pub(crate) fn rest(&self) -> Option<Rest> {
        match self {
            Self::Free { rest } | Self::Held { rest, .. } | Self::Leaving { rest } => *rest,
            Self::Cooling { rest } | Self::Flushing { rest, .. } => Some(*rest),
            Self::Allocated(_) => None,
        }
    }
}

/// The end of an address's last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rest {
    pub(crate) released: BootTime,
    pub(crate) until: BootTime,
}

/// An address bound to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) key: AllocationKey,
    pub(crate) pod: PodRef,
    /// Nanoseconds since the Unix epoch, for the journal.
    pub(crate) allocated_unix_nanos: i64,
    /// When an ADD was last answered with it: its host veth may not exist yet for a while.
    pub(crate) granted_at: BootTime,
    /// The call that it was made for, so that it can be undone when the journal could not be written.
    pub(crate) request: Option<RequestId>,
    /// The address's last use before, for the same purpose.
    pub(crate) before: Option<Rest>,
    pub(crate) testimony: Testimony,
}

/// What the kernel says of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Testimony {
    /// Its host veth was there when last looked, or it is too young to have been looked at.
    Present,
    /// Its host veth has been missing since then: an orphan when that stays so.
    MissingSince(BootTime),
    /// No kernel object can testify: taken over from the reference, without pod name. Only a DEL ends it.
    Impossible,
}
