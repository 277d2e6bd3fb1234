// SPDX-License-Identifier: Apache-2.0
//! `ipamd uninstall`: the way back on nodes that one looks after oneself, once the daemon is stopped: kernel, list, plugin, unit.
//!
//! The kernel's objects go first, as `ipamd cleanup-host` has it. While pods live, plugin and list stay, for the runtime ends them by
//! these (and starts none: no daemon serves); run again they go. Only what is ours goes, known by content: another CNI,
//! the reference for one, may have put its own in the same places. Run twice it says that nothing is there.
//!
//! Not here: stopping the daemon, ENIs in EC2, and the state folder, which a boot empties.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use ipamd_core::Config;
use ipamd_core::config::Source;
use ipamd_core::conflist::{self, PLUGIN};

use super::cleanup_host::{self, Cleaned};
use super::{install, plugin, print};
use crate::edge::lock::InstanceLock;
use crate::edge::place;
use crate::telemetry::chain;

/// The runtime's folder of lists, where none is configured: the host's as a container sees it, the host's own.
const CONF_FOLDERS: [&str; 2] = ["/host/etc/cni/net.d", "/etc/cni/net.d"];

/// Uninstalls, and prints what became of each thing. Of the environment only paths are read: a mistake elsewhere must not stand in
/// the way.
///
/// # Errors
/// The daemon runs, and nothing was done; or everything that could not be removed. Where the kernel could not be cleaned, pods may live.
pub fn run(environment: &dyn Source, out: &mut dyn Write) -> Result<(), String> {
    let path = |name: &str| environment.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let journal = path("AWS_VPC_K8S_CNI_BACKING_STORE").unwrap_or_else(|| Config::default().journal);
    let state = journal.parent().unwrap_or(Path::new("/"));
    // To the end: a daemon that starts meanwhile would lose its plugin.
    let lock = InstanceLock::of_no_daemon(state);
    let _lock = lock.map_err(|error| format!("{} (systemctl stop enid-ipamd)", chain(&error)))?;
    let folder = path("HOST_CNI_CONFDIR_PATH").unwrap_or_else(conf_folder);
    let program = plugin::folder(path("HOST_CNI_BIN_PATH").as_deref()).join(PLUGIN);
    let mut told = String::new();
    let mut errors = Vec::new();
    let mut done = |line: Result<String, String>| match line {
        Ok(line) => told.push_str(&line),
        Err(error) => errors.push(error),
    };
    let living = match cleanup_host::clean(state) {
        Ok(Cleaned { text, living_pods, failure }) => {
            done(Ok(text));
            failure.into_iter().for_each(|failure| done(Err(failure)));
            living_pods
        }
        Err(error) => {
            done(Err(error));
            1
        }
    };
    let (list, is_kept) = (folder.join(conflist::NAME), living > 0);
    done(if is_kept { keep(&list) } else { remove_list(&list) });
    done(if is_kept { keep(&program) } else { remove_plugin(&program) });
    done(remove_unit(Path::new(install::UNIT_PATH)));
    print(out, &told)?;
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

fn conf_folder() -> PathBuf {
    let [of_container, own] = CONF_FOLDERS.map(PathBuf::from);
    if of_container.is_dir() { of_container } else { own }
}

fn remove_list(path: &Path) -> Result<String, String> {
    let Some(bytes) = place::read(path).map_err(|error| chain(&error))? else {
        return Ok(format!("not there: {}\n", path.display()));
    };
    let Some(others) = conflist::ours(&String::from_utf8_lossy(&bytes)) else {
        return Ok(format!("left: {}, which is not Enid's\n", path.display()));
    };
    place::remove(path).map_err(|error| chain(&error))?;
    let mut line = format!("removed: {}", path.display());
    if !others.is_empty() {
        let _ = write!(line, ", in which there were also {}", others.join(", "));
    }
    Ok(line + "\n")
}

/// What stays while pods live.
fn keep(path: &Path) -> Result<String, String> {
    let is_there = place::read(path).map_err(|error| chain(&error))?.is_some();
    let line =
        format!("left: {}, by which the runtime ends living pods; run `ipamd uninstall` again then\n", path.display());
    Ok(if is_there { line } else { String::new() })
}

fn remove_plugin(path: &Path) -> Result<String, String> {
    let Some(bytes) = place::read(path).map_err(|error| chain(&error))? else {
        return Ok(format!("not there: {}\n", path.display()));
    };
    if plugin::version(&bytes).is_none() {
        return Ok(format!("left: {}, which is not Enid's\n", path.display()));
    }
    place::remove(path).map_err(|error| chain(&error))?;
    Ok(format!("removed: {}\n", path.display()))
}

fn remove_unit(path: &Path) -> Result<String, String> {
    match place::read(path).map_err(|error| chain(&error))? {
        None => Ok(String::new()),
        Some(text) if !install::is_unit(&text) => Ok(format!("left: {}, which is not Enid's\n", path.display())),
        Some(_) => {
            place::remove(path).map_err(|error| chain(&error))?;
            Ok(format!("removed: {}; next: systemctl daemon-reload\n", path.display()))
        }
    }
}
