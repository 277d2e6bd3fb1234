// SPDX-License-Identifier: Apache-2.0
//! `ip` and `nft`, with which the harness builds the emulated VPC and reads the kernel back, and both kinds of `iptables`, with
//! which tests make rules of others, by hand or by kube-proxy, who runs conntrack as well.
//!
//! Only the harness uses them: `ipamd` and `aws-cni` speak netlink themselves. They are looked for in `ENID_TOOLS` (a folder
//! of unpacked Debian packages, `scripts/tools.sh`), in `<build folder>/enid/tools`, and then on PATH. Commands go in batches,
//! on standard input: one process for a whole ENI, not one an address.
#![expect(clippy::disallowed_methods, reason = "the harness starts programs and looks for them by its environment")]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::netns::{Namespace, NetnsError};
use crate::process::fed;

/// Why a tool gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Not to be found.
    #[error(
        "`{program}` is neither in ENID_TOOLS nor on PATH; run scripts/tools.sh, or install iproute2, nftables, iptables, conntrack, strace and valgrind"
    )]
    Missing {
        /// Which.
        program: &'static str,
    },
    /// It could not be started.
    #[error("starting {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} in {namespace} failed: {output}\ninput was:\n{input}")]
    Failed {
        /// Which.
        program: String,
        /// Where.
        namespace: String,
        /// What it said.
        output: String,
        /// What it was given.
        input: String,
    },
    /// Its JSON cannot be read.
    #[error("{program} printed what is not JSON")]
    Json {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// A program and the folders of its libraries as LD_LIBRARY_PATH has them, when it comes from unpacked packages.
#[derive(Clone, Debug)]
struct Program {
    name: &'static str,
    path: PathBuf,
    libraries: Option<PathBuf>,
}

impl Program {
    /// Where it finds its libraries, and iptables its extensions: those are looked for in one folder, the first one.
    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(libraries) = &self.libraries else { return Vec::new() };
        let first = std::env::split_paths(libraries).next().unwrap_or_default();
        vec![("LD_LIBRARY_PATH", libraries.clone()), ("XTABLES_LIBDIR", first.join("xtables"))]
    }

    /// Writes a script `folder/name` that starts it, with `first` before its other arguments.
    fn write_starter(&self, folder: &Path, name: &str, first: &str) -> io::Result<()> {
        let environment = self.environment().into_iter().map(|(name, value)| format!("{name}='{}' ", value.display()));
        let (environment, path) = (environment.collect::<String>(), self.path.display());
        let script = format!("#!/bin/sh\n{environment}exec '{path}' {first} \"$@\"\n");
        let mut file = File::options().create_new(true).write(true).mode(0o755).open(folder.join(name))?;
        file.write_all(script.as_bytes())
    }
}

/// A kind of iptables: two programs for two places in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iptables {
    /// iptables-legacy: x_tables, by socket options.
    Legacy,
    /// iptables-nft: nf_tables, by netlink.
    Nft,
}

impl Iptables {
    /// As Debian's alternatives call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    /// The program that has all commands in it; the command is its first argument (xtables-multi).
    fn program(self) -> &'static str {
        match self {
            Self::Legacy => "xtables-legacy-multi",
            Self::Nft => "xtables-nft-multi",
        }
    }
}

/// The two programs.
#[derive(Clone, Debug)]
pub struct Tools {
    ip: Program,
    nft: Program,
}

impl Tools {
    /// Finds both.
    ///
    /// # Errors
    /// One is missing.
    pub fn find() -> Result<Self, ToolError> {
        Ok(Self { ip: find("ip")?, nft: find("nft")? })
    }

    /// strace, and its LD_LIBRARY_PATH when it comes from unpacked packages. Only tests that cut programs off need it.
    ///
    /// # Errors
    /// It is missing.
    pub fn strace() -> Result<(PathBuf, Option<PathBuf>), ToolError> {
        find("strace").map(|program| (program.path, program.libraries))
    }

    /// valgrind, as the first words of a command; what goes before it says where its tools are when it comes from unpacked packages.
    /// Only tests that count instructions need it.
    ///
    /// # Errors
    /// It is missing.
    pub fn valgrind() -> Result<Vec<String>, ToolError> {
        let Program { path, libraries, .. } = find("valgrind")?;
        let path = path.display().to_string();
        let Some(libraries) = libraries else { return Ok(vec![path]) };
        // The starter of the package looks for the program by its installed path.
        let root = path.trim_end_matches("/usr/bin/valgrind").to_owned();
        let mut words = vec!["/usr/bin/env".to_owned(), format!("LD_LIBRARY_PATH={}", libraries.display())];
        words.extend([format!("VALGRIND_LIB={root}/usr/libexec/valgrind"), format!("{path}.bin")]);
        Ok(words)
    }

