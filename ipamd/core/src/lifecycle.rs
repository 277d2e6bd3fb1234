// SPDX-License-Identifier: Apache-2.0
//! One ENI through life, and one try of an action through its outcomes.
//!
//! ```text
//!              EniCreated          EniAttached              EniConfigured
//!   Requested ───────────► Attaching ─────────► Configuring ─────────────► Ready
//!   (Create)                   │ limit, refused      │ 5 min without link    │ surplus
//!       │                      │                     ▼      cancelled ▲      ▼
//!       │ failed for good      │                   Draining ──────────┴── Draining
//!       ▼                      ▼                     │ three witnesses agree
//!     gone ◄─────────────── Deleting ◄──── Detaching ◄
//!            DeleteEni                DetachEni
//! ```
//!
//! `Failed{retry_at}` of any state is that state with a [`Try`] that is due later. Device indices are reserved from
//! Requested to Detaching; a slot of the instance is taken as long.
//!
//! Invariant: only Ready ENIs give addresses out; only ENIs made for us are drained, detached and deleted; the primary ENI
//! never is.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::Fill;
use crate::event::{EniView, Failure};
use crate::ids::{ActionId, AttachmentId, BootTime, DeviceIndex, EniId, MacAddr, SecurityGroupId, SubnetId};

/// An attached ENI that is not proven for so long (an attach usually takes no longer, cilium #16494) is no reason to let ADDs wait
/// that another ENI in service has slots for.
pub(crate) const OVERDUE_AFTER: Duration = Duration::from_secs(5);
/// An attached ENI that is not proven for so long is not counted on any more: the planner asks for another one if the limits
/// allow, though this one is used when it comes. Three times what an attach usually takes (within 5 s, cilium #16494), and
/// inside an ADD's budget of 20 s.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(15);
/// An attached ENI whose link does not appear for so long is given up (the worst seen in the wild is 3 minutes).
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(300);
/// An ENI younger than this is not released (the reference's `minENILifeTime`).
pub(crate) const RELEASE_AGE: Duration = Duration::from_secs(60);

/// One action, until it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    /// Tries that failed.
    pub(crate) attempts: u32,
    pub(crate) state: TryState,
    /// Why the last one failed.
    pub(crate) failure: Option<Failure>,
}

/// Where a try is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TryState {
    /// To be started then.
    Due(BootTime),
    /// Under way.
    Running(ActionId),
    /// Nobody knows whether it happened: an EC2 read begun at or after that time tells.
    Resolving(BootTime),
}

impl Try {
    pub(crate) fn due(at: BootTime) -> Self {
        Self { attempts: 0, state: TryState::Due(at), failure: None }
    }

    pub(crate) fn resolving(after: BootTime) -> Self {
        Self { attempts: 0, state: TryState::Resolving(after), failure: None }
    }

    /// When it can be started or resolved at the earliest; `None`: it is under way.
    pub(crate) fn earliest(&self) -> Option<BootTime> {
        match self.state {
            TryState::Due(at) | TryState::Resolving(at) => Some(at),
            TryState::Running(_) => None,
        }
    }

    /// It failed, and is tried again after `delay`.
    pub(crate) fn again(&mut self, failure: Failure, at: BootTime) {
        self.failure = Some(failure);
        self.state = TryState::Due(at);
    }

    /// It failed, or may have: a read tells.
    pub(crate) fn resolve(&mut self, failure: Failure, after: BootTime) {
        self.failure = Some(failure);
        self.state = TryState::Resolving(after);
    }
}

/// Where an ENI is in life; Requested is a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It exists and is being attached.
    Attaching(Try),
    /// It is attached; its link is awaited and set up.
    Configuring(Try),
    /// Its set-up is proven.
    Ready,
    /// It gives no address out any more, until the witnesses have spoken.
    Draining(DrainReason),
    /// Nothing uses it: the kernel's objects are removed, then it is detached.
    Detaching(DetachStep),
    /// It is detached and being deleted.
    Deleting(Try),
}

/// Why an ENI drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainReason {
    /// The pool has more than it should.
    Surplus,
    /// Its link never appeared, or cannot be set up.
    Stuck,
    /// Its subnet is excluded.
    Excluded,
}

/// The two halves of detaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DetachStep {
    Deconfigure(Try),
    Detach(Try),
}

