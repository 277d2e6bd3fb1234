// SPDX-License-Identifier: Apache-2.0
//! The table of known deviations, `deviations.md`, against those that were seen.
//!
//! Markdown tables, so that people read them where they are. A row may stand for several deviations: calls and actions are
//! lists, and `a/{b, c}` are two fields. Every row says who is right by AWS's documentation, and why.
//!
//! ```text
//! | actions | field | given by | right | why |
//! | calls | field | Enid | LocalStack | moto | right | why |
//! ```
//!
//! Invariant: what the table says is exactly what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::compare::Deviation;
use crate::emulators::{WHICH, Which};

/// Reads the table: every row whose first cell is no header and no rule.
pub(crate) fn parse(text: &str) -> Result<BTreeSet<Deviation>, String> {
    let mut listed = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let Some(row) = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`').trim()).collect();
        if matches!(cells[0], "actions" | "calls") || cells[0].starts_with("---") {
            continue;
        }
        let rows = read(&cells).map_err(|problem| format!("deviations.md, line {}: {problem}", at + 1))?;
        for row in rows {
            if let Some(twice) = listed.replace(row) {
                return Err(format!("deviations.md, line {}: listed twice: {twice:?}", at + 1));
            }
        }
    }
    Ok(listed)
}

fn read(cells: &[&str]) -> Result<Vec<Deviation>, String> {
    match cells {
        [actions, field, given_by, right, why] => {
            judged(right, why)?;
            let who = emulators(given_by)?;
            let row = |action: &str, field| Deviation::Field { action: action.to_owned(), field, who };
            let each = |action: &str| fields(field).into_iter().map(|field| row(action, field)).collect::<Vec<_>>();
            Ok(actions.split(", ").flat_map(each).collect())
        }
        [calls, field, enid, localstack, moto, right, why] => {
            judged(right, why)?;
            let texts = [enid, localstack, moto].map(|text| (*text).to_owned());
            let row = |call: &str, field| Deviation::Answer { call: call.to_owned(), field, texts: texts.clone() };
            let each = |call: &str| fields(field).into_iter().map(|field| row(call, field)).collect::<Vec<_>>();
            Ok(calls.split(", ").flat_map(each).collect())
        }
        _ => Err(format!("{} cells, 5 or 7 expected", cells.len())),
    }
}

/// Who is right must be said, and why.
fn judged(right: &str, why: &str) -> Result<(), String> {
    if !matches!(right, "all" | "none") {
        emulators(right)?;
    }
    if why.len() < 10 { Err("no reason is given".to_owned()) } else { Ok(()) }
}

fn emulators(names: &str) -> Result<[bool; 3], String> {
    let mut who = [false; 3];
    for name in names.split(", ") {
        let at = WHICH.iter().position(|which| which.name() == name).ok_or(format!("`{name}` is no emulator"))?;
        who[at] = true;
    }
    Ok(who)
}

/// `a/{b, c}` as `a/b` and `a/c`.
fn fields(text: &str) -> Vec<String> {
    let Some((parent, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    rest.trim_end_matches('}').split(", ").map(|name| format!("{parent}{name}")).collect()
}

/// Whether exactly what is listed was seen.
///
/// # Errors
/// What to add to the table and what to take out, as rows of it.
pub(crate) fn check(listed: &BTreeSet<Deviation>, seen: &BTreeSet<Deviation>) -> Result<(), String> {
    if listed == seen {
        return Ok(());
    }
    let mut text = String::new();
    for (title, rows) in [
        ("seen, but not in deviations.md", seen.difference(listed)),
        ("in deviations.md, but not seen", listed.difference(seen)),
    ] {
        let rows: Vec<&Deviation> = rows.collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "\n{} deviations are {title}:\n{}", rows.len(), render(&rows));
        }
    }
    Err(text)
}

/// Rows of the table, those that differ only in call or in the last name of their field in one.
fn render(rows: &[&Deviation]) -> String {
    let mut by_field: BTreeMap<(&str, &str, [bool; 3]), Vec<&str>> = BTreeMap::new();
    let mut by_call: BTreeMap<(&str, &[String; 3]), Vec<&str>> = BTreeMap::new();
    for row in rows {
        match row {
            Deviation::Field { action, field, who } => {
                let (parent, name) = field.rsplit_once('/').unwrap_or(("", field));
                by_field.entry((action, parent, *who)).or_default().push(name);
            }
            Deviation::Answer { call, field, texts } => by_call.entry((field, texts)).or_default().push(call),
        }
    }
    let mut text = String::new();
    for ((action, parent, who), names) in by_field {
        let slash = if parent.is_empty() { "" } else { "/" };
        let names =
            if let [name] = names.as_slice() { (*name).to_owned() } else { format!("{{{}}}", names.join(", ")) };
        let given: Vec<&str> =
            WHICH.iter().zip(who).filter(|(_, gives)| *gives).map(|(which, _)| which.name()).collect();
        let _ = writeln!(text, "| {action} | {parent}{slash}{names} | {} | ? | ? |", given.join(", "));
    }
    for ((field, texts), calls) in by_call {
        let _ = writeln!(text, "| {} | {field} | {} | ? | ? |", calls.join(", "), texts.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| actions | field | given by | right | why |
| --- | --- | --- | --- | --- |
| Describe | `set/{zone, az}` | Enid, moto | Enid, moto | because AWS says so |

| calls | field | Enid | LocalStack | moto | right | why |
| --- | --- | --- | --- | --- | --- | --- |
| a, b | (answer) | 400 X | ok | ok | Enid | because AWS says so |
";

    #[test]
    fn a_row_stands_for_all_its_calls_and_fields() {
        let listed = parse(TABLE).unwrap();
        assert_eq!(listed.len(), 4);
        let field = |name: &str| Deviation::Field {
            action: "Describe".to_owned(),
            field: format!("set/{name}"),
            who: [true, false, true],
        };
        assert!(listed.contains(&field("zone")) && listed.contains(&field("az")));
    }

    #[test]
    fn one_that_appears_and_one_that_disappears_both_fail() {
        let listed = parse(TABLE).unwrap();
        check(&listed, &listed).unwrap();
        let mut fewer = listed.clone();
        fewer.pop_last();
        let error = check(&listed, &fewer).unwrap_err();
        assert!(error.contains("in deviations.md, but not seen"), "{error}");
        let error = check(&fewer, &listed).unwrap_err();
        assert!(error.contains("seen, but not in deviations.md"), "{error}");
    }

    #[test]
    fn what_is_printed_is_a_row_of_the_table_once_it_is_judged() {
        let listed = parse(TABLE).unwrap();
        let rows = render(&listed.iter().collect::<Vec<_>>());
        assert_eq!(rows.lines().count(), 2);
        assert_eq!(parse(&rows.replace("| ? | ? |", "| none | because AWS says so |")).unwrap(), listed);
    }

    #[test]
    fn a_row_without_a_judgement_is_refused() {
        for row in [
            "| a | f | Enid | ? | because AWS says so |",
            "| a | f | Enid | all | ? |",
            "| a | f | nobody | all | because AWS says so |",
            "| a | f |",
            "| a, a | f | 1 | 2 | 3 | all | because AWS says so |",
        ] {
            assert!(parse(row).is_err(), "{row}");
        }
        assert_eq!(Which::Moto.name(), "moto");
    }
}
