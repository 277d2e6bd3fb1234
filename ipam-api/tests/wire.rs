// SPDX-License-Identifier: Apache-2.0
//! The bytes on the wire. Expected bytes are put together here by field number from the published contract of
//! amazon-vpc-cni-k8s 1.23 (`rpc/rpc.proto`), not by our own encoder.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, DeleteNpReply, DeleteNpRequest,
    EnforceNpReply, EnforceNpRequest, IpAllocationMetadata, NetworkPolicyAgentConfigReply, Refusal,
};
use prost::Message;

/// Tag and length of a length-delimited field, then its bytes (protobuf encoding guide, wire type 2).
fn bytes_field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number << 3 | 2));
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

/// A varint field (wire type 0).
fn number_field(number: u32, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(number << 3));
    out.extend(varint(value));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// Both ways: ours encodes to exactly these bytes, and these bytes decode to ours.
#[track_caller]
fn assert_wire<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, fields: &[Vec<u8>]) {
    let expected = fields.concat();
    assert_eq!(message.encode_to_vec(), expected);
    assert_eq!(&M::decode(expected.as_slice()).unwrap(), message);
}

fn text(number: u32) -> (String, Vec<u8>) {
    let value = format!("value of {number}");
    (value.clone(), bytes_field(number, value.as_bytes()))
}

#[test]
fn an_add_request_has_the_reference_s_field_numbers() {
    let (one, two, three, four) = (text(1), text(2), text(3), text(4));
    let (five, six, seven, eight) = (text(5), text(6), text(7), text(8));
    let request = AddNetworkRequest {
        k8s_pod_name: one.0,
        k8s_pod_namespace: two.0,
        k8s_pod_infra_container_id: three.0,
        netns: four.0,
        if_name: five.0,
        network_name: six.0,
        container_id: seven.0,
        client_version: eight.0,
        requires_multi_nic_attachment: true,
        wait_budget_ms: Some(20_000),
    };
    let fields = [one.1, two.1, three.1, four.1, five.1, six.1, seven.1, eight.1, number_field(9, 1)];
    assert_wire(&request, &[fields.concat(), number_field(100, 20_000)]);
}

#[test]
fn an_add_reply_has_the_reference_s_field_numbers() {
    let (eight, nine, thirteen) = (text(8), text(9), text(13));
    let allocation = [
        bytes_field(1, b"10.0.0.9"),
        bytes_field(2, b"2001:db8::9"),
        number_field(3, 2),
        number_field(4, 3),
        number_field(100, 158_000),
        number_field(101, 158_002),
    ]
    .concat();
    let refusal = [bytes_field(1, b"NodeFull"), bytes_field(2, b"27 of 27"), number_field(3, 1_500)].concat();
    let reply = AddNetworkReply {
        success: true,
        ip_allocation_metadata: vec![IpAllocationMetadata {
            ipv4_addr: "10.0.0.9".into(),
            ipv6_addr: "2001:db8::9".into(),
            device_number: 2,
            route_table_id: 3,
            pod_route_table: Some(158_000),
            link_group: Some(158_002),
        }],
        use_external_snat: true,
        vpc_v4_cidrs: vec!["10.0.0.0/16".into(), "10.1.0.0/16".into()],
        pod_vlan_id: 7,
        pod_eni_mac: eight.0,
        pod_eni_subnet_gw: nine.0,
        parent_if_index: 4,
        vpc_v6_cidrs: vec!["2001:db8::/56".into()],
        network_policy_mode: thirteen.0,
        refusal: Some(Refusal { code: "NodeFull".into(), cause: "27 of 27".into(), retry_after_ms: Some(1_500) }),
        pod_mtu: Some(1_400),
        v6_egress: Some(true),
        v4_egress: Some(true),
    };
    let fields = [
        number_field(1, 1),
        bytes_field(2, &allocation),
        number_field(5, 1),
        bytes_field(6, b"10.0.0.0/16"),
        bytes_field(6, b"10.1.0.0/16"),
        number_field(7, 7),
        eight.1,
        nine.1,
        number_field(10, 4),
        bytes_field(12, b"2001:db8::/56"),
        thirteen.1,
        bytes_field(100, &refusal),
        number_field(110, 1_400),
        number_field(111, 1),
        number_field(112, 1),
    ];
    assert_wire(&reply, &fields);
}

