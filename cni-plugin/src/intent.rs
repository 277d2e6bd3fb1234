// SPDX-License-Identifier: Apache-2.0
//! From the daemon's reply to what is plumbed and printed. A reply that this version cannot carry out (several network
//! cards, a branch ENI) is refused here, before anything is touched.

use std::str::FromStr;

use datapath::plan::pod::{PodAttachment, PodLayout};
use datapath::plan::{Family, LinkName, MacAddr, PodAddresses, RouteTable, ids};
use ipam_api::rpc::{AddNetworkReply, IpAllocationMetadata};

use crate::conf::SMALLEST_MTU;
use crate::error::{CniError, Code};
use crate::reason::Reason;
use crate::result::Attached;

/// What the caller and the configuration say about the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Host end of the veth.
    pub host_veth: LinkName,
    /// Its name without the prefix.
    pub hash: String,
    /// The pod link.
    pub pod_link: LinkName,
    /// The pod's namespace.
    pub netns: String,
    /// The allocation key's text.
    pub owner: String,
    /// MTU of both ends as configured; the daemon may say a smaller one.
    pub mtu: u32,
    /// Whether the caller names a sandbox of Kubernetes.
    pub is_kubernetes: bool,
}

/// What is to be plumbed, and what is printed when it is.
pub(crate) fn from_reply(reply: &AddNetworkReply, wanted: &Wanted) -> Result<(PodAttachment, Attached), CniError> {
    let (allocation, addresses) = addresses_of(reply)?;
    let attachment = PodAttachment {
        host_veth: wanted.host_veth.clone(),
        pod_link: wanted.pod_link.clone(),
        addresses,
        mtu: reply.pod_mtu.map_or(wanted.mtu, |mtu| mtu.clamp(SMALLEST_MTU, wanted.mtu)),
        eni_table: eni_table(allocation.route_table_id),
        layout: layout(allocation),
        owner: wanted.owner.clone(),
        host_mac: MacAddr::of_host_end(&wanted.owner),
        pod_mac: MacAddr::of_pod_end(&wanted.owner),
    };
    let attached = Attached {
        host_veth: wanted.host_veth.clone(),
        marker: format!("dummy{}", wanted.hash),
        ifname: wanted.pod_link.to_string(),
        netns: wanted.netns.clone(),
        addresses,
        route_table: allocation.route_table_id,
        device_number: allocation.device_number,
        macs: (!wanted.is_kubernetes).then_some([attachment.host_mac, attachment.pod_mac]),
    };
    Ok((attachment, attached))
}

/// The family in which the pod only gets out. Of what it has an address already there is nothing to give.
pub(crate) fn egress(reply: &AddNetworkReply, addresses: PodAddresses) -> Option<Family> {
    match addresses {
        PodAddresses::V4(_) => reply.v6_egress.unwrap_or_default().then_some(Family::V6),
        PodAddresses::V6(_) => reply.v4_egress.unwrap_or_default().then_some(Family::V4),
        PodAddresses::Both(..) => None,
    }
}

/// The pod's addresses and where they are: one entry with one or both of them, or one for each family that say the same
/// of all else. Several entries that differ are the reference's for a pod on several network cards.
fn addresses_of(reply: &AddNetworkReply) -> Result<(&IpAllocationMetadata, PodAddresses), CniError> {
    if reply.pod_vlan_id != 0 {
        return Err(unsupported(
            "a branch ENI (security groups for pods)",
            &format!("PodVlanId {}", reply.pod_vlan_id),
        ));
    }
    let allocations = reply.ip_allocation_metadata.as_slice();
    let [allocation, more @ ..] = allocations else { return Err(unsupported("no address", "0 addresses")) };
    let place = |allocation: &IpAllocationMetadata| IpAllocationMetadata {
        ipv4_addr: String::new(),
        ipv6_addr: String::new(),
        ..allocation.clone()
    };
    let texts = |of: fn(&IpAllocationMetadata) -> &String| {
        allocations.iter().map(of).filter(|text| !text.is_empty()).collect::<Vec<_>>()
    };
    let (v4, v6) = (texts(|allocation| &allocation.ipv4_addr), texts(|allocation| &allocation.ipv6_addr));
    if v4.len() > 1 || v6.len() > 1 || more.iter().any(|other| place(other) != place(allocation)) {
        let several = format!("{} addresses", v4.len() + v6.len());
        return Err(unsupported("addresses on several network cards", &several));
    }
    let addresses = PodAddresses::new(parsed(&v4, "IPv4Addr")?, parsed(&v6, "IPv6Addr")?);
    Ok((allocation, addresses.ok_or_else(|| no_address("IPv4Addr and IPv6Addr are empty".to_owned()))?))
}

