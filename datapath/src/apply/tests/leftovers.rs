// SPDX-License-Identifier: Apache-2.0
//! The reference's leftovers go, and nothing else; and what others have in nf_tables, however much, costs us nothing.
#![expect(clippy::disallowed_methods, reason = "measures how long a set-up takes")]

use std::time::{Duration, Instant};

use super::host::{node, setup};
use crate::apply::testbed::{Space, tool};
use crate::apply::{host, hostport, takeover};

fn iptables(node: &Space, kind: &str, words: &[&str]) -> String {
    let mut command = tool(&format!("usr/sbin/xtables-{kind}-multi"));
    let output = node.run(|| command.envs(extensions()).arg("iptables").args(words).output()).unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where iptables from unpacked packages finds its libraries and extensions.
fn extensions() -> Vec<(String, String)> {
    let command = tool("usr/sbin/xtables-legacy-multi");
    let libraries = command.get_envs().find_map(|(name, value)| (name == "LD_LIBRARY_PATH").then_some(value?));
    let Some(libraries) = libraries else { return Vec::new() };
    let folder = std::env::split_paths(libraries).map(|path| path.join("xtables")).find(|path| path.is_dir());
    let folder = folder.expect("the extensions of iptables");
    let text = |value: &std::ffi::OsStr| value.to_str().expect("a path in UTF-8").to_owned();
    vec![("LD_LIBRARY_PATH".to_owned(), text(libraries)), ("XTABLES_LIBDIR".to_owned(), text(folder.as_os_str()))]
}

/// Rules of amazon-vpc-cni-k8s v1.23 in an IPv4 cluster, `%` between words with blanks.
const THEIRS: [&str; 12] = [
    "-t nat -N AWS-SNAT-CHAIN-0",
    "-t nat -A POSTROUTING -m comment --comment AWS%SNAT%CHAIN -j AWS-SNAT-CHAIN-0",
    "-t nat -A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment AWS%SNAT%CHAIN -j RETURN",
    "-t nat -A AWS-SNAT-CHAIN-0 -d 192.168.0.0/16 -m comment --comment AWS%SNAT%CHAIN%EXCLUSION -j RETURN",
    "-t nat -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment AWS,%SNAT -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.10 --random-fully",
    "-t mangle -A PREROUTING -i eth0 -m comment --comment AWS,%primary%ENI -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80",
    "-t mangle -A PREROUTING -i eni+ -m comment --comment AWS,%primary%ENI -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80",
    "-t nat -N AWS-CONNMARK-CHAIN-0",
    "-t nat -A PREROUTING -i eni+ -m comment --comment AWS,%outbound%connections -j AWS-CONNMARK-CHAIN-0",
    "-t nat -A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment AWS%CONNMARK%CHAIN -j RETURN",
    "-t nat -A AWS-CONNMARK-CHAIN-0 -m comment --comment AWS,%CONNMARK -j CONNMARK --set-xmark 0x80/0x80",
    "-t nat -A PREROUTING -m comment --comment AWS,%CONNMARK -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80",
];

/// Others' rules in the same chains, some of which look alike.
const OTHERS: [&str; 7] = [
    "-t nat -N AWS-SNAT-CHAIN-MINE",
    "-t nat -A POSTROUTING -m comment --comment AWS%SNAT%CHAIN%of%mine -j AWS-SNAT-CHAIN-MINE",
    "-t nat -A POSTROUTING -s 10.9.0.0/16 -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
    "-t nat -N KUBE-SERVICES",
    "-t nat -A PREROUTING -m comment --comment kubernetes -j KUBE-SERVICES",
    "-t nat -A KUBE-SERVICES -d 172.20.0.1 -p tcp -m tcp --dport 443 -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.0.1.7:443",
    "-t mangle -A PREROUTING -i eth0 -m conntrack --ctstate INVALID -j DROP",
];

fn run(node: &Space, kind: &str, rule: &str) {
    let words: Vec<String> = rule.split(' ').map(|word| word.replace('%', " ")).collect();
    iptables(node, kind, &words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn listing(node: &Space, kind: &str) -> String {
    ["nat", "mangle"].map(|table| iptables(node, kind, &["-t", table, "-S"])).concat()
}

#[test]
fn the_reference_s_rules_go_and_all_others_stay() {
    let (node, clean) = (node(), Space::new());
    OTHERS.iter().for_each(|rule| run(&clean, "nft", rule));
    // In turn, so that each stands between others.
    for (place, rule) in THEIRS.iter().enumerate() {
        [Some(rule), OTHERS.get(place)].into_iter().flatten().for_each(|rule| run(&node, "nft", rule));
    }
    // Its native marks, and a table that only looks like its own.
    node.nft("add table ip aws-cni");
    node.nft("add chain ip aws-cni snat-mark");
    node.nft("add table ip6 aws-cni");
    host::setup(&setup()).unwrap();
    let ours = node.nft("-a list table ip enid");
    let (before, told) = (listing(&node, "nft"), takeover::observe().unwrap().leftovers);
    assert_eq!(listing(&node, "nft"), before, "a look takes nothing away");
    let found = host::remove_leftovers().unwrap();
    assert_eq!(found, told);
    // Five rules, two chains emptied and deleted, one table.
    assert_eq!(found.len(), 5 + 4 + 1, "{found:#?}");
    assert_eq!(listing(&node, "nft"), listing(&clean, "nft"));
    assert_eq!(node.nft("-a list table ip enid"), ours);
    assert!(!node.nft("list tables ip").contains("aws-cni"));
    assert!(node.nft("list tables ip6").contains("aws-cni"));
    assert_eq!(host::remove_leftovers().unwrap(), Vec::<String>::new());
}

#[test]
fn a_node_without_the_reference_is_not_written_to() {
    let node = node();
    assert_eq!(host::remove_leftovers().unwrap(), Vec::<String>::new());
    assert!(!host::has_legacy_tables());
    run(&node, "legacy", OTHERS[2]);
    assert!(host::has_legacy_tables());
    let before = listing(&node, "legacy");
    assert_eq!(host::remove_leftovers().unwrap(), Vec::<String>::new());
    assert_eq!(listing(&node, "legacy"), before);
}

/// Runs an operator's command, with the two programs by the names that they have on a node.
fn run_by_hand(node: &Space, command: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = tool("usr/sbin/xtables-legacy-multi");
    for name in ["iptables-legacy-save", "iptables-legacy-restore"] {
        let target =
            node.run(|| std::process::Command::new("which").arg(program.get_program()).output()).unwrap().stdout;
        std::os::unix::fs::symlink(String::from_utf8(target).unwrap().trim(), folder.path().join(name)).unwrap();
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command]).env("PATH", path);
    for (name, value) in extensions() {
        shell.env(name, value);
    }
    let status = node.run(|| shell.status()).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn the_command_for_iptables_legacy_takes_theirs_and_no_others() {
    let (node, clean) = (node(), Space::new());
    THEIRS.iter().chain(&OTHERS).for_each(|rule| run(&node, "legacy", rule));
    OTHERS.iter().for_each(|rule| run(&clean, "legacy", rule));
    run_by_hand(&node, host::LEGACY_CLEANUP);
    assert_eq!(listing(&node, "legacy"), listing(&clean, "legacy"));
}

/// What portmap v1.x has for a sandbox, and for all.
fn portmap(node: &Space, kind: &str, network: &str, container: &str, chain: &str) {
    let comment = format!("dnat name: \"{network}\" id: \"{container}\"");
    iptables(node, kind, &["-t", "nat", "-N", chain]);
    let to = format!("-t nat -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.7:80");
    run(node, kind, &to);
    let mut entry: Vec<&str> = "-t nat -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment".split(' ').collect();
    entry.extend([comment.as_str(), "-m", "multiport", "--destination-ports", "8080", "-j", chain]);
    iptables(node, kind, &entry);
}

fn portmap_for_all(node: &Space, kind: &str) {
    run(node, kind, "-t nat -N CNI-HOSTPORT-DNAT");
    run(node, kind, "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT");
}

/// What a DEL takes away of portmap's.
fn of_portmap(network: &str, container: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = hostport::Sandbox { network, container };
    let withdrawn = hostport::withdraw_all(folder.path(), &format!("{network}/{container}/eth0"), sandbox).unwrap();
    assert_eq!(withdrawn.closed.unwrap(), 0);
    withdrawn.of_portmap.unwrap()
}

#[test]
fn portmap_s_rules_of_one_sandbox_go_and_those_of_others_stay() {
    let (node, clean) = (Space::enter_new(), Space::new());
    assert_eq!(of_portmap("aws-cni", "c1"), Vec::<String>::new(), "no table");
    for space in [&node, &clean] {
        portmap_for_all(space, "nft");
        portmap(space, "nft", "aws-cni", "c11", "CNI-DN-bbbb");
    }
    portmap(&node, "nft", "aws-cni", "c1", "CNI-DN-aaaa");
    for space in [&node, &clean] {
        portmap(space, "nft", "other", "c1", "CNI-DN-cccc");
    }
    let found = of_portmap("aws-cni", "c1");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(listing(&node, "nft"), listing(&clean, "nft"));
    assert_eq!(of_portmap("aws-cni", "c1"), Vec::<String>::new());
}

#[test]
fn the_command_for_portmap_in_iptables_legacy_takes_one_sandbox_s_entry() {
    let (node, clean) = (Space::enter_new(), Space::new());
    for (space, sandboxes) in [(&node, vec!["c11", "c1"]), (&clean, vec!["c11"])] {
        portmap_for_all(space, "legacy");
        sandboxes.iter().for_each(|sandbox| portmap(space, "legacy", "aws-cni", sandbox, &format!("CNI-DN-{sandbox}")));
    }
    assert!(host::has_legacy_tables());
    run_by_hand(&node, &hostport::portmap_legacy_cleanup("c1"));
    let entries = |space: &Space| {
        let rules = iptables(space, "legacy", &["-t", "nat", "-S", "CNI-HOSTPORT-DNAT"]);
        rules.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(entries(&node), entries(&clean));
}

/// 100,000 rules of others, in as many chains as 1,000 Services have.
#[test]
fn the_table_is_installed_within_50_ms_whatever_others_have() {
    let node = node();
    let chains: String = (0..2_000).map(|n| format!("add chain ip services svc{n}\n")).collect();
    let rules: String = (0..100_000u32)
        .map(|n| {
            format!(
                "add rule ip services svc{} ip daddr 10.{}.{}.{} counter\n",
                n % 2_000,
                n >> 16,
                n >> 8 & 255,
                n & 255
            )
        })
        .collect();
    node.nft_text(&format!("add table ip services\n{chains}{rules}"));
    let install = || {
        let started = Instant::now();
        host::setup(&setup()).unwrap();
        started.elapsed()
    };
    // The best of several: the bound is the kernel's and ours, not that of whoever else has the processor.
    let best = (0..10)
        .map(|_| {
            let took = install();
            node.nft("delete table ip enid");
            took
        })
        .min()
        .unwrap();
    println!("installed in {best:?}");
    assert!(best < Duration::from_millis(50), "{best:?}");
}
