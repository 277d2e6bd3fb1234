// SPDX-License-Identifier: Apache-2.0
//! helm and its company, as `scripts/charts.sh` fetches them, and objects as JSON.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::fed;
use integration::tools::built;
use serde_json::Value;

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The chart.
pub(crate) fn chart() -> PathBuf {
    repository().join("deploy/chart/enid")
}

/// One of the programs.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = built("ENID_CHARTS", "enid/charts").join("bin").join(name);
    assert!(path.exists(), "{} is not there: run `make charts`, or name a folder in ENID_CHARTS", path.display());
    path
}

/// helm with these arguments and values; nothing of the user's configuration is read.
pub(crate) fn helm(arguments: &[&str], values: &str) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("helm"));
    command.args(arguments).arg(chart()).args(["--values", "-"]).env("HOME", home.path());
    // Nowhere: what is rendered must not depend on a cluster that the user has access to.
    command.env_remove("KUBECONFIG").env("KUBERNETES_SERVICE_HOST", "");
    let output = fed(&mut command, values).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(said) }
}

/// The chart's objects with these values, as a release `enid` in kube-system.
pub(crate) fn rendered(values: &str) -> Vec<Value> {
    let text =
        helm(&["template", "enid", "--namespace", "kube-system"], values).unwrap_or_else(|said| panic!("{said}"));
    objects(&text, &[]).unwrap_or_else(|said| panic!("{said}"))
}

/// YAML as JSON; with `validate` and custom kinds as arguments, held to Kubernetes' schemas.
pub(crate) fn objects(yaml: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = Command::new(program("objects"));
    command.args(arguments);
    let output = fed(&mut command, yaml).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The object of a kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// A container of a DaemonSet's pod, init containers included.
pub(crate) fn container<'a>(daemon_set: &'a Value, name: &str) -> &'a Value {
    let pod = &daemon_set["spec"]["template"]["spec"];
    let lists = [&pod["initContainers"], &pod["containers"]];
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|it| it["name"] == name).unwrap_or_else(|| panic!("no container {name}"))
}

/// A variable of a container.
pub(crate) fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let list = container["env"].as_array().unwrap();
    list.iter().find(|it| it["name"] == name).and_then(|it| it["value"].as_str())
}
