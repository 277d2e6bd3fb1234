// SPDX-License-Identifier: Apache-2.0
//! IMDS fed from Describe calls, here of the emulator itself: both ways must tell an instance the same. (LocalStack, which we
//! did not write, has a scenario of its own.)

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration::emulator::serve;
use integration::imds_http::{ForeignEc2, QueryClient, router};
use vpc_model::FabricEvent;

use crate::served::{NODE_1, Recorder, SUBNET_A, Served, between, exchange, get, request};

fn token(at: std::net::SocketAddr) -> String {
    let headers = [("X-aws-ec2-metadata-token-ttl-seconds", "60")];
    exchange(at, &request("PUT", "/latest/api/token", &headers, "")).unwrap().body
}

/// Every item below a listing, with its text.
fn walk(at: std::net::SocketAddr, token: &str, path: &str, found: &mut Vec<(String, String)>) {
    let listing = get(at, path, &[("X-aws-ec2-metadata-token", token)]).body;
    for name in listing.lines() {
        let below = format!("{path}{name}");
        if name.ends_with('/') {
            walk(at, token, &below, found);
        } else {
            let text = get(at, &below, &[("X-aws-ec2-metadata-token", token)]).body;
            found.push((below, text));
        }
    }
}

#[test]
fn imds_fed_from_describe_calls_says_what_imds_of_the_model_says() {
    let served = Served::start();
    let _inside = served.runtime.enter();
    let made =
        served.call(&format!("Action=CreateNetworkInterface&SubnetId={SUBNET_A}&SecondaryPrivateIpAddressCount=3"));
    let eni = between(&made.body, "networkInterfaceId");
    let attach = format!("Action=AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={NODE_1}&DeviceIndex=1");
    assert_eq!(served.call(&attach).status, 200);
    let foreign = Arc::new(ForeignEc2::new(QueryClient::new(served.ec2, "us-east-1"), NODE_1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    serve(listener, router(foreign.clone())).unwrap();
    let early = get(at, "/latest/meta-data/mac", &[("X-aws-ec2-metadata-token", &token(at))]);
    assert_eq!(early.status, 503, "nothing is known before the first look");
    let events = served.runtime.block_on(foreign.refresh()).unwrap();
    assert_eq!(events.len(), 2, "two ENIs: {events:?}");

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    walk(served.imds, &token(served.imds), "/latest/meta-data/", &mut ours);
    walk(at, &token(at), "/latest/meta-data/", &mut theirs);
    // Describe has no zone id in the fields that are read, and credentials are dated by the clock.
    let same = |(path, _): &(String, String)| !path.contains("availability-zone-id") && !path.contains("/iam/");
    ours.retain(same);
    theirs.retain(same);
    assert!(ours.len() > 40, "{ours:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn a_data_plane_follows_a_foreign_ec2() {
    let served = Served::start();
    let _inside = served.runtime.enter();
    let eni = served.primary_eni();
    let foreign = Arc::new(ForeignEc2::new(QueryClient::new(served.ec2, "us-east-1"), NODE_1));
    let events = Recorder::default();
    let task = foreign.poll(Duration::from_millis(50), Box::new(events.clone()));
    let wait_for = |count: usize| {
        let start = Instant::now();
        while events.0.lock().unwrap().len() < count {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", events.0.lock().unwrap());
            std::thread::yield_now();
        }
    };
    wait_for(1);
    let form = format!("Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&PrivateIpAddress.1=10.0.0.77");
    assert_eq!(served.call(&form).status, 200);
    wait_for(2);
    let form = format!("Action=UnassignPrivateIpAddresses&NetworkInterfaceId={eni}&PrivateIpAddress.1=10.0.0.77");
    assert_eq!(served.call(&form).status, 200);
    wait_for(3);
    task.abort();
    let kinds: Vec<&str> = events
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|event| match event {
            FabricEvent::EniAttached(_) => "attached",
            FabricEvent::AddressAssigned { .. } => "assigned",
            FabricEvent::AddressUnassigned { .. } => "unassigned",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["attached", "assigned", "unassigned"]);
}
