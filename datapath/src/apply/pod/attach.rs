// SPDX-License-Identifier: Apache-2.0
//! Attach, with its undo log.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use super::site::Site;
use super::standing::{Standing, look};
use crate::apply::error::ApplyError;
use crate::apply::execute::{self, Done};
use crate::apply::fault;
use crate::apply::netlink::read::{self, Ipv6Settings, Link, RouteFilter};
use crate::apply::netlink::{Socket, message, unreadable};
use crate::apply::sysctl;
use crate::plan::pod::{self as plan, PodAttachment, PodPlan};
use crate::plan::{Family, LinkName, LinkRef, Op, Route, RouteTable, Rule, Sysctl, VethAlias, ids};

/// Both ends of a pod's veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedPod {
    /// Index of the host end, in the node's namespace.
    pub host_index: u32,
    /// Index of the pod's link, in the pod's namespace.
    pub pod_index: u32,
}

/// What an attach came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The pod is plumbed now.
    Now(AttachedPod),
    /// It was before, and is not touched. Its host veth: of another name than was asked for when the prefix was changed since.
    Before(LinkName),
}

/// What making the veth came to.
enum Veth {
    /// Both ends are there now; with what the host end does as a host of IPv6, as far as the kernel says so.
    Made(AttachedPod, Option<Ipv6Settings>),
    /// Nothing was made: the pod is plumbed already, by this host veth.
    Plumbed(LinkName),
}

/// Everything an attach works with.
struct Attach<'a> {
    site: &'a mut Site,
    pod: &'a PodAttachment,
    plan: PodPlan,
    undo: Undo,
}

/// What a failed attach has to take back.
#[derive(Default)]
struct Undo {
    host_index: Option<u32>,
    rules: Vec<Rule>,
}

impl Site {
    /// Plumbs a pod. One that is plumbed already is left alone; it is looked for only where the kernel refuses the veth. A stale host
    /// veth of the same name, or of this owner, is deleted first (that waits for a grace period of some 20 ms; nothing else does).
    ///
    /// # Errors
    /// Any; nothing is left behind. [`ApplyError::AddressInUse`] when the address is still routed to another pod's link,
    /// [`ApplyError::LinkNameTaken`] when the host veth's name belongs to a link that cannot be a host veth.
    pub fn attach(&mut self, pod: &PodAttachment) -> Result<Attached, ApplyError> {
        Attach::new(self, pod)?.run()
    }
}

/// A re-created StatefulSet pod finds its predecessor's host veth; a repeated ADD finds its own. Both go. A veth of that
/// name without an alias is a pod of the reference, or of an ADD that was killed: the name is made of the pod's, so it is
/// this pod's predecessor all the same.
fn remove_stale_link(node: &mut Socket, pod: &PodAttachment) -> Result<(), ApplyError> {
    let Some(link) = read::link_by_name(node, &pod.host_veth)? else { return Ok(()) };
    if !link.is_veth() || (link.alias_text.is_some() && link.alias().is_none()) {
        let kind = link.kind.unwrap_or_else(|| "no virtual link".to_owned());
        let alias = link.alias_text.map(|alias| format!(", alias `{alias}`")).unwrap_or_default();
        return Err(ApplyError::LinkNameTaken { name: pod.host_veth.clone(), kind: kind + &alias });
    }
    delete(node, &link)?;
    // Its DEL may never come: its rules would outlive it.
    let Some(alias) = link.alias() else { return Ok(()) };
    for address in alias.addresses.iter().filter(|address| !pod.addresses.contains(*address)) {
        if host_route(node, address)?.is_none() {
            let ops: Vec<_> = plan::rules_of(address).map(Op::RuleDelete).collect();
            execute::all(node, &ops, execute::no_link)?;
        }
    }
    Ok(())
}

fn delete(node: &mut Socket, link: &Link) -> Result<(), ApplyError> {
    match node.request(message::delete_link(link.index, &link.name)) {
        Err(error) if error.errno() != Some(Errno::NODEV.raw_os_error()) => Err(error),
        _ => Ok(()),
    }
}

