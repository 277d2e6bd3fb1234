// SPDX-License-Identifier: Apache-2.0
//! `ipamd pods`: every address that a pod has, by the daemon's journal.

use std::io::Write;

use ipamd_core::snapshot::PodSnapshot;
use ipamd_core::{Config, Snapshot};

use super::ask::{Asked, Daemon};
use super::table::{Column, column, table};
use super::terminal::Screen;
use super::{pod_name, pretty, print, time};
use crate::clock;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// How, and whom.
    pub asked: Asked,
    /// Only pods of this namespace.
    pub namespace: Option<String>,
}

/// Prints the list.
///
/// # Errors
/// The daemon is not there, does not answer, or standard output is closed.
pub fn run(config: &Config, question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let snapshot = Daemon::of(config, question.asked.address.as_ref()).status()?;
    let pods = chosen(&snapshot, question.namespace.as_deref());
    let text =
        if question.asked.json { pretty(&pods)? } else { render(&pods, question, screen, clock::now().unix_nanos) };
    print(out, &text)
}

fn chosen<'a>(snapshot: &'a Snapshot, namespace: Option<&str>) -> Vec<&'a PodSnapshot> {
    let is_chosen = |pod: &&PodSnapshot| namespace.is_none_or(|namespace| pod.pod.namespace == namespace);
    snapshot.pods.iter().filter(is_chosen).collect()
}

const COLUMNS: [Column; 6] = [
    column("address"),
    column("pod"),
    column("ENI").rank(2),
    column("age").rank(1),
    column("container").rank(3),
    column("note").text().rank(1),
];

fn render(pods: &[&PodSnapshot], question: &Question, screen: &Screen, unix_nanos: i64) -> String {
    if pods.is_empty() {
        return match &question.namespace {
            Some(namespace) => format!("no pod of namespace {namespace} has an address here\n"),
            None => "no pod has an address here\n".to_owned(),
        };
    }
    let row = |pod: &&PodSnapshot| {
        let age = u64::try_from((unix_nanos - pod.allocated_unix_nanos) / 1_000_000).unwrap_or(0);
        vec![
            pod.address.to_string(),
            pod_name(&pod.pod),
            pod.eni_id.as_ref().map_or("-".to_owned(), ToString::to_string),
            if pod.allocated_unix_nanos == 0 { "-".to_owned() } else { time(age) },
            container(&pod.key).to_owned(),
            pod.orphan_for_ms.map(|ms| format!("host veth gone for {}", time(ms))).unwrap_or_default(),
        ]
    };
    table(screen, "", &COLUMNS, &pods.iter().map(row).collect::<Vec<_>>())
}

/// Of a key `network/container/ifname`, the middle.
pub(super) fn container(key: &str) -> &str {
    let rest = key.split_once('/').map_or(key, |(_, rest)| rest);
    rest.rsplit_once('/').map_or(rest, |(container, _)| container)
}

#[cfg(test)]
mod tests {
    use ipamd_core::ids::PodRef;

    use super::*;

    fn pod(namespace: &str, name: &str) -> PodSnapshot {
        PodSnapshot {
            key: format!("aws-cni/0123456789abcdef-{name}/eth0"),
            pod: PodRef { namespace: namespace.to_owned(), name: name.to_owned() },
            address: "10.0.1.23".parse().unwrap(),
            eni_id: Some("eni-0123456789abcdef0".into()),
            device_index: None,
            allocated_unix_nanos: 1_000_000_000,
            orphan_for_ms: None,
        }
    }

    #[test]
    fn a_narrow_screen_keeps_address_and_pod() {
        let pods = [pod("default", "web-0"), PodSnapshot { orphan_for_ms: Some(4_000), ..pod("kube-system", "dns") }];
        let pods: Vec<_> = pods.iter().collect();
        let at = |width| render(&pods, &Question::default(), &Screen { width, ..Screen::default() }, 61_000_000_000);
        let wide = at(None);
        for part in
            ["10.0.1.23", "default/web-0", "eni-0123456789abcdef0", "60.0s", "0123456789abcdef-web-0", "gone for 4.0s"]
        {
            assert!(wide.contains(part), "{part}: {wide}");
        }
        let narrow = at(Some(60));
        assert!(narrow.contains("10.0.1.23  kube-system/dns") && narrow.contains("no room for: container"), "{narrow}");
        assert_eq!(render(&[], &Question::default(), &Screen::default(), 0), "no pod has an address here\n");
    }

    #[test]
    fn a_container_id_may_hold_a_slash() {
        assert_eq!(container("aws-cni/a/b/eth0"), "a/b");
        assert_eq!(container("odd"), "odd");
    }
}
