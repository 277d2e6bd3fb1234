// SPDX-License-Identifier: Apache-2.0
//! What EC2 held back of a network card because the instance was over an allowance: counters of the ENA driver, read by ethtool's
//! ioctl. Reads only.
//!
//! Of a driver's statistics only [`Allowance::ALL`] are taken; a driver that has none of these (every one but ENA's) has an empty
//! answer, and so has a link that is gone. Names and values come in two calls, by position; [`pick`] is pure and wants both of one
//! length, since a driver whose queues were changed in between has others.
//!
//! ```text
//! SIOCETHTOOL  GSSET_INFO   how many statistics
//!              GSTRINGS     their names, 32 bytes each
//!              GSTATS       their values, u64 each
//! ```
//! There is no netlink message for a driver's own statistics. Source: `include/uapi/linux/ethtool.h`, `net/ethtool/ioctl.c`; EC2 user
//! guide, "Monitor network performance for ENA settings"; `drivers/net/ethernet/amazon/ena/ena_ethtool.c`.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::error::{ApplyError, Refusal};
use super::netlink::Socket;
use super::netlink::read;
use crate::plan::MacAddr;

/// `SIOCETHTOOL` (`include/uapi/linux/sockios.h`).
const ETHTOOL: Opcode = 0x8946;
/// Commands, and the set of strings that names statistics (`include/uapi/linux/ethtool.h`).
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const SET_OF_STATISTICS: u32 = 1;
/// `ETH_GSTRING_LEN`.
const NAME_BYTES: usize = 32;
/// `IFNAMSIZ`.
const LINK_NAME_BYTES: usize = 16;
/// Statistics that there is room for, whatever the driver said a moment ago: kernels before 6.15 write as many as there are by then.
/// ENA with its most queues (128 of each direction, 20 each) has about 5,000.
const ROOM: usize = 16_384;

/// What an instance may have so much of, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// Bits a second towards the instance.
    BandwidthIn,
    /// Bits a second out of it.
    BandwidthOut,
    /// Packets a second, both ways.
    PacketRate,
    /// Connections that the security groups track.
    Connections,
    /// Packets a second to services at link-local addresses: DNS, metadata, time.
    LinkLocal,
}

impl Allowance {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BandwidthIn, Self::BandwidthOut, Self::PacketRate, Self::Connections, Self::LinkLocal];

    /// As the driver spells its counter, without `_allowance_exceeded`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BandwidthIn => "bw_in",
            Self::BandwidthOut => "bw_out",
            Self::PacketRate => "pps",
            Self::Connections => "conntrack",
            Self::LinkLocal => "linklocal",
        }
    }

    fn of(statistic: &str) -> Option<Self> {
        let name = statistic.strip_suffix("_allowance_exceeded")?;
        Self::ALL.into_iter().find(|allowance| allowance.name() == name)
    }
}

/// Packets held back so far, by allowance.
pub type Exceeded = BTreeMap<Allowance, u64>;

/// What was held back of each network card, by MAC; cards whose driver does not tell are left out.
///
/// # Errors
/// The links cannot be listed.
pub fn exceeded() -> Result<BTreeMap<MacAddr, Exceeded>, ApplyError> {
    let mut found = BTreeMap::new();
    // What has a kind is no card: the pods' veths, VLANs with a card's MAC.
    for link in read::links(&mut Socket::route()?)?.into_iter().filter(|link| link.kind.is_none()) {
        let Some(mac) = link.mac else { continue };
        // A driver that is at something else hides its own figures, not those of others.
        let exceeded = pick(statistics(&link.name).unwrap_or_default());
        if !exceeded.is_empty() {
            found.insert(mac, exceeded);
        }
    }
    Ok(found)
}

/// The allowances among a driver's statistics.
pub(crate) fn pick(statistics: impl IntoIterator<Item = (String, u64)>) -> Exceeded {
    statistics.into_iter().filter_map(|(name, value)| Some((Allowance::of(&name)?, value))).collect()
}

/// All statistics that a link's driver has, in its order; empty: it has none, or the link is gone.
pub(crate) fn statistics(link: &str) -> Result<Vec<(String, u64)>, ApplyError> {
    let doing = || format!("ethtool -S {link}");
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|errno| refused(doing(), errno))?;
    match read_statistics(&socket, link) {
        Ok(found) => Ok(found),
        Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOTTY) => Ok(Vec::new()),
        Err(errno) => Err(refused(doing(), errno)),
    }
}

