// SPDX-License-Identifier: Apache-2.0
//! What is counted and measured as it happens: counters, histograms and summaries, by series.
//!
//! Knows nothing of time and of who counts. Invariant: no family has more than [`MOST_SERIES`] series: what would be one more
//! is counted under `other` in every label, so that a value from outside cannot fill the memory.

use std::collections::BTreeMap;

use super::families::{Family, Kind};
use super::page::{self, Page, Value};
use crate::reason::ReasonCode;

/// Most series of one family. The largest that the daemon makes itself, reasons, has one a code.
pub const MOST_SERIES: usize = 200;
const _: () = assert!(ReasonCode::ALL.len() < MOST_SERIES);

/// The value of every label of what is too much.
const OTHER: &str = "other";

/// Sizes counted: one bucket for each bound of the family, and one for what is larger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    buckets: Vec<u64>,
    pub(super) sum: f64,
    pub(super) count: u64,
}

impl Histogram {
    fn of(kind: Kind) -> Self {
        let buckets = match kind {
            Kind::Histogram(bounds) => vec![0; bounds.len() + 1],
            Kind::Counter | Kind::Gauge | Kind::Summary => Vec::new(),
        };
        Self { buckets, sum: 0.0, count: 0 }
    }

    fn observe(&mut self, kind: Kind, size: f64) {
        if let Kind::Histogram(bounds) = kind {
            let position = bounds.partition_point(|bound| *bound < size);
            if let Some(bucket) = self.buckets.get_mut(position) {
                *bucket += 1;
            }
        }
        self.sum += size;
        self.count += 1;
    }

    /// How many were no larger than each bound; the last: all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        })
    }
}

/// Everything that was counted.
#[derive(Clone, Debug, Default)]
pub struct Book(BTreeMap<&'static str, (Family, BTreeMap<String, Value>)>);

impl Book {
    /// Counts one.
    pub fn increment(&mut self, family: &Family, values: &[&str]) {
        self.add(family, values, 1.0);
    }

    /// Counts so many; 0 makes the series, so that its first growth is seen as such.
    pub fn add(&mut self, family: &Family, values: &[&str], count: f64) {
        if let Value::Number(sum) = self.series(family, values, || Value::Number(0.0)) {
            *sum += count;
        }
    }

    /// Takes a size.
    pub fn observe(&mut self, family: &Family, values: &[&str], size: f64) {
        let kind = family.kind;
        if let Value::Distribution(histogram) = self.series(family, values, || Value::Distribution(Histogram::of(kind)))
        {
            histogram.observe(kind, size);
        }
    }

    fn series(&mut self, family: &Family, values: &[&str], new: impl FnOnce() -> Value) -> &mut Value {
        let (_, series) = self.0.entry(family.name).or_insert_with(|| (*family, BTreeMap::new()));
        let mut labels = page::labels(family, values);
        if series.len() + 1 >= MOST_SERIES && !series.contains_key(&labels) {
            labels = page::labels(family, &vec![OTHER; family.labels.len()]);
        }
        series.entry(labels).or_insert_with(new)
    }

    /// Puts all of it on the page.
    pub fn write(&self, page: &mut Page) {
        for (family, series) in self.0.values() {
            for (labels, value) in series {
                page.put(family, labels.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::families;

    fn lines(book: &Book) -> Vec<String> {
        let mut page = Page::default();
        book.write(&mut page);
        page.to_string().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_counter_is_there_from_nought_on() {
        let mut book = Book::default();
        book.add(&families::REASON, &["NodeFull"], 0.0);
        assert_eq!(lines(&book), ["ipamd_reason_total{code=\"NodeFull\"} 0"]);
        book.increment(&families::REASON, &["NodeFull"]);
        book.add(&families::REASON, &["NodeFull"], 2.0);
        assert_eq!(lines(&book), ["ipamd_reason_total{code=\"NodeFull\"} 3"]);
    }

    #[test]
    fn values_from_outside_do_not_make_series_without_end() {
        let mut book = Book::default();
        for number in 0..10 * MOST_SERIES {
            book.increment(&families::R_API_ERRORS, &["CreateNetworkInterface", &format!("Code{number}")]);
        }
        let lines = lines(&book);
        assert_eq!(lines.len(), MOST_SERIES);
        let other = lines.iter().find(|line| line.contains("error=\"other\"")).expect("what was too much");
        let rest = 10 * MOST_SERIES - (MOST_SERIES - 1);
        assert_eq!(*other, format!("awscni_aws_api_error_count{{api=\"other\",error=\"other\"}} {rest}"));
    }

    #[test]
    fn a_size_that_is_a_bound_is_in_its_bucket() {
        let kind = Kind::Histogram(&[1.0, 2.0]);
        let mut histogram = Histogram::of(kind);
        for size in [0.0, 1.0, 1.5, 2.0, 9.0] {
            histogram.observe(kind, size);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((histogram.sum, histogram.count), (13.5, 5));
    }
}
