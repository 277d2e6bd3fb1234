// SPDX-License-Identifier: Apache-2.0
//! Aligned tables for a terminal.

/// Lines of `rows` under `head`, columns two blanks apart, indented by two; empty without rows.
pub(super) fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let mut widths = vec![0; head.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!("{title}\n");
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str("  ");
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["eni-1".to_owned(), "3".to_owned()], vec!["e".to_owned(), "10".to_owned()]];
        assert_eq!(table("ENIs", &["id", "device"], &rows), "ENIs\n  id     device\n  eni-1  3\n  e      10\n");
        assert_eq!(table("ENIs", &["id"], &[]), "");
    }
}
