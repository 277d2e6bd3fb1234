// SPDX-License-Identifier: Apache-2.0
//! Accepted connections whose peer may talk to us. The others are closed here, unread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;

/// After a failed accept (EMFILE, mostly) the next one is tried this much later: the error would come again at once.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A connection that came to nothing.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// The peer's uid is not allowed, or the kernel did not tell it.
    Refused {
        /// The peer's user id.
        uid: Option<u32>,
        /// The peer's process.
        pid: Option<i32>,
    },
    /// No connection could be accepted for now.
    AcceptFailed(io::Error),
}

/// Stream of allowed connections. Never ends.
pub(super) struct Incoming {
    listener: UnixListener,
    allowed_uids: Vec<u32>,
    on_event: Arc<dyn Fn(&ConnectionEvent) + Send + Sync>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(
        listener: UnixListener,
        allowed_uids: Vec<u32>,
        on_event: Arc<dyn Fn(&ConnectionEvent) + Send + Sync>,
    ) -> Self {
        Self { listener, allowed_uids, on_event, pause: None }
    }

    fn is_allowed(&self, stream: &UnixStream) -> bool {
        let peer = stream.peer_cred().ok();
        let uid = peer.map(|peer| peer.uid());
        let allowed = uid.is_some_and(|uid| self.allowed_uids.contains(&uid));
        if !allowed {
            (self.on_event)(&ConnectionEvent::Refused { uid, pid: peer.and_then(|peer| peer.pid()) });
        }
        allowed
    }
}

impl Stream for Incoming {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) if self.is_allowed(&stream) => return Poll::Ready(Some(Ok(stream))),
                Ok(_) => {}
                Err(error) => {
                    (self.on_event)(&ConnectionEvent::AcceptFailed(error));
                    self.pause = Some(Box::pin(sleep_until(Instant::now() + PAUSE_AFTER_FAILURE)));
                }
            }
        }
    }
}
