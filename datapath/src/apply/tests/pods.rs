// SPDX-License-Identifier: Apache-2.0
//! Attach: what it makes, read back by `ip`.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::apply::ApplyError;
use crate::apply::observe;
use crate::apply::pod::{Attached, AttachedPod, Site, Standing, attach, detach, is_living, standing};
use crate::apply::testbed::{Space, assert_same, pod, settle};
use crate::plan::pod::{PodAttachment, PodDetachment};
use crate::plan::{LinkName, MacAddr, RouteTable, Rule, VethAlias, ids};

fn attach_new(sandbox: &Space, pod: &PodAttachment) -> AttachedPod {
    match attach(&sandbox.path(), pod).unwrap() {
        Attached::Now(attached) => attached,
        Attached::Before(link) => panic!("{link} is spared"),
    }
}

fn find<'a>(list: &'a Value, key: &str, value: &str) -> Option<&'a Value> {
    list.as_array().unwrap().iter().find(|entry| entry[key] == value)
}

#[test]
fn a_pod_has_everything_it_needs_and_nothing_else() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("web-0", Ipv4Addr::new(10, 0, 1, 7), Some(2));
    let attached = attach_new(&sandbox, &pod);

    let links = node.ip_json("-d link show");
    let host = find(&links, "ifname", pod.host_veth.as_str()).unwrap();
    assert_eq!(host["ifindex"], attached.host_index);
    assert_eq!(host["mtu"], 9001);
    assert_eq!(host["address"], pod.host_mac.to_string());
    assert_eq!(host["ifalias"], "enid aws-cni/web-0-sandbox/eth0 10.0.1.7");
    assert_eq!((&host["num_tx_queues"], &host["num_rx_queues"]), (&Value::from(1), &Value::from(1)));
    assert!(host["flags"].as_array().unwrap().contains(&Value::from("UP")));
    let inside = sandbox.ip_json("-d addr show");
    let eth0 = find(&inside, "ifname", "eth0").unwrap();
    assert_eq!(eth0["ifindex"], attached.pod_index);
    assert_eq!(eth0["mtu"], 9001);
    assert_eq!(eth0["address"], pod.pod_mac.to_string());
    assert_eq!((&eth0["num_tx_queues"], &eth0["num_rx_queues"]), (&Value::from(1), &Value::from(1)));
    let address = eth0["addr_info"].as_array().unwrap().iter().find(|info| info["family"] == "inet").unwrap();
    assert_eq!((&address["local"], &address["prefixlen"]), (&Value::from("10.0.1.7"), &Value::from(32)));
    let lo = find(&inside, "ifname", "lo").unwrap();
    assert!(lo["flags"].as_array().unwrap().contains(&Value::from("UP")));

    assert_eq!(
        node.ip("-4 route show table main").trim(),
        format!("10.0.1.7 dev {} proto 158 scope link", pod.host_veth)
    );
    settle(&sandbox);
    let routes = sandbox.ip("-4 route show");
    assert_eq!(
        routes.lines().map(str::trim).collect::<Vec<_>>(),
        ["default via 169.254.1.1 dev eth0 proto 158", "169.254.1.1 dev eth0 proto 158 scope link"]
    );
    let rules: Vec<_> = node.ip("rule").lines().map(|line| line.replace('\t', " ").trim().to_owned()).collect();
    assert!(rules.contains(&"512: from all to 10.0.1.7 lookup main proto 158".to_owned()), "{rules:?}");
    assert!(rules.contains(&"1536: from 10.0.1.7 lookup 2 proto 158".to_owned()), "{rules:?}");
    assert_eq!(rules.len(), 5);
    let permanent = |space: &Space, address: &str, mac: MacAddr| {
        let neighbours = space.ip_json("neigh show nud permanent");
        assert_eq!(find(&neighbours, "dst", address).unwrap()["lladdr"], mac.to_string());
    };
    permanent(&node, "10.0.1.7", pod.pod_mac);
    permanent(&sandbox, "169.254.1.1", pod.host_mac);
    let setting = |key: &str| node.sysctl_value(&format!("ipv6/conf/{}/{key}", pod.host_veth));
    assert_eq!(
        (setting("accept_ra"), setting("accept_redirects"), setting("forwarding")),
        ("0".into(), "1".into(), "0".into())
    );
}

