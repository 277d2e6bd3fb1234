// SPDX-License-Identifier: Apache-2.0
//! Flows that are open while something happens to the node: numbered datagrams to and fro, and a TCP connection beside them, on
//! as many paths as there are.
//!
//! The far end sends back what it hears, so a number that comes back proves both directions, and one that does not is told
//! apart: lost on the way there, or on the way back. Nothing is ever sent twice by us; a TCP connection ends the test of its path
//! when it is refused, reset or closed. One thread drives all near ends and one all far ends: many paths cost no more than one.
//!
//! Invariant: an end that gets no processor for a second loses nothing for want of buffer (a datagram each [`PACE`]).
#![expect(clippy::disallowed_methods, reason = "sends packets at a pace in real time")]

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::netns::Namespace;
use crate::probe::{PATIENCE, ProbeError, Protocol, listen};

/// Time between two datagrams of a path. A socket's buffer (`net.core.rmem_default`, 208 KiB) holds some 270 of them.
const PACE: Duration = Duration::from_millis(4);
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// A server's sockets, UDP and TCP on one port, before anybody is connected.
#[derive(Debug)]
pub struct Listening {
    udp: UdpSocket,
    tcp: TcpListener,
    port: u16,
}

impl Listening {
    /// Listens on a free port of one address of `namespace`.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the address is not there.
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self, ProbeError> {
        let (udp, tcp, port) = namespace.run(|| listen(address))?.map_err(|source| refused(address, source))?;
        Ok(Self { udp, tcp, port })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A TCP connection and a pair of UDP sockets between the same two ends, both in use.
#[derive(Debug)]
pub struct Path {
    name: String,
    near: End,
    far: End,
}

#[derive(Debug)]
struct End {
    udp: UdpSocket,
    tcp: TcpStream,
}

impl Path {
    /// Opens both from `from` to `to`, where `server` is reached, and waits for an answer over either: what comes later is
    /// established.
    ///
    /// # Errors
    /// No answer.
    pub fn open(name: &str, from: &Namespace, to: SocketAddrV4, server: Listening) -> Result<Self, ProbeError> {
        let opened = from.run(|| {
            let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            udp.connect(to)?;
            udp.set_nonblocking(true)?;
            let tcp = TcpStream::connect_timeout(&to.into(), LAST_ANSWERS)?;
            Ok(End { udp, tcp })
        })?;
        let failed = |source| refused(*to.ip(), source);
        let near: End = opened.map_err(failed)?;
        // The connection stands, so it is in the queue.
        let (accepted, _) = server.tcp.accept().map_err(failed)?;
        let far = End { udp: server.udp, tcp: accepted };
        for stream in [&near.tcp, &far.tcp] {
            stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(failed)?;
        }
        greet(&near, &far).map_err(failed)?;
        Ok(Self { name: name.to_owned(), near, far })
    }
}

/// Until a datagram has come back: a link that has just come up may lose the first one.
fn greet(near: &End, far: &End) -> io::Result<()> {
    let end = Instant::now() + 4 * PATIENCE;
    let mut buffer = [0; 16];
    loop {
        near.udp.send(b"hello")?;
        sleep(PACE);
        while let Ok((length, from)) = far.udp.recv_from(&mut buffer) {
            far.udp.send_to(&buffer[..length], from)?;
        }
        sleep(PACE);
        if near.udp.recv(&mut buffer).is_ok() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(io::Error::new(ErrorKind::TimedOut, "no datagram came back"));
        }
    }
}

fn refused(to: Ipv4Addr, source: io::Error) -> ProbeError {
    ProbeError::Refused { protocol: Protocol::Tcp, to, source }
}

/// What became of a path.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Which.
    pub name: String,
    /// Datagrams sent.
    pub sent: usize,
    /// Of them heard by the far end.
    pub heard: usize,
    /// Numbers of those that did not come back, in order.
    pub missing: Vec<usize>,
    /// Bytes over TCP that did not come back, and why it ended, if it did.
    pub tcp: (u64, Option<String>),
}

impl Tally {
    /// Everything came back, and the connection is still open.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.tcp == (0, None)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, sent, heard, missing, tcp: (bytes, ended) } = self;
        write!(f, "{name}: {sent} datagrams sent, {heard} heard, {} without an answer", missing.len())?;
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            write!(f, " (number {first} to {last})")?;
        }
        write!(f, "; TCP: {bytes} bytes without an answer")?;
        ended.as_ref().map_or(Ok(()), |why| write!(f, ", ended: {why}"))
    }
}

