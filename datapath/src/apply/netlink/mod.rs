// SPDX-License-Identifier: Apache-2.0
//! A small synchronous netlink socket. The kernel answers rtnetlink and nf_tables requests before `sendmsg` returns, so
//! nothing here waits: an answer that is not there when we look is an error, never a hang.
//!
//! What it does that `rtnetlink`'s dumps do not: an interrupted dump (NLM_F_DUMP_INTR) is read again, an error code in
//! NLMSG_DONE is an error and not the end of a list, a message that cannot be parsed fails the read instead of being
//! left out (of links only what we need is parsed, [`link_filter`]), and the kernel's own words (extended ACK) are kept. Filters of dumps are strict (NETLINK_GET_STRICT_CHK):
//! the kernel refuses what it would otherwise ignore.
//!
//! Several requests go out in one send ([`Socket::transact`]), no more than the socket can hold the answers of. Each is its own
//! operation: those after a failing one still run, so answers are matched by sequence number.
//!
//! An nf_tables batch ([`Socket::batch`]) is one transaction and one send, however many messages it has. Refusals are answered
//! unasked; success is asked for of the last message only, whose ACK the kernel keeps back until it has committed
//! (`nfnetlink_rcv_batch`, `net/netfilter/nfnetlink.c`). So the outcome is known whatever the receive buffer holds: with
//! an ACK for each, some 250 overflow it, and a transaction that was committed looks like one that failed.
//!
//! Not here: which messages ([`message`]) and what answers mean ([`read`]).

pub(crate) mod link_filter;
pub(crate) mod message;
pub(crate) mod raw;
pub(crate) mod read;
pub(crate) mod rtnl;

use std::io;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla, NlasIterator,
    Parseable,
};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::error::{ApplyError, Refusal};

/// MSG_DONTWAIT | MSG_TRUNC (`include/linux/socket.h`).
pub(crate) const RECEIVE_FLAGS: i32 = 0x40 | 0x20;
/// More than the kernel puts into one datagram (32 KiB in a dump, `netlink_dump`, `net/netlink/af_netlink.c`).
pub(crate) const RECEIVE_BYTES: usize = 64 * 1024;
/// Requests of one send. The kernel answers all of them before we read the first answer; an answer takes about 1 KiB of the
/// socket's receive buffer (208 KiB, net.core.rmem_default), and what does not fit is lost (ENOBUFS).
const REQUESTS_PER_SEND: usize = 64;
/// A send that fits every socket's buffer (208 KiB, net.core.wmem_default, a part of it the kernel's own).
const SEND_BYTES: usize = 128 * 1024;
/// What is done when an nf_tables batch goes out, and when the kernel has all of it.
const TRANSACTION: &str = "nft transaction";
const COMMITTING: &str = "committing the nft transaction";
/// How often an interrupted dump is read before giving up.
pub(crate) const DUMP_ATTEMPTS: u32 = 50;
/// NLMSGERR_ATTR_MSG (`include/uapi/linux/netlink.h`).
const ERROR_TEXT: u16 = 1;
/// Bytes of the request's header that an ACK repeats (NETLINK_CAP_ACK is on).
const REPEATED_HEADER: usize = 16;

/// One request of a batch.
#[derive(Debug)]
pub(crate) struct Request<M> {
    /// The message.
    pub(crate) message: M,
    /// NLM_F_CREATE and the like; REQUEST and ACK are added.
    pub(crate) flags: u16,
    /// For errors: the operation in `ip` or `nft` syntax.
    pub(crate) doing: String,
}

/// The kernel's answer to one request: what it sent back besides the ACK, or its refusal.
pub(crate) type Answer<M> = Result<Option<M>, Refusal>;

