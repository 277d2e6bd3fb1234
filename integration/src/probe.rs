// SPDX-License-Identifier: Apache-2.0
//! Real packets: echo servers and clients in namespaces, over UDP, TCP and ICMP.
//!
//! An echo server answers with the source address that it saw, so one exchange proves three things: the way there, the way
//! back, and whose address the far end sees. Silence is the answer that negative twins expect, so waits are short: what
//! arrives at all in one machine arrives within a millisecond or two.
#![expect(clippy::disallowed_methods, reason = "sends packets and waits for them in real time")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};

use crate::netns::{Namespace, NetnsError};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_millis(400);

/// How often what must answer is asked.
pub const TRIES: u32 = 4;

/// A sent packet without the answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing came back in time.
    #[error("no answer over {protocol} from {to}")]
    Silence {
        /// How it was asked.
        protocol: Protocol,
        /// Who was asked.
        to: Ipv4Addr,
    },
    /// Somebody said no: refused, unreachable.
    #[error("{protocol} to {to}")]
    Refused {
        /// How it was asked.
        protocol: Protocol,
        /// Who was asked.
        to: Ipv4Addr,
        /// What came back.
        #[source]
        source: io::Error,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// What a probe is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
    /// Echo request and reply.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Icmp => "ICMP",
        })
    }
}

/// A server in a namespace that answers over UDP and TCP with the source it saw. Ends when dropped.
#[derive(Debug)]
pub struct EchoServer {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on all addresses of `namespace`, on a free port. With several addresses there, UDP answers may come from
    /// another than was asked, which is no answer: use [`EchoServer::start_at`].
    ///
    /// # Errors
    /// The namespace cannot be entered, or no port is free.
    pub fn start(namespace: &Namespace) -> Result<Self, ProbeError> {
        Self::start_at(namespace, Ipv4Addr::UNSPECIFIED)
    }

    /// Listens on one address.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the address is not there.
    pub fn start_at(namespace: &Namespace, address: Ipv4Addr) -> Result<Self, ProbeError> {
        let (udp, tcp, port) = namespace.run(|| listen(address))?.map_err(|source| ProbeError::Refused {
            protocol: Protocol::Tcp,
            to: address,
            source,
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // Sockets stay in the namespace that they were made in, whoever uses them.
        let thread = std::thread::spawn(move || serve(&udp, &tcp, &stopped));
        Ok(Self { port, stop, thread: Some(thread) })
    }

    /// Its port, the same for UDP and TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a poll; a panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

/// Asks the echo server at `to` from `from`: the source address it saw.
///
/// # Errors
/// Silence, or a refusal.
pub fn ask(from: &Namespace, protocol: Protocol, to: SocketAddrV4) -> Result<SocketAddrV4, ProbeError> {
    ask_from(from, Ipv4Addr::UNSPECIFIED, protocol, to)
}

/// Asks from one of several addresses of `from`.
///
/// # Errors
/// Silence, or a refusal.
pub fn ask_from(
    from: &Namespace,
    source: Ipv4Addr,
    protocol: Protocol,
    to: SocketAddrV4,
) -> Result<SocketAddrV4, ProbeError> {
    let asked = from.run(|| match protocol {
        Protocol::Udp => ask_udp(source, to),
        Protocol::Tcp => ask_tcp(source, to),
        Protocol::Icmp => Err(io::Error::other("ICMP has no ports: use ping")),
    })?;
    asked.map_err(|source| failure(protocol, *to.ip(), source))
}

/// Asks what must answer: silence is asked again, [`TRIES`] times in all. A busy machine loses the first packet of a link
/// that has just come up, and the kernel's own retry takes a second.
///
/// # Errors
/// Silence every time, or a refusal.
pub fn reach(from: &Namespace, protocol: Protocol, to: SocketAddrV4) -> Result<Ipv4Addr, ProbeError> {
    let mut last = ask(from, protocol, to);
    for _ in 1..TRIES {
        if !matches!(last, Err(ProbeError::Silence { .. })) {
            break;
        }
        last = ask(from, protocol, to);
    }
    last.map(|seen| *seen.ip())
}

/// Reaches over UDP and over TCP, and returns the address that both saw.
///
/// # Errors
/// Silence or a refusal on either; different sources are a refusal too.
pub fn reach_both(from: &Namespace, to: SocketAddrV4) -> Result<Ipv4Addr, ProbeError> {
    let udp = reach(from, Protocol::Udp, to)?;
    let tcp = reach(from, Protocol::Tcp, to)?;
    if udp == tcp {
        return Ok(udp);
    }
    let source = io::Error::other(format!("the far end saw {udp} over UDP and {tcp} over TCP"));
    Err(ProbeError::Refused { protocol: Protocol::Tcp, to: *to.ip(), source })
}

/// Pings `to` with `size` bytes of data that may not be fragmented; returns the TTL of the reply.
///
/// # Errors
/// Silence, or a refusal (`EMSGSIZE` when it does not fit the path).
pub fn ping(from: &Namespace, to: Ipv4Addr, size: usize) -> Result<u8, ProbeError> {
    from.run(|| exchange_icmp(to, size))?.map_err(|source| failure(Protocol::Icmp, to, source))
}

fn failure(protocol: Protocol, to: Ipv4Addr, source: io::Error) -> ProbeError {
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ProbeError::Silence { protocol, to },
        _ => ProbeError::Refused { protocol, to, source },
    }
}

/// A UDP socket and a TCP listener on the same free port of the calling thread's namespace; neither blocks.
pub(crate) fn listen(address: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener, u16)> {
    let tcp = TcpListener::bind((address, 0))?;
    let port = tcp.local_addr()?.port();
    let udp = UdpSocket::bind((address, port))?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((udp, tcp, port))
}

fn serve(udp: &UdpSocket, tcp: &TcpListener, stop: &AtomicBool) {
    let step = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(udp, PollFlags::IN), PollFd::new(tcp, PollFlags::IN)];
        // Interrupted: looked at again.
        let _ = poll(&mut ready, Some(&step));
        while let Ok((_, source)) = udp.recv_from(&mut buffer) {
            // The asker will see silence; there is nobody else to tell.
            let _ = udp.send_to(source.to_string().as_bytes(), source);
        }
        while let Ok((mut stream, source)) = tcp.accept() {
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let _ = stream.write_all(source.to_string().as_bytes());
        }
    }
}

