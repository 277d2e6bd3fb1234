// SPDX-License-Identifier: Apache-2.0
//! Descriptions: of ENIs, of subnets, of instance types; repeated, cached, and asked for once.

use super::*;

#[tokio::test]
async fn a_description_has_all_pages_and_leaves_unknown_ids_out() {
    let action = "DescribeNetworkInterfaces";
    let by_instance =
        [("Filter.1.Name", "attachment.instance-id"), ("Filter.1.Value.1", "i-1"), ("MaxResults", "1000")];
    let mut second_page = by_instance.to_vec();
    second_page.push(("NextToken", "page-2"));
    let set = |id: &str, last, extra: &str| {
        format!("<networkInterfaceSet><item>{}</item></networkInterfaceSet>", eni_xml(id, last, extra))
    };
    let bench = Bench::new(vec![
        ok(action, &by_instance, &format!("{}<nextToken>page-2</nextToken>", set("eni-2", 2, ATTACHED))),
        ok(action, &second_page, &set("eni-1", 1, ATTACHED)),
        ok(
            action,
            &[("Filter.1.Name", "network-interface-id"), ("Filter.1.Value.1", "eni-gone"), ("MaxResults", "1000")],
            "<networkInterfaceSet/>",
        ),
        ok(
            action,
            &[("Filter.1.Name", "tag:enid.dev/client-token"), ("Filter.1.Value.1", "t-7"), ("MaxResults", "1000")],
            &set("eni-3", 3, "<status>available</status>"),
        ),
    ])
    .await;
    let before = clock();
    let outcome = bench
        .run(ActionKind::DescribeEnis {
            instance_id: "i-1".into(),
            also: vec!["eni-gone".into(), "eni-1".into()],
            tokens: vec!["t-7".to_owned()],
        })
        .await;
    let Outcome::EnisDescribed { enis, read_at } = outcome else { panic!("{outcome:?}") };
    assert!(read_at >= before && read_at <= clock());
    let ids: Vec<&str> = enis.iter().map(|eni| eni.eni_id.as_str()).collect();
    assert_eq!(ids, ["eni-1", "eni-2", "eni-3"]);
    let attachment = enis[0].attachment.as_ref().unwrap();
    assert_eq!((attachment.device_index, attachment.status.as_str()), (DeviceIndex(2), "attached"));
    assert!(attachment.delete_on_termination && attachment.instance_id == Some("i-1".into()));
    assert_eq!(enis[0].tags, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(enis[2].attachment, None);
    bench.finish();
}

#[tokio::test]
async fn an_eni_without_ipv4_is_described_and_a_managed_one_or_another_account_s_is_foreign() {
    let xml = "<networkInterfaceSet><item><networkInterfaceId>eni-efa</networkInterfaceId><subnetId>subnet-1</subnetId>\
        <macAddress>0e:00:00:00:00:01</macAddress><interfaceType>efa-only</interfaceType>\
        <operator><managed>true</managed><principal>eks.amazonaws.com</principal></operator></item>\
        <item><networkInterfaceId>eni-other</networkInterfaceId><subnetId>subnet-1</subnetId><ownerId>222222222222</ownerId>\
        <macAddress>0e:00:00:00:00:02</macAddress><privateIpAddress>10.0.1.9</privateIpAddress><attachment>\
        <attachmentId>eni-attach-2</attachmentId><instanceOwnerId>111111111111</instanceOwnerId><deviceIndex>1</deviceIndex>\
        </attachment></item></networkInterfaceSet>";
    let params = [("Filter.1.Name", "attachment.instance-id"), ("Filter.1.Value.1", "i-1"), ("MaxResults", "1000")];
    let bench = Bench::new(vec![ok("DescribeNetworkInterfaces", &params, xml)]).await;
    let kind = ActionKind::DescribeEnis { instance_id: "i-1".into(), also: Vec::new(), tokens: Vec::new() };
    let Outcome::EnisDescribed { enis, .. } = bench.run(kind).await else { panic!("not described") };
    assert_eq!(enis[0].primary_address, Ipv4Addr::UNSPECIFIED);
    assert!(enis[0].foreign && enis[0].interface_type == "efa-only");
    assert!(enis[1].foreign && enis[1].vpc_id.is_none(), "of another account than the instance");
    bench.finish();
}

#[tokio::test]
async fn a_failed_read_is_repeated_by_the_sdk_and_its_answer_cached() {
    let bench = Bench::new(vec![
        error("DescribeSubnets", &ONE_SUBNET, (500, "InternalError", "An internal error has occurred")),
        ok("DescribeSubnets", &ONE_SUBNET, SUBNET),
    ])
    .await;
    let kind = ActionKind::DescribeSubnets(SubnetQuery::Id("subnet-1".into()));
    for _ in 0..2 {
        let Outcome::SubnetsDescribed(views) = bench.run(kind.clone()).await else { panic!("no subnet") };
        let (cidr, available) = (views[0].cidr, views[0].available);
        assert_eq!((cidr, available), ("10.0.1.0/24".parse().unwrap(), 77), "the second answer is the cached first");
    }
    bench.finish();
}

#[tokio::test]
async fn equal_reads_at_once_are_one_call() {
    let answer = Step { delay: Duration::from_millis(100), ..ok("DescribeSubnets", &ONE_SUBNET, SUBNET) };
    let bench = Bench::new(vec![answer]).await;
    let kind = ActionKind::DescribeSubnets(SubnetQuery::Id("subnet-1".into()));
    let reads = (0..8).map(|_| (bench.ec2.clone(), kind.clone()));
    let reads: Vec<_> =
        reads.map(|(ec2, kind)| tokio::spawn(async move { ec2.run(Priority::Describe, &kind).await })).collect();
    for read in reads {
        assert!(matches!(read.await.unwrap(), Outcome::SubnetsDescribed(_)));
    }
    bench.finish();
}

#[tokio::test]
async fn the_subnets_of_a_zone_come_with_their_tags() {
    let params = [
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", "vpc-1"),
        ("Filter.2.Name", "availability-zone"),
        ("Filter.2.Value.1", "us-east-1a"),
        ("MaxResults", "1000"),
    ];
    let content = "<subnetSet><item><subnetId>subnet-2</subnetId><cidrBlock>10.0.2.0/24</cidrBlock>\
        <availableIpAddressCount>7</availableIpAddressCount><availabilityZone>us-east-1a</availabilityZone><tagSet>\
        <item><key>kubernetes.io/role/cni</key><value>1</value></item></tagSet></item><item><subnetId>subnet-1</subnetId>\
        <cidrBlock>10.0.1.0/24</cidrBlock><availableIpAddressCount>77</availableIpAddressCount></item></subnetSet>";
    let bench = Bench::new(vec![ok("DescribeSubnets", &params, content)]).await;
    let zone = SubnetQuery::Zone { vpc_id: "vpc-1".into(), availability_zone: "us-east-1a".to_owned() };
    let Outcome::SubnetsDescribed(views) = bench.run(ActionKind::DescribeSubnets(zone)).await else {
        panic!("not read")
    };
    let ids: Vec<&str> = views.iter().map(|view| view.subnet_id.as_str()).collect();
    assert_eq!(ids, ["subnet-1", "subnet-2"]);
    assert_eq!(views[1].tags, [("kubernetes.io/role/cni".to_owned(), "1".to_owned())]);
    bench.finish();
}

#[tokio::test]
async fn subnets_that_are_named_come_with_vpc_and_zone_and_those_that_there_are_not_are_left_out() {
    let params = [
        ("Filter.1.Name", "subnet-id"),
        ("Filter.1.Value.1", "subnet-1"),
        ("Filter.1.Value.2", "subnet-2"),
        ("MaxResults", "1000"),
    ];
    let content = "<subnetSet><item><subnetId>subnet-2</subnetId><vpcId>vpc-9</vpcId><cidrBlock>10.0.2.0/24</cidrBlock>\
        <availableIpAddressCount>7</availableIpAddressCount><availabilityZone>us-east-1b</availabilityZone></item></subnetSet>";
    let bench = Bench::new(vec![ok("DescribeSubnets", &params, content)]).await;
    let named = SubnetQuery::Named(vec!["subnet-1".into(), "subnet-2".into()]);
    let Outcome::SubnetsDescribed(views) = bench.run(ActionKind::DescribeSubnets(named)).await else {
        panic!("not read")
    };
    let [view] = views.as_slice() else { panic!("{views:?}") };
    assert_eq!((view.vpc_id.as_str(), view.availability_zone.as_str()), ("vpc-9", "us-east-1b"));
    bench.finish();
}

#[tokio::test]
async fn limits_of_an_unlisted_type_come_from_ec2_once() {
    let content = "<instanceTypeSet><item><instanceType>m9.new</instanceType><bareMetal>false</bareMetal>\
        <hypervisor>nitro</hypervisor><vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo><networkInfo>\
        <maximumNetworkInterfaces>3</maximumNetworkInterfaces><defaultNetworkCardIndex>0</defaultNetworkCardIndex>\
        <networkCards><item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>3</maximumNetworkInterfaces>\
        </item></networkCards><ipv4AddressesPerInterface>10</ipv4AddressesPerInterface>\
        <ipv6AddressesPerInterface>10</ipv6AddressesPerInterface><ipv6Supported>true</ipv6Supported></networkInfo></item>\
        </instanceTypeSet>";
    let bench = Bench::new(vec![
        ok("DescribeInstanceTypes", &[("InstanceType.1", "m9.new")], content),
        ok("DescribeInstanceTypes", &[("InstanceType.1", "m9.none")], "<instanceTypeSet/>"),
    ])
    .await;
    for _ in 0..2 {
        let limits = bench.ec2.instance_limits("m9.new").await.unwrap();
        assert_eq!((limits.max_enis(), limits.ipv4_per_eni, limits.takes_prefixes()), (3, 10, true));
    }
    assert_eq!(bench.ec2.instance_limits("m9.none").await.unwrap_err().code, "UnreadableAnswer");
    bench.finish();
}
