// SPDX-License-Identifier: Apache-2.0
//! The edge against a strict scripted EC2 on loopback: every request must be the next one of the script, with exactly its
//! parameters. Answers and parameter names are written from the EC2 API reference.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::Credentials;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ipamd_core::ids::{BootTime, DeviceIndex};

use super::*;
use crate::config::{retries, timeouts};
use crate::route::http_client;
use crate::trust::Trust;
use crate::watch::Watcher;

mod reads;
mod watched;

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// One request that must come, and its answer. `delay`: how long the answer takes.
struct Step {
    params: BTreeMap<String, String>,
    status: u16,
    body: String,
    delay: Duration,
}

fn step(params: &[(&str, &str)], body: &str) -> Step {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Step { params, status: 200, body: body.to_owned(), delay: Duration::ZERO }
}

fn ok(action: &str, params: &[(&str, &str)], content: &str) -> Step {
    let mut all = vec![("Action", action), ("Version", "2016-11-15")];
    all.extend(params);
    step(&all, &answer_xml(action, content))
}

/// An answer of EC2's to an action.
pub(crate) fn answer_xml(action: &str, content: &str) -> String {
    format!(r#"{HEAD}<{action}Response xmlns="{NAMESPACE}"><requestId>r-1</requestId>{content}</{action}Response>"#)
}

/// EC2's refusal.
pub(crate) fn error_xml(code: &str, message: &str) -> String {
    format!(
        "{HEAD}<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r-2</RequestID></Response>"
    )
}

fn error(action: &str, params: &[(&str, &str)], (status, code, message): (u16, &str, &str)) -> Step {
    Step { status, body: error_xml(code, message), ..ok(action, params, "") }
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    complaints: Vec<String>,
}

type Shared = Arc<Mutex<Script>>;

async fn serve(State(script): State<Shared>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let got: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let signed = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256") && value.contains("/us-east-1/ec2/aws4_request"));
    let step = {
        let mut script = script.lock().unwrap();
        let step = script.steps.pop_front();
        match &step {
            Some(step) if step.params == got && signed => {}
            Some(step) => script.complaints.push(format!("want {:?}\ngot  {got:?} signed: {signed}", step.params)),
            None => script.complaints.push(format!("unexpected {got:?}")),
        }
        step
    };
    let Some(step) = step else { return (StatusCode::IM_A_TEAPOT, String::new()) };
    answer_after(step.delay).await;
    (StatusCode::from_u16(step.status).unwrap(), step.body)
}

#[expect(clippy::disallowed_methods, reason = "a slow EC2")]
async fn answer_after(delay: Duration) {
    tokio::time::sleep(delay).await;
}

/// The scripted EC2 and the edge that talks to it.
struct Bench {
    ec2: Ec2,
    script: Shared,
}

impl Bench {
    async fn new(steps: Vec<Step>) -> Self {
        Self::with_timeout(steps, Duration::from_secs(10)).await
    }

    async fn with_timeout(steps: Vec<Step>, http_timeout: Duration) -> Self {
        Self::watched(steps, http_timeout, None).await
    }

    async fn watched(steps: Vec<Step>, http_timeout: Duration, watcher: Watcher) -> Self {
        let script = Arc::new(Mutex::new(Script { steps: steps.into(), complaints: Vec::new() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { ec2: client(&endpoint, http_timeout, watcher), script }
    }

    async fn run(&self, kind: ActionKind) -> Outcome {
        self.ec2.run(Priority::Waiting, &kind).await
    }

    fn finish(self) {
        let script = self.script.lock().unwrap();
        assert!(script.complaints.is_empty(), "{}", script.complaints.join("\n"));
        assert!(script.steps.is_empty(), "{} steps were not asked for", script.steps.len());
    }
}

/// Time since the first call in this process: all the bucket needs.
#[expect(clippy::disallowed_methods, reason = "the test's own clock edge")]
fn clock() -> BootTime {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BootTime(START.get_or_init(std::time::Instant::now).elapsed())
}

fn client(endpoint: &str, http_timeout: Duration, watcher: Watcher) -> Ec2 {
    let settings =
        Settings { http_timeout, ec2_endpoint: None, ca_bundle: None, proxies: Default::default(), clock, watcher };
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(Trust::new(None), &settings.proxies).unwrap())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .retry_config(retries())
        .timeout_config(timeouts(http_timeout))
        .endpoint_url(endpoint);
    Ec2::new(config, &settings)
}

/// One ENI as CreateNetworkInterface and DescribeNetworkInterfaces show it.
pub(crate) fn eni_xml(id: &str, last: u8, extra: &str) -> String {
    format!(
        "<networkInterfaceId>{id}</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
         <description>aws-K8S-i-1</description><requesterManaged>false</requesterManaged>\
         <macAddress>0e:00:00:00:00:{last:02x}</macAddress><privateIpAddress>10.0.1.{last}</privateIpAddress>\
         <interfaceType>interface</interfaceType>\
         <privateIpAddressesSet><item><privateIpAddress>10.0.1.{last}</privateIpAddress><primary>true</primary></item>\
         <item><privateIpAddress>10.0.1.{}</privateIpAddress><primary>false</primary></item></privateIpAddressesSet>\
         <tagSet><item><key>k</key><value>v</value></item></tagSet>{extra}",
        last + 100
    )
}

pub(crate) const ATTACHED: &str = "<status>in-use</status><attachment><attachmentId>eni-attach-1</attachmentId>\
    <deviceIndex>2</deviceIndex><networkCardIndex>0</networkCardIndex><instanceId>i-1</instanceId>\
    <status>attached</status><deleteOnTermination>true</deleteOnTermination></attachment>";

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn create_sends_addresses_groups_tags_and_token_in_one_call() {
    let params = [
        ("SubnetId", "subnet-1"),
        ("Description", "aws-K8S-i-1"),
        ("SecurityGroupId.1", "sg-1"),
        ("SecurityGroupId.2", "sg-2"),
        ("SecondaryPrivateIpAddressCount", "9"),
        ("ClientToken", "token-1"),
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "node.k8s.amazonaws.com/instance_id"),
        ("TagSpecification.1.Tag.1.Value", "i-1"),
    ];
    let eni = eni_xml("eni-1", 10, "<status>pending</status>");
    let content = format!("<networkInterface>{eni}</networkInterface><clientToken>token-1</clientToken>");
    let bench = Bench::new(vec![ok("CreateNetworkInterface", &params, &content)]).await;
    let outcome = bench
        .run(ActionKind::CreateEni {
            subnet_id: "subnet-1".into(),
            security_group_ids: vec!["sg-1".into(), "sg-2".into()],
            fill: Fill::Addresses(9),
            client_token: "token-1".to_owned(),
            description: "aws-K8S-i-1".to_owned(),
            tags: vec![("node.k8s.amazonaws.com/instance_id".to_owned(), "i-1".to_owned())],
        })
        .await;
    let Outcome::EniCreated(view) = outcome else { panic!("{outcome:?}") };
    assert_eq!(view.eni_id, "eni-1".into());
    assert_eq!(view.primary_address, Ipv4Addr::new(10, 0, 1, 10));
    assert_eq!(view.secondary_addresses, [Ipv4Addr::new(10, 0, 1, 110)]);
    assert_eq!(view.status, "pending", "a status that the service model lacks is kept");
    assert_eq!(view.attachment, None);
    bench.finish();
}

#[tokio::test]
async fn attach_names_the_card_and_is_not_repeated_after_a_server_error() {
    let params =
        [("NetworkInterfaceId", "eni-1"), ("InstanceId", "i-1"), ("DeviceIndex", "3"), ("NetworkCardIndex", "0")];
    let attach = || ActionKind::AttachEni {
        eni_id: "eni-1".into(),
        instance_id: "i-1".into(),
        device_index: DeviceIndex(3),
        network_card: 0,
    };
    let action = "AttachNetworkInterface";
    let limit = (400, "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for m5.large");
    let bench = Bench::new(vec![
        ok(action, &params, "<attachmentId>eni-attach-9</attachmentId><networkCardIndex>0</networkCardIndex>"),
        error(action, &params, (500, "InternalError", "An internal error has occurred")),
        error(action, &params, limit),
    ])
    .await;
    let Outcome::EniAttached { attachment_id } = bench.run(attach()).await else { panic!("not attached") };
    assert_eq!(attachment_id, "eni-attach-9".into());
    assert_eq!(failure(bench.run(attach()).await).class, FailureClass::Unknown);
    let failure = failure(bench.run(attach()).await);
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::AttachmentLimit, "AttachmentLimitExceeded"));
    assert!(failure.message.contains("Interface count 4"), "{}", failure.message);
    bench.finish();
}

