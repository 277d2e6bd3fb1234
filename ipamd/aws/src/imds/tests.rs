// SPDX-License-Identifier: Apache-2.0
//! The edge against a small IMDSv2 on loopback: token by PUT, every read needs a valid one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};

use super::*;

/// Items by path below `/latest/meta-data/`, and the tokens given so far; only the newest is valid.
#[derive(Default)]
struct Fake {
    items: Mutex<HashMap<String, String>>,
    tokens: AtomicU32,
}

async fn serve(
    State(fake): State<Arc<Fake>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<(HeaderMap, String), StatusCode> {
    if method == Method::PUT && uri.path() == "/latest/api/token" {
        let ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds").ok_or(StatusCode::BAD_REQUEST)?;
        let mut answer = HeaderMap::new();
        answer.insert("x-aws-ec2-metadata-token-ttl-seconds", ttl.clone());
        return Ok((answer, format!("token-{}", fake.tokens.fetch_add(1, Ordering::SeqCst) + 1)));
    }
    let valid = format!("token-{}", fake.tokens.load(Ordering::SeqCst));
    let token = headers.get("x-aws-ec2-metadata-token").and_then(|value| value.to_str().ok());
    if token != Some(valid.as_str()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let path = uri.path().strip_prefix(ROOT).ok_or(StatusCode::NOT_FOUND)?;
    let item = fake.items.lock().unwrap().get(path).cloned();
    item.map(|item| (HeaderMap::new(), item)).ok_or(StatusCode::NOT_FOUND)
}

async fn bench() -> (Imds, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let eni = "network/interfaces/macs/0e:00:00:00:00:0a";
    let items = [
        ("mac".to_owned(), "0e:00:00:00:00:0a"),
        ("local-ipv4".to_owned(), "10.0.1.10"),
        ("instance-id".to_owned(), "i-1"),
        ("instance-type".to_owned(), "m5.large"),
        ("placement/availability-zone".to_owned(), "us-east-1a"),
        ("placement/region".to_owned(), "us-east-1"),
        (format!("{eni}/vpc-id"), "vpc-1"),
        (format!("{eni}/interface-id"), "eni-1"),
        (format!("{eni}/subnet-id"), "subnet-1"),
        (format!("{eni}/subnet-ipv4-cidr-block"), "10.0.1.0/24"),
        (format!("{eni}/security-group-ids"), "sg-1\nsg-2"),
        (format!("{eni}/vpc-ipv4-cidr-blocks"), "10.0.0.0/16\n100.64.0.0/16"),
    ];
    fake.items.lock().unwrap().extend(items.map(|(path, item)| (path, item.to_owned())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(serve).with_state(fake.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Imds::with(Imds::builder().endpoint(endpoint).unwrap()), fake)
}

#[tokio::test]
async fn facts_are_read_with_one_token_and_lists_line_by_line() {
    let (imds, fake) = bench().await;
    let facts = imds.facts().await.unwrap();
    assert_eq!(facts.instance_id, "i-1".into());
    assert_eq!(facts.primary_mac, MacAddr([0x0e, 0, 0, 0, 0, 0x0a]));
    assert_eq!(facts.primary_address, std::net::Ipv4Addr::new(10, 0, 1, 10));
    assert_eq!(facts.subnet_cidr, "10.0.1.0/24".parse().unwrap());
    assert_eq!(facts.security_group_ids, ["sg-1".into(), "sg-2".into()]);
    assert_eq!(facts.vpc_cidrs, ["10.0.0.0/16".parse().unwrap(), "100.64.0.0/16".parse().unwrap()]);
    assert_eq!(fake.tokens.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_imds_does_not_have_is_none_and_a_fact_we_need_is_a_failure_with_its_path() {
    let (imds, fake) = bench().await;
    assert_eq!(imds.get("spot/instance-action").await, Ok(None));
    fake.items.lock().unwrap().remove("instance-type");
    let failure = imds.facts().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::NotFound);
    assert!(failure.message.contains("instance-type"), "{}", failure.message);
}

#[tokio::test]
async fn a_primary_eni_at_another_device_index_or_card_is_a_failure_that_says_which() {
    for (item, value, is_said) in [
        ("device-number", "0", None),
        ("device-number", "2", Some("device index 2 of network card 0")),
        ("network-card", "0", None),
        ("network-card", "1", Some("device index 0 of network card 1")),
        ("network-card-index", "3", Some("device index 0 of network card 3")),
        ("device-number", "first", Some("device-number with \"first\"")),
    ] {
        let (imds, fake) = bench().await;
        let path = format!("network/interfaces/macs/0e:00:00:00:00:0a/{item}");
        fake.items.lock().unwrap().insert(path, value.to_owned());
        let message = imds.facts().await.err().map(|failure| failure.message).unwrap_or_default();
        assert!(message.contains(is_said.unwrap_or_default()), "{item} {value}: {message}");
        assert_eq!(message.is_empty(), is_said.is_none(), "{item} {value}: {message}");
    }
}

#[tokio::test]
async fn a_changed_vpc_and_changed_groups_are_seen_by_a_refresh() {
    let (imds, fake) = bench().await;
    let facts = imds.facts().await.unwrap();
    let path = "network/interfaces/macs/0e:00:00:00:00:0a/vpc-ipv4-cidr-blocks";
    fake.items.lock().unwrap().insert(path.to_owned(), "10.0.0.0/16".to_owned());
    let refreshed = imds.refreshed(&facts).await.unwrap();
    assert_eq!(refreshed.vpc_cidrs, ["10.0.0.0/16".parse().unwrap()]);
    assert_eq!(InstanceFacts { vpc_cidrs: facts.vpc_cidrs.clone(), ..refreshed }, facts);
}

#[tokio::test]
async fn a_token_that_is_no_longer_valid_is_replaced() {
    let (imds, fake) = bench().await;
    imds.get("mac").await.unwrap();
    fake.tokens.fetch_add(1, Ordering::SeqCst);
    assert_eq!(imds.get("mac").await.unwrap().as_deref(), Some("0e:00:00:00:00:0a"));
}

#[tokio::test]
async fn garbage_is_a_failure_that_quotes_it() {
    let (imds, fake) = bench().await;
    fake.items.lock().unwrap().insert("local-ipv4".to_owned(), "<html>".to_owned());
    let failure = imds.facts().await.unwrap_err();
    assert_eq!(failure.code, "ImdsUnreadable");
    assert!(failure.message.contains("<html>"), "{}", failure.message);
}

#[tokio::test]
async fn every_attached_eni_is_read_and_one_that_lacks_items_hides_none_of_the_others() {
    let (imds, fake) = bench().await;
    let macs = "network/interfaces/macs";
    let eni = |last: &str, items: &[(&str, &str)]| -> Vec<(String, String)> {
        items.iter().map(|(name, item)| (format!("{macs}/0e:00:00:00:00:{last}/{name}"), (*item).to_owned())).collect()
    };
    let listing = "0e:00:00:00:00:0a/\n0e:00:00:00:00:0b/\n0e:00:00:00:00:0c/\n0e:00:00:00:00:0d/\n0e:00:00:00:00:0e/";
    let mut items = vec![(format!("{macs}/"), listing.to_owned())];
    items.extend(eni(
        "0a",
        &[("device-number", "0"), ("local-ipv4s", "10.0.1.10\n10.0.1.11"), ("ipv4-prefix", "10.0.1.32/28")],
    ));
    let ipv6_only =
        [("interface-id", "eni-2"), ("device-number", "1"), ("subnet-id", "subnet-2"), ("ipv6s", "2001:db8::5")];
    items.extend(eni("0b", &ipv6_only));
    items.extend(eni("0c", &[("interface-id", "eni-3"), ("device-number", "2"), ("network-card", "1")]));
    // On its way in or out.
    items.extend(eni("0d", &[("device-number", "3")]));
    items.extend(eni("0e", &[("interface-id", "eni-5")]));
    fake.items.lock().unwrap().extend(items);
    let enis = imds.enis(&"i-1".into()).await.unwrap();
    let ids: Vec<&str> = enis.iter().map(|eni| eni.eni_id.as_str()).collect();
    assert_eq!(ids, ["eni-1", "eni-2", "eni-3"]);
    assert_eq!(enis[0].primary_address, std::net::Ipv4Addr::new(10, 0, 1, 10));
    assert_eq!((enis[0].secondary_addresses.len(), enis[0].prefixes.len()), (1, 1));
    assert_eq!(enis[0].vpc_id, Some("vpc-1".into()));
    assert!(enis[1].primary_address.is_unspecified(), "no pod can have an address of it");
    assert_ne!(enis[2].interface_type, "interface", "nor of one without a subnet");
    fake.items.lock().unwrap().insert(format!("{macs}/0e:00:00:00:00:0b/device-number"), "<html>".to_owned());
    assert_eq!(imds.enis(&"i-1".into()).await.unwrap_err().code, "ImdsUnreadable", "garbage is no shorter list");
}
