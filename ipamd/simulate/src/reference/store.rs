// SPDX-License-Identifier: Apache-2.0
//! The reference's data store: which ENI holds which addresses and prefixes, which of them belong to pods.
//!
//! Decides which address a pod gets, which ENI has room, which ENI can go. Asks nobody anything.
//!
//! Its peculiarities are kept, because they are what is compared: ENIs and blocks are visited in random order, an address
//! that cools counts as free, blocks whose addresses cool are given back, a block that disappears takes its pods along.
//!
//! ```text
//! ENI ─► block (/32 or /28) ─► entry of an address: Pod(key) ─DEL─► Rested{since} ─found again after the cooldown─► gone
//! ```
//! Source: the reference (amazon-vpc-cni-k8s v1.23), its data store.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipamd_core::ids::AllocationKey;
use ipnet::Ipv4Net;
use vpc_model::{EniId, IdSource};

use super::decide::{Counts, Mode, PREFIX_ADDRESSES, Rules};

/// An ENI younger than this is not freed.
const YOUNG: Duration = Duration::from_secs(60);

/// What is known of an address that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A pod has it.
    Pod(AllocationKey),
    /// No pod has it any more.
    Rested {
        /// Since when.
        since: Duration,
    },
}

/// A single address or a prefix. Addresses without an entry were never used.
#[derive(Clone, Debug, Default)]
struct Block {
    entries: BTreeMap<Ipv4Addr, Entry>,
}

impl Block {
    fn pods(&self) -> u32 {
        count(self.entries.values().filter(|entry| matches!(entry, Entry::Pod(_))).count())
    }

    fn cools(&self, now: Duration, cooldown: Duration) -> bool {
        self.entries.values().any(|entry| entry.cools(now, cooldown))
    }

    /// An address for a pod; what has rested long enough goes first.
    fn take(&mut self, net: Ipv4Net, now: Duration, cooldown: Duration) -> Option<Ipv4Addr> {
        let rested = |entry: &Entry| matches!(entry, Entry::Rested { .. }) && !entry.cools(now, cooldown);
        let again = self.entries.iter().find(|(_, entry)| rested(entry)).map(|(address, _)| *address);
        self.entries.retain(|_, entry| !rested(entry));
        again.or_else(|| {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            (first..=last).map(Ipv4Addr::from).find(|address| !self.entries.contains_key(address))
        })
    }
}

impl Entry {
    fn cools(&self, now: Duration, cooldown: Duration) -> bool {
        matches!(self, Self::Rested { since } if now.saturating_sub(*since) <= cooldown)
    }
}

/// An ENI.
#[derive(Clone, Debug)]
struct Eni {
    /// When this process took it up.
    since: Duration,
    /// 0: the primary one.
    device_index: u32,
    blocks: BTreeMap<Ipv4Net, Block>,
}

impl Eni {
    fn pods(&self) -> u32 {
        self.blocks.values().map(Block::pods).sum()
    }

    fn size(&self, mode: Mode) -> u32 {
        self.blocks.keys().filter(|net| is_of(mode, net)).map(size).sum()
    }
}

/// An address that a sandbox got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) address: Ipv4Addr,
    pub(crate) eni: EniId,
    pub(crate) device_index: u32,
}

/// The store of one process.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    mode: Mode,
    cooldown: Duration,
    enis: BTreeMap<EniId, Eni>,
}

impl Store {
    pub(crate) fn new(mode: Mode, cooldown: Duration) -> Self {
        Self { mode, cooldown, enis: BTreeMap::new() }
    }

    /// Takes up an ENI; one that is known already is left as it is.
    pub(crate) fn add_eni(&mut self, id: &EniId, device_index: u32, now: Duration) {
        self.enis.entry(id.clone()).or_insert(Eni { since: now, device_index, blocks: BTreeMap::new() });
    }

    /// Forgets an ENI, pods or not.
    pub(crate) fn remove_eni(&mut self, id: &EniId) {
        self.enis.remove(id);
    }

    pub(crate) fn has_eni(&self, id: &EniId) -> bool {
        self.enis.contains_key(id)
    }

    pub(crate) fn enis(&self) -> impl ExactSizeIterator<Item = &EniId> {
        self.enis.keys()
    }

