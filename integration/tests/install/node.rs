// SPDX-License-Identifier: Apache-2.0
//! From nothing to containers and back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use integration::fabric::sysctl;
use integration::node::{Node, plugin_binary};
use integration::probe;
use integration::runtimes::containerd::{Containerd, Line};
use integration::runtimes::podman::Podman;
use integration::topology::READY;

use crate::bed::{LIST, PLUGIN, install, nodes, wait_list};

const UNIT: &str = "/etc/systemd/system/enid-ipamd.service";

fn forwards(node: &Node) -> String {
    node.netns.run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward")).unwrap().unwrap().trim().to_owned()
}

#[test]
fn podman_and_ctr_run_containers_from_what_was_installed_and_an_uninstall_leaves_nothing() {
    let mut topology = nodes(false);
    sysctl(&topology.node("n1").netns, "net/ipv4/ip_forward", "0").unwrap();
    let n1 = topology.node("n1");
    let would = install(n1, &["--systemd", "--dry-run"]);
    assert_eq!(would.matches("would be ").count(), 3, "{would}");
    assert!(!Path::new(PLUGIN).exists() && !Path::new(UNIT).exists() && forwards(n1) == "0", "{would}");
    let told = install(n1, &["--systemd"]);
    let plugin = fs::metadata(PLUGIN).unwrap();
    assert_eq!((plugin.mode() & 0o7777, forwards(n1).as_str()), (0o755, "1"), "{told}");
    let unit = fs::read_to_string(UNIT).unwrap();
    assert!(unit.contains("/ipamd run") && !unit.contains("/usr/local/bin"), "the program's own path: {unit}");
    let again = install(n1, &["--systemd"]);
    assert_eq!(again.matches("there already: ").count(), 3, "{again}");
    assert_eq!(fs::metadata(PLUGIN).unwrap().ino(), plugin.ino());

    fs::create_dir_all("/etc/cni/net.d").unwrap();
    topology.start(&[]).unwrap();
    wait_list();
    let n1 = topology.node("n1");
    let refused = n1.ask(&["uninstall"]).unwrap_err().to_string();
    assert!(refused.contains("another ipamd holds") && Path::new(PLUGIN).exists(), "{refused}");
    let own = |address| topology.enis("n1").unwrap().iter().any(|eni| eni.secondary.contains(&address));
    let podman = Podman::start(&topology.world, n1).unwrap();
    podman.start_container("web", &[]).unwrap();
    let address = podman.address_of("web").unwrap();
    assert!(own(address), "{address}");
    probe::ping(&topology.node("n2").netns, address, 56).unwrap();
    let containerd = Containerd::start(&topology.world, n1, Line::One).unwrap();
    let far = topology.instance("n2").unwrap().address;
    let line = format!("ip -4 -o address show dev eth0; ping -c 1 -W 2 {far} >/dev/null && echo far");
    let said = containerd.ctr_run("one", &line).unwrap();
    assert!(said.contains("inet 10.0.1.") && said.ends_with("far"), "{said}");

    assert!(topology.node_mut("n1").stop());
    let n1 = topology.node("n1");
    let told = n1.ask(&["uninstall"]).unwrap();
    assert_eq!(told.matches("by which the runtime ends living pods").count(), 2, "{told}");
    assert!(Path::new(PLUGIN).exists() && Path::new(LIST).exists() && !Path::new(UNIT).exists(), "{told}");
    probe::ping(&topology.node("n2").netns, address, 56).unwrap();
    podman.run(&["rm", "--force", "--time", "0", "web"]).unwrap();
    let told = n1.ask(&["uninstall"]).unwrap();
    assert!(!Path::new(PLUGIN).exists() && !Path::new(LIST).exists(), "{told}");
    assert_eq!(forwards(n1), "0", "as it was before the install: {told}");
    let left = n1.leftovers().unwrap();
    assert!(left.is_empty(), "{left}");
    let told = n1.ask(&["uninstall"]).unwrap();
    assert_eq!(told.matches("not there: ").count(), 2, "{told}");
}

#[test]
fn an_uninstall_leaves_what_is_anothers() {
    let mut topology = nodes(true);
    let reference = r#"{"name": "aws-cni", "plugins": [{"type": "aws-cni"}, {"type": "egress-cni"}]}"#;
    fs::write(LIST, reference).unwrap();
    fs::write(PLUGIN, "the reference's").unwrap();
    fs::create_dir_all(Path::new(UNIT).parent().unwrap()).unwrap();
    fs::write(UNIT, "[Unit]\nDescription=mine\n").unwrap();
    let told = topology.node_mut("n1").ask(&["uninstall"]).unwrap();
    assert_eq!(told.matches("which is not Enid's").count(), 3, "{told}");
    assert!([LIST, PLUGIN, UNIT].iter().all(|path| Path::new(path).exists()));
}

/// What the unit leaves to the daemon: one capability, and /proc/sys to read only.
#[test]
fn a_daemon_with_the_units_one_capability_serves_what_the_install_prepared() {
    let mut topology = nodes(true);
    let n1 = topology.node_mut("n1");
    n1.set("DISABLE_TCP_EARLY_DEMUX", "true");
    n1.set("ENABLE_V6_EGRESS", "true");
    sysctl(&n1.netns, "net/ipv4/ip_forward", "0").unwrap();
    let told = install(n1, &[]);
    assert!(told.contains("tcp_early_demux") && told.contains("ipv6.conf.all.forwarding"), "{told}");
    let limits = "mount -o bind,ro /proc/sys /proc/sys; \
                  exec setpriv --no-new-privs --bounding-set=-all,+net_admin --inh-caps=-all -- \"$@\"";
    let wrapper = ["/usr/bin/unshare", "--mount", "/bin/bash", "-ec", limits, "limits"].map(str::to_owned);
    n1.start_under(&wrapper).unwrap();
    n1.wait_ready(READY).unwrap();
    wait_list();
    let sandbox = n1.next_sandbox().unwrap();
    let added = n1.runtime.add(&sandbox).unwrap();
    probe::ping(&n1.netns, added.address, 56).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", n1.daemon().unwrap().pid())).unwrap();
    let effective = status.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    // CAP_NET_ADMIN is 12 (capabilities(7)).
    assert!(effective.ends_with("0000000000001000"), "{effective}");
    let log = fs::read_to_string(n1.log()).unwrap();
    assert!(!log.contains("Permission denied") && !log.contains("Operation not permitted"), "{log}");
}

#[test]
fn an_install_that_cannot_be_done_names_the_file_and_the_cause() {
    let topology = nodes(true);
    let n1 = topology.node("n1");
    let refused = n1.ask(&["install", "--plugin", "/bin/true"]).unwrap_err().to_string();
    assert!(refused.contains("/bin/true is not the aws-cni of Enid"), "{refused}");
    let refused = n1.ask(&["install", "--plugin", "/no/where"]).unwrap_err().to_string();
    assert!(refused.contains("/no/where: No such file"), "{refused}");
    topology.world.make_read_only(Path::new("/opt/cni/bin")).unwrap();
    let plugin = plugin_binary().unwrap();
    let refused = n1.ask(&["install", "--plugin", &plugin.display().to_string()]).unwrap_err().to_string();
    assert!(refused.contains("/opt/cni/bin/.aws-cni.enid: Read-only file system"), "{refused}");
    let said = Command::new(plugin).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("aws-cni of Enid, version "));
}
