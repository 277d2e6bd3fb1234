// SPDX-License-Identifier: Apache-2.0
//! IMDSv2 over HTTP. Rules: EC2 user guide, "Use IMDSv2".

use crate::served::{Answer, NODE_1, Served, exchange, get, request};

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";

fn put(served: &Served, path: &str, headers: &[(&str, &str)]) -> Answer {
    exchange(served.imds, &request("PUT", path, headers, "")).unwrap()
}

#[test]
fn tokens_are_given_by_the_rules() {
    let served = Served::start();
    for (path, headers, status) in [
        ("/latest/api/token", vec![(TTL, "60")], 200),
        ("/latest/api/token", vec![(TTL, "21600")], 200),
        ("/latest/api/token", vec![(TTL, "21601")], 400),
        ("/latest/api/token", vec![(TTL, "0")], 400),
        ("/latest/api/token", vec![], 400),
        ("/latest/api/token", vec![(TTL, "60"), ("X-Forwarded-For", "10.0.0.1")], 403),
        ("/2021-03-23/api/token", vec![(TTL, "60")], 403),
    ] {
        assert_eq!(put(&served, path, &headers).status, status, "{path} {headers:?}");
    }
}

#[test]
fn nothing_is_read_without_a_good_token() {
    let served = Served::start();
    let path = "/latest/meta-data/instance-id";
    assert_eq!(get(served.imds, path, &[]).status, 401);
    assert_eq!(get(served.imds, path, &[(TOKEN, "made-up")]).status, 401);
    assert_eq!(get(served.imds, "/latest/meta-data/no-such-item", &[]).status, 401);
    let answer = put(&served, "/latest/api/token", &[(TTL, "60")]);
    assert!(answer.head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"), "{}", answer.head);
    let token = [(TOKEN, answer.body.as_str())];
    let read = get(served.imds, path, &token);
    assert_eq!((read.status, read.body.as_str()), (200, NODE_1));
    assert!(read.head.contains("content-type: text/plain"), "{}", read.head);
    assert_eq!(get(served.imds, "/latest/meta-data/no-such-item", &token).status, 404);
    let head = exchange(served.imds, &request("HEAD", path, &token, "")).unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(exchange(served.imds, &request("POST", path, &token, "")).unwrap().status, 405);
}

#[test]
fn a_token_expires() {
    let served = Served::start();
    let token = put(&served, "/latest/api/token", &[(TTL, "1")]).body;
    let read = || get(served.imds, "/latest/meta-data/mac", &[(TOKEN, &token)]).status;
    assert_eq!(read(), 200);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(read(), 401);
}
