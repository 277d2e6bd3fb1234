// SPDX-License-Identifier: Apache-2.0
//! Where three emulators' answers differ.
//!
//! Two kinds of deviation. A *field* that some emulators never give in any answer to an action, and others do: told once an
//! action. An *answer* to one call in which a field has other texts, or that is refused differently: told a call. Below
//! something that is missing nothing more is told.
//!
//! Invariant: the same answers give the same rows; fields that an emulator never gives are left out of its answers' rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::calls::{Call, Outcome};
use crate::normal::Value;

/// The field of a row that is about the answer as a whole.
pub(crate) const WHOLE: &str = "(answer)";
/// What a row says where a field is missing.
const ABSENT: &str = "-";

/// A deviation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deviation {
    /// A field that only these emulators give in answers to this action.
    Field { action: String, field: String, who: [bool; 3] },
    /// What each said in an answer to this call.
    Answer { call: String, field: String, texts: [String; 3] },
}

/// The fields of answers to one action, by emulator; list items without their keys.
type Shapes = [BTreeSet<String>; 3];

/// All deviations.
pub(crate) fn all(calls: &[Call], answers: &[BTreeMap<String, Outcome>; 3]) -> BTreeSet<Deviation> {
    let mut shapes: BTreeMap<&str, Shapes> = BTreeMap::new();
    for call in calls {
        let Some(values) = answered(call, answers) else { continue };
        let shapes = shapes.entry(&call.action).or_default();
        for (shape, value) in shapes.iter_mut().zip(values) {
            collect(shape, "", value);
        }
    }
    let mut rows = BTreeSet::new();
    for (action, shapes) in &shapes {
        fields(&mut rows, action, shapes);
    }
    for call in calls {
        let Some(values) = answered(call, answers) else {
            whole(&mut rows, call, answers);
            continue;
        };
        Comparison { call: &call.name, shapes: &shapes[call.action.as_str()], rows: &mut rows }.compare("", values);
    }
    rows
}

/// What all three answered; `None`: not all did.
fn answered<'a>(call: &Call, answers: &'a [BTreeMap<String, Outcome>; 3]) -> Option<[Option<&'a Value>; 3]> {
    let mut values = [None; 3];
    for (value, answers) in values.iter_mut().zip(answers) {
        match &answers[&call.name] {
            Outcome::Answered(found) => *value = Some(found),
            Outcome::Refused(_) => return None,
        }
    }
    Some(values)
}

/// How each answered, when not all took the call.
fn whole(rows: &mut BTreeSet<Deviation>, call: &Call, answers: &[BTreeMap<String, Outcome>; 3]) {
    let texts = [0, 1, 2].map(|at: usize| match &answers[at][&call.name] {
        Outcome::Answered(_) => "ok".to_owned(),
        Outcome::Refused(text) => text.clone(),
    });
    if texts[0] != texts[1] || texts[0] != texts[2] {
        rows.insert(Deviation::Answer { call: call.name.clone(), field: WHOLE.to_owned(), texts });
    }
}

fn collect(shape: &mut BTreeSet<String>, path: &str, value: Option<&Value>) {
    let Some(value) = value else { return };
    if !path.is_empty() {
        shape.insert(path.to_owned());
    }
    if let Value::Record(fields) = value {
        for (name, value) in fields {
            collect(shape, &below(path, name), Some(value));
        }
    }
}

/// The path of a child; an item of a list is at the path of the list.
fn below(path: &str, name: &str) -> String {
    match (name.starts_with('['), path.is_empty()) {
        (true, _) => path.to_owned(),
        (false, true) => name.to_owned(),
        (false, false) => format!("{path}/{name}"),
    }
}

fn fields(rows: &mut BTreeSet<Deviation>, action: &str, shapes: &Shapes) {
    let who = |field: &str| [0, 1, 2].map(|at: usize| shapes[at].contains(field));
    let every: BTreeSet<&String> = shapes.iter().flatten().collect();
    for field in every {
        let parent = field.rsplit_once('/').map(|(parent, _)| who(parent));
        let given = who(field);
        if given != [true; 3] && parent != Some(given) {
            rows.insert(Deviation::Field { action: action.to_owned(), field: field.clone(), who: given });
        }
    }
}

struct Comparison<'a> {
    call: &'a str,
    shapes: &'a Shapes,
    rows: &'a mut BTreeSet<Deviation>,
}