#[test]
fn a_pod_on_the_primary_eni_has_no_from_rule() {
    let (node, first, second) = (Space::enter_new(), Space::new(), Space::new());
    attach(&first.path(), &pod("a", Ipv4Addr::new(10, 0, 0, 7), None)).unwrap();
    attach(&second.path(), &pod("b", Ipv4Addr::new(10, 0, 0, 8), Some(254))).unwrap();
    assert!(!node.ip("rule").contains("1536:"));
}

#[test]
fn ipv6_settings_of_the_node_do_not_reach_a_host_veth() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    node.sysctl("ipv6/conf/default/forwarding", "1");
    node.sysctl("ipv6/conf/default/accept_ra", "2");
    node.sysctl("ipv6/conf/default/accept_redirects", "0");
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    attach(&sandbox.path(), &pod).unwrap();
    let setting = |key: &str| node.sysctl_value(&format!("ipv6/conf/{}/{key}", pod.host_veth));
    assert_eq!(
        (setting("accept_ra"), setting("accept_redirects"), setting("forwarding")),
        ("0".into(), "1".into(), "0".into())
    );
}

#[test]
fn a_repeated_add_replaces_its_own_broken_veth() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(3));
    let before = attach_new(&sandbox, &pod);
    node.ip("route del 10.0.0.7");
    let after = attach_new(&sandbox, &pod);
    assert_ne!(before.host_index, after.host_index);
    assert_eq!(node.ip("-4 route show table main").lines().count(), 1);
    assert_eq!(node.ip("rule").lines().count(), 5);
}

#[test]
fn a_pod_whose_host_veth_has_the_prefix_of_before_is_spared_or_made_anew_under_the_new_one() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let old = pod("web-0", Ipv4Addr::new(10, 0, 1, 7), Some(2));
    let new = PodAttachment { host_veth: LinkName::host_veth("abc", "default", "web-0", "").unwrap(), ..old.clone() };
    attach_new(&sandbox, &old);
    settle(&sandbox);
    let before = (node.dump(), sandbox.dump());
    assert_eq!(attach(&sandbox.path(), &new).unwrap(), Attached::Before(old.host_veth.clone()));
    assert_same(&before.0, &node.dump(), "the node's side");
    assert_same(&before.1, &sandbox.dump(), "the pod's side");

    // No route leads to it: only its alias can tell.
    node.ip("route del 10.0.1.7");
    assert!(is_living(&old.owner).unwrap() && standing(&sandbox.path(), &new).unwrap() == Standing::Partial);
    attach_new(&sandbox, &new);
    assert_eq!(standing(&sandbox.path(), &new).unwrap(), Standing::Plumbed);
    assert!(!node.ip("link").contains(old.host_veth.as_str()), "of one owner there is one link");

    let gone = PodDetachment { host_veth: new.host_veth.clone(), owner: new.owner.clone(), addresses: Vec::new() };
    detach(&gone).unwrap();
    assert!(!is_living(&old.owner).unwrap());
}

#[test]
fn a_pod_that_is_plumbed_is_spared_and_one_that_lacks_something_is_made_anew() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("web-0", Ipv4Addr::new(10, 0, 1, 7), Some(2));
    let first = attach_new(&sandbox, &pod);
    settle(&sandbox);
    let before = (node.dump(), sandbox.dump());
    assert_eq!(attach(&sandbox.path(), &pod).unwrap(), Attached::Before(pod.host_veth.clone()));
    assert_same(&before.0, &node.dump(), "the node's side");
    assert_same(&before.1, &sandbox.dump(), "the pod's side");
    node.ip(&format!("link set {} down", pod.host_veth));
    let again = attach_new(&sandbox, &pod);
    assert_ne!(first.host_index, again.host_index);
    assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
}

#[test]
fn standing_tells_a_whole_pod_from_a_broken_one_and_from_none() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(3));
    let is = || standing(&sandbox.path(), &pod).unwrap();
    assert_eq!(is(), Standing::Absent);
    attach(&sandbox.path(), &pod).unwrap();
    assert_eq!(is(), Standing::Plumbed);
    node.ip("rule del priority 1536");
    assert_eq!(is(), Standing::Partial);
    attach(&sandbox.path(), &pod).unwrap();
    sandbox.ip("addr del 10.0.0.7/32 dev eth0");
    assert_eq!(is(), Standing::Partial);
    let detachment =
        PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() };
    detach(&detachment).unwrap();
    assert_eq!(is(), Standing::Absent);
}

