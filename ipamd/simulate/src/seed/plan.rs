// SPDX-License-Identifier: Apache-2.0
//! What a seed holds: instance type, settings, pods, and what goes wrong when.
//!
//! Bounds of every seed: 30 to 40 minutes of life, at least 110 pods (220 ADDs and DELs), at least one kill and two other
//! faults. Everything is drawn from the seed's own streams, so a change in one part leaves the others as they were.

use std::fmt;
use std::time::Duration;

use ipamd_core::config::{AddressMode, WarmTargets};
use ipamd_core::{BootTime, Config};
use vpc_model::{AttachFaultKind, Bucket, Delivery, Effect, Lags};

use crate::kernel::KernelCallKind;
use crate::pace::Pace;
use crate::rng::{Rng, Stream};
use crate::world::{Blow, CallFault, NodeId, PodPlan};

/// How long every write is kept as it was made; at other times the files are read when somebody looks.
pub const EAGER: Duration = Duration::from_secs(150);

/// What a seed holds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Type of every node.
    pub instance_type: &'static str,
    /// How many nodes share the account.
    pub nodes: usize,
    /// Prefix length of their subnet.
    pub subnet_length: u8,
    /// Settings of every daemon.
    pub config: Config,
    /// How long things take.
    pub pace: Pace,
    /// The pods.
    pub pods: Vec<PodPlan>,
    /// What goes wrong, in order.
    pub blows: Vec<(BootTime, Blow)>,
    /// When nothing goes wrong any more.
    pub peace: BootTime,
    /// From when, for [`EAGER`], every write is kept as it was made.
    pub eager: BootTime,
}

/// Kinds of what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is a blow of the same name, or a way in which calls fail")]
pub enum Kind {
    Kill,
    ServerError,
    Throttled,
    Denied,
    LostAnswer,
    LostRequest,
    Exhausted,
    FewerEnis,
    Lag,
    SlowAttach,
    NoLink,
    NeverAttached,
    SlowCalls,
    Imds,
    Disk,
    Kernel,
    Vanish,
    EniTaken,
    SmallBuckets,
    Squeeze,
}

const FAULTS: [Kind; 19] = [
    Kind::ServerError,
    Kind::Throttled,
    Kind::Denied,
    Kind::LostAnswer,
    Kind::LostRequest,
    Kind::Exhausted,
    Kind::FewerEnis,
    Kind::Lag,
    Kind::SlowAttach,
    Kind::NoLink,
    Kind::NeverAttached,
    Kind::SlowCalls,
    Kind::Imds,
    Kind::Disk,
    Kind::Kernel,
    Kind::Vanish,
    Kind::EniTaken,
    Kind::SmallBuckets,
    Kind::Squeeze,
];

const WRITES: [&str; 7] = [
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
];

