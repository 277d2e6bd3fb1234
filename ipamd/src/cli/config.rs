// SPDX-License-Identifier: Apache-2.0
//! `ipamd config`: every variable, its value and the layer that it comes from, as the running daemon has it; or, off the node, what a
//! file of classes would come to on a node of a kind, so that whoever changes the file can have it checked before a cluster reads it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ipamd_core::Config;
use ipamd_core::config::{ClassSnapshot, ConfigSnapshot, Layers, NodeTraits, Resolved, Source, VariableSnapshot};

use super::ask::{Asked, Daemon};
use super::table::{column, table};
use super::terminal::Screen;
use super::{pretty, print};
use crate::edge::layers;

/// Letters of a line that a table leaves to what stands beside a variable's name.
const ROOM: usize = 30;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// How, and whom where no file is named.
    pub asked: Asked,
    /// The file to be checked, `-` for standard input; `None`: the running daemon is asked.
    pub file: Option<PathBuf>,
    /// The node that the file is resolved for.
    pub node: NodeTraits,
}

/// Prints what holds, or would.
///
/// # Errors
/// The daemon is not there; the file has mistakes, all of them; standard output is closed.
pub fn run(
    config: &Config,
    environment: &dyn Source,
    question: &Question,
    (screen, out): (&Screen, &mut dyn Write),
) -> Result<(), String> {
    let snapshot = match &question.file {
        Some(path) => off_node(path, environment, &question.node)?,
        None => Daemon::of(config, question.asked.address.as_ref()).json("/v1/config")?,
    };
    print(out, &if question.asked.json { pretty(&snapshot)? } else { render(&snapshot, screen) })
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
pub fn render(snapshot: &ConfigSnapshot, screen: &Screen) -> String {
    let unknown = "not known";
    let node = &snapshot.node;
    let traits = format!(
        "type {}, zone {}, labels {}",
        node.instance_type.as_deref().unwrap_or(unknown),
        node.zone.as_deref().unwrap_or(unknown),
        if node.labels_known { "known" } else { unknown },
    );
    let file = snapshot.file.as_deref().unwrap_or("none (ENID_SETTINGS_FILE)");
    let head = screen.labelled("file", file) + &screen.labelled("node", &traits);
    let classes: Vec<_> = snapshot.classes.iter().map(class).collect();
    let sections = [
        head,
        listed(screen, "mistakes: what was there before holds", snapshot.mistakes.iter().cloned()),
        table(screen, "classes of nodes", &[column("class"), column("this node is of it").text()], &classes),
        variables(&snapshot.variables, screen),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Lines under a heading, none of them cut; nothing without lines.
fn listed(screen: &Screen, title: &str, lines: impl Iterator<Item = String>) -> String {
    let text: String = lines.map(|line| screen.wrapped(&format!("  {line}"), 4)).collect();
    if text.is_empty() { text } else { screen.heading(title) + &text }
}

/// A table, or a list where names would leave no room for values.
fn variables(all: &[VariableSnapshot], screen: &Screen) -> String {
    let longest = all.iter().map(|row| row.variable.len()).max().unwrap_or(0);
    if screen.width.is_some_and(|width| width < longest + ROOM) {
        let line = |row: &VariableSnapshot| {
            let [name, value, from, _, note] = variable(row);
            let note = if note.is_empty() { note } else { format!("; {note}") };
            format!("{name} {value} ({from}{note})")
        };
        return listed(screen, "variables", all.iter().map(line));
    }
    let columns = [
        column("variable"),
        column("value").text(),
        column("from").rank(1),
        column("changes at run time").rank(3),
        column("note").text().rank(2),
    ];
    table(screen, "variables", &columns, &all.iter().map(|row| variable(row).to_vec()).collect::<Vec<_>>())
}

fn class(class: &ClassSnapshot) -> Vec<String> {
    let fits = if class.fits == "unknown" { "not known: it does not apply until it is" } else { class.fits.as_str() };
    vec![class.name.clone(), fits.to_owned()]
}

fn variable(row: &VariableSnapshot) -> [String; 5] {
    let from = match &row.class {
        Some(class) => format!("class {class}"),
        None if row.source == "node" => "annotation of the node".to_owned(),
        None => row.source.clone(),
    };
    [
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
        asked_at(None, text, options)
    }

    fn asked_at(width: Option<usize>, text: &str, options: &[(&str, &str)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        std::fs::write(&path, text).unwrap();
        let mut words = vec!["config".to_owned(), "--file".to_owned(), path.display().to_string()];
        words.extend(options.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]));
        let command = crate::cli::parse(words.into_iter().map(Into::into)).map_err(|error| error.to_string())?;
        let crate::cli::Command::Config(question) = command else { panic!("{command:?}") };
        let mut out = Vec::new();
        run(&Config::default(), &BTreeMap::new(), &question, (&Screen { width, ..Screen::default() }, &mut out))?;
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
    fn on_a_narrow_screen_every_value_is_there_and_no_line_is_longer() {
        let named = [("type", "m5.large"), ("label", "a=b")];
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for width in [40, 60, 66, 70, 100, 200] {
            let text = asked_at(Some(width), FILE, &named).unwrap();
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("WARM_IP_TARGET"), "{width}:\n{text}");
        }
        let narrow = words(&asked_at(Some(40), FILE, &named).unwrap());
        let found = narrow.windows(4).any(|four| four == ["WARM_IP_TARGET", "20", "(class", "large)"]);
        assert!(found, "{narrow:?}");
        let wrong = vec!["a word of a mistake that is long".repeat(4)];
        let snapshot = ConfigSnapshot { mistakes: wrong.clone(), ..ConfigSnapshot::default() };
        let text = render(&snapshot, &Screen { width: Some(40), ..Screen::default() });
        assert!(words(&text).join(" ").contains(&wrong[0]), "nothing of a mistake is cut:\n{text}");
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
        let error =
            run(&Config::default(), &BTreeMap::new(), &nowhere, (&Screen::default(), &mut Vec::new())).unwrap_err();
        assert!(error.contains("/nonexistent/x has a mistake:") && error.contains("no such file"), "{error}");
    }
}