#[cfg(test)]
thread_local! {
    /// Sends of this thread, for tests of what goes out together.
    pub(crate) static SENDS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    /// Messages in them.
    pub(crate) static MESSAGES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A socket in the namespace that its maker was in.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// rtnetlink.
    pub(crate) fn route() -> Result<Self, ApplyError> {
        let socket = Self::open(NETLINK_ROUTE)?;
        socket.inner.set_netlink_get_strict_chk(true).map_err(|source| failed("asking for strict checks", source))?;
        Ok(socket)
    }

    /// nfnetlink.
    pub(crate) fn netfilter() -> Result<Self, ApplyError> {
        Self::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> Result<Self, ApplyError> {
        let mut inner = netlink_sys::Socket::new(protocol).map_err(|source| failed("opening the socket", source))?;
        inner.bind_auto().map_err(|source| failed("binding the socket", source))?;
        inner.set_ext_ack(true).map_err(|source| failed("asking for extended ACKs", source))?;
        inner.set_cap_ack(true).map_err(|source| failed("asking for capped ACKs", source))?;
        Ok(Self { inner, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Sends all requests and gives the answers in their order; up to [`REQUESTS_PER_SEND`] go out at once. `Err` only
    /// when the socket itself fails.
    pub(crate) fn transact<M>(&mut self, requests: Vec<Request<M>>) -> Result<Vec<Answer<M>>, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let (mut answers, mut requests) = (Vec::with_capacity(requests.len()), requests.into_iter());
        // An empty send is refused by the kernel (ENODATA).
        while !requests.as_slice().is_empty() {
            answers.extend(self.transact_once(requests.by_ref().take(REQUESTS_PER_SEND))?);
        }
        Ok(answers)
    }

    fn transact_once<M>(&mut self, requests: impl Iterator<Item = Request<M>>) -> Result<Vec<Answer<M>>, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let first = self.sequence.wrapping_add(1);
        let (mut bytes, mut doing) = (Vec::new(), Vec::new());
        for request in requests {
            self.append(&mut bytes, request.message, request.flags | NLM_F_REQUEST | NLM_F_ACK);
            doing.push(request.doing);
        }
        let summary = || doing.join(", ");
        self.send(&bytes, &summary())?;
        let (mut replies, mut acks) = (Vec::new(), Vec::new());
        replies.resize_with(doing.len(), || None);
        acks.resize_with(doing.len(), || None);
        while acks.iter().any(Option::is_none) {
            for message in self.receive::<M>(&summary())? {
                let Some(slot) = position(message.header.sequence_number, first, doing.len(), &summary())? else {
                    continue;
                };
                let (Some(reply), Some(ack)) = (replies.get_mut(slot), acks.get_mut(slot)) else { continue };
                match message.payload {
                    NetlinkPayload::Error(error) => *ack = Some(acknowledged(&message.header, &error)),
                    NetlinkPayload::InnerMessage(inner) => *reply = Some(inner),
                    _ => {}
                }
            }
        }
        Ok(replies.into_iter().zip(acks).map(|(reply, ack)| ack.unwrap_or(Ok(())).map(|()| reply)).collect())
    }

    /// One request; its refusal is an error.
    pub(crate) fn request<M>(&mut self, request: Request<M>) -> Result<Option<M>, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let doing = request.doing.clone();
        let answer = self.transact(vec![request])?.pop().unwrap_or(Ok(None));
        answer.map_err(|source| ApplyError::Refused { doing, source })
    }

    /// Reads a whole list, again when changes interrupted it.
    pub(crate) fn dump<M>(&mut self, message: M, doing: &str) -> Result<Vec<M>, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(list) = self.dump_once(message.clone(), doing)? {
                return Ok(list);
            }
        }
        Err(ApplyError::Interrupted { doing: doing.to_owned(), attempts: DUMP_ATTEMPTS })
    }

    /// `None`: interrupted.
    fn dump_once<M>(&mut self, message: M, doing: &str) -> Result<Option<Vec<M>>, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut list = Vec::new();
        let interrupted = self.dump_each(message, doing, |inner| list.push(inner))?;
        Ok((!interrupted).then_some(list))
    }

    /// Reads a list once, one entry at a time; whether changes interrupted it.
    pub(crate) fn dump_each<M>(&mut self, message: M, doing: &str, mut each: impl FnMut(M)) -> Result<bool, ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut bytes = Vec::new();
        self.append(&mut bytes, message, NLM_F_REQUEST | NLM_F_DUMP);
        let sequence = self.sequence;
        self.send(&bytes, doing)?;
        let refused = |source| ApplyError::Refused { doing: doing.to_owned(), source };
        let mut interrupted = false;
        loop {
            for message in self.receive::<M>(doing)? {
                if position(message.header.sequence_number, sequence, 1, doing)?.is_none() {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Error(error) => {
                        acknowledged(&message.header, &error).map_err(refused)?;
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        let message = text(&done.extended_ack);
                        return Err(refused(Refusal { errno: done.code.saturating_neg(), message }));
                    }
                    NetlinkPayload::Done(_) => return Ok(interrupted),
                    _ => {}
                }
            }
        }
    }

    /// Sends messages as one nf_tables transaction between `begin` and `end`: all of it or nothing.
    pub(crate) fn batch<M>(&mut self, begin: M, requests: Vec<Request<M>>, end: M) -> Result<(), ApplyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let first = self.sequence.wrapping_add(1);
        let (mut bytes, mut doing) = (Vec::new(), vec![COMMITTING.to_owned()]);
        let last = requests.len();
        if last == 0 {
            return Ok(());
        }
        self.append(&mut bytes, begin, NLM_F_REQUEST);
        for (number, request) in (1..).zip(requests) {
            let ack = if number == last { NLM_F_ACK } else { 0 };
            self.append(&mut bytes, request.message, request.flags | NLM_F_REQUEST | ack);
            doing.push(request.doing);
        }
        doing.push(COMMITTING.to_owned());
        self.append(&mut bytes, end, NLM_F_REQUEST);
        self.send(&bytes, TRANSACTION)?;
        self.outcome::<M>(first, last, &doing)
    }

    /// Of the transaction whose messages have the sequence numbers from `first` on. Answers come in the order of the messages:
    /// the first refusal is there even when the buffer could not hold all of them.
    fn outcome<M: NetlinkDeserializable>(
        &mut self,
        first: u32,
        last: usize,
        doing: &[String],
    ) -> Result<(), ApplyError> {
        let mut overrun = None;
        loop {
            let messages = match self.receive::<M>(TRANSACTION) {
                Err(error) if overrun.is_none() && is_overrun(&error) => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) => return Err(overrun.unwrap_or(error)),
                Ok(messages) => messages,
            };
            for message in messages {
                let slot = position(message.header.sequence_number, first, doing.len(), TRANSACTION)?;
                let (Some(slot), NetlinkPayload::Error(error)) = (slot, message.payload) else { continue };
                let doing = || doing.get(slot).cloned().unwrap_or_default();
                acknowledged(&message.header, &error)
                    .map_err(|source| ApplyError::Refused { doing: doing(), source })?;
                if slot == last {
                    return Ok(());
                }
            }
        }
    }

    fn append<M: NetlinkSerializable>(&mut self, bytes: &mut Vec<u8>, message: M, flags: u16) {
        #[cfg(test)]
        MESSAGES.set(MESSAGES.get() + 1);
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    /// A send that is larger than the socket's buffer is refused, so it is made to fit; beyond net.core.wmem_max that takes
    /// CAP_NET_ADMIN in the first user namespace.
    fn send(&self, bytes: &[u8], doing: &str) -> Result<(), ApplyError> {
        #[cfg(test)]
        SENDS.set(SENDS.get() + 1);
        if bytes.len() > SEND_BYTES {
            // Refused: the send says so.
            let _ = sockopt::set_socket_send_buffer_size_force(&self.inner, bytes.len())
                .or_else(|_| sockopt::set_socket_send_buffer_size(&self.inner, bytes.len()));
        }
        let sent = self.inner.send(bytes, 0).map_err(|source| failed(doing, source))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(unreadable(doing, &format!("sent {sent} of {} bytes", bytes.len())))
        }
    }

    /// The messages of one datagram.
    fn receive<M: NetlinkDeserializable>(&mut self, doing: &str) -> Result<Vec<NetlinkMessage<M>>, ApplyError> {
        self.buffer.clear();
        let length = match self.inner.recv(&mut self.buffer, RECEIVE_FLAGS) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(unreadable(doing, "the kernel did not answer"));
            }
            Err(source) => return Err(failed(doing, source)),
        };
        let Some(mut rest) = self.buffer.get(..length) else {
            return Err(unreadable(doing, &format!("an answer of {length} bytes does not fit the buffer")));
        };
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let frame = NetlinkBuffer::new_checked(rest).map_err(|error| unreadable(doing, &error.to_string()))?;
            let length = frame.length() as usize;
            let bytes = rest.get(..length).unwrap_or_default();
            messages.push(NetlinkMessage::deserialize(bytes).map_err(|error| unreadable(doing, &error.to_string()))?);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

