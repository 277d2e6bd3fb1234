// SPDX-License-Identifier: Apache-2.0
//! As much of Markdown as the pages use: fenced blocks, code spans, links, headings and their anchors as GitHub makes them.
//!
//! Source: GitHub Flavored Markdown, sections 4.5 and 6.1; anchors as `github-slugger` makes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A page.
pub(crate) struct Page {
    /// Its path from the repository's root.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    /// What it is marked as; empty: nothing.
    pub(crate) language: String,
    /// What is in it.
    pub(crate) text: String,
    /// The line that its first one is, from 1.
    pub(crate) line: usize,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every page of the repository, sorted by path: build folders and hidden ones left out.
pub(crate) fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    collect(&root(), &mut pages);
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(pages.len() > 15, "only {} pages were found", pages.len());
    pages
}

fn collect(folder: &Path, pages: &mut Vec<Page>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_built = name.starts_with('.') || path.join("CACHEDIR.TAG").exists();
        if path.is_dir() && !path.is_symlink() && !is_built {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            pages.push(Page { path: path.strip_prefix(root()).unwrap().to_path_buf(), text });
        }
    }
}

/// Those that operators read: README, docs, and those beside what is deployed.
pub(crate) fn operators_pages() -> Vec<Page> {
    let is_theirs = |page: &Page| {
        page.path.starts_with("docs") || page.path.starts_with("deploy") || page.path == Path::new("README.md")
    };
    pages().into_iter().filter(is_theirs).collect()
}

impl Page {
    /// The fenced blocks, in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(language)) => {
                    open = Some(Block { language: language.trim().to_owned(), text: String::new(), line: number + 2 });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path.display());
        blocks
    }

    /// The text with fenced blocks blanked, line for line.
    fn prose(&self) -> String {
        let mut is_open = false;
        let blank = |line: &str| {
            let is_fence = line.trim_start().starts_with("```");
            let is_hidden = is_open || is_fence;
            is_open ^= is_fence;
            if is_hidden { String::new() } else { line.to_owned() }
        };
        self.text.lines().map(blank).collect::<Vec<_>>().join("\n")
    }

    /// The text without blocks, comments and what code spans hold, and those spans, each with its line.
    pub(crate) fn split(&self) -> (String, Vec<(usize, String)>) {
        let prose = self.prose();
        let mut rest = prose.as_str();
        let (mut text, mut spans) = (String::new(), Vec::new());
        while let Some(at) = rest.find('`') {
            let (before, tail) = rest.split_at(at);
            text.push_str(before);
            let ticks = tail.len() - tail.trim_start_matches('`').len();
            let (fence, tail) = tail.split_at(ticks);
            let paragraph = tail.find("\n\n").unwrap_or(tail.len());
            match tail[..paragraph].find(fence) {
                Some(end) => {
                    let line = text.matches('\n').count() + 1;
                    spans.push((line, tail[..end].split_whitespace().collect::<Vec<_>>().join(" ")));
                    // As many lines as there were, so that lines can still be counted.
                    text.push('\u{fffc}');
                    text.push_str(&"\n".repeat(tail[..end].matches('\n').count()));
                    rest = &tail[end + ticks..];
                }
                None => {
                    text.push_str(fence);
                    rest = tail;
                }
            }
        }
        text.push_str(rest);
        (text, spans)
    }

    /// Code spans, each with its line.
    pub(crate) fn spans(&self) -> Vec<(usize, String)> {
        self.split().1
    }

    /// Where its links lead, each with its line.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let (text, _) = self.split();
        let mut links = Vec::new();
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..];
            let Some(end) = target.find([')', '\n']) else { continue };
            if target[end..].starts_with(')') {
                links.push((text[..at].matches('\n').count() + 1, target[..end].trim().to_owned()));
            }
        }
        links
    }

    /// The anchors that its headings give.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = prose.lines().filter_map(|line| {
            let title = line.trim_start_matches('#');
            let depth = line.len() - title.len();
            ((1..=6).contains(&depth) && title.starts_with(' ')).then(|| slug(title.trim()))
        });
        headings
            .map(|slug| {
                let times = seen.entry(slug.clone()).or_default();
                *times += 1;
                if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
            })
            .collect()
    }
}

/// A heading's anchor: what a link in it shows, small letters, without punctuation.
fn slug(title: &str) -> String {
    let mut shown = String::new();
    let mut rest = title;
    while let Some((before, after)) = rest.split_once("](") {
        shown.push_str(&before.replacen('[', "", 1));
        rest = after.split_once(')').map_or("", |(_, tail)| tail);
    }
    shown.push_str(rest);
    let kept = shown.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.flat_map(|letter| if letter == ' ' { '-' } else { letter }.to_lowercase()).collect()
}

#[cfg(test)]
fn page(text: &str) -> Page {
    Page { path: "x.md".into(), text: text.to_owned() }
}

#[test]
fn anchors_are_as_github_makes_them() {
    let page = page("# A (b), `c_D`\n\n## [x-y](z.md#q) w\n## A\n## A\n```\n# no\n```\n#none\n");
    assert_eq!(page.anchors(), ["a-b-c_d", "x-y-w", "a", "a-1"]);
}

#[test]
fn links_are_found_over_line_ends_and_not_in_code() {
    let page = page("[a\nb](c.md) `[x](y)` ``[x]`(y)`` [`z`](q.md#r)\n```\n[n](m)\n```\n![i](p.svg)\n");
    let expected = [(2, "c.md"), (2, "q.md#r"), (6, "p.svg")];
    assert_eq!(page.links(), expected.map(|(line, target)| (line, target.to_owned())));
    assert_eq!(page.spans().into_iter().map(|(_, span)| span).collect::<Vec<_>>(), ["[x](y)", "[x]`(y)", "z"]);
}
