// SPDX-License-Identifier: Apache-2.0
//! Aligned tables that fit the screen.
//!
//! Too wide for it, a table first cuts its texts (columns of prose) down to [`SHORTEST`] letters, then leaves out columns, those of the
//! highest rank first, and says which. A column of rank 0 stays; what then is too long still is cut at the edge. Where the screen has no
//! width nothing is left out.

use super::terminal::{Screen, Style, cut};

/// A text is not cut below this.
const SHORTEST: usize = 24;
/// Blanks before each line.
const INDENT: usize = 2;
/// Blanks between columns.
const GAP: usize = 2;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    head: &'static str,
    rank: u8,
    is_text: bool,
    is_number: bool,
}

/// A column that stays.
pub(super) const fn column(head: &'static str) -> Column {
    Column { head, rank: 0, is_text: false, is_number: false }
}

impl Column {
    /// One that goes when there is no room; the highest rank goes first.
    pub(super) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// One of prose, that can be cut.
    pub(super) const fn text(self) -> Self {
        Self { is_text: true, ..self }
    }

    /// One of numbers, aligned to the right.
    pub(super) const fn number(self) -> Self {
        Self { is_number: true, ..self }
    }
}

/// Lines of `rows` under their heads; empty without rows. A row has a cell for each column.
pub(super) fn table(screen: &Screen, title: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let is_shown = |at: usize| rows.iter().any(|row| row.get(at).is_some_and(|cell| !cell.is_empty()));
    let mut shown: Vec<usize> = (0..columns.len()).filter(|at| is_shown(*at)).collect();
    let mut widths: Vec<usize> = (0..columns.len()).map(|at| width_of(columns[at].head, rows, at)).collect();
    let left_out = screen.width.map(|width| fit(columns, &mut shown, (&mut widths, width))).unwrap_or_default();
    let mut text = if title.is_empty() { String::new() } else { screen.heading(title) };
    let head: Vec<String> = columns.iter().map(|column| column.head.to_owned()).collect();
    let line = |row: &Vec<String>| line(screen, columns, (&shown, &widths), row);
    text.push_str(&format!("{}\n", screen.paint(Style::Faint, &line(&head))));
    rows.iter().for_each(|row| text.push_str(&format!("{}\n", line(row))));
    if !left_out.is_empty() {
        let note = format!("  (no room for: {}; -o json has all)", left_out.join(", "));
        text.push_str(&screen.wrapped(&note, INDENT));
    }
    text
}

fn width_of(head: &str, rows: &[Vec<String>], at: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
    cells.chain(std::iter::once(head.chars().count())).max().unwrap_or(0)
}

/// Makes the columns fit; the heads of those that are left out.
fn fit(columns: &[Column], shown: &mut Vec<usize>, (widths, width): (&mut Vec<usize>, usize)) -> Vec<&'static str> {
    let natural = widths.clone();
    let total = |shown: &[usize], widths: &[usize]| {
        INDENT + shown.iter().map(|at| widths[*at]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    let mut left_out = Vec::new();
    loop {
        let over = total(shown, widths).saturating_sub(width);
        if over == 0 {
            break;
        }
        let longest_text = shown.iter().copied().filter(|at| columns[*at].is_text && widths[*at] > SHORTEST);
        if let Some(at) = longest_text.max_by_key(|at| widths[*at]) {
            widths[at] = widths[at].saturating_sub(over).max(SHORTEST);
            continue;
        }
        let least = shown.iter().copied().filter(|at| columns[*at].rank > 0).max_by_key(|at| (columns[*at].rank, *at));
        let Some(least) = least else { break };
        shown.retain(|at| *at != least);
        left_out.push(columns[least].head);
    }
    // What a column that was left out has made room for.
    for at in shown.iter().copied() {
        let room = width.saturating_sub(total(shown, widths));
        widths[at] = (widths[at] + room).min(natural[at]);
    }
    left_out
}

fn line(screen: &Screen, columns: &[Column], (shown, widths): (&[usize], &[usize]), row: &[String]) -> String {
    let cell = |at: &usize| {
        let (text, width) = (row.get(*at).map(String::as_str).unwrap_or_default(), widths[*at]);
        let text = cut(text, width, screen.has_unicode);
        if columns[*at].is_number { format!("{text:>width$}") } else { format!("{text:width$}") }
    };
    let line = format!("{}{}", " ".repeat(INDENT), shown.iter().map(cell).collect::<Vec<_>>().join("  "));
    let line = line.trim_end();
    screen.width.map_or_else(|| line.to_owned(), |width| cut(line, width, screen.has_unicode))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [column("id"), column("used").number().rank(1), column("key").rank(9), column("why").text().rank(2)];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row([
                "eni-0123456789abcdef0",
                "3",
                "aws-cni/0123456789abcdef/eth0",
                "the subnet has no address left for it now",
            ]),
            row(["eni-1", "10", "aws-cni/a/eth0", ""]),
        ]
    }

    #[test]
    fn without_a_width_columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["eni-1".to_owned(), "3".to_owned()], vec!["e".to_owned(), "10".to_owned()]];
        let two = [column("id"), column("device").number()];
        let text = table(&Screen::default(), "ENIs", &two, &rows);
        assert_eq!(text, "ENIs\n  id     device\n  eni-1       3\n  e          10\n");
        assert_eq!(table(&Screen::default(), "ENIs", &two, &[]), "");
    }

    #[test]
    fn where_there_is_no_room_texts_are_cut_then_the_least_important_columns_go_and_are_named() {
        for width in 40..130 {
            let screen = Screen { width: Some(width), ..Screen::default() };
            let text = table(&screen, "ENIs", &COLUMNS, &rows());
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("eni-0123456789abcdef0"), "{width}:\n{text}");
        }
        let at = |width| table(&Screen { width: Some(width), ..Screen::default() }, "", &COLUMNS, &rows());
        assert!(at(80).contains("no room for: key;") && at(80).contains("the subnet"), "{}", at(80));
        assert!(at(60).contains("the subnet has no address le~"), "{}", at(60));
        assert!(at(50).contains("no room for: key, why;") && at(50).contains(" 10"), "{}", at(50));
        assert!(at(130).contains("left for it now") && !at(130).contains("no room"), "{}", at(130));
    }

    #[test]
    fn a_column_without_a_cell_is_not_shown() {
        let rows = [vec!["eni-1".to_owned(), String::new()]];
        assert_eq!(table(&Screen::default(), "", &[column("id"), column("why")], &rows), "  id\n  eni-1\n");
    }
}
