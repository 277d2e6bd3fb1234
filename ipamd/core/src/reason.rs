// SPDX-License-Identifier: Apache-2.0
//! Why: stable codes with their numbers, the same in the CNI error, the log line, `ipamd status` and (later) metric labels
//! and events.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Stable code of a refusal or a degraded state. The text form is the variant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReasonCode {
    /// Every address that this instance type (or MAX_ENI) allows is taken.
    NodeFull,
    /// The subnet has no free address.
    SubnetExhausted,
    /// An ENI is being created or attached and will not be ready inside the caller's budget.
    EniPending,
    /// An attached ENI does not appear, or cannot be configured.
    EniStuck,
    /// EC2 throttles us, or our own bucket is empty.
    Ec2Throttled,
    /// EC2 refuses for lack of permission or credentials.
    Ec2Denied,
    /// EC2 cannot be reached, or answers with server errors.
    Ec2Unavailable,
    /// IMDS cannot be read, and the journal does not say who we are.
    ImdsUnavailable,
    /// The state folder cannot be written.
    StateNotDurable,
    /// Nothing came free inside the caller's budget.
    BudgetSpent,
    /// All free addresses are cooling down.
    AllCooling,
    /// The daemon is still starting.
    Starting,
    /// The daemon is being stopped.
    Stopping,
    /// The caller went away, or a DEL for the same key came, while the ADD was waiting.
    Superseded,
    /// The limits of the instance type are not known.
    LimitsUnknown,
    /// No subnet of the zone is usable for pods by its tags.
    NoUsableSubnet,
    /// Custom networking: the node's ENIConfig is not there, cannot be read, or nobody has said yet which it is.
    EniConfigMissing,
    /// Custom networking: what the node's ENIConfig says cannot be used, wholly or in part.
    EniConfigFaulty,
    /// ENIs and addresses are someone else's business by configuration.
    ProvisioningDisabled,
    /// The kernel did not forget a released address's connections in time: it is given out all the same.
    AddressNotFlushed,
    /// The node's network was changed by someone else, and put back.
    HostRepaired,
    /// Someone else changes the node's network again and again.
    HostContested,
    /// What was left in the kernel of sandboxes that are gone was removed.
    OrphansSwept,
    /// The kernel's table of connections is nearly full, or was: once it is, new connections of everybody on the node are dropped.
    ConntrackFilling,
    /// The kernel dropped packets or connections: its table of connections was full, or tuples clashed.
    ConntrackDropping,
    /// The node is cordoned, and its pool is not managed meanwhile.
    NodeCordoned,
    /// Addresses can be given again.
    AddressesAvailable,
    /// The file of settings, or an annotation of the Node that is one, has a mistake: what was there before holds.
    ConfigurationInvalid,
    /// The settings of this node are valid.
    ConfigurationValid,
    /// kubelet's max-pods is more than pods can have addresses here.
    MaxPodsTooHigh,
    /// It is not.
    MaxPodsFits,
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why an ADD got no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: ReasonCode,
    /// What happened, with its numbers, and what to do; one sentence or two.
    pub cause: String,
    /// When a retry can succeed, as far as known.
    pub retry_after: Option<Duration>,
}

/// Something worth a log line; the driver logs it, the core never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub level: NoticeLevel,
    /// What happened, naming the object.
    pub text: String,
    /// Stable code, when it is one of the table.
    pub code: Option<ReasonCode>,
}

/// error = the operator must act, warn = degraded and will retry, info = state transitions, debug = decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// Decisions with their inputs.
    Debug,
    /// State transitions.
    Info,
    /// Degraded, will retry.
    Warn,
    /// The operator must act.
    Error,
}
