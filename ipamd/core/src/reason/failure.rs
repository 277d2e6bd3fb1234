// SPDX-License-Identifier: Apache-2.0
//! From a failed action to the code of its cause.
//!
//! An edge that knows the cause by name says so: a failure whose code is one of the table's is that reason. What the kernel or
//! the runtime refuses is told apart by what was to be done, and what EC2 refuses by its class. Decides no back-off and no
//! loudness.

use super::ReasonCode;
use crate::core::Purpose;
use crate::event::{Failure, FailureClass};

/// The cause of a failed action; `what`: what was to be done, where that is known.
pub(crate) fn reason_of(failure: &Failure, what: Option<&Purpose>) -> ReasonCode {
    // A code of EC2's is spelled like ours of what a caller asks.
    let known = failure.code.parse().ok().filter(|code| *code != ReasonCode::InvalidRequest);
    if let Some(code) = known {
        return code;
    }
    what.and_then(|what| of_local(what, failure.class)).unwrap_or_else(|| of_class(failure.class))
}

/// Of actions that are not EC2's.
fn of_local(what: &Purpose, class: FailureClass) -> Option<ReasonCode> {
    match what {
        Purpose::Host => Some(ReasonCode::HostSetupFailed),
        Purpose::Repair => Some(ReasonCode::RepairFailed),
        Purpose::Observe => Some(ReasonCode::KernelUnreadable),
        Purpose::Sandboxes => Some(ReasonCode::RuntimeUnavailable),
        Purpose::Flush { .. } => Some(ReasonCode::FlushFailed),
        Purpose::Steer { .. } | Purpose::Deconfigure { .. } => Some(ReasonCode::KernelRefused),
        Purpose::Configure { .. } if class == FailureClass::LinkMissing => Some(ReasonCode::EniPending),
        Purpose::Configure { .. } => Some(ReasonCode::EniStuck),
        Purpose::Create { .. }
        | Purpose::Attach { .. }
        | Purpose::Termination { .. }
        | Purpose::Assign { .. }
        | Purpose::Unassign { .. }
        | Purpose::Detach { .. }
        | Purpose::Delete { .. }
        | Purpose::Describe
        | Purpose::Subnet { .. }
        | Purpose::Zone
        | Purpose::PodSubnets { .. }
        | Purpose::Groups { .. }
        | Purpose::Tags { .. }
        | Purpose::Sweep
        | Purpose::MarkLeaked { .. }
        | Purpose::DeleteLeaked { .. } => None,
    }
}

fn of_class(class: FailureClass) -> ReasonCode {
    match class {
        FailureClass::Throttled => ReasonCode::Ec2Throttled,
        FailureClass::Denied => ReasonCode::Ec2Denied,
        FailureClass::SubnetExhausted => ReasonCode::SubnetExhausted,
        FailureClass::PrefixesExhausted => ReasonCode::SubnetFragmented,
        FailureClass::AttachmentLimit => ReasonCode::AttachmentLimit,
        FailureClass::AddressLimit => ReasonCode::AddressLimit,
        FailureClass::DeviceIndexTaken => ReasonCode::DeviceIndexTaken,
        FailureClass::NotFound => ReasonCode::Ec2NotFound,
        FailureClass::WrongState => ReasonCode::Ec2WrongState,
        FailureClass::TokenMismatch => ReasonCode::ClientTokenMismatch,
        FailureClass::Rejected => ReasonCode::Ec2Rejected,
        FailureClass::Transient | FailureClass::Unknown => ReasonCode::Ec2Unavailable,
        FailureClass::LinkMissing => ReasonCode::EniPending,
        FailureClass::Kernel => ReasonCode::EniStuck,
    }
}
