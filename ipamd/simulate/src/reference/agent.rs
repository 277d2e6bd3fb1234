// SPDX-License-Identifier: Apache-2.0
//! The reference's daemon: its start, its loop, its hourly look for leaked ENIs, each one long procedure.
//!
//! Decides the order of things and their waits; the numbers are `decide`, the steps `grow`, `shrink`, `reconcile`.
//!
//! ```text
//! start:  IMDS ─► describe ENIs ─► each: tag, set up ─► checkpoint ─► security groups ─► grow once ─► serve
//! loop:   2.5 s ─► too low? grow : too high and 30 s over? shrink ─► free an ENI? ─► 2.5 s ─► 60 s idle? reconcile
//! ```
//! An error at the start ends the process; kubelet starts it again (`node`). One thing at a time: while a call or a wait
//! lasts, the pool does nothing else.
//!
//! Source: the reference (amazon-vpc-cni-k8s v1.23), `nodeInit` and `StartNodeIPPoolManager`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::event::{EniView, Failure, FailureClass};
use ipamd_core::ids::{AllocationKey, MacAddr};
use ipnet::Ipv4Net;
use vpc_model::imds::{ImdsEni, ImdsView};
use vpc_model::{EniId, IdSource};

use super::Settings;
use super::decide::Rules;
use super::program::Desk;
use super::retry::{DELETE, Retry, TAG};
use super::store::Store;
use super::wire;
use crate::allocator::KernelCall;
use crate::answer;
use crate::client::Ec2Call;

/// Half of the loop's period.
const HALF_LOOP: Duration = Duration::from_millis(2_500);
/// Set-up of an ENI at the start: tries, and the time between.
const SET_UP: (u32, Duration) = (6, Duration::from_secs(10));
/// Tries of a description of all ENIs.
const DESCRIBE_TRIES: u32 = 12;
/// The link of a new ENI: tries, and the time between.
const LINK: (u32, Duration) = (5, Duration::from_secs(3));
/// Leaked ENIs: period, longest first wait, and how young one is left alone.
const LEAKS: (Duration, u32, Duration) = (Duration::from_secs(3_600), 300, Duration::from_secs(300));

/// Who the instance is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) instance: String,
    pub(super) vpc: String,
    pub(super) zone: String,
    pub(super) subnet: String,
    pub(super) groups: Vec<String>,
}

/// What the process knows.
#[derive(Debug)]
pub(super) struct State {
    /// The time.
    pub(super) now: Duration,
    pub(super) store: Store,
    pub(super) dice: IdSource,
    /// Whether ADD and DEL are answered.
    pub(super) serving: bool,
    /// The last growth, shrink or reconcile.
    pub(super) last_action: Duration,
    pub(super) last_shrink: Duration,
    /// A subnet was full: nothing is asked for until then.
    pub(super) out_of_space_until: Duration,
    /// Blocks given back, and when.
    pub(super) freed: BTreeMap<Ipv4Net, Duration>,
    /// What the checkpoint says at the start.
    pub(super) checkpoint: Vec<(AllocationKey, Ipv4Addr)>,
}

/// The daemon, as one of its goroutines sees it.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) desk: Desk,
    pub(super) rules: Rules,
    pub(super) identity: Identity,
    pub(super) state: Rc<RefCell<State>>,
}

/// The main goroutine. Ends when the start fails.
pub(super) async fn run(desk: Desk, settings: Settings, state: Rc<RefCell<State>>) {
    let Ok(view) = desk.imds().await else { return };
    let Ok(agent) = Agent::on(&view, desk, &settings, state) else { return };
    if agent.start(&view).await.is_err() {
        return;
    }
    agent.state.borrow_mut().serving = true;
    loop {
        agent.desk.sleep(HALF_LOOP).await;
        agent.adjust().await;
        agent.desk.sleep(HALF_LOOP).await;
        agent.reconcile().await;
    }
}

/// The goroutine that looks for leaked ENIs once an hour.
pub(super) async fn watch_leaks(desk: Desk, settings: Settings, state: Rc<RefCell<State>>) {
    let Ok(view) = desk.imds().await else { return };
    let Ok(agent) = Agent::on(&view, desk, &settings, state) else { return };
    let (period, spread, _) = LEAKS;
    loop {
        let wait = agent.state.borrow_mut().dice.below(spread);
        agent.desk.sleep(Duration::from_secs(wait.into())).await;
        agent.delete_leaked().await;
        agent.desk.sleep(period).await;
    }
}

