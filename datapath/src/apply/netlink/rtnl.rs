// SPDX-License-Identifier: Apache-2.0
//! The rtnetlink messages that are used here, and no others. netlink-packet-route's own enum of this name would do, but
//! it parses and writes traffic control and the rest of the family too: 0.15 MB of the plugin's 2.5.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Parseable,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;

use super::link_filter;

/// RTM_NEWLINK: what the kernel answers with when it is asked for links.
const NEW_LINK: u16 = 16;

/// One enum variant per message type: its number (`include/uapi/linux/rtnetlink.h`) and its body.
macro_rules! messages {
    ($($name:ident = $number:literal: $body:ident),* $(,)?) => {
        /// An rtnetlink message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum RouteNetlinkMessage {
            $($name($body)),*
        }

        impl NetlinkSerializable for RouteNetlinkMessage {
            fn message_type(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $number),*
                }
            }

            fn buffer_len(&self) -> usize {
                match self {
                    $(Self::$name(body) => body.buffer_len()),*
                }
            }

            fn serialize(&self, buffer: &mut [u8]) {
                match self {
                    $(Self::$name(body) => body.emit(buffer)),*
                }
            }
        }

        impl NetlinkDeserializable for RouteNetlinkMessage {
            type Error = DecodeError;

            fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
                let needed = (header.message_type == NEW_LINK).then(|| link_filter::needed(payload));
                let payload = needed.as_deref().unwrap_or(payload);
                match header.message_type {
                    $($number => Ok(Self::$name($body::parse(payload)?)),)*
                    other => Err(DecodeError::from(format!("message type {other} was not asked for"))),
                }
            }
        }
    };
}

messages! {
    NewLink = 16: LinkMessage,
    DelLink = 17: LinkMessage,
    GetLink = 18: LinkMessage,
    SetLink = 19: LinkMessage,
    NewAddress = 20: AddressMessage,
    DelAddress = 21: AddressMessage,
    GetAddress = 22: AddressMessage,
    NewRoute = 24: RouteMessage,
    DelRoute = 25: RouteMessage,
    GetRoute = 26: RouteMessage,
    NewNeighbour = 28: NeighbourMessage,
    DelNeighbour = 29: NeighbourMessage,
    GetNeighbour = 30: NeighbourMessage,
    NewRule = 32: RuleMessage,
    DelRule = 33: RuleMessage,
    GetRule = 34: RuleMessage,
}
