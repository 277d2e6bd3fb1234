// SPDX-License-Identifier: Apache-2.0
//! One pass of repair: read the node's namespace, write what is missing of the host, the ENIs and the pods, remove the orphans
//! that the caller names, read again.
//!
//! Decides nothing about what must be there (`plan`), nor about when and how often (the caller). A failure of one part does
//! not keep the others from being repaired.
//!
//! Links are read after what belongs to them: a pod that is detached meanwhile has its objects still or is dead already,
//! so nothing is put back for it; one that is attached meanwhile is not among the caller's pods yet. A pod that is detached between
//! reading and writing is seen dead by the reading afterwards, and what was written for it goes; if it is seen alive then, its detach
//! finds what was written, for the link dies first.
//!
//! Not closed: a detach between the look at a link's group and the write of it, some 50 us where a layout changes. The link is in a group
//! of the living then until its namespace ends, without a route, which its detach has taken away.
//!
//! Invariant: nothing is written when nothing is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rustix::io::Errno;

use super::error::ApplyError;
use super::fault;
use super::ledger::Ledger;
use super::netlink::Socket;
use super::netlink::read::{self, Link, RouteFilter};
use super::{eni, execute, host};
use crate::plan::eni::EniSetup;
use crate::plan::host::HostSetup;
use crate::plan::pods::{self, LivePod, NodeLink, NodeState};
use crate::plan::repair::Repair;
use crate::plan::{Family, LinkName, LinkRef, LinkSet, MacAddr, Op, ids};

/// What must be so.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The node; `None`: left as it is, and pods keep their layouts.
    pub host: Option<HostSetup>,
    /// ENIs in service.
    pub enis: Vec<EniSetup>,
    /// Pods, as far as they are plumbed.
    pub pods: Vec<LivePod>,
    /// Addresses whose objects are nobody's business here: held, being attached, of ENIs.
    pub spared: BTreeSet<IpAddr>,
    /// Orphans of an earlier pass whose objects go now, if they are orphans still.
    pub sweep: BTreeSet<IpAddr>,
}

/// What a pass found and did.
#[derive(Debug, Default)]
pub struct Pass {
    /// What was put right, in order.
    pub repairs: Vec<Repair>,
    /// Objects of orphans that were removed.
    pub swept: Vec<Op>,
    /// Addresses with objects of ours that nobody needs; those swept now are not among them.
    pub orphans: BTreeSet<IpAddr>,
    /// What could not be put right, or differs still.
    pub failures: Vec<Failed>,
}

/// A part of the node's network that is put right by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The node's own set-up.
    Host,
    /// That of the ENI with this MAC.
    Eni(MacAddr),
    /// What pods have.
    Pods,
}

/// Why a part could not be put right.
#[derive(Debug)]
pub struct Failed {
    /// Which.
    pub part: Part,
    /// Why.
    pub error: ApplyError,
}

/// Makes it so, as far as the kernel lets us. What settings of the node were before is in the ledger then.
///
/// # Errors
/// The kernel cannot be read.
pub fn pass_with(desired: &Desired, ledger: &mut Ledger) -> Result<Pass, ApplyError> {
    let mut pass = Pass::default();
    if let Some(setup) = &desired.host {
        pass.note(Part::Host, host::setup_with(setup, ledger));
    }
    for setup in &desired.enis {
        pass.note(Part::Eni(setup.mac), eni::setup_with(setup, ledger));
    }
    let mut socket = Socket::route()?;
    let mut state = observe(&mut socket)?;
    state.keeps_layouts = !pass.failures.is_empty() || desired.host.is_none();
    let missing = pods::diff(&desired.pods, &state);
    let mut orphans = pods::orphans(&state, &desired.spared);
    if !missing.is_empty() {
        pass.write(&mut socket, &missing, &names(&state))?;
        let mut now = observe(&mut socket)?;
        now.keeps_layouts = state.keeps_layouts;
        let outrun = pods::ended(&desired.pods, &state, &now);
        let left = pods::diff(&desired.pods, &now);
        let left = left.into_iter().map(|repair| repair.op).collect();
        pass.fail(Part::Pods, eni::prove("pods", &crate::plan::Plan { ops: left }).err());
        if !outrun.is_empty() {
            pass.sweep(&mut socket, outrun)?;
        }
    }
    if pass.repairs.iter().any(leaves_flat) {
        // What only layout flat needs goes with the last pod that is plumbed so.
        for setup in &desired.enis {
            pass.note(Part::Eni(setup.mac), eni::setup_with(setup, ledger));
        }
        if let Some(setup) = &desired.host {
            pass.note(Part::Host, host::setup_with(setup, ledger));
        }
    }
    orphans.retain(|address, _| desired.sweep.contains(address) || !pass.orphans.insert(*address));
    if !orphans.is_empty() {
        pass.sweep(&mut socket, orphans)?;
    }
    Ok(pass)
}

/// The same with nothing kept of what was before.
#[cfg(test)]
pub(crate) fn pass(desired: &Desired) -> Result<Pass, ApplyError> {
    pass_with(desired, &mut Ledger::nowhere())
}

