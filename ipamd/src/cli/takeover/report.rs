// SPDX-License-Identifier: Apache-2.0
//! The report of a dry run, for people and as JSON.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipamd_core::ids::EniId;
use serde::Serialize;

/// What a takeover would do, and what is in its way.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Pods whose addresses stay theirs.
    pub(super) adopted: Vec<Adopted>,
    /// Entries of `ipam.json` that are not adopted; their addresses rest for one cooldown.
    pub(super) dropped: Vec<Dropped>,
    /// What goes of the reference's, as nft commands.
    pub(super) removed: Vec<String>,
    /// What becomes of the layout of pods.
    layout: String,
    /// What must be done first; empty: the takeover can begin.
    pub(super) obstacles: Vec<String>,
    /// What is good to know.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Adopted {
    pub(super) key: String,
    /// `namespace/name`; absent: the entry does not tell.
    pub(super) pod: Option<String>,
    pub(super) address: Ipv4Addr,
    pub(super) eni_id: Option<EniId>,
    /// By the route to its address; absent: there is none.
    pub(super) host_veth: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Dropped {
    key: String,
    pod: Option<String>,
    pub(super) address: Option<Ipv4Addr>,
    why: &'static str,
}

impl Dropped {
    pub(super) fn new(entry: &ipamd_core::checkpoint::ReferenceAllocation) -> Self {
        let why = match entry.ipv4 {
            None => "an IPv6 address, which cannot be served",
            Some(_) => "no link of the pod's: it has ended; or its key or address is bound twice",
        };
        let pod = entry.pod();
        let pod = (!pod.name.is_empty()).then(|| format!("{}/{}", pod.namespace, pod.name));
        Self { key: entry.key().to_string(), pod, address: entry.ipv4, why }
    }
}

impl Report {
    pub(super) fn new(is_flat: bool) -> Self {
        let layout = if is_flat {
            "adopted pods keep their rules and routes (layout classic); new pods are plumbed in layout flat"
        } else {
            "adopted and new pods are plumbed alike (layout classic)"
        };
        Self {
            adopted: Vec::new(),
            dropped: Vec::new(),
            removed: Vec::new(),
            layout: layout.to_owned(),
            obstacles: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn obstacle(&mut self, text: String) {
        self.obstacles.push(text);
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(super) fn json(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| format!("encoding the report: {error}"))?;
        Ok(format!("{text}\n"))
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let named = |pod: &Option<String>, key: &str| pod.clone().unwrap_or_else(|| key.to_owned());
        for Adopted { key, pod, address, eni_id, host_veth } in &self.adopted {
            let eni = eni_id.as_ref().map_or("no ENI", EniId::as_str);
            let link = host_veth.as_deref().unwrap_or("no route");
            writeln!(out, "adopted: {address} of {} ({eni}, {link})", named(pod, key))?;
        }
        for Dropped { key, pod, address, why } in &self.dropped {
            let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            writeln!(out, "dropped: {address} of {}: {why}", named(pod, key))?;
        }
        self.removed.iter().try_for_each(|command| writeln!(out, "removed: {command}"))?;
        writeln!(out, "layout: {}", self.layout)?;
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
        self.obstacles.iter().try_for_each(|obstacle| writeln!(out, "in the way: {obstacle}"))?;
        let verdict = if self.obstacles.is_empty() { "nothing is in the way\n" } else { "not yet\n" };
        out.push_str(verdict);
        Ok(())
    }
}
