// SPDX-License-Identifier: Apache-2.0
//! What the plugin, the runtime and the operator do, and what they see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{BOOT, World, key, kind_name};
use crate::Snapshot;
use crate::action::Effects;
use crate::config::{Config, LiveSettings};
use crate::core::Core;
use crate::event::{Event, Garbage};
use crate::ids::{AllocationKey, BootTime, PodRef, RequestId};
use crate::reason::ReasonCode;
use crate::restore::Restored;
use crate::store::Testimony;

impl World {
    /// An ADD with `budget`; the answer is in `replies` once given.
    pub(in crate::core::tests) fn add_with(&mut self, container: &str, budget: Duration) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let deadline = self.now.boot + budget;
        self.deadlines.insert(request, (key(container), deadline));
        let pod = PodRef { namespace: "default".into(), name: container.into() };
        self.feed(Event::AddRequested { request, key: key(container), pod, deadline });
        request
    }

    pub(in crate::core::tests) fn add(&mut self, container: &str) -> RequestId {
        self.add_with(container, Duration::from_millis(19_500))
    }

    /// pod-0 and so on come at once; so many seconds later all of them have an address.
    pub(in crate::core::tests) fn start_pods(&mut self, count: u32, seconds: u64) {
        let requests: Vec<_> = (0..count).map(|pod| self.add(&format!("pod-{pod}"))).collect();
        self.run_seconds(seconds);
        self.assert_served(&requests);
    }

    pub(in crate::core::tests) fn del(&mut self, container: &str) {
        self.released(container);
        self.next_request += 1;
        self.feed(Event::DelRequested { request: RequestId(self.next_request), key: key(container) });
    }

    /// ADDs, and the DELs that come before any of them is answered: worked off together.
    pub(in crate::core::tests) fn together(&mut self, adds: &[&str], dels: &[&str]) -> Vec<RequestId> {
        let deadline = self.now.boot + Duration::from_secs(19);
        let mut effects = Effects::default();
        let mut requests = Vec::new();
        for container in adds {
            self.next_request += 1;
            let (request, key) = (RequestId(self.next_request), key(container));
            self.deadlines.insert(request, (key.clone(), deadline));
            let pod = PodRef { namespace: "default".into(), name: (*container).into() };
            effects.join(self.core.handle(Event::AddRequested { request, key, pod, deadline }, self.now));
            requests.push(request);
        }
        for container in dels {
            self.released(container);
            self.next_request += 1;
            let event = Event::DelRequested { request: RequestId(self.next_request), key: key(container) };
            effects.join(self.core.handle(event, self.now));
        }
        self.take(effects);
        requests
    }

    /// GC. On the runtime's list are all sandboxes that live, but for those that came within `spare_younger`, and those for which
    /// `is_forgotten` says so: these the plugin takes down.
    pub(in crate::core::tests) fn gc(&mut self, is_forgotten: impl Fn(usize) -> bool, spare_younger: Duration) {
        let now = self.now.boot;
        let granted: BTreeMap<AllocationKey, BootTime> = self
            .core
            .store
            .allocations()
            .map(|(_, _, allocation)| (allocation.key.clone(), allocation.granted_at))
            .collect();
        let is_young = |key: &AllocationKey| granted.get(key).is_some_and(|at| now.since(*at) < spare_younger);
        let (mut keep, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (place, key) in self.pods.keys().cloned().enumerate() {
            if is_young(&key) {
                continue;
            }
            if is_forgotten(place) {
                gone.insert(key)
            } else {
                keep.insert(key)
            };
        }
        for key in &gone {
            self.pods.remove(key);
        }
        self.next_request += 1;
        let garbage = Garbage { network: "aws-cni".to_owned(), keep, gone, spare_younger };
        self.feed(Event::GcRequested { request: RequestId(self.next_request), garbage });
    }

    pub(in crate::core::tests) fn released(&mut self, container: &str) {
        self.pods.remove(&key(container));
        if let Some(address) = self.ledger.owner.remove(&key(container)) {
            // As if the plugin had been killed in the middle.
            self.left.insert(address.into());
            self.ledger.resting_until.insert(address, self.now.boot + self.config.cooldown);
            self.ledger.unflushed.insert(address);
        }
    }

    /// Whether it was told that an address is given out without its flush.
    pub(in crate::core::tests) fn gave_flushes_up(&self) -> bool {
        self.notices.iter().any(|notice| notice.code == Some(ReasonCode::AddressNotFlushed))
    }

    /// Actions of a kind under way.
    pub(in crate::core::tests) fn pending_of(&self, kind: &str) -> usize {
        self.pending.iter().filter(|(_, action)| kind_name(&action.kind) == kind).count()
    }

    /// Lets time pass, event by event, until something is so; an hour at most.
    pub(in crate::core::tests) fn run_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let end = self.now.boot + Duration::from_secs(3_600);
        while !is_so(self) {
            let next = self.next_time().filter(|at| *at <= end).expect("it never became so");
            self.go_to(next);
            self.step();
        }
    }

    /// The sandbox dies without a DEL.
    pub(in crate::core::tests) fn vanish(&mut self, container: &str) {
        if let Some(address) = self.ledger.owner.get(&key(container)) {
            self.ledger.ghosts.insert(key(container), *address);
        }
        self.released(container);
    }

    /// The address was taken over without pod name: no kernel object can testify of it.
    pub(in crate::core::tests) fn testifies_no_more(&mut self, address: Ipv4Addr) {
        let allocation = self.core.store.allocation_mut(address).expect("it is held");
        allocation.testimony = Testimony::Impossible;
        self.core.store.mark_changed(address);
        self.disk = Some(self.core.checkpoint());
    }

    /// A DEL that the plugin left on disk.
    pub(in crate::core::tests) fn tombstone(&mut self, container: &str) {
        let done = self.core.tombstones_done.contains(&key(container));
        let waits = self.deadlines.values().any(|(waiting, _)| *waiting == key(container));
        if !done && !waits {
            self.released(container);
            self.tombstones.insert(key(container));
            self.feed(Event::TombstoneFound { key: key(container) });
        }
    }

    pub(in crate::core::tests) fn abandon(&mut self, request: RequestId) {
        self.deadlines.remove(&request);
        self.feed(Event::RequestAbandoned { request });
    }

    /// kill -9 and start. Actions under way happen or not; nobody hears of them.
    pub(in crate::core::tests) fn restart(&mut self, happens: impl Fn(usize) -> bool) {
        for (index, (_, action)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if happens(index) {
                self.perform(&action.kind);
            }
        }
        self.late.clear();
        self.deadlines.clear();
        self.proven.clear();
        self.steered.clear();
        let disk = self.disk.take();
        let restored = Restored::read(
            disk.as_ref().map(|disk| disk.reference_json.as_slice()),
            disk.as_ref().map(|disk| disk.own_json.as_slice()),
            self.kernel_view(),
            BOOT,
        );
        if let Some(Ok(journal)) = &restored.reference {
            for entry in &journal.allocations {
                if let Some(address) = entry.ipv4.filter(|_| !self.ledger.owner.contains_key(&entry.key())) {
                    self.ledger.ghosts.insert(entry.key(), address);
                }
            }
        }
        self.disk = disk;
        let (core, effects) = Core::new(self.config.clone(), restored, self.now);
        self.core = core;
        // The journal's word holds until the API server says another.
        let said = self.core.pod_networking.said.clone();
        self.opened = said.map(|said| self.named_by(&said)).unwrap_or_default();
        self.take(effects);
        for key in self.tombstones.clone() {
            self.feed(Event::TombstoneFound { key });
        }
    }

    pub(in crate::core::tests) fn answer(&self, request: RequestId) -> Option<Result<Ipv4Addr, ReasonCode>> {
        self.replies.get(&request).copied()
    }

    pub(in crate::core::tests) fn assert_served(&self, requests: &[RequestId]) {
        let refused: Vec<_> =
            requests.iter().filter(|request| !matches!(self.answer(**request), Some(Ok(_)))).collect();
        let first = refused.first().map(|request| self.answer(**request));
        let notices: Vec<&str> = self.notices.iter().map(|notice| notice.text.as_str()).collect();
        let last = &notices[notices.len().saturating_sub(40)..];
        assert!(
            refused.is_empty(),
            "{} not served, the first {first:?}: {:#?} {last:#?}",
            refused.len(),
            self.snapshot().pool
        );
    }

    pub(in crate::core::tests) fn last_refusal_says(&self, part: &str) {
        assert!(self.last_refusal.contains(part), "{}", self.last_refusal);
    }

    pub(in crate::core::tests) fn count(&self, kind: &str) -> u32 {
        self.calls.get(kind).copied().unwrap_or(0)
    }

    /// ENIs attached and secondary addresses on them, as EC2 has it.
    pub(in crate::core::tests) fn shape(&self) -> (usize, usize) {
        (self.attached().count(), self.attached().map(|eni| eni.view.secondary_addresses.len()).sum())
    }

    /// Prefixes and single addresses on attached ENIs, as EC2 has it.
    pub(in crate::core::tests) fn slots(&self) -> (usize, usize) {
        let prefixes = self.attached().map(|eni| eni.view.prefixes.len()).sum();
        (prefixes, self.attached().map(|eni| eni.view.secondary_addresses.len()).sum())
    }

    /// The daemon is started again with another configuration.
    pub(in crate::core::tests) fn reconfigure(&mut self, config: Config) {
        self.config = config;
        self.restart(|_| true);
        let facts = self.facts.clone();
        self.feed(Event::FactsLearned(facts));
    }

    /// Other settings, the daemon going on: who has an address has it still.
    pub(in crate::core::tests) fn set_live(&mut self, live: LiveSettings) {
        let held = |world: &Self| world.core.store.allocations().map(|(at, _, held)| (at, held.key.clone())).collect();
        let before: Vec<_> = held(self);
        self.above_limit = self.snapshot().pool.enis;
        self.config.take_live(live.clone());
        // What nobody has any more and the core has not noticed yet cools from then on, by these settings.
        let until = self.now.boot + live.cooldown;
        for address in self.ledger.ghosts.values() {
            if let Some(rests) = self.ledger.resting_until.get_mut(address) {
                *rests = until.min(*rests);
            }
        }
        self.feed(Event::SettingsChanged(Box::new(live)));
        let after: Vec<_> = held(self);
        assert!(
            before.iter().all(|one| after.contains(one)),
            "a change of settings took an address: {before:?} {after:?}"
        );
    }

    pub(in crate::core::tests) fn snapshot(&self) -> Snapshot {
        self.core.snapshot(self.now)
    }

    pub(in crate::core::tests) fn noticed(&self, text: &str) -> bool {
        self.notices.iter().any(|notice| notice.text.contains(text))
    }
}
