// SPDX-License-Identifier: Apache-2.0
//! `ipamd why`: why a pod, or a sandbox by its id, has its address or none, what an address is, or why nobody gets one: the daemon's
//! state and its log, joined.
//!
//! Decides nothing: the daemon's words are the answer ([`ipamd_core::snapshot::WhySnapshot`] and the records), put beside what belongs to
//! them. What to do stands in the table of reasons.

mod no_address;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;

use ipamd_core::chronicle::{Kind, Record, Records};
use ipamd_core::reason::NoticeLevel;
use ipamd_core::snapshot::{AddressSnapshot, PodSnapshot, WaiterSnapshot};
use ipamd_core::{Config, Snapshot};
use serde_json::json;

use super::ask::{Asked, Daemon};
use super::events::{is_pod, line};
use super::pods::container;
use super::terminal::Screen;
use super::{pod_name, pretty, print, reasons, time};
use crate::clock;

/// Not a pod, and not an address.
const NO_ADDRESS: &str = "no-address";

/// Records shown of a pod or an address; those that matter are the newest.
const MOST_RECORDS: usize = 40;

/// Less of an id than this is taken for a name.
const SHORTEST_ID: usize = 6;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// How, and whom.
    pub asked: Asked,
    /// A pod, a sandbox's id or its beginning, an address, or `no-address`.
    pub what: String,
}

/// Prints the answer.
///
/// # Errors
/// The daemon is not there or does not answer; nothing is known of what is asked about; standard output is closed.
pub fn run(config: &Config, question: &Question, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let daemon = Daemon::of(config, question.asked.address.as_ref());
    let snapshot = daemon.status()?;
    let records: Records = daemon.json("/v1/events?since=0")?;
    let known = Known { snapshot: &snapshot, records: &records, screen, unix_nanos: clock::now().unix_nanos };
    let text = match question.what.as_str() {
        NO_ADDRESS => known.no_address(question.asked.json)?,
        what => match what.parse() {
            Ok(address) => known.address(address, question.asked.json)?,
            Err(_) => known.pod(what, question.asked.json)?,
        },
    };
    print(out, &text)
}

/// What there is to answer from.
struct Known<'a> {
    snapshot: &'a Snapshot,
    records: &'a Records,
    screen: &'a Screen,
    unix_nanos: i64,
}