    /// Runs one of iptables' programs (`iptables`, `iptables-restore`, …) of a kind in `namespace`: its output.
    ///
    /// # Errors
    /// The kind is not installed, or the command failed.
    pub fn iptables(
        namespace: &Namespace,
        kind: Iptables,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, ToolError> {
        let program = find(kind.program())?;
        let tools = Self::find()?;
        tools
            .run(&program, Some(namespace), arguments, input)
            .map(|output| String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs lines of `ip` commands (without the leading `ip`) in `namespace`; stops at the first that fails.
    ///
    /// # Errors
    /// A line failed; the error holds all of them.
    pub fn ip(&self, namespace: &Namespace, lines: &str) -> Result<(), ToolError> {
        self.run(&self.ip, Some(namespace), &["-batch", "-"], lines).map(drop)
    }

    /// The same in the namespace of the calling thread.
    ///
    /// # Errors
    /// A line failed; the error holds all of them.
    pub fn ip_here(&self, lines: &str) -> Result<(), ToolError> {
        self.run(&self.ip, None, &["-batch", "-"], lines).map(drop)
    }

    /// `ip -j <arguments>` in `namespace`, as JSON; no output is an empty list.
    ///
    /// # Errors
    /// The command failed.
    pub fn ip_json(&self, namespace: &Namespace, arguments: &[&str]) -> Result<Value, ToolError> {
        let arguments: Vec<&str> = ["-j", "-d"].iter().chain(arguments).copied().collect();
        let output = self.run(&self.ip, Some(namespace), &arguments, "")?;
        parse(&self.ip, &output)
    }

    /// Loads nft commands in `namespace`, as one transaction.
    ///
    /// # Errors
    /// The kernel or nft refuses; nothing was changed.
    pub fn nft(&self, namespace: &Namespace, commands: &str) -> Result<(), ToolError> {
        self.run(&self.nft, Some(namespace), &["-f", "-"], commands).map(drop)
    }

    /// `nft -j <arguments>` in `namespace`, as JSON.
    ///
    /// # Errors
    /// The command failed.
    pub fn nft_json(&self, namespace: &Namespace, arguments: &[&str]) -> Result<Value, ToolError> {
        let arguments: Vec<&str> = std::iter::once("-j").chain(arguments.iter().copied()).collect();
        let output = self.run(&self.nft, Some(namespace), &arguments, "")?;
        parse(&self.nft, &output)
    }

    /// Writes a starter script into `folder` for each of the two that comes from unpacked packages, so that people can run it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_starters(&self, folder: &Path) -> io::Result<()> {
        let mut unpacked = [&self.ip, &self.nft].into_iter().filter(|program| program.libraries.is_some());
        unpacked.try_for_each(|program| program.write_starter(folder, program.name, ""))
    }

    /// Writes a starter script into `folder` for each program of iptables of a kind, and for conntrack, under the names that
    /// others (kube-proxy) run them by.
    ///
    /// # Errors
    /// One is missing, or a script cannot be written.
    pub fn write_iptables_starters(folder: &Path, kind: Iptables) -> Result<(), ToolError> {
        let (iptables, conntrack) = (find(kind.program())?, find("conntrack")?);
        let failed = |program: &Program| {
            let program = program.path.clone();
            move |source| ToolError::Start { program, source }
        };
        for family in ["iptables", "ip6tables"] {
            for name in ["", "-save", "-restore"].map(|verb| format!("{family}{verb}")) {
                iptables.write_starter(folder, &name, &name).map_err(failed(&iptables))?;
            }
        }
        conntrack.write_starter(folder, "conntrack", "").map_err(failed(&conntrack))
    }

    fn run(
        &self,
        program: &Program,
        namespace: Option<&Namespace>,
        arguments: &[&str],
        input: &str,
    ) -> Result<Vec<u8>, ToolError> {
        let mut command = Command::new(&program.path);
        command.args(arguments).envs(program.environment());
        let output = match namespace {
            Some(namespace) => namespace.run(|| fed(&mut command, input))?,
            None => fed(&mut command, input),
        };
        let output = output.map_err(|source| ToolError::Start { program: program.path.clone(), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(ToolError::Failed {
            program: format!("{} {}", program.name, arguments.join(" ")),
            namespace: namespace.map_or("the world's own namespace", Namespace::name).to_owned(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            input: input.to_owned(),
        })
    }
}

fn parse(program: &Program, output: &[u8]) -> Result<Value, ToolError> {
    if output.trim_ascii().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(output).map_err(|source| ToolError::Json { program: program.name.to_owned(), source })
}

fn find(name: &'static str) -> Result<Program, ToolError> {
    for root in unpacked_roots() {
        for folder in ["usr/sbin", "sbin", "bin", "usr/bin"] {
            let path = root.join(folder).join(name);
            if path.is_file() {
                let folders = ["usr/lib", "lib"].map(|folder| {
                    root.join(format!("{folder}/{}-linux-gnu", std::env::consts::ARCH)).display().to_string()
                });
                let libraries = Some(PathBuf::from(folders.join(":")));
                return Ok(Program { name, path, libraries });
            }
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .map(|path| Program { name, path, libraries: None })
        .ok_or(ToolError::Missing { program: name })
}

/// `ENID_TOOLS`, and `enid/tools` beside the folder this program was built into (`<build>/debug/…`).
fn unpacked_roots() -> Vec<PathBuf> {
    let named = std::env::var_os("ENID_TOOLS").map(PathBuf::from);
    named.into_iter().chain(build_folder().map(|build| build.join("enid/tools"))).collect()
}

/// What a variable names, else what was built or unpacked to this path below the build folder; it may not be there.
#[must_use]
pub fn built(variable: &str, path: impl AsRef<Path>) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.or_else(|| Some(build_folder()?.join(path))).unwrap_or_default()
}

/// The build folder that this program stands in: above `debug` or `release`.
#[must_use]
pub fn build_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let profile = program.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"))?;
    profile.parent().map(Path::to_path_buf)
}
