// SPDX-License-Identifier: Apache-2.0
//! `ipamd enis`: ENIs with all their numbers, subnets and prefixes; and the bar that shows an ENI's addresses by state.

use std::collections::BTreeSet;
use std::io::Write;

use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot};
use ipamd_core::{Config, Snapshot};
use serde_json::json;

use super::ask::{Asked, Daemon};
use super::table::{Column, column, table};
use super::terminal::Screen;
use super::{pretty, print, time};

/// Prints the list.
///
/// # Errors
/// The daemon is not there, does not answer, or standard output is closed.
pub fn run(config: &Config, asked: &Asked, screen: &Screen, out: &mut dyn Write) -> Result<(), String> {
    let snapshot = Daemon::of(config, asked.address.as_ref()).status()?;
    let text = if asked.json {
        pretty(&json!({ "enis": snapshot.enis, "otherEnis": snapshot.other_enis, "subnets": snapshot.subnets }))?
    } else {
        render(&snapshot, screen)
    };
    print(out, &text)
}

const COLUMNS: [Column; 14] = [
    column("id"),
    column("device").number().rank(5),
    column("state").rank(1),
    column("primary").rank(6),
    column("subnet").rank(4),
    column("total").number(),
    column("used").number(),
    column("free").number(),
    column("cooling").number().rank(2),
    column("held").number().rank(3),
    column("coming").number().rank(3),
    column("prefixes").rank(7),
    column("table").number().rank(8),
    column("last failure").text().rank(2),
];

