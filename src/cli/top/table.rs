//! A table as text: columns as wide as their widest cell, cut at the width of the terminal.

use crate::console::terminal;
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Maximum width of a column of text, in columns of the terminal. Names may have 255 bytes.
const WIDEST: usize = 48;

/// A cell: text, or a number, which stands to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Number(String),
}

impl Cell {
    fn text(&self) -> Cow<'_, str> {
        let (Self::Text(text) | Self::Number(text)) = self;
        terminal::line(text)
    }
}

/// Returns the lines of a table: the head first. `width` is that of the terminal.
pub(super) fn lines(head: &[&str], rows: &[Vec<Cell>], width: Option<usize>) -> Vec<String> {
    let mut widths: Vec<_> = head.iter().map(|name| name.width()).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = (*width).max(cell.text().width()).min(WIDEST);
        }
    }
    let is_number = |column: usize| {
        rows.first()
            .and_then(|row| row.get(column))
            .is_some_and(|cell| matches!(cell, Cell::Number(_)))
    };
    let head =
        head.iter().enumerate().map(|(column, name)| (Cow::Borrowed(*name), is_number(column)));
    let mut lines = vec![line(head, &widths, width)];
    for row in rows {
        let cells = row.iter().map(|cell| (cell.text(), matches!(cell, Cell::Number(_))));
        lines.push(line(cells, &widths, width));
    }
    lines
}

fn line<'a>(
    cells: impl Iterator<Item = (Cow<'a, str>, bool)>,
    widths: &[usize],
    width: Option<usize>,
) -> String {
    let mut line = String::new();
    for ((text, right), width) in cells.zip(widths) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let text = cut(&text, *width);
        let space = " ".repeat(width.saturating_sub(text.width()));
        let (left, right) = if right { (&*space, text) } else { (text, &*space) };
        line.push_str(left);
        line.push_str(right);
    }
    width.map_or(&*line, |width| cut(&line, width)).trim_end().to_owned()
}

// The begin of a text that fits.
fn cut(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > width
    });
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, number: u32) -> Vec<Cell> {
        vec![Cell::Text(name.into()), Cell::Number(number.to_string())]
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row("a", 12_345), row("日本", 7)];
        assert_eq!(
            lines(&["topic", "n"], &rows, None),
            ["topic      n", "a      12345", "日本       7"]
        );
        assert_eq!(lines(&["topic", "n"], &rows, Some(3)), ["top", "a", "日"]);
        assert_eq!(lines(&["topic", "n"], &[], None), ["topic  n"]);
    }

    #[test]
    fn a_long_name_is_cut_and_control_characters_are_not_obeyed() {
        let lines = lines(&["topic", "n"], &[row(&"x".repeat(300), 1), row("\x1b[2J", 1)], None);
        assert_eq!(lines[1].len(), WIDEST + 3);
        assert!(lines[2].starts_with("·[2J"), "{}", lines[2]);
    }
}
