// SPDX-License-Identifier: Apache-2.0
//! What one packet costs, and one new connection: the sender's time a packet on one pinned processor.
//!
//! A packet over veths is handed on in the sender's own softirq, through every namespace up to the receiving socket, so the time
//! a send takes is what the whole path costs in processor time. The receiving socket is full (the least buffer there is, never
//! read): no wake-up is in it. A new connection is one packet from a new source port by a raw socket, so that no socket is made.
//!
//! Paths are measured in turn, many short rounds each; the median and p10 of the rounds count. The first round warms up.
#![expect(clippy::disallowed_methods, reason = "reads the clock around what it measures")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::figures::Series;
use crate::netns::Namespace;

/// Packets of a round.
const PACKETS: u32 = 300;
/// New connections of a round; 40 rounds of them fit the ports of one address.
const CONNECTIONS: u32 = 150;
/// Sent before a round is timed: caches are this path's again.
const WARM_UP: u32 = 50;
/// Bytes of a packet's data.
const SIZE: usize = 64;
/// IPv4 header, UDP header, data.
const LENGTH: usize = 20 + 8 + SIZE;
/// First source port of new connections.
const FIRST_PORT: u16 = 10_000;

/// A path from a pod to a socket that nobody reads.
pub(super) struct Path {
    pub(super) name: &'static str,
    sender: UdpSocket,
    _sink: UdpSocket,
    raw: OwnedFd,
    packet: [u8; LENGTH],
    to: SocketAddrV4,
    port: u16,
    pub(super) costs: Costs,
}

/// Of each round the time a packet took.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// Of an established flow.
    pub(super) packet: Series,
    /// The first of a connection.
    pub(super) connection: Series,
}

/// An end of a path: a namespace and its address there.
pub(super) type End<'a> = (&'a Namespace, Ipv4Addr);

impl Path {
    pub(super) fn open(
        name: &'static str,
        (from, own): End<'_>,
        (far, there): End<'_>,
    ) -> Result<Self, Box<dyn Error>> {
        let sink = far.run(|| UdpSocket::bind((there, 0)))??;
        rustix::net::sockopt::set_socket_recv_buffer_size(&sink, 1)?;
        let to = SocketAddrV4::new(there, sink.local_addr()?.port());
        let (sender, raw) = from.run(|| -> std::io::Result<_> {
            let sender = UdpSocket::bind((own, 0))?;
            sender.connect(to)?;
            let raw = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?;
            Ok((sender, raw))
        })??;
        Ok(Self {
            name,
            sender,
            _sink: sink,
            raw,
            packet: packet(own, to),
            to,
            port: FIRST_PORT,
            costs: Costs::default(),
        })
    }

    fn send(&self, count: u32) -> std::io::Result<()> {
        (0..count).try_for_each(|_| self.sender.send(&[0; SIZE]).map(drop))
    }

    fn connect(&mut self, count: u32) -> std::io::Result<()> {
        for _ in 0..count {
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
            self.packet[20..22].copy_from_slice(&self.port.to_be_bytes());
            rustix::net::sendto(&self.raw, &self.packet, SendFlags::empty(), &self.to)?;
        }
        Ok(())
    }
}

/// IPv4 (RFC 791; the kernel fills in checksum and identification, raw(7)) and UDP (RFC 768; no checksum).
fn packet(from: Ipv4Addr, to: SocketAddrV4) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&size(LENGTH));
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..26].copy_from_slice(&size(LENGTH - 20));
    packet
}

fn size(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// Measures all paths in turn, so many rounds; with new connections or without. Their costs are those of this call alone.
pub(super) fn measure(paths: &mut [Path], rounds: usize, connections: bool) -> std::io::Result<()> {
    std::thread::scope(|scope| scope.spawn(|| measure_here(paths, rounds, connections)).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure_here(paths: &mut [Path], rounds: usize, connections: bool) -> std::io::Result<()> {
    // The last processor: the first one has the machine's interrupts.
    let mut processors = CpuSet::new();
    processors.set(std::thread::available_parallelism()?.get() - 1);
    sched_setaffinity(None, &processors)?;
    for path in paths.iter_mut() {
        path.costs = Costs::default();
    }
    for round in 0..=rounds {
        for path in paths.iter_mut() {
            path.send(WARM_UP)?;
            let packet = timed(PACKETS, || path.send(PACKETS))?;
            let connection = if connections { Some(timed(CONNECTIONS, || path.connect(CONNECTIONS))?) } else { None };
            if round > 0 {
                path.costs.packet.push(packet);
                connection.into_iter().for_each(|took| path.costs.connection.push(took));
            }
        }
    }
    Ok(())
}

/// The time of one of `count`.
fn timed(count: u32, work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_its_addresses_ports_and_lengths() {
        let packet = packet(Ipv4Addr::new(10, 0, 1, 7), SocketAddrV4::new(Ipv4Addr::new(172, 31, 0, 10), 6000));
        assert_eq!((&packet[..4], &packet[8..10]), (&[0x45, 0, 0, 92][..], &[64, 17][..]));
        assert_eq!((&packet[12..16], &packet[16..20]), (&[10, 0, 1, 7][..], &[172, 31, 0, 10][..]));
        assert_eq!((&packet[22..24], &packet[24..26]), (&6000_u16.to_be_bytes()[..], &72_u16.to_be_bytes()[..]));
    }
}