impl Phase {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Attaching(_) => "Attaching",
            Self::Configuring(_) => "Configuring",
            Self::Ready => "Ready",
            Self::Draining(_) => "Draining",
            Self::Detaching(_) => "Detaching",
            Self::Deleting(_) => "Deleting",
        }
    }

    /// Whether it takes one of the instance's slots and a device index.
    pub(crate) fn takes_slot(&self) -> bool {
        match self {
            Self::Attaching(_) | Self::Configuring(_) | Self::Ready | Self::Draining(_) | Self::Detaching(_) => true,
            Self::Deleting(_) => false,
        }
    }

    pub(crate) fn current_try(&self) -> Option<&Try> {
        match self {
            Self::Attaching(attempt) | Self::Configuring(attempt) | Self::Deleting(attempt) => Some(attempt),
            Self::Detaching(DetachStep::Deconfigure(attempt) | DetachStep::Detach(attempt)) => Some(attempt),
            Self::Ready | Self::Draining(_) => None,
        }
    }

    pub(crate) fn current_try_mut(&mut self) -> Option<&mut Try> {
        match self {
            Self::Attaching(attempt) | Self::Configuring(attempt) | Self::Deleting(attempt) => Some(attempt),
            Self::Detaching(DetachStep::Deconfigure(attempt) | DetachStep::Detach(attempt)) => Some(attempt),
            Self::Ready | Self::Draining(_) => None,
        }
    }
}

/// Adding addresses or prefixes to an ENI, one call at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assign {
    Idle,
    Running {
        action: ActionId,
        fill: Fill,
    },
    /// Nobody knows what it added; `limit_hit`: EC2 said that this many slots more would be too many.
    Resolving {
        after: BootTime,
        limit_hit: Option<u32>,
    },
    /// Not before then.
    Resting(BootTime),
}

/// Delete-on-termination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Termination {
    /// Not ours to set (primary, adopted), or not attached yet.
    LeftAlone,
    Unset(Try),
    Set,
}

/// One ENI that serves pods, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eni {
    pub(crate) eni_id: EniId,
    pub(crate) mac: MacAddr,
    pub(crate) subnet_id: SubnetId,
    /// Never a pool address.
    pub(crate) primary_address: Ipv4Addr,
    pub(crate) device_index: DeviceIndex,
    /// The network card that it is attached to. We attach to card 0 only; others may move an ENI.
    pub(crate) network_card: u32,
    pub(crate) attachment_id: Option<AttachmentId>,
    /// The instance's own first ENI.
    pub(crate) primary: bool,
    /// Made for us: may be detached and deleted.
    pub(crate) created: bool,
    pub(crate) phase: Phase,
    /// Since when it is in that phase.
    pub(crate) since: BootTime,
    /// Since when we know it.
    pub(crate) known_since: BootTime,
    /// When our last write to it ended: EC2 reads begun before prove nothing.
    pub(crate) last_write: BootTime,
    /// An unassign call under way.
    pub(crate) unassigning: Option<ActionId>,
    pub(crate) assign: Assign,
    pub(crate) assign_attempts: u32,
    /// When what is being assigned was first asked for.
    pub(crate) assign_asked_at: Option<BootTime>,
    pub(crate) assign_failure: Option<Failure>,
    pub(crate) termination: Termination,
    /// Slots it has for pods by EC2's own word, and until when we believe that.
    pub(crate) learned_cap: Option<(u32, BootTime)>,
    /// Not released before then: the last attempt met resistance.
    pub(crate) keep_until: BootTime,
    /// Since when EC2 shows it missing or detached although we did not detach it.
    pub(crate) missing_since: Option<BootTime>,
    /// Its link appeared while a configuration was under way: try again at once when that fails.
    pub(crate) link_seen: bool,
    /// When it was asked for, until it is proven; `None`: not by this process.
    pub(crate) asked_at: Option<BootTime>,
    /// Whether it was attached before it came to be deleted: EC2 may still count its slot as taken.
    pub(crate) was_attached: bool,
    /// Whether it was reported as stuck.
    pub(crate) stuck_reported: bool,
    /// The ENIConfig that it was made for, by its tag; its groups follow that.
    pub(crate) eni_config: Option<String>,
    /// Its subnet is excluded: what is free on it is not given out.
    pub(crate) excluded: bool,
    pub(crate) upkeep: Upkeep,
    pub(crate) steering: Steering,
}

/// The rules of an ENI's prefixes (layout `flat`).
///
/// ```text
///   prefix assigned ──► wanted != proven ──ConfigureEni──► proven: its addresses are given out
///   prefix given back ─► wanted != proven ──ConfigureEni──► its rule is gone
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steering {
    /// Prefixes whose rules the last set-up of the ENI proved.
    pub(crate) proven: Vec<Ipv4Net>,
    /// Those that the set-up under way will prove.
    pub(crate) proving: Vec<Ipv4Net>,
    /// Bringing the rules up to date while the ENI is in service.
    pub(crate) attempt: Try,
}

impl Steering {
    /// Nothing is proven yet.
    pub(crate) fn new(now: BootTime) -> Self {
        Self { proven: Vec::new(), proving: Vec::new(), attempt: Try::due(now) }
    }
}

