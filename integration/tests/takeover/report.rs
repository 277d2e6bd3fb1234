// SPDX-License-Identifier: Apache-2.0
//! `ipamd takeover --dry-run`: what it says comes true, what is in the way is named, and it changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use integration::tools::{Iptables, Tools};
use serde_json::Value;

use crate::bed::{ADDRESSES, Bed};

fn dry_run(bed: &Bed) -> Value {
    let text = bed.n1().ask(&["takeover", "--dry-run", "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What is in the way, as told on standard error and output of a run that fails.
fn refused(bed: &Bed) -> String {
    bed.n1().ask(&["takeover", "--dry-run"]).unwrap_err().to_string()
}

fn texts<'a>(report: &'a Value, list: &str, field: &str) -> BTreeSet<&'a str> {
    report[list].as_array().unwrap().iter().filter_map(|entry| entry[field].as_str()).collect()
}

/// Everything on the node that a command could change, a line each: files with their times and contents, and the kernel's objects. Not
/// IPv6, where the kernel itself is at work for seconds after a link has come up; not counters.
fn everything(bed: &Bed) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(bed.n1().state_folder()).unwrap() {
        let path = entry.unwrap().path();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let content = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(format!("{} {modified:?} {}", path.display(), String::from_utf8_lossy(&content)));
    }
    let (tools, netns) = (&bed.topology.world.tools, &bed.n1().netns);
    let kinds: [&[&str]; 5] = [
        &["-4", "rule", "show"],
        &["-4", "route", "show", "table", "all"],
        &["link", "show"],
        &["-4", "address", "show"],
        &["-4", "neigh", "show", "nud", "permanent"],
    ];
    for kind in kinds {
        let objects = tools.ip_json(netns, kind).unwrap();
        all.extend(objects.as_array().into_iter().flatten().map(|object| format!("{kind:?} {object}")));
    }
    let rules = Tools::iptables(netns, Iptables::Nft, &["iptables-save"], "").unwrap();
    all.extend(rules.lines().filter(|line| line.starts_with('-')).map(str::to_owned));
    all.insert(tools.nft_json(netns, &["list", "chains"]).unwrap().to_string());
    all
}

/// Runs it under strace; every netlink message, and every file that was opened to be written.
fn recorded(bed: &Bed) -> (Vec<String>, Vec<String>) {
    let file = bed.n1().state_folder().join("../dry-run.strace");
    let (strace, libraries) = Tools::strace().unwrap();
    let mut command = Command::new(strace);
    command.args([
        "-f",
        "-qq",
        "-s",
        "64",
        "-e",
        "signal=none",
        "-e",
        "trace=openat,sendto,sendmsg,sendmmsg,renameat2,rename,unlink",
    ]);
    command.arg("-o").arg(&file).arg(&bed.n1().programs()[0]).args(["takeover", "--dry-run"]).env_clear();
    command.envs(libraries.map(|folder| ("LD_LIBRARY_PATH", folder)));
    for variable in [
        "AWS_ENDPOINT_URL_EC2",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_VPC_K8S_CNI_BACKING_STORE",
        "ENID_SOCKET",
        "MY_NODE_NAME",
        "ENABLE_IPv4",
    ] {
        command.env(variable, bed.n1().variable(variable).unwrap());
    }
    let output = bed.n1().netns.run(|| command.output()).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&file).unwrap();
    let lines = |part: fn(&str) -> bool| text.lines().filter(|line| part(line)).map(str::to_owned).collect::<Vec<_>>();
    let writes = |line: &str| {
        let opens =
            line.contains("openat(") && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
        opens || line.contains("rename") || line.contains("unlink")
    };
    (lines(|line| line.contains("nlmsg_type=")), lines(writes))
}

