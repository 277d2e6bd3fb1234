// SPDX-License-Identifier: Apache-2.0
//! One node: its daemon while it lives, and what outlives it: files, kernel, sandboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ipamd_core::BootTime;
use ipamd_core::ids::{AllocationKey, RequestId};
use vpc_model::{EniId, InstanceId};

use crate::allocator::{CallId, File};
use crate::client::{Client, Ec2Call};
use crate::kernel::Kernel;
use crate::stats::Stats;

use super::runtime::Sandbox;

/// Which node of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Which life of a node's daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) u32);

/// An EC2 call under way.
#[derive(Clone, Debug)]
pub(crate) struct OpenCall {
    pub(crate) request: Rc<Ec2Call>,
    pub(crate) began: BootTime,
    pub(crate) attempt: u32,
}

/// One node.
#[derive(Debug)]
pub struct Node<A> {
    pub(crate) instance: InstanceId,
    /// `None`: it does not run now.
    pub(crate) daemon: Option<A>,
    pub(crate) life: Life,
    pub(crate) client: Client,
    pub(crate) calls: BTreeMap<CallId, OpenCall>,
    /// When the tick comes that is in the queue.
    pub(crate) tick_at: Option<BootTime>,
    pub(crate) disk: BTreeMap<File, Vec<u8>>,
    /// Files that were written since, their bytes not asked for yet.
    pub(crate) unread: BTreeSet<File>,
    pub(crate) disk_full: bool,
    /// Reads of IMDS that fail yet.
    pub(crate) imds_fails: u32,
    /// DELs left on disk.
    pub(crate) tombstones: BTreeSet<AllocationKey>,
    /// Of these, those that this life has been told of.
    pub(crate) told: BTreeSet<AllocationKey>,
    pub(crate) kernel: Kernel,
    pub(crate) sandboxes: BTreeMap<AllocationKey, Sandbox>,
    /// ADD calls without an answer.
    pub(crate) adds: BTreeMap<RequestId, AllocationKey>,
    /// DEL calls without an answer.
    pub(crate) dels: BTreeMap<RequestId, AllocationKey>,
    /// Whether the runtime's network configuration was written.
    pub(crate) network: bool,
    /// Pods that wait for it.
    pub(crate) before_network: Vec<usize>,
    /// Steps until the daemon is killed, when it is to be.
    pub(crate) dies_in: Option<u32>,
    /// ENIs that it was launched with or has created.
    pub(crate) enis: Vec<EniId>,
    pub(crate) stats: Stats,
}

impl<A> Node<A> {
    pub(crate) fn new(instance: InstanceId, client: Client) -> Self {
        Self {
            instance,
            daemon: None,
            life: Life::default(),
            client,
            calls: BTreeMap::new(),
            tick_at: None,
            disk: BTreeMap::new(),
            unread: BTreeSet::new(),
            disk_full: false,
            imds_fails: 0,
            tombstones: BTreeSet::new(),
            told: BTreeSet::new(),
            kernel: Kernel::default(),
            sandboxes: BTreeMap::new(),
            adds: BTreeMap::new(),
            dels: BTreeMap::new(),
            network: false,
            before_network: Vec::new(),
            dies_in: None,
            enis: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// The daemon, while it runs.
    #[must_use]
    pub fn daemon(&self) -> Option<&A> {
        self.daemon.as_ref()
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The files of the state folder, but for those written since the last [`super::World::read_disk`].
    #[must_use]
    pub fn disk(&self) -> &BTreeMap<File, Vec<u8>> {
        &self.disk
    }

    /// What was measured.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// ENIs that it was launched with or has created, but for those that were deleted since.
    #[must_use]
    pub fn enis(&self) -> &[EniId] {
        &self.enis
    }
}