fn ask_udp(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<SocketAddrV4> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who am I")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    seen(&answer[..length])
}

fn ask_tcp(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<SocketAddrV4> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    let mut stream = connect(socket, to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    seen(&answer)
}

/// Connects within [`PATIENCE`]: the standard library's own connect with a time-out cannot bind first.
fn connect(socket: OwnedFd, to: SocketAddrV4) -> io::Result<TcpStream> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Err(rustix::io::Errno::INPROGRESS) => {}
        other => other?,
    }
    let wait = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    if poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&wait))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    rustix::net::sockopt::socket_error(&socket)??;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(TcpStream::from(socket))
}

fn seen(answer: &[u8]) -> io::Result<SocketAddrV4> {
    let text = String::from_utf8_lossy(answer);
    text.parse().map_err(|_| io::Error::other(format!("`{text}` is not an echo server's answer")))
}

fn exchange_icmp(to: Ipv4Addr, size: usize) -> io::Result<u8> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    // IP_PMTUDISC_DO, ip(7): the packet carries "do not fragment", and too large a one is an error at once.
    rustix::net::sockopt::set_ip_mtu_discover(&socket, rustix::net::sockopt::Ipv4PathMtuDiscovery::DO)?;
    rustix::net::connect(&socket, &SocketAddrV4::new(to, 0))?;
    let request = echo_request(size);
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let end = Instant::now() + PATIENCE;
    let mut packet = vec![0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&wait))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (_, length) = rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty())?;
        // IPv4 header of 20 bytes (raw(7)): TTL at 8; then ICMP type, code, checksum, identifier, sequence.
        if let Some(reply) = packet.get(20..length)
            && reply.first() == Some(&0)
            && reply.get(4..8) == request.get(4..8)
        {
            return Ok(packet[8]);
        }
    }
}

/// ICMP type 8, code 0, with the process id as identifier (RFC 792).
fn echo_request(size: usize) -> Vec<u8> {
    let mut request = vec![0; 8 + size];
    request[0] = 8;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    request[4..8].copy_from_slice(&[high, low, 0, 1]);
    let mut sum: u32 =
        request.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u32::from(b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    request[2..4].copy_from_slice(&[high, low]);
    request
}
