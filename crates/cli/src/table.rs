//! Aligned columns.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::output::{Paint, visible};

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// A text at the left.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: visible(text.as_ref()), style: Style::new(), right: false }
    }

    /// The same at the right, as numbers stand.
    pub(crate) fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// The same in a style.
    pub(crate) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// The rows with their columns aligned, two spaces apart.
pub(crate) fn table(rows: &[Vec<Cell>], paint: Paint) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |cell: &Cell| cell.text.width();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(width).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut gap = 0;
        for (cell, column) in row.iter().zip(&widths) {
            let padding = column - width(cell);
            // What is empty ends no line with spaces.
            if cell.text.is_empty() {
                gap += column + 2;
                continue;
            }
            let before = if cell.right { gap + padding } else { gap };
            text += &" ".repeat(before);
            text += &paint.paint(cell.style, &cell.text);
            gap = if cell.right { 2 } else { padding + 2 };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::GOOD;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let rows = [
            vec![Cell::new(""), Cell::new("NAME"), Cell::new("SIZE").right(), Cell::new("NOTE")],
            vec![Cell::new("●"), Cell::new("通义"), Cell::new("7").right(), Cell::new("")],
            vec![Cell::new(""), Cell::new("abcde"), Cell::new("10 GB").right(), Cell::new("x")],
        ];
        let expected = concat!("   NAME    SIZE  NOTE\n", "●  通义       7\n", "   abcde  10 GB  x\n");
        assert_eq!(table(&rows, Paint(false)), expected);
    }

    #[test]
    fn a_style_takes_no_room() {
        let rows = [vec![Cell::new("a").style(GOOD), Cell::new("b")], vec![Cell::new("aa"), Cell::new("b")]];
        assert_eq!(table(&rows, Paint(true)), "\u{1b}[32ma\u{1b}[0m   b\naa  b\n");
    }
}
