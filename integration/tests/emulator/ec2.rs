// SPDX-License-Identifier: Apache-2.0
//! The EC2 query API. Forms of requests and answers: EC2 API reference, "Query requests" and "Error responses".

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use vpc_model::{Assigned, FabricEvent};

use crate::served::{NODE_1, SUBNET_A, Served, between, exchange, get, post, request};

#[test]
fn a_form_is_answered_in_xml_of_the_api_version() {
    let served = Served::start();
    let answer = served.call(&format!(
        "Action=CreateNetworkInterface&SubnetId={SUBNET_A}&Description=aws-K8S-i%2D0+x&SecondaryPrivateIpAddressCount=9"
    ));
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/xml"), "{}", answer.head);
    let root = "<CreateNetworkInterfaceResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>";
    assert!(answer.body.contains(root), "{}", answer.body);
    assert_eq!(between(&answer.body, "description"), "aws-K8S-i-0 x", "percent and plus are decoded");
    let id = between(&answer.body, "networkInterfaceId");
    let seen = get(
        served.ec2,
        &format!("/?Action=DescribeNetworkInterfaces&Version=2016-11-15&NetworkInterfaceId.1={id}"),
        &[],
    );
    assert_eq!((seen.status, between(&seen.body, "status").as_str()), (200, "available"));
}

#[test]
fn refusals_are_told_by_code_and_status() {
    let served = Served::start();
    for (form, status, code) in [
        ("Action=DescribeEverything", 400, "InvalidAction"),
        ("SubnetId.1=subnet-1", 400, "MissingAction"),
        ("Action=AssociateTrunkInterface", 400, "UnsupportedOperation"),
        ("Action=DescribeSubnets&DryRun=true", 412, "DryRunOperation"),
        ("Action=DescribeSubnets&Colour=red", 400, "UnknownParameter"),
        (
            "Action=DeleteNetworkInterface&NetworkInterfaceId=eni-0123456789abcdef0",
            400,
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ] {
        let answer = served.call(form);
        assert_eq!((answer.status, between(&answer.body, "Code").as_str()), (status, code), "{form}");
        assert!(answer.body.contains("</Errors><RequestID>"), "{}", answer.body);
    }
}

#[test]
fn a_signature_for_another_service_is_refused() {
    let served = Served::start();
    for (credential, status) in [
        ("Credential=AKIA/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0", 200),
        ("Credential=AKIA/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0", 400),
        ("nothing", 400),
    ] {
        let authorization = format!("AWS4-HMAC-SHA256 {credential}");
        let headers =
            [("Authorization", authorization.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
        let text = request("POST", "/", &headers, "Action=DescribeVpcs&Version=2016-11-15");
        assert_eq!(exchange(served.ec2, &text).unwrap().status, status, "{credential}");
    }
    let calls = served.emulator.with_model(|vpc, _| vpc.calls().cloned().collect::<Vec<_>>());
    assert_eq!(calls.len(), 1, "what is not for EC2 is no call");
    assert_eq!(calls[0].access_key.as_deref(), Some("AKIA"));
}

#[test]
fn an_answer_comes_after_its_latency_but_the_effect_is_at_once() {
    let served = Served::start();
    served.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.latencies.call_ms = 1_500));
    let before = served.emulator.with_model(|vpc, _| vpc.enis().count());
    let start = Instant::now();
    let mut stream = TcpStream::connect(served.ec2).unwrap();
    let form = format!("Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={SUBNET_A}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    stream.write_all(request("POST", "/", &headers, &form).as_bytes()).unwrap();
    let made = || served.emulator.with_model(|vpc, _| vpc.enis().count()) == before + 1;
    while !made() {
        assert!(start.elapsed() < Duration::from_millis(1_400), "the effect waited for the answer");
        std::thread::yield_now();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(start.elapsed() >= Duration::from_millis(1_500), "the answer came after {:?}", start.elapsed());
}

/// The promise to the packet fabric: when EC2 says that an address is assigned, it is.
#[test]
fn the_data_plane_has_an_event_before_its_call_is_answered() {
    let served = Served::start();
    assert_eq!(served.events.0.lock().unwrap().len(), 2, "two primary ENIs before anything else");
    let eni = served.primary_eni();
    let answer =
        served.call(&format!("Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&PrivateIpAddress.1=10.0.0.77"));
    let last = served.events.0.lock().unwrap().last().cloned();
    assert_eq!(answer.status, 200);
    let address = Assigned::Address("10.0.0.77".parse().unwrap());
    assert_eq!(last, Some(FabricEvent::AddressAssigned { eni: eni.as_str().into(), address }));
}

#[test]
fn time_alone_brings_the_link_of_an_attached_eni() {
    let served = Served::start();
    served.emulator.with_model(|vpc, _| vpc.change_settings(|settings| settings.latencies.attach_ms = 300));
    let made = served.call(&format!("Action=CreateNetworkInterface&SubnetId={SUBNET_A}"));
    let eni = between(&made.body, "networkInterfaceId");
    let start = Instant::now();
    let form = format!("Action=AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={NODE_1}&DeviceIndex=1");
    assert_eq!(served.call(&form).status, 200);
    let linked = || served.events.0.lock().unwrap().len() == 3;
    assert!(!linked(), "the link is there before its time");
    while !linked() {
        assert!(start.elapsed() < Duration::from_secs(10), "no link");
        std::thread::yield_now();
    }
    assert!(start.elapsed() >= Duration::from_millis(300), "the link came after {:?}", start.elapsed());
}

#[test]
fn a_fault_can_close_the_connection_or_keep_it_open_without_an_answer() {
    let served = Served::start();
    let order = |delivery: &str| {
        let fault =
            format!(r#"{{"action":"CreateNetworkInterface","effect":"after","delivery":"{delivery}","count":1}}"#);
        assert_eq!(served.control("POST", "/faults", &fault).status, 200);
    };
    let enis = || served.emulator.with_model(|vpc, _| vpc.enis().count());
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let form = format!("Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={SUBNET_A}");
    let text = request("POST", "/", &headers, &form);
    order("close");
    assert!(exchange(served.ec2, &text).is_none());
    assert_eq!(enis(), 3, "the call took place");
    order("hang");
    let mut stream = TcpStream::connect(served.ec2).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "neither an answer nor an end");
    assert_eq!(enis(), 4, "the call took place");
    assert_eq!(post(served.ec2, "/", headers[0].1, &form).status, 200, "the next call is answered");
}
