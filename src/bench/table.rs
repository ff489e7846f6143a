//! Tables on standard output: for people at a terminal, as Markdown everywhere else.

use comfy_table::{CellAlignment, Table, presets};
use std::io::{self, IsTerminal as _, Write as _};

/// A table whose first columns are names, and all others are numbers.
pub(super) fn new(names: usize, header: &[&str]) -> Table {
    let mut table = Table::new();
    let terminal = io::stdout().is_terminal();
    table.load_style(if terminal { presets::UTF8_BORDERS_ONLY } else { presets::ASCII_MARKDOWN });
    table.set_header(header);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints it below a title.
pub(super) fn print(title: &str, table: &Table) -> io::Result<()> {
    writeln!(io::stdout(), "{title}\n\n{table}\n")
}

/// A number with so many digits after the point; a dash if there is none.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}