/// The host route of an address, if it has one, whatever the layout of the pod that has it.
pub(super) fn host_route(node: &mut Socket, address: IpAddr) -> Result<Option<Route>, ApplyError> {
    for table in plan::HOST_ROUTE_TABLES {
        let found = host_route_in(node, address, table)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn host_route_in(node: &mut Socket, address: IpAddr, table: RouteTable) -> Result<Option<Route>, ApplyError> {
    let wanted = IpNet::from(address);
    Ok(read::routes(node, RouteFilter::of(Family::of(address), table))?
        .into_iter()
        .find(|route| route.destination == wanted))
}

impl<'a> Attach<'a> {
    fn new(site: &'a mut Site, pod: &'a PodAttachment) -> Result<Self, ApplyError> {
        VethAlias::new(&pod.owner, pod.addresses)
            .map_err(|source| ApplyError::Alias { link: pod.host_veth.clone(), source })?;
        Ok(Self { site, pod, plan: plan::attach(pod), undo: Undo::default() })
    }

    fn run(mut self) -> Result<Attached, ApplyError> {
        let result = self.make_all();
        if result.is_err() {
            self.take_back();
        }
        result
    }

    fn make_all(&mut self) -> Result<Attached, ApplyError> {
        let (ends, settings) = match self.make_veth()? {
            Veth::Made(ends, settings) => (ends, settings),
            Veth::Plumbed(host_veth) => return Ok(Attached::Before(host_veth)),
        };
        fault::point()?;
        if settings.is_none() {
            self.plan.without_ipv6();
        }
        for setting in &self.plan.sysctls {
            match settings.and_then(|settings| settings.value(setting.key())) {
                Some(found) => sysctl::ensure_from(setting, found)?,
                None => sysctl::ensure(setting)?,
            };
        }
        self.set_in_pod(&self.plan.pod_sysctls)?;
        fault::point()?;
        execute::all(&mut self.site.inside, &self.plan.pod, |_| Ok(ends.pod_index))?;
        fault::point()?;
        let late = self.run_node(ends.host_index)?;
        fault::point()?;
        self.run_rules()?;
        fault::point()?;
        self.set_in_pod(&self.plan.last_sysctls)?;
        let loopback = |_: &LinkRef| Ok(LOOPBACK_INDEX);
        execute::all(&mut self.site.inside, std::slice::from_ref(&self.plan.pod_last), loopback)?;
        // The pod's link was opened before its peer, so its queue starts with the carrier, which a kernel worker takes note
        // of some time later; until then what the pod sends is lost. Asking for the link makes the kernel take note now
        // (Linux 6.8, facd15dfd691 "net: core: synchronize link-watch when carrier is queried").
        read::link_by_index(&mut self.site.inside, ends.pod_index)?;
        if settings.is_some_and(Ipv6Settings::is_on) {
            self.remove_late(&late, ends.host_index)?;
        }
        Ok(Attached::Now(ends))
    }

    fn set_in_pod(&self, settings: &[Sysctl]) -> Result<(), ApplyError> {
        if settings.is_empty() {
            return Ok(());
        }
        self.site.netns.inside(|| settings.iter().try_for_each(|setting| sysctl::ensure(setting).map(|_| ())))
    }

    /// That nothing has the host veth's name is not asked before: the kernel refuses a second link of a name (NLM_F_EXCL).
    fn make_veth(&mut self) -> Result<Veth, ApplyError> {
        let request = || message::veth(&self.plan.veth, self.site.netns.fd());
        let doing = request().doing;
        let answer = match self.site.node.request(request()) {
            Err(taken) if taken.errno() == Some(Errno::EXIST.raw_os_error()) => {
                // Who cannot be looked at is not cut off.
                let (standing, own) = look(&self.site.path, self.pod)?;
                if let (Standing::Plumbed, Some(link)) = (standing, &own) {
                    let name = LinkName::new(&link.name).unwrap_or_else(|_| self.pod.host_veth.clone());
                    return Ok(Veth::Plumbed(name));
                }
                // Or it is the pod's link whose name is taken: then the kernel says so again.
                remove_stale_link(&mut self.site.node, self.pod)?;
                if let Some(link) = own.filter(|link| link.name != self.pod.host_veth.as_str()) {
                    delete(&mut self.site.node, &link)?;
                }
                self.site.node.request(request())?
            }
            answer => answer?,
        };
        let echo = read::link_of(answer);
        // Before Linux 6.2 there is no echo: the link is asked for by name.
        let link = match echo {
            Some(link) => Some(link),
            None => read::link_by_name(&mut self.site.node, &self.pod.host_veth)?,
        };
        let Some(Link { index: host_index, peer, ipv6, .. }) = link else {
            return Err(unreadable(&doing, "the link that was just made is not there"));
        };
        self.undo.host_index = Some(host_index);
        let pod_index = peer.ok_or_else(|| unreadable(&doing, "no peer index"))?;
        Ok(Veth::Made(AttachedPod { host_index, pod_index }, ipv6))
    }

    /// Host end up, routes, neighbours. A route to a link that is dead, or this sandbox's own from an earlier ADD, gives way.
    /// The kernel refuses a second route to an address in one table; that there is none in the other layout's is looked up.
    /// Returns the removals of what was not there yet.
    fn run_node(&mut self, host_index: u32) -> Result<Vec<Op>, ApplyError> {
        for own in self.pod.objects().routes {
            let found = read::route_to(&mut self.site.node, own.destination.addr())?;
            if let Some(route) = found.filter(|route| plan::is_host_route(route) && route.table != own.table) {
                self.clear_way(route, host_index)?;
            }
        }
        let (mut again, mut late) = (Vec::new(), Vec::new());
        let outcomes = execute::try_all(&mut self.site.node, &self.plan.node, |_| Ok(host_index))?;
        for (op, outcome) in self.plan.node.clone().into_iter().zip(outcomes) {
            let (Err(refused), Op::RouteAdd(own)) = (&outcome, &op) else {
                let is_late = outcome? == Done::WasSo && matches!(op, Op::RouteDelete(_));
                late.extend(is_late.then_some(op));
                continue;
            };
            let is_taken = refused.errno() == Some(Errno::EXIST.raw_os_error());
            match host_route_in(&mut self.site.node, own.destination.addr(), own.table)? {
                Some(route) if is_taken => self.clear_way(route, host_index)?,
                _ => return outcome.map(|_| Vec::new()),
            }
            again.push(op);
        }
        execute::all(&mut self.site.node, &again, |_| Ok(host_index))?;
        Ok(late)
    }

    /// What the kernel makes itself as the link comes up, it makes later where a worker of its has seen the link without carrier
    /// before. Asking for the link has it do that now (as of the pod's link, [`Self::make_all`]; before Linux 6.8 it stays).
    fn remove_late(&mut self, late: &[Op], host_index: u32) -> Result<(), ApplyError> {
        if late.is_empty() {
            return Ok(());
        }
        read::link_by_index(&mut self.site.node, host_index)?;
        execute::all(&mut self.site.node, late, |_| Ok(host_index)).map(|_| ())
    }

    /// Removes a host route of an address of the pod, unless a living link of somebody else has it.
    fn clear_way(&mut self, route: Route, host_index: u32) -> Result<(), ApplyError> {
        let LinkRef::Index(index) = route.link else { return Ok(()) };
        let holder = read::link_by_index(&mut self.site.node, index)?;
        let alias = holder.as_ref().and_then(Link::alias);
        let is_dead = holder.as_ref().is_some_and(|link| link.group == ids::DEAD_GROUP);
        let is_own = alias.as_ref().is_some_and(|alias| alias.owner == self.pod.owner);
        if index == host_index || !(is_dead || is_own) {
            let link = holder.map_or_else(|| format!("if{index}"), |link| link.name);
            let owner = alias.map(|alias| alias.owner);
            return Err(ApplyError::AddressInUse { address: route.destination.addr(), link, owner });
        }
        execute::all(&mut self.site.node, &[Op::RouteDelete(route)], |_| Ok(index)).map(|_| ())
    }

    /// The rules. When a removal did find a stale rule there may be more of that kind: all of this address go, and ours are made
    /// again.
    fn run_rules(&mut self) -> Result<(), ApplyError> {
        let mut outcomes = execute::try_all(&mut self.site.node, &self.plan.rules, execute::no_link)?;
        self.remember_rules(&outcomes);
        let removals = self.plan.rules.iter().zip(&outcomes).filter_map(|(op, outcome)| match (op, outcome) {
            (Op::RuleDelete(rule), Ok(Done::Changed)) => Some(rule.clone()),
            _ => None,
        });
        let removed: Vec<Rule> = removals.collect();
        if !removed.is_empty() {
            let is_stale = |rule: &Rule| {
                let alike = |gone: &Rule| (gone.priority, gone.from, gone.to) == (rule.priority, rule.from, rule.to);
                removed.iter().any(alike)
            };
            let mut rules = Vec::new();
            for address in self.pod.addresses.iter() {
                rules.extend(read::rules(&mut self.site.node, Family::of(address))?);
            }
            let stale = rules.into_iter().map(|(rule, _)| rule).filter(is_stale).map(Op::RuleDelete);
            let wanted = self.plan.rules.iter().filter(|op| matches!(op, Op::RuleAdd(_)));
            let ops: Vec<_> = stale.chain(wanted.cloned()).collect();
            outcomes = execute::try_all(&mut self.site.node, &ops, execute::no_link)?;
        }
        outcomes.into_iter().collect::<Result<Vec<_>, _>>().map(|_| ())
    }

    fn remember_rules(&mut self, outcomes: &[Result<Done, ApplyError>]) {
        let made = self.plan.rules.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Ok(Done::Changed)));
        self.undo.rules.extend(made.filter_map(|(op, _)| match op {
            Op::RuleAdd(rule) => Some(rule.clone()),
            _ => None,
        }));
    }

    /// Best effort: the error that led here is the one to report.
    fn take_back(&mut self) {
        if let Some(index) = self.undo.host_index {
            let _ = self.site.node.request(message::delete_link(index, self.pod.host_veth.as_str()));
        }
        for rule in std::mem::take(&mut self.undo.rules) {
            let address = rule.to.or(rule.from).map(|block| block.addr());
            if address.is_some_and(|address| matches!(host_route(&mut self.site.node, address), Ok(None))) {
                let _ = execute::try_all(&mut self.site.node, &[Op::OwnRuleDelete(rule)], execute::no_link);
            }
        }
    }
}

/// `lo` is the first link of every namespace (`loopback_net_init`, `drivers/net/loopback.c`).
const LOOPBACK_INDEX: u32 = 1;
