// SPDX-License-Identifier: Apache-2.0
//! Runs the operations of a plan in one namespace, several in one send.

use super::error::ApplyError;
use super::netlink::{Socket, message};
use crate::plan::{LinkRef, Op};

/// What became of an operation that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It changed something.
    Changed,
    /// It was so already.
    WasSo,
}

/// Sends all operations at once and gives each one's outcome. All are tried, whatever becomes of the others; `Err` only
/// when an operation cannot be sent or the socket fails.
pub(crate) fn try_all(
    socket: &mut Socket,
    ops: &[Op],
    index: impl Fn(&LinkRef) -> Result<u32, ApplyError>,
) -> Result<Vec<Result<Done, ApplyError>>, ApplyError> {
    let requests = ops.iter().map(|op| message::request(op, &index)).collect::<Result<Vec<_>, _>>()?;
    let answers = socket.transact(requests)?;
    let outcome = |(op, answer): (&Op, _)| match answer {
        Ok(_) => Ok(Done::Changed),
        Err(super::Refusal { errno, .. }) if message::is_tolerable(op, errno) => Ok(Done::WasSo),
        Err(source) => Err(ApplyError::Refused { doing: op.to_string(), source }),
    };
    Ok(ops.iter().zip(answers).map(outcome).collect())
}

/// As [`try_all`]; the first failure is the error.
pub(crate) fn all(
    socket: &mut Socket,
    ops: &[Op],
    index: impl Fn(&LinkRef) -> Result<u32, ApplyError>,
) -> Result<Vec<Done>, ApplyError> {
    try_all(socket, ops, index)?.into_iter().collect()
}

/// For operations that are about no link.
pub(crate) fn no_link(link: &LinkRef) -> Result<u32, ApplyError> {
    Err(ApplyError::Invalid { reason: format!("link {link} is not known here") })
}