#[tokio::test]
async fn assign_by_count_is_sent_once_and_a_lost_answer_is_unknown() {
    let params = [("NetworkInterfaceId", "eni-1"), ("SecondaryPrivateIpAddressCount", "2")];
    let content = "<networkInterfaceId>eni-1</networkInterfaceId><assignedPrivateIpAddressesSet>\
        <item><privateIpAddress>10.0.1.5</privateIpAddress></item>\
        <item><privateIpAddress>10.0.1.6</privateIpAddress></item></assignedPrivateIpAddressesSet>";
    let mut slow = ok("AssignPrivateIpAddresses", &params, content);
    slow.delay = Duration::from_secs(5);
    let steps = vec![ok("AssignPrivateIpAddresses", &params, content), slow];
    let bench = Bench::with_timeout(steps, Duration::from_millis(300)).await;
    let assign = || ActionKind::Assign { eni_id: "eni-1".into(), fill: Fill::Addresses(2) };
    let Outcome::Assigned { addresses, .. } = bench.run(assign()).await else { panic!("not assigned") };
    assert_eq!(addresses, [Ipv4Addr::new(10, 0, 1, 5), Ipv4Addr::new(10, 0, 1, 6)]);
    let failure = failure(bench.run(assign()).await);
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Unknown, "Timeout"));
    bench.finish();
}