/// A socket that hears of changes, for lists that the kernel does not mark as interrupted.
#[derive(Debug)]
pub(crate) struct Watch(netlink_sys::Socket);

impl Watch {
    /// Listens to an rtnetlink multicast group from now on.
    pub(crate) fn start(group: u32) -> Result<Self, ApplyError> {
        let mut inner =
            netlink_sys::Socket::new(NETLINK_ROUTE).map_err(|source| failed("opening a listener", source))?;
        inner.bind_auto().map_err(|source| failed("binding a listener", source))?;
        inner.add_membership(group).map_err(|source| failed("listening for changes", source))?;
        Ok(Self(inner))
    }

    /// Whether there was a change since; an overrun counts as one.
    pub(crate) fn has_heard(&self) -> bool {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        let result = self.0.recv(&mut buffer, RECEIVE_FLAGS);
        !matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Which request of `count`, from sequence number `first` on, an answer belongs to. `None`: an older one, left over from
/// a read that failed half-way.
fn position(sequence: u32, first: u32, count: usize, doing: &str) -> Result<Option<usize>, ApplyError> {
    let offset = sequence.wrapping_sub(first);
    if (offset as usize) < count {
        Ok(Some(offset as usize))
    } else if offset > u32::MAX / 2 {
        Ok(None)
    } else {
        Err(unreadable(doing, &format!("an answer to request {sequence}, which was not sent yet")))
    }
}

/// Whether answers did not fit into the receive buffer. Told before the answers that did.
fn is_overrun(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Socket { source, .. } if source.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()))
}