#[test]
fn what_the_dry_run_says_comes_true_and_it_changes_nothing() {
    let mut bed = Bed::build(&ADDRESSES);
    let spare = bed.aws.enis[1].addresses[8];
    let dead = bed.aws.add(&bed.topology, "n1", 1, spare).unwrap();
    bed.n1()
        .ip(&format!("link del {}\nrule add to 192.0.2.0/24 priority 700 lookup main\n", dead.added.host_veth))
        .unwrap();
    bed.aws.write_checkpoint(&bed.topology, "n1").unwrap();
    let before = everything(&bed);
    let writes = bed.writes();
    let report = dry_run(&bed);
    let (netlink, written) = recorded(&bed);
    let after = everything(&bed);
    let changed: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(bed.writes(), writes);
    assert!(netlink.len() > 5, "strace shows what is asked of the kernel: {netlink:?}");
    let is_question =
        |line: &&String| line.contains("RTM_GET") || line.contains("NFT_MSG_GET") || line.contains("NLM_F_DUMP");
    let others: Vec<_> = netlink.iter().filter(|line| !is_question(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
    let strangers: Vec<_> = written.iter().filter(|line| !line.contains("/dev/null")).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");

    let live: BTreeSet<String> = bed.aws.pods.iter().map(|pod| pod.added.address.to_string()).collect();
    assert_eq!(texts(&report, "adopted", "address"), live.iter().map(String::as_str).collect());
    assert_eq!(texts(&report, "adopted", "eni_id").len(), 3, "{report}");
    let veths: BTreeSet<&str> = bed.aws.pods.iter().map(|pod| pod.added.host_veth.as_str()).collect();
    assert_eq!(texts(&report, "adopted", "host_veth"), veths);
    assert_eq!(texts(&report, "dropped", "address"), BTreeSet::from([spare.to_string().as_str()]));
    let told = report.to_string();
    assert!(told.contains("AWS-SNAT-CHAIN-0") && told.contains("delete table ip aws-cni"), "{told}");
    assert!(told.contains("priority 700"), "{told}");
    let human = bed.n1().ask(&["takeover", "--dry-run"]).unwrap();
    assert!(human.ends_with("nothing is in the way\n"), "{human}");

    bed.take_over(live.len());
    let status = bed.n1().status().unwrap();
    let adopted: BTreeSet<&str> =
        status["pods"].as_array().unwrap().iter().filter_map(|pod| pod["address"].as_str()).collect();
    assert_eq!(adopted, texts(&report, "adopted", "address"));
    let running = refused(&bed);
    assert!(running.contains("another ipamd holds"), "{running}");
}

#[test]
fn what_is_in_the_way_is_named_and_fails_the_dry_run() {
    let mut bed = Bed::build(&ADDRESSES);
    let answers = bed.as_if_a_daemon_answered(refused);
    assert!(answers.contains("a daemon answers at") && answers.contains("one thing is in the way"), "{answers}");
    for (variable, value, said) in [
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100", "mask 0x80 here, and AWS_VPC_K8S_CNI_CONNMARK is 0x100"),
        ("AWS_VPC_K8S_CNI_BACKING_STORE", "/run/enid/n1/state/other.json", "there is no ipam.json, and pods live here"),
    ] {
        let before = bed.n1().variable(variable).map(str::to_owned);
        bed.topology.node_mut("n1").set(variable, value);
        let told = refused(&bed);
        assert!(told.contains(said), "{told}");
        match before {
            Some(before) => bed.topology.node_mut("n1").set(variable, &before),
            None => bed.topology.node_mut("n1").unset(variable),
        }
    }
    // Pods whose links have other names are adopted all the same.
    bed.topology.node_mut("n1").set("AWS_VPC_K8S_CNI_VETHPREFIX", "abc");
    let report = dry_run(&bed);
    assert_eq!(texts(&report, "adopted", "address").len(), bed.aws.pods.len());
    assert!(report["notes"].to_string().contains("AWS_VPC_K8S_CNI_VETHPREFIX is"), "{}", report["notes"]);
    bed.topology.node_mut("n1").unset("AWS_VPC_K8S_CNI_VETHPREFIX");
    bed.n1().ip("link add vlan.eth.7 type veth peer name v7\n").unwrap();
    let lost = bed.aws.pods[0].added.address.to_string();
    let eni = bed.aws.enis[0].id.clone();
    let unassign = [("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", lost.as_str())];
    assert_eq!(bed.topology.emulator.ec2("UnassignPrivateIpAddresses", &unassign).status, 200);
    let told = refused(&bed);
    assert!(told.contains("2 things are in the way"), "{told}");
    assert!(
        told.contains(&format!("{lost} of aws-cni/")) && told.contains("vlan.eth.7 is a branch ENI's link"),
        "{told}"
    );
}

/// A node that went to Enid, to aws-node without a hand-back, and comes again: aws-node has given an address back and another pod has one
/// since.
#[test]
fn a_journal_that_is_out_of_date_is_told_and_not_believed() {
    let mut bed = Bed::build(&ADDRESSES);
    bed.take_over(bed.aws.pods.len());
    assert!(bed.topology.node_mut("n1").stop());
    assert!(dry_run(&bed)["notes"].to_string().contains("goes on where it was"));
    let own = bed.n1().state_folder().join("enid.json");
    let file = fs::File::options().write(true).open(&own).unwrap();
    file.set_modified(SystemTime::now() - std::time::Duration::from_secs(3_600)).unwrap();
    let (eni, gone) = (bed.aws.enis[0].id.clone(), bed.aws.enis[0].addresses.pop().unwrap());
    let gone = gone.to_string();
    let unassign = [("NetworkInterfaceId", eni.as_str()), ("PrivateIpAddress.1", gone.as_str())];
    assert_eq!(bed.topology.emulator.ec2("UnassignPrivateIpAddresses", &unassign).status, 200);
    let address = bed.aws.enis[0].addresses[6];
    let pod = bed.aws.add(&bed.topology, "n1", 0, address).unwrap();
    bed.aws.pods.push(pod);
    bed.aws.write_checkpoint(&bed.topology, "n1").unwrap();
    let report = dry_run(&bed);
    assert!(report["notes"].to_string().contains("is out of date"), "{report}");
    assert_eq!(report["adopted"].as_array().unwrap().len(), bed.aws.pods.len());
    bed.take_over(bed.aws.pods.len());
    assert!(own.with_extension("json.out-of-date").exists());
    let status = bed.n1().status().unwrap();
    assert!(status["addresses"].as_array().unwrap().iter().all(|known| known["address"] != gone), "{status}");
}

#[test]
fn iptables_legacy_is_told_with_the_command_that_clears_it() {
    let bed = Bed::build(&integration::aws_node::Spec { iptables: Iptables::Legacy, ..ADDRESSES });
    let report = dry_run(&bed);
    assert!(report["notes"].to_string().contains("iptables-legacy-save -c"), "{report}");
    assert!(report["removed"].as_array().unwrap().is_empty(), "{report}");
}