/// A second attempt that is refused would hide that the first one may have taken effect.
#[tokio::test]
async fn unassign_and_detach_are_not_repeated_after_a_server_error() {
    let lost = (500, "InternalError", "An internal error has occurred");
    let bench = Bench::new(vec![
        error(
            "UnassignPrivateIpAddresses",
            &[("NetworkInterfaceId", "eni-1"), ("PrivateIpAddress.1", "10.0.1.5")],
            lost,
        ),
        error("DetachNetworkInterface", &[("AttachmentId", "eni-attach-1")], lost),
    ])
    .await;
    let addresses = vec![Ipv4Addr::new(10, 0, 1, 5)];
    let unassign = ActionKind::Unassign { eni_id: "eni-1".into(), addresses, prefixes: Vec::new() };
    let detach = ActionKind::DetachEni { eni_id: "eni-1".into(), attachment_id: "eni-attach-1".into() };
    for kind in [unassign, detach] {
        assert_eq!(failure(bench.run(kind).await).class, FailureClass::Transient);
    }
    bench.finish();
}

#[tokio::test]
async fn what_is_gone_already_counts_as_deleted_and_detached() {
    let bench = Bench::new(vec![
        error(
            "DeleteNetworkInterface",
            &[("NetworkInterfaceId", "eni-1")],
            (400, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID 'eni-1' does not exist"),
        ),
        error(
            "DetachNetworkInterface",
            &[("AttachmentId", "eni-attach-1")],
            (400, "InvalidAttachmentID.NotFound", "The attachment does not exist"),
        ),
        error(
            "DeleteNetworkInterface",
            &[("NetworkInterfaceId", "eni-2")],
            (400, "InvalidParameterValue", "Network interface 'eni-2' is currently in use."),
        ),
    ])
    .await;
    assert!(matches!(bench.run(ActionKind::DeleteEni { eni_id: "eni-1".into() }).await, Outcome::Done));
    let detach = ActionKind::DetachEni { eni_id: "eni-1".into(), attachment_id: "eni-attach-1".into() };
    assert!(matches!(bench.run(detach).await, Outcome::Done));
    let in_use = failure(bench.run(ActionKind::DeleteEni { eni_id: "eni-2".into() }).await);
    assert_eq!(in_use.class, FailureClass::WrongState);
    bench.finish();
}

#[tokio::test]
async fn unassign_and_delete_on_termination_use_the_singular_and_dotted_wire_names() {
    let bench = Bench::new(vec![
        ok(
            "UnassignPrivateIpAddresses",
            &[("NetworkInterfaceId", "eni-1"), ("PrivateIpAddress.1", "10.0.1.5"), ("PrivateIpAddress.2", "10.0.1.6")],
            "<return>true</return>",
        ),
        ok(
            "ModifyNetworkInterfaceAttribute",
            &[
                ("NetworkInterfaceId", "eni-1"),
                ("Attachment.AttachmentId", "eni-attach-1"),
                ("Attachment.DeleteOnTermination", "true"),
            ],
            "<return>true</return>",
        ),
    ])
    .await;
    let addresses = vec![Ipv4Addr::new(10, 0, 1, 5), Ipv4Addr::new(10, 0, 1, 6)];
    assert!(matches!(
        bench.run(ActionKind::Unassign { eni_id: "eni-1".into(), addresses, prefixes: Vec::new() }).await,
        Outcome::Done
    ));
    let kind = ActionKind::SetDeleteOnTermination { eni_id: "eni-1".into(), attachment_id: "eni-attach-1".into() };
    assert!(matches!(bench.run(kind).await, Outcome::Done));
    bench.finish();
}

const ONE_SUBNET: [(&str, &str); 3] =
    [("Filter.1.Name", "subnet-id"), ("Filter.1.Value.1", "subnet-1"), ("MaxResults", "1000")];
const SUBNET: &str = "<subnetSet><item><subnetId>subnet-1</subnetId><cidrBlock>10.0.1.0/24</cidrBlock>\
    <availableIpAddressCount>77</availableIpAddressCount></item></subnetSet>";

#[tokio::test]
async fn a_throttled_call_is_not_repeated_by_the_sdk_and_comes_back_when_our_bucket_says() {
    let throttled = (503, "RequestLimitExceeded", "Request limit exceeded.");
    let bench = Bench::new(vec![error("DescribeSubnets", &ONE_SUBNET, throttled)]).await;
    let kind = ActionKind::DescribeSubnets(SubnetQuery::Id("subnet-1".into()));
    let Outcome::Failed(failure) = bench.run(kind.clone()).await else { panic!("not throttled") };
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Throttled, "RequestLimitExceeded"));
    // A quarter of two a second, and up to two tokens' time.
    assert!(failure.retry_after.is_some_and(|after| after <= Duration::from_secs(4)), "{failure:?}");
    let rate = bench.ec2.throttle.rate("DescribeSubnets");
    assert!(rate < 0.6, "a throttled call quarters the rate: {rate}");
    // A look waits behind everything else: it is refused without a call.
    let Outcome::Failed(failure) = bench.ec2.run(Priority::Describe, &kind).await else { panic!("not held back") };
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Throttled, "OwnRequestLimit"));
    assert!(failure.retry_after.is_some_and(|after| after > Duration::from_secs(8)), "{failure:?}");
    bench.finish();
}

