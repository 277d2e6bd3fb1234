// SPDX-License-Identifier: Apache-2.0
//! What holds after any calls at any times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use vpc_model::{AddressChoice, EniId, FabricEvent, Link};

use crate::common::{World, one};

/// One thing that somebody does; numbers are reduced to what there is.
#[derive(Clone, Debug)]
enum Step {
    Create { subnet: u8, addresses: u8, prefixes: u8, token: u8 },
    Attach { eni: u8, instance: u8, index: u8 },
    Detach { eni: u8 },
    Delete { eni: u8 },
    AssignCount { eni: u8, count: u8 },
    AssignNamed { eni: u8, last_octet: u8, allow: bool },
    AssignPrefixes { eni: u8, count: u8 },
    Unassign { eni: u8, which: u8 },
    Reserve { subnet: u8, last_octet: u8, length: u8, prefix: bool },
    Wait { seconds: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5u8, 0..12u8, 0..3u8, 0..4u8).prop_map(|(subnet, addresses, prefixes, token)| Step::Create {
            subnet,
            addresses,
            prefixes,
            token
        }),
        (any::<u8>(), 0..2u8, 0..5u8).prop_map(|(eni, instance, index)| Step::Attach { eni, instance, index }),
        any::<u8>().prop_map(|eni| Step::Detach { eni }),
        any::<u8>().prop_map(|eni| Step::Delete { eni }),
        (any::<u8>(), 0..12u8).prop_map(|(eni, count)| Step::AssignCount { eni, count }),
        (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(eni, last_octet, allow)| Step::AssignNamed {
            eni,
            last_octet,
            allow
        }),
        (any::<u8>(), 0..4u8).prop_map(|(eni, count)| Step::AssignPrefixes { eni, count }),
        (any::<u8>(), any::<u8>()).prop_map(|(eni, which)| Step::Unassign { eni, which }),
        (0..5u8, any::<u8>(), 24..32u8, any::<bool>())
            .prop_map(|(subnet, last_octet, length, prefix)| { Step::Reserve { subnet, last_octet, length, prefix } }),
        (0..8u8).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

const SUBNETS: [&str; 5] = ["a", "tiny", "other-zone", "other-vpc", "quarter"];

/// The world with a packet fabric that only keeps books.
struct Run {
    world: World,
    links: BTreeMap<EniId, BTreeSet<String>>,
}

impl Run {
    fn new(choice: AddressChoice) -> Self {
        let mut world = World::new();
        world.vpc.change_settings(|settings| {
            settings.throttle.enabled = false;
            settings.latencies.attach_ms = 3_000;
            settings.latencies.link_ms = 1_000;
            settings.latencies.detach_ms = 2_000;
            settings.choice = choice;
        });
        Self { world, links: BTreeMap::new() }
    }

