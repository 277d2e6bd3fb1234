// SPDX-License-Identifier: Apache-2.0
//! The programs of distributions that configure networks too, on a node where Enid runs: they take rules, routes and addresses
//! away, and would take links over.
//!
//! They run in the node's network namespace with mount and process namespaces of their own, which is a distribution to them: what
//! `scripts/network-managers.sh` unpacked lies over /usr and /etc; /etc, /var/lib, /run and /dev are private; there is a bus. With a
//! /sys that only reads they take the machine for one without udev, where links need not be waited for.

mod network_manager;
mod networkd;
mod udev;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::eventually::eventually;
use integration::process::{Program, Running};
use integration::tools::built;
use integration::topology::Topology;

use crate::bed::{Bed, PATIENCE};

/// How long a program may take to start, and a command to end.
const COMMAND: Duration = Duration::from_secs(30);

/// Makes the distribution, starts the program, and then runs whatever is in `/run/go`, leaving its output and its exit code.
const SCRIPT: &str = r#"
set -eu
own=$1 packages=$2 sys=$3 program=$4 ready=$5
mkdir -p $own/{etc,work,lib,run/dbus,run/systemd/network,run/systemd/netif/{links,leases,lldp}}
cp /etc/passwd /etc/group $own/etc/
add_user() {
    grep -q "^$1:" /etc/passwd && return
    echo "$1:x:$2:$2::/:/usr/sbin/nologin" >>$own/etc/passwd
    echo "$1:x:$2:" >>$own/etc/group
}
add_user messagebus 64001
add_user systemd-network 64002
mount -t overlay overlay -o lowerdir=$packages/usr:/usr /usr
mount -t overlay overlay -o lowerdir=$packages/etc:/etc,upperdir=$own/etc,workdir=$own/work /etc
mkdir $own/dev
mount -t tmpfs dev $own/dev
for device in null zero random urandom tty; do
    touch $own/dev/$device
    mount --bind /dev/$device $own/dev/$device
done
mount --rbind $own/dev /dev
# Rules for network links only: those for disks would find the machine's.
if [ -d /usr/lib/udev/rules.d ]; then
    mkdir $own/rules
    cp /usr/lib/udev/rules.d/{75-net-description,80-net-setup-link,85-nm-unmanaged}.rules $own/rules
    mount --bind $own/rules /usr/lib/udev/rules.d
fi
chown -R systemd-network: $own/run/systemd/netif
mount --bind $own/lib /var/lib
mount --bind $own/run /run
umount -R /sys || true
mount -t sysfs -o $sys sysfs /sys
dbus-daemon --config-file=/usr/share/dbus-1/system.conf --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
$program &
until $ready >/dev/null 2>&1; do sleep 0.1; done
touch /run/ready
while :; do
    until [ -e /run/go ]; do sleep 0.05; done
    mv /run/go /run/now
    code=0
    timeout 25 bash -c "$(cat /run/now)" >/run/said 2>&1 </dev/null || code=$?
    echo $code >/run/code
    mv /run/code /run/done
done
"#;

/// What runs beside Enid.
struct Setup<'a> {
    /// Of its folder.
    name: &'static str,
    /// Whether it is a machine with udev.
    with_udev: bool,
    /// Files of its /etc, by their path below it.
    files: &'a [(&'a str, String)],
    /// The command that is the program, in the foreground.
    program: &'static str,
    /// A command that succeeds once it serves.
    ready: &'static str,
}

/// A running program of a distribution; ends with this.
struct Distribution {
    folder: PathBuf,
    running: Running,
}

impl Distribution {
    fn start(topology: &Topology, setup: &Setup) -> Self {
        let packages = built("ENID_NETWORK_MANAGERS", "enid/network-managers");
        assert!(packages.is_dir(), "{} is not there: run `make network-managers`", packages.display());
        let folder = topology.world.folder(setup.name).unwrap();
        for (path, text) in setup.files {
            write(&folder.join("etc").join(path), text);
        }
        let unshare = ["/usr/bin/unshare", "/bin/unshare"].map(PathBuf::from).into_iter().find(|path| path.exists());
        let spaces = ["-m", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let own = [folder.display().to_string(), packages.display().to_string()];
        let arguments = [if setup.with_udev { "rw" } else { "ro" }, setup.program, setup.ready];
        let words = spaces.into_iter().chain(["bash", "-c", SCRIPT, setup.name]).map(str::to_owned);
        let environment =
            [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("SYSTEMD_LOG_TARGET", "console"), ("LC_ALL", "C")];
        let program = Program {
            path: unshare.expect("unshare is not there: install util-linux"),
            arguments: words.chain(own).chain(arguments.map(str::to_owned)).collect(),
            environment: BTreeMap::from(environment.map(|(key, value)| (key.to_owned(), value.to_owned()))),
            log: folder.join("log"),
        };
        let running = Running::start(&topology.node("n1").netns, &program).unwrap();
        let distribution = Self { folder, running };
        distribution.wait_for("ready");
        distribution
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join("run").join(file)
    }

    fn wait_for(&self, file: &str) {
        let path = self.path(file);
        let there = eventually(file, COMMAND, || {
            if path.exists() { Ok(()) } else { Err(format!("not there; {}", self.running.log_tail(30))) }
        });
        there.unwrap();
    }

    /// Runs a command of the distribution's, which must succeed: what it printed.
    fn run(&self, command: &str) -> String {
        let _ = std::fs::remove_file(self.path("done"));
        std::fs::write(self.path("next"), command).unwrap();
        std::fs::rename(self.path("next"), self.path("go")).unwrap();
        self.wait_for("done");
        let said = std::fs::read_to_string(self.path("said")).unwrap();
        let code = std::fs::read_to_string(self.path("done")).unwrap();
        assert_eq!(code.trim(), "0", "{command}: {said}\n{}", self.running.log_tail(30));
        said
    }

    /// Puts a file into its /etc.
    fn install(&self, path: &str, text: &str) {
        std::fs::write(self.path("file"), text).unwrap();
        self.run(&format!("install -D -m 644 /run/file /etc/{path}"));
    }
}

/// NetworkManager takes profiles only when nobody else can read them; systemd-networkd is not root.
fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    let mode = if path.extension().is_some_and(|kind| kind == "nmconnection") { 0o600 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The primary ENI's address with its length, and its router, as an image would configure them.
fn primary_address(bed: &Bed) -> (String, String) {
    let tools = &bed.topology.world.tools;
    let routes = tools.ip_json(&bed.n1().netns, &["route", "show", "default"]).unwrap();
    let router = routes[0]["gateway"].as_str().unwrap().to_owned();
    let addresses = tools.ip_json(&bed.n1().netns, &["-4", "address", "show", "dev", "eth0"]).unwrap();
    let length = &addresses[0]["addr_info"][0]["prefixlen"];
    (format!("{}/{length}", bed.topology.instance("n1").unwrap().address), router)
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

/// How often anything was put back.
fn repaired(bed: &Bed) -> u64 {
    bed.repaired().iter().map(|(_, count)| count).sum()
}
