// SPDX-License-Identifier: Apache-2.0
//! Settings in layers, as the daemon lives with them: what is read, when, and what holds when something in it is wrong.
//!
//! What layers mean is the core's ([`Layers`]). Here the file of classes is read every 5 s (`ENID_SETTINGS_FILE`), the instance's type and
//! zone come from its metadata, the Node's labels and annotations from the Kubernetes edge; what is resolved goes to the core
//! ([`Event::SettingsChanged`]), to the log's level and to the lists of blocks. Nothing of it stops the daemon or waits for anybody.
//!
//! ```text
//!  file ────────► classes ──┐ each: the last without a mistake
//!  Node ────────► labels,   ├──────► resolve ── clash ──► what was resolved last holds
//!                 settings ─┤          │
//!  metadata ────► type, zone┘          └────► holds ──► core, log, blocks; record
//! ```
//!
//! Invariants: nothing of a file with a mistake is taken, nor of annotations with one, and each is told once; a file that was there and
//! is gone is such a mistake; what was resolved is
//! resolved again after a restart before the API server or metadata has said a word ([`record`]), on this instance only.

mod board;
mod record;

use std::collections::BTreeMap;
use std::path::Path;

use ipamd_core::config::{
    Class, Config, ConfigSnapshot, Layers, Mistake, NatBlocks, Resolved, Source, read_annotations, read_settings,
};
use ipamd_core::event::InstanceFacts;
use ipamd_core::reason::ReasonCode;
use ipamd_core::{Event, config};
use serde_json::Value;
use tokio::sync::watch;

use super::kube::Reporter;
use super::watched_file::{Found, WatchedFile, pause};
use crate::inbox::Inbox;
use crate::telemetry;

pub(crate) use board::{Board, Verdict, verdict};
use board::{Shown, told};
use record::Record;
pub(crate) use record::RecordFile;

/// What a Node says of itself that layers are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeWords {
    pub(crate) labels: BTreeMap<String, String>,
    /// Those that are settings, whole names.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Those who are told of changes.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) inbox: Inbox,
    /// The lists of blocks as the variables have them.
    pub(crate) blocks: watch::Sender<NatBlocks>,
    pub(crate) reporter: Reporter,
}

/// Mistakes by what they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mistakes {
    file: Vec<String>,
    node: Vec<String>,
    together: Vec<String>,
}

impl Mistakes {
    fn all(&self) -> Vec<String> {
        [&self.file, &self.node, &self.together].into_iter().flatten().cloned().collect()
    }
}

/// The layers, and what they have come to.
pub(crate) struct Layering {
    environment: Box<dyn Source + Send>,
    file: Option<WatchedFile>,
    record: RecordFile,
    /// The last of each part that had no mistake of its own.
    parts: Record,
    layers: Layers,
    /// What holds, and the layers that it was resolved from.
    resolved: Resolved,
    holding: Layers,
    mistakes: Mistakes,
    board: watch::Sender<Shown>,
}

impl Layering {
    /// As things are at the start: what the record says, then the file as it is now. `config`: of the environment alone.
    pub(crate) fn new(
        environment: Box<dyn Source + Send>,
        config: &Config,
        mut record: RecordFile,
        facts: Option<&InstanceFacts>,
    ) -> Self {
        let mut parts = record.read();
        if config.kubernetes.node_name.is_none() {
            (parts.labels, parts.annotations) = Default::default();
        }
        let bare = Layers::default();
        // The environment alone has no mistake, or there would be no daemon.
        let alone = bare.resolve(&*environment).unwrap_or_else(|_| Resolved {
            config: config.clone(),
            notes: Vec::new(),
            values: Default::default(),
        });
        let file = config.settings_file.clone().map(WatchedFile::new);
        let mut layering = Self {
            environment,
            file,
            record,
            parts,
            layers: bare.clone(),
            resolved: alone.clone(),
            holding: bare,
            mistakes: Mistakes::default(),
            board: watch::Sender::default(),
        };
        layering.take_parts();
        if let Some(facts) = facts {
            layering.take_facts(facts);
        }
        layering.settle();
        layering.take_file();
        layering.settle();
        layering.show(&Mistakes::default());
        let over = told(&alone, &layering.resolved);
        if !over.is_empty() {
            tracing::info!(changes = ?over, "settings of this node lie over the environment");
        }
        layering
    }

