// SPDX-License-Identifier: Apache-2.0
//! The driver's letter box: how edges hand over what happened, and ask for what they show.
//!
//! Unbounded on purpose: a dropped handler must be able to say so without waiting, and every sender is bounded by nature
//! (calls by the runtime, outcomes by the core's own actions, links by the kernel).

use std::sync::Arc;

use ipamd_core::event::Outcome;
use ipamd_core::ids::{ActionId, RequestId};
use ipamd_core::{Event, Reply, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::Heartbeat;

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something happened.
    Event(Event),
    /// A call that wants an answer.
    Call {
        /// Names the call in the core's reply.
        request: RequestId,
        /// The call.
        event: Event,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Somebody wants to see the state.
    Snapshot(oneshot::Sender<Snapshot>),
    /// A tombstone may have been laid.
    Tombstones,
    /// Refuse who waits, write the journal, end.
    Stop,
}

/// The edges' end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(mpsc::UnboundedSender<Input>, Arc<Heartbeat>);

impl Inbox {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender, Arc::default()), receiver)
    }

    /// That of the loop that takes what is put in.
    pub(crate) fn heartbeat(&self) -> Arc<Heartbeat> {
        self.1.clone()
    }

    /// Changes about once a minute, when the driver's loop turns anyway: for what is looked at now and then.
    pub(crate) fn beats(&self) -> watch::Receiver<()> {
        self.1.slow()
    }

    /// Whether it was taken in: not after the driver's end.
    fn put(&self, input: Input) -> bool {
        // First: behind a loop that has already worked it off it would look like a call that nobody takes.
        self.1.called();
        self.0.send(input).is_ok()
    }

    /// Hands over an event. After the driver's end nobody is interested any more.
    pub(crate) fn event(&self, event: Event) {
        self.put(Input::Event(event));
    }

    pub(crate) fn ended(&self, id: ActionId, outcome: Outcome) {
        self.event(Event::ActionEnded { id, outcome });
    }

    /// Hands over a call; the receiver errs when the driver ends without an answer.
    pub(crate) fn call(&self, request: RequestId, event: Event) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        self.put(Input::Call { request, event, reply });
        receiver
    }

    /// The present state; `None`: the driver has ended.
    pub(crate) async fn snapshot(&self) -> Option<Snapshot> {
        let (sender, receiver) = oneshot::channel();
        if !self.put(Input::Snapshot(sender)) {
            return None;
        }
        receiver.await.ok()
    }

    pub(crate) fn tombstones(&self) {
        self.put(Input::Tombstones);
    }

    pub(crate) fn stop(&self) {
        self.put(Input::Stop);
    }
}
