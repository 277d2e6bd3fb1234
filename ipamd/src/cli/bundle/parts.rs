// SPDX-License-Identifier: Apache-2.0
//! What goes into a bundle. Each part is had by itself: one that fails, or a daemon that is down, costs no other.

#![expect(clippy::disallowed_methods, reason = "reads the node's files")]

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use datapath::apply::inspect;
use ipam_api::state;
use ipamd_core::Config;
use ipamd_core::config::{Bind, LogTarget};
use ipamd_core::tags::rfc3339;

use super::scrub;
use crate::cli::ask::{Asked, Daemon};
use crate::cli::terminal::Screen;
use crate::cli::{Environment, check, doctor, env_file, plan_host};
use crate::clock;
use crate::edge::host::state_folder;
use crate::telemetry::chain;

/// Of a file's end.
const MOST_BYTES: u64 = 512 * 1024;

/// Files of a folder that may have many.
const MOST_FILES: usize = 64;

/// The runtime's folder of lists, in the bundle.
const NET_D: &str = "files/net.d";

/// A file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its name.
    pub(super) name: String,
    /// What is in it; or why it could not be had.
    pub(super) content: Result<String, String>,
}

impl Part {
    fn new(name: impl Into<String>, content: Result<String, String>) -> Self {
        Self { name: name.into(), content }
    }
}

/// What the daemon is asked for.
const OF_DAEMON: [(&str, &str); 9] = [
    ("daemon/status.json", "/v1/status"),
    ("daemon/config.json", "/v1/config"),
    ("daemon/enis.json", "/v1/enis"),
    ("daemon/eni-configs.json", "/v1/eni-configs"),
    ("daemon/events.json", "/v1/events?since=0"),
    ("daemon/history.json", "/v1/history"),
    ("daemon/metrics.txt", "/metrics"),
    ("daemon/healthz.txt", "/healthz"),
    ("daemon/readyz.txt", "/readyz"),
];

/// Settings of the kernel that matter, below /proc/sys/net, and counters below /proc/net.
const OF_PROC: [&str; 13] = [
    "sys/net/ipv4/ip_forward",
    "sys/net/ipv4/tcp_early_demux",
    "sys/net/ipv4/conf/all/rp_filter",
    "sys/net/ipv4/conf/default/rp_filter",
    "sys/net/ipv4/conf/all/accept_local",
    "sys/net/ipv4/neigh/default/gc_thresh3",
    "sys/net/ipv6/conf/all/forwarding",
    "sys/net/ipv6/conf/all/disable_ipv6",
    "sys/net/netfilter/nf_conntrack_count",
    "sys/net/netfilter/nf_conntrack_max",
    "net/dev",
    "net/netstat",
    "net/softnet_stat",
];

/// Everything. `mistakes`: of the configuration.
pub(super) fn collect(config: &Config, address: Option<&Bind>, mistakes: Vec<String>) -> Vec<Part> {
    let daemon = Daemon::of(config, address);
    let asked = || Asked { json: true, address: address.cloned() };
    let mut parts =
        vec![Part::new("versions.txt", Ok(versions())), Part::new("environment.txt", Ok(scrub::shown(&Environment)))];
    parts.extend(
        (!mistakes.is_empty()).then(|| Part::new("configuration-mistakes.txt", Ok(mistakes.join("\n") + "\n"))),
    );
    parts.extend(OF_DAEMON.map(|(name, path)| Part::new(name, daemon.get(path).map_err(String::from))));
    let question = check::Question { asked: asked(), is_strict: false, is_without_daemon: true };
    parts.push(Part::new("check.json", said(|out| check::run(config, &question, &Screen::default(), out))));
    parts.push(Part::new("doctor.json", said(|out| doctor::run(config, true, out))));
    parts.push(Part::new("plan-host.txt", said(|out| plan_host::run(config, out))));
    for (name, text) in inspect::texts() {
        parts.push(Part::new(format!("kernel/{name}.txt"), text.map_err(|error| chain(&error))));
    }
    parts.push(Part::new("kernel/proc.txt", Ok(of_proc())));
    parts.extend(files(config));
    parts
}

/// What a command prints; that it found something wrong is no reason to leave it out.
fn said(run: impl FnOnce(&mut dyn Write) -> Result<(), String>) -> Result<String, String> {
    let mut out = Vec::new();
    let ended = run(&mut out);
    match (ended, String::from_utf8_lossy(&out).into_owned()) {
        (Err(error), text) if text.is_empty() => Err(error),
        (_, text) => Ok(text),
    }
}