    /// Adds a block to an ENI; one that is known already is left as it is.
    pub(crate) fn add_block(&mut self, id: &EniId, net: Ipv4Net) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.blocks.entry(net).or_default();
        }
    }

    /// Forgets a block, pods or not.
    pub(crate) fn remove_block(&mut self, id: &EniId, net: &Ipv4Net) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.blocks.remove(net);
        }
    }

    /// The blocks of an ENI.
    pub(crate) fn blocks(&self, id: &EniId) -> Vec<Ipv4Net> {
        self.enis.get(id).map(|eni| eni.blocks.keys().copied().collect()).unwrap_or_default()
    }

    /// An address for this sandbox, the same one as before if it has one. `None`: there is no free one.
    pub(crate) fn assign(&mut self, key: &AllocationKey, now: Duration, dice: &mut IdSource) -> Option<Assigned> {
        if let Some(assigned) = self.assigned_to(key) {
            return Some(assigned);
        }
        let (mode, cooldown) = (self.mode, self.cooldown);
        for id in shuffled(self.enis.keys().cloned(), dice) {
            let Some(eni) = self.enis.get_mut(&id) else { continue };
            for net in shuffled(eni.blocks.keys().copied().filter(|net| is_of(mode, net)), dice) {
                let Some(block) = eni.blocks.get_mut(&net) else { continue };
                if let Some(address) = block.take(net, now, cooldown) {
                    block.entries.insert(address, Entry::Pod(key.clone()));
                    return Some(Assigned { address, device_index: eni.device_index, eni: id });
                }
            }
        }
        None
    }

    /// Takes the sandbox's address back. `None`: it has none.
    pub(crate) fn unassign(&mut self, key: &AllocationKey, now: Duration) -> Option<Ipv4Addr> {
        let entries = self.enis.values_mut().flat_map(|eni| eni.blocks.values_mut()).flat_map(|b| b.entries.iter_mut());
        let (address, entry) = { entries }.find(|(_, entry)| matches!(entry, Entry::Pod(holder) if holder == key))?;
        *entry = Entry::Rested { since: now };
        Some(*address)
    }

    /// Undoes an assignment, as if it had not been.
    pub(crate) fn forget(&mut self, key: &AllocationKey) {
        for block in self.enis.values_mut().flat_map(|eni| eni.blocks.values_mut()) {
            block.entries.retain(|_, entry| !matches!(entry, Entry::Pod(holder) if holder == key));
        }
    }

    /// Addresses that cool.
    pub(crate) fn cooling(&self, now: Duration) -> u32 {
        let entries = self.enis.values().flat_map(|eni| eni.blocks.values()).flat_map(|block| block.entries.values());
        count(entries.filter(|entry| entry.cools(now, self.cooldown)).count())
    }

    /// Marks an address as the sandbox's, as its checkpoint says. An address that no block covers is dropped.
    pub(crate) fn restore(&mut self, key: &AllocationKey, address: Ipv4Addr) {
        let mut blocks = self.enis.values_mut().flat_map(|eni| eni.blocks.iter_mut());
        if let Some((_, block)) = blocks.find(|(net, _)| net.contains(&address)) {
            block.entries.insert(address, Entry::Pod(key.clone()));
        }
    }

    fn assigned_to(&self, key: &AllocationKey) -> Option<Assigned> {
        self.enis.iter().find_map(|(id, eni)| {
            let mut entries = eni.blocks.values().flat_map(|block| &block.entries);
            let (address, _) = entries.find(|(_, entry)| matches!(entry, Entry::Pod(holder) if holder == key))?;
            Some(Assigned { address: *address, eni: id.clone(), device_index: eni.device_index })
        })
    }

    /// What the decisions count: blocks of the present mode's kind.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (net, block) in self.enis.values().flat_map(|eni| &eni.blocks) {
            let (pods, prefix) = (block.pods(), net.prefix_len() < 32);
            counts.prefixes += u32::from(prefix);
            counts.free_prefixes += u32::from(prefix && pods == 0);
            if is_of(self.mode, net) {
                counts.total += size(net);
                counts.assigned += pods;
            }
        }
        counts
    }

    /// ENIs with room, in random order, each with how many blocks it can still take.
    pub(crate) fn with_room(&self, slots: u32, dice: &mut IdSource) -> Vec<(EniId, u32)> {
        let room = |eni: &Eni| slots.saturating_sub(count(eni.blocks.len()));
        let roomy = self.enis.iter().filter(|(_, eni)| room(eni) > 0).map(|(id, eni)| (id.clone(), room(eni)));
        shuffled(roomy, dice)
    }

    /// Whether some ENI but the primary one has no pod.
    pub(crate) fn an_eni_is_unused(&self) -> bool {
        self.enis.values().any(|eni| eni.device_index != 0 && eni.pods() == 0)
    }

    /// ENIs in random order with their blocks that have no pod (cooling or not), in random order.
    pub(crate) fn freeable(&self, dice: &mut IdSource) -> Vec<(EniId, Vec<Ipv4Net>)> {
        let mode = self.mode;
        let unused = |eni: &Eni| -> Vec<Ipv4Net> {
            let empty = eni.blocks.iter().filter(|(net, block)| is_of(mode, net) && block.pods() == 0);
            empty.map(|(net, _)| *net).collect()
        };
        let enis = shuffled(self.enis.iter().map(|(id, eni)| (id.clone(), unused(eni))), dice);
        enis.into_iter().map(|(id, blocks)| (id, shuffled(blocks, dice))).collect()
    }

    /// An ENI that can go: the first of a random order that nothing holds back.
    pub(crate) fn eni_to_free(&self, rules: &Rules, now: Duration, dice: &mut IdSource) -> Option<EniId> {
        let can_go = |id: &EniId| self.enis.get(id).is_some_and(|eni| self.can_go(id, eni, rules, now));
        shuffled(self.enis.keys().cloned(), dice).into_iter().find(can_go)
    }

    fn can_go(&self, id: &EniId, eni: &Eni, rules: &Rules, now: Duration) -> bool {
        let cools = || eni.blocks.values().any(|block| block.cools(now, self.cooldown));
        if eni.device_index == 0 || now.saturating_sub(eni.since) < YOUNG || eni.pods() > 0 || cools() {
            return false;
        }
        let others = || self.enis.iter().filter(|(other, _)| *other != id).map(|(_, eni)| eni);
        let whole = |target: u32| match self.mode {
            Mode::Addresses => target,
            Mode::Prefixes => target.next_multiple_of(PREFIX_ADDRESSES),
        };
        let targets = rules.targets;
        let total: u32 = others().map(|eni| eni.size(self.mode)).sum();
        let free = total - others().map(Eni::pods).sum::<u32>().min(total);
        let empty = || others().flat_map(|eni| eni.blocks.values()).filter(|block| block.pods() == 0).count();
        let warm = targets.warm_addresses == 0 || free >= whole(targets.warm_addresses);
        let minimum = targets.minimum_addresses == 0 || total >= whole(targets.minimum_addresses);
        let prefixes = self.mode == Mode::Addresses || count(empty()) >= targets.warm_prefixes;
        warm && minimum && prefixes
    }
}

