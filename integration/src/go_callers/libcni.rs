// SPDX-License-Identifier: Apache-2.0
//! libcni as a node's container runtime: every verb of a network list, with the cache that it keeps of what it attached.
//!
//! What it does between two calls is its own: it chooses the version out of `cniVersions`, hands each plugin of a chain the result of
//! the one before, caches the last one and gives it back on CHECK and DEL, and before a GC sends a DEL for every attachment in its
//! cache that is not to be kept.
//!
//! ```text
//! /run/enid/<node>/libcni/<number>/{10-aws.conflist, bin/{aws-cni, bandwidth, tuning}, cache/results/<network>-<id>-<ifname>}
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{GoCallerError, answer, built, failed};
use crate::netns::Namespace;
use crate::node::{Node, plugin_binary};
use crate::sandbox::Sandbox;
use crate::world::World;

/// Name of the link in the pod.
const IFNAME: &str = "eth0";

/// The verb failed: libcni's words, and the plugin's error object where there is one.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// What libcni returns to a runtime.
    pub text: String,
    /// The plugin's own error, as libcni read it.
    pub plugin: Option<PluginError>,
}

/// A plugin's error object (CNI specification, "Error").
#[derive(Clone, Debug, Deserialize)]
pub struct PluginError {
    /// Such as 11, try again later.
    pub code: u64,
    /// What happened.
    pub msg: String,
    /// The causes.
    #[serde(default)]
    pub details: String,
}

/// What came of a verb that worked; each member is there for the verbs that have it.
#[derive(Clone, Debug, Deserialize)]
pub struct Outcome {
    /// The version that libcni chose.
    pub version: String,
    /// An ADD's result, in that version.
    #[serde(default)]
    pub result: Value,
    /// The same as libcni understands it, in the shape of 1.1.0.
    #[serde(default)]
    pub parsed: Value,
    /// The versions that the plugin names.
    #[serde(default)]
    pub supported: Vec<String>,
    /// The plugins' capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
    error: Option<Refused>,
}

/// libcni with one network list on a node.
#[derive(Debug)]
pub struct Libcni {
    program: PathBuf,
    node: Namespace,
    folder: PathBuf,
    network: String,
}

impl Libcni {
    /// With `list` in the node's configuration folder; each has a cache of its own, called by `name`.
    ///
    /// # Errors
    /// A program is not built.
    pub fn new(world: &World, node: &Node, name: &str, list: &Value) -> Result<Self, GoCallerError> {
        let folder = world.folder(&format!("{}/libcni/{name}", node.name))?;
        let bin = world.folder(&format!("{}/libcni/{name}/bin", node.name))?;
        let programs = [plugin_binary()?, built("plugins/bandwidth")?, built("plugins/tuning")?];
        for (program, name) in programs.iter().zip(["aws-cni", "bandwidth", "tuning"]) {
            symlink(program, bin.join(name)).map_err(failed("linking the plugins"))?;
        }
        fs::write(folder.join("10-aws.conflist"), list.to_string()).map_err(failed("writing the conflist"))?;
        let network = list["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { program: built("libcni")?, node: node.netns.clone(), folder, network })
    }

    /// ADD.
    ///
    /// # Errors
    /// A plugin refuses, or libcni cannot read its result.
    pub fn add(&self, sandbox: &Sandbox) -> Result<Outcome, GoCallerError> {
        self.of_sandbox("add", sandbox)
    }

    /// CHECK, with what the cache has.
    ///
    /// # Errors
    /// A plugin refuses, or the version has no CHECK.
    pub fn check(&self, sandbox: &Sandbox) -> Result<Outcome, GoCallerError> {
        self.of_sandbox("check", sandbox)
    }

    /// DEL, with what the cache has.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn del(&self, sandbox: &Sandbox) -> Result<Outcome, GoCallerError> {
        self.of_sandbox("del", sandbox)
    }

    /// GC: DEL of all in the cache but these, then GC to each plugin. `spare_younger`: how young a sandbox must be for our plugin to
    /// spare it; `None`: its own time.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn gc(&self, keep: &[&Sandbox], spare_younger: Option<Duration>) -> Result<Outcome, GoCallerError> {
        let keep: Vec<_> = keep.iter().map(|sandbox| format!("{}/{IFNAME}", sandbox.container_id)).collect();
        self.gc_with(&keep.join(","), spare_younger)
    }

    /// GC with a list that no runtime means: `null`, as libcni makes it of a nil one, or `none`, when it was given no arguments.
    ///
    /// # Errors
    /// A plugin refuses.
    pub fn gc_with(&self, keep: &str, spare_younger: Option<Duration>) -> Result<Outcome, GoCallerError> {
        let mut command = self.command();
        if let Some(spare) = spare_younger {
            command.env("ENID_GC_SPARE_MS", spare.as_millis().to_string());
        }
        self.run(command.args(["-keep", keep, "gc"]))
    }

    /// STATUS of all plugins.
    ///
    /// # Errors
    /// One is not ready.
    pub fn status(&self) -> Result<Outcome, GoCallerError> {
        self.run(self.command().arg("status"))
    }

    /// Whether all plugins are there and speak the list's version.
    ///
    /// # Errors
    /// One is not, or does not.
    pub fn validate(&self) -> Result<Outcome, GoCallerError> {
        self.run(self.command().arg("validate"))
    }

    /// VERSION of the first plugin.
    ///
    /// # Errors
    /// It refuses.
    pub fn version(&self) -> Result<Outcome, GoCallerError> {
        self.run(self.command().arg("version"))
    }

    /// Where libcni caches what it has attached for a sandbox; not there: it knows of nothing.
    #[must_use]
    pub fn cached(&self, sandbox: &Sandbox) -> PathBuf {
        self.folder.join(format!("cache/results/{}-{}-{IFNAME}", self.network, sandbox.container_id))
    }

    fn of_sandbox(&self, verb: &str, sandbox: &Sandbox) -> Result<Outcome, GoCallerError> {
        let mut command = self.command();
        command.args(["-id", &sandbox.container_id, "-ifname", IFNAME, "-args", &sandbox.cni_args()?]);
        command
            .arg("-netns")
            .arg(sandbox.netns.path())
            .args(["-capabilities", r#"{"bandwidth":{"ingressRate":8000000,"ingressBurst":8000000}}"#]);
        self.run(command.arg(verb))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("-list").arg(self.folder.join("10-aws.conflist"));
        command.arg("-bin").arg(self.folder.join("bin")).arg("-cache").arg(self.folder.join("cache"));
        command
    }

    fn run(&self, command: &mut Command) -> Result<Outcome, GoCallerError> {
        let mut outcome: Outcome = answer(&self.node, command)?;
        match outcome.error.take() {
            Some(refused) => Err(refused.into()),
            None => Ok(outcome),
        }
    }
}

impl GoCallerError {
    /// The plugin's own error, if it refused.
    #[must_use]
    pub fn of_plugin(&self) -> Option<&PluginError> {
        if let Self::Refused(refused) = self { refused.plugin.as_ref() } else { None }
    }
}
