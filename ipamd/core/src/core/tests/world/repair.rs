// SPDX-License-Identifier: Apache-2.0
//! The kernel as far as repair goes: damage that the next look finds, and objects that a dead sandbox left behind.

use std::net::IpAddr;

use super::World;
use crate::repair::{KernelChange, PartFailure, RepairKind, RepairPart, RepairPlan, RepairReport, Repaired};

pub(in crate::core::tests) fn rule_missing(count: usize) -> Vec<Repaired> {
    let what = RepairKind { object: "rule".into(), reason: "missing".into() };
    vec![Repaired { what, command: "ip rule add …".into() }; count]
}

impl World {
    /// Somebody removes rules, and the kernel tells; of single addresses or of something else.
    pub(in crate::core::tests) fn hurt(&mut self, rules: usize, change: KernelChange) {
        self.damage.extend(rule_missing(rules));
        self.feed(crate::event::Event::KernelChanged(change));
    }

    /// What must never be asked for.
    pub(super) fn check_repair(&mut self, plan: &RepairPlan) {
        for address in &plan.sweep {
            let held = self.ledger.owner.values().chain(self.pods.values()).any(|held| IpAddr::from(*held) == *address);
            assert!(!held, "{address} is in use, and its objects are to go");
            assert!(!plan.spared.contains(address), "{address} is spared and swept");
        }
        for (key, address) in &self.ledger.owner {
            assert!(plan.spared.contains(&IpAddr::from(*address)), "{address} of {key} is not spared");
        }
        for pod in &plan.pods {
            let others = self.ledger.owner.iter().find(|(key, address)| **key != pod.key && **address == pod.address);
            assert!(others.is_none(), "{} is put back for {} and is of {others:?}", pod.address, pod.key);
        }
        let proven = plan.enis.iter().all(|eni| self.proven.contains(&eni.eni_id));
        assert!(proven, "an ENI is looked after that is not in service: {:?}", plan.enis);
        self.last_repair = Some(Box::new(plan.clone()));
    }

    /// A look.
    pub(super) fn repair(&mut self, plan: &RepairPlan) -> RepairReport {
        let live = |address: &IpAddr| self.pods.values().any(|held| IpAddr::from(*held) == *address);
        let gone: Vec<IpAddr> =
            self.left.iter().filter(|address| plan.sweep.contains(*address) && !live(address)).copied().collect();
        let orphans = self.left.iter().filter(|address| !gone.contains(address) && !live(address));
        let orphans = orphans.filter(|address| !plan.spared.contains(*address)).copied().collect();
        self.left.retain(|address| !gone.contains(address));
        let names = ["systemd-network", "sshd"].map(str::to_owned);
        RepairReport {
            repairs: std::mem::take(&mut self.damage),
            swept: gone.iter().map(|address| format!("ip rule del priority 512 to {address}")).collect(),
            orphans,
            failures: self.broken.iter().filter(|part| is_in(plan, part)).map(failure).collect(),
            programs: plan.name_programs.then_some(names).into_iter().flatten().collect(),
        }
    }
}

fn is_in(plan: &RepairPlan, part: &RepairPart) -> bool {
    match part {
        RepairPart::Host => plan.host.is_some(),
        RepairPart::Eni(eni_id) => plan.enis.iter().any(|eni| eni.eni_id == *eni_id),
        RepairPart::Pods => true,
    }
}

fn failure(part: &RepairPart) -> PartFailure {
    PartFailure { part: part.clone(), message: "injected".to_owned() }
}
