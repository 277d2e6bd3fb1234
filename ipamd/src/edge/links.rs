// SPDX-License-Identifier: Apache-2.0
//! The kernel's link events: tells the core that a link with a new MAC is there, so that an attached ENI is configured at
//! once and not at the next try; and the host thread that host veths came or went, whose host ports it looks after.
//!
//! Only a hint: a lost event costs time, not correctness. After an overrun (ENOBUFS, netlink(7)) and at the start of a new
//! socket every link is told again.

#![expect(clippy::disallowed_methods, reason = "waits before it opens the socket again")]

use std::collections::HashMap;
use std::time::Duration;

use ipamd_core::Event;
use ipamd_core::ids::MacAddr;
use ipamd_core::reason::ReasonCode;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio_stream::StreamExt;

use crate::edge::host::{self, Host};
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// Pause before the socket is opened again.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens for ever.
pub(crate) async fn listen(veth_prefix: String, inbox: Inbox, host: Host) {
    loop {
        match listen_once(&veth_prefix, &inbox, &host).await {
            Ok(()) => {
                tracing::warn!(code = %ReasonCode::KernelEventsLost, "the kernel's link events ended, listening anew")
            }
            Err(error) => {
                tracing::warn!(
                    code = %ReasonCode::KernelEventsLost, %error,
                    "the kernel's link events cannot be had, trying again"
                )
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(veth_prefix: &str, inbox: &Inbox, host: &Host) -> std::io::Result<()> {
    let (connection, _handle, mut messages) = new_multicast_connection(&[MulticastGroup::Link])?;
    let connection = tokio::spawn(connection);
    tell_all(veth_prefix, inbox).await;
    host.links_changed();
    let mut known = Known::default();
    while let Some((message, _)) = messages.next().await {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                if let Some(mac) = known.added(&link) {
                    inbox.event(Event::LinkAppeared { mac });
                    if is_named(&link, veth_prefix) {
                        host.links_changed();
                    }
                }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                known.removed(&link);
                if is_named(&link, veth_prefix) {
                    host.links_changed();
                }
            }
            NetlinkPayload::Overrun(_) => {
                tracing::info!("link events were lost, telling all links again");
                known = Known::default();
                tell_all(veth_prefix, inbox).await;
                host.links_changed();
            }
            _ => {}
        }
    }
    connection.abort();
    Ok(())
}

async fn tell_all(veth_prefix: &str, inbox: &Inbox) {
    let prefix = veth_prefix.to_owned();
    // Reading the kernel blocks, and this is the thread that answers the plugin.
    let Ok(observed) = tokio::task::spawn_blocking(move || host::observe(&prefix)).await else { return };
    match observed {
        Ok(view) => view.link_macs.into_iter().for_each(|mac| inbox.event(Event::LinkAppeared { mac })),
        Err(error) => {
            tracing::warn!(code = %ReasonCode::KernelUnreadable, error = %chain(&error), "links cannot be listed")
        }
    }
}

/// Whether it is a pod's host veth, by its name.
fn is_named(link: &LinkMessage, veth_prefix: &str) -> bool {
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name.starts_with(veth_prefix)))
}

/// MACs by link index: the kernel repeats RTM_NEWLINK at every change of a link.
#[derive(Debug, Default)]
struct Known(HashMap<u32, MacAddr>);

impl Known {
    /// The link's MAC, when it is new.
    fn added(&mut self, link: &LinkMessage) -> Option<MacAddr> {
        let octets = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(octets) => <[u8; 6]>::try_from(octets.as_slice()).ok(),
            _ => None,
        })?;
        let mac = MacAddr(octets);
        (self.0.insert(link.header.index, mac) != Some(mac)).then_some(mac)
    }

    fn removed(&mut self, link: &LinkMessage) {
        self.0.remove(&link.header.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, mac: &[u8]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        message
    }

    #[test]
    fn a_host_veth_is_known_by_its_name() {
        let mut veth = link(3, &[2, 0, 0, 0, 0, 1]);
        assert!(!is_named(&veth, "eni"), "it has none");
        veth.attributes.push(LinkAttribute::IfName("eni0123456789a".to_owned()));
        assert!(is_named(&veth, "eni") && !is_named(&veth, "veth"));
    }

    #[test]
    fn a_mac_is_told_when_it_is_new_changed_or_back() {
        let mut known = Known::default();
        let first = link(3, &[2, 0, 0, 0, 0, 1]);
        assert_eq!(known.added(&first), Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!(known.added(&first), None);
        assert_eq!(known.added(&link(3, &[2, 0, 0, 0, 0, 2])), Some(MacAddr([2, 0, 0, 0, 0, 2])));
        known.removed(&first);
        assert!(known.added(&first).is_some());
        assert_eq!(known.added(&link(4, &[0, 0, 0, 0])), None, "no Ethernet address");
    }
}
