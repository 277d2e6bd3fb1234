// SPDX-License-Identifier: Apache-2.0
//! Who is told of every call: how it ended, how long it took, what held it back. For metrics; decides nothing.

use std::sync::Arc;
use std::time::Duration;

use ipamd_core::event::Failure;

/// Who holds requests back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// EC2 threw one out as one too many.
    Ec2,
    /// Our own bucket let one wait, or did not let it leave.
    Bucket,
}

/// Is told, and must not block.
pub trait Watch: std::fmt::Debug + Send + Sync {
    /// A call is over, the client's own retries included. One that our own bucket did not let leave was none.
    fn ended(&self, action: &str, end: &End<'_>);
    /// A request was held back.
    fn held_back(&self, action: &str, by: By);
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Why it did not do what it was to do; `None`: it did.
    pub failure: Option<&'a Failure>,
    /// HTTP's status; `None`: there was no answer.
    pub status: Option<u16>,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// The one who is told, if there is one.
pub type Watcher = Option<Arc<dyn Watch>>;
