// SPDX-License-Identifier: Apache-2.0
//! The edges: each turns one part of the world into events, or runs one kind of action. None decides.

pub(crate) mod allowances;
pub(crate) mod conflist;
pub(crate) mod facts;
pub(crate) mod flush;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod kube;
pub(crate) mod layers;
pub(crate) mod lock;
pub(crate) mod nat_file;
pub(crate) mod notify;
pub(crate) mod place;
pub(crate) mod ready;
pub(crate) mod rpc;
pub(crate) mod runner;
pub(crate) mod sandboxes;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod tombstones;
pub(crate) mod tracked;
pub(crate) mod watched_file;
pub(crate) mod watcher;