impl Comparison<'_> {
    fn compare(&mut self, path: &str, values: [Option<&Value>; 3]) {
        let gives = |at: usize| path.is_empty() || self.shapes[at].contains(path);
        let compared: Vec<Option<&Value>> = (0..3).filter(|at| gives(*at)).map(|at| values[at]).collect();
        if compared.windows(2).all(|pair| pair[0] == pair[1]) {
            return;
        }
        let records: Vec<&BTreeMap<String, Value>> = compared.iter().filter_map(|value| record(*value)).collect();
        if records.len() < compared.len() {
            self.row(path, values.map(said));
            return;
        }
        let members = |record: &BTreeMap<String, Value>| {
            let keys: Vec<&str> = record.keys().map(String::as_str).filter(|name| name.starts_with('[')).collect();
            keys.join(" ")
        };
        let differ = records.windows(2).any(|pair| members(pair[0]) != members(pair[1]));
        if differ {
            self.row(path, values.map(|value| record(value).map(members).unwrap_or_else(|| said(value))));
        }
        let names: BTreeSet<&String> = records.iter().flat_map(|record| record.keys()).collect();
        for name in names {
            // What only some of the lists have is told by the row above.
            if differ && !records.iter().all(|record| record.contains_key(name)) {
                continue;
            }
            let inside = values.map(|value| record(value).and_then(|record| record.get(name)));
            self.compare(&below(path, name), inside);
        }
    }

    fn row(&mut self, path: &str, texts: [String; 3]) {
        let field = if path.is_empty() { WHOLE } else { path }.to_owned();
        self.rows.insert(Deviation::Answer { call: self.call.to_owned(), field, texts });
    }
}

fn record(value: Option<&Value>) -> Option<&BTreeMap<String, Value>> {
    match value {
        Some(Value::Record(record)) => Some(record),
        _ => None,
    }
}

fn said(value: Option<&Value>) -> String {
    match value {
        None => ABSENT.to_owned(),
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Record(_)) => "there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn of(fields: &[(&str, Value)]) -> Value {
        Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    /// The rows of one call, answered so.
    fn rows(outcomes: [Outcome; 3]) -> Vec<Deviation> {
        let calls = calls::parse("a: Describe\n").unwrap();
        let answers = outcomes.map(|outcome| BTreeMap::from([("a".to_owned(), outcome)]));
        all(&calls, &answers).into_iter().collect()
    }

    fn answer(field: &str, texts: [&str; 3]) -> Deviation {
        Deviation::Answer { call: "a".to_owned(), field: field.to_owned(), texts: texts.map(str::to_owned) }
    }

    #[test]
    fn alike_answers_and_alike_refusals_are_no_deviation() {
        let value = of(&[("set", of(&[("[x]", of(&[("status", text("available"))]))]))]);
        assert_eq!(rows([0; 3].map(|_| Outcome::Answered(value.clone()))), []);
        assert_eq!(rows([0; 3].map(|_| Outcome::Refused("400 X".to_owned()))), []);
    }

    #[test]
    fn another_text_a_missing_member_and_another_refusal_are_told_by_call() {
        let eni = |status| of(&[("status", text(status)), ("x", text("1"))]);
        let set = |members: &[(&str, Value)]| Outcome::Answered(of(&[("set", of(members))]));
        assert_eq!(
            rows([
                set(&[("[x]", eni("pending"))]),
                set(&[("[x]", eni("available"))]),
                set(&[("[x]", eni("available"))])
            ]),
            [answer("set/status", ["pending", "available", "available"])]
        );
        assert_eq!(
            rows([set(&[("[x]", eni("a")), ("[y]", eni("a"))]), set(&[("[x]", eni("a"))]), set(&[("[x]", eni("a"))])]),
            [answer("set", ["[x] [y]", "[x]", "[x]"])]
        );
        let refused = |code: &str| Outcome::Refused(code.to_owned());
        assert_eq!(
            rows([refused("400 X"), refused("400 X"), Outcome::Answered(of(&[]))]),
            [answer("(answer)", ["400 X", "400 X", "ok"])]
        );
    }

    #[test]
    fn a_field_that_one_never_gives_is_told_once_and_compared_among_the_others() {
        let with = |zone: &str| of(&[("zone", of(&[("id", text(zone))])), ("b", text("1"))]);
        let without = of(&[("b", text("1"))]);
        let field =
            Deviation::Field { action: "Describe".to_owned(), field: "zone".to_owned(), who: [true, true, false] };
        let outcomes = |one: &str, two: &str| [with(one), with(two), without.clone()].map(Outcome::Answered);
        assert_eq!(rows(outcomes("1", "1")), std::slice::from_ref(&field));
        assert_eq!(rows(outcomes("1", "2")), [field, answer("zone/id", ["1", "2", "-"])]);
    }
}
