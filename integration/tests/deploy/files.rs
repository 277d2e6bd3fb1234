// SPDX-License-Identifier: Apache-2.0
//! Files that follow from others: the plain manifests, the chart's version; and the Dockerfile.

use std::process::Command;

use integration::process::fed;

use crate::charts::{chart, program, repository};

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let mut command = Command::new(repository().join("scripts/manifests.sh"));
    command.env("ENID_CHARTS", program("helm").parent().unwrap().parent().unwrap());
    let output = fed(&mut command, "").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let committed = std::fs::read_to_string(repository().join("deploy/manifests/enid.yaml")).unwrap();
    assert_eq!(committed, String::from_utf8(output.stdout).unwrap(), "run `make manifests` and read the diff");
}

#[test]
fn the_chart_has_the_workspaces_version() {
    let text = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&line), "no{line}in Chart.yaml");
    }
}

#[test]
fn hadolint_has_no_complaint_about_the_dockerfile() {
    let mut command = Command::new(program("hadolint"));
    command.arg("--no-color").arg(repository().join("deploy/Dockerfile"));
    let output = fed(&mut command, "").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // It would: a base that moves, for one.
    let mut command = Command::new(program("hadolint"));
    command.arg("-");
    assert!(!fed(&mut command, "FROM debian:latest\n").unwrap().status.success());
}
