// SPDX-License-Identifier: Apache-2.0
//! What Kubernetes is told of how many pods this node can have: annotations, an extended resource, and whether kubelet's max-pods
//! fits. Pure.
//!
//! | what | figure of the core | when it changes |
//! |---|---|---|
//! | annotation `enid.dev/pod-capacity` | `limit` | with settings |
//! | annotation `enid.dev/pod-capacity-now`, the extended resource | `now` | as subnets fill; upwards after 30 s on end |
//! | condition `EnidMaxPodsFits` | `addresses` | with settings, other people's ENIs; so it does not flap as subnets fill |
//!
//! Level-triggered, as all that is written: what the Node shows is compared with what it should, so what kubelet or somebody else
//! removed comes back. At most one write in 30 s; that there is less than is shown is told sooner, as pods are put there for it.
//!
//! ```text
//! fits   max-pods <= addresses + max(2, pods on the host's network)
//! ```
//! Worked example: MAX_ENI=3 on an m5.xlarge: 3 x 14 = 42 addresses. max-pods 58 is more than 42 + 2; 44 would fit. An m5.large with the 29
//! that EKS sets: 27 + 2. With ENID_MAX_PODS pods are served beyond it, so it does not count here.

use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::reason::ReasonCode;
use ipamd_core::snapshot::{CapacitySnapshot, Snapshot};
use serde_json::{Value, json};

use super::condition::Wanted;
use super::node::View;

/// Whether kubelet's max-pods fits.
const TYPE: &str = "EnidMaxPodsFits";
const LIMIT: &str = "enid.dev/pod-capacity";
const NOW: &str = "enid.dev/pod-capacity-now";

/// Between two writes of the figures, and before one that takes something back.
const APART: Duration = Duration::from_secs(30);
const APART_DOWN: Duration = Duration::from_secs(5);
/// So long another answer must have stood before the condition's status changes, and a higher figure before it is written.
const STANDS: Duration = Duration::from_secs(30);

/// The figures that the Node should show.
#[derive(Debug)]
pub(super) struct Figures {
    resource: Option<String>,
    wanted: Option<CapacitySnapshot>,
    /// Since when more pods can be had now than `wanted` says.
    more: Option<BootTime>,
    written: Option<BootTime>,
}

impl Figures {
    /// `resource`: the extended resource that shows them, too.
    pub(super) fn new(resource: Option<String>) -> Self {
        Self { resource, wanted: None, more: None, written: None }
    }

    /// Takes the present state. A higher figure of now must stand first: a subnet that is tried at the end of a rest looks free for
    /// the moment that it takes to be refused.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: BootTime) {
        let mut present = snapshot.capacity.clone();
        if let (Some(wanted), Some(present)) = (&self.wanted, &mut present)
            && present.now > wanted.now
        {
            if now < *self.more.get_or_insert(now) + STANDS {
                present.now = wanted.now;
            } else {
                self.more = None;
            }
        } else {
            self.more = None;
        }
        self.wanted = present;
    }

    /// The merge patch of the Node's status that shows them; `None`: they are shown, or it is too early to write again.
    pub(super) fn due(&self, view: &View, now: BootTime) -> Option<Value> {
        let wanted = self.wanted.as_ref()?;
        let shown: Option<u32> = view.annotations.get(NOW).and_then(|shown| shown.parse().ok());
        let apart = if shown.is_some_and(|shown| shown > wanted.now) { APART_DOWN } else { APART };
        if self.written.is_some_and(|at| now < at + apart) {
            return None;
        }
        let (limit, present) = (wanted.limit.to_string(), wanted.now.to_string());
        let annotated = |key: &str, value: &String| view.annotations.get(key) == Some(value);
        let counted = |name: &String| view.extended.get(name).and_then(|text| quantity(text)) == Some(wanted.now);
        if annotated(LIMIT, &limit) && annotated(NOW, &present) && self.resource.as_ref().is_none_or(counted) {
            return None;
        }
        let mut patch = json!({ "metadata": { "annotations": { LIMIT: limit, NOW: present } } });
        if let Some(name) = &self.resource {
            patch["status"] = json!({ "capacity": { name.as_str(): present } });
        }
        Some(patch)
    }

    pub(super) fn wrote(&mut self, now: BootTime) {
        self.written = Some(now);
    }
}

/// Whether kubelet's max-pods fits what pods can have.
#[derive(Debug, Default)]
pub(super) struct Fits {
    wanted: Option<Wanted>,
    /// Since when the status should be another one.
    otherwise: Option<BootTime>,
}

impl Fits {
    /// `None`: not known yet.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Takes the present state; whether the status changes by it, or is told for the first time and is not the Node's.
    pub(super) fn look(&mut self, snapshot: &Snapshot, view: &View, on_host: Option<u32>, now: BootTime) -> bool {
        let Some(present) = present(snapshot, view, on_host) else { return false };
        let Some(wanted) = &mut self.wanted else {
            let is_news = view.shown(TYPE).map_or(!present.holds, |shown| shown.status != present.status());
            self.wanted = Some(present);
            return is_news;
        };
        if wanted.holds == present.holds {
            self.otherwise = None;
            *wanted = present;
            return false;
        }
        if now < *self.otherwise.get_or_insert(now) + STANDS {
            return false;
        }
        self.otherwise = None;
        *wanted = present;
        true
    }
}

fn present(snapshot: &Snapshot, view: &View, on_host: Option<u32>) -> Option<Wanted> {
    let CapacitySnapshot { addresses, formula, .. } = snapshot.capacity.as_ref()?;
    let (max_pods, instance) = (view.max_pods?, snapshot.instance.as_ref()?);
    let on_host = on_host?.max(instance_limits::HOST_NETWORK_PODS);
    let fitting = addresses.saturating_add(on_host);
    let holds = max_pods <= fitting;
    let kind = &instance.instance_type;
    let text = if holds {
        format!("every one of kubelet's {max_pods} pods can have an address ({kind}: {formula} = {addresses})")
    } else {
        format!(
            "kubelet takes {max_pods} pods, and {addresses} can have an address here ({kind}: {formula}) beside {on_host} on the host's \
             network: set kubelet's max-pods to {fitting} (`ipamd max-pods` tells it for every instance type and mode)"
        )
    };
    Some(Wanted {
        kind: TYPE,
        holds,
        code: if holds { ReasonCode::MaxPodsFits } else { ReasonCode::MaxPodsTooHigh },
        text,
    })
}

/// A whole number as the API server writes it: 2000 is `2k` (Kubernetes documentation, "Quantity").
fn quantity(text: &str) -> Option<u32> {
    let (digits, times) = text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1_000));
    digits.parse::<u32>().ok()?.checked_mul(times)
}

#[cfg(test)]
mod tests;