#[tokio::test]
async fn prefixes_are_asked_for_by_count_and_given_back_by_name() {
    let content = "<networkInterfaceId>eni-1</networkInterfaceId><assignedIpv4PrefixSet><item>\
        <ipv4Prefix>10.0.1.16/28</ipv4Prefix></item></assignedIpv4PrefixSet>";
    let eni = eni_xml("eni-1", 10, "<status>pending</status>");
    let created = format!("<networkInterface>{eni}</networkInterface><clientToken>token-1</clientToken>");
    let bench = Bench::new(vec![
        ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", "eni-1"), ("Ipv4PrefixCount", "1")], content),
        ok(
            "UnassignPrivateIpAddresses",
            &[("NetworkInterfaceId", "eni-1"), ("Ipv4Prefix.1", "10.0.1.16/28")],
            "<return>true</return>",
        ),
        ok(
            "CreateNetworkInterface",
            &[
                ("SubnetId", "subnet-1"),
                ("Ipv4PrefixCount", "2"),
                ("Description", ""),
                ("ClientToken", "token-1"),
                ("TagSpecification.1.ResourceType", "network-interface"),
            ],
            &created,
        ),
    ])
    .await;
    let assign = ActionKind::Assign { eni_id: "eni-1".into(), fill: Fill::Prefixes(1) };
    let Outcome::Assigned { addresses, prefixes } = bench.run(assign).await else { panic!("not assigned") };
    assert_eq!((addresses.len(), prefixes.as_slice()), (0, ["10.0.1.16/28".parse().unwrap()].as_slice()));
    let unassign = ActionKind::Unassign { eni_id: "eni-1".into(), addresses: Vec::new(), prefixes };
    assert!(matches!(bench.run(unassign).await, Outcome::Done));
    let create = ActionKind::CreateEni {
        subnet_id: "subnet-1".into(),
        security_group_ids: Vec::new(),
        fill: Fill::Prefixes(2),
        client_token: "token-1".to_owned(),
        description: String::new(),
        tags: Vec::new(),
    };
    assert!(matches!(bench.run(create).await, Outcome::EniCreated(_)));
    bench.finish();
}