fn parsed<T: FromStr>(texts: &[&String], field: &str) -> Result<Option<T>, CniError> {
    let parse = |text: &&String| text.parse().map_err(|_| no_address(format!("{field} {text:?}")));
    texts.first().map(parse).transpose()
}

fn no_address(found: String) -> CniError {
    let message = "the IPAM daemon's answer holds no address: see its log";
    CniError::new(Code::Internal, Reason::DaemonFailed, message).because(found)
}

fn unsupported(what: &str, found: &str) -> CniError {
    let message = format!("the IPAM daemon gave this pod {what}, which this version of the plugin does not do");
    CniError::new(Code::Internal, Reason::ReplyUnsupported, message).because(found.to_owned())
}

/// A `from` rule is needed for a table that is not the primary ENI's. The reference's daemon writes the main table as
/// 254, older ones as 0 or 1.
fn eni_table(route_table_id: i32) -> Option<RouteTable> {
    let table = u32::try_from(route_table_id).ok().filter(|table| *table > 1).map(RouteTable);
    table.filter(|table| *table != RouteTable::MAIN)
}

/// The layout is the daemon's choice, as its node-wide rules must fit; the reference's daemon names none.
fn layout(allocation: &IpAllocationMetadata) -> PodLayout {
    match allocation.pod_route_table {
        None => PodLayout::Classic,
        Some(table) => {
            PodLayout::Flat { table: RouteTable(table), group: allocation.link_group.unwrap_or(ids::DEFAULT_GROUP) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            host_veth: LinkName::new("enicc21c2d7785").unwrap(),
            hash: "cc21c2d7785".into(),
            pod_link: LinkName::new("eth0").unwrap(),
            netns: "/run/netns/a".into(),
            owner: "aws-cni/c1/eth0".into(),
            mtu: 9001,
            is_kubernetes: true,
        }
    }

    fn reply(address: &str, device_number: i32, route_table_id: i32) -> AddNetworkReply {
        let allocation = IpAllocationMetadata {
            ipv4_addr: address.into(),
            device_number,
            route_table_id,
            ..IpAllocationMetadata::default()
        };
        AddNetworkReply { success: true, ip_allocation_metadata: vec![allocation], ..AddNetworkReply::default() }
    }

    /// The reference's daemon says none.
    #[test]
    fn the_mtu_is_the_smaller_of_the_configurations_and_the_daemons() {
        for (said, given) in [(None, 9001), (Some(1400), 1400), (Some(65_535), 9001), (Some(0), 576)] {
            let reply = AddNetworkReply { pod_mtu: said, ..reply("10.0.1.7", 0, 254) };
            assert_eq!(from_reply(&reply, &wanted()).unwrap().0.mtu, given, "{said:?}");
        }
    }

    #[test]
    fn only_tables_of_secondary_enis_ask_for_a_from_rule() {
        for (route_table_id, table) in
            [(254, None), (0, None), (1, None), (-1, None), (2, Some(2)), (3, Some(3)), (101, Some(101))]
        {
            let (attachment, attached) = from_reply(&reply("10.0.1.7", 1, route_table_id), &wanted()).unwrap();
            assert_eq!(attachment.eni_table, table.map(RouteTable), "{route_table_id}");
            assert_eq!(attached.route_table, route_table_id);
        }
    }

    #[test]
    fn the_layout_is_the_daemon_s_choice_and_the_reference_s_without_one() {
        let of = |pod_route_table, link_group| {
            let mut reply = reply("10.0.1.7", 2, 3);
            reply.ip_allocation_metadata[0].pod_route_table = pod_route_table;
            reply.ip_allocation_metadata[0].link_group = link_group;
            from_reply(&reply, &wanted()).unwrap()
        };
        let table = RouteTable(158_000);
        assert_eq!(of(None, None).0.layout, PodLayout::Classic);
        assert_eq!(of(None, Some(5)).0.layout, PodLayout::Classic, "a group alone means nothing");
        assert_eq!(of(Some(158_000), None).0.layout, PodLayout::Flat { table, group: 0 });
        assert_eq!(of(Some(158_000), Some(158_002)).0.layout, PodLayout::Flat { table, group: 158_002 });
        assert_eq!(of(Some(158_000), Some(158_002)).1, of(None, None).1, "the result is the reference's in both");
    }

    #[test]
    fn one_address_of_each_family_comes_in_one_entry_or_in_two() {
        let (v4, v6) = ("10.0.1.7", "2001:db8::7");
        let entry = |v4: &str, v6: &str| {
            let mut entry = reply(v4, 1, 2).ip_allocation_metadata.remove(0);
            entry.ipv6_addr = v6.into();
            entry
        };
        let of = |entries: Vec<IpAllocationMetadata>| {
            let reply = AddNetworkReply { ip_allocation_metadata: entries, ..AddNetworkReply::default() };
            from_reply(&reply, &wanted()).unwrap().0.addresses
        };
        let (four, six) = (v4.parse().unwrap(), v6.parse().unwrap());
        assert_eq!(of(vec![entry(v4, "")]), PodAddresses::V4(four));
        assert_eq!(of(vec![entry("", v6)]), PodAddresses::V6(six));
        assert_eq!(of(vec![entry(v4, v6)]), PodAddresses::Both(four, six));
        assert_eq!(of(vec![entry(v4, ""), entry("", v6)]), PodAddresses::Both(four, six));
        assert_eq!(of(vec![entry("", v6), entry(v4, "")]), PodAddresses::Both(four, six));
    }

    /// The reference's daemon says neither.
    #[test]
    fn egress_is_given_in_the_family_of_which_the_pod_has_no_address_and_when_the_daemon_says_so() {
        let (v4, v6) = (Ipv4Addr::new(10, 0, 1, 7), Ipv6Addr::LOCALHOST);
        let of = |v6_egress, v4_egress, addresses| {
            egress(&AddNetworkReply { v6_egress, v4_egress, ..AddNetworkReply::default() }, addresses)
        };
        for (said_v6, said_v4, addresses, given) in [
            (None, None, PodAddresses::V4(v4), None),
            (Some(true), None, PodAddresses::V4(v4), Some(Family::V6)),
            (Some(false), Some(true), PodAddresses::V4(v4), None),
            (None, Some(true), PodAddresses::V6(v6), Some(Family::V4)),
            (Some(true), None, PodAddresses::V6(v6), None),
            (Some(true), Some(true), PodAddresses::Both(v4, v6), None),
        ] {
            assert_eq!(of(said_v6, said_v4, addresses), given, "{said_v6:?} {said_v4:?} {addresses}");
        }
    }

    #[test]
    fn the_attachment_and_the_result_speak_of_the_same_pod() {
        let (attachment, attached) = from_reply(&reply("10.0.1.7", 2, 3), &wanted()).unwrap();
        assert_eq!(attachment.addresses, attached.addresses);
        assert_eq!((attachment.mtu, attachment.owner.as_str()), (9001, "aws-cni/c1/eth0"));
        assert_eq!((attached.marker.as_str(), attached.device_number), ("dummycc21c2d7785", 2));
    }

    #[test]
    fn the_two_macs_differ_are_local_unicast_and_stay_the_same_for_a_key() {
        let (first, _) = from_reply(&reply("10.0.1.7", 0, 254), &wanted()).unwrap();
        let (again, _) = from_reply(&reply("10.0.1.7", 0, 254), &wanted()).unwrap();
        let other = Wanted { owner: "aws-cni/c2/eth0".into(), ..wanted() };
        let (other, _) = from_reply(&reply("10.0.1.7", 0, 254), &other).unwrap();
        assert_eq!((first.host_mac, first.pod_mac), (again.host_mac, again.pod_mac));
        assert!(first.host_mac != first.pod_mac && first.host_mac != other.host_mac);
        assert!([first.host_mac, first.pod_mac].iter().all(|mac| mac.0[0] & 3 == 2));
    }

    #[test]
    fn replies_that_this_version_cannot_carry_out_are_refused() {
        let mut branch = reply("10.0.1.7", 0, 254);
        branch.pod_vlan_id = 5;
        let with = |v4: &str, v6: &str, table| {
            let mut reply = reply(v4, 0, table);
            reply.ip_allocation_metadata[0].ipv6_addr = v6.into();
            reply.ip_allocation_metadata.remove(0)
        };
        let several = |entries: &[IpAllocationMetadata]| AddNetworkReply {
            success: true,
            ip_allocation_metadata: entries.to_vec(),
            ..AddNetworkReply::default()
        };
        let v4 = with("10.0.1.7", "", 254);
        let two = several(&[v4.clone(), with("10.1.1.7", "", 254)]);
        let cards = several(&[v4.clone(), with("", "2001:db8::1", 10_100)]);
        let again = several(&[with("10.0.1.7", "2001:db8::1", 254), with("", "2001:db8::2", 254)]);
        let nothing = several(&[with("", "", 254)]);
        let half = several(&[v4, with("", "2001:db8::x", 254)]);
        let none = several(&[]);
        for (reply, detail) in [
            (branch, "PodVlanId 5"),
            (two, "2 addresses"),
            (cards, "2 addresses"),
            (again, "3 addresses"),
            (nothing, "are empty"),
            (half, "2001:db8::x"),
            (none, "0 addresses"),
            (reply("10.0.1", 0, 2), "10.0.1"),
        ] {
            let error = from_reply(&reply, &wanted()).unwrap_err();
            assert_eq!(error.code, Code::Internal);
            assert!(error.details.contains(detail), "{error}");
        }
    }
}