fn refused(doing: String, errno: Errno) -> ApplyError {
    ApplyError::Refused { doing, source: Refusal { errno: errno.raw_os_error(), message: None } }
}

fn read_statistics(socket: &OwnedFd, link: &str) -> Result<Vec<(String, u64)>, Errno> {
    let mut buffer = Buffer::new(ROOM);
    // struct ethtool_sset_info: cmd, reserved, mask (u64), then the counts.
    buffer.begin(&[GSSET_INFO, 0, 1 << SET_OF_STATISTICS, 0]);
    buffer.ask(socket, link)?;
    let expected = buffer.word(4);
    if expected == 0 {
        return Ok(Vec::new());
    }
    // struct ethtool_gstrings: cmd, string_set, len, then the names.
    buffer.begin(&[GSTRINGS, SET_OF_STATISTICS, expected]);
    buffer.ask(socket, link)?;
    let names = names(&buffer.bytes(12, as_size(buffer.word(2)), NAME_BYTES));
    // struct ethtool_stats: cmd, n_stats, then the values.
    buffer.begin(&[GSTATS, expected]);
    buffer.ask(socket, link)?;
    let values = values(&buffer.bytes(8, as_size(buffer.word(1)), 8));
    // Others than a moment ago: what belongs to what is not known.
    Ok(if names.len() == values.len() { names.into_iter().zip(values).collect() } else { Vec::new() })
}

/// Names of 32 bytes each, the rest of each zero.
pub(crate) fn names(bytes: &[u8]) -> Vec<String> {
    let text = |name: &[u8]| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).trim().to_owned()
    };
    bytes.chunks_exact(NAME_BYTES).map(text).collect()
}

/// Values of 8 bytes each.
pub(crate) fn values(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|value| value.try_into().map(u64::from_ne_bytes).unwrap_or_default()).collect()
}

fn as_size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What the kernel reads and writes: words of 8 bytes, so that every structure is aligned.
struct Buffer(Vec<u64>);

impl Buffer {
    /// Room for the header and so many names.
    fn new(count: usize) -> Self {
        Self(vec![0; 2 + count * NAME_BYTES / 8])
    }

    /// The first words of the request, of 4 bytes each; the counts that follow are zero.
    fn begin(&mut self, words: &[u32]) {
        self.0[..4].fill(0);
        for (position, pair) in words.chunks(2).enumerate() {
            let mut bytes = [0; 8];
            for (half, word) in bytes.chunks_exact_mut(4).zip(pair) {
                half.copy_from_slice(&word.to_ne_bytes());
            }
            self.0[position] = u64::from_ne_bytes(bytes);
        }
    }

    fn word(&self, position: usize) -> u32 {
        let bytes = self.0[position / 2].to_ne_bytes();
        let half = &bytes[position % 2 * 4..][..4];
        half.try_into().map(u32::from_ne_bytes).unwrap_or_default()
    }

    /// `count` pieces of `size` bytes from `start` on, as far as there is room for them.
    fn bytes(&self, start: usize, count: usize, size: usize) -> Vec<u8> {
        let all = self.0.iter().flat_map(|word| word.to_ne_bytes());
        all.skip(start).take(count.saturating_mul(size)).collect()
    }

    #[expect(unsafe_code, reason = "no library has ethtool's ioctl")]
    fn ask(&mut self, socket: &OwnedFd, link: &str) -> Result<(), Errno> {
        let mut request = Request { name: [0; LINK_NAME_BYTES], data: self.0.as_mut_ptr().cast(), rest: [0; 16] };
        let name = link.as_bytes();
        if name.len() >= LINK_NAME_BYTES {
            return Err(Errno::NODEV);
        }
        request.name[..name.len()].copy_from_slice(name);
        // SAFETY: SIOCETHTOOL takes a struct ifreq, which Request is, and reads and writes the structure that its pointer names.
        // That is our buffer, which lives on, has the command's structure at its start, and has room for more statistics than any
        // driver has (ROOM).
        unsafe { ioctl(socket, Updater::<ETHTOOL, Request>::new(&mut request)) }
    }
}

/// `struct ifreq` with a pointer in its union (`include/uapi/linux/if.h`): 40 bytes where pointers have 8.
#[repr(C)]
struct Request {
    name: [u8; LINK_NAME_BYTES],
    data: *mut c_void,
    rest: [u8; 16],
}
