// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: which families there are, how they are written, and what of them follows from the state. Pure.
//!
//! | module | has |
//! |---|---|
//! | [`families`] | the table of every family: name, kind, labels, meaning; docs/metrics.md is generated from it |
//! | [`page`] | samples as text format 0.0.4 |
//! | [`book`] | what is counted and measured as it happens |
//! | [`state`] | gauges that follow from a [`crate::Snapshot`] when somebody asks |
//! | [`lived`] | how long ENIs were in each state |
//!
//! Gauges are made anew from the snapshot at every scrape, so nothing keeps a series of what is gone. Counters and histograms have
//! labels from closed sets; where a value comes from outside (EC2's error codes) the number of values is bounded ([`book`]).
//!
//! Why not a library: the names of the reference are counters without `_total` and a summary of sum and count only, which an encoder
//! of OpenMetrics does not write; `prometheus` 0.14 does, and made a small program 151 kB larger, a third of what the image had left.
//! The format is eight lines of rules, and promtool checks them (integration/tests/metrics).
//! Source: Prometheus, "Exposition formats", text-based format 0.0.4.

pub mod book;
pub mod families;
pub mod lived;
mod markdown;
pub mod page;
pub mod state;

pub use book::Book;
pub use families::{Family, Kind};
pub use markdown::{markdown_left_out, markdown_table};
pub use page::Page;
