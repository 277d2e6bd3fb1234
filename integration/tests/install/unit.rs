// SPDX-License-Identifier: Apache-2.0
//! systemd's own verdict on the unit.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::tools::built;

const UNIT: &str = include_str!("../../../deploy/systemd/enid-ipamd.service");

/// What `systemd-analyze verify` says of a unit's text; nothing of a good one.
fn verdict(text: &str) -> String {
    let packages = built("ENID_NETWORK_MANAGERS", "enid/network-managers");
    assert!(packages.is_dir(), "{} is not there: run `make network-managers`", packages.display());
    let unpacked = packages.join("usr/bin/systemd-analyze");
    let program = if unpacked.is_file() { unpacked.as_path() } else { Path::new("/usr/bin/systemd-analyze") };
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("enid-ipamd.service");
    // A program that is there.
    fs::write(&unit, text.replace("/usr/local/bin/ipamd", "/bin/true")).unwrap();
    let libraries = packages.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let libraries = format!("{0}:{0}/systemd", libraries.display());
    let units = format!("{}:{}", packages.join("usr/lib/systemd/system").display(), folder.path().display());
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", libraries).env("SYSTEMD_UNIT_PATH", units).arg("verify").arg(&unit);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn systemd_takes_the_unit() {
    assert_eq!(verdict(UNIT), "");
    let wrong = UNIT
        .replace("RuntimeDirectoryPreserve=yes", "RuntimeDirectoryPreserv=yes")
        .replace("Restart=always", "Restart=ever");
    let said = verdict(&wrong);
    assert!(said.contains("RuntimeDirectoryPreserv") && said.contains("ever"), "{said}");
}
