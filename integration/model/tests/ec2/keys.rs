// SPDX-License-Identifier: Apache-2.0
//! Keys: what STS and the agent of EKS Pod Identity give for which token, and whose calls EC2 takes. STS API reference,
//! "AssumeRoleWithWebIdentity" (errors and their statuses); EC2 API reference, "Client error codes".

use std::time::Duration;

use vpc_model::{Caller, Response};

use crate::common::{World, one};

const ROLE: &str = "arn:aws:iam::111122223333:role/cni";
const HOUR: Duration = Duration::from_secs(3_600);

fn assume(world: &mut World, role: &str, token: &str) -> Response {
    let params = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", "enid"),
        ("WebIdentityToken", token),
    ];
    let params: Vec<_> = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    world.vpc.sts(&params, world.now)
}

fn refusal(answer: &Response) -> (u16, String) {
    (answer.status, one(&answer.body, "Code"))
}

/// Status and code of a call that is signed so; code `""`: it is taken.
fn call(world: &mut World, access_key: &str, token: Option<&str>) -> (u16, String) {
    let caller = Caller { access_key: Some(access_key.to_owned()), session_token: token.map(str::to_owned) };
    let answer = world.vpc.ec2(&caller, "DescribeSubnets", &[], world.now);
    if answer.status == 200 { (200, String::new()) } else { refusal(&answer) }
}

fn checked(life_seconds: Option<u64>) -> World {
    let mut world = World::new();
    world.vpc.change_settings(|settings| {
        settings.keys.checked = true;
        settings.keys.life_seconds = life_seconds;
    });
    world
}

#[test]
fn sts_gives_keys_for_a_token_that_is_trusted_for_that_role_at_that_moment() {
    let mut world = checked(None);
    let until = world.now + HOUR;
    world.vpc.trust_web_identity(ROLE, "good", until);
    assert_eq!(refusal(&assume(&mut world, ROLE, "another")), (400, "InvalidIdentityToken".to_owned()));
    assert_eq!(refusal(&assume(&mut world, "arn:aws:iam::1:role/other", "good")), (403, "AccessDenied".to_owned()));
    assert_eq!(refusal(&assume(&mut world, "", "good")), (400, "ValidationError".to_owned()));
    let answer = assume(&mut world, ROLE, "good");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(one(&answer.body, "Arn"), "arn:aws:sts::111122223333:assumed-role/cni/enid");
    let (key, token) = (one(&answer.body, "AccessKeyId"), one(&answer.body, "SessionToken"));
    assert_eq!(call(&mut world, &key, Some(&token)), (200, String::new()));
    world.pass(HOUR);
    assert_eq!(refusal(&assume(&mut world, ROLE, "good")), (400, "ExpiredTokenException".to_owned()));
    assert_eq!(
        call(&mut world, &key, Some(&token)),
        (400, "RequestExpired".to_owned()),
        "an hour, unless asked for less"
    );
}

#[test]
fn the_agent_gives_keys_to_the_bearer_of_a_trusted_token() {
    let mut world = checked(Some(30));
    let until = world.now + HOUR;
    world.vpc.trust_pod_identity("good", until);
    world.vpc.trust_web_identity(ROLE, "for STS", until);
    for (token, status) in [(None, 400), (Some("another"), 403), (Some("for STS"), 403)] {
        assert_eq!(world.vpc.pod_identity(token, world.now).status, status, "{token:?}");
    }
    let answer = world.vpc.pod_identity(Some("good"), world.now);
    let keys: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let (key, token) = (keys["AccessKeyId"].as_str().unwrap(), keys["Token"].as_str());
    assert_eq!(call(&mut world, key, token), (200, String::new()));
    assert_eq!(keys["Expiration"], "2026-01-01T00:02:10Z", "100 s and 30 s after the epoch");
    world.pass(Duration::from_secs(30));
    assert_eq!(call(&mut world, key, token).1, "RequestExpired");
    world.pass(HOUR);
    assert_eq!(world.vpc.pod_identity(Some("good"), world.now).status, 403);
}

#[test]
fn ec2_takes_only_keys_that_were_given_with_their_own_session_token() {
    let mut world = checked(None);
    world.vpc.allow_user("AKIAUSER", "secret");
    assert_eq!(call(&mut world, "AKIAUSER", None), (200, String::new()));
    let unknown = (401, "AuthFailure".to_owned());
    assert_eq!(call(&mut world, "AKIAUSER", Some("a token of somebody")), unknown);
    assert_eq!(call(&mut world, "AKIAOTHER", None), unknown);
    assert_eq!(world.refused("DescribeSubnets", &[]).0, "AuthFailure", "not signed");
    world.vpc.change_settings(|settings| settings.keys.checked = false);
    assert_eq!(call(&mut world, "AKIAOTHER", None), (200, String::new()));
}

#[test]
fn the_keys_of_an_instances_role_are_taken_until_they_expire_and_change_before() {
    for (life, step) in [(None, 3_600), (Some(60), 10)] {
        let mut world = checked(life);
        let keys = |world: &mut World| {
            let text = world.meta("large", "iam/security-credentials/node");
            let keys: serde_json::Value = serde_json::from_str(&text).unwrap();
            let word = |name: &str| keys[name].as_str().unwrap().to_owned();
            (word("AccessKeyId"), word("Token"))
        };
        let (key, token) = keys(&mut world);
        assert_eq!(call(&mut world, &key, Some(&token)), (200, String::new()));
        world.pass(Duration::from_secs(step));
        let (new_key, new_token) = keys(&mut world);
        assert_ne!(token, new_token);
        assert_eq!(call(&mut world, &new_key, Some(&new_token)), (200, String::new()));
        if life.is_some() {
            assert_eq!(call(&mut world, &key, Some(&token)), (200, String::new()), "not expired yet");
            world.pass(Duration::from_secs(60));
            assert_eq!(call(&mut world, &key, Some(&token)).1, "RequestExpired");
        }
    }
}
