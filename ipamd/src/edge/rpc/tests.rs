// SPDX-License-Identifier: Apache-2.0
//! The handlers with a driver that answers from the test: what becomes an event, what a reply looks like on the wire.

use std::net::Ipv4Addr;

use ipamd_core::action::Plumbing;
use ipamd_core::ids::{DeviceIndex, PodRef, RouteTable};
use ipamd_core::reason::ReasonCode;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::*;
use crate::inbox::Input;

fn facts() -> InstanceFacts {
    InstanceFacts {
        instance_id: "i-1".into(),
        instance_type: "m5.large".to_owned(),
        availability_zone: "us-east-1a".to_owned(),
        region: "us-east-1".to_owned(),
        vpc_id: "vpc-1".into(),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        primary_eni_id: "eni-1".into(),
        primary_mac: "02:00:00:00:00:01".parse().unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 0, 10),
        subnet_id: "subnet-1".into(),
        subnet_cidr: "10.0.0.0/20".parse().unwrap(),
        security_group_ids: vec!["sg-1".into()],
    }
}

fn bench(external_snat: bool) -> (Backend, UnboundedReceiver<Input>, watch::Sender<Option<InstanceFacts>>) {
    let mut config = Config::default();
    config.snat.external = external_snat;
    let blocks = NatBlocks { exclude: vec!["192.168.0.0/16".parse().unwrap()], ..NatBlocks::default() };
    config.policy_mode = Some("standard".to_owned());
    config.pod_mtu = 1400;
    config.v6_egress = true;
    let (inbox, receiver) = Inbox::new();
    let facts = watch::Sender::new(Some(facts()));
    (
        Backend::new(
            &config,
            (inbox, Reporter::default(), Observer::new(clock::now())),
            facts.subscribe(),
            watch::Sender::new(blocks).subscribe(),
        ),
        receiver,
        facts,
    )
}

fn add() -> AddNetworkRequest {
    AddNetworkRequest {
        k8s_pod_name: "web-0".to_owned(),
        k8s_pod_namespace: "shop".to_owned(),
        container_id: "c1".to_owned(),
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        ..AddNetworkRequest::default()
    }
}

fn del() -> DelNetworkRequest {
    DelNetworkRequest {
        container_id: "c1".to_owned(),
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        reason: "PodDeleted".to_owned(),
        ..DelNetworkRequest::default()
    }
}

fn allocated() -> Allocated {
    Allocated {
        address: Ipv4Addr::new(10, 0, 0, 77),
        eni_id: "eni-2".into(),
        device_index: DeviceIndex(1),
        network_card: 0,
        table: RouteTable(2),
        plumbing: Plumbing::OwnRules,
    }
}

async fn next_call(receiver: &mut UnboundedReceiver<Input>) -> (RequestId, Event, oneshot::Sender<Reply>) {
    match receiver.recv().await.unwrap() {
        Input::Call { request, event, reply } => (request, event, reply),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_add_carries_key_pod_and_deadline_and_its_answer_all_fields_of_the_reference() {
    let (backend, mut receiver, _facts) = bench(false);
    let mut request = add();
    request.wait_budget_ms = Some(7_500);
    let before = clock::boot();
    let driver = async {
        let (request, event, reply) = next_call(&mut receiver).await;
        let Event::AddRequested { key, pod, deadline, .. } = event else { panic!("{event:?}") };
        assert_eq!(key.to_string(), "aws-cni/c1/eth0");
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "web-0"));
        let budget = deadline.since(before);
        assert!(budget >= Duration::from_secs(7) && budget < Duration::from_secs(8), "{budget:?}");
        reply.send(Reply::Add { request, result: Ok(allocated()) }).unwrap();
    };
    let (answer, ()) = tokio::join!(backend.add_network(Request::new(request)), driver);
    let answer = answer.unwrap().into_inner();
    let expected = AddNetworkReply {
        success: true,
        ip_allocation_metadata: vec![IpAllocationMetadata {
            ipv4_addr: "10.0.0.77".to_owned(),
            ipv6_addr: String::new(),
            device_number: 1,
            route_table_id: 2,
            pod_route_table: None,
            link_group: None,
        }],
        use_external_snat: false,
        vpc_v4_cidrs: vec!["10.0.0.0/16".to_owned(), "192.168.0.0/16".to_owned()],
        network_policy_mode: "standard".to_owned(),
        pod_mtu: Some(1400),
        v6_egress: Some(true),
        ..AddNetworkReply::default()
    };
    assert_eq!(answer, expected);
    assert!(receiver.try_recv().is_err(), "an answered call is not abandoned");
}

