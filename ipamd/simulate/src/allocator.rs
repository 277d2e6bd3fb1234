// SPDX-License-Identifier: Apache-2.0
//! What runs on a node and gives addresses to pods, as the simulation sees it: inputs in, steps out.
//!
//! Two are run: our own daemon ([`crate::ours`], the real core) and a model of the reference's algorithm
//! ([`crate::reference`]). Neither has a clock or does anything itself. What it wants done are [`Step`]s, worked off in
//! order; the simulation may kill the node's daemon between any two of them, and starts it again from the files that were
//! written and from the kernel.
//!
//! ```text
//!   Strategy::start(found) ─► Allocator ─ handle(input, turn) ─► steps: Write, Reply, Ec2, Imds, Kernel
//!                                 ▲                                │        (after latency, retries, faults)
//!                                 └── Ec2, Imds, Kernel answers ◄──┘
//! ```
//!
//! Invariant: every Ec2, Imds and Kernel step is answered once under its number, unless the daemon dies before.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};

use ipamd_core::BootTime;
use ipamd_core::action::Allocated;
use ipamd_core::event::{Failure, KernelView};
use ipamd_core::ids::{AllocationKey, MacAddr, Now, PodRef, RequestId};
use ipamd_core::reason::Refusal;
use vpc_model::imds::ImdsView;

use crate::client::{Ec2Call, Manners};

/// Number of a call; given by the allocator, used once in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A file of the state folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// `enid.json`: our own.
    Own,
    /// `ipam.json`: the reference's checkpoint.
    Reference,
}

/// What a start finds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Bytes of `enid.json`.
    pub own: Option<Vec<u8>>,
    /// Bytes of `ipam.json`.
    pub reference: Option<Vec<u8>>,
    /// What the kernel has.
    pub kernel: KernelView,
    /// Which boot this is.
    pub boot_id: String,
}

/// One turn of an allocator: the time, what it may rely on, and what it wants done.
#[derive(Debug)]
pub struct Turn {
    /// The time.
    pub now: Now,
    /// Whether writes must be [`Step::Write`]: the daemon may be killed before its next turn, or someone reads every file.
    pub eager: bool,
    /// Whether files cannot be written now. A [`Step::Write`] given all the same is lost.
    pub disk_full: bool,
    /// What it wants done, in order.
    pub steps: Vec<Step>,
    /// What it would log; kept only when someone reads it.
    pub log: Option<Vec<String>>,
}

impl Turn {
    /// An empty turn.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { now, eager: true, disk_full: false, steps: Vec::new(), log: None }
    }

    /// The time since boot.
    #[must_use]
    pub fn boot(&self) -> BootTime {
        self.now.boot
    }

    /// Notes a line for whoever reads the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }
}

/// Something that happened to the node's daemon.
#[derive(Clone, Debug)]
pub enum Input {
    /// The plugin asks for an address.
    Add {
        /// Names the call in the reply.
        request: RequestId,
        /// The sandbox.
        key: AllocationKey,
        /// Its pod.
        pod: PodRef,
        /// When it must be answered.
        deadline: BootTime,
    },
    /// The caller of an ADD is gone.
    Abandoned {
        /// Which call.
        request: RequestId,
    },
    /// The plugin gives an address back.
    Del {
        /// Names the call in the reply.
        request: RequestId,
        /// The sandbox.
        key: AllocationKey,
    },
    /// A DEL that was left on disk.
    Tombstone {
        /// The sandbox.
        key: AllocationKey,
    },
    /// An EC2 call ended: the answer's XML, or the failure that is left after the client's retries.
    Ec2 {
        /// Which.
        call: CallId,
        /// How.
        answer: Result<String, Failure>,
    },
    /// IMDS was read whole.
    Imds {
        /// Which read.
        call: CallId,
        /// What it said.
        answer: Result<Box<ImdsView>, Failure>,
    },
    /// The kernel was read or written.
    Kernel {
        /// Which call.
        call: CallId,
        /// What came of it.
        answer: Result<KernelAnswer, Failure>,
    },
    /// The kernel has a new link.
    LinkAppeared {
        /// Its MAC.
        mac: MacAddr,
    },
    /// The time asked for by [`Allocator::next_deadline`] has come.
    Tick,
}