#[test]
fn a_re_created_statefulset_pod_takes_its_predecessor_s_name() {
    let (node, old_sandbox, new_sandbox) = (Space::enter_new(), Space::new(), Space::new());
    let old = pod("db-0", Ipv4Addr::new(10, 0, 0, 7), Some(3));
    attach(&old_sandbox.path(), &old).unwrap();
    let mut new = pod("db-0", Ipv4Addr::new(10, 0, 0, 8), Some(4));
    new.owner = "aws-cni/another/eth0".to_owned();
    attach(&new_sandbox.path(), &new).unwrap();
    let state = observe::kernel("eni").unwrap();
    let alias = VethAlias::new("aws-cni/another/eth0", new.addresses).unwrap();
    assert_eq!(state.pods.iter().map(|pod| pod.alias.clone()).collect::<Vec<_>>(), [Some(alias)]);
    // The predecessor's rules would have outlived it.
    let address = new.addresses.v4().unwrap();
    assert_eq!(state.ours.rules, [Rule::to_pod(address), Rule::from_pod(address, Some(RouteTable(4)))]);
    assert!(!node.ip("rule").contains("10.0.0.7"));
}

#[test]
fn a_stale_from_rule_of_an_earlier_pod_does_not_win() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    node.ip("rule add priority 1536 from 10.0.0.7 lookup 9");
    node.ip("rule add priority 1536 from 10.0.0.7 lookup 8");
    node.ip("rule add priority 1536 from 10.0.0.77 lookup 9");
    attach(&sandbox.path(), &pod("a", Ipv4Addr::new(10, 0, 0, 7), Some(3))).unwrap();
    let rules = node.ip("rule list priority 1536");
    let mut lines: Vec<_> = rules.lines().map(|line| line.replace('\t', " ")).collect();
    lines.sort();
    assert_eq!(lines, ["1536: from 10.0.0.7 lookup 3 proto 158", "1536: from 10.0.0.77 lookup 9"]);
}

#[test]
fn a_link_that_is_no_host_veth_keeps_its_name() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    node.ip(&format!("link add {} type bridge", pod.host_veth));
    let error = attach(&sandbox.path(), &pod).unwrap_err();
    assert!(matches!(error, ApplyError::LinkNameTaken { .. }), "{error}");
    assert!(error.to_string().contains("bridge"), "{error}");
}

#[test]
fn the_node_s_own_namespace_is_refused_as_a_pod_s() {
    let node = Space::enter_new();
    let before = node.dump();
    let error = attach(&node.path(), &pod("a", Ipv4Addr::new(10, 0, 0, 7), None)).unwrap_err();
    assert!(matches!(error, ApplyError::Namespace { .. }), "{error}");
    assert_same(&before, &node.dump(), "dump");
}