impl Plan {
    /// Draws the plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut shape = Rng::new(seed, Stream::Shape);
        // Types with few addresses, so that limits are met; nano and micro leave hardly a pool.
        let instance_type = shape.pick(&["t3.small", "t3.medium", "m5.large", "m5.large", "c5.xlarge", "t3.large"]);
        let nodes = if shape.chance(100) { 2 } else { 1 };
        let subnet_length = if shape.chance(150) { 26 } else { shape.pick(&[22, 23, 24]) };
        let config = settings(&mut shape);
        let pace = pace(&mut shape);
        let peace = BootTime(shape.time(Duration::from_secs(30 * 60), Duration::from_secs(40 * 60)));
        let capacity = instance_limits::lookup(instance_type).map_or(10, |limits| {
            let enis = limits.max_enis_on_default_card().min(config.max_enis.unwrap_or(u32::MAX));
            enis * limits.secondary_slots_per_eni()
        });
        let mut plan = Self {
            seed,
            instance_type,
            nodes,
            subnet_length,
            config,
            pace,
            pods: Vec::new(),
            blows: Vec::new(),
            peace,
            eager: BootTime(shape.time(Duration::ZERO, peace.0)),
        };
        plan.draw_pods(capacity);
        plan.draw_kills();
        plan.draw_faults();
        plan.blows.push((peace, Blow::Peace));
        plan.blows.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Pods that come one by one, in bursts, or both, in numbers from a fifth of the node's capacity to nearly all of it, so that bursts go beyond.
    fn draw_pods(&mut self, capacity: u32) {
        let mut rng = Rng::new(self.seed, Stream::Pods);
        let life = self.peace.0;
        let count = rng.between(110, 140);
        let at_once = f64::from(capacity) * (0.2 + 0.75 * rng.fraction());
        // By Little's law: so many at once are there on average when each stays so long.
        let stays = life.mul_f64(at_once / f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        let bursts = rng.pick(&[0, 400, 800]);
        let mut number = 0;
        while number < count {
            let starts = rng.time(Duration::from_secs(1), life.mul_f64(0.95));
            let together = if rng.chance(bursts) { rng.between(2, 20) } else { 1 };
            for _ in 0..together.min(count - number) {
                let starts = BootTime(starts + rng.millis(0, 2_000));
                let stays = rng.exponential(stays).max(Duration::from_millis(200));
                // A few stay for ever, so that there is something to keep in the end.
                let ends = if rng.chance(60) { None } else { Some((starts + stays).min(self.peace)) };
                let node = NodeId(usize::try_from(number).unwrap_or(0) % self.nodes);
                self.pods.push(PodPlan { node, name: format!("pod-{number}"), starts, ends });
                number += 1;
            }
        }
    }

    fn draw_kills(&mut self) {
        let mut rng = Rng::new(self.seed, Stream::Crashes);
        for _ in 0..rng.between(1, 4) {
            let node = NodeId(usize::try_from(rng.below(self.nodes as u64)).unwrap_or(0));
            // Close to something that happens: right after a pod comes or goes, where steps are many.
            let index = usize::try_from(rng.below(self.pods.len() as u64)).unwrap_or(0);
            // The step it dies at must come before peace does.
            let pod = self.pods.get(index).filter(|pod| pod.starts.0 < self.peace.0 * 3 / 4);
            let at = pod.map_or(self.peace.0 / 2, |pod| pod.starts.0.saturating_sub(Duration::from_millis(1)));
            let after = u32::try_from(rng.below(12)).unwrap_or(0);
            self.blows.push((BootTime(at), Blow::Kill { node, after }));
        }
    }

    fn draw_faults(&mut self) {
        let mut rng = Rng::new(self.seed, Stream::Faults);
        for _ in 0..rng.between(2, 7) {
            let at = BootTime(rng.time(Duration::ZERO, self.peace.0.mul_f64(0.95)));
            let kind = rng.pick(&FAULTS);
            let node = NodeId(usize::try_from(rng.below(self.nodes as u64)).unwrap_or(0));
            self.draw_fault(&mut rng, (at, node), kind);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm a kind of fault")]
    fn draw_fault(&mut self, rng: &mut Rng, (at, node): (BootTime, NodeId), kind: Kind) {
        let lasts = rng.time(Duration::from_secs(5), Duration::from_secs(240));
        let over = at + lasts;
        let mut put = |at: BootTime, blow: Blow| self.blows.push((at, blow));
        let calls = |action, code, effect, delivery, count| {
            Blow::Calls(CallFault { node: Some(node), action, code, effect, delivery, count, until: over })
        };
        let few = u32::try_from(rng.between(1, 6)).unwrap_or(1);
        match kind {
            Kind::Kill => put(at, Blow::Kill { node, after: few }),
            Kind::ServerError => {
                let effect = rng.pick(&[Effect::Before, Effect::After]);
                let action = if rng.chance(300) { "*" } else { rng.pick(&WRITES) };
                put(at, calls(action, "InternalError", effect, Delivery::Answer, few));
            }
            Kind::Throttled => {
                put(at, calls("*", "RequestLimitExceeded", Effect::Before, Delivery::Answer, few * 4));
            }
            Kind::Denied => {
                put(at, calls(rng.pick(&WRITES), "UnauthorizedOperation", Effect::Before, Delivery::Answer, few));
            }
            Kind::LostAnswer => {
                let delivery = rng.pick(&[Delivery::Hang, Delivery::Close]);
                put(at, calls(rng.pick(&WRITES), "InternalError", Effect::After, delivery, few.min(3)));
            }
            Kind::LostRequest => {
                let delivery = rng.pick(&[Delivery::Hang, Delivery::Close]);
                put(at, calls("*", "InternalError", Effect::Before, delivery, few.min(3)));
            }
            Kind::Exhausted => {
                let action = rng.pick(&["CreateNetworkInterface", "AssignPrivateIpAddresses"]);
                let code = "InsufficientFreeAddressesInSubnet";
                put(at, calls(action, code, Effect::Before, Delivery::Answer, 1_000));
            }
            Kind::FewerEnis => {
                let (action, code) = ("AttachNetworkInterface", "AttachmentLimitExceeded");
                put(at, calls(action, code, Effect::Before, Delivery::Answer, 1_000));
            }
            Kind::Lag => {
                let describe_ms = rng.between(200, 8_000);
                let (new_id_ms, imds_ms) = (rng.between(0, 1_500), rng.between(0, 20_000));
                put(at, Blow::Lags(Lags { describe_ms, new_id_ms, imds_ms, ..Lags::default() }));
                put(over, Blow::Lags(Lags::default()));
            }
            Kind::SlowAttach | Kind::SlowCalls => {
                let mut slow = self.pace;
                if kind == Kind::SlowAttach {
                    slow.attach = rng.time(Duration::from_secs(20), Duration::from_secs(200));
                } else {
                    slow.call = rng.time(Duration::from_secs(1), Duration::from_secs(6));
                }
                put(at, Blow::Pace(Box::new(slow)));
                put(over, Blow::Pace(Box::new(self.pace)));
            }
            Kind::NoLink => put(at, Blow::Attach { node, count: few.min(2), kind: AttachFaultKind::NoLink }),
            Kind::NeverAttached => {
                put(at, Blow::Attach { node, count: few.min(2), kind: AttachFaultKind::NeverAttached });
            }
            Kind::Imds => put(at, Blow::Imds { node, count: few * 3 }),
            Kind::Disk => {
                put(at, Blow::Disk { node, full: true });
                put(at + lasts / 4, Blow::Disk { node, full: false });
            }
            Kind::Kernel => {
                let kinds = [
                    KernelCallKind::SetUpLink,
                    KernelCallKind::TearDownLink,
                    KernelCallKind::Observe,
                    KernelCallKind::Repair,
                ];
                put(at, Blow::Kernel { node, kind: rng.pick(&kinds) });
            }
            Kind::Vanish => put(at, Blow::Vanish { node, which: rng.draw() }),
            Kind::EniTaken => put(at, Blow::EniTaken { node, which: rng.draw() }),
            Kind::SmallBuckets => {
                put(at, Blow::Throttle { bucket: Some(Bucket { burst: few, refill: 1 }) });
                put(over, Blow::Throttle { bucket: None });
            }
            Kind::Squeeze => {
                put(at, Blow::Squeeze { left: Some(few * 2) });
                put(over, Blow::Squeeze { left: None });
            }
        }
    }

    /// How many things go wrong besides kills, and what comes right again not counted.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.kinds().into_iter().filter(|kind| *kind != Kind::Kill).count()
    }

    /// What goes wrong, one entry each time.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        self.blows.iter().filter_map(|(_, blow)| self.kind_of(blow)).collect()
    }

    fn kind_of(&self, blow: &Blow) -> Option<Kind> {
        Some(match blow {
            Blow::Kill { .. } => Kind::Kill,
            Blow::Calls(fault) => match (fault.code, fault.delivery, fault.effect) {
                ("RequestLimitExceeded", ..) => Kind::Throttled,
                ("UnauthorizedOperation", ..) => Kind::Denied,
                ("InsufficientFreeAddressesInSubnet", ..) => Kind::Exhausted,
                ("AttachmentLimitExceeded", ..) => Kind::FewerEnis,
                (_, Delivery::Answer, _) => Kind::ServerError,
                (_, _, Effect::After) => Kind::LostAnswer,
                (_, _, Effect::Before | Effect::Empty) => Kind::LostRequest,
            },
            Blow::Lags(lags) if lags.describe_ms > 0 => Kind::Lag,
            Blow::Pace(pace) if pace.attach != self.pace.attach => Kind::SlowAttach,
            Blow::Pace(pace) if pace.call != self.pace.call => Kind::SlowCalls,
            Blow::Attach { kind: AttachFaultKind::NeverAttached, .. } => Kind::NeverAttached,
            Blow::Attach { .. } => Kind::NoLink,
            Blow::Imds { .. } => Kind::Imds,
            Blow::Disk { full: true, .. } => Kind::Disk,
            Blow::Kernel { .. } => Kind::Kernel,
            Blow::Vanish { .. } => Kind::Vanish,
            Blow::EniTaken { .. } => Kind::EniTaken,
            Blow::Throttle { bucket: Some(_) } => Kind::SmallBuckets,
            Blow::Squeeze { left: Some(_) } => Kind::Squeeze,
            Blow::Lags(_)
            | Blow::Pace(_)
            | Blow::Disk { full: false, .. }
            | Blow::Throttle { bucket: None }
            | Blow::Squeeze { left: None }
            | Blow::Peace => return None,
        })
    }
}

fn settings(rng: &mut Rng) -> Config {
    let small = |rng: &mut Rng, most| u32::try_from(rng.below(most)).unwrap_or(0);
    let warm = if rng.chance(250) {
        WarmTargets::Adaptive
    } else if rng.chance(500) {
        WarmTargets::Enis(small(rng, 3))
    } else {
        WarmTargets::Addresses { warm: small(rng, 8), minimum: small(rng, 14) }
    };
    let address_mode = if rng.chance(300) {
        AddressMode::Prefixes { warm_prefixes: rng.chance(700).then(|| small(rng, 3)) }
    } else {
        AddressMode::SecondaryIps
    };
    Config {
        address_mode,
        warm,
        cooldown: Duration::from_secs(rng.pick(&[0, 1, 10, 30, 30, 30, 60])),
        max_enis: rng.chance(200).then(|| 1 + small(rng, 3)),
        max_pods: rng.chance(200).then(|| 4 + small(rng, 30)),
        cluster_name: rng.chance(300).then(|| "c1".to_owned()),
        ..Config::default()
    }
}

fn pace(rng: &mut Rng) -> Pace {
    Pace {
        call: rng.millis(80, 800),
        attach: rng.millis(500, 12_000),
        link: rng.millis(50, 3_000),
        detach: rng.millis(500, 8_000),
        pending: rng.millis(0, 2_000),
        restart: rng.millis(300, 12_000),
        ..Pace::default()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} node(s) {} in a /{}, {:?}, {:?}, cooldown {} s, MAX_ENI {:?}, max pods {:?}, {} pods in {} min",
            self.seed,
            self.nodes,
            self.instance_type,
            self.subnet_length,
            self.config.address_mode,
            self.config.warm,
            self.config.cooldown.as_secs(),
            self.config.max_enis,
            self.config.max_pods,
            self.pods.len(),
            self.peace.0.as_secs() / 60
        )?;
        for (at, blow) in &self.blows {
            if let Some(kind) = self.kind_of(blow) {
                writeln!(f, "  {:>9.1} s  {kind:?}", at.0.as_secs_f64())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_holds_half_an_hour_two_hundred_pod_events_a_kill_and_two_faults() {
        for seed in 0..500 {
            let plan = Plan::draw(seed);
            assert!(plan.peace.0 >= Duration::from_secs(1_800), "{plan}");
            let dels = plan.pods.iter().filter(|pod| pod.ends.is_some()).count();
            assert!(plan.pods.len() + dels >= 200, "{plan}");
            assert!(plan.kinds().contains(&Kind::Kill) && plan.faults() >= 2, "{plan}");
        }
    }
}
