// SPDX-License-Identifier: Apache-2.0
//! What goes wrong, on order: calls that fail, reads that lag, a daemon that is killed, others who meddle.

use std::time::Duration;

use ipamd_core::BootTime;
use vpc_model::{AttachFault, AttachFaultKind, Delivery, Effect, Fault, Lags};

use crate::allocator::Strategy;
use crate::client::Ec2Call;
use crate::kernel::KernelCallKind;
use crate::pace::Pace;

use super::{NodeId, World};

/// Calls of a node that fail for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFault {
    /// Of this node; `None`: of all.
    pub node: Option<NodeId>,
    /// The action; `*` for any.
    pub action: &'static str,
    /// EC2's code.
    pub code: &'static str,
    /// Whether the call takes place all the same.
    pub effect: Effect,
    /// Whether its caller hears of it.
    pub delivery: Delivery,
    /// How many calls it meets.
    pub count: u32,
    /// Until when.
    pub until: BootTime,
}

/// Something that goes wrong, or comes right again.
#[derive(Clone, Debug)]
pub enum Blow {
    /// Calls fail.
    Calls(CallFault),
    /// Reads are behind.
    Lags(Lags),
    /// Things take this long from now on.
    Pace(Box<Pace>),
    /// The next attaches of a node go wrong.
    Attach {
        /// Whose.
        node: NodeId,
        /// How many.
        count: u32,
        /// How.
        kind: AttachFaultKind,
    },
    /// IMDS of a node answers with an error so many times.
    Imds {
        /// Whose.
        node: NodeId,
        /// How many reads.
        count: u32,
    },
    /// The state folder is full, or has room again.
    Disk {
        /// Whose.
        node: NodeId,
        /// Whether it is full.
        full: bool,
    },
    /// The next call of this kind on the kernel fails.
    Kernel {
        /// Whose.
        node: NodeId,
        /// Which.
        kind: KernelCallKind,
    },
    /// The daemon is killed after so many more steps.
    Kill {
        /// Whose.
        node: NodeId,
        /// Steps it still makes.
        after: u32,
    },
    /// A running sandbox dies without a DEL.
    Vanish {
        /// Where.
        node: NodeId,
        /// Which, by number.
        which: u64,
    },
    /// Somebody else detaches, and perhaps deletes, one of the node's secondary ENIs.
    EniTaken {
        /// Whose.
        node: NodeId,
        /// Which, by number.
        which: u64,
    },
    /// EC2 takes fewer calls of every action from now on, or as many as usual.
    Throttle {
        /// Bucket of each action; `None`: EC2's own.
        bucket: Option<vpc_model::Bucket>,
    },
    /// Somebody else takes all but so many of the subnet's addresses, or gives them back.
    Squeeze {
        /// Addresses that are left; `None`: given back.
        left: Option<u32>,
    },
    /// Everything that was ordered is over.
    Peace,
}

impl<S: Strategy> World<S> {
    /// The fault that meets this call.
    pub(super) fn fault_for(&mut self, id: NodeId, request: &Ec2Call) -> Option<Fault> {
        let now = self.queue.now();
        self.faults.retain(|fault| fault.count > 0 && now < fault.until);
        let fault = self.faults.iter_mut().find(|fault| {
            fault.node.is_none_or(|node| node == id) && (fault.action == "*" || fault.action == request.action)
        })?;
        fault.count -= 1;
        let met = Fault::once(request.action, fault.code);
        Some(Fault { effect: fault.effect, delivery: fault.delivery, ..met })
    }

