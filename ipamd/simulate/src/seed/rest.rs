// SPDX-License-Identifier: Apache-2.0
//! What must hold once everything has come to rest, and what the journal must say at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipamd_core::config::AddressMode;
use ipamd_core::ids::Now;
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot, Snapshot};
use ipamd_core::{Core, Restored};

use crate::allocator::File;
use crate::check::Invariant;
use crate::ours::Ours;
use crate::world::{NodeId, World};

/// Peace after which everything has come to rest: beyond the longest hold-off and one verify of EC2 (an hour and a quarter).
pub(super) const SETTLES: Duration = Duration::from_secs(80 * 60);
/// How long it is then watched.
pub(super) const RESTS: Duration = Duration::from_secs(20 * 60);
/// Longer than a call takes when nothing goes wrong.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// EC2 calls in that time that a pool at rest may make: one verify, and looks at the zone's subnets and for leaked ENIs.
const CALLS_AT_REST: u32 = 10;
/// The same while something is missing that EC2 does not have: a probe every two minutes, and what it tells.
const CALLS_WHILE_SHORT: u32 = 40;

/// The journal, read back now, gives the state that the daemon has.
pub(super) fn journal_says_the_same(world: &mut World<Ours>, id: NodeId) {
    let eager = world.is_eager();
    world.read_disk(id);
    let node = &world.nodes()[id.0];
    let Some(daemon) = node.daemon() else { return };
    let core = daemon.core();
    let now = Now { boot: world.now(), unix_nanos: 0 };
    let live = core.snapshot(now);
    let bytes = |file| node.disk().get(&file).map(Vec::as_slice);
    // While the disk is full, the journal is rightly behind.
    let written = core.checkpoint();
    let on_disk =
        bytes(File::Own) == Some(&written.own_json) && bytes(File::Reference) == Some(&written.reference_json);
    if !on_disk {
        if eager && !core.is_undurable() {
            world.checker_mut().fail(Invariant::Journal, id, || "the files are not what should be in them".to_owned());
        }
        return;
    }
    let boot_id = crate::world::BOOT_ID;
    let restored = Restored::read(bytes(File::Reference), bytes(File::Own), node.kernel().view(), boot_id);
    let (again, _) = Core::new(core.config().clone(), restored, now);
    let difference = difference(&live, &again.snapshot(now));
    if let Some(text) = difference {
        world.checker_mut().fail(Invariant::Journal, id, || text);
    }
}

fn difference(live: &Snapshot, again: &Snapshot) -> Option<String> {
    let pods = |snapshot: &Snapshot| -> BTreeMap<String, Ipv4Addr> {
        snapshot.pods.iter().map(|pod| (pod.key.clone(), pod.address)).collect()
    };
    if pods(live) != pods(again) {
        return Some(format!("allocations were {:?}, read back they are {:?}", pods(live), pods(again)));
    }
    let cooling = |snapshot: &Snapshot| -> BTreeMap<Ipv4Addr, Option<u64>> {
        // One whose cooldown ends at this very moment may have ended already.
        let cools =
            |entry: &&AddressSnapshot| entry.state == "cooling" && entry.cooling_for_ms.is_some_and(|left| left > 0);
        let cooling = snapshot.addresses.iter().filter(cools);
        cooling.map(|entry| (entry.address, entry.cooling_for_ms)).collect()
    };
    if cooling(live) != cooling(again) {
        return Some(format!("cooling were {:?}, read back they are {:?}", cooling(live), cooling(again)));
    }
    let held = |snapshot: &Snapshot| -> BTreeSet<Ipv4Addr> {
        snapshot.addresses.iter().filter(|entry| entry.eni_id.is_some()).map(|entry| entry.address).collect()
    };
    if held(live) != held(again) {
        return Some(format!("addresses were {:?}, read back they are {:?}", held(live), held(again)));
    }
    let enis = |snapshot: &Snapshot| -> Vec<String> {
        let mut enis: Vec<String> = snapshot
            .enis
            .iter()
            .map(|eni| format!("{:?} {:?} {}", eni.eni_id, eni.device_index, eni.created))
            .collect();
        enis.sort();
        enis
    };
    (enis(live) != enis(again)).then(|| format!("ENIs were {:?}, read back they are {:?}", enis(live), enis(again)))
}

/// Nobody waits, the pool is at its target or as near as limits allow, and EC2 holds what the node knows and no more.
pub(super) fn is_at_rest(world: &mut World<Ours>, id: NodeId, calls_before: u32) {
    let mut verdict = judge(world, id, calls_before);
    if matches!(verdict, Err((Invariant::Target, _))) {
        // A call may be under way at this very moment: a rare probe for prefixes, most of all.
        let soon = world.now() + UNDER_WAY;
        world.run_until(soon);
        verdict = judge(world, id, calls_before);
    }
    if let Err((invariant, text)) = verdict {
        world.checker_mut().fail(invariant, id, || text);
    }
}

