// SPDX-License-Identifier: Apache-2.0
//! The network policy agent: told of each pod when its network is there and before the ADD is answered, and when it is gone. The
//! agent here looks for the pod's link itself, by the reference's naming, as the real one does to attach its programs there.

use std::time::Duration;

use integration::go_callers::wire::{Exchange, Peer};
use integration::sandbox::{NetnsPath, Sandbox};
use integration::topology::{Topology, TopologySpec};
use serde_json::json;

use crate::reference_daemon::nodes;

fn node(mode: &str) -> Topology {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("NETWORK_POLICY_ENFORCING_MODE", mode), ("IP_COOLDOWN_PERIOD", "0")]).unwrap();
    topology
}

fn agent(topology: &Topology, options: &[&str]) -> Peer {
    let n1 = topology.node("n1");
    let daemon = n1.state_folder().join("ipamd.sock").display().to_string();
    let words: Vec<&str> = ["-daemon", &daemon].into_iter().chain(options.iter().copied()).collect();
    Peer::agent(&topology.world, n1, &words).unwrap()
}

fn pods_of(calls: &[Exchange]) -> Vec<&str> {
    calls.iter().map(|call| call.request["K8S_POD_NAME"].as_str().unwrap()).collect()
}

fn is_as_before_the_add(topology: &Topology, sandbox: &Sandbox) {
    let n1 = topology.node("n1");
    let left = n1.leftovers().unwrap().of_pods();
    assert!(left.is_empty(), "{left}");
    let links = topology.world.tools.ip_json(&sandbox.netns, &["link", "show"]).unwrap();
    assert_eq!(links.as_array().unwrap().len(), 1, "loopback only: {links}");
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
}

#[test]
fn the_agent_takes_a_pod_on_before_its_add_is_answered_and_is_told_when_it_is_gone() {
    for mode in ["standard", "strict"] {
        let topology = node(mode);
        let n1 = topology.node("n1");
        let agent = agent(&topology, &["-delay", "300ms"]);
        assert_eq!(agent.served("GetNetworkPolicyConfigs")[0].reply["NetworkPolicyMode"], mode);
        let sandbox = n1.sandbox("web-0").unwrap();
        let added = n1.runtime.add(&sandbox).unwrap();
        assert!(added.took >= Duration::from_millis(300), "its answer is waited for: {:?}", added.took);
        let enforced = agent.served("EnforceNpToPod");
        let expected = json!({
            "K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "default", "NETWORK_POLICY_MODE": mode, "InterfaceCount": 1
        });
        assert_eq!((enforced.len(), &enforced[0].request), (1, &expected));
        assert_eq!(enforced[0].host_veth, added.host_veth, "the link was there, under the reference's name");
        // An ADD that comes again may be the first that lives long enough to ask.
        n1.runtime.add(&sandbox).unwrap();
        assert_eq!(agent.served("EnforceNpToPod").len(), 2);
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        // Its link may be there yet, in the group of dead ones: it goes with the namespace.
        assert_eq!(pods_of(&agent.served("DeletePodNp")), ["web-0"]);
    }
}

#[test]
fn a_del_that_comes_again_does_not_take_the_policies_of_the_pod_that_has_the_name_now() {
    let topology = node("strict");
    let n1 = topology.node("n1");
    let agent = agent(&topology, &[]);
    let before = n1.sandbox("web-0").unwrap();
    n1.runtime.add(&before).unwrap();
    n1.runtime.del(&before, NetnsPath::Given).unwrap();
    // A StatefulSet's next pod, and then the DELs that runtimes repeat.
    let now = n1.sandbox("web-0").unwrap();
    n1.runtime.add(&now).unwrap();
    n1.runtime.del(&before, NetnsPath::Empty).unwrap();
    n1.runtime.del(&before, NetnsPath::Empty).unwrap();
    assert_eq!(agent.served("EnforceNpToPod").len(), 2);
    assert_eq!(agent.served("DeletePodNp").len(), 1);
    n1.runtime.del(&now, NetnsPath::Given).unwrap();
    assert_eq!(agent.served("DeletePodNp").len(), 2);
}