#[tokio::test]
async fn in_layout_flat_the_answer_names_the_pod_s_table_and_group_and_all_else_is_as_before() {
    for (plumbing, group) in [(Plumbing::NodeRules, None), (Plumbing::EniMark, Some(158_001))] {
        let (backend, mut receiver, _facts) = bench(false);
        let driver = async {
            let (request, _, reply) = next_call(&mut receiver).await;
            reply.send(Reply::Add { request, result: Ok(Allocated { plumbing, ..allocated() }) }).unwrap();
        };
        let (answer, ()) = tokio::join!(backend.add_network(Request::new(add())), driver);
        let allocation = answer.unwrap().into_inner().ip_allocation_metadata.remove(0);
        assert_eq!((allocation.device_number, allocation.route_table_id), (1, 2));
        assert_eq!((allocation.pod_route_table, allocation.link_group), (Some(158_000), group));
    }
}

#[tokio::test]
async fn with_external_snat_the_excluded_blocks_are_not_named() {
    let (backend, mut receiver, _facts) = bench(true);
    let driver = async {
        let (request, _, reply) = next_call(&mut receiver).await;
        reply.send(Reply::Add { request, result: Ok(allocated()) }).unwrap();
    };
    let (answer, ()) = tokio::join!(backend.add_network(Request::new(add())), driver);
    let answer = answer.unwrap().into_inner();
    assert!(answer.use_external_snat);
    assert_eq!(answer.vpc_v4_cidrs, ["10.0.0.0/16"]);
}