fn judge(world: &World<Ours>, id: NodeId, calls_before: u32) -> Result<(), (Invariant, String)> {
    let node = &world.nodes()[id.0];
    let Some(daemon) = node.daemon() else { return Err((Invariant::Target, "the daemon is not there".to_owned())) };
    let snapshot = daemon.core().snapshot(Now { boot: world.now(), unix_nanos: 0 });
    let calls = node.stats().all_calls().saturating_sub(calls_before);
    // One that was taken away is looked for now and then.
    let taken =
        snapshot.enis.iter().filter_map(|eni| eni.eni_id.as_ref()).any(|eni| world.checker().was_taken(id, eni));
    let short = snapshot.pool.shortfall > 0 || !snapshot.exhausted_subnets.is_empty() || uses_singles(world, id);
    let most = if short { CALLS_WHILE_SHORT } else { CALLS_AT_REST };
    if calls > if taken { most + CALLS_AT_REST } else { most } {
        return Err((Invariant::Storm, format!("{calls} EC2 calls in {} min of rest", RESTS.as_secs() / 60)));
    }
    if let Some(waiter) = snapshot.waiters.first() {
        return Err((Invariant::Deadline, format!("{} waits although the pods' time is over", waiter.key)));
    }
    at_its_target(world, id, &snapshot)?;
    knows_what_ec2_holds(world, id, &snapshot)?;
    let allocated: BTreeSet<Ipv4Addr> = snapshot.pods.iter().map(|pod| pod.address).collect();
    let owned: BTreeSet<Ipv4Addr> = world.checker().owners(id).map(|(_, address)| address).collect();
    if allocated != owned {
        let text = format!("living sandboxes have {owned:?}, the daemon says {allocated:?}");
        return Err((Invariant::Leak, text));
    }
    Ok(())
}

/// Whether a node in prefix mode had to fill slots with single addresses: it looks for prefixes now and then.
fn uses_singles(world: &World<Ours>, id: NodeId) -> bool {
    let Some(daemon) = world.nodes()[id.0].daemon() else { return false };
    let prefixes = daemon.core().config().address_mode != AddressMode::SecondaryIps;
    let enis = world.nodes()[id.0].enis().iter().filter_map(|eni| world.vpc().eni(eni));
    prefixes && enis.into_iter().any(|eni| !eni.secondaries.is_empty())
}

fn at_its_target(world: &World<Ours>, id: NodeId, snapshot: &Snapshot) -> Result<(), (Invariant, String)> {
    let pool = &snapshot.pool;
    // What somebody took away while pods use it stays on the books as long as they live.
    let taken = |eni: &EniSnapshot| eni.eni_id.as_ref().is_some_and(|eni| world.checker().was_taken(id, eni));
    if let Some(eni) = snapshot.enis.iter().find(|eni| eni.state != "Ready" && !taken(eni)) {
        return Err((Invariant::Target, format!("{:?} is {} ({:?})", eni.eni_id, eni.state, eni.last_failure)));
    }
    if pool.shortfall > 0 {
        let per_eni = world.slots_per_eni(id);
        let slots = world.nodes()[id.0].enis().iter().filter_map(|eni| world.vpc().eni(eni)).map(vpc_model::Eni::slots);
        let full = slots.into_iter().all(|slots| slots > per_eni);
        // One that was taken away keeps its place as long as its pods live.
        let taken = snapshot.enis.iter().any(taken);
        let room = !taken && (!full || pool.max_enis.is_some_and(|max| pool.enis < max));
        let left = world.vpc().subnets().next().map_or(0, vpc_model::Subnet::free_addresses);
        if room && left > 1 {
            let text =
                format!("{} addresses short with {left} left in the subnet: {}", pool.shortfall, snapshot.why.text);
            return Err((Invariant::Target, text));
        }
    }
    Ok(())
}

fn knows_what_ec2_holds(world: &World<Ours>, id: NodeId, snapshot: &Snapshot) -> Result<(), (Invariant, String)> {
    let vpc = world.vpc();
    let known: BTreeMap<&str, u32> =
        snapshot.enis.iter().filter_map(|eni| Some((eni.eni_id.as_ref()?.as_str(), eni.total))).collect();
    for eni in world.nodes()[id.0].enis().iter().filter_map(|eni| vpc.eni(eni)) {
        let held = eni.secondaries.len() + 16 * eni.prefixes.len();
        match known.get(eni.id.as_str()) {
            None => {
                let text = format!("{} ({}, {held} addresses) is not known to the daemon", eni.id, eni.state.name());
                return Err((Invariant::Leak, text));
            }
            Some(total) if *total as usize != held => {
                // What a living sandbox has that was taken away stays on the books.
                let bereft = world.checker().owners(id).any(|(_, address)| world.checker().is_bereft(id, address));
                if !bereft {
                    let text = format!("{} holds {held} addresses, the daemon counts {total}", eni.id);
                    return Err((Invariant::Leak, text));
                }
            }
            Some(_) => {}
        }
    }
    let gone = known.keys().find(|eni| vpc.eni(&vpc_model::EniId::from(**eni)).is_none());
    match gone {
        Some(eni) => Err((Invariant::Leak, format!("the daemon counts on {eni}, which is gone"))),
        None => Ok(()),
    }
}
