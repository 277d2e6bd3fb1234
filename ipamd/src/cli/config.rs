// SPDX-License-Identifier: Apache-2.0
//! `ipamd config`: every variable, its value and the layer that it comes from, as the running daemon has it; or, off the node, what a
//! file of classes would come to on a node of a kind, so that whoever changes the file can have it checked before a cluster reads it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ipamd_core::Config;
use ipamd_core::config::{Bind, ClassSnapshot, ConfigSnapshot, Layers, NodeTraits, Resolved, Source, VariableSnapshot};

use super::ask::get;
use super::table::table;
use crate::edge::layers;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// As JSON, not as tables.
    pub json: bool,
    /// Where the daemon answers; `None`: as configured.
    pub address: Option<Bind>,
    /// The file to be checked, `-` for standard input; `None`: the running daemon is asked.
    pub file: Option<PathBuf>,
    /// The node that the file is resolved for.
    pub node: NodeTraits,
}

impl Question {
    /// Takes an option of the command line.
    ///
    /// # Errors
    /// A label that is none.
    pub(super) fn option(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "file" => self.file = Some(PathBuf::from(value)),
            "type" => self.node.instance_type = Some(value),
            "zone" => self.node.zone = Some(value),
            _ => {
                let (label, of) =
                    value.split_once('=').ok_or_else(|| format!("--label {value}: name=value is needed"))?;
                self.node.labels.get_or_insert_default().insert(label.to_owned(), of.to_owned());
            }
        }
        Ok(())
    }
}

/// Prints what holds, or would.
///
/// # Errors
/// The daemon is not there; the file has mistakes, all of them; standard output is closed.
pub fn run(config: &Config, environment: &dyn Source, question: &Question, out: &mut dyn Write) -> Result<(), String> {
    let snapshot = match &question.file {
        Some(path) => off_node(path, environment, &question.node)?,
        None => {
            let bind = question.address.clone().or_else(|| config.introspection.clone());
            let bind = bind.ok_or("introspection is disabled (DISABLE_INTROSPECTION): give --address")?;
            let body = get(&bind, "/v1/config")?;
            serde_json::from_str(&body).map_err(|error| format!("the daemon's answer cannot be read: {error}"))?
        }
    };
    let text = if question.json {
        serde_json::to_string(&snapshot).map_err(|error| format!("writing JSON: {error}"))? + "\n"
    } else {
        render(&snapshot)
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

fn off_node(path: &Path, environment: &dyn Source, node: &NodeTraits) -> Result<ConfigSnapshot, String> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let wrong = |mistakes: &[String]| {
        let count = if mistakes.len() == 1 { "a mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) };
        format!("{name} has {count}:\n  {}", mistakes.join("\n  "))
    };
    let classes = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
        layers::classes(&text)
    } else {
        layers::classes_of(path)
    };
    let classes = classes.map_err(|mistakes| wrong(&mistakes))?;
    let layers = Layers { classes, node: node.clone(), ..Layers::default() };
    let resolved: Resolved = layers
        .resolve(environment)
        .map_err(|mistakes| wrong(&mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()))?;
    Ok(ConfigSnapshot::of(&resolved, &layers, Some(name), Vec::new()))
}

/// The tables.
#[must_use]
pub fn render(snapshot: &ConfigSnapshot) -> String {
    let unknown = "not known";
    let node = &snapshot.node;
    let head = format!(
        "file     {}\nnode     type {}, zone {}, labels {}\n",
        snapshot.file.as_deref().unwrap_or("none (ENID_SETTINGS_FILE)"),
        node.instance_type.as_deref().unwrap_or(unknown),
        node.zone.as_deref().unwrap_or(unknown),
        if node.labels_known { "known" } else { unknown },
    );
    let mistakes: Vec<_> = snapshot.mistakes.iter().map(|mistake| vec![mistake.clone()]).collect();
    let classes: Vec<_> = snapshot.classes.iter().map(class).collect();
    let variables: Vec<_> = snapshot.variables.iter().map(variable).collect();
    let head_of_variables = ["variable", "value", "from", "changes at run time", "note"];
    let sections = [
        head,
        table("mistakes: what was there before holds", &["what"], &mistakes),
        table("classes of nodes", &["class", "this node is of it"], &classes),
        table("variables", &head_of_variables, &variables),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

fn class(class: &ClassSnapshot) -> Vec<String> {
    let fits = if class.fits == "unknown" { "not known: it does not apply until it is" } else { class.fits.as_str() };
    vec![class.name.clone(), fits.to_owned()]
}

fn variable(row: &VariableSnapshot) -> Vec<String> {
    let from = match &row.class {
        Some(class) => format!("class {class}"),
        None if row.source == "node" => "annotation of the node".to_owned(),
        None => row.source.clone(),
    };
    vec![
        row.variable.clone(),
        row.value.clone().unwrap_or_else(|| "-".to_owned()),
        from,
        if row.changes_at_run_time { "yes" } else { "no" }.to_owned(),
        row.notes.join("; "),
    ]
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a file that a user has written")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "classes:\n- name: large\n  selector: {instanceTypes: ['m5.*'], labels: {a: b}}\n  settings: {WARM_IP_TARGET: 20}\n";

    fn asked(text: &str, options: &[(&str, &str)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, text).unwrap();
        let mut question = Question { file: Some(path), ..Question::default() };
        for (name, value) in options {
            question.option(name, (*value).to_owned())?;
        }
        let mut out = Vec::new();
        run(&Config::default(), &BTreeMap::new(), &question, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_file_is_resolved_for_the_node_that_is_described() {
        let line = |text: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with("WARM_IP_TARGET")).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let text = asked(FILE, &[("type", "m5.large"), ("label", "a=b")]).unwrap();
        assert_eq!(line(&text), ["WARM_IP_TARGET", "20", "class", "large", "yes"]);
        let text = asked(FILE, &[("type", "c5.large"), ("label", "a=b")]).unwrap();
        assert_eq!(line(&text), ["WARM_IP_TARGET", "0", "default", "yes"]);
        let text = asked(FILE, &[("type", "m5.large")]).unwrap();
        assert!(text.contains("large  not known: it does not apply until it is"), "{text}");
        assert!(asked(FILE, &[("label", "a")]).unwrap_err().contains("name=value"));
    }

    #[test]
    fn all_mistakes_of_a_file_are_the_error() {
        let wrong = "classes: [{name: a, settings: {WARM_IP_TARGETS: 1, MAX_ENI: 0}}]";
        let error = asked(wrong, &[]).unwrap_err();
        assert!(
            error.contains("has 2 mistakes:") && error.contains("WARM_IP_TARGETS") && error.contains("MAX_ENI=`0`"),
            "{error}"
        );
        let nowhere = Question { file: Some("/nonexistent/x".into()), ..Question::default() };
        let error = run(&Config::default(), &BTreeMap::new(), &nowhere, &mut Vec::new()).unwrap_err();
        assert!(error.contains("/nonexistent/x has a mistake:") && error.contains("no such file"), "{error}");
    }
}
