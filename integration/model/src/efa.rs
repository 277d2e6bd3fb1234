// SPDX-License-Identifier: Apache-2.0
//! Which instance types take EFAs, and how many.
//!
//! Decides by the instance type alone; whether an instance's state lets an EFA come or go is decided by attach and detach.
//!
//! Invariant: one EFA a network card at most, and none on a card that the type does not have.
//!
//! Worked example: p4d.24xlarge has four cards and takes four EFAs; c5n.18xlarge has one card and takes one; m5.large takes
//! none.
//!
//! Source: EC2 user guide, "Elastic Fabric Adapter", supported instance types and limitations (2023); types with several
//! network cards are all taken to support EFA.

use instance_limits::InstanceLimits;

/// Types with one network card that take an EFA, sorted.
const ONE_CARD: [&str; 47] = [
    "c5n.18xlarge",
    "c5n.9xlarge",
    "c5n.metal",
    "c6a.32xlarge",
    "c6a.48xlarge",
    "c6a.metal",
    "c6gn.16xlarge",
    "c6i.32xlarge",
    "c6i.metal",
    "c6id.32xlarge",
    "c6id.metal",
    "c7g.16xlarge",
    "g4dn.12xlarge",
    "g4dn.8xlarge",
    "g4dn.metal",
    "g5.48xlarge",
    "hpc6a.48xlarge",
    "i3en.12xlarge",
    "i3en.24xlarge",
    "i3en.metal",
    "i4i.32xlarge",
    "i4i.metal",
    "im4gn.16xlarge",
    "inf1.24xlarge",
    "m5dn.24xlarge",
    "m5dn.metal",
    "m5n.24xlarge",
    "m5n.metal",
    "m5zn.12xlarge",
    "m5zn.metal",
    "m6a.48xlarge",
    "m6a.metal",
    "m6i.32xlarge",
    "m6i.metal",
    "m6id.32xlarge",
    "m6id.metal",
    "p3dn.24xlarge",
    "r5dn.24xlarge",
    "r5dn.metal",
    "r5n.24xlarge",
    "r5n.metal",
    "r6a.48xlarge",
    "r6a.metal",
    "r6i.32xlarge",
    "r6i.metal",
    "x2idn.32xlarge",
    "x2iedn.32xlarge",
];

/// How many EFAs an instance of this type takes.
pub(crate) fn most(instance_type: &str, limits: &InstanceLimits) -> usize {
    match limits.cards.len() {
        1 => usize::from(ONE_CARD.binary_search(&instance_type).is_ok()),
        cards => cards,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_names_types_with_one_card() {
        assert!(ONE_CARD.is_sorted());
        for name in ONE_CARD {
            let limits = instance_limits::lookup(name).unwrap_or_else(|| panic!("{name} is no instance type"));
            assert_eq!(limits.cards.len(), 1, "{name}");
        }
    }

    /// EC2 user guide, "EFA limitations": p4d.24xlarge and dl1.24xlarge take four, the other types one.
    #[test]
    fn types_take_as_many_efas_as_the_user_guide_says() {
        for (name, number) in [("p4d.24xlarge", 4), ("dl1.24xlarge", 4), ("c5n.18xlarge", 1), ("m5.large", 0)] {
            assert_eq!(most(name, instance_limits::lookup(name).unwrap()), number, "{name}");
        }
    }
}