/// Opened before the address was known: a namespace that lives on only because we hold it is no sandbox any more.
#[test]
#[expect(clippy::disallowed_methods, reason = "takes the sandbox's file away")]
fn a_site_whose_namespace_is_gone_or_another_by_now_is_not_plumbed() {
    let (node, old, new) = (Space::enter_new(), Space::new(), Space::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("netns");
    std::os::unix::fs::symlink(old.path(), &path).unwrap();
    let open = || Site::open(&path).unwrap();
    let (still, gone, other) = (open(), open(), open());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    still.current().unwrap().attach(&pod).unwrap();
    assert!(old.ip("link").contains("eth0"));
    detach(&PodDetachment {
        host_veth: pod.host_veth.clone(),
        owner: pod.owner.clone(),
        addresses: pod.addresses.iter().collect(),
    })
    .unwrap();
    std::fs::remove_file(&path).unwrap();
    let before = node.dump();
    assert!(matches!(gone.current(), Err(ApplyError::Namespace { .. })));
    assert_same(&before, &node.dump(), "dump");
    std::os::unix::fs::symlink(new.path(), &path).unwrap();
    other.current().unwrap().attach(&pod).unwrap();
    assert!(new.ip("link").contains("eth0"));
}

#[test]
fn a_hundred_and_ten_pods_at_once_are_all_attached() {
    let node = Space::enter_new();
    let sandboxes: Vec<_> = (0..110).map(|_| Space::new()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0u8..110)
            .zip(&sandboxes)
            .map(|(n, sandbox)| {
                scope.spawn(move || {
                    let pod = pod(&format!("p{n}"), Ipv4Addr::new(10, 0, 2, n), Some(2 + u32::from(n % 3)));
                    attach(&sandbox.path(), &pod)
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    let state = observe::kernel("eni").unwrap();
    assert_eq!(state.pods.len(), 110);
    for pod in &state.pods {
        assert_eq!(pod.host_routes, pod.alias.as_ref().unwrap().addresses.iter().collect::<Vec<_>>());
        assert_eq!(pod.group, 0);
    }
    assert_eq!(state.ours.rules.len(), 220);
    assert_eq!(state.ours.routes.len(), 110);
    assert_eq!(state.ours.neighbours.len(), 110);
    assert_eq!(node.ip("rule").lines().count(), 223);
    for sandbox in &sandboxes {
        assert_eq!(sandbox.ip("-4 route show").lines().count(), 2);
    }
}

#[test]
fn two_adds_for_one_sandbox_leave_one_whole_pod_or_none() {
    let node = Space::enter_new();
    for round in 0..20u8 {
        let sandbox = Space::new();
        let pod = pod("twice", Ipv4Addr::new(10, 0, 3, round), Some(2));
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| attach(&sandbox.path(), &pod))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let state = observe::kernel("eni").unwrap();
        let whole = state.pods.len() == 1 && state.ours.rules.len() == 2 && state.ours.routes.len() == 1;
        let none = state.pods.is_empty() && state.ours.rules.is_empty() && state.ours.routes.is_empty();
        assert!(whole || none, "round {round}: {results:?}\n{}", node.dump());
        if results.iter().any(Result::is_ok) && none {
            // Both were taken back: allowed only when both failed.
            assert!(results.iter().all(Result::is_err), "round {round}: {results:?}");
        }
        if whole {
            node.ip(&format!("link del {}", pod.host_veth));
        }
        for rule in state.ours.rules {
            node.ip(&format!("rule del {rule}"));
        }
    }
}

#[test]
fn observation_tells_foreign_links_from_pods() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    attach(&sandbox.path(), &pod).unwrap();
    node.ip("link add enireference type veth peer name far");
    node.ip("link set enireference up");
    node.ip("route add 10.0.0.9/32 dev enireference scope link");
    node.ip("link add br0 type bridge");
    let state = observe::kernel("eni").unwrap();
    let seen: Vec<_> =
        state.pods.iter().map(|pod| (pod.link.to_string(), pod.alias.is_some(), pod.host_routes.clone())).collect();
    let mut wanted = [
        (pod.host_veth.to_string(), true, pod.addresses.iter().collect::<Vec<_>>()),
        ("enireference".to_owned(), false, vec![Ipv4Addr::new(10, 0, 0, 9).into()]),
    ];
    wanted.sort();
    assert_eq!(seen, wanted);
    assert!(state.links.iter().any(|(name, mac, _)| *name == pod.host_veth && *mac == pod.host_mac));
    assert_eq!(state.ours.routes.len(), 1);
    assert_eq!(state.ours.routes[0].link, LinkName::new(pod.host_veth.as_str()).unwrap().into());
    assert_eq!(ids::PROTOCOL, 158);
}

#[test]
fn links_of_others_with_names_and_aliases_that_are_no_text_do_not_spoil_the_reading() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", Ipv4Addr::new(10, 0, 0, 7), None);
    attach(&sandbox.path(), &pod).unwrap();
    node.shell(
        r#"ip link add $(printf 'a\377b') type veth peer name far; ip link set far alias "$(printf 'enid \377')""#,
    );
    let state = observe::kernel("eni").unwrap();
    assert_eq!(
        state.pods.iter().map(|pod| pod.host_routes.clone()).collect::<Vec<_>>(),
        [[pod.addresses.iter().next().unwrap()]]
    );
    assert_eq!(state.links.iter().filter(|(name, ..)| ["a?b", "far"].contains(&name.as_str())).count(), 2);
    assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
}