#[tokio::test]
async fn a_refusal_is_success_false_with_code_cause_and_retry_hint() {
    let (backend, mut receiver, _facts) = bench(false);
    let refusal = Refusal {
        code: ReasonCode::NodeFull,
        cause: "27 of 27 addresses are used".to_owned(),
        retry_after: Some(Duration::from_millis(1_500)),
    };
    let driver = async {
        let (request, _, reply) = next_call(&mut receiver).await;
        reply.send(Reply::Add { request, result: Err(refusal) }).unwrap();
    };
    let (answer, ()) = tokio::join!(backend.add_network(Request::new(add())), driver);
    let answer = answer.unwrap().into_inner();
    let refusal = answer.refusal.unwrap();
    assert!(!answer.success && answer.ip_allocation_metadata.is_empty());
    assert_eq!((refusal.code.as_str(), refusal.retry_after_ms), ("NodeFull", Some(1_500)));
    assert_eq!(refusal.cause, "27 of 27 addresses are used");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_waiter_with_it() {
    let (backend, mut receiver, _facts) = bench(false);
    let waiting = tokio::time::timeout(Duration::from_millis(50), backend.add_network(Request::new(add()))).await;
    assert!(waiting.is_err());
    let (asked, _, _reply) = next_call(&mut receiver).await;
    match receiver.recv().await.unwrap() {
        Input::Event(Event::RequestAbandoned { request }) => assert_eq!(request, asked),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_without_a_key_or_for_several_cards_never_reaches_the_driver() {
    let (backend, mut receiver, _facts) = bench(false);
    let nameless = AddNetworkRequest { container_id: String::new(), ..add() };
    let several = AddNetworkRequest { requires_multi_nic_attachment: true, ..add() };
    for request in [nameless, several] {
        let answer = backend.add_network(Request::new(request)).await.unwrap().into_inner();
        assert_eq!((answer.success, answer.refusal.unwrap().code.as_str()), (false, "InvalidRequest"));
    }
    let nameless = DelNetworkRequest { if_name: String::new(), ..del() };
    assert!(backend.del_network(Request::new(nameless)).await.unwrap().into_inner().success);
    assert!(receiver.try_recv().is_err());
}

#[tokio::test]
async fn another_version_is_refused_with_failed_precondition() {
    let (backend, _receiver, _facts) = bench(false);
    let request = AddNetworkRequest { client_version: "v0".to_owned(), ..add() };
    let status = backend.add_network(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn a_del_succeeds_with_and_without_an_address() {
    let (backend, mut receiver, _facts) = bench(false);
    // With nothing released the policy agent must not be told: the pod that has the name by now may be another.
    for (released, policy_mode) in [(Some(allocated()), "standard"), (None, "")] {
        let expected = usize::from(released.is_some());
        let driver = async {
            let (request, event, reply) = next_call(&mut receiver).await;
            assert!(matches!(event, Event::DelRequested { .. }));
            reply.send(Reply::Del { request, released }).unwrap();
        };
        let (answer, ()) = tokio::join!(backend.del_network(Request::new(del())), driver);
        let answer = answer.unwrap().into_inner();
        assert!(answer.success);
        assert_eq!(answer.ip_allocation_metadata.len(), expected);
        assert_eq!(answer.network_policy_mode, policy_mode);
    }
}

#[tokio::test]
async fn a_gc_carries_both_lists_and_its_answer_names_pods_and_addresses() {
    let (backend, mut receiver, _facts) = bench(false);
    let attachment = |container: &str| Attachment { container_id: container.to_owned(), if_name: "eth0".to_owned() };
    let call = CollectGarbageRequest {
        network_name: "aws-cni".to_owned(),
        keep: vec![attachment("c1")],
        gone: vec![attachment("c2")],
        spare_younger_ms: 60_000,
        ..CollectGarbageRequest::default()
    };
    let key = |container: &str| AllocationKey {
        network: "aws-cni".to_owned(),
        container_id: container.to_owned(),
        ifname: "eth0".to_owned(),
    };
    let driver = async {
        let (request, event, reply) = next_call(&mut receiver).await;
        let Event::GcRequested { garbage, .. } = event else { panic!("{event:?}") };
        let expected = Garbage {
            network: "aws-cni".to_owned(),
            keep: [key("c1")].into(),
            gone: [key("c2")].into(),
            spare_younger: Duration::from_secs(60),
        };
        assert_eq!(garbage, expected);
        let pod = PodRef { namespace: "shop".to_owned(), name: "web-0".to_owned() };
        reply
            .send(Reply::Gc { request, released: vec![Freed { key: key("c2"), pod, allocated: allocated() }] })
            .unwrap();
    };
    let (answer, ()) = tokio::join!(backend.collect_garbage(Request::new(call.clone())), driver);
    let released = answer.unwrap().into_inner().released;
    assert_eq!((released.len(), released[0].k8s_pod_name.as_str()), (1, "web-0"));
    assert_eq!(released[0].ip_allocation_metadata[0].ipv4_addr, "10.0.0.77");

    // An element that names nothing must not shorten the list of what is kept.
    let broken = CollectGarbageRequest { keep: vec![attachment("c1"), attachment("")], ..call };
    let status = backend.collect_garbage(Request::new(broken)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn the_policy_agent_is_told_who_the_node_is_once_that_is_known() {
    let (backend, _receiver, facts) = bench(false);
    let answer = backend.get_network_policy_configs(Request::new(())).await.unwrap().into_inner();
    assert_eq!(answer.network_policy_mode, "standard");
    assert_eq!(
        (answer.node_ipv4.as_str(), answer.instance_id.as_str(), answer.region.as_str()),
        ("10.0.0.10", "i-1", "us-east-1")
    );
    facts.send_replace(None);
    let status = backend.get_network_policy_configs(Request::new(())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
}
