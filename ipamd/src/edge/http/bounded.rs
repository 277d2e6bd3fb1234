// SPDX-License-Identifier: Apache-2.0
//! Connections, a bounded number of them, and none for longer than something comes or goes over it.
//!
//! Whoever may connect could otherwise take all the descriptors of a daemon that needs some for every ADD.

#![expect(clippy::disallowed_methods, reason = "what is idle for too long is closed")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// At one place. Those that follow, a few scrapers and browsers; more wait until one is closed.
const MOST: usize = 64;

/// Longer than from one sign of life to the next of those that follow ([`super::events`]).
const IDLE: Duration = Duration::from_secs(60);

/// A listener of which no more than [`MOST`] connections are open at a time.
pub(super) struct Bounded<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    pub(super) fn new(listener: L) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)) }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Nobody closes the semaphore.
        let place = self.places.clone().acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (Held { io, idle: Box::pin(sleep(IDLE)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that has a place, until it is dropped.
pub(super) struct Held<I> {
    io: I,
    idle: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Held<I> {
    /// What has come of a try to read or write; nothing for too long is an error.
    fn watch<T>(&mut self, tried: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match tried {
            Poll::Ready(done) => {
                self.idle.as_mut().reset(Instant::now() + IDLE);
                Poll::Ready(done)
            }
            Poll::Pending => self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Held<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.watch(tried, cx)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Held<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(tried, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(tried, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(tried, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_more_than_there_are_places_waits_until_one_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut listener = Bounded::new(UnixListener::bind(&path).unwrap());
        let mut held = Vec::new();
        for _ in 0..MOST {
            let theirs = UnixStream::connect(&path).await.unwrap();
            held.push((listener.accept().await.0, theirs));
        }
        let mut late = UnixStream::connect(&path).await.unwrap();
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "there was no place");
        held.pop();
        let (mut ours, _) = timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
        late.write_all(b"x").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    }
}
