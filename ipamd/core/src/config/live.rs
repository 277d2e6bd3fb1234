// SPDX-License-Identifier: Apache-2.0
//! What of the configuration may change while the daemon runs, and nothing else.
//!
//! A type of its own, so that what is decided once, at the start (layout, marks, MTUs, who provisions), cannot be changed on a way that
//! nobody thought of. Its fields are what the rows of [`VARIABLES`](super::VARIABLES) that say so become; two more of these rows are
//! told to others: the lists of blocks ([`NatBlocks`](super::NatBlocks)) and the level of the log. A test holds rows and types together.
//!
//! Invariant: no allocation is touched by a change. What a change does beyond the next decision of the planner:
//!
//! | change | what becomes of what is there |
//! |---|---|
//! | a lower MAX_ENI | ENIs above it stay until the pool's surplus lets them go in the ordinary way; none is made meanwhile |
//! | another cooldown | what cools already keeps the time it was given |
//! | ADDITIONAL_ENI_TAGS | new ENIs have them; those that serve get them by what EC2 showed last, within minutes; none is removed |
//! | prefixes on or off | both kinds of addresses serve; free ones of the kind that is not asked for any more are given back |
//! | the sweep of leaked ENIs | it begins anew: nothing that was marked by another age is deleted |

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AddressMode, Config, SubnetChoice, WarmTargets};

/// Settings that may change while the daemon runs; each is [`Config`]'s field of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of `Config` of the same name")]
pub struct LiveSettings {
    pub address_mode: AddressMode,
    pub warm: WarmTargets,
    pub max_enis: Option<u32>,
    pub max_pods: Option<u32>,
    pub cooldown: Duration,
    pub additional_eni_tags: BTreeMap<String, String>,
    pub subnets: SubnetChoice,
    pub provisions_when_cordoned: bool,
    pub leaked_eni_age: Option<Duration>,
}

impl Config {
    /// Those of its settings that may change while the daemon runs.
    #[must_use]
    pub fn live(&self) -> LiveSettings {
        LiveSettings {
            address_mode: self.address_mode,
            warm: self.warm,
            max_enis: self.max_enis,
            max_pods: self.max_pods,
            cooldown: self.cooldown,
            additional_eni_tags: self.additional_eni_tags.clone(),
            subnets: self.subnets,
            provisions_when_cordoned: self.provisions_when_cordoned,
            leaked_eni_age: self.leaked_eni_age,
        }
    }

    /// Takes them; everything else stays as it was at the start.
    pub fn take_live(&mut self, live: LiveSettings) {
        let LiveSettings {
            address_mode,
            warm,
            max_enis,
            max_pods,
            cooldown,
            additional_eni_tags,
            subnets,
            provisions_when_cordoned,
            leaked_eni_age,
        } = live;
        self.address_mode = address_mode;
        self.warm = warm;
        self.max_enis = max_enis;
        self.max_pods = max_pods;
        self.cooldown = cooldown;
        self.additional_eni_tags = additional_eni_tags;
        self.subnets = subnets;
        self.provisions_when_cordoned = provisions_when_cordoned;
        self.leaked_eni_age = leaked_eni_age;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VARIABLES, parse};
    use super::*;

    /// A value of each variable that may change, other than its default.
    const VALUES: [(&str, &str); 16] = [
        ("WARM_ENI_TARGET", "2"),
        ("WARM_IP_TARGET", "7"),
        ("MINIMUM_IP_TARGET", "9"),
        ("WARM_PREFIX_TARGET", "2"),
        ("MAX_ENI", "3"),
        ("ENID_MAX_PODS", "29"),
        ("IP_COOLDOWN_PERIOD", "5"),
        ("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true"),
        ("ENABLE_SUBNET_DISCOVERY", "false"),
        ("DISABLE_LEAKED_ENI_CLEANUP", "true"),
        ("ENID_LEAKED_ENI_AGE", "600"),
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "192.168.0.0/16"),
        ("ENID_SNAT_INCLUDE_CIDRS", "198.51.100.0/24"),
        ("AWS_EXTERNAL_SERVICE_CIDRS", "172.20.0.0/16"),
        ("ADDITIONAL_ENI_TAGS", "{\"team\":\"a\"}"),
    ];

    #[test]
    fn what_a_variable_that_may_change_becomes_is_taken_whole_and_nothing_else_is() {
        let default = Config::default();
        for (name, value) in VALUES.into_iter().chain([("AWS_VPC_K8S_CNI_LOGLEVEL", "warn")]) {
            // Prefixes, since one of the targets means nothing without.
            let prefixes = ("ENABLE_PREFIX_DELEGATION".to_owned(), "true".to_owned());
            let source = BTreeMap::from([prefixes, (name.to_owned(), value.to_owned())]);
            let (wanted, _) = parse(&source).unwrap();
            assert_ne!(wanted, default, "{name}");
            let mut taken = Config { log: wanted.log.clone(), ..default.clone() };
            taken.snat.blocks = wanted.snat.blocks.clone();
            taken.take_live(wanted.live());
            assert_eq!(taken, wanted, "{name}");
        }
    }

    #[test]
    fn the_rows_that_say_so_are_those_that_may_change() {
        let said: Vec<&str> = VARIABLES.iter().filter(|row| row.is_live).map(|row| row.name).collect();
        let mut may: Vec<&str> = VALUES.iter().map(|(name, _)| *name).chain(["AWS_VPC_K8S_CNI_LOGLEVEL"]).collect();
        let mut sorted = said.clone();
        sorted.sort_unstable();
        may.sort_unstable();
        assert_eq!(sorted, may);
    }
}