fn is_of(mode: Mode, net: &Ipv4Net) -> bool {
    (mode == Mode::Prefixes) == (net.prefix_len() < 32)
}

fn size(net: &Ipv4Net) -> u32 {
    1 << (32 - net.prefix_len())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The same things in another order, drawn from the seed.
pub(crate) fn shuffled<T>(things: impl IntoIterator<Item = T>, dice: &mut IdSource) -> Vec<T> {
    let mut things: Vec<T> = things.into_iter().collect();
    for at in (1..things.len()).rev() {
        let other = dice.below(count(at + 1));
        things.swap(at, usize::try_from(other).unwrap_or(0));
    }
    things
}

#[cfg(test)]
mod tests {
    use super::super::decide::Targets;
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(30);

    fn key(pod: &str) -> AllocationKey {
        AllocationKey { network: "aws-cni".into(), container_id: pod.into(), ifname: "eth0".into() }
    }

    fn second(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn store(mode: Mode, enis: &[(&str, &[&str])]) -> (Store, IdSource) {
        let mut store = Store::new(mode, COOLDOWN);
        for (index, (id, blocks)) in (0..).zip(enis) {
            let id = EniId::from(*id);
            store.add_eni(&id, index, Duration::ZERO);
            blocks.iter().for_each(|net| store.add_block(&id, net.parse().unwrap()));
        }
        (store, IdSource::new(1))
    }

    fn rules(mode: Mode, w: u32, m: u32) -> Rules {
        let targets = Targets { warm_addresses: w, minimum_addresses: m, ..Targets::default() };
        Rules { mode, targets, slots_per_eni: 9, max_enis: 3, max_pods: 29 }
    }

    #[test]
    fn a_sandbox_gets_the_same_address_again_and_another_one_another() {
        let (mut store, mut dice) = store(Mode::Addresses, &[("eni-1", &["10.0.0.5/32", "10.0.0.6/32"])]);
        let first = store.assign(&key("a"), second(1), &mut dice).unwrap();
        assert_eq!(store.assign(&key("a"), second(2), &mut dice).as_ref(), Some(&first));
        assert_ne!(store.assign(&key("b"), second(2), &mut dice).unwrap().address, first.address);
        assert_eq!(store.assign(&key("c"), second(2), &mut dice), None);
        assert_eq!(store.counts().assigned, 2);
    }

    #[test]
    fn a_cooling_address_counts_as_free_but_no_pod_gets_it() {
        let (mut store, mut dice) = store(Mode::Addresses, &[("eni-1", &["10.0.0.5/32"])]);
        let given = store.assign(&key("a"), second(0), &mut dice).unwrap();
        assert_eq!(store.unassign(&key("a"), second(10)), Some(given.address));
        assert_eq!(store.counts(), Counts { total: 1, ..Counts::default() });
        assert_eq!(store.assign(&key("b"), second(40), &mut dice), None, "30 s are not over at 30 s");
        assert_eq!(store.assign(&key("b"), second(41), &mut dice), Some(given));
        assert_eq!(store.unassign(&key("a"), second(41)), None);
    }

    #[test]
    fn all_sixteen_addresses_of_a_prefix_serve_pods_and_single_ones_do_not_count() {
        let (mut store, mut dice) = store(Mode::Prefixes, &[("eni-1", &["10.0.0.16/28", "10.0.0.5/32"])]);
        for pod in 0..16 {
            assert!(store.assign(&key(&pod.to_string()), second(0), &mut dice).is_some(), "pod {pod}");
        }
        assert_eq!(store.assign(&key("16"), second(0), &mut dice), None);
        assert_eq!(store.counts(), Counts { total: 16, assigned: 16, prefixes: 1, free_prefixes: 0 });
    }

    #[test]
    fn blocks_with_cooling_addresses_are_given_back() {
        let (mut store, mut dice) = store(Mode::Addresses, &[("eni-1", &["10.0.0.5/32", "10.0.0.6/32"])]);
        let kept = store.assign(&key("a"), second(0), &mut dice).unwrap().address;
        store.assign(&key("b"), second(0), &mut dice).unwrap();
        store.unassign(&key("b"), second(0));
        let freeable = store.freeable(&mut dice);
        assert_eq!(freeable[0].1.len(), 1, "the reference does not look at the cooldown here");
        assert!(!freeable[0].1[0].contains(&kept));
    }

    #[test]
    fn an_eni_goes_only_when_nothing_holds_it_back() {
        let addresses: &[(&str, &[&str])] =
            &[("eni-1", &["10.0.0.5/32", "10.0.0.6/32"]), ("eni-2", &["10.0.0.7/32", "10.0.0.8/32"])];
        let (mut store, mut dice) = store(Mode::Addresses, addresses);
        let mut to_free = |store: &Store, w, m, now| {
            store.eni_to_free(&rules(Mode::Addresses, w, m), now, &mut dice).map(|id| id.to_string())
        };
        assert_eq!(to_free(&store, 0, 0, second(59)), None, "too young");
        assert_eq!(to_free(&store, 0, 0, second(60)).as_deref(), Some("eni-2"), "the primary one never goes");
        assert_eq!(to_free(&store, 3, 0, second(60)), None, "the warm target needs it");
        assert_eq!(to_free(&store, 1, 3, second(60)), None, "the minimum needs it");
        assert_eq!(to_free(&store, 2, 2, second(60)).as_deref(), Some("eni-2"));
        let mut dice = IdSource::new(2);
        for pod in ["a", "b", "c", "d"] {
            store.assign(&key(pod), second(60), &mut dice).unwrap();
        }
        for pod in ["a", "b", "c", "d"] {
            assert_eq!(store.eni_to_free(&rules(Mode::Addresses, 0, 0), second(90), &mut dice), None, "pods are on it");
            store.unassign(&key(pod), second(90));
        }
        assert_eq!(store.eni_to_free(&rules(Mode::Addresses, 0, 0), second(120), &mut dice), None, "addresses cool");
        assert!(store.eni_to_free(&rules(Mode::Addresses, 0, 0), second(121), &mut dice).is_some());
    }

    #[test]
    fn a_checkpoint_gives_pods_their_addresses_back_where_a_block_covers_them() {
        let (mut store, mut dice) = store(Mode::Prefixes, &[("eni-1", &["10.0.0.16/28"])]);
        store.restore(&key("a"), "10.0.0.20".parse().unwrap());
        store.restore(&key("lost"), "10.9.9.9".parse().unwrap());
        assert_eq!(store.counts().assigned, 1);
        let again = store.assign(&key("a"), second(0), &mut dice).unwrap();
        assert_eq!(again.address.to_string(), "10.0.0.20");
    }
}
