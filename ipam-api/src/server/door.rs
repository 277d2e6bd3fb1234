// SPDX-License-Identifier: Apache-2.0
//! Accepted connections whose peer may talk to us; the others are closed here, unread. An ADD or DEL of our plugin's that is all there with
//! its connection's first bytes is answered here ([`crate::whole`]); every other connection is tonic's, with those bytes.
//!
//! ```text
//! accept ─uid?─► first bytes ─► a whole call ─► handler ─► answer, closed      peer goes away: the handler's future is dropped
//!    │no             │             │ anything else
//!    ▼               │ stop        ▼
//!  closed            ▼           tonic
//!                  closed
//! ```
#![expect(clippy::disallowed_methods, reason = "this edge waits after a failed accept")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use super::CniBackend;
use crate::whole::{self, Asked, Call};

/// After a failed accept (EMFILE, mostly) the next one is tried this much later: the error would come again at once.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Of the first read. The plugin's calls are some hundred bytes.
const FIRST_BYTES: usize = 4_096;
/// What a client may say while it waits for its answer: nothing that is of use to us, and ours says nothing.
const IDLE_TALK: usize = 64 * 1024;
/// Connections that tonic has not taken yet.
const HANDED_OVER: usize = 64;

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

/// Who stands at it.
pub(super) struct Door {
    pub(super) listener: UnixListener,
    pub(super) allowed_uids: Vec<u32>,
    pub(super) on_event: Arc<dyn Fn(&ConnectionEvent) + Send + Sync>,
    pub(super) backend: Arc<dyn CniBackend>,
    pub(super) call_limit: Duration,
}

/// What each connection needs.
struct Inside {
    backend: Arc<dyn CniBackend>,
    call_limit: Duration,
    tonic: mpsc::Sender<io::Result<Rewound>>,
    /// Held by each call in progress; nobody holds it any more when all have ended after the stop.
    at_work: mpsc::WeakSender<()>,
    stop: watch::Receiver<bool>,
}

impl Door {
    /// The connections for tonic, and what has to be awaited: accepts until `stop` says so, then waits for the calls in progress here.
    pub(super) fn open(
        self,
        stop: watch::Receiver<bool>,
    ) -> (mpsc::Receiver<io::Result<Rewound>>, impl Future<Output = ()> + Send) {
        let (tonic, handed) = mpsc::channel(HANDED_OVER);
        let (at_work, mut all_done) = mpsc::channel(1);
        let inside = Arc::new(Inside {
            backend: Arc::clone(&self.backend),
            call_limit: self.call_limit,
            tonic,
            at_work: at_work.downgrade(),
            stop: stop.clone(),
        });
        let run = async move {
            tokio::select! {
                () = self.accept(&inside) => {}
                () = stopped(stop) => {}
            }
            drop((self, at_work));
            all_done.recv().await;
        };
        (handed, run)
    }

    async fn accept(&self, inside: &Arc<Inside>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.is_allowed(&stream) => drop(tokio::spawn(Arc::clone(inside).serve(stream))),
                Ok(_) => {}
                Err(error) => {
                    (self.on_event)(&ConnectionEvent::AcceptFailed(error));
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
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

impl Inside {
    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let first = tokio::select! {
            biased;
            first = first_bytes(&stream) => first,
            () = stopped(self.stop.clone()) => return,
        };
        let Ok(first) = first else { return };
        let Some(call) = whole::call(&first) else {
            // Where nobody takes it the server has stopped.
            let _ = self.tonic.send(Ok(Rewound { first, read: 0, stream })).await;
            return;
        };
        // None: it has stopped, and the client asks the next one.
        let Some(_at_work) = self.at_work.upgrade() else { return };
        let answer = tokio::select! {
            biased;
            outcome = self.carry_out(call) => whole::answer(outcome),
            () = gone(&stream) => return,
        };
        let _ = tokio::time::timeout(self.call_limit, send(&stream, &answer)).await;
    }

    async fn carry_out(&self, Call { asked, left }: Call) -> Result<Vec<u8>, Status> {
        let limit = left.map_or(self.call_limit, |left| left.min(self.call_limit));
        let reply = async {
            Ok(match asked {
                Asked::Add(request) => {
                    let mut reply = self.backend.add_network(Request::new(request)).await?.into_inner();
                    // Our plugin has no use for them, and there are as many as an operator excludes.
                    reply.vpc_v4_cidrs.clear();
                    reply.encode_to_vec()
                }
                Asked::Del(request) => self.backend.del_network(Request::new(request)).await?.get_ref().encode_to_vec(),
            })
        };
        let late = |_| Err(Status::deadline_exceeded("the call's time is over"));
        tokio::time::timeout(limit, reply).await.unwrap_or_else(late)
    }
}

/// Until the stop.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error: who could say so has gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What comes first; empty when nothing does.
async fn first_bytes(stream: &UnixStream) -> io::Result<Vec<u8>> {
    loop {
        stream.readable().await?;
        let mut bytes = [0; FIRST_BYTES];
        match stream.try_read(&mut bytes) {
            Ok(read) => return Ok(bytes.get(..read).unwrap_or_default().to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The peer has closed the connection, or goes on talking.
async fn gone(stream: &UnixStream) {
    let mut heard = 0;
    while heard < IDLE_TALK && stream.readable().await.is_ok() {
        let mut bytes = [0; 512];
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => heard += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn send(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A connection of which the first bytes have been read, and are read again.
#[derive(Debug)]
pub(super) struct Rewound {
    first: Vec<u8>,
    read: usize,
    stream: UnixStream,
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.read..).unwrap_or_default();
        if rest.is_empty() {
            self.first = Vec::new();
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let part = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(part);
        self.read += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Rewound {
    type ConnectInfo = <UnixStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