/// Whether a pod's route in the table of layout flat was removed.
fn leaves_flat(repair: &Repair) -> bool {
    matches!(&repair.op, Op::RouteDelete(route) if route.table == ids::POD_TABLE)
}

/// The link whose group is changed.
fn regrouped(op: &Op) -> Option<u32> {
    match op {
        Op::LinkSet(LinkSet { link: LinkRef::Index(index), group: Some(_), .. }) => Some(*index),
        _ => None,
    }
}

impl Pass {
    fn note(&mut self, part: Part, outcome: Result<crate::plan::Plan, ApplyError>) {
        match outcome {
            Ok(written) => self.repairs.extend(written.ops.into_iter().map(Repair::from)),
            Err(error) => self.fail(part, Some(error)),
        }
    }

    fn fail(&mut self, part: Part, errors: impl IntoIterator<Item = ApplyError>) {
        self.failures.extend(errors.into_iter().map(|error| Failed { part, error }));
    }

    /// All writes in one send, but for groups: a link that a detach has put into the dead group must not come out of it, so its group is
    /// looked at just before. A detach that is still quicker takes away what was written by then.
    fn write(
        &mut self,
        socket: &mut Socket,
        repairs: &[Repair],
        names: &BTreeMap<u32, LinkName>,
    ) -> Result<(), ApplyError> {
        for run in repairs.chunk_by(|_, next| regrouped(&next.op).is_none()) {
            fault::point()?;
            let is_dead = match run.first().and_then(|first| regrouped(&first.op)) {
                Some(index) => read::link_by_index(socket, index)?.is_none_or(|link| link.group == ids::DEAD_GROUP),
                None => false,
            };
            self.write_run(socket, run.get(usize::from(is_dead)..).unwrap_or_default(), names)?;
        }
        Ok(())
    }

    /// In one send. A link that has gone meanwhile needs nothing.
    fn write_run(
        &mut self,
        socket: &mut Socket,
        run: &[Repair],
        names: &BTreeMap<u32, LinkName>,
    ) -> Result<(), ApplyError> {
        let ops: Vec<_> = run.iter().map(|repair| repair.op.clone()).collect();
        for (repair, outcome) in run.iter().zip(execute::try_all(socket, &ops, index)?) {
            match outcome {
                Ok(_) => self.repairs.push(Repair { op: named(repair.op.clone(), names), ..repair.clone() }),
                Err(error) if error.errno() == Some(Errno::NODEV.raw_os_error()) => {}
                Err(error) => self.fail(Part::Pods, Some(error)),
            }
        }
        Ok(())
    }

    /// Rules have no owner in the kernel: whose an address is now is looked at once more, just before they go.
    fn sweep(&mut self, socket: &mut Socket, orphans: BTreeMap<IpAddr, Vec<Op>>) -> Result<(), ApplyError> {
        let live: BTreeSet<IpAddr> = read::links(socket)?
            .iter()
            .filter(|link| link.group != ids::DEAD_GROUP)
            .filter_map(Link::alias)
            .flat_map(|alias| alias.addresses.iter())
            .collect();
        let gone = orphans.into_iter().filter(|(address, _)| !live.contains(address));
        let ops: Vec<_> = gone.flat_map(|(_, ops)| ops).collect();
        for (op, outcome) in ops.iter().zip(execute::try_all(socket, &ops, index)?) {
            match outcome {
                Ok(execute::Done::Changed) => self.swept.push(op.clone()),
                Ok(execute::Done::WasSo) => {}
                Err(error) => self.fail(Part::Pods, Some(error)),
            }
        }
        Ok(())
    }
}

/// All that [`pods::diff`] and [`pods::orphans`] compare, and an uninstall; links last.
pub(super) fn observe(socket: &mut Socket) -> Result<NodeState, ApplyError> {
    let mut state = NodeState::default();
    for family in Family::ALL {
        state.rules.extend(read::rules(socket, family)?);
        state.routes.extend(read::routes(socket, RouteFilter { family, ..RouteFilter::default() })?);
        state.neighbours.extend(read::neighbours(socket, family, ids::PROTOCOL)?);
    }
    state.links = read::links(socket)?.iter().filter_map(node_link).collect();
    Ok(state)
}

fn node_link(link: &Link) -> Option<NodeLink> {
    Some(NodeLink {
        index: link.index,
        name: LinkName::new(&link.name).ok()?,
        mac: link.mac,
        up: link.up,
        group: link.group,
        mtu: link.mtu,
        alias: link.alias(),
        is_bare_veth: link.is_veth() && link.alias_text.is_none() && link.group != ids::MAKING_GROUP,
    })
}

pub(super) fn names(state: &NodeState) -> BTreeMap<u32, LinkName> {
    state.links.iter().map(|link| (link.index, link.name.clone())).collect()
}

/// The operation as a person reads it.
pub(super) fn named(mut op: Op, names: &BTreeMap<u32, LinkName>) -> Op {
    if let Some(link) = op.link_mut()
        && let LinkRef::Index(index) = link
        && let Some(name) = names.get(index)
    {
        *link = LinkRef::Name(name.clone());
    }
    op
}

pub(super) fn index(link: &LinkRef) -> Result<u32, ApplyError> {
    match link {
        LinkRef::Index(index) => Ok(*index),
        other => execute::no_link(other),
    }
}
