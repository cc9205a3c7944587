//! Columns that align, as wide as the terminal or, in a pipe, as what is in them.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// Rows that are shown of a model; the rest is counted.
const MOST_ROWS: usize = 500;
/// A terminal that says less is taken for as wide: words would become columns of letters.
const NARROWEST: u16 = 40;
/// Spaces before each line, and between columns.
const GAP: u16 = 2;

/// Rows of cells. Texts of model files have to be made [printable](crate::printable) before.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns of numbers.
    right: Vec<usize>,
    /// Spaces before each line.
    indent: u16,
    /// Rows that are kept at most.
    most: usize,
    /// Rows that were not kept.
    more: usize,
}

impl Table {
    /// Without rows; without a header if there are no titles.
    pub fn new(header: &[&'static str]) -> Self {
        Table {
            header: header.to_vec(),
            rows: Vec::new(),
            right: Vec::new(),
            indent: GAP,
            most: MOST_ROWS,
            more: 0,
        }
    }

    /// A table that stands alone, with all of its rows: a list.
    pub fn list() -> Self {
        Table { indent: 0, most: usize::MAX, ..Self::new(&[]) }
    }

    /// Aligns columns to the right, as numbers are.
    pub fn right(mut self, columns: &[usize]) -> Self {
        self.right.extend(columns);
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        if self.rows.len() < self.most {
            self.rows.push(cells.into_iter().collect());
        } else {
            self.more += 1;
        }
    }

    /// A blank line, the title and the table; nothing without rows.
    pub fn titled(&self, title: &str, width: Option<usize>) -> String {
        match self.rows.is_empty() {
            true => String::new(),
            false => format!("\n{title}\n{}", self.text(width)),
        }
    }

    /// The table in lines that are not longer than `width`, each with its end. Without a width nothing
    /// is wrapped.
    pub fn text(&self, width: Option<usize>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX).max(NARROWEST));
        }
        if !self.header.is_empty() {
            table.set_header(&self.header);
        }
        table.add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { self.indent } else { GAP }, 0));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.trim_fmt().lines() {
            text.push_str(line);
            text.push('\n');
        }
        if self.more > 0 {
            text.push_str(&format!("  … and {} more; --json lists all\n", self.more));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["size", "what"]).right(&[0]);
        table.row(["1 KiB".to_owned(), "one".to_owned()]);
        table.row(["100 MiB".to_owned(), format!("{} end", "many words ".repeat(20).trim_end())]);
        table
    }

    #[test]
    fn columns_align_and_nothing_is_cut_in_a_pipe() {
        let text = table().text(None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "     size  what");
        assert_eq!(lines[1], "    1 KiB  one");
        assert!(
            lines[2].starts_with("  100 MiB  many words") && lines[2].ends_with(" end"),
            "{text}"
        );
        assert_eq!(lines.len(), 3);
        assert_eq!(Table::new(&[]).text(None), "");
        let mut list = Table::list();
        list.row(["a".to_owned(), "b".to_owned()]);
        list.row(["long".to_owned(), "c".to_owned()]);
        assert_eq!(list.text(None), "a     b\nlong  c\n");
    }

    #[test]
    fn a_terminal_gets_lines_of_its_width() {
        let text = table().text(Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.trim_end().ends_with("end"), "{text}");
    }

    #[test]
    fn very_many_rows_are_counted() {
        let mut table = Table::new(&[]);
        (0..1_000_000).for_each(|row| table.row([row.to_string()]));
        let text = table.text(None);
        assert_eq!(text.lines().count(), 501);
        assert!(text.ends_with("… and 999500 more; --json lists all\n"), "{text}");
    }
}
