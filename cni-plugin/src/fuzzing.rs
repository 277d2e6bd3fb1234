// SPDX-License-Identifier: Apache-2.0
//! What must hold of the plugin whatever a runtime and a daemon give it. Built for tests and fuzzers only (`fuzz/`), never into the
//! program; each function takes one input and panics when something does not hold.
//!
//! | function | input | holds |
//! |---|---|---|
//! | [`call`] | lines `CNI_…=value`, a line `---`, standard input | a call is whole or refused with a code of the table in [`crate::error`]; a DEL can do without what an ADD needs |
//! | [`previous`] | `prevResult` | a CHECK names a pod link and addresses, or says what is wrong; our own result is read back |
//! | [`reply`] | messages as on the wire, above all a daemon's AddNetworkReply | they say the same when written again; what is plumbed and what is printed speak of the same pod; or code 999, and nothing is touched |
#![allow(clippy::unwrap_used, reason = "a panic is what the caller looks for")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::plan::LinkName;
use datapath::plan::pod::attach;
use ipam_api::cri::ListPodSandboxResponse;
use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply, DelNetworkRequest,
};
use prost::Message;
use serde_json::{Value, json};

use crate::args::PodArgs;
use crate::call::{Budget, Call};
use crate::command::{Parameters, Verb, is_identifier};
use crate::conf::{self, LogTarget, NetConf, SMALLEST_MTU, VERSIONS};
use crate::error::{CniError, Code};
use crate::intent::{self, Wanted};
use crate::log::Log;
use crate::{check, del, result};

const BETWEEN: &[u8] = b"\n---\n";

const VERBS: [Verb; 6] = [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status, Verb::Version];

/// A call of a runtime, up to where the kernel and the daemon would be asked.
pub fn call(data: &[u8]) {
    let at = data.windows(BETWEEN.len()).position(|here| here == BETWEEN);
    let (environment, stdin) = match at {
        Some(at) => (&data[..at], &data[at + BETWEEN.len()..]),
        None => (&[][..], data),
    };
    let text = String::from_utf8_lossy(environment);
    let variables: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let look = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let args = look("CNI_ARGS").unwrap_or_default();
    let lenient = PodArgs::parse_leniently(&args);
    if let Ok(pod) = PodArgs::parse(&args) {
        assert_eq!(pod, lenient);
    }
    match Parameters::read(&look) {
        Ok(parameters) if matches!(parameters.verb, Verb::Add | Verb::Check) => {
            assert!(is_identifier(&parameters.container_id) && parameters.netns.starts_with('/'), "{parameters:?}");
            LinkName::new(&parameters.ifname).expect("checked");
        }
        Ok(_) => {}
        Err(error) => printed(&error, Code::Environment),
    }
    let version = conf::keys(stdin).ok().and_then(|keys| conf::version_of(&keys));
    let mut read = Vec::new();
    for verb in VERBS {
        match NetConf::parse(stdin, verb, &look) {
            Ok(conf) => read.push((verb, checked(conf, verb, version.as_deref()))),
            Err(error) => printed(&error, error.code),
        }
    }
    let of = |wanted: Verb| read.iter().find(|(verb, _)| *verb == wanted).map(|(_, conf)| conf);
    // What an ADD takes a DEL finds again: by the same key and the same host veth.
    if let Some(add) = of(Verb::Add) {
        let del = of(Verb::Del).expect("a DEL takes what an ADD takes");
        assert_eq!((&add.name, &add.veth_prefix, &add.state_dir), (&del.name, &del.veth_prefix, &del.state_dir));
        let [first, second] = [add, del].map(|conf| of_pod(conf.clone(), lenient.clone(), "eth0"));
        assert_eq!(first.host_veth().expect("checked"), second.host_veth().expect("checked"));
    }
}

/// What a configuration that is taken promises.
fn checked(conf: NetConf, verb: Verb, version: Option<&str>) -> NetConf {
    assert!(is_identifier(&conf.name), "{conf:?}");
    assert!((SMALLEST_MTU..=9001).contains(&conf.mtu), "{conf:?}");
    assert_eq!(conf.version, version.unwrap_or("0.1.0"));
    assert!(conf.host_ports.windows(2).all(|two| two[0] < two[1]), "{conf:?}");
    assert!(conf.host_ports.iter().all(|port| port.host_port != 0 && port.pod_port != 0), "{conf:?}");
    assert_ne!(conf.log_target, LogTarget::File("stdout".into()));
    assert!(conf.keep.is_none() || verb == Verb::Gc);
    for address in &conf.previous_addresses {
        assert_eq!(address.to_string().parse(), Ok(*address));
    }
    match verb {
        Verb::Add => assert!(VERSIONS.contains(&conf.version.as_str())),
        Verb::Check => assert!(VERSIONS[2..].contains(&conf.version.as_str())),
        Verb::Gc | Verb::Status => assert_eq!(conf.version, "1.1.0"),
        Verb::Del | Verb::Version => {}
    }
    let pod = PodArgs { name: "web-0".into(), namespace: "shop".into(), ..PodArgs::default() };
    let name = of_pod(conf.clone(), pod, "eth0").host_veth().expect("the prefix was checked");
    assert!(name.as_str().starts_with(&conf.veth_prefix));
    conf
}

