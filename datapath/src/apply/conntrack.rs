// SPDX-License-Identifier: Apache-2.0
//! Connections that the kernel tracks for addresses, forgotten: whoever gets such an address next must not be reached by
//! what was meant for the one before (a SYN repeated to a Service still follows the NAT of its first try for two minutes).
//!
//! A connection has two tuples, as it came (original) and as its answers come (reply, after NAT). The address stands in one
//! or more of four places, and each is looked at:
//!
//! | place | what has it there |
//! |---|---|
//! | original source | whatever the pod opened, with or without SNAT |
//! | reply source | whatever was opened to the pod, by its own address or through a Service's |
//! | original destination | what was opened to the address and led elsewhere by DNAT |
//! | reply destination | what SNAT lets the address answer for |
//!
//! The first two have every packet that a pod sends or gets; the other two are cheap and need no proof that nobody NATs so.
//!
//! | way | how | kernel |
//! |---|---|---|
//! | [`Way::Flush`] | one delete with a filter for each place: the kernel walks its table, nothing is copied | 6.11 and later |
//! | [`Way::List`] | one list of the table, read as it comes; hits deleted by tuple and id | all |
//!
//! Which way is found out, not assumed: a kernel that does not know the filter of a delete says EINVAL, because it takes the
//! tuple for a whole one. (It cannot take it for "everything": a delete with a tuple never is, `ctnetlink_del_conntrack`.)
//! A walk costs the kernel the same whether it looks for one address or lists all; so from [`MOST_WALKS`] walks on, one
//! list is cheaper. Kernel: `net/netfilter/nf_conntrack_netlink.c`, `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

pub(crate) mod message;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::raw::Message;
use super::netlink::{Request, Socket};
use super::sysctl;
use crate::plan::nft::Transport;
use message::Place;

/// Walks over the table that cost about as much as one list of it. Measured with 100,000 entries: a walk 20 to 30 ms, a list 170
/// to 250; with 10,000: 1.5 and 35. An empty table costs nothing.
const MOST_WALKS: usize = 16;

/// Deletes of single connections between two looks at the time; what goes out in one send.
const DELETES_AT_ONCE: usize = 64;

const DELETE: &str = "conntrack -D";

/// There when the kernel tracks connections.
pub(crate) const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// How many connections are tracked in this namespace, and how many are at most (0: no limit); `None`: the kernel tracks none.
///
/// # Errors
/// One of the two files cannot be read.
pub fn fill() -> Result<Option<(u64, u64)>, ApplyError> {
    let number = |path: &str| Ok(sysctl::read(path)?.and_then(|text| text.parse().ok()));
    let (count, max): (Option<u64>, Option<u64>) =
        (number("net/netfilter/nf_conntrack_count")?, number("net/netfilter/nf_conntrack_max")?);
    Ok(count.zip(max))
}

/// What the kernel did not track, or not any longer, for want of room or because tuples clashed: counted in this namespace since
/// the kernel tracks connections, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Connections that could not be entered because one of their tuples was another's, and their packet with them. A packet
    /// sent twice counts, too.
    pub insert_failed: u64,
    /// Packets dropped because there was no room for their connection. The kernel's `drop` has the clashes, too
    /// (`nf_ct_resolve_clash` counts one in both): here it is without.
    pub dropped: u64,
    /// Connections without an answer so far that were forgotten to make room for new ones.
    pub early_dropped: u64,
}

impl Losses {
    /// From the kernel's counters, summed. A kernel that could not enter a connection for another reason (a chain that is too long)
    /// counts it in `insert_failed` alone: then as many are missing of `dropped`.
    pub(crate) fn of([insert_failed, drop, early_dropped]: [u64; 3]) -> Self {
        Self { insert_failed, dropped: drop.saturating_sub(insert_failed), early_dropped }
    }
}

/// What was lost so far; `None`: the kernel tracks nothing.
///
/// # Errors
/// The kernel's refusal.
pub fn losses() -> Result<Option<Losses>, ApplyError> {
    if !Path::new(COUNT).exists() {
        return Ok(None);
    }
    let mut sum = [0; 3];
    Socket::netfilter()?.dump_each(message::counters(), "conntrack -S", |entry| {
        sum.iter_mut().zip(message::losses(&entry)).for_each(|(sum, value)| *sum += value);
    })?;
    Ok(Some(Losses::of(sum)))
}

/// How connections were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel tracks nothing: there was nothing to do.
    Nothing,
    /// By deletes with a filter.
    Flush,
    /// By a list, and deletes of what was found: so many.
    List(usize),
}

/// Forgets every connection that has one of the addresses in any place. `may_go_on` is asked before each delete, of a filter or
/// of a few connections: nothing is deleted that was not begun while it said yes.
///
/// # Errors
/// The kernel's refusal, or [`ApplyError::OutOfTime`]: some connections may be left.
pub fn forget(addresses: &BTreeSet<IpAddr>, may_go_on: &dyn Fn() -> bool) -> Result<Way, ApplyError> {
    if addresses.is_empty() || !Path::new(COUNT).exists() {
        return Ok(Way::Nothing);
    }
    let mut socket = Socket::netfilter()?;
    if addresses.len() * Place::ALL.len() <= MOST_WALKS && flush(&mut socket, addresses, may_go_on)? {
        return Ok(Way::Flush);
    }
    list(&mut socket, addresses, may_go_on).map(Way::List)
}

