// SPDX-License-Identifier: Apache-2.0
//! Writes the three traces of `ipamd/simulate/traces` anew: `traces FOLDER`. The methods are in `ipamd_simulate::pods`.

#![expect(clippy::disallowed_methods, reason = "a program: it writes files")]

use std::path::PathBuf;

use ipamd_simulate::pods::{Method, generate, write};

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("ipamd/simulate/traces"), PathBuf::from);
    for (method, name) in Method::ALL {
        std::fs::write(folder.join(format!("{name}.csv")), write(&generate(method, 1)))?;
    }
    Ok(())
}