    /// The configuration that holds.
    pub(crate) fn config(&self) -> &Config {
        &self.resolved.config
    }

    pub(crate) fn board(&self) -> Board {
        Board::new(self.board.subscribe())
    }

    /// Runs for ever.
    pub(crate) async fn run(
        mut self,
        mut facts: watch::Receiver<Option<InstanceFacts>>,
        mut node: watch::Receiver<Option<NodeWords>>,
        ends: Ends,
    ) {
        facts.mark_changed();
        node.mark_changed();
        loop {
            let (before, mistakes) = (self.resolved.clone(), self.mistakes.clone());
            tokio::select! {
                Ok(()) = facts.changed() => {
                    let known = facts.borrow_and_update().clone();
                    if known.is_some_and(|facts| self.take_facts(&facts)) {
                        // Of another instance was what the record had: the rest is taken as it is now.
                        self.take_file_again();
                        node.mark_changed();
                    }
                }
                Ok(()) = node.changed() => {
                    let said = node.borrow_and_update().clone();
                    said.iter().for_each(|words| self.take_node(words));
                }
                () = pause(self.file.as_ref()) => if !self.take_file() { continue },
            }
            self.settle();
            self.show(&mistakes);
            self.tell(&before, &ends);
            if mistakes != self.mistakes {
                ends.reporter.changed();
            }
        }
    }

    /// What the record says, each part as if it had been read now.
    fn take_parts(&mut self) {
        let text = self.parts.file.clone();
        self.layers = Layers {
            classes: text.and_then(|text| classes(&text).ok()).unwrap_or_default(),
            node: config::NodeTraits { labels: self.parts.labels.clone(), ..Default::default() },
            annotations: self.parts.annotations.clone(),
        };
        if self.file.is_none() {
            (self.layers.classes, self.parts.file) = Default::default();
        }
    }

    /// Who the instance is; whether it is another one than the record was of.
    fn take_facts(&mut self, facts: &InstanceFacts) -> bool {
        let id = facts.instance_id.to_string();
        let is_other = self.parts.instance_id.as_ref().is_some_and(|known| *known != id);
        if is_other {
            tracing::warn!(
                code = %ReasonCode::StateOfOtherInstance,
                "settings that were recorded are another instance's: they are forgotten"
            );
            self.parts = Record::default();
            self.take_parts();
        }
        self.parts.instance_id = Some(id);
        self.layers.node.instance_type = Some(facts.instance_type.clone());
        self.layers.node.zone = Some(facts.availability_zone.clone());
        is_other
    }

    fn take_node(&mut self, words: &NodeWords) {
        self.parts.labels = Some(words.labels.clone());
        self.layers.node.labels = Some(words.labels.clone());
        match read_annotations(&words.annotations) {
            Ok(settings) => {
                self.mistakes.node.clear();
                self.parts.annotations.clone_from(&settings);
                self.layers.annotations = settings;
            }
            Err(mistakes) => self.mistakes.node = texts(&mistakes),
        }
    }

    /// Reads the file; whether it says something else than before.
    fn take_file(&mut self) -> bool {
        let found = self.file.as_mut().and_then(|file| file.look().cloned());
        if let Some(found) = &found {
            self.take_found(found);
        }
        found.is_some()
    }

    fn take_file_again(&mut self) {
        if let Some(found) = self.file.as_ref().and_then(|file| file.last().cloned()) {
            self.take_found(&found);
        }
    }