impl Agent {
    fn on(view: &ImdsView, desk: Desk, settings: &Settings, state: Rc<RefCell<State>>) -> Result<Self, Failure> {
        let primary = view.primary().ok_or_else(|| internal("IMDS lists no primary ENI"))?;
        let identity = Identity {
            instance: view.instance_id.clone(),
            vpc: primary.vpc_id.clone(),
            zone: view.availability_zone.clone(),
            subnet: primary.subnet_id.clone(),
            groups: primary.security_groups.iter().map(|(id, _)| id.clone()).collect(),
        };
        let rules = settings.rules(&view.instance_type).ok_or_else(|| internal("unknown instance type"))?;
        {
            // Chance differs from node to node.
            let state = &mut *state.borrow_mut();
            for byte in identity.instance.bytes() {
                state.dice = IdSource::new(state.dice.next_u64() ^ u64::from(byte));
            }
        }
        Ok(Self { desk, rules, identity, state })
    }

    pub(super) fn now(&self) -> Duration {
        self.state.borrow().now
    }

    async fn start(&self, view: &ImdsView) -> Result<(), Failure> {
        self.desk.kernel(KernelCall::Host).await?;
        let enis = self.describe_all(view).await?;
        for eni in &view.enis {
            let described = enis.iter().find(|described| described.eni_id.as_str() == eni.eni_id);
            self.tag(&eni.eni_id, described.map(|described| described.tags.as_slice()).unwrap_or_default()).await?;
            self.set_up_patiently(eni).await;
        }
        let checkpoint = std::mem::take(&mut self.state.borrow_mut().checkpoint);
        for (key, address) in &checkpoint {
            self.state.borrow_mut().store.restore(key, *address);
        }
        self.refresh_security_groups(view).await;
        let counts = self.state.borrow().store.counts();
        if self.rules.too_low(counts) {
            self.grow().await?;
        }
        Ok(())
    }

    /// One round of the loop: grow or shrink, then perhaps free an ENI, all by the counts of its beginning.
    async fn adjust(&self) {
        let (counts, unused) = {
            let state = self.state.borrow();
            (state.store.counts(), state.store.an_eni_is_unused())
        };
        if self.rules.too_low(counts) {
            // Logged there, and tried again in the next round.
            let _ = self.grow().await;
        } else {
            self.shrink(self.rules.give_back(counts)).await;
        }
        if self.rules.may_free_eni(counts, unused) {
            self.free_an_eni().await;
        }
    }

    /// Every ENI that IMDS lists, as EC2 describes it; ids that EC2 does not know are left out.
    pub(super) async fn describe_all(&self, view: &ImdsView) -> Result<Vec<EniView>, Failure> {
        let mut ids: Vec<&str> = view.enis.iter().map(|eni| eni.eni_id.as_str()).collect();
        let mut attempt = 1;
        loop {
            let failure = match self.desk.ec2(wire::describe_enis(&ids)).await {
                Ok(xml) => return answer::enis(&xml).map_err(|error| internal(&error.to_string())),
                Err(failure) => failure,
            };
            if failure.class == FailureClass::NotFound {
                ids.retain(|id| !failure.message.contains(id));
            }
            if attempt == DESCRIBE_TRIES {
                return Err(failure);
            }
            if failure.class != FailureClass::NotFound {
                self.desk.sleep(Duration::from_millis(10) * attempt).await;
            }
            attempt += 1;
        }
    }

    /// Gives an ENI the instance's tag if it has not got it.
    pub(super) async fn tag(&self, eni: &str, tags: &[(String, String)]) -> Result<(), Failure> {
        let instance = &self.identity.instance;
        if tags.iter().any(|(key, value)| key == wire::INSTANCE_TAG && value == instance) {
            return Ok(());
        }
        self.retried(TAG, &wire::create_tag(eni, wire::INSTANCE_TAG, instance)).await.map(|_| ())
    }

    async fn set_up_patiently(&self, eni: &ImdsEni) {
        let (tries, between) = SET_UP;
        for attempt in 1..=tries {
            match self.set_up(eni).await {
                Ok(()) => return,
                Err(failure) if failure.class == FailureClass::LinkMissing => return,
                Err(_) if attempt < tries => self.desk.sleep(between).await,
                Err(_) => {}
            }
        }
    }

