// SPDX-License-Identifier: Apache-2.0
//! HTTPS_PROXY, HTTP_PROXY and NO_PROXY: what goes through them, and what never does.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;

use integration::forward_proxy::ForwardProxy;

use crate::bed::{Bed, LONG, Source};
use crate::tls::Front;

/// Names that nobody but the proxy can make an address of.
const EC2: &str = "ec2.us-east-1.example.test";
const STS: &str = "sts.us-east-1.example.test";
/// `user:pass word`, as it is written in a URL and in a header (RFC 7617).
const USER: &str = "user:pass%20word";
const BASIC: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";

fn at(url: &str) -> SocketAddrV4 {
    url.rsplit('/').next().unwrap().parse().unwrap()
}

/// EC2 behind TLS, on the node's loopback, with an authority that the daemon is told of.
fn ec2_by_tls(bed: &mut Bed) -> (Front, SocketAddrV4) {
    let plain = at(bed.node().variable("AWS_ENDPOINT_URL_EC2").unwrap());
    let front = Front::serve(&bed.topology.runtime, &bed.node().netns, EC2, plain);
    let file = bed.topology.world.folder("ca").unwrap().join("authority.pem");
    fs::write(&file, &front.authority).unwrap();
    let node = bed.node_mut();
    node.set("AWS_CA_BUNDLE", file.to_str().unwrap());
    node.set("AWS_EC2_ENDPOINT", &format!("https://{EC2}"));
    let at = SocketAddrV4::new(*plain.ip(), front.port);
    (front, at)
}

fn asked(proxy: &ForwardProxy) -> BTreeSet<(String, String)> {
    proxy.passed().into_iter().map(|passed| (passed.method, passed.place)).collect()
}

fn pairs(all: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    all.iter().map(|(method, place)| ((*method).to_owned(), (*place).to_owned())).collect()
}

#[test]
fn ec2_and_sts_go_through_their_proxies_and_metadata_and_the_agent_do_not() {
    for source in [Source::WebIdentity, Source::PodIdentity, Source::InstanceRole] {
        let mut bed = Bed::new();
        bed.metadata_at_its_address();
        let (front, ec2) = ec2_by_tls(&mut bed);
        let sts = bed.sts();
        let (runtime, netns) = (&bed.topology.runtime, &bed.node().netns);
        let secure = ForwardProxy::serve(runtime, netns, &[(&format!("{EC2}:443"), ec2)]).unwrap();
        let plain = ForwardProxy::serve(runtime, netns, &[(&format!("{STS}:80"), sts)]).unwrap();
        bed.offer(source, LONG);
        let node = bed.node_mut();
        node.set("AWS_ENDPOINT_URL_STS", &format!("http://{STS}"));
        node.set("HTTPS_PROXY", &format!("http://{USER}@{}", secure.address));
        node.set("http_proxy", &format!("{USER}@{}", plain.address));
        bed.start();
        bed.churn();
        assert!(
            bed.signers().iter().all(|key| key.starts_with(source.keys_begin())),
            "{source:?}: {:?}",
            bed.signers()
        );
        assert_eq!(bed.refused(), [], "{source:?}");
        assert_eq!(asked(&secure), pairs(&[("CONNECT", &format!("{EC2}:443"))]), "{source:?}");
        assert!(front.served() > 0, "TLS is between the daemon and EC2");
        let of_sts = [("POST", &*format!("{STS}:80"))];
        let expected = if source == Source::WebIdentity { pairs(&of_sts) } else { pairs(&[]) };
        assert_eq!(asked(&plain), expected, "{source:?}");
        let all = secure.passed().into_iter().chain(plain.passed());
        assert!(all.into_iter().all(|passed| passed.authorization.as_deref() == Some(BASIC)), "{source:?}");
        assert!(!bed.log().contains("pass%20word"), "the log has the proxy's password");
    }
}

#[test]
fn what_no_proxy_spares_is_reached_without_the_proxy() {
    for (list, spared) in [
        ("", false),
        ("other.test,10.0.0.0/8", false),
        (".example.test", true),
        ("*.example.test", true),
        (&*format!("{EC2}:443"), true),
        (&*format!("{EC2}:80"), false),
        ("*", true),
    ] {
        let mut bed = Bed::new();
        let (front, ec2) = ec2_by_tls(&mut bed);
        // The front is at 443 of a name that is known on the node, too; both ways lead to it.
        let hosts = bed.topology.world.folder("hosts").unwrap().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {EC2}\n")).unwrap();
        bed.topology.world.show_file(&hosts, Path::new("/etc/hosts")).unwrap();
        let redirect = format!(
            "add table ip front\nadd chain ip front out {{ type nat hook output priority -100; }}\n\
             add rule ip front out ip daddr 127.0.0.1 tcp dport 443 redirect to :{}\n",
            ec2.port()
        );
        bed.node().nft(&redirect).unwrap();
        let table = [(&*format!("{EC2}:443"), ec2)];
        let proxy = ForwardProxy::serve(&bed.topology.runtime, &bed.node().netns, &table).unwrap();
        bed.node_mut().set("HTTPS_PROXY", &format!("http://{}", proxy.address));
        bed.node_mut().set("NO_PROXY", list);
        bed.start();
        assert!(!bed.signers().is_empty() && front.served() > 0, "NO_PROXY={list}");
        assert_eq!(proxy.passed().is_empty(), spared, "NO_PROXY={list}: {:?}", proxy.passed());
    }
}

/// Loopback is spared without a word, as Go does: EC2 and metadata of these tests are there.
#[test]
fn loopback_is_never_reached_through_a_proxy() {
    let mut bed = Bed::new();
    let proxy = ForwardProxy::serve(&bed.topology.runtime, &bed.node().netns, &[]).unwrap();
    for variable in ["HTTP_PROXY", "HTTPS_PROXY"] {
        bed.node_mut().set(variable, &format!("http://{}", proxy.address));
    }
    bed.start();
    bed.churn();
    assert_eq!(proxy.passed(), []);
}

#[test]
fn a_proxy_that_is_away_or_refuses_is_named_while_pods_are_served() {
    let mut bed = Bed::new();
    bed.start();
    bed.churn();
    // It knows nobody, and answers 502.
    let refusing = ForwardProxy::serve(&bed.topology.runtime, &bed.node().netns, &[]).unwrap();
    let away = "127.0.0.1:9".to_owned();
    for place in [refusing.address.to_string(), away] {
        bed.node_mut().set("AWS_EC2_ENDPOINT", &format!("https://{EC2}"));
        bed.node_mut().set("HTTPS_PROXY", &format!("http://{place}"));
        bed.restart();
        bed.churn();
        bed.names(&[&format!("through the proxy http://{place}")]);
    }
    assert!(!refusing.passed().is_empty());
}

#[test]
fn a_proxy_that_cannot_be_used_ends_the_start_with_its_variable_and_without_its_password() {
    let mut bed = Bed::new();
    for value in ["socks5://user:geheim@127.0.0.1:1080", "http://user:geheim@"] {
        bed.node_mut().set("HTTPS_PROXY", value);
        let refused = bed.node().ask(&["plan-host"]).unwrap_err().to_string();
        assert!(refused.contains("HTTPS_PROXY") && refused.contains("is allowed"), "{refused}");
        assert!(!refused.contains("geheim"), "{refused}");
    }
}
