// SPDX-License-Identifier: Apache-2.0
//! Metadata and EC2: whether they answer, what the role may do, whether there are addresses.
//!
//! The token is asked for over a plain socket first, because the SDK's error does not tell the two common faults apart: nothing
//! listens, or the connection stands and no answer comes. The latter is a hop limit of 1 seen from a container's network: metadata
//! sends the token in packets that live for so many hops (EC2 user guide, "Configure the instance metadata options").

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ipamd_aws::{Ec2, Imds, Subject, TRIED, Verdict};
use ipamd_core::action::{ActionKind, Priority, SubnetQuery};
use ipamd_core::config::{Provisioning, SubnetChoice};
use ipamd_core::event::{Failure, InstanceFacts, Outcome, SubnetView};
use ipamd_core::ids::AttachmentId;
use ipamd_core::{Config, tags};

use super::Finding;
use super::met::Met;
use crate::cli::{reasons, wait};
use crate::clock;
use crate::edge::facts::ec2_settings;
use crate::telemetry::chain;

/// Where metadata is, on an instance.
const IMDS: &str = "169.254.169.254:80";
/// Metadata answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rights without which pods get no addresses; without one of the others something else is not done.
const NEEDED: [&str; 2] = ["DescribeNetworkInterfaces", "CreateNetworkInterface"];

/// EC2 has no dry run of these.
const UNTRIED: [&str; 2] = ["AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"];

/// What is tried on the primary ENI because there may be none of ours: it has not the tags that a policy scoped by tag asks for.
const ON_PRIMARY: [&str; 4] =
    ["AttachNetworkInterface", "ModifyNetworkInterfaceAttribute", "DetachNetworkInterface", "DeleteNetworkInterface"];

pub(super) fn check(config: &Config, met: &Met) -> Result<Vec<Finding>, String> {
    let endpoint = config.imds_endpoint.as_deref();
    let (token, has_token) = token(endpoint, ask_token(endpoint));
    if !has_token {
        return Ok(vec![token]);
    }
    let mut findings = vec![token];
    wait(async {
        match Imds::new().facts().await {
            Ok(facts) => after_facts(config, (&facts, met), &mut findings).await,
            Err(failure) => {
                let todo = "look whether what answers there is this instance's metadata, and whether it is enabled";
                findings.push(Finding::fail("instance", failure.message, todo));
            }
        }
    })?;
    Ok(findings)
}

/// What came of asking for a token.
#[derive(Debug)]
enum Token {
    Given,
    Refused(String),
    NoConnection(io::Error),
    NoAnswer(io::Error),
}

fn ask_token(endpoint: Option<&str>) -> Token {
    let host = endpoint.map_or(IMDS, host_and_port);
    let address = host.to_socket_addrs().or_else(|_| format!("{host}:80").to_socket_addrs());
    let connected = address.and_then(|mut all| all.next().ok_or_else(|| io::ErrorKind::NotFound.into()));
    let connected = connected.and_then(|address| TcpStream::connect_timeout(&address, PATIENCE));
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return Token::NoConnection(error),
    };
    let request = format!(
        "PUT /latest/api/token HTTP/1.0\r\nHost: {host}\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n"
    );
    let mut answer = String::new();
    let asked = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(request.as_bytes()));
    match asked.and_then(|()| stream.read_to_string(&mut answer)) {
        Ok(_) if answer.split(' ').nth(1) == Some("200") => Token::Given,
        Ok(_) => Token::Refused(answer.lines().next().unwrap_or_default().to_owned()),
        Err(error) => Token::NoAnswer(error),
    }
}