    fn take_found(&mut self, found: &Found) {
        let path = self.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default();
        let was_there = self.parts.file.is_some();
        if *found == Ok(None) && !was_there {
            tracing::warn!(
                code = %ReasonCode::SettingsFileMissing, path,
                "ENID_SETTINGS_FILE: there is no such file (yet): no class of nodes applies"
            );
        }
        let read = match found {
            Ok(Some(text)) => classes(text),
            // A mount that is away, or a file that is written in place of another: no reason to resize every pool.
            Ok(None) if was_there => {
                Err(vec!["the file is gone, its last classes hold; `classes: []` takes them away".to_owned()])
            }
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(vec![format!("the file cannot be read: {error}")]),
        };
        match read {
            Ok(classes) => {
                self.mistakes.file.clear();
                self.parts.file = found.clone().unwrap_or_default();
                self.layers.classes = classes;
            }
            Err(mistakes) => {
                self.mistakes.file = mistakes.into_iter().map(|mistake| format!("{path}: {mistake}")).collect();
            }
        }
    }

    /// Resolves the layers; what they clash in leaves what holds as it is.
    fn settle(&mut self) {
        match self.layers.resolve(&*self.environment) {
            Ok(resolved) => {
                self.mistakes.together.clear();
                (self.resolved, self.holding) = (resolved, self.layers.clone());
                // Labels are of use to classes only.
                let labels = self.parts.labels.clone().filter(|_| self.file.is_some());
                self.record.write(&Record { labels, ..self.parts.clone() });
            }
            Err(mistakes) => self.mistakes.together = texts(&mistakes),
        }
    }

    /// Shows what there is now, and says once what has changed of what is wrong with it.
    fn show(&mut self, before: &Mistakes) {
        let mistakes = self.mistakes.all();
        if mistakes.is_empty() && *before != self.mistakes {
            tracing::info!("the settings of this node have no mistake any more");
        } else if *before != self.mistakes {
            tracing::error!(
                code = %ReasonCode::ConfigurationInvalid, ?mistakes,
                "settings of this node cannot be used: what was there before holds"
            );
        }
        let path = self.file.as_ref().map(|file| file.path().display().to_string());
        let missing = self.file.as_ref().filter(|file| file.last() == Some(&Ok(None)) && self.parts.file.is_none());
        let missing = missing.map(|file| format!("ENID_SETTINGS_FILE: there is no file {}", file.path().display()));
        let is_used = path.is_some() || !self.holding.annotations.is_empty();
        let snapshot = ConfigSnapshot::of(&self.resolved, &self.holding, path, mistakes);
        let notes = self.resolved.notes.iter().map(ToString::to_string).chain(missing).collect();
        self.board.send_replace(Shown { snapshot, notes, is_used });
    }

    fn tell(&self, before: &Resolved, ends: &Ends) {
        let now = &self.resolved;
        if before == now {
            return;
        }
        tracing::info!(changes = ?told(before, now), "settings of this node have changed");
        now.notes.iter().filter(|note| !before.notes.contains(note)).for_each(|note| {
            tracing::warn!(code = %ReasonCode::SettingIneffective, variable = note.variable, "{}", note.text);
        });
        if before.config.live() != now.config.live() {
            ends.inbox.event(Event::SettingsChanged(Box::new(now.config.live())));
        }
        if before.config.log.level != now.config.log.level {
            telemetry::set_level(now.config.log.level);
        }
        if before.config.snat.blocks != now.config.snat.blocks {
            ends.blocks.send_replace(now.config.snat.blocks.clone());
        }
    }
}

/// The classes of a file's text, YAML or JSON.
///
/// # Errors
/// All mistakes.
pub(crate) fn classes(text: &str) -> Result<Vec<Class>, Vec<String>> {
    let options = serde_saphyr::options! { with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| vec![format!("the file is no YAML: {}", one_line(&error.to_string()))])?;
    read_settings(&value).map_err(|mistakes| texts(&mistakes))
}

/// What a file for off-node resolving says.
///
/// # Errors
/// All mistakes; that there is no file is one.
pub(crate) fn classes_of(path: &Path) -> Result<Vec<Class>, Vec<String>> {
    match super::watched_file::read(path) {
        Ok(Some(text)) => classes(&text),
        Ok(None) => Err(vec!["there is no such file".to_owned()]),
        Err(error) => Err(vec![format!("the file cannot be read: {error}")]),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn texts(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