/// What an allocator wants done.
#[derive(Clone, Debug)]
pub enum Step {
    /// A file is replaced, whole.
    Write {
        /// Which.
        file: File,
        /// With what.
        bytes: Vec<u8>,
    },
    /// The same with what [`Allocator::file`] says after this turn, which is asked for only when somebody reads it.
    WriteLater {
        /// Which.
        file: File,
    },
    /// The answer to an ADD.
    AddReply {
        /// Which call.
        request: RequestId,
        /// The address, or why there is none.
        result: Result<Allocated, Refusal>,
    },
    /// The answer to a DEL.
    DelReply {
        /// Which call.
        request: RequestId,
    },
    /// A tombstone is removed from disk.
    ForgetTombstone {
        /// Of this sandbox.
        key: AllocationKey,
    },
    /// EC2 is called.
    Ec2 {
        /// The call's number.
        call: CallId,
        /// The call.
        request: Ec2Call,
    },
    /// IMDS is read.
    Imds {
        /// The read's number.
        call: CallId,
    },
    /// The kernel is read or written, by one thread, one call after the other.
    Kernel {
        /// The call's number.
        call: CallId,
        /// What is to be done.
        request: KernelCall,
    },
}

/// A call on the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelCall {
    /// The host's own rules.
    Host,
    /// An ENI's link: fails when there is none with this MAC.
    SetUpLink {
        /// How the link is found.
        mac: MacAddr,
    },
    /// What was set up for a link is removed.
    TearDownLink {
        /// How the link is found.
        mac: MacAddr,
    },
    /// Host veths with their aliases, and links.
    Observe,
    /// Connections and neighbours of addresses are forgotten.
    Flush {
        /// Which.
        addresses: Vec<Ipv4Addr>,
    },
    /// What is missing is put right, and what dead sandboxes left goes.
    Repair {
        /// Addresses whose objects stay.
        spared: Vec<IpAddr>,
        /// Addresses whose objects go, unless a live host veth has them.
        sweep: Vec<IpAddr>,
    },
}

/// What the kernel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAnswer {
    /// To [`KernelCall::Host`], [`KernelCall::TearDownLink`] and [`KernelCall::Flush`].
    Done,
    /// To [`KernelCall::SetUpLink`]: written and read back.
    Configured,
    /// To [`KernelCall::Observe`].
    Observed(KernelView),
    /// To [`KernelCall::Repair`].
    Repaired {
        /// Addresses whose objects went.
        swept: Vec<IpAddr>,
        /// Addresses with objects that nobody needs, as far as the kernel and the caller know.
        orphans: Vec<IpAddr>,
    },
}

/// Addresses by an allocator's own account, for those who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Addresses of the pool, in every state.
    pub total: u32,
    /// Bound to sandboxes.
    pub allocated: u32,
    /// That could be given out now.
    pub free: u32,
}

/// A node's daemon.
pub trait Allocator: Debug {
    /// Takes one input.
    fn handle(&mut self, input: Input, turn: &mut Turn);

    /// What a file of [`Step::WriteLater`] holds now.
    fn file(&self, _file: File) -> Vec<u8> {
        Vec::new()
    }

    /// When [`Input::Tick`] is wanted at the latest; `None`: never.
    fn next_deadline(&self) -> Option<BootTime>;

    /// What it holds by its own account.
    fn holdings(&self, now: Now) -> Holdings;

    /// Whether an ADD can succeed: when that first holds, the runtime's network configuration is written.
    fn is_ready(&self, now: Now) -> bool {
        self.holdings(now).free > 0
    }
}

/// An algorithm with its settings: starts allocators.
pub trait Strategy {
    /// What it starts.
    type Allocator: Allocator;

    /// Its name in tables.
    fn name(&self) -> &str;

    /// How its EC2 client behaves.
    fn manners(&self) -> Manners;

    /// How long a released address must rest by its settings: what watchers hold it to.
    fn cooldown(&self) -> std::time::Duration;

    /// Starts a daemon.
    fn start(&self, found: Found, turn: &mut Turn) -> Self::Allocator;
}
