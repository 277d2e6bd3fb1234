// SPDX-License-Identifier: Apache-2.0
//! Files below /proc/sys: read, compare, write only on a difference. Some handlers spin on RTNL when written (IPv4 and
//! IPv6 `forwarding`, `disable_ipv6`), which makes concurrent ADDs 13 to 21 times slower; reading costs 5 us.
//!
//! Below `net`, the kernel resolves a path in the network namespace of the task that opens it.
#![expect(clippy::disallowed_methods, reason = "files below /proc/sys are this module's job")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ApplyError;
use crate::plan::Sysctl;
use crate::plan::settings::Setting;

/// Makes a setting so. `Ok(false)`: it was so, or there is no such setting (a kernel without IPv6).
pub(crate) fn ensure(sysctl: &Sysctl) -> Result<bool, ApplyError> {
    match read(&sysctl.path)? {
        Some(found) => ensure_from(sysctl, found),
        None => Ok(false),
    }
}

/// The same when it is known what the setting is: netlink tells those of a link with the link.
pub(crate) fn ensure_from(sysctl: &Sysctl, found: String) -> Result<bool, ApplyError> {
    if found == sysctl.value {
        return Ok(false);
    }
    fs::write(full_path(&sysctl.path), &sysctl.value).map_err(|source| refused(sysctl, found, source))?;
    Ok(true)
}

/// A container has /proc/sys read-only unless it is privileged: the node's administrator can do what we cannot.
fn refused(sysctl: &Sysctl, found: String, source: io::Error) -> ApplyError {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            ApplyError::NotWritable { wanted: sysctl.clone(), found, source }
        }
        _ => {
            let doing = format!("writing {} (it is {found}) to", sysctl.value);
            ApplyError::Sysctl { doing, path: full_path(&sysctl.path), source }
        }
    }
}

/// The value without its line end; `None`: no such file.
pub(crate) fn read(path: &str) -> Result<Option<String>, ApplyError> {
    let path = full_path(path);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ApplyError::Sysctl { doing: "reading".to_owned(), path, source }),
    }
}

/// The value of a setting of the node; `None`: the kernel has none of it, or it is a link's.
pub(crate) fn value(setting: Setting) -> Result<Option<String>, ApplyError> {
    setting.path().map_or(Ok(None), read)
}

fn full_path(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}