#[test]
fn a_del_has_the_reference_s_field_numbers() {
    let (one, two, three, five) = (text(1), text(2), text(3), text(5));
    let (six, seven, eight, nine, ten) = (text(6), text(7), text(8), text(9), text(10));
    let request = DelNetworkRequest {
        k8s_pod_name: one.0,
        k8s_pod_namespace: two.0,
        k8s_pod_infra_container_id: three.0,
        reason: five.0,
        if_name: six.0,
        network_name: seven.0,
        container_id: eight.0,
        client_version: nine.0,
        k8s_pod_uid: ten.0,
    };
    assert_wire(&request, &[one.1, two.1, three.1, five.1, six.1, seven.1, eight.1, nine.1, ten.1]);

    let mode = text(6);
    let reply = DelNetworkReply {
        success: true,
        ip_allocation_metadata: vec![IpAllocationMetadata { ipv4_addr: "10.0.0.9".into(), ..Default::default() }],
        pod_vlan_id: 3,
        network_policy_mode: mode.0,
        refusal: None,
    };
    let allocation = bytes_field(1, b"10.0.0.9");
    assert_wire(&reply, &[number_field(1, 1), bytes_field(2, &allocation), number_field(4, 3), mode.1]);
}

#[test]
fn the_policy_agent_s_messages_have_the_reference_s_field_numbers() {
    let (one, two, three, four, five, six) = (text(1), text(2), text(3), text(4), text(5), text(6));
    let enforce = EnforceNpRequest {
        k8s_pod_name: one.0.clone(),
        k8s_pod_namespace: two.0.clone(),
        network_policy_mode: three.0.clone(),
        interface_count: 1,
    };
    assert_wire(&enforce, &[one.1.clone(), two.1.clone(), three.1.clone(), number_field(4, 1)]);
    let delete = DeleteNpRequest { k8s_pod_name: one.0.clone(), k8s_pod_namespace: two.0 };
    assert_wire(&delete, &[one.1.clone(), two.1]);
    assert_wire(&EnforceNpReply { success: true }, &[number_field(1, 1)]);
    assert_wire(&DeleteNpReply { success: true }, &[number_field(1, 1)]);
    let config = NetworkPolicyAgentConfigReply {
        network_policy_mode: one.0,
        multi_nic_enabled: true,
        node_ipv4: three.0,
        node_ipv6: four.0,
        instance_id: five.0,
        region: six.0,
    };
    assert_wire(&config, &[one.1, number_field(2, 1), three.1, four.1, five.1, six.1]);
}

/// The reply as a plugin knows it that was built before Enid's fields existed.
#[derive(Clone, PartialEq, prost::Message)]
struct OldAddNetworkReply {
    #[prost(bool, tag = "1")]
    success: bool,
    #[prost(message, repeated, tag = "2")]
    allocations: Vec<IpAllocationMetadata>,
}

#[test]
fn an_old_plugin_reads_our_reply_and_ignores_the_reason() {
    let reply = AddNetworkReply {
        refusal: Some(Refusal { code: "NodeFull".into(), ..Default::default() }),
        ..Default::default()
    };
    let old = OldAddNetworkReply::decode(reply.encode_to_vec().as_slice()).unwrap();
    assert_eq!(old, OldAddNetworkReply::default());
}

#[test]
fn fields_of_a_newer_peer_are_ignored() {
    let bytes = [number_field(1, 1), number_field(11, 5), bytes_field(3, b"gone"), bytes_field(200, b"new")].concat();
    let reply = AddNetworkReply::decode(bytes.as_slice()).unwrap();
    assert_eq!(reply, AddNetworkReply { success: true, ..Default::default() });
}

#[test]
fn an_old_plugin_s_request_has_no_budget_and_an_old_daemon_s_reply_no_reason() {
    let request = AddNetworkRequest::decode(bytes_field(7, b"c1").as_slice()).unwrap();
    assert_eq!((request.container_id.as_str(), request.wait_budget_ms), ("c1", None));
    let reply = AddNetworkReply::decode([].as_slice()).unwrap();
    assert_eq!((reply.success, reply.refusal), (false, None));
}
