// SPDX-License-Identifier: Apache-2.0
//! Mistakes that pool engines have made in production, each as a switch at the one line that keeps ours from making it.
//!
//! They exist to show that the simulation (crate `ipamd-simulate`) would find them: a test for each puts it back and names
//! the invariant that breaks. The daemon never sets one. Source: issues of amazon-vpc-cni-k8s and of its peers.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Cooling addresses count as free, so that nothing is asked for while nothing can be given.
    CoolingIsFree,
    /// An ENI that a lagging read does not show is taken for detached.
    AbsenceIsDetached,
    /// An assign by count whose answer was lost is repeated.
    RepeatsAssign,
    /// Addresses of calls under way are not counted.
    ForgetsInFlight,
    /// Addresses picked as free go back to EC2 later, whoever has got them since.
    ReleasesByStaleView,
    /// What a subnet does not have is asked for again and again.
    IgnoresExhaustion,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CoolingIsFree,
        Self::AbsenceIsDetached,
        Self::RepeatsAssign,
        Self::ForgetsInFlight,
        Self::ReleasesByStaleView,
        Self::IgnoresExhaustion,
    ];
}