/// The authority of a URL.
fn host_and_port(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The finding, and whether more can be asked.
fn token(endpoint: Option<&str>, answer: Token) -> (Finding, bool) {
    let place = endpoint.map_or(IMDS, host_and_port);
    match answer {
        Token::Given => (Finding::ok("imds", format!("{place} gives a token (IMDSv2)")), true),
        Token::Refused(status) => {
            let todo = "enable the metadata service of the instance (modify-instance-metadata-options --http-endpoint enabled)";
            (Finding::fail("imds", format!("{place} refuses a token: {status}"), todo), false)
        }
        Token::NoConnection(error) => {
            let found = format!("no connection to {place}: {error}");
            let todo =
                "look for a firewall rule or a route that takes the link-local address away; is this an EC2 instance?";
            (Finding::fail("imds", found, todo), false)
        }
        Token::NoAnswer(error) => {
            let found = format!("{place} takes the connection and gives no token: {error}");
            let todo = "in a container with a network of its own: the hop limit of metadata is 1; use the host's network, or \
                        modify-instance-metadata-options --http-put-response-hop-limit 2";
            (Finding::fail("imds", found, todo), false)
        }
    }
}

async fn after_facts(config: &Config, (facts, met): (&InstanceFacts, &Met), findings: &mut Vec<Finding>) {
    if config.provisioning == Provisioning::ImdsOnly {
        findings.extend(instance(facts, None));
        return;
    }
    let settings = ec2_settings(config);
    let ec2 = match Ec2::connect(&settings, &facts.region).await {
        Ok(ec2) => ec2,
        Err(error) => {
            findings.push(Finding::fail("ec2", chain(&error), "look at the AWS_ variables of the environment"));
            return;
        }
    };
    let limits = match instance_limits::lookup(&facts.instance_type) {
        Some(_) => None,
        None => Some(ec2.instance_limits(&facts.instance_type).await.map(drop)),
    };
    findings.extend(instance(facts, limits));
    let subject = subject(&ec2, config, facts).await;
    let mut verdicts = Vec::new();
    for action in TRIED.into_iter().filter(|action| config.provisioning.is_full() || action.starts_with("Describe")) {
        let verdict = ec2.may(action, &subject).await;
        // One that cannot be asked at all is told once.
        if let (true, Verdict::Unclear(failure)) = (verdicts.is_empty(), &verdict) {
            findings.push(unreachable(failure));
            return;
        }
        verdicts.push((action, verdict));
    }
    findings.extend(ec2.credentials_source().map(|source| Finding::ok("credentials", source)));
    findings.extend(permissions(&verdicts, met));
    let query = match config.subnets {
        SubnetChoice::Primary => SubnetQuery::Id(facts.subnet_id.clone()),
        // Which one is the Node's and the API server's to say; the daemon knows.
        SubnetChoice::EniConfig => {
            let found = "custom networking: the node's ENIConfig names it; `ipamd status` says how it stands";
            findings.push(Finding::ok("subnet", found.to_owned()));
            return;
        }
        SubnetChoice::Tagged => {
            SubnetQuery::Zone { vpc_id: facts.vpc_id.clone(), availability_zone: facts.availability_zone.clone() }
        }
    };
    if let Outcome::SubnetsDescribed(subnets) = ec2.run(Priority::Describe, &ActionKind::DescribeSubnets(query)).await {
        findings.push(subnet(facts, &subnets));
    }
}

async fn subject(ec2: &Ec2, config: &Config, facts: &InstanceFacts) -> Subject {
    let all = ActionKind::DescribeEnis { instance_id: facts.instance_id.clone(), also: Vec::new(), tokens: Vec::new() };
    let mut attachment_id: Option<AttachmentId> = None;
    if let Outcome::EnisDescribed { enis, .. } = ec2.run(Priority::Describe, &all).await {
        let primary = enis.into_iter().find(|eni| eni.eni_id == facts.primary_eni_id);
        attachment_id = primary.and_then(|eni| eni.attachment).map(|attachment| attachment.attachment_id);
    }
    Subject {
        instance_id: facts.instance_id.clone(),
        eni_id: facts.primary_eni_id.clone(),
        attachment_id,
        subnet_id: facts.subnet_id.clone(),
        tags: tags::of_new_eni(config, facts, "doctor", (&tags::rfc3339(clock::now().unix_nanos), None)),
    }
}

/// `limits`: of a type that the compiled-in table lacks, whether EC2 knows it; `None`: known, or not asked.
fn instance(facts: &InstanceFacts, limits: Option<Result<(), Failure>>) -> Vec<Finding> {
    let InstanceFacts { instance_id, instance_type, availability_zone, .. } = facts;
    let who = format!("{instance_id}, {instance_type} in {availability_zone}");
    let is_known = instance_limits::lookup(instance_type).is_some();
    vec![match limits {
        None if is_known => Finding::ok("instance", who),
        None => {
            let todo = "use a newer version of Enid, or let it ask EC2";
            Finding::warn("instance", format!("{who}: nothing is known of its limits"), todo)
        }
        Some(Ok(())) => {
            let found = format!("{who}: not in this version's table, its limits are EC2's word");
            Finding::warn("instance", found, "a newer version of Enid knows it without ec2:DescribeInstanceTypes")
        }
        Some(Err(failure)) => {
            let found =
                format!("{who}: nothing is known of its limits, they are found out by trying: {}", failure.message);
            Finding::warn("instance", found, "allow ec2:DescribeInstanceTypes, or use a newer version of Enid")
        }
    }]
}

/// EC2 said neither yes nor no.
fn unreachable(failure: &Failure) -> Finding {
    let todo = match failure.code.as_str() {
        "NoCredentials" | "CredentialsUnavailable" => {
            "give the instance a role (instance profile), or the container one (web identity, Pod Identity): docs/credentials.md"
        }
        "NoConnection" | "Timeout" | "ConnectionLost" => {
            "let the node reach the EC2 endpoint of its region: NAT, a VPC endpoint for ec2 with its security group, or a proxy"
        }
        code => match code.parse() {
            Ok(code) => return Finding::fail("ec2", failure.message.clone(), reasons::remedy(code)),
            Err(_) => "see the message; EC2's clock and the node's must not be apart",
        },
    };
    Finding::fail("ec2", failure.message.clone(), todo)
}

/// What the daemon has met goes before what a dry run says.
fn permissions(verdicts: &[(&'static str, Verdict)], met: &Met) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("ec2", "the endpoint answers and takes the credentials")];
    let mut allowed = Vec::new();
    let untried = UNTRIED.map(|action| (action, Verdict::NotTried));
    for (action, verdict) in verdicts.iter().chain(&untried) {
        let allow = format!("allow ec2:{action} for the node's role");
        match (met.denied(action), verdict) {
            (Some(found), _) => findings.push(missing(action, found, allow)),
            (None, Verdict::Allowed) => allowed.push(*action),
            (None, Verdict::Denied(_) | Verdict::NotTried) if met.has_done(action) => allowed.push(*action),
            (None, Verdict::NotTried) => {}
            (None, Verdict::Denied(failure)) => {
                let todo = if ON_PRIMARY.contains(action) {
                    format!(
                        "right where the policy is scoped by tag (deploy/iam): the untagged primary ENI was tried; else {allow}"
                    )
                } else {
                    allow
                };
                findings.push(missing(action, failure.message.clone(), todo));
            }
            (None, Verdict::Unclear(failure)) => {
                let todo = format!("see the message; whether ec2:{action} is allowed is not known");
                findings.push(Finding::warn("permissions", failure.message.clone(), todo));
            }
        }
    }
    let unknown: Vec<_> =
        UNTRIED.into_iter().filter(|action| met.denied(action).is_none() && !met.has_done(action)).collect();
    let unknown =
        if unknown.is_empty() { String::new() } else { format!("; EC2 has no dry run of {}", unknown.join(" and ")) };
    findings.push(Finding::ok("permissions", format!("allowed: {}{unknown}", allowed.join(", "))));
    findings
}

/// A right that is missing.
fn missing(action: &str, found: String, todo: String) -> Finding {
    if NEEDED.contains(&action) {
        Finding::fail("permissions", found, todo)
    } else {
        Finding::warn("permissions", found, todo)
    }
}

/// The role of a subnet that serves is the daemon's to find; here it is enough that one has room.
fn subnet(facts: &InstanceFacts, subnets: &[SubnetView]) -> Finding {
    let own = subnets.iter().find(|subnet| subnet.subnet_id == facts.subnet_id).map_or(0, |subnet| subnet.available);
    let id = &facts.subnet_id;
    let other = subnets.iter().filter(|subnet| subnet.subnet_id != *id).max_by_key(|subnet| subnet.available);
    let todo = "free addresses, or tag further subnets of the zone with kubernetes.io/role/cni=1";
    match (own, other.filter(|other| other.available > 0)) {
        (1.., _) => Finding::ok("subnet", format!("{id} has {own} free addresses")),
        (0, Some(other)) => {
            let found =
                format!("{id} has no free address; {} has {}, if its tags offer it", other.subnet_id, other.available);
            Finding::warn("subnet", found, todo)
        }
        (0, None) => Finding::fail("subnet", format!("{id} has no free address, nor has another subnet"), todo),
    }
}

#[cfg(test)]
mod tests {
    use ipamd_core::event::FailureClass;

    use super::super::Level;
    use super::super::met::tests::met;
    use super::*;

    fn denied(action: &str) -> Verdict {
        let message = format!("{action}: UnauthorizedOperation");
        let code = "UnauthorizedOperation".to_owned();
        Verdict::Denied(Failure { class: FailureClass::Denied, code, message, retry_after: None })
    }

    #[test]
    fn a_denied_action_is_named_and_weighed() {
        for (action, level) in [("CreateNetworkInterface", Level::Fail), ("CreateTags", Level::Warn)] {
            let verdicts = [("DescribeSubnets", Verdict::Allowed), (action, denied(action))];
            let findings = permissions(&verdicts, &Met::default());
            let bad: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
            assert_eq!(bad.len(), 1, "{findings:?}");
            assert_eq!(
                (bad[0].level, bad[0].todo.as_deref()),
                (level, Some(&*format!("allow ec2:{action} for the node's role")))
            );
        }
    }

    #[test]
    fn what_the_daemon_has_met_goes_before_a_dry_run() {
        let verdicts = [("AttachNetworkInterface", denied("AttachNetworkInterface")), ("CreateTags", Verdict::Allowed)];
        let bad = |met: &Met| -> Vec<String> {
            let found = permissions(&verdicts, met).into_iter().filter(|finding| finding.level != Level::Ok);
            found.map(|finding| finding.found).collect()
        };
        let allowed = |met: &Met| permissions(&verdicts, met).pop().unwrap().found;
        // Denied on the untagged primary ENI, and done on the daemon's own.
        let done = met("RunInstances", None, &["AttachNetworkInterface", "AssignPrivateIpAddresses"]);
        assert_eq!(bad(&done), Vec::<String>::new());
        assert_eq!(
            allowed(&done),
            "allowed: AttachNetworkInterface, CreateTags, AssignPrivateIpAddresses; EC2 has no dry run of UnassignPrivateIpAddresses"
        );
        // What has no dry run, and what one allows, denied in earnest.
        for action in ["UnassignPrivateIpAddresses", "CreateTags"] {
            let bad = bad(&met(action, None, &["AttachNetworkInterface"]));
            assert!(
                bad.len() == 1 && bad[0].starts_with(&format!("the daemon was denied it 5.0s ago: {action}")),
                "{bad:?}"
            );
        }
        assert_eq!(bad(&Met::default()).len(), 1);
    }

    #[test]
    fn the_faults_of_a_token_are_told_apart() {
        let error = || io::Error::from(io::ErrorKind::TimedOut);
        let (hops, _) = token(None, Token::NoAnswer(error()));
        assert!(hops.todo.unwrap().contains("hop limit"));
        let (away, _) = token(Some("http://127.0.0.1:9/"), Token::NoConnection(error()));
        assert!(away.found.starts_with("no connection to 127.0.0.1:9") && !away.todo.unwrap().contains("hop"));
        assert!(token(None, Token::Given).1);
        assert!(!token(None, Token::Refused("HTTP/1.1 403 Forbidden".to_owned())).1);
    }
}
