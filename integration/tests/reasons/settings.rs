// SPDX-License-Identifier: Apache-2.0
//! Settings that name what is not there, have no effect, or are wrong; and what else is in the way of a daemon that works.

use std::net::TcpListener;
use std::time::Duration;

use integration::kube_http::patch::Part;
use serde_json::json;

use crate::bed::{Bed, moment};

#[test]
fn a_node_with_everything_in_its_way() {
    let mut bed = Bed::new(1, "m5.large");
    let log = bed.node("n1").log();
    let path = |name: &str| log.with_file_name(name).to_string_lossy().into_owned();
    let (snat, settings, notify) = (path("snat.json"), path("settings.yaml"), path("notify"));
    let no_folder = path("no-folder");
    let taken = bed.node("n1").netns.run(|| TcpListener::bind("127.0.0.1:61679")).unwrap().unwrap();
    bed.api.deny(("", "nodes/status".to_owned(), "patch"), true);
    std::fs::write(&no_folder, "").unwrap();
    bed.start(
        "n1",
        &[
            ("ENID_SETTINGS_FILE", &settings),
            ("ENID_SNAT_FILE", &snat),
            ("WARM_PREFIX_TARGET", "1"),
            ("ENID_NOTRACK", "true"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("NOTIFY_SOCKET", &notify),
            ("HOST_CNI_CONFDIR_PATH", &format!("{no_folder}/net.d")),
            ("ENABLE_V6_EGRESS", "true"),
        ],
    );
    for code in [
        "SettingsFileMissing",
        "SnatFileMissing",
        "SettingIneffective",
        "NotrackIneffective",
        "SystemdNotTold",
        "ConflistNotWritten",
        "IntrospectionUnavailable",
        "ApiServerUnavailable",
        "EgressImpossible",
    ] {
        bed.shows("n1", code, None);
    }
    std::fs::write(&snat, "no JSON").unwrap();
    bed.shows("n1", "SnatFileInvalid", None);
    drop(taken);
}

#[test]
fn settings_and_max_pods_that_are_wrong_and_then_right() {
    let mut bed = Bed::new(1, "m5.large");
    let settings = bed.node("n1").log().with_file_name("settings.yaml");
    std::fs::write(&settings, "classes: [{name: all, settings: {WARM_IP_TARGETS: 8}}]").unwrap();
    bed.change_node("n1", Part::Status, json!({ "status": { "capacity": { "pods": "110" } } }));
    bed.start("n1", &[("ENID_SETTINGS_FILE", &settings.to_string_lossy()), ("WARM_IP_TARGET", "1")]);
    bed.shows("n1", "ConfigurationInvalid", None);
    bed.shows("n1", "MaxPodsTooHigh", None);
    has_reason(&bed, "EnidMaxPodsFits", "MaxPodsTooHigh");
    moment();
    std::fs::write(&settings, "classes: [{name: all, settings: {WARM_IP_TARGET: 2}}]").unwrap();
    bed.change_node("n1", Part::Status, json!({ "status": { "capacity": { "pods": "29" } } }));
    has_reason(&bed, "EnidConfigurationValid", "ConfigurationValid");
    has_reason(&bed, "EnidMaxPodsFits", "MaxPodsFits");
}

/// A condition of the Node has this reason; the return to a good one is written half a minute late at most.
fn has_reason(bed: &Bed, kind: &str, reason: &str) {
    let look = || match bed.api.node_condition("n1", kind) {
        Some(condition) if condition["reason"] == reason => Ok(()),
        other => Err(format!("{other:?}")),
    };
    integration::eventually::eventually(&format!("{kind} is {reason}"), Duration::from_secs(70), look).unwrap();
}
