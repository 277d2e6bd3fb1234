// SPDX-License-Identifier: Apache-2.0
//! The machine: one account's VPCs in one Region, and the path of a call through it.
//!
//! Decides the order in which a call meets known names, faults, the throttle, the dry run and its action; carries time
//! forward; keeps the log of calls. The actions themselves are beside it, one file a subject.
//!
//! Invariant: before anything looks at the state, everything that was due by `now` has happened, in its own order and at
//! its own time. `now` never goes back (an older one counts as the newest seen).
//!
//! ```text
//! ec2(call, now): settle(now) ─► keys taken? ─► action known? ─► names known? ─► fault before? ─► throttle ─► dry run? ─► act ─► fault after?
//! advance(now):   settle(now) ─► the events for the packet fabric since the last time
//! ```
//!
//! Source: EC2 API reference, "Query requests", "Error codes", "Ensuring idempotency".

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::actions::{self, Known};
use crate::blind::Blindness;
use crate::config::{ConfigError, DEFAULT_EPOCH, VpcConfig};
use crate::enis::Enis;
use crate::error::{Ec2Error, http_status};
use crate::events::FabricEvent;
use crate::faults::{Delivery, Effect, Fault, Faults};
use crate::iam::Policy;
use crate::ids::{EniId, IdSource, InstanceId, SecurityGroupId, SubnetId, VpcId};
use crate::keys::Keys;
use crate::params::Params;
use crate::settings::Settings;
use crate::state::{Eni, Instance, SecurityGroup, Subnet, VpcRecord};
use crate::throttle::{Breadth, Throttle};
use crate::xml::Xml;

/// The API version that is spoken.
pub const API_VERSION: &str = "2016-11-15";

/// Most calls that the log remembers.
const LOG_LENGTH: usize = 20_000;

/// Who calls, as far as the request says. Nothing depends on it but the log, unless keys are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The access key of the request's signature; `None`: the request is not signed.
    pub access_key: Option<String>,
    /// The session token that came with it.
    pub session_token: Option<String>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// XML text.
    pub body: String,
    /// How long after the call's arrival the answer is due.
    pub delay: Duration,
    /// Whether the caller gets the answer at all.
    pub delivery: Delivery,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallRecord {
    /// When, in milliseconds of the machine's clock.
    pub at_ms: u64,
    /// The action.
    pub action: String,
    /// Its parameters.
    pub parameters: Vec<(String, String)>,
    /// The code of the answer; `None`: it succeeded.
    pub code: Option<String>,
    /// The access key of the signature.
    pub access_key: Option<String>,
}

/// A client token that was used, with what it made.
#[derive(Clone, Debug)]
pub(crate) struct UsedToken {
    pub(crate) fingerprint: String,
    pub(crate) answer: String,
}

/// One account's VPCs in one Region.
#[derive(Clone, Debug)]
pub struct Vpc {
    pub(crate) region: String,
    pub(crate) account_id: String,
    pub(crate) epoch_unix_seconds: u64,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) blindness: Blindness,
    /// What callers may do; `None`: everything.
    pub(crate) policy: Option<Policy>,
    pub(crate) keys: Keys,
    pub(crate) ids: IdSource,
    pub(crate) vpcs: BTreeMap<VpcId, VpcRecord>,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) enis: Enis,
    /// Names of the topology, by kind and name, to ids.
    pub(crate) names: BTreeMap<(&'static str, String), String>,
    pub(crate) client_tokens: BTreeMap<String, UsedToken>,
    pub(crate) events: Vec<FabricEvent>,
    throttle: Throttle,
    log: VecDeque<CallRecord>,
    now: Duration,
}

impl Vpc {
    /// The machine of this topology, its clock at zero. The same seed, calls and times give the same answers.
    ///
    /// # Errors
    /// A topology that does not fit together.
    pub fn new(config: VpcConfig, seed: u64) -> Result<Self, ConfigError> {
        let mut vpc = Self {
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            epoch_unix_seconds: config.epoch_unix_seconds.unwrap_or(DEFAULT_EPOCH),
            settings: config.settings.clone(),
            faults: Faults::default(),
            blindness: Blindness::default(),
            policy: None,
            keys: Keys::default(),
            ids: IdSource::new(seed),
            vpcs: BTreeMap::new(),
            subnets: BTreeMap::new(),
            security_groups: BTreeMap::new(),
            instances: BTreeMap::new(),
            enis: Enis::default(),
            names: BTreeMap::new(),
            client_tokens: BTreeMap::new(),
            events: Vec::new(),
            throttle: Throttle::default(),
            log: VecDeque::new(),
            now: Duration::ZERO,
        };
        vpc.enis.set_keep(vpc.settings.lags.longest());
        vpc.build(config)?;
        Ok(vpc)
    }

    /// Carries out a call at `now`. Its effect is immediate; the events it causes are collected by [`Vpc::advance`].
    pub fn ec2(&mut self, caller: &Caller, action: &str, params: &[(String, String)], now: Duration) -> Response {
        self.settle(now);
        let request_id = self.ids.request_id();
        let fault = self.faults.meet_call(action, params);
        let outcome = match &fault {
            Some(fault) if fault.effect == Effect::Before => Err(injected(fault)),
            Some(fault) if fault.effect == Effect::Empty => Ok(Xml::inside(|_| {})),
            _ => self.check_keys(caller).and_then(|()| self.admit_and_act(action, params)),
        };
        let outcome = match (&fault, outcome) {
            (Some(fault), Ok(_)) if fault.effect == Effect::After => Err(injected(fault)),
            (_, outcome) => outcome,
        };
        self.settle(now);
        self.record(caller, action, params, outcome.as_ref().err());
        let status = fault.as_ref().and_then(|fault| fault.status);
        let (status, body) = match outcome {
            Ok(body) => (200, Xml::response(action, &request_id, body)),
            Err(error) => (
                status.unwrap_or_else(|| http_status(&error.code)),
                Xml::error(&error.code, &error.message, &request_id),
            ),
        };
        let delivery = fault.map_or(Delivery::Answer, |fault| fault.delivery);
        Response { status, body, delay: self.settings.latencies.of_call(action), delivery }
    }