impl Known<'_> {
    fn pod(&self, what: &str, json: bool) -> Result<String, String> {
        let by_name = |pod: &str, _: &str| !pod.is_empty() && is_pod(pod, what);
        if self.knows(by_name) {
            return self.of_pods(what, json, by_name);
        }
        if let Some(id) = self.sandbox(what)? {
            return self.of_pods(what, json, |_, key| container(key) == id);
        }
        Err(format!(
            "nothing is known of a pod or sandbox {what} here: it has no address, asks for none, and the daemon's memory has nothing of \
             it; `ipamd pods` lists those that have one, and `kubectl get pod -o wide` says on which node it is (a pod on the host's network \
             has the node's address)"
        ))
    }

    /// Whether there is anything that has this name of a pod and this key.
    fn knows(&self, is_wanted: impl Fn(&str, &str) -> bool) -> bool {
        let pods = self.snapshot.pods.iter().map(|pod| (pod_name(&pod.pod), pod.key.as_str()));
        let waiters = self.snapshot.waiters.iter().map(|waiter| (pod_name(&waiter.pod), waiter.key.as_str()));
        let mut of_state = pods.chain(waiters);
        of_state.any(|(name, key)| is_wanted(&name, key))
            || self.records.records.iter().any(|record| is_of(record, &is_wanted))
    }

    /// The one sandbox whose id begins so, as crictl shows it (`crictl pods`), or as a runtime's URL has it.
    fn sandbox(&self, what: &str) -> Result<Option<&str>, String> {
        let beginning = what.rsplit_once("://").map_or(what, |(_, id)| id);
        if beginning.len() < SHORTEST_ID {
            return Ok(None);
        }
        let pods = self.snapshot.pods.iter().map(|pod| pod.key.as_str());
        let waiters = self.snapshot.waiters.iter().map(|waiter| waiter.key.as_str());
        let records = self.records.records.iter().filter_map(|record| record.key.as_deref());
        let ids: BTreeSet<&str> = pods.chain(waiters).chain(records).map(container).collect();
        let mut fit = ids.iter().copied().filter(|id| id.starts_with(beginning));
        match (ids.get(beginning).copied(), fit.next(), fit.next()) {
            (Some(id), ..) | (None, Some(id), None) => Ok(Some(id)),
            (None, None, _) => Ok(None),
            (None, Some(one), Some(other)) => Err(format!(
                "{what} is the beginning of several sandboxes' ids, {one} and {other} among them: give more of it"
            )),
        }
    }

    fn of_pods(&self, what: &str, json: bool, is_wanted: impl Fn(&str, &str) -> bool) -> Result<String, String> {
        let pods: Vec<_> = self.snapshot.pods.iter().filter(|pod| is_wanted(&pod_name(&pod.pod), &pod.key)).collect();
        let waiters: Vec<_> =
            self.snapshot.waiters.iter().filter(|waiter| is_wanted(&pod_name(&waiter.pod), &waiter.key)).collect();
        let records = self.records(|record| is_of(record, &is_wanted));
        if json {
            return pretty(&json!({
                "pod": what, "addresses": pods, "waiting": waiters, "records": records, "missed": self.records.missed,
            }));
        }
        let mut text = String::new();
        pods.iter().for_each(|pod| text.push_str(&self.has(pod)));
        waiters.iter().for_each(|waiter| text.push_str(&self.waits(waiter)));
        if pods.is_empty() && waiters.is_empty() {
            text.push_str(&self.screen.labelled("pod", &self.absent(what, &records)));
        }
        if pods.is_empty() {
            text.push_str(&self.last_refusal(&records));
        }
        Ok(text + &self.log(&records))
    }

    fn has(&self, pod: &PodSnapshot) -> String {
        let (screen, address) = (self.screen, pod.address);
        let age = u64::try_from((self.unix_nanos - pod.allocated_unix_nanos) / 1_000_000).unwrap_or(0);
        let since = if pod.allocated_unix_nanos == 0 { String::new() } else { format!(" for {}", time(age)) };
        let eni = match (&pod.eni_id, pod.device_index) {
            (Some(eni), Some(index)) if index.0 == 0 => format!("{eni}, the primary ENI"),
            (Some(eni), Some(index)) => format!("{eni} at device index {}", index.0),
            (Some(eni), None) => eni.to_string(),
            (None, _) => "an ENI that is not known yet".to_owned(),
        };
        let mut text = screen.labelled("pod", &format!("{} has {address}{since}", pod_name(&pod.pod)));
        text += &screen.labelled("from", &eni);
        text += &screen.labelled("sandbox", container(&pod.key));
        if let Some(gone) = pod.orphan_for_ms {
            let said = format!(
                "its host veth has been gone for {}: it looks dead, and is taken for that after a minute",
                time(gone)
            );
            text += &screen.labelled("note", &said);
        }
        text
    }

    fn waits(&self, waiter: &WaiterSnapshot) -> String {
        let WaiterSnapshot { pod, waiting_ms, budget_left_ms, waits_for, .. } = waiter;
        let said = format!(
            "{} waits for an address for {}, and is refused in {} if none comes: [{waits_for}] {}",
            pod_name(pod),
            time(*waiting_ms),
            time(*budget_left_ms),
            self.snapshot.why.text
        );
        self.screen.labelled("pod", &said) + &self.todo(reasons::remedy(*waits_for))
    }

    /// Of a pod that has no address and waits for none: first what came of its last ADD.
    fn absent(&self, what: &str, records: &[&Record]) -> String {
        let refused = records.last().filter(|record| record.kind == Kind::Refused);
        let Some(Record { code: Some(code), text, unix_ms, .. }) = refused else {
            return format!("{what} has no address here now, and asks for none");
        };
        let ago = u64::try_from(self.unix_nanos / 1_000_000 - unix_ms).unwrap_or(0);
        format!("{what} was refused {} ago: [{code}] {text}; it has no address, and the runtime asks again", time(ago))
    }

    fn last_refusal(&self, records: &[&Record]) -> String {
        let Some(code) = records.iter().rev().find_map(|record| record.code) else { return String::new() };
        self.todo(reasons::remedy(code))
    }

    fn todo(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { self.screen.labelled("do", text) }
    }

    fn address(&self, address: Ipv4Addr, json: bool) -> Result<String, String> {
        let found = self.snapshot.addresses.iter().find(|found| found.address == address);
        let pod = self.snapshot.pods.iter().find(|pod| pod.address == address);
        let records = self.records(|record| record.address == Some(address));
        if json {
            return pretty(&json!({
                "address": address, "state": found, "pod": pod, "whose": self.whose(address), "records": records,
                "missed": self.records.missed,
            }));
        }
        let mut text = match (found, pod, self.whose(address)) {
            (_, Some(pod), _) => self.has(pod),
            (Some(found), None, _) => self.screen.labelled("address", &state(found)),
            (None, None, Some(whose)) => self.screen.labelled("address", &format!("{address} is {whose}")),
            (None, None, None) if records.is_empty() => {
                return Err(format!(
                    "{address} is no address of this node's ENIs, and the daemon's memory has nothing of it: `ipamd check` asks EC2 too; \
                     it may be another node's (aws ec2 describe-network-interfaces --filters \
                     Name=addresses.private-ip-address,Values={address})"
                ));
            }
            (None, None, None) => self.screen.labelled("address", &format!("{address} is not this node's any more")),
        };
        if pod.is_none() && found.is_some_and(|found| found.state == "held") {
            text += &self.todo("`ipamd check` names the link that has it; when that is gone the address is free");
        }
        Ok(text + &self.log(&records))
    }

    /// Whose it is when it is not one for pods.
    fn whose(&self, address: Ipv4Addr) -> Option<String> {
        let instance = self.snapshot.instance.as_ref().filter(|instance| instance.primary_address == address);
        let eni = self.snapshot.enis.iter().find(|eni| eni.primary_address == Some(address));
        instance
            .map(|instance| format!("the node's own address ({})", instance.instance_id))
            .or_else(|| Some(format!("the primary address of {}, which no pod gets", eni?.eni_id.as_ref()?)))
    }

    /// The newest of those that fit, in order.
    fn records(&self, is_wanted: impl Fn(&Record) -> bool) -> Vec<&Record> {
        let all: Vec<_> = self.records.records.iter().filter(|record| is_wanted(record)).collect();
        all[all.len().saturating_sub(MOST_RECORDS)..].to_vec()
    }

    fn log(&self, records: &[&Record]) -> String {
        if records.is_empty() {
            return "\nthe daemon's memory has no more of it (it begins with the daemon, and forgets the oldest)\n"
                .to_owned();
        }
        let lines: String =
            records.iter().map(|record| line(record, self.screen, self.unix_nanos / 1_000_000)).collect();
        format!("\n{}{lines}", self.screen.heading("what the daemon's memory has of it"))
    }

    /// The newest of the loud records.
    fn loud(&self, most: usize) -> Vec<&Record> {
        let all = self.records(|record| record.level >= NoticeLevel::Warn);
        all[all.len().saturating_sub(most)..].to_vec()
    }
}