    /// Takes an ENI up: into the store, its link, its addresses.
    pub(super) async fn set_up(&self, eni: &ImdsEni) -> Result<(), Failure> {
        let id = EniId::from(eni.eni_id.as_str());
        {
            let state = &mut *self.state.borrow_mut();
            state.store.add_eni(&id, eni.device_index, state.now);
        }
        // Is its subnet excluded? None is here, but the question is asked.
        self.desk.ec2(wire::describe_subnets(&self.identity.vpc, &self.identity.zone)).await?;
        if eni.device_index != 0
            && let Err(failure) = self.set_up_link(eni).await
        {
            self.state.borrow_mut().store.remove_eni(&id);
            return Err(failure);
        }
        for block in blocks(eni) {
            self.state.borrow_mut().store.add_block(&id, block);
        }
        Ok(())
    }

    async fn set_up_link(&self, eni: &ImdsEni) -> Result<(), Failure> {
        let (tries, between) = LINK;
        let mac = MacAddr(eni.mac.0);
        let mut attempt = 1;
        loop {
            match self.desk.kernel(KernelCall::SetUpLink { mac }).await {
                Err(_) if attempt < tries => self.desk.sleep(between).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// The first run gives every ENI the primary one's groups; later ones would only when those change.
    async fn refresh_security_groups(&self, view: &ImdsView) {
        for eni in &view.enis {
            // A failure is logged, no more.
            let _ = self.desk.ec2(wire::security_groups(&eni.eni_id, &self.identity.groups)).await;
        }
    }

    async fn delete_leaked(&self) {
        let described = self.desk.ec2(wire::describe_available(&self.identity.vpc)).await;
        // Ids only, and the answer is dropped here: thousands of nodes may each have a thousand ENIs in hand.
        let leaked = described.map(|xml| self.leaked(&xml)).unwrap_or_default();
        for eni in leaked {
            let _ = self.delete(&eni).await;
        }
    }

    /// The ENIs that an answer shows and that are old enough to have leaked; the first page only.
    fn leaked(&self, xml: &str) -> Vec<String> {
        let (_, _, young) = LEAKS;
        let is_old = |eni: &EniView| {
            let tag = eni.tags.iter().find(|(key, _)| key == wire::CREATED_TAG);
            let created = tag.and_then(|(_, value)| value.parse().ok()).map(Duration::from_secs);
            created.is_some_and(|created| self.now().saturating_sub(created) >= young)
        };
        let enis = answer::enis(xml).unwrap_or_default().into_iter();
        let leaked = enis.filter(|eni| eni.description.starts_with(wire::DESCRIPTION) && is_old(eni));
        leaked.map(|eni| eni.eni_id.as_str().to_owned()).collect()
    }

    /// DeleteNetworkInterface; an ENI that is gone counts as deleted.
    pub(super) async fn delete(&self, eni: &str) -> Result<(), Failure> {
        match self.retried(DELETE, &wire::delete(eni)).await {
            Err(failure) if failure.class != FailureClass::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    /// A call that is tried again; an object that is not found ends the tries.
    pub(super) async fn retried(&self, retry: Retry, call: &Ec2Call) -> Result<String, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match self.desk.ec2(call.clone()).await {
                Ok(xml) => return Ok(xml),
                Err(failure) => failure,
            };
            let wait = retry.wait(attempt, &mut self.state.borrow_mut().dice);
            match wait {
                Some(wait) if failure.class != FailureClass::NotFound => self.desk.sleep(wait).await,
                _ => return Err(failure),
            }
            attempt += 1;
        }
    }
}

/// The blocks that IMDS lists for an ENI, the primary address left out.
pub(super) fn blocks(eni: &ImdsEni) -> Vec<Ipv4Net> {
    let secondaries = eni.addresses.iter().skip(1).map(|address| Ipv4Net::from(*address));
    secondaries.chain(eni.prefixes.iter().copied()).collect()
}

pub(super) fn internal(message: &str) -> Failure {
    let code = "Internal".to_owned();
    Failure { class: FailureClass::Rejected, code, message: message.to_owned(), retry_after: None }
}
