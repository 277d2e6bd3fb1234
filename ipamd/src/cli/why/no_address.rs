// SPDX-License-Identifier: Apache-2.0
//! `ipamd why no-address`: what the daemon decides from, which rule decides, what is under way, what binds, when next, what to do.

use ipamd_core::snapshot::{PoolSnapshot, Rule};
use serde_json::json;

use super::Known;
use crate::cli::events::line;
use crate::cli::terminal::Style;
use crate::cli::{enis, pretty, reasons, status, time};

/// Records shown besides.
const MOST_RECORDS: usize = 8;

impl Known<'_> {
    pub(super) fn no_address(&self, json: bool) -> Result<String, String> {
        let snapshot = self.snapshot;
        let active = status::active(snapshot);
        if json {
            let codes: Vec<_> = active
                .iter()
                .map(|(code, text)| json!({ "code": code, "text": text, "remedy": reasons::remedy(*code) }))
                .collect();
            return pretty(&json!({
                "supply": snapshot.supply, "why": snapshot.why, "reasons": codes, "pool": snapshot.pool,
                "capacity": snapshot.capacity, "subnets": snapshot.subnets, "exhaustedSubnets": snapshot.exhausted_subnets,
                "prefixRefusals": snapshot.prefix_refusals, "actions": snapshot.actions, "failures": snapshot.failures,
                "waiters": snapshot.waiters, "nextCoolingMs": self.next_cooling(), "records": self.loud(MOST_RECORDS),
            }));
        }
        let (screen, why) = (self.screen, &snapshot.why);
        let answer = match snapshot.supply.code {
            None if snapshot.pool.waiters > 0 => {
                let waits = format!("a pod that comes now waits, behind {} that do", snapshot.pool.waiters);
                screen.paint(Style::Warning, &waits)
            }
            None => screen.paint(Style::Good, "a pod that comes now gets an address"),
            Some(code) => format!(
                "{} [{code}] {}",
                screen.paint(Style::Bad, "a pod that comes now gets none:"),
                snapshot.supply.text
            ),
        };
        let mut text = screen.labelled("answer", &answer);
        text += &screen.labelled("rule", &format!("{}: {}", rule(why.rule), why.text));
        text += &self.inputs();
        let binds = why.bound_by.map_or("nothing".to_owned(), |code| code.to_string());
        text += &screen.labelled("binds", &binds);
        let next = why.next_ms.map_or("with the next event".to_owned(), |ms| {
            format!("with the next event, in {} at the latest", time(ms))
        });
        text += &screen.labelled("next", &format!("decided anew {next}{}", self.retries()));
        for (code, _) in &active {
            let remedy = reasons::remedy(*code);
            if !remedy.is_empty() {
                text += &screen.labelled("do", &format!("[{code}] {remedy}"));
            }
        }
        let records = self.loud(MOST_RECORDS);
        let lines: String = records.iter().map(|record| line(record, screen, self.unix_nanos / 1_000_000)).collect();
        let lately = if lines.is_empty() { lines } else { screen.heading("warnings of late") + &lines };
        let sections = [
            text,
            enis::subnets(snapshot, screen),
            status::actions(snapshot, screen),
            status::failures(snapshot, screen),
            lately,
        ];
        Ok(sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n"))
    }

    fn inputs(&self) -> String {
        let PoolSnapshot {
            targets,
            wanted,
            total,
            allocated,
            free,
            cooling,
            held,
            coming,
            waiters,
            announced,
            shortfall,
            surplus,
            addresses_per_eni,
            enis,
            max_enis,
            ..
        } = &self.snapshot.pool;
        let number = |number: &Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
        let soonest = self.next_cooling().map(|ms| format!(", the next is free in {}", time(ms))).unwrap_or_default();
        let lines = [
            ("target", format!("{}, {wanted} free; missing {shortfall}, too many {surplus}", status::target(*targets))),
            ("asks", format!("{waiters} pods wait, {announced} more are bound to the node and will ask")),
            (
                "has",
                format!("{total} addresses: {allocated} used, {free} free, {cooling} cooling{soonest}, {held} held"),
            ),
            ("coming", format!("{coming} addresses")),
            ("limits", format!("{enis} of {} ENIs, {} addresses each", number(max_enis), number(addresses_per_eni))),
        ];
        let mut text: String = lines.iter().map(|(label, said)| self.screen.labelled(label, said)).collect();
        if let Some(capacity) = &self.snapshot.capacity {
            let said = format!(
                "{} pods by the limits, {} with what the subnets have now ({})",
                capacity.limit, capacity.now, capacity.formula
            );
            text += &self.screen.labelled("holds", &said);
        }
        text
    }

    fn next_cooling(&self) -> Option<u64> {
        self.snapshot.addresses.iter().filter_map(|address| address.cooling_for_ms).min()
    }

    /// What is tried again by itself, and when.
    fn retries(&self) -> String {
        let enis = self.snapshot.enis.iter().filter_map(|eni| Some((enis::id(eni), eni.retry_in_ms?)));
        let subnets =
            self.snapshot.exhausted_subnets.iter().map(|subnet| (subnet.subnet_id.to_string(), subnet.retry_in_ms));
        enis.chain(subnets).map(|(what, ms)| format!("; {what} is tried again in {}", time(ms))).collect()
    }
}

fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::Starting => "starting",
        Rule::NotDurable => "the journal cannot be written",
        Rule::Shortfall => "shortfall",
        Rule::HeldUp => "held up",
        Rule::SurplusRests => "surplus, about to go",
        Rule::SurplusKept => "surplus, kept",
        Rule::Met => "target met",
    }
}
