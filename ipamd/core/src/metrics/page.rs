// SPDX-License-Identifier: Apache-2.0
//! Samples of one scrape, and how they are written: text format 0.0.4.
//!
//! Families by name, series by their labels, each family's HELP and TYPE once before its samples. A family without a sample is
//! left out. In HELP backslash and line feed are escaped, in label values the quote too.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::book::Histogram;
use super::families::{Family, Kind};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a series has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Distribution(Histogram),
}

/// One scrape's samples; its `Display` is the text.
#[derive(Clone, Debug, Default)]
pub struct Page(BTreeMap<&'static str, (Family, BTreeMap<String, Value>)>);

impl Page {
    /// Sets the value of a series. `values` are those of the family's labels, in their order.
    pub fn set(&mut self, family: &Family, values: &[&str], value: f64) {
        self.put(family, labels(family, values), Value::Number(value));
    }

    /// The same of a counter, or of a count; above 2^53 it is rounded.
    pub fn count(&mut self, family: &Family, values: &[&str], value: u64) {
        self.set(family, values, value as f64);
    }

    pub(super) fn put(&mut self, family: &Family, labels: String, value: Value) {
        self.0.entry(family.name).or_insert_with(|| (*family, BTreeMap::new())).1.insert(labels, value);
    }

    /// Names of the families that have samples.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

impl Family {
    /// A series as the page spells it, of these values of the family's labels, in their order; not of a family without labels.
    #[must_use]
    pub fn series(&self, values: &[&str]) -> String {
        format!("{}{{{}}}", self.name, labels(self, values))
    }
}

/// `a="x",b="y"`, escaped; what is missing is empty, what is too much is left out.
pub(super) fn labels(family: &Family, values: &[&str]) -> String {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    let mut text = String::new();
    for (position, name) in family.labels.iter().enumerate() {
        let value = values.get(position).copied().unwrap_or_default();
        let comma = if position == 0 { "" } else { "," };
        let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    text
}

/// A number as Go's ParseFloat reads it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (family, series)) in &self.0 {
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} {}", family.kind.name())?;
            for (labels, value) in series {
                match value {
                    Value::Number(value) => sample(f, name, labels, *value)?,
                    Value::Distribution(value) => distribution(f, family, labels, value)?,
                }
            }
        }
        Ok(())
    }
}

fn sample(f: &mut fmt::Formatter<'_>, name: &str, labels: &str, value: f64) -> fmt::Result {
    let value = number(value);
    if labels.is_empty() { writeln!(f, "{name} {value}") } else { writeln!(f, "{name}{{{labels}}} {value}") }
}

fn distribution(f: &mut fmt::Formatter<'_>, family: &Family, labels: &str, value: &Histogram) -> fmt::Result {
    let name = family.name;
    if let Kind::Histogram(bounds) = family.kind {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(value.cumulative()) {
            writeln!(f, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
        }
    }
    sample(f, &format!("{name}_sum"), labels, value.sum)?;
    let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(f, "{name}_count{braces} {}", value.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Book;

    const GAUGE: Family =
        Family { name: "b_gauge", kind: Kind::Gauge, labels: &["x", "y"], help: "two\nlines \\ and \"" };
    const BARE: Family = Family { name: "a_bare", kind: Kind::Counter, labels: &[], help: "no labels" };
    const SIZES: Family = Family { name: "c_sizes", kind: Kind::Histogram(&[0.5, 1.0]), labels: &["x"], help: "sizes" };
    const ALONE: Family = Family { name: "d_alone", kind: Kind::Histogram(&[1.0]), labels: &[], help: "alone" };
    const SUM: Family = Family { name: "e_sum", kind: Kind::Summary, labels: &["x"], help: "sum and count" };

    #[test]
    fn the_text_is_that_of_the_format() {
        let mut page = Page::default();
        page.set(&GAUGE, &["2", "a\"b\\c\nd"], 1.5);
        page.set(&GAUGE, &["1", ""], -0.0);
        page.count(&BARE, &[], 7);
        let mut book = Book::default();
        for size in [0.25, 0.5, 0.75, 3.0] {
            book.observe(&SIZES, &["v"], size);
        }
        book.observe(&ALONE, &[], 2.0);
        book.observe(&SUM, &["v"], 1.25);
        book.write(&mut page);
        let text = r#"# HELP a_bare no labels
# TYPE a_bare counter
a_bare 7
# HELP b_gauge two\nlines \\ and "
# TYPE b_gauge gauge
b_gauge{x="1",y=""} -0
b_gauge{x="2",y="a\"b\\c\nd"} 1.5
# HELP c_sizes sizes
# TYPE c_sizes histogram
c_sizes_bucket{x="v",le="0.5"} 2
c_sizes_bucket{x="v",le="1"} 3
c_sizes_bucket{x="v",le="+Inf"} 4
c_sizes_sum{x="v"} 4.5
c_sizes_count{x="v"} 4
# HELP d_alone alone
# TYPE d_alone histogram
d_alone_bucket{le="1"} 0
d_alone_bucket{le="+Inf"} 1
d_alone_sum 2
d_alone_count 1
# HELP e_sum sum and count
# TYPE e_sum summary
e_sum_sum{x="v"} 1.25
e_sum_count{x="v"} 1
"#;
        assert_eq!(page.to_string(), text);
    }

    #[test]
    fn numbers_that_are_none_are_spelled_as_the_format_does() {
        assert_eq!([f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(number), ["+Inf", "-Inf", "NaN"]);
        assert_eq!([0.0, 1e21, 1.0 / 3.0].map(number), ["0", "1000000000000000000000", "0.3333333333333333"]);
    }

    #[test]
    fn a_family_without_samples_is_not_written() {
        assert_eq!(Page::default().to_string(), "");
    }
}