/// `false`: this kernel does not know the filter, and did nothing.
pub(crate) fn flush(
    socket: &mut Socket,
    addresses: &BTreeSet<IpAddr>,
    may_go_on: &dyn Fn() -> bool,
) -> Result<bool, ApplyError> {
    let places = addresses.iter().flat_map(|address| Place::ALL.map(|place| (*address, place)));
    let requests = places.map(|(address, place)| Request {
        message: message::flush(address, place),
        flags: 0,
        doing: format!("conntrack -D {} {address}", place.option()),
    });
    for request in requests {
        in_time(may_go_on)?;
        match socket.request(request) {
            Ok(_) => {}
            Err(error) if is_unknown(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// How many were found and deleted.
pub(crate) fn list(
    socket: &mut Socket,
    addresses: &BTreeSet<IpAddr>,
    may_go_on: &dyn Fn() -> bool,
) -> Result<usize, ApplyError> {
    let mut hits = Vec::new();
    for family in addresses.iter().map(message::family).collect::<BTreeSet<u8>>() {
        socket.dump_each(message::list(family), "conntrack -L", |entry| {
            if message::addresses(&entry).any(|address| addresses.contains(&address)) {
                hits.push(message::delete(&entry));
            }
        })?;
    }
    delete(socket, hits, may_go_on)
}

/// Forgets UDP connections opened to a port that `goes` names, by original destination and reply source; how many.
///
/// # Errors
/// The kernel's refusal: some may be left.
pub(crate) fn forget_udp(
    socket: &mut Socket,
    port: u16,
    goes: impl Fn(IpAddr, IpAddr) -> bool,
) -> Result<usize, ApplyError> {
    let mut hits = Vec::new();
    let listed = socket.dump_each(message::list_udp(port), &format!("conntrack -L -p udp --dport {port}"), |entry| {
        let addresses: Vec<IpAddr> = message::addresses(&entry).collect();
        if let [_, to, by, _] = addresses[..]
            && message::is_udp_to(&entry, port)
            && goes(to, by)
        {
            hits.push(message::delete(&entry));
        }
    });
    match listed {
        // A kernel that cannot list them has nothing that we could forget.
        Err(error) if is_unknown(&error) => return Ok(0),
        other => other?,
    };
    delete(socket, hits, &|| true)
}

/// Forgets connections that were opened from a block and that nobody translates the source of; how many.
///
/// # Errors
/// The kernel's refusal: some may be left.
pub(crate) fn forget_untranslated(block: IpNet) -> Result<usize, ApplyError> {
    forget_those(message::family(&block.addr()), |entry| {
        let addresses: Vec<IpAddr> = message::addresses(entry).collect();
        matches!(addresses[..], [from, _, _, answered] if block.contains(&from) && answered == from)
    })
}

/// Forgets connections of TCP, UDP and SCTP between addresses of the blocks that nobody translates at all, neither address nor
/// port, those of `node` left out; how many.
///
/// # Errors
/// The kernel's refusal: some may be left.
pub(crate) fn forget_plain(blocks: &[Ipv4Net], node: Ipv4Addr) -> Result<usize, ApplyError> {
    let transports = [Transport::Tcp, Transport::Udp, Transport::Sctp].map(|transport| transport as u8);
    let is_meant = |address: Ipv4Addr| address != node && blocks.iter().any(|block| block.contains(&address));
    forget_those(message::family(&node.into()), |entry| {
        message::flows(entry).is_some_and(|(original, reply)| {
            transports.contains(&original.transport)
                && original.back() == reply
                && is_meant(original.source.0)
                && is_meant(original.destination.0)
        })
    })
}

/// Forgets the connections of a family that are meant; how many.
fn forget_those(family: u8, is_meant: impl Fn(&Message) -> bool) -> Result<usize, ApplyError> {
    if !Path::new(COUNT).exists() {
        return Ok(0);
    }
    let (mut socket, mut hits) = (Socket::netfilter()?, Vec::new());
    socket.dump_each(message::list(family), "conntrack -L", |entry| {
        if is_meant(&entry) {
            hits.push(message::delete(&entry));
        }
    })?;
    delete(&mut socket, hits, &|| true)
}

fn delete(socket: &mut Socket, hits: Vec<Message>, may_go_on: &dyn Fn() -> bool) -> Result<usize, ApplyError> {
    let found = hits.len();
    let mut requests = hits.into_iter().map(|message| Request { message, flags: 0, doing: DELETE.to_owned() });
    loop {
        let some: Vec<_> = requests.by_ref().take(DELETES_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(found);
        }
        in_time(may_go_on)?;
        for answer in socket.transact(some)? {
            match answer {
                // Gone by itself meanwhile.
                Err(refusal) if refusal.errno == Errno::NOENT.raw_os_error() => {}
                Err(source) => return Err(ApplyError::Refused { doing: DELETE.to_owned(), source }),
                Ok(_) => {}
            }
        }
    }
}

fn in_time(may_go_on: &dyn Fn() -> bool) -> Result<(), ApplyError> {
    if may_go_on() { Ok(()) } else { Err(ApplyError::OutOfTime { doing: DELETE.to_owned() }) }
}

fn is_unknown(error: &ApplyError) -> bool {
    let unknown = [Errno::INVAL, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.errno().is_some_and(|errno| unknown.contains(&errno))
}
