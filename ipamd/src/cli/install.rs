// SPDX-License-Identifier: Apache-2.0
//! `ipamd install`: what must be on the node before the daemon runs and that it cannot do itself, for want of rights. Run as root:
//! by the init container, by systemd before the daemon, or by hand.
//!
//! | step | what | undone by |
//! |---|---|---|
//! | plugin | `aws-cni` from beside this program (or `--plugin`) into HOST_CNI_BIN_PATH, whole or not at all | `ipamd uninstall` |
//! | settings | ip_forward and the others of [`datapath::plan::settings`] that are below /proc/sys | `ipamd cleanup-host`, by the same record as the daemon's |
//! | unit | with `--systemd`: `enid-ipamd.service` | `ipamd uninstall` |
//!
//! Not here: the network configuration list, which is the daemon's to write, when an ADD would succeed; rp_filter, which the daemon sets.
//! Nothing is written that is right: CRI-O watches the plugin's folder. Needs no Kubernetes and, but for the MAC of the primary ENI
//! where pods use IPv6, no metadata.

#![expect(clippy::disallowed_methods, reason = "an installer reads and writes files")]

use std::io::Write;
use std::path::{Path, PathBuf};

use datapath::apply::host;
use datapath::plan::Plan;
use ipamd_aws::Imds;
use ipamd_core::Config;
use ipamd_core::conflist::PLUGIN;

use super::plugin;
use crate::cli::{boot_id, print, wait};
use crate::clock;
use crate::edge::host::{mac, state_folder};
use crate::edge::lock::InstanceLock;
use crate::edge::place::{self, Placed};
use crate::edge::settings;
use crate::telemetry::chain;

/// The unit as it is shipped.
const UNIT: &str = include_str!("../../../deploy/systemd/enid-ipamd.service");
/// The program in it.
const UNIT_PROGRAM: &str = "/usr/local/bin/ipamd";
/// Where an administrator's units are (systemd.unit(5)).
pub(super) const UNIT_PATH: &str = "/etc/systemd/system/enid-ipamd.service";

const PROGRAM_MODE: u32 = 0o755;
const UNIT_MODE: u32 = 0o644;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The plugin's program; `None`: beside this one.
    pub plugin: Option<PathBuf>,
    /// Only say what would be done.
    pub is_dry_run: bool,
    /// Install the unit, too.
    pub has_unit: bool,
}

/// Installs, and prints what was done, a line each.
///
/// # Errors
/// The first step that failed, with the file and why; those before it are done.
pub fn run(config: &Config, options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let mut say = |line: String| print(out, format!("{line}\n"));
    say(install_plugin(config, options)?)?;
    for line in write_settings(config, options.is_dry_run)? {
        say(line)?;
    }
    if options.has_unit {
        say(install_unit(options.is_dry_run)?)?;
        if !options.is_dry_run {
            say("next: systemctl daemon-reload && systemctl enable --now enid-ipamd".to_owned())?;
        }
    }
    Ok(())
}

fn install_plugin(config: &Config, options: &Options) -> Result<String, String> {
    let source = options.plugin.clone().map_or_else(beside, Ok)?;
    let bytes = std::fs::read(&source)
        .map_err(|error| format!("reading the plugin {}: {error}; --plugin names another file", source.display()))?;
    let Some(version) = plugin::version(&bytes) else {
        return Err(format!("{} is not the {PLUGIN} of Enid; --plugin names another file", source.display()));
    };
    let folder = plugin::folder(config.cni.bin_folder.as_deref());
    let path = folder.join(PLUGIN);
    let what = format!("{PLUGIN} {version} in {}", folder.display());
    placed(&path, &bytes, PROGRAM_MODE, options.is_dry_run, &what)
}

/// Puts a file in its place, or says what would become of it.
fn placed(path: &Path, bytes: &[u8], mode: u32, is_dry_run: bool, what: &str) -> Result<String, String> {
    if is_dry_run {
        let is_so = place::is_so(path, bytes, mode);
        return Ok(format!("{}: {what}", if is_so { "there already" } else { "would be installed" }));
    }
    if let Some(folder) = path.parent() {
        place::make_folder(folder).map_err(|error| chain(&error))?;
    }
    match place::place(path, bytes, mode) {
        Ok(Placed::Written) => Ok(format!("installed: {what}")),
        Ok(Placed::Same) => Ok(format!("there already: {what}")),
        Err(error) => Err(format!("installing {what}: {}", chain(&error))),
    }
}