    pub(super) fn strike(&mut self, blow: Blow) {
        let now = self.queue.now();
        self.trace.note(now, NodeId(0), || format!("*** {blow:?}"));
        self.checker.struck(now);
        match blow {
            Blow::Calls(fault) => self.faults.push(fault),
            Blow::Lags(lags) => self.vpc.change_settings(|settings| settings.lags = lags),
            Blow::Pace(pace) => self.pace = *pace,
            Blow::Attach { node, count, kind } => {
                let instance = Some(self.nodes[node.0].instance.to_string());
                self.vpc.order_attach_fault(AttachFault { instance, count: Some(count), kind });
            }
            Blow::Imds { node, count } => self.nodes[node.0].imds_fails = count,
            Blow::Disk { node, full } => self.nodes[node.0].disk_full = full,
            Blow::Kernel { node, kind } => self.nodes[node.0].kernel.order_fault(kind),
            Blow::Kill { node, after } => {
                self.read_disk(node);
                self.nodes[node.0].dies_in = Some(after);
            }
            Blow::Vanish { node, which } => self.vanish(node, which),
            Blow::EniTaken { node, which } => self.take_eni(node, which),
            Blow::Throttle { bucket } => self.throttle(bucket),
            Blow::Squeeze { left } => self.squeeze(left),
            Blow::Peace => self.make_peace(),
        }
    }

    fn throttle(&mut self, bucket: Option<vpc_model::Bucket>) {
        const ACTIONS: [&str; 7] = [
            "CreateNetworkInterface",
            "AttachNetworkInterface",
            "DetachNetworkInterface",
            "DeleteNetworkInterface",
            "AssignPrivateIpAddresses",
            "UnassignPrivateIpAddresses",
            "DescribeNetworkInterfaces",
        ];
        self.vpc.change_settings(|settings| {
            settings.throttle.buckets.clear();
            if let Some(bucket) = bucket {
                settings.throttle.buckets.extend(ACTIONS.map(|action| (action.to_owned(), bucket)));
            }
        });
    }

    /// Somebody with the account's credentials takes an ENI away, whoever uses its addresses.
    fn take_eni(&mut self, id: NodeId, which: u64) {
        let now = self.queue.now();
        let taken: Vec<(vpc_model::EniId, String)> = self.nodes[id.0]
            .enis
            .iter()
            .filter_map(|eni| self.vpc.eni(eni))
            .filter_map(|eni| {
                let attachment = eni.attachment().filter(|attachment| attachment.device_index > 0)?;
                Some((eni.id.clone(), attachment.id.to_string()))
            })
            .collect();
        let index = usize::try_from(which).unwrap_or(0).checked_rem(taken.len());
        let Some((eni, attachment)) = index.and_then(|index| taken.get(index)) else { return };
        if let Some(lost) = self.vpc.eni(eni) {
            self.checker.taken_away(id, lost);
        }
        let params = [("AttachmentId".to_owned(), attachment.clone())];
        self.vpc.ec2(&vpc_model::Caller::default(), "DetachNetworkInterface", &params, now.0);
        self.vpc_changed();
    }

    /// Somebody else's ENI takes addresses of the first subnet.
    fn squeeze(&mut self, left: Option<u32>) {
        let now = self.queue.now();
        let caller = vpc_model::Caller::default();
        for eni in std::mem::take(&mut self.squeezers) {
            let params = [("NetworkInterfaceId".to_owned(), eni)];
            self.vpc.ec2(&caller, "DeleteNetworkInterface", &params, now.0);
        }
        let Some(left) = left else { return };
        let Some((subnet, free)) = self.vpc.subnets().next().map(|it| (it.id.to_string(), it.free_addresses())) else {
            return;
        };
        let takes = free.saturating_sub(left);
        if takes > 1 {
            let params = [
                ("SubnetId".to_owned(), subnet),
                ("SecondaryPrivateIpAddressCount".to_owned(), (takes - 1).to_string()),
            ];
            let response = self.vpc.ec2(&caller, "CreateNetworkInterface", &params, now.0);
            let id = response.body.split_once("<networkInterfaceId>").and_then(|(_, rest)| rest.split_once('<'));
            self.squeezers.extend(id.map(|(id, _)| id.to_owned()));
        }
    }

    fn make_peace(&mut self) {
        self.faults.clear();
        self.vpc.clear_faults();
        self.throttle(None);
        self.squeeze(None);
        self.vpc.change_settings(|settings| settings.lags = Lags::default());
        for node in &mut self.nodes {
            node.disk_full = false;
            node.imds_fails = 0;
            node.dies_in = None;
            node.kernel.clear_faults();
        }
        let restart = Duration::from_secs(2);
        self.pace = Pace { restart, ..Pace::default() };
    }
}