/// What is known of an ENI's security groups and tags, and of bringing them up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upkeep {
    /// The groups it has; `None`: not known.
    pub(crate) groups: Option<Vec<SecurityGroupId>>,
    /// Tags that it should have and has not.
    pub(crate) missing_tags: Vec<(String, String)>,
    /// When they were last added: reads may lag.
    pub(crate) tagged_at: Option<BootTime>,
    /// A call is under way.
    pub(crate) running: bool,
    pub(crate) attempts: u32,
    /// Not before then: the last call failed.
    pub(crate) not_before: BootTime,
}

impl Eni {
    /// An ENI from EC2's description.
    pub(crate) fn from_view(view: &EniView, device_index: DeviceIndex, phase: Phase, now: BootTime) -> Self {
        Self {
            eni_id: view.eni_id.clone(),
            mac: view.mac,
            subnet_id: view.subnet_id.clone(),
            primary_address: view.primary_address,
            device_index,
            network_card: view.attachment.as_ref().map_or(0, |attachment| attachment.network_card),
            attachment_id: view.attachment.as_ref().map(|attachment| attachment.attachment_id.clone()),
            primary: false,
            created: false,
            phase,
            since: now,
            known_since: now,
            last_write: BootTime::default(),
            unassigning: None,
            assign: Assign::Idle,
            assign_attempts: 0,
            assign_asked_at: None,
            assign_failure: None,
            termination: Termination::LeftAlone,
            learned_cap: None,
            keep_until: BootTime::default(),
            missing_since: None,
            link_seen: false,
            asked_at: None,
            was_attached: view.attachment.is_some(),
            stuck_reported: false,
            eni_config: crate::tags::eni_config(view).map(str::to_owned),
            excluded: false,
            upkeep: Upkeep::default(),
            steering: Steering::new(now),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: BootTime) {
        self.phase = phase;
        self.since = now;
        self.link_seen = false;
    }

    /// Whether its free addresses can be given out.
    pub(crate) fn gives_out(&self) -> bool {
        self.gives_back() && !self.excluded
    }

    /// Whether it is in service, so that free addresses of it can be given back to EC2.
    pub(crate) fn gives_back(&self) -> bool {
        matches!(self.phase, Phase::Ready) && self.missing_since.is_none()
    }

    /// Whether its addresses count as coming: they will be given out once it is proven.
    pub(crate) fn is_coming(&self, now: BootTime) -> bool {
        match &self.phase {
            _ if self.excluded => false,
            Phase::Attaching(_) => true,
            Phase::Configuring(_) => !self.is_late(now) && self.missing_since.is_none(),
            Phase::Ready | Phase::Draining(_) | Phase::Detaching(_) | Phase::Deleting(_) => false,
        }
    }

    /// Whether it takes longer than attaching usually does, so that who waits should not count on it alone.
    pub(crate) fn is_overdue(&self, now: BootTime) -> bool {
        matches!(self.phase, Phase::Configuring(_)) && now.since(self.since) >= OVERDUE_AFTER
    }

    /// Whether it has been attached for so long without being proven that nobody should count on it.
    pub(crate) fn is_late(&self, now: BootTime) -> bool {
        match &self.phase {
            Phase::Configuring(_) => now.since(self.since) >= LATE_AFTER,
            Phase::Draining(reason) => *reason == DrainReason::Stuck,
            Phase::Attaching(_) | Phase::Ready | Phase::Detaching(_) | Phase::Deleting(_) => false,
        }
    }

    /// Whether it has been attached for so long without being proven that it is given up.
    pub(crate) fn is_stuck(&self, now: BootTime) -> bool {
        match &self.phase {
            Phase::Configuring(_) => now.since(self.since) >= STUCK_AFTER,
            _ => false,
        }
    }

    /// Whether a call that changes it is under way, so that no read tells its present state.
    pub(crate) fn being_written(&self) -> bool {
        let running = |attempt: &Try| matches!(attempt.state, TryState::Running(_));
        let moving = match &self.phase {
            Phase::Attaching(attempt) | Phase::Deleting(attempt) => running(attempt),
            Phase::Detaching(DetachStep::Detach(attempt)) => running(attempt),
            Phase::Detaching(DetachStep::Deconfigure(_))
            | Phase::Configuring(_)
            | Phase::Ready
            | Phase::Draining(_) => false,
        };
        moving || self.unassigning.is_some() || matches!(self.assign, Assign::Running { .. })
    }
}

/// An ENI asked for: its create call may have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Client token, and value of the token tag.
    pub(crate) token: String,
    pub(crate) subnet_id: SubnetId,
    pub(crate) security_group_ids: Vec<SecurityGroupId>,
    /// The ENIConfig that said so.
    pub(crate) eni_config: Option<String>,
    /// What it is created with.
    pub(crate) fill: Fill,
    pub(crate) device_index: DeviceIndex,
    /// In the tag: the same for every repetition.
    pub(crate) created_at: String,
    pub(crate) attempt: Try,
    /// Whether some call may have made it although no answer said so.
    pub(crate) maybe_created: bool,
    pub(crate) since: BootTime,
}