#[tokio::test]
async fn groups_and_tags_of_an_eni_are_set_and_leaked_ones_are_found_by_tag() {
    let leaked = [
        ("Filter.1.Name", "tag-key"),
        ("Filter.1.Value.1", "node.k8s.amazonaws.com/instance_id"),
        ("Filter.2.Name", "status"),
        ("Filter.2.Value.1", "available"),
        ("Filter.3.Name", "vpc-id"),
        ("Filter.3.Value.1", "vpc-1"),
        ("Filter.4.Name", "tag:cluster.k8s.amazonaws.com/name"),
        ("Filter.4.Value.1", "blue"),
        ("MaxResults", "1000"),
    ];
    let of = "<tagSet><item><key>node.k8s.amazonaws.com/instance_id</key><value>i-2</value></item></tagSet>";
    let item = |xml: String| format!("<networkInterfaceSet><item>{xml}</item></networkInterfaceSet>");
    let found = item(eni_xml("eni-7", 10, &format!("<status>available</status>{of}")));
    let makers = [
        ("Filter.1.Name", "attachment.device-index"),
        ("Filter.1.Value.1", "0"),
        ("Filter.2.Name", "attachment.instance-id"),
        ("Filter.2.Value.1", "i-2"),
        ("MaxResults", "1000"),
    ];
    let attached = "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>0</deviceIndex>\
                    <instanceId>i-2</instanceId><status>attached</status></attachment>";
    let primary = item(eni_xml("eni-6", 20, attached));
    let bench = Bench::new(vec![
        ok(
            "ModifyNetworkInterfaceAttribute",
            &[("NetworkInterfaceId", "eni-1"), ("SecurityGroupId.1", "sg-1"), ("SecurityGroupId.2", "sg-2")],
            "<return>true</return>",
        ),
        ok(
            "CreateTags",
            &[("ResourceId.1", "eni-1"), ("Tag.1.Key", "k"), ("Tag.1.Value", "v")],
            "<return>true</return>",
        ),
        ok("DescribeNetworkInterfaces", &leaked, &found),
        ok("DescribeNetworkInterfaces", &makers, &primary),
    ])
    .await;
    let groups = vec!["sg-1".into(), "sg-2".into()];
    let set = ActionKind::SetSecurityGroups { eni_id: "eni-1".into(), security_group_ids: groups };
    assert!(matches!(bench.run(set).await, Outcome::Done));
    let tag = ActionKind::TagEni { eni_id: "eni-1".into(), tags: vec![("k".to_owned(), "v".to_owned())] };
    assert!(matches!(bench.run(tag).await, Outcome::Done));
    let read = ActionKind::DescribeLeakedEnis { vpc_id: "vpc-1".into(), cluster_name: Some("blue".to_owned()) };
    let Outcome::LeakedEnisDescribed { enis, living } = bench.run(read).await else { panic!("not read") };
    assert_eq!(enis[0].eni_id, "eni-7".into());
    assert_eq!(living.into_iter().collect::<Vec<_>>(), ["i-2".into()]);
    bench.finish();
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ec2 = client(&endpoint, Duration::from_secs(2), None);
    let kind = ActionKind::Assign { eni_id: "eni-1".into(), fill: Fill::Addresses(1) };
    let failure = failure(ec2.run(Priority::Waiting, &kind).await);
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Transient, "NoConnection"), "{failure:?}");
}

#[tokio::test]
async fn a_kernel_action_is_refused() {
    let bench = Bench::new(Vec::new()).await;
    assert_eq!(failure(bench.run(ActionKind::ObserveKernel).await).code, "NotEc2");
    bench.finish();
}
