// SPDX-License-Identifier: Apache-2.0
//! The pages say what is so: every link and anchor leads somewhere, every command that they show is one, and every file, variable, metric
//! and reason code that they name exists. What a page claims beyond names is its own tests' (`docs/acceptance.md` and others name them).
//!
//! Nothing is fetched: links that leave the repository are counted and shown. Commands run with the real `ipamd`, those that ask the
//! daemon on an emulated node; what changes a node (`install`, `cleanup-host`, …) is only given to the parser.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads files of this repository, makes folders")]
#![expect(clippy::print_stdout, reason = "what was looked at, and what was left out, belongs to the result")]

mod commands;
mod links;
mod markdown;
mod names;
mod node;
mod offline;
mod shell;
