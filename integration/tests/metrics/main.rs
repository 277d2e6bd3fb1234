// SPDX-License-Identifier: Apache-2.0
//! `/metrics` of a real daemon with real pods: its text held to promtool, its figures to the status, its labels bounded; and each alert
//! rule that we ship, lived with its fault.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "runs promtool, reads files of the repository, and measures real time")]

mod alerts;
mod figures;
mod promtool;
mod record;
mod scrape;
