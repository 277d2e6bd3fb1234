// SPDX-License-Identifier: Apache-2.0
//! Links: relative ones lead to a file of the repository, and where they name a heading, to one that is there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::markdown::{Page, pages, root};

/// `docs/../README.md` as `README.md`; `None`: it leads out of the repository.
fn joined(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut parts: Vec<&std::ffi::OsStr> = folder.iter().collect();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            _ => return None,
        }
    }
    Some(parts.iter().collect())
}

/// What is wrong with a link; `None`: nothing.
fn fault(page: &Page, target: &str, anchors: &BTreeMap<PathBuf, Vec<String>>) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() {
        page.path.clone()
    } else {
        match joined(page.path.parent().unwrap(), path) {
            Some(file) => file,
            None => return Some("leads out of the repository".to_owned()),
        }
    };
    if !root().join(&file).exists() {
        return Some("no such file".to_owned());
    }
    let anchor = anchor?;
    match anchors.get(&file) {
        None => Some("an anchor of what is no page".to_owned()),
        Some(there) if there.iter().any(|it| it == anchor) => None,
        Some(_) => Some(format!("no heading #{anchor} in {}", file.display())),
    }
}

#[test]
fn every_link_within_the_repository_leads_to_a_file_and_a_heading_that_are_there() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|page| (page.path.clone(), page.anchors())).collect();
    let (mut faults, mut within, mut without) = (Vec::new(), 0, 0);
    for page in &pages {
        for (line, target) in page.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                without += 1;
                continue;
            }
            within += 1;
            if let Some(fault) = fault(page, &target, &anchors) {
                faults.push(format!("{}:{line}: {target}: {fault}", page.path.display()));
            }
        }
    }
    println!("{} pages, {within} links within the repository, {without} to elsewhere (not fetched)", pages.len());
    assert!(within > 100, "only {within} links were found");
    assert!(faults.is_empty(), "dead links:\n{}", faults.join("\n"));
}

#[test]
fn a_dead_link_and_a_dead_anchor_are_found() {
    let page = Page { path: "docs/x.md".into(), text: "# Top\n".to_owned() };
    let anchors = BTreeMap::from([(page.path.clone(), page.anchors()), ("README.md".into(), vec!["enid".to_owned()])]);
    let fault = |target: &str| fault(&page, target, &anchors);
    assert_eq!(fault("../README.md"), None);
    assert_eq!(fault("../README.md#enid"), None);
    assert!(fault("#top").is_some(), "the page itself is not on disk");
    assert_eq!(fault("../README.md#gone").unwrap(), "no heading #gone in README.md");
    assert_eq!(fault("gone.md").unwrap(), "no such file");
    assert_eq!(fault("../../x").unwrap(), "leads out of the repository");
    assert_eq!(fault("../Makefile#x").unwrap(), "an anchor of what is no page");
}

#[test]
fn the_index_names_every_page() {
    let pages = pages();
    let index = pages.iter().find(|page| page.path == Path::new("docs/README.md")).expect("docs/README.md");
    let named: Vec<PathBuf> = index
        .links()
        .into_iter()
        .filter_map(|(_, target)| joined(Path::new("docs"), target.split('#').next().unwrap()))
        .collect();
    let missing: Vec<_> = pages
        .iter()
        .map(|page| &page.path)
        .filter(|path| path.starts_with("docs") && *path != Path::new("docs/README.md") && !named.contains(path))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}