/// Whether a record is of a pod that is wanted.
fn is_of(record: &Record, is_wanted: &impl Fn(&str, &str) -> bool) -> bool {
    let (pod, key) = (record.pod.as_deref(), record.key.as_deref());
    (pod.is_some() || key.is_some()) && is_wanted(pod.unwrap_or_default(), key.unwrap_or_default())
}

/// An address that no pod has.
fn state(found: &AddressSnapshot) -> String {
    let AddressSnapshot { address, eni_id, prefix, state, cooling_for_ms } = found;
    let said = match (state.as_str(), cooling_for_ms) {
        ("free", _) => "free: the next pod may get it".to_owned(),
        ("cooling", Some(left)) => format!("cooling for {} more: a pod had it until lately", time(*left)),
        ("flushing", _) => "free once the kernel has forgotten its old connections".to_owned(),
        ("held", _) => "in use by the kernel without a pod of ours: it is not given out".to_owned(),
        ("leaving", _) => "being given back to EC2".to_owned(),
        (other, _) => other.to_owned(),
    };
    let eni = eni_id.as_ref().map(|eni| format!(", on {eni}")).unwrap_or_default();
    let prefix = prefix.map(|prefix| format!(", of prefix {prefix}")).unwrap_or_default();
    format!("{address} is {said}{eni}{prefix}")
}

#[cfg(test)]
mod tests;