    fn eni(&self, number: u8) -> EniId {
        let all: Vec<EniId> = self.world.vpc.enis().map(|eni| eni.id.clone()).collect();
        all[usize::from(number) % all.len()].clone()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create { subnet, addresses, prefixes, token } => self.create(*subnet, *addresses, *prefixes, *token),
            Step::Attach { eni, instance, index } => {
                let (eni, index) = (self.eni(*eni), index.to_string());
                let instance = self.world.instance(["large", "xen"][usize::from(*instance)]);
                let id =
                    [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance.as_str()), ("DeviceIndex", &index)];
                self.world.call("AttachNetworkInterface", &id);
            }
            Step::Detach { eni } => {
                let eni = self.eni(*eni);
                let attachment = self.world.vpc.eni(&eni).and_then(|eni| eni.attachment()).map(|a| a.id.to_string());
                self.world.call("DetachNetworkInterface", &[("AttachmentId", attachment.as_deref().unwrap_or("none"))]);
            }
            Step::Delete { eni } => self.on("DeleteNetworkInterface", *eni, &[]),
            Step::AssignCount { eni, count } => {
                self.on("AssignPrivateIpAddresses", *eni, &[("SecondaryPrivateIpAddressCount", &count.to_string())]);
            }
            Step::AssignNamed { eni, last_octet, allow } => {
                let base = self.world.vpc.eni(&self.eni(*eni)).unwrap().primary.unwrap().octets();
                let address = Ipv4Addr::new(base[0], base[1], base[2], *last_octet).to_string();
                let params = [("PrivateIpAddress.1", address.as_str()), ("AllowReassignment", &allow.to_string())];
                self.on("AssignPrivateIpAddresses", *eni, &params);
            }
            Step::AssignPrefixes { eni, count } => {
                self.on("AssignPrivateIpAddresses", *eni, &[("Ipv4PrefixCount", &count.to_string())]);
            }
            Step::Unassign { eni, which } => {
                let held = self.world.vpc.eni(&self.eni(*eni)).unwrap();
                let mut all: Vec<(&str, String)> =
                    held.addresses().map(|address| ("PrivateIpAddress.1", address.to_string())).collect();
                all.extend(held.prefixes.iter().map(|prefix| ("Ipv4Prefix.1", prefix.to_string())));
                let (name, value) = all.swap_remove(usize::from(*which) % all.len());
                self.on("UnassignPrivateIpAddresses", *eni, &[(name, &value)]);
            }
            Step::Reserve { subnet, last_octet, length, prefix } => {
                let subnet = self.world.vpc.subnet_named(SUBNETS[usize::from(*subnet)]).unwrap();
                let base = u32::from(subnet.cidr_block().network()) | u32::from(*last_octet);
                let cidr = ipnet::Ipv4Net::new(Ipv4Addr::from(base), *length).unwrap().trunc().to_string();
                let (subnet, kind) = (subnet.id.clone(), if *prefix { "prefix" } else { "explicit" });
                let params = [("SubnetId", subnet.as_str()), ("Cidr", &cidr), ("ReservationType", kind)];
                self.world.call("CreateSubnetCidrReservation", &params);
            }
            Step::Wait { seconds } => self.world.now += Duration::from_secs(u64::from(*seconds)),
        }
        let now = self.world.now;
        let events = self.world.vpc.advance(now);
        events.iter().for_each(|event| self.follow(event));
    }

    fn create(&mut self, subnet: u8, addresses: u8, prefixes: u8, token: u8) {
        let subnet = self.world.subnet(SUBNETS[usize::from(subnet)]);
        let (addresses, prefixes, token) = (addresses.to_string(), prefixes.to_string(), format!("t{token}"));
        let mut params = vec![("SubnetId", subnet.as_str())];
        params.push(match prefixes.as_str() {
            "0" => ("SecondaryPrivateIpAddressCount", addresses.as_str()),
            _ => ("Ipv4PrefixCount", prefixes.as_str()),
        });
        if token != "t0" {
            params.push(("ClientToken", &token));
        }
        let before: BTreeSet<EniId> = self.world.vpc.enis().map(|eni| eni.id.clone()).collect();
        let first = self.world.call("CreateNetworkInterface", &params);
        let again = self.world.call("CreateNetworkInterface", &params);
        let made = self.world.vpc.enis().filter(|eni| !before.contains(&eni.id)).count();
        if token != "t0" && first.status == 200 {
            let id = |body: &str| one(body, "networkInterfaceId");
            assert_eq!(id(&first.body), id(&again.body), "a token replays");
            assert!(made <= 1, "a token makes one ENI");
        }
    }

    fn on(&mut self, action: &str, eni: u8, params: &[(&str, &str)]) {
        let eni = self.eni(eni);
        let mut all = vec![("NetworkInterfaceId", eni.as_str())];
        all.extend(params);
        self.world.call(action, &all);
    }

    fn follow(&mut self, event: &FabricEvent) {
        match event {
            FabricEvent::EniAttached(attached) => {
                let addresses = attached.secondary_addresses.iter().map(|address| format!("{address}/32"));
                let prefixes = attached.prefixes.iter().map(ToString::to_string);
                let before = self.links.insert(attached.eni.clone(), addresses.chain(prefixes).collect());
                assert_eq!(before, None, "a link appears once");
            }
            FabricEvent::EniDetached { eni, .. } => assert!(self.links.remove(eni).is_some(), "a link goes once"),
            FabricEvent::AddressAssigned { eni, address } => {
                let link = self.links.get_mut(eni).expect("an address comes to a link");
                assert!(link.insert(address.block().to_string()), "an address comes once");
            }
            FabricEvent::AddressUnassigned { eni, address } => {
                let link = self.links.get_mut(eni).expect("an address goes from a link");
                assert!(link.remove(&address.block().to_string()), "an address goes once");
            }
            FabricEvent::SourceDestCheckSet { .. } | FabricEvent::SecurityGroupsSet { .. } => {}
        }
    }

    fn check(&self) {
        let vpc = &self.world.vpc;
        let mut held = BTreeSet::new();
        let mut used: BTreeMap<_, u32> = BTreeMap::new();
        for eni in vpc.enis() {
            for address in eni.addresses().chain(eni.prefixes.iter().flat_map(|prefix| every_address(*prefix))) {
                assert!(held.insert((eni.vpc.clone(), address)), "{address} is on two ENIs");
            }
            let sixteen = u32::try_from(eni.prefixes.len()).unwrap() * 16;
            *used.entry(&eni.subnet).or_default() += u32::try_from(eni.addresses().count()).unwrap() + sixteen;
            let link: BTreeSet<String> = eni
                .secondaries
                .iter()
                .map(|address| format!("{address}/32"))
                .chain(eni.prefixes.iter().map(ToString::to_string))
                .collect();
            assert_eq!(self.links.get(&eni.id), eni.has_link().then_some(&link), "the fabric believes what EC2 does");
        }
        for subnet in vpc.subnets() {
            let size = 1u32 << (32 - subnet.cidr_block().prefix_len());
            let taken = used.get(&subnet.id).copied().unwrap_or(0);
            assert_eq!(subnet.free_addresses(), size - 5 - taken, "free = block - reserved - used");
            let (first, last) = (u32::from(subnet.cidr_block().network()), u32::from(subnet.cidr_block().broadcast()));
            let reserved = (first..first + 4).chain([last]).map(Ipv4Addr::from);
            for address in reserved {
                assert!(!held.contains(&(subnet.vpc.clone(), address)), "{address} is reserved");
            }
        }
        self.check_instances();
    }

    fn check_instances(&self) {
        for instance in self.world.vpc.instances() {
            let mut indexes = BTreeSet::new();
            for eni in self.world.vpc.enis() {
                let Some(attachment) = eni.attachment().filter(|attachment| attachment.instance == instance.id) else {
                    continue;
                };
                assert!(indexes.insert((attachment.network_card, attachment.device_index)), "an index holds one ENI");
                assert!(eni.slots() <= usize::from(instance.limits.ipv4_per_eni), "{} slots", eni.slots());
                assert!(eni.prefixes.is_empty() || instance.limits.takes_prefixes(), "prefixes need Nitro");
            }
            assert!(indexes.len() <= usize::try_from(instance.limits.max_enis()).unwrap(), "too many ENIs");
            assert!(indexes.contains(&(0, 0)), "the primary ENI stays");
        }
    }
}

fn every_address(prefix: ipnet::Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(prefix.network())..=u32::from(prefix.broadcast())).map(Ipv4Addr::from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_called_no_address_is_given_twice_and_no_limit_is_exceeded(
        steps in proptest::collection::vec(step(), 1..60),
        lowest in any::<bool>(),
    ) {
        let mut run = Run::new(if lowest { AddressChoice::Lowest } else { AddressChoice::Random });
        for step in &steps {
            run.take(step);
            run.check();
        }
        // Time alone brings everything to rest, and an attach that was not undone has its link.
        while let Some(deadline) = run.world.vpc.next_deadline() {
            run.world.now = run.world.now.max(deadline);
            run.take(&Step::Wait { seconds: 0 });
        }
        run.check();
        for eni in run.world.vpc.enis() {
            if let Some(attachment) = eni.attachment() {
                prop_assert_eq!(attachment.phase, vpc_model::AttachmentPhase::Attached { link: Link::Up });
            }
        }
    }
}