#[test]
fn without_the_agent_no_pod_starts_in_either_mode_and_one_that_ends_ends() {
    for mode in ["standard", "strict"] {
        let topology = node(mode);
        let n1 = topology.node("n1");
        let sandbox = n1.sandbox("web-0").unwrap();
        let refused = n1.runtime.add(&sandbox).unwrap_err();
        let refused = refused.refusal().unwrap();
        assert!(refused.code == 11 && refused.message.contains("network policy agent"), "{mode}: {refused}");
        assert!(refused.details.contains("npa.sock"), "{mode}: {refused}");
        // The reference's plugin dials for 2 s.
        assert!(refused.took < Duration::from_secs(5), "{:?}", refused.took);
        is_as_before_the_add(&topology, &sandbox);
        let agent = agent(&topology, &[]);
        n1.runtime.add(&sandbox).unwrap();
        agent.kill();
        // It can fail for the reference's plugin, and a runtime repeats it until it does not.
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
    }
}

#[test]
fn an_agent_that_comes_within_two_seconds_is_waited_for() {
    let topology = node("strict");
    let n1 = topology.node("n1");
    let sandbox = n1.sandbox("web-0").unwrap();
    let (added, agent) = std::thread::scope(|scope| {
        let add = scope.spawn(|| n1.runtime.add(&sandbox));
        let agent = Peer::agent(&topology.world, n1, &[]).unwrap();
        (add.join().unwrap(), agent)
    });
    added.unwrap();
    assert_eq!(agent.served("EnforceNpToPod").len(), 1);
}

#[test]
fn an_agent_that_is_there_may_take_longer_than_one_is_waited_for() {
    let topology = node("strict");
    let n1 = topology.node("n1");
    let agent = agent(&topology, &["-delay", "2500ms"]);
    let sandbox = n1.sandbox("web-0").unwrap();
    n1.runtime.add(&sandbox).unwrap();
    assert_eq!((agent.served("EnforceNpToPod").len(), agent.served("DeletePodNp").len()), (1, 0));
}

#[test]
fn an_agent_that_refuses_fails_the_add_and_forgets_the_pod() {
    let topology = node("standard");
    let n1 = topology.node("n1");
    let agent = agent(&topology, &["-refuse"]);
    let sandbox = n1.sandbox("web-0").unwrap();
    let refused = n1.runtime.add(&sandbox).unwrap_err();
    let refused = refused.refusal().unwrap();
    assert!(refused.code == 11 && refused.details.contains("Success=false"), "{refused}");
    is_as_before_the_add(&topology, &sandbox);
    // It may have begun; the runtime's DEL would not tell it, for nothing is held any more.
    assert_eq!(pods_of(&agent.served("DeletePodNp")), ["web-0"]);
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert_eq!(agent.served("DeletePodNp").len(), 1);
}

#[test]
fn a_mode_that_the_agent_does_not_take_stops_it_at_its_start() {
    let topology = node("none");
    let n1 = topology.node("n1");
    let daemon = n1.state_folder().join("ipamd.sock").display().to_string();
    let error = Peer::agent(&topology.world, n1, &["-daemon", &daemon]).unwrap_err();
    assert!(error.to_string().contains("neither standard nor strict"), "{error}");
}

#[test]
fn the_reference_s_daemon_and_the_agent_together_are_served_the_same() {
    let (topology, addresses) = nodes("2");
    let n1 = topology.node("n1");
    let daemon = Peer::daemon(&topology.world, n1, &addresses, &["-mode", "strict"]).unwrap();
    let agent = agent(&topology, &[]);
    let sandbox = n1.sandbox("web-0").unwrap();
    let added = n1.runtime.add(&sandbox).unwrap();
    assert_eq!(agent.served("EnforceNpToPod")[0].host_veth, added.host_veth);
    for netns in [NetnsPath::Given, NetnsPath::Empty] {
        n1.runtime.del(&sandbox, netns).unwrap();
    }
    assert_eq!((daemon.served("DelNetwork").len(), agent.served("DeletePodNp").len()), (2, 1));
}