/// What the runtime remembers of a pod.
pub fn previous(data: &[u8]) {
    let Ok(previous) = serde_json::from_slice::<Value>(data) else { return };
    let stdin = json!({ "cniVersion": "1.1.0", "name": "aws-cni", "prevResult": previous }).to_string();
    let conf = NetConf::parse(stdin.as_bytes(), Verb::Check, &|_| None).expect("a result is whatever it is");
    let addresses = conf.previous_addresses.clone();
    let call = of_pod(conf, PodArgs::default(), "eth0");
    match check::wanted(&call) {
        Ok(wanted) => {
            assert!(!wanted.addresses.is_empty() && wanted.pod_link.as_str() == "eth0", "{wanted:?}");
            // A DEL takes down what a CHECK looks at.
            assert!(wanted.addresses.iter().all(|address| addresses.contains(address)), "{wanted:?}");
            assert_eq!(wanted.owner, "aws-cni/c1/eth0");
        }
        Err(error) => printed(&error, Code::Config),
    }
}

/// A message says the same when it is written again.
fn rewritten<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(message) = M::decode(data) else { return };
    assert_eq!(M::decode(message.encode_to_vec().as_slice()), Ok(message));
}

/// A daemon's answer; the daemon's side, and a container runtime's, as far as messages go.
pub fn reply(data: &[u8]) {
    rewritten::<AddNetworkRequest>(data);
    rewritten::<DelNetworkRequest>(data);
    rewritten::<CollectGarbageRequest>(data);
    rewritten::<CollectGarbageReply>(data);
    rewritten::<ListPodSandboxResponse>(data);
    if let Ok(reply) = DelNetworkReply::decode(data) {
        let addresses = del::addresses_of(&reply.ip_allocation_metadata);
        assert!(addresses.len() <= 2 * reply.ip_allocation_metadata.len(), "{reply:?}");
    }
    let Ok(reply) = AddNetworkReply::decode(data) else { return };
    if !reply.success {
        return printed(&CniError::refused(reply.refusal.as_ref()), Code::TryAgainLater);
    }
    let host_veth = LinkName::new("enicc21c2d7785").unwrap();
    let wanted = Wanted {
        host_veth: host_veth.clone(),
        hash: "cc21c2d7785".to_owned(),
        pod_link: LinkName::new("eth0").unwrap(),
        netns: "/run/netns/a".to_owned(),
        owner: "aws-cni/c1/eth0".to_owned(),
        mtu: 9001,
        is_kubernetes: data.len().is_multiple_of(2),
    };
    let (pod, attached) = match intent::from_reply(&reply, &wanted) {
        Ok(both) => both,
        Err(error) => return printed(&error, Code::Internal),
    };
    assert_eq!((pod.addresses, &pod.host_veth), (attached.addresses, &host_veth));
    assert!((SMALLEST_MTU..=9001).contains(&pod.mtu), "{pod:?}");
    assert!(pod.eni_table.is_none_or(|table| table.0 > 1 && table.0 != 254), "{pod:?}");
    if let Some(family) = intent::egress(&reply, pod.addresses) {
        assert!(pod.addresses.iter().all(|address| datapath::plan::Family::of(address) != family));
    }
    let commands = attach(&pod).to_string();
    assert!(pod.addresses.iter().all(|address| commands.contains(&address.to_string())), "{commands}");
    for version in VERSIONS {
        let printed: Value = serde_json::from_str(&result::to_json(&attached, version)).expect("JSON");
        assert_eq!(printed["cniVersion"], version);
        // The runtime gives it back: the DEL finds the addresses in it, and so does a CHECK.
        let stdin = json!({ "cniVersion": version, "name": "aws-cni", "prevResult": printed }).to_string();
        let conf = NetConf::parse(stdin.as_bytes(), Verb::Del, &|_| None).expect("our own result");
        assert_eq!(conf.previous_addresses, pod.addresses.iter().collect::<Vec<_>>());
        let Ok(conf) = NetConf::parse(stdin.as_bytes(), Verb::Check, &|_| None) else { continue };
        let found = check::wanted(&of_pod(conf, PodArgs::default(), "eth0")).expect("our own result");
        assert_eq!(found.addresses, pod.addresses.iter().collect::<Vec<_>>());
        assert!(found.host_veths.contains(&host_veth), "{found:?}");
    }
}

/// An error is printed whatever is in it.
fn printed(error: &CniError, code: Code) {
    assert_eq!(error.code, code, "{error}");
    let text = error.to_json(conf::LATEST);
    let printed: Value = serde_json::from_str(&text).expect("an error is JSON");
    assert_eq!(printed["code"], code as i64);
    assert!(!error.message.is_empty() && !text.contains('\n'), "{text}");
}

fn of_pod(conf: NetConf, pod: PodArgs, ifname: &str) -> Call {
    let parameters = Parameters {
        verb: Verb::Check,
        container_id: "c1".to_owned(),
        netns: "/run/netns/a".to_owned(),
        ifname: ifname.to_owned(),
        args: String::new(),
    };
    let log = Log::new(LogTarget::Stderr, conf.log_level, Vec::new());
    Call { parameters, pod, conf, log, budget: Budget::new(Instant::now(), Duration::ZERO) }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_the_fuzzers_holds() {
        replay::corpus("call", call);
        replay::corpus("previous", previous);
        replay::corpus("reply", reply);
    }
}
