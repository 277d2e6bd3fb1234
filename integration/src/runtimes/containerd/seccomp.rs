// SPDX-License-Identifier: Apache-2.0
//! containerd's default seccomp profile, which a pod with `RuntimeDefault` gets, written out by containerd itself: there is no copy of it
//! here that could grow old.
//!
//! `ctr containers create --seccomp` and the CRI's `RuntimeDefault` take it from the same function (`contrib/seccomp` in containerd's
//! source). It depends on the container's capabilities: some open further system calls.

use serde_json::Value;

use super::Containerd;
use crate::runtimes::{RuntimesError, failed};

/// What a container has that says nothing of it (`oci.defaultUnixCaps`).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Name of the container that is described and never run.
const NAME: &str = "profile";

impl Containerd {
    /// The profile for a container with these capabilities, which are written without `CAP_`: the member `linux.seccomp` of the OCI
    /// runtime specification.
    ///
    /// # Errors
    /// containerd refuses, or describes a container without one or with other capabilities.
    pub fn default_seccomp(&self, capabilities: &[&str]) -> Result<Value, RuntimesError> {
        let root = self.folder.join("no-root");
        std::fs::create_dir_all(&root).map_err(failed("making a folder"))?;
        let root = root.display().to_string();
        let dropped = DEFAULT.into_iter().filter(|name| !capabilities.contains(name));
        let dropped = dropped.flat_map(|name| ["--cap-drop".to_owned(), format!("CAP_{name}")]);
        let added = capabilities.iter().filter(|name| !DEFAULT.contains(name));
        let added = added.flat_map(|name| ["--cap-add".to_owned(), format!("CAP_{name}")]);
        let flags: Vec<String> = dropped.chain(added).collect();
        let mut words = vec!["containers", "create", "--rootfs", "--seccomp"];
        words.extend(flags.iter().map(String::as_str));
        words.extend([root.as_str(), NAME, "/true"]);
        self.ctr(&words)?;
        let text = self.ctr(&["containers", "info", "--spec", NAME])?;
        self.ctr(&["containers", "delete", NAME])?;
        let odd = |what: &str| RuntimesError::Odd(format!("{what}: {text}"));
        let spec: Value = serde_json::from_str(&text).map_err(|error| odd(&error.to_string()))?;
        let mut had: Vec<&str> = spec["process"]["capabilities"]["bounding"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut asked: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
        had.sort_unstable();
        asked.sort_unstable();
        if had != asked {
            return Err(odd(&format!("capabilities are {had:?}, not {asked:?}")));
        }
        match &spec["linux"]["seccomp"] {
            profile @ Value::Object(_) => Ok(profile.clone()),
            _ => Err(odd("no seccomp profile")),
        }
    }
}