/// Flows on their way. They end when [`Flows::end`] is called.
#[derive(Debug)]
pub struct Flows {
    names: Vec<String>,
    stop: [Arc<AtomicBool>; 2],
    near: JoinHandle<Vec<Near>>,
    far: JoinHandle<Vec<usize>>,
}

impl Flows {
    /// Starts sending on all paths.
    #[must_use]
    pub fn start(paths: Vec<Path>) -> Self {
        let stop = [Arc::default(), Arc::default()];
        let (mut names, mut near, mut far) = (Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            names.push(path.name);
            near.push(Near { end: path.near, answered: Vec::new(), bytes: 0, ended: None });
            far.push(path.far);
        }
        let [near_stop, far_stop] = stop.clone();
        let near = std::thread::spawn(move || drive(near, &near_stop));
        let far = std::thread::spawn(move || answer(&mut far, &far_stop));
        Self { names, stop, near, far }
    }

    /// Sends no more, waits for what is under way, and says what became of each path.
    #[must_use]
    pub fn end(self) -> Vec<Tally> {
        self.stop[0].store(true, Ordering::Relaxed);
        let near = self.near.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.stop[1].store(true, Ordering::Relaxed);
        let heard = self.far.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let paths = self.names.into_iter().zip(near).zip(heard);
        let tally = |((name, near), heard): ((String, Near), usize)| {
            let missing = (0..near.answered.len()).filter(|number| !near.answered[*number]).collect();
            Tally { name, sent: near.answered.len(), heard, missing, tcp: (near.bytes, near.ended) }
        };
        paths.map(tally).collect()
    }
}

/// A near end, and what it waits for.
#[derive(Debug)]
struct Near {
    end: End,
    /// Of each number sent, whether it came back.
    answered: Vec<bool>,
    /// Bytes under way over TCP.
    bytes: u64,
    ended: Option<String>,
}

impl Near {
    fn send(&mut self) {
        let number = self.answered.len();
        self.answered.push(false);
        // A datagram that the node refuses is missing like one that is lost.
        let _ = self.end.udp.send(&number.to_be_bytes());
        if self.ended.is_none() {
            match self.end.tcp.write(&number.to_be_bytes()) {
                Ok(written) => self.bytes += written as u64,
                Err(error) => self.note(&error),
            }
        }
    }

    fn receive(&mut self) {
        let mut number = [0; size_of::<usize>()];
        while let Ok(length) = self.end.udp.recv(&mut number) {
            // A greeting may come late.
            if length == number.len()
                && let Some(answered) = self.answered.get_mut(usize::from_be_bytes(number))
            {
                *answered = true;
            }
        }
        let mut buffer = [0; 4096];
        while self.ended.is_none() {
            match self.end.tcp.read(&mut buffer) {
                Ok(0) => self.ended = Some("closed by the far end".to_owned()),
                Ok(length) => self.bytes = self.bytes.saturating_sub(length as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.note(&error),
            }
        }
    }

    fn note(&mut self, error: &io::Error) {
        if error.kind() != ErrorKind::WouldBlock {
            self.ended = Some(error.to_string());
        }
    }

    fn is_quiet(&self) -> bool {
        self.answered.iter().all(|answered| *answered) && (self.bytes == 0 || self.ended.is_some())
    }
}

fn drive(mut ends: Vec<Near>, stop: &AtomicBool) -> Vec<Near> {
    let mut stopped = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            let since = *stopped.get_or_insert_with(Instant::now);
            if ends.iter().all(Near::is_quiet) || since.elapsed() > LAST_ANSWERS {
                return ends;
            }
        } else {
            ends.iter_mut().for_each(Near::send);
        }
        sleep(PACE);
        ends.iter_mut().for_each(Near::receive);
    }
}

/// Sends everything back; how many datagrams each end heard.
fn answer(ends: &mut [End], stop: &AtomicBool) -> Vec<usize> {
    let mut heard = vec![0; ends.len()];
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        for (end, heard) in ends.iter_mut().zip(&mut heard) {
            while let Ok((length, from)) = end.udp.recv_from(&mut buffer) {
                *heard += 1;
                // The near end misses what cannot be sent.
                let _ = end.udp.send_to(&buffer[..length], from);
            }
            while let Ok(length @ 1..) = end.tcp.read(&mut buffer) {
                let _ = end.tcp.write_all(&buffer[..length]);
            }
        }
        sleep(PACE / 4);
    }
    heard
}
