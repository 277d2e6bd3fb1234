// SPDX-License-Identifier: Apache-2.0
//! Readers of the daemon that stand alone in their file: compiled here once more, because the daemon around them (the AWS SDK, kube) is
//! minutes of a compiler. Everything else is fuzzed where it is: the functions of each crate's `fuzzing`.

#[path = "../../ipamd/src/cli/env_file/syntax.rs"]
mod syntax;

pub use syntax::fuzzed as env_file;