    /// Carries time forward to `now` and gives what the packet fabric has to do since the last time, in order.
    pub fn advance(&mut self, now: Duration) -> Vec<FabricEvent> {
        self.settle(now);
        std::mem::take(&mut self.events)
    }

    /// When something will happen by itself; `None`: nothing will.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.enis.first_deadline().map(|(at, _)| *at)
    }

    /// The newest time the machine has seen.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What can be turned.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Turns it. Every bucket is full again when the throttle is among what changed.
    pub fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let before = (self.settings.throttle.enabled, self.settings.throttle.buckets.clone());
        change(&mut self.settings);
        if before != (self.settings.throttle.enabled, self.settings.throttle.buckets.clone()) {
            self.throttle.reset();
        }
        self.enis.set_keep(self.settings.lags.longest());
    }

    /// The Region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The ENI of this id.
    #[must_use]
    pub fn eni(&self, id: &EniId) -> Option<&Eni> {
        self.enis.get(id)
    }

    /// Every ENI, sorted by id.
    pub fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.iter()
    }

    /// Every instance, sorted by id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// Every subnet, sorted by id.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.values()
    }

    /// Every VPC, sorted by id.
    pub fn vpcs(&self) -> impl Iterator<Item = &VpcRecord> {
        self.vpcs.values()
    }

    /// The instance that the topology calls so.
    #[must_use]
    pub fn instance_named(&self, name: &str) -> Option<&Instance> {
        self.instances.values().find(|instance| instance.name == name)
    }

    /// The subnet that the topology calls so.
    #[must_use]
    pub fn subnet_named(&self, name: &str) -> Option<&Subnet> {
        let id = self.names.get(&("subnet", name.to_owned()))?;
        self.subnets.get(&SubnetId(id.clone()))
    }

    /// The calls that were made, oldest first; only the last 20,000 are remembered.
    pub fn calls(&self) -> impl ExactSizeIterator<Item = &CallRecord> {
        self.log.iter()
    }

    /// Forgets the calls that were made.
    pub fn forget_calls(&mut self) {
        self.log.clear();
    }

    /// Wall-clock time of a time of the machine's clock, in seconds since 1970.
    pub(crate) fn unix_seconds(&self, at: Duration) -> u64 {
        self.epoch_unix_seconds.saturating_add(at.as_secs())
    }

    fn admit_and_act(&mut self, action: &str, pairs: &[(String, String)]) -> Result<Xml, Ec2Error> {
        let known = match actions::known(action) {
            Known::Yes(parameters) => parameters,
            Known::NotModelled => {
                return Err(Ec2Error::unsupported(format!("The action {action} is not part of this model.")));
            }
            Known::No => {
                let text = format!("The action {action} is not valid for this web service.");
                return Err(Ec2Error::new("InvalidAction", text));
            }
        };
        if let Some((_, version)) = pairs.iter().find(|(name, version)| name == "Version" && version != API_VERSION) {
            let text = format!("The requested version ({version}) of service AmazonEC2 does not exist");
            return Err(Ec2Error::new("NoSuchVersion", text));
        }
        let limited = pairs
            .iter()
            .any(|(name, _)| !matches!(name.as_str(), "Action" | "Version" | "DryRun" | "IncludeManagedResources"));
        let breadth = if limited { Breadth::Limited } else { Breadth::Bare };
        let now = self.now;
        if !self.throttle.take(&self.settings.throttle, action, breadth, now) {
            return Err(Ec2Error::new("RequestLimitExceeded", "Request limit exceeded."));
        }
        let params = Params::parse(pairs, known)?;
        self.authorize(action, &params)?;
        if params.flag("DryRun")? {
            let text = "Request would have succeeded, but DryRun flag is set.";
            return Err(Ec2Error::new("DryRunOperation", text));
        }
        self.act(action, &params, now)
    }

    pub(crate) fn record(
        &mut self,
        caller: &Caller,
        action: &str,
        params: &[(String, String)],
        error: Option<&Ec2Error>,
    ) {
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back(CallRecord {
            at_ms: u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX),
            action: action.to_owned(),
            parameters: params
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version"))
                .cloned()
                .collect(),
            code: error.map(|error| error.code.clone()),
            access_key: caller.access_key.clone(),
        });
    }

    /// Makes everything happen that is due by `now`, in its own order.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some((at, eni)) = self.first_due() {
            self.transition(&eni, at);
        }
    }

    fn first_due(&self) -> Option<(Duration, EniId)> {
        self.enis.first_deadline().filter(|(at, _)| *at <= self.now).cloned()
    }
}

fn injected(fault: &Fault) -> Ec2Error {
    let message = fault.message.clone().unwrap_or_else(|| match fault.code.as_str() {
        "RequestLimitExceeded" => "Request limit exceeded.".to_owned(),
        "UnauthorizedOperation" => "You are not authorized to perform this operation.".to_owned(),
        "InsufficientFreeAddressesInSubnet" => Ec2Error::no_free_addresses().message,
        "InsufficientCidrBlocks" => Ec2Error::no_free_blocks().message,
        "PrivateIpAddressLimitExceeded" => Ec2Error::private_address_limit().message,
        _ => "An internal error has occurred".to_owned(),
    });
    Ec2Error::new(fault.code.clone(), message)
}