fn render(snapshot: &Snapshot, screen: &Screen) -> String {
    let row = |eni: &EniSnapshot| {
        let parts = Parts::of(eni, snapshot);
        vec![
            id(eni),
            eni.device_index.0.to_string(),
            format!("{} for {}", eni.state, time(eni.state_for_ms)),
            eni.primary_address.map_or("-".to_owned(), |address| address.to_string()),
            eni.subnet_id.to_string(),
            eni.total.to_string(),
            eni.allocated.to_string(),
            eni.free.to_string(),
            eni.cooling.to_string(),
            parts.held.to_string(),
            eni.assigning.to_string(),
            prefixes(eni, snapshot),
            eni.table.0.to_string(),
            failure(eni),
        ]
    };
    let enis = table(screen, "", &COLUMNS, &snapshot.enis.iter().map(row).collect::<Vec<_>>());
    let enis = if enis.is_empty() { "no ENI of ours is known yet\n".to_owned() } else { enis };
    [enis, others(snapshot, screen), subnets(snapshot, screen)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// ENIs that are somebody else's.
pub(super) fn others(snapshot: &Snapshot, screen: &Screen) -> String {
    let columns = [column("id"), column("device").number().rank(1), column("why").text()];
    let others = snapshot.other_enis.iter();
    let rows = others.map(|eni| vec![eni.eni_id.to_string(), eni.device_index.0.to_string(), eni.why.clone()]);
    table(screen, "ENIs left alone", &columns, &rows.collect::<Vec<_>>())
}

/// What subnets have.
pub(super) fn subnets(snapshot: &Snapshot, screen: &Screen) -> String {
    let columns = [column("id"), column("free").number(), column("read").rank(1), column("note").text()];
    let retry =
        |id| snapshot.exhausted_subnets.iter().find(|subnet| subnet.subnet_id == id).map(|subnet| subnet.retry_in_ms);
    let rows = snapshot.subnets.iter().map(|subnet| {
        let again = retry(subnet.subnet_id.clone()).map(|ms| format!(", asked again in {}", time(ms)));
        let note = if subnet.is_exhausted {
            format!("had none when asked{}", again.unwrap_or_default())
        } else {
            String::new()
        };
        let read = format!("{} ago", time(subnet.read_ms_ago));
        vec![subnet.subnet_id.to_string(), subnet.free.to_string(), read, note]
    });
    table(screen, "subnets", &columns, &rows.collect::<Vec<_>>())
}

/// An ENI's id, once it has one.
pub(super) fn id(eni: &EniSnapshot) -> String {
    eni.eni_id.as_ref().map_or("(being created)".to_owned(), ToString::to_string)
}

/// What failed last of it, and when it is tried again.
pub(super) fn failure(eni: &EniSnapshot) -> String {
    match (&eni.last_failure, eni.retry_in_ms) {
        (Some(failure), Some(retry)) => format!("{failure} (next try in {})", time(retry)),
        (Some(failure), None) => failure.clone(),
        (None, _) => String::new(),
    }
}

fn prefixes(eni: &EniSnapshot, snapshot: &Snapshot) -> String {
    let of_eni = snapshot.addresses.iter().filter(|address| address.eni_id == eni.eni_id && eni.eni_id.is_some());
    let prefixes: BTreeSet<_> = of_eni.filter_map(|address| address.prefix).collect();
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// An ENI's addresses by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) used: u32,
    pub(super) cooling: u32,
    pub(super) free: u32,
    /// Held, or being given back: neither of a pod of ours nor to be had.
    pub(super) held: u32,
    /// Slots without an address.
    pub(super) room: u32,
}

impl Parts {
    pub(super) fn of(eni: &EniSnapshot, snapshot: &Snapshot) -> Self {
        let is_held = |address: &&AddressSnapshot| {
            address.eni_id == eni.eni_id && ["held", "leaving"].contains(&address.state.as_str())
        };
        let held = if eni.eni_id.is_some() { snapshot.addresses.iter().filter(is_held).count() } else { 0 };
        Self {
            used: eni.allocated,
            cooling: eni.cooling,
            free: eni.free,
            held: u32::try_from(held).unwrap_or(u32::MAX),
            room: snapshot.pool.addresses_per_eni.unwrap_or(eni.total).saturating_sub(eni.total),
        }
    }

    /// Counts and letters, in the order of the bar.
    fn cells(self, has_unicode: bool) -> [(u32, char); 5] {
        let letters = if has_unicode { ['█', '▒', '░', '▓', '·'] } else { ['#', '~', '-', '!', '.'] };
        let counts = [self.used, self.cooling, self.free, self.held, self.room];
        std::array::from_fn(|at| (counts[at], letters[at]))
    }

    /// As a bar of `length` letters; what there is has a letter at least. Without colours: it stands in tables.
    pub(super) fn bar(self, length: u32, has_unicode: bool) -> String {
        let cells = self.cells(has_unicode);
        let all: u32 = cells.iter().map(|(count, _)| *count).sum();
        if all == 0 {
            return String::new();
        }
        let length = length.min(all);
        let mut widths = cells.map(|(count, _)| (count * length / all).max(u32::from(count > 0)));
        // What rounding has left over or taken too much goes to, or comes from, the longest part.
        let sum: u32 = widths.iter().sum();
        if let Some(longest) = widths.iter_mut().max_by_key(|width| **width) {
            *longest = (*longest + length).saturating_sub(sum).max(1);
        }
        let letters = widths.iter().zip(&cells).flat_map(|(width, (_, letter))| (0..*width).map(|_| *letter));
        letters.collect()
    }

    /// What the letters of bars mean; without colours, as they are.
    pub(super) fn legend(screen: &Screen) -> String {
        let names = ["used", "cooling", "free", "held or leaving", "room"];
        let cells = Self::default().cells(screen.has_unicode);
        let all = cells.iter().zip(names).map(|((_, letter), name)| format!("{letter} {name}"));
        format!("  {}\n", all.collect::<Vec<_>>().join("  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_every_part_and_is_as_long_as_asked_for() {
        let parts = |used, cooling, free, held, room| Parts { used, cooling, free, held, room };
        assert_eq!(parts(4, 2, 2, 0, 2).bar(10, true), "████▒▒░░··");
        assert_eq!(parts(4, 2, 2, 0, 2).bar(10, false), "####~~--..");
        assert_eq!(parts(1, 0, 1, 1, 0).bar(10, false), "#-!", "an address a letter where there is room");
        assert_eq!(parts(0, 0, 0, 0, 0).bar(10, true), "");
        for used in 0..50 {
            for room in 0..50 {
                let parts = parts(used, 1, 300, 2, room);
                let bar = parts.bar(16, false);
                assert_eq!(bar.len(), 16, "{parts:?}: {bar}");
                assert!(bar.contains('~') && bar.contains('!') && bar.contains('-'), "{parts:?}: {bar}");
                assert_eq!(bar.contains('#'), used > 0, "{parts:?}: {bar}");
            }
        }
    }
}