/// What an ACK says.
fn acknowledged(header: &NetlinkHeader, error: &netlink_packet_core::ErrorMessage) -> Result<(), Refusal> {
    let Some(code) = error.code else { return Ok(()) };
    let tlvs = error.header.get(REPEATED_HEADER..).filter(|_| header.flags & NLM_F_ACK_TLVS != 0);
    Err(Refusal { errno: code.get().saturating_neg(), message: tlvs.and_then(text) })
}

/// The kernel's words among the attributes of an extended ACK.
fn text(tlvs: &[u8]) -> Option<String> {
    let attributes = NlasIterator::new(tlvs).filter_map(|nla| DefaultNla::parse(&nla.ok()?).ok());
    let mut texts = attributes.filter(|nla| nla.kind() == ERROR_TEXT).map(|nla| {
        let mut value = vec![0; nla.value_len()];
        nla.emit_value(&mut value);
        String::from_utf8_lossy(&value).trim_end_matches('\0').to_owned()
    });
    texts.next()
}

pub(crate) fn failed(doing: &str, source: io::Error) -> ApplyError {
    ApplyError::Socket { doing: doing.to_owned(), source }
}

/// An answer that cannot be understood.
pub(crate) fn unreadable(doing: &str, problem: &str) -> ApplyError {
    ApplyError::Answer { doing: doing.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
