// SPDX-License-Identifier: Apache-2.0
//! Settings in layers: which value of a variable holds on this node, and where it comes from.
//!
//! ```text
//! default  <  environment (the cluster's)  <  class 1  <  class 2  <  …  <  annotation of the node
//!             every variable                  of the file, each that fits     only variables that may change while the daemon runs
//! ```
//!
//! Pure: the environment is a [`Source`], the file a parsed value ([`super::settings_file`]), node and annotations are arguments. Reading
//! them, again and again, and holding on to the last that had no mistake, is the daemon's business.
//!
//! Invariants: what is resolved is what [`parse`] makes of one source, so clashes between variables are found whichever layers they
//! come from; all mistakes are returned together, each with the layer that it is in.
//!
//! Worked example: the environment has WARM_IP_TARGET=2 and MAX_ENI=4, class `large` (of m5.24xlarge) WARM_IP_TARGET=20, the node's
//! annotation `setting.enid.dev/MAX_ENI: "8"`. An m5.large runs with 2 and 8, an m5.24xlarge with 20 and 8.

use std::collections::BTreeMap;

use super::settings_file::{Class, Fit, Mistake, NodeTraits, check};
use super::{Config, ConfigError, Note, Source, VARIABLES, parse, proxy};

/// What the name of an annotation of the Node begins with that is a setting; the variable's name follows.
pub const ANNOTATION: &str = "setting.enid.dev/";

/// The layer that a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// The daemon's environment.
    Environment,
    /// A class of the file, by name.
    Class(String),
    /// An annotation of the Node.
    Node,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment => f.write_str("environment"),
            Self::Class(name) => write!(f, "class {name}"),
            Self::Node => f.write_str("node"),
        }
    }
}

/// The layers above the environment, each without a mistake of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Classes of the file, in its order.
    pub classes: Vec<Class>,
    /// What classes select by.
    pub node: NodeTraits,
    /// Settings of the Node's annotations: variable -> value. Of [`read_annotations`].
    pub annotations: BTreeMap<String, String>,
}

/// What the layers come to on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// What an operator should know of settings that are accepted.
    pub notes: Vec<Note>,
    /// Variables that are set: name -> value, and where it comes from.
    pub values: BTreeMap<String, (String, Origin)>,
}

impl Resolved {
    /// The value of a variable as it was written, and where it comes from; the default's is the table's.
    #[must_use]
    pub fn value(&self, variable: &str) -> (Option<&str>, Origin) {
        if let Some((value, origin)) = self.values.get(variable) {
            return (Some(value.as_str()), origin.clone());
        }
        let row = VARIABLES.iter().find(|row| row.name == variable);
        (row.map(|row| row.default).filter(|default| !default.is_empty()), Origin::Default)
    }
}

/// The environment with what lies over it.
struct Layered<'a> {
    environment: &'a dyn Source,
    over: BTreeMap<String, (String, Origin)>,
}

impl Source for Layered<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.over.get(name).map(|(value, _)| value.clone()).or_else(|| self.environment.get(name))
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.environment.names();
        names.extend(self.over.keys().cloned());
        names.sort();
        names.dedup();
        names
    }
}

impl Layered<'_> {
    fn origin(&self, variable: &str) -> Origin {
        match (self.over.get(variable), self.environment.get(variable)) {
            (Some((_, origin)), _) => origin.clone(),
            (None, Some(text)) if !text.trim().is_empty() => Origin::Environment,
            (None, _) => Origin::Default,
        }
    }

    fn mistake(&self, error: &ConfigError) -> Mistake {
        let origin = self.origin(&error.variable);
        Mistake { place: "all layers together".to_owned(), problem: format!("{error} (from: {origin})") }
    }
}

impl Layers {
    /// What holds on this node.
    ///
    /// # Errors
    /// Clashes that only the layers together have, all of them.
    pub fn resolve(&self, environment: &dyn Source) -> Result<Resolved, Vec<Mistake>> {
        let mut over = BTreeMap::new();
        for class in self.classes.iter().filter(|class| class.selector.fit(&self.node) == Fit::Yes) {
            let of_class = class
                .settings
                .iter()
                .map(|(variable, value)| (variable.clone(), (value.clone(), Origin::Class(class.name.clone()))));
            over.extend(of_class);
        }
        over.extend(self.annotations.iter().map(|(variable, value)| (variable.clone(), (value.clone(), Origin::Node))));
        let layered = Layered { environment, over };
        let (config, notes) = parse(&layered)
            .map_err(|errors| errors.iter().map(|error| layered.mistake(error)).collect::<Vec<Mistake>>())?;
        let set = VARIABLES.iter().filter_map(|row| {
            // Of two names the one that counts is shown.
            let mut names = [Some(row.name), proxy::alias(row.name)].into_iter().flatten();
            let name = names.find(|name| layered.origin(name) != Origin::Default)?;
            let value = layered.get(name)?;
            Some((row.name.to_owned(), (value.trim().to_owned(), layered.origin(name))))
        });
        Ok(Resolved { config, notes, values: set.collect() })
    }
}

/// The settings among a Node's annotations: variable -> value. Other annotations are nobody's business here.
///
/// # Errors
/// All mistakes, each with the annotation's name.
pub fn read_annotations(annotations: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Vec<Mistake>> {
    let (mut settings, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (name, value) in annotations {
        let Some(variable) = name.strip_prefix(ANNOTATION) else { continue };
        let place = format!("annotation `{name}`");
        match check(variable, value) {
            Ok(()) => {
                settings.insert(variable.to_owned(), value.clone());
            }
            Err(problem) => mistakes.push(Mistake { place, problem }),
        }
    }
    if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests;
