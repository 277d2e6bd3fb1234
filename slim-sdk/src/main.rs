// SPDX-License-Identifier: Apache-2.0
//! `slim-sdk derive|verify|record ROOT [BUILD]`: see the library. Called by `scripts/sdk.sh` and `make check-slim`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the build talks on its standard streams")]

use std::path::Path;
use std::process::ExitCode;

use slim_sdk::{Error, Workspace};

const USAGE: &str = "usage: slim-sdk derive ROOT BUILD    derive the slim SDK below the folder BUILD; prints its folder
       slim-sdk derive-unchecked ROOT BUILD    the same for an SDK that was not compared yet
       slim-sdk verify ROOT    fail when the comparison with the full SDK is due again
       slim-sdk record ROOT    record that it has been made";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["derive", root, build] => derive(root, build, true),
        ["derive-unchecked", root, build] => derive(root, build, false),
        ["verify", root] => Workspace::open(Path::new(root)).and_then(|workspace| workspace.is_checked()),
        ["record", root] => record(root),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    if let Err(error) = done {
        eprintln!("slim-sdk: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn derive(root: &str, build: &str, only_checked: bool) -> Result<(), Error> {
    let workspace = Workspace::open(Path::new(root))?;
    if only_checked {
        workspace.may_derive()?;
    }
    let derived = workspace.derive(Path::new(build))?;
    if derived.new {
        eprintln!(
            "slim-sdk: {} of {} lines of aws-sdk-ec2 kept, for {}",
            derived.lines.0,
            derived.lines.1,
            derived.actions.join(", ")
        );
    }
    println!("{}", derived.folder.display());
    Ok(())
}

fn record(root: &str) -> Result<(), Error> {
    let path = Workspace::open(Path::new(root))?.record()?;
    eprintln!("slim-sdk: recorded in {}", path.display());
    Ok(())
}
