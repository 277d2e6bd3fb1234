// SPDX-License-Identifier: Apache-2.0
//! Looks written by hand after the response examples of the EC2 API reference.

use super::*;

const NS: &str = "xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"";

fn documents(enis: &str) -> Documents {
    Documents {
        instances: format!(
            "<DescribeInstancesResponse {NS}><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
             <instanceType>m5.large</instanceType><placement><availabilityZone>us-east-1a</availabilityZone></placement>\
             <launchTime>2026-01-01T00:00:00Z</launchTime><privateDnsName>ip-10-0-1-10.ec2.internal</privateDnsName>\
             <tagSet><item><key>Name</key><value>node-1</value></item></tagSet></item></instancesSet></item>\
             </reservationSet></DescribeInstancesResponse>"
        ),
        enis: format!(
            "<DescribeNetworkInterfacesResponse {NS}><networkInterfaceSet>{enis}</networkInterfaceSet>\
             </DescribeNetworkInterfacesResponse>"
        ),
        subnets: format!(
            "<DescribeSubnetsResponse {NS}><subnetSet><item><subnetId>subnet-1</subnetId><cidrBlock>10.0.1.0/24\
             </cidrBlock></item></subnetSet></DescribeSubnetsResponse>"
        ),
        vpcs: format!(
            "<DescribeVpcsResponse {NS}><vpcSet><item><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/16</cidrBlock>\
             <cidrBlockAssociationSet><item><cidrBlock>10.0.0.0/16</cidrBlock></item><item><cidrBlock>100.64.0.0/16\
             </cidrBlock></item></cidrBlockAssociationSet></item></vpcSet></DescribeVpcsResponse>"
        ),
    }
}

fn eni(id: &str, index: u32, addresses: &[&str], status: &str) -> String {
    let set: String = addresses
        .iter()
        .map(|address| format!("<item><privateIpAddress>{address}</privateIpAddress></item>"))
        .collect();
    format!(
        "<item><networkInterfaceId>{id}</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
         <macAddress>02:00:00:00:00:0{index}</macAddress><privateIpAddress>{}</privateIpAddress>\
         <sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-1</groupId><groupName>node</groupName></item>\
         </groupSet><attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>{index}</deviceIndex>\
         <status>{status}</status></attachment><privateIpAddressesSet>{set}</privateIpAddressesSet></item>",
        addresses[0]
    )
}

fn look(enis: &str) -> Snapshot {
    Snapshot::read(&documents(enis), "i-1", "us-east-1").unwrap()
}

#[test]
fn a_look_says_what_imds_would_say() {
    let view = look(&eni("eni-1", 0, &["10.0.1.10", "10.0.1.11"], "attached")).imds_view();
    let at = |path: &str| view.read(&format!("/latest/meta-data/{path}")).body;
    assert_eq!(at("instance-type"), "m5.large");
    assert_eq!(at("mac"), "02:00:00:00:00:00");
    assert_eq!(at("network/interfaces/macs/02:00:00:00:00:00/local-ipv4s"), "10.0.1.10\n10.0.1.11");
    assert_eq!(at("network/interfaces/macs/02:00:00:00:00:00/subnet-ipv4-cidr-block"), "10.0.1.0/24");
    assert_eq!(at("network/interfaces/macs/02:00:00:00:00:00/vpc-ipv4-cidr-blocks"), "10.0.0.0/16\n100.64.0.0/16");
}

#[test]
fn an_eni_that_is_not_attached_yet_is_not_seen() {
    let view = look(&eni("eni-1", 1, &["10.0.1.10"], "attaching")).imds_view();
    assert_eq!(view.enis, []);
}

#[test]
fn events_lead_from_one_look_to_the_next() {
    let first = look(&eni("eni-1", 0, &["10.0.1.10", "10.0.1.11"], "attached"));
    let events = first.since(None);
    let [FabricEvent::EniAttached(attached)] = events.as_slice() else { panic!("not attached: {events:?}") };
    assert_eq!(attached.instance_name, "node-1");
    assert_eq!(attached.secondary_addresses, ["10.0.1.11".parse::<Ipv4Addr>().unwrap()]);

    let (one, two) =
        (eni("eni-1", 0, &["10.0.1.10", "10.0.1.12"], "attached"), eni("eni-2", 1, &["10.0.1.20"], "attached"));
    let second = look(&format!("{one}{two}"));
    let events = second.since(Some(&first));
    let id = || EniId::from("eni-1");
    let address = |text: &str| Assigned::Address(text.parse().unwrap());
    assert_eq!(events[0], FabricEvent::AddressUnassigned { eni: id(), address: address("10.0.1.11") });
    assert_eq!(events[1], FabricEvent::AddressAssigned { eni: id(), address: address("10.0.1.12") });
    assert!(matches!(&events[2], FabricEvent::EniAttached(attached) if attached.eni.as_str() == "eni-2"), "{events:?}");
    assert_eq!(events.len(), 3);

    let last = second.since(Some(&second));
    assert_eq!(last, [], "nothing changed");
    let gone = first.since(Some(&second));
    assert!(matches!(&gone[0], FabricEvent::EniDetached { eni, .. } if eni.as_str() == "eni-2"), "{gone:?}");
}

#[test]
fn a_mac_that_cannot_be_read_names_its_eni() {
    let broken =
        eni("eni-1", 0, &["10.0.1.10"], "attached").replace("02:00:00:00:00:00", "02:00:00:15002x:24702x:24502x");
    let error = Snapshot::read(&documents(&broken), "i-1", "us-east-1").unwrap_err();
    assert_eq!(error.to_string(), "eni-1 has no usable `macAddress` (Some(\"02:00:00:15002x:24702x:24502x\"))");
}
