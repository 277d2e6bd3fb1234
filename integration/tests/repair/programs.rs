// SPDX-License-Identifier: Apache-2.0
//! The network manager of distributions, told to configure the node's links anew: it takes our rules, routes and addresses away.
//!
//! systemd-networkd runs in the node's network namespace with mount and process namespaces of its own, a private bus, and a
//! read-only /sys: for it that is a machine without udev, where links need not be waited for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::process::{Program, Running};

use crate::bed::{Bed, PATIENCE};

const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// Configures the links whenever `/run/go` appears, and says so in `/run/done`.
const SCRIPT: &str = r#"
set -eu
D=$1; shift
mkdir -p $D/run/systemd/netif/links $D/run/systemd/netif/leases $D/run/systemd/netif/lldp $D/run/systemd/network $D/run/dbus
chown -R systemd-network: $D/run/systemd/netif
mount --bind $D/etc /etc/systemd
mount --bind $D/run /run
umount -R /sys || true
mount -t sysfs -o ro sysfs /sys
dbus-daemon --config-file=/usr/share/dbus-1/system.conf --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd &
until networkctl list >/dev/null 2>&1; do sleep 0.2; done
touch /run/ready
while :; do
    until [ -e /run/go ]; do sleep 0.1; done
    rm /run/go
    for link in "$@"; do networkctl reconfigure $link; done
    touch /run/done
done
"#;

struct Networkd {
    folder: PathBuf,
    running: Running,
}

impl Networkd {
    /// Starts it with the node's two links configured as an image would.
    fn start(bed: &Bed) -> Self {
        for program in [NETWORKD, "/usr/bin/networkctl", "/usr/bin/dbus-daemon"] {
            assert!(
                Path::new(program).exists(),
                "{program} is not there: install systemd and dbus (apt-get install systemd dbus)"
            );
        }
        let world = &bed.topology.world;
        let folder = world.folder("networkd").unwrap();
        let eni = bed.eni_link();
        let primary = bed.topology.instance("n1").unwrap().address;
        let routes = world.tools.ip_json(&bed.n1().netns, &["route", "show", "default"]).unwrap();
        let router = routes[0]["gateway"].as_str().unwrap().to_owned();
        let network = folder.join("etc/network");
        std::fs::create_dir_all(&network).unwrap();
        let addresses = world.tools.ip_json(&bed.n1().netns, &["-4", "address", "show", "dev", "eth0"]).unwrap();
        let length = addresses[0]["addr_info"][0]["prefixlen"].clone();
        let eth0 = format!(
            "[Match]\nName=eth0\n[Link]\nMTUBytes=9001\n[Network]\nAddress={primary}/{length}\nGateway={router}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        );
        let second = format!("[Match]\nName={eni}\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n");
        std::fs::write(network.join("10-eth0.network"), eth0).unwrap();
        std::fs::write(network.join("20-eni.network"), second).unwrap();
        let words = [
            "-m",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            SCRIPT,
            "networkd",
        ];
        let mut arguments: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend([folder.display().to_string(), eni, "eth0".to_owned()]);
        let path =
            ["/usr/bin/unshare", "/bin/unshare"].map(PathBuf::from).into_iter().find(|path| path.exists()).unwrap();
        let environment = BTreeMap::from([("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())]);
        let log = folder.join("log");
        let running = Running::start(&bed.n1().netns, &Program { path, arguments, environment, log }).unwrap();
        let networkd = Self { folder, running };
        networkd.wait_for("ready");
        networkd
    }

    fn wait_for(&self, file: &str) {
        let path = self.folder.join("run").join(file);
        let there = eventually(file, Duration::from_secs(30), || {
            if path.exists() { Ok(()) } else { Err(format!("not there; {}", self.running.log_tail(30))) }
        });
        there.unwrap();
    }

    /// `networkctl reconfigure` of both links.
    fn reconfigure(&self) {
        let _ = std::fs::remove_file(self.folder.join("run/done"));
        std::fs::write(self.folder.join("run/go"), "").unwrap();
        self.wait_for("done");
    }
}

/// Everything that was there is there; what the manager adds of its own is its business.
fn wait_nothing_missing(bed: &Bed) -> Result<(), String> {
    let back = eventually("nothing of ours is missing", PATIENCE, || {
        let state = bed.state();
        let missing: Vec<_> = bed.whole.difference(&state).take(5).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?}")) }
    });
    back.map_err(|error| error.to_string())
}

#[test]
fn what_networkd_takes_away_is_put_back_and_networkd_is_named_when_it_does_not_end() {
    let bed = Bed::build();
    let networkd = Networkd::start(&bed);
    wait_nothing_missing(&bed).unwrap();
    let before: u64 = bed.repaired().iter().map(|(_, count)| count).sum();
    networkd.reconfigure();
    pass(Duration::from_secs(1));
    wait_nothing_missing(&bed).unwrap();
    bed.packets().unwrap();
    let after = bed.repaired();
    assert!(after.iter().map(|(_, count)| count).sum::<u64>() > before, "networkd did nothing to us: {after:?}");
    for _ in 0..40 {
        networkd.reconfigure();
        pass(Duration::from_millis(700));
        if bed.log().contains("HostContested") {
            break;
        }
    }
    let log = bed.log();
    let told = log
        .lines()
        .find(|line| line.contains("HostContested"))
        .unwrap_or_else(|| panic!("not told: {:?}", bed.repaired()));
    assert!(told.contains("systemd-networkd: set ManageForeignRoutingPolicyRules=no"), "{told}");
    wait_nothing_missing(&bed).unwrap();
    bed.packets().unwrap();
}
