// SPDX-License-Identifier: Apache-2.0
//! A model of the algorithm of the reference (amazon-vpc-cni-k8s v1.23): the second strategy of the simulation.
//!
//! It does what that daemon does with addresses and ENIs, in the same order, with the same waits and calls: a pool that is
//! looked at every 5 s, one ENI at a time, an ADD that fails at once when nothing is free, a process that ends when its
//! start fails and is started again by kubelet. Written from its documented behaviour, not from its code; what it does at
//! random is drawn from the seed.
//!
//! Left out: IPv6, network cards above 0, custom networking, pod ENIs, `MANAGE_UNTAGGED_ENI=false`, the 30 s look at IMDS
//! for changed security groups and VPC blocks (no EC2 call unless they change), and everything a pod's plumbing costs.
//! Shortcuts that favour it: no image pull, no wait for the API server, one read of IMDS instead of one a field.
//!
//! ```text
//!   decide   counts to decisions, pure               agent      start, loop, leaks: the order of things
//!   store    who has which address                   grow shrink reconcile   its steps
//!   program  a procedure that can wait, as a value   container  process, ADD and DEL, restarts
//! ```

mod agent;
mod container;
mod decide;
mod grow;
mod program;
mod reconcile;
mod retry;
mod shrink;
mod store;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use container::Container;
pub use decide::{Mode, Rules, Targets};

use crate::allocator::{Found, Strategy, Turn};
use crate::client::Manners;

/// How the SDK for Go waits for a call with all its attempts: there is no limit of its own.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// What an operator sets, and the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ENABLE_PREFIX_DELEGATION`.
    pub mode: Mode,
    /// The warm targets.
    pub targets: Targets,
    /// `MAX_ENI`; `None`: what the instance takes.
    pub max_enis: Option<u32>,
    /// The node's max pods; `None`: what EKS gives the type in this mode.
    pub max_pods: Option<u32>,
    /// `IP_COOLDOWN_PERIOD`.
    pub cooldown: Duration,
    /// `HTTP_TIMEOUT`.
    pub http_timeout: Duration,
    /// What chance is drawn from, together with the instance's id.
    pub seed: u64,
}

impl Default for Settings {
    /// The manifest's.
    fn default() -> Self {
        Self {
            mode: Mode::Addresses,
            targets: Targets::default(),
            max_enis: None,
            max_pods: None,
            cooldown: Duration::from_secs(30),
            http_timeout: Duration::from_secs(10),
            seed: 1,
        }
    }
}

impl Settings {
    /// How a node of this type decides. `None`: the type is not known. A type that takes no prefixes uses addresses.
    pub(crate) fn rules(&self, instance_type: &str) -> Option<Rules> {
        let limits = instance_limits::lookup(instance_type)?;
        let prefixes = instance_limits::max_pods_prefixes(limits).filter(|_| self.mode == Mode::Prefixes);
        let enis = limits.max_enis_on_default_card();
        Some(Rules {
            mode: if prefixes.is_some() { Mode::Prefixes } else { Mode::Addresses },
            targets: self.targets,
            slots_per_eni: limits.secondary_slots_per_eni(),
            max_enis: self.max_enis.map_or(enis, |most| enis.min(most)),
            max_pods: self.max_pods.or(prefixes).unwrap_or_else(|| instance_limits::max_pods_secondary_ips(limits)),
        })
    }
}

/// The reference with these settings.
#[derive(Clone, Debug)]
pub struct Reference {
    name: String,
    settings: Settings,
}

impl Reference {
    /// The reference with these settings.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self { name: name.into(), settings }
    }
}

impl Strategy for Reference {
    type Allocator = Container;

    fn name(&self) -> &str {
        &self.name
    }

    /// The SDK for Go in its standard mode: three attempts of every call, no bucket of its own.
    fn manners(&self) -> Manners {
        Manners {
            attempts: 3,
            repeats_once: true,
            bucket: false,
            attempt_timeout: self.settings.http_timeout,
            call_timeout: NO_LIMIT,
        }
    }

    fn cooldown(&self) -> Duration {
        self.settings.cooldown
    }

    fn start(&self, found: Found, turn: &mut Turn) -> Container {
        Container::start(self.settings.clone(), &found, turn)
    }
}