fn beside() -> Result<PathBuf, String> {
    Ok(own_path()?.with_file_name(PLUGIN))
}

fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("this program's own path cannot be read: {error}"))
}

fn install_unit(is_dry_run: bool) -> Result<String, String> {
    let program = own_path()?.display().to_string();
    let text = UNIT.replace(UNIT_PROGRAM, &program);
    let said = placed(Path::new(UNIT_PATH), text.as_bytes(), UNIT_MODE, is_dry_run, UNIT_PATH)?;
    Ok(if can_be_started(&program) {
        said
    } else {
        format!(
            "{said}\nit cannot start {program}: homes and /tmp are hidden from it, and blanks and % mean something else there; put ipamd \
             into /usr/local/bin and run its install again"
        )
    })
}

/// Whether the unit (ProtectHome, PrivateTmp) sees a program there, and systemd takes its path as it is.
fn can_be_started(program: &str) -> bool {
    let is_hidden = ["/root/", "/home/", "/run/user/", "/tmp/", "/var/tmp/"].iter().any(|top| program.starts_with(top));
    !is_hidden && !program.contains([' ', '\t', '%', '"', '\\'])
}

/// Whether a file is the unit that an install wrote, of whatever version.
pub(super) fn is_unit(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let description = UNIT.lines().find(|line| line.starts_with("Description=")).unwrap_or_default();
    text.lines().any(|line| line == description)
}

/// What was written, or would be, a line each.
fn write_settings(config: &Config, is_dry_run: bool) -> Result<Vec<String>, String> {
    let (mac, mut told) = match config.v6_egress.then(primary_mac) {
        Some(Ok(mac)) => (Some(mac), Vec::new()),
        // Nothing else waits for metadata; what is missing then the daemon tells by itself, and serves IPv4.
        Some(Err(error)) => {
            (None, vec![format!("not looked at: what ENABLE_V6_EGRESS needs of the primary ENI's link: {error}")])
        }
        None => (None, Vec::new()),
    };
    let missing = host::missing_settings(config.disables_early_demux, mac).map_err(|error| chain(&error))?;
    if missing.is_empty() {
        told.push("there already: the node's settings".to_owned());
        return Ok(told);
    }
    if !is_dry_run {
        record_and_write(config, &missing)?;
    }
    let verb = if is_dry_run { "would be set" } else { "set" };
    told.extend(missing.ops.iter().map(|op| format!("{verb}: {op}")));
    Ok(told)
}

/// What the settings were is written beside the journal first, as the daemon does: one process has that file at a time.
fn record_and_write(config: &Config, missing: &Plan) -> Result<(), String> {
    let folder = state_folder(config);
    place::make_folder(folder).map_err(|error| chain(&error))?;
    let _lock = InstanceLock::take(folder).map_err(|error| chain(&error))?;
    let boot_id = boot_id()?;
    let unix_seconds = clock::now().unix_nanos / 1_000_000_000;
    let mut ledger = settings::open(folder, &boot_id, unix_seconds).map_err(|error| chain(&error))?;
    host::write_settings(missing, &mut ledger).map_err(|error| chain(&error))
}

fn primary_mac() -> Result<datapath::plan::MacAddr, String> {
    let answer = wait(async { Imds::new().get("mac").await })?.map_err(|failure| failure.message)?;
    let parsed = answer.and_then(|text| text.parse().ok()).map(mac);
    parsed.ok_or_else(|| "IMDS does not tell the MAC of the primary ENI".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_unit_cannot_start_is_known() {
        assert!(can_be_started("/usr/local/bin/ipamd"));
        for path in ["/root/ipamd", "/home/ec2-user/ipamd", "/tmp/ipamd", "/opt/my programs/ipamd", "/opt/100%/ipamd"] {
            assert!(!can_be_started(path), "{path}");
        }
    }

    #[test]
    fn the_unit_is_known_by_its_description_whatever_its_program() {
        assert!(is_unit(UNIT.replace(UNIT_PROGRAM, "/opt/enid/ipamd").as_bytes()));
        assert!(!is_unit(b"[Unit]\nDescription=Something else\n"));
        assert_eq!(UNIT.matches(UNIT_PROGRAM).count(), 2);
    }
}