pub(super) fn host_name() -> Option<String> {
    Some(rustix::system::uname().nodename().to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

fn versions() -> String {
    let uname = rustix::system::uname();
    let field = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let os = fs::read_to_string("/etc/os-release").unwrap_or_else(|error| format!("/etc/os-release: {error}\n"));
    format!(
        "ipamd {}\nkernel {} {} {}\nnode {}\nnow {}\nsince boot {} s\n\n{os}",
        env!("CARGO_PKG_VERSION"),
        field(uname.release()),
        field(uname.version()),
        field(uname.machine()),
        host_name().unwrap_or_default(),
        rfc3339(clock::now().unix_nanos),
        clock::boot().0.as_secs()
    )
}

fn of_proc() -> String {
    let one = |path: &str| match fs::read_to_string(Path::new("/proc").join(path)) {
        Ok(text) if text.lines().count() <= 1 => format!("{path} = {}\n", text.trim()),
        Ok(text) => format!("{path}:\n{text}"),
        Err(error) => format!("{path}: {error}\n"),
    };
    OF_PROC.map(one).concat()
}

fn files(config: &Config) -> Vec<Part> {
    let folder = state_folder(config);
    let mut parts = vec![file("files/ipam.json", &config.journal)];
    for name in ["enid.json", state::READY, state::STATUS] {
        parts.push(file(&format!("files/{name}"), &folder.join(name)));
    }
    for name in [state::HOST_PORTS, state::TOMBSTONES] {
        parts.extend(all_of(&format!("files/{name}"), &folder.join(name)));
    }
    let conf = config.cni.conf_folder.clone().unwrap_or_else(|| PathBuf::from("/etc/cni/net.d"));
    parts.extend(all_of(NET_D, &conf));
    let found = env_file::look();
    let text = if found.told.is_some() || !found.variables.is_empty() {
        Ok(scrub::shown(&found.variables)
            + &found.mistakes.iter().map(|mistake| format!("# {mistake}\n")).collect::<String>())
    } else {
        Err(format!("{} is not there", env_file::FILE))
    };
    parts.push(Part::new("files/ipamd.env", text));
    parts.push(file("logs/plugin.log", Path::new(&config.cni.plugin_log)));
    if let LogTarget::File(path) = &config.log.target {
        parts.push(file("logs/ipamd.log", path));
    }
    parts
}

/// The end of a file, from a line's start on: of a secret whose name is cut off nobody would see that it is one.
fn file(name: &str, path: &Path) -> Part {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(MOST_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        if start > 0 {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let end = end.ok_or_else(|| std::io::Error::other("its last line is too long: left out"))?;
            bytes.drain(..=end);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Part::new(name, read().map_err(|error| format!("{}: {error}", path.display())))
}

/// Files of a folder, by name; not what is in folders below.
fn all_of(name: &str, folder: &Path) -> Vec<Part> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![Part::new(name, Err(format!("{}: {error}", folder.display())))],
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let left_out = paths.len().saturating_sub(MOST_FILES);
    paths.truncate(MOST_FILES);
    let of_path = |path: &PathBuf| {
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let part = format!("{name}/{own}");
        // Beside the lists there may be somebody's kubeconfig.
        let is_of_others = name == NET_D
            && !["conf", "conflist", "json"].iter().any(|end| path.extension().is_some_and(|found| found == *end));
        if is_of_others {
            Part::new(part, Err("no configuration list: not read".to_owned()))
        } else {
            file(&part, path)
        }
    };
    let mut parts: Vec<Part> = paths.iter().map(of_path).collect();
    if left_out > 0 {
        parts.push(Part::new(format!("{name}/…"), Err(format!("{left_out} more files are left out"))));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_file_the_end_is_read_from_a_line_s_start_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let most = usize::try_from(MOST_BYTES).unwrap();
        let last = "the last line\n";
        fs::write(&path, format!("password={}\n{last}", "p".repeat(most))).unwrap();
        assert_eq!(file("x", &path).content.unwrap(), last);
        fs::write(&path, "p".repeat(most + 1)).unwrap();
        assert!(file("x", &path).content.unwrap_err().contains("too long"));
        fs::write(&path, "p".repeat(most)).unwrap();
        assert_eq!(file("x", &path).content.unwrap().len(), most);
    }
}
